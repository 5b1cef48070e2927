//! Where a storage is said to be: by its URL, or as a folder of this machine.

use std::path::{Path, PathBuf};

use url::Url;

use crate::error::Error;
use crate::storage::KINDS;

/// The URL of a storage: what is given if it is one, or that of a folder, relative to `base`.
///
/// A mistyped URL is not taken for a folder: a job that finds nothing there begins anew.
///
/// # Errors
/// If nothing is given, or it begins as a URL does and is none.
pub fn url(storage: &str, base: &Path) -> Result<String, Error> {
    if storage.trim().is_empty() {
        return Err(Error::invalid(format!("the storage is empty; name a folder, or {KINDS}")));
    }
    if storage.contains("://") {
        return Ok(storage.to_owned());
    }
    if has_scheme(storage) {
        let message =
            format!("the storage {storage:?} begins as a URL does and is none; {KINDS}, or ./{storage} if it is a folder");
        return Err(Error::invalid(message));
    }
    let path = base.join(storage);
    let path = std::path::absolute(&path).unwrap_or(path);
    let url = Url::from_directory_path(&path)
        .map_err(|()| Error::invalid(format!("the storage {} has no absolute path; {KINDS}", path.display())))?;
    Ok(url.into())
}

/// The folder of this machine that the URL of a storage names; none if it names something else.
pub fn directory(url: &str) -> Option<PathBuf> {
    let url = Url::parse(url).ok().filter(|url| url.scheme() == "file")?;
    // Without the slash at its end.
    Some(url.to_file_path().ok()?.components().collect())
}

/// Whether it begins as a URL does.
fn has_scheme(storage: &str) -> bool {
    let Some((scheme, _)) = storage.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// A folder has a URL, which names that folder; URLs are left as they are, and may name none.
    #[test]
    fn folders_have_urls() {
        let base = Path::new("/jobs");
        let cases = [
            ("checkpoints", "file:///jobs/checkpoints/", Some("/jobs/checkpoints")),
            ("./s3:/x", "file:///jobs/s3:/x/", Some("/jobs/s3:/x")),
            ("a/b:c d", "file:///jobs/a/b:c%20d/", Some("/jobs/a/b:c d")),
            ("2026-01-02T03:04", "file:///jobs/2026-01-02T03:04/", Some("/jobs/2026-01-02T03:04")),
            ("/elsewhere", "file:///elsewhere/", Some("/elsewhere")),
            ("file:///elsewhere", "file:///elsewhere", Some("/elsewhere")),
            ("FILE:///elsewhere/", "FILE:///elsewhere/", Some("/elsewhere")),
            ("file://host/elsewhere", "file://host/elsewhere", None),
            ("s3://bucket/prefix", "s3://bucket/prefix", None),
            ("memory://name", "memory://name", None),
        ];
        for (storage, expected, folder) in cases {
            let url = url(storage, base).unwrap_or_else(|e| panic!("{storage}: {e}"));
            assert_eq!((url.as_str(), directory(&url).as_deref()), (expected, folder.map(Path::new)), "{storage}");
        }
    }

    /// What is mistyped is no folder, and the message says what to write.
    #[test]
    fn mistyped_urls_are_no_folders() {
        for storage in ["s3:/bucket/prefix", "file:/tmp/x", "S3:bucket", "memory:x", "c:"] {
            let error = url(storage, Path::new("/jobs")).expect_err("it is none");
            assert_eq!(error.kind, ErrorKind::Invalid);
            assert!(error.message.contains("write file:///directory, s3://bucket/prefix or memory://name"), "{error}");
            assert!(error.message.ends_with(&format!("or ./{storage} if it is a folder")), "{error}");
        }
        for storage in ["", " "] {
            let error = url(storage, Path::new("/jobs")).expect_err("it is nothing");
            assert!(error.message.starts_with("the storage is empty; name a folder, or write file:///"), "{error}");
        }
    }
}
