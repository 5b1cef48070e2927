//! The files that a job may touch: the one place where paths of a job's options meet the disk.
//!
//! The jobs of `weir run` are the user's own, so that their files are *free*: paths start from the job spec's folder and lead wherever they
//! say. Whoever sends a job to a server must not thereby read or write the server's disk: the files of such a job are *confined* to one
//! folder. Nothing outside is opened, made or listed, whether the way out is an absolute path, a `..`, a pattern that matches one, or a link.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;

use crate::Error;

/// The files that a job may touch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    /// the folder that relative paths start from, as messages write it
    folder: PathBuf,
    /// the same, absolute
    root: PathBuf,
    /// the folder that paths cannot leave; none where they may
    confined: Option<Arc<Dir>>,
}

/// What can be at a path.
enum Kind {
    File,
    Folder,
    Other,
}

impl Files {
    /// Paths start from `folder`, and lead anywhere.
    pub fn free(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        // Only an empty path cannot be made absolute; it is the current folder.
        let root = std::path::absolute(&folder).unwrap_or_else(|_| PathBuf::from("."));
        Self { folder, root, confined: None }
    }

    /// Paths start from `folder`, and do not leave it. The folder is made if it is not there.
    ///
    /// # Errors
    /// If it cannot be made or opened.
    pub fn confined(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder)?;
        let root = folder.canonicalize()?;
        let dir = Dir::open_ambient_dir(&root, ambient_authority())?;
        Ok(Self { folder, root, confined: Some(Arc::new(dir)) })
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        match &self.confined {
            None => File::open(self.root.join(path)),
            Some(dir) => Ok(dir.open(path)?.into_std()),
        }
    }

    /// Creates a file, and the folders above it; what was in it is gone.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        match &self.confined {
            None => {
                let path = self.root.join(path);
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                File::create(path)
            }
            Some(dir) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                folder.map_or(Ok(()), |folder| dir.create_dir_all(folder))?;
                Ok(dir.create(path)?.into_std())
            }
        }
    }

    /// The files that a path or a pattern names, in order.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<PathBuf>, Error> {
        let whole = Path::new(path);
        let is_pattern = path.contains(['*', '?', '[']);
        match self.kind(whole) {
            Ok(Kind::File) => return Ok(vec![whole.to_owned()]),
            // A pipe, perhaps.
            Ok(Kind::Other) if !is_pattern => return Ok(vec![whole.to_owned()]),
            Ok(Kind::Folder) if !is_pattern => {
                return Err(Error::options(format!(
                    "{0} is a folder; for its files, write a pattern like {0}/*.jsonl",
                    self.shown(whole)
                )));
            }
            Err(e) if !is_pattern => return Err(Error::io(format!("the file {} cannot be read", self.shown(whole)), e)),
            Ok(_) | Err(_) => {}
        }
        let pattern = Path::new(&glob::Pattern::escape(&self.root.to_string_lossy())).join(path);
        let matches = glob::glob(&pattern.to_string_lossy())
            .map_err(|e| Error::options(format!("the path {path} is not a pattern: {e}")))?;
        let mut paths = Vec::new();
        for found in matches {
            let found = match found {
                Ok(found) => found,
                // What a pattern meets outside is nobody's business.
                Err(_) if self.confined.is_some() => continue,
                Err(e) => return Err(Error::io(format!("the files of {path} cannot be listed"), io::Error::from(e))),
            };
            let found = found.strip_prefix(&self.root).map(Path::to_owned).unwrap_or(found);
            // A match that cannot be opened from within a confined folder is outside: as if it were not there.
            if matches!(self.kind(&found), Ok(Kind::File)) {
                paths.push(found);
            }
        }
        paths.sort();
        if paths.is_empty() {
            return Err(Error::options(format!("no file matches {}", self.shown(whole))));
        }
        Ok(paths)
    }

    /// What there is at this path.
    fn kind(&self, path: &Path) -> io::Result<Kind> {
        let (is_file, is_dir) = match &self.confined {
            None => std::fs::metadata(self.root.join(path)).map(|m| (m.is_file(), m.is_dir()))?,
            Some(dir) => dir.metadata(path).map(|m| (m.is_file(), m.is_dir()))?,
        };
        Ok(match (is_file, is_dir) {
            (true, _) => Kind::File,
            (_, true) => Kind::Folder,
            _ => Kind::Other,
        })
    }

    /// A path as messages write it: where files are free, from the working directory on; else as the job wrote it, since the server's own
    /// folders are not the job's business.
    pub(crate) fn shown(&self, path: &Path) -> impl Display {
        if self.confined.is_some() { path.display().to_string() } else { self.folder.join(path).display().to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder `inside` with a file and a folder, beside a secret; links lead from it to the secret, to its folder and to nothing.
    fn prison() -> (tempfile::TempDir, Files) {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("inside");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::write(inside.join("sub/a.csv"), "mine").unwrap();
        std::fs::write(outside.path().join("secret.csv"), "secret").unwrap();
        symlink("../secret.csv", inside.join("link.csv")).unwrap();
        symlink(outside.path(), inside.join("way-out")).unwrap();
        symlink("../new.csv", inside.join("dangling.csv")).unwrap();
        symlink("sub/a.csv", inside.join("good-link.csv")).unwrap();
        let files = Files::confined(&inside).unwrap();
        (outside, files)
    }

    #[test]
    fn confined_files_are_read_inside_only() {
        // Goal: what is inside is read, by its name or a link; every way out is closed, also if it goes out and comes back.
        let (outside, files) = prison();
        for good in ["sub/a.csv", "./sub/a.csv", "sub/../sub/a.csv", "good-link.csv"] {
            let mut text = String::new();
            files.open(Path::new(good)).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "mine", "{good}");
            assert_eq!(files.list(good).unwrap(), [Path::new(good)]);
        }
        let absolute = outside.path().join("secret.csv");
        let absolute_inside = outside.path().join("inside/sub/a.csv");
        for bad in [
            "../secret.csv",
            "sub/../../secret.csv",
            "link.csv",
            "way-out/secret.csv",
            "../inside/sub/a.csv",
            absolute.to_str().unwrap(),
            absolute_inside.to_str().unwrap(),
        ] {
            assert!(files.open(Path::new(bad)).is_err(), "{bad}");
            assert!(files.list(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn confined_patterns_match_inside_only() {
        // Goal: a pattern that matches `..`, goes through a link or is absolute finds nothing outside.
        let (outside, files) = prison();
        assert_eq!(files.list("*/*.csv").unwrap(), [Path::new("sub/a.csv")]);
        assert_eq!(files.list("*.csv").unwrap(), [Path::new("good-link.csv")]);
        for bad in [".?/*.csv", "../*.csv", "way-out/*.csv", "sub/.?/.?/secret.*", &format!("{}/*.csv", outside.path().display())]
        {
            let error = files.list(bad).unwrap_err();
            assert!(error.message.contains("no file matches"), "{bad}: {error}");
        }
    }

    #[test]
    fn confined_files_are_made_inside_only() {
        // Goal: files and folders are made inside; outside there is nothing new, and nothing is changed.
        let (outside, files) = prison();
        files.create(Path::new("new/folder/b.csv")).unwrap();
        assert!(outside.path().join("inside/new/folder/b.csv").is_file());
        let absolute = outside.path().join("new.csv");
        for bad in
            ["../new.csv", "link.csv", "dangling.csv", "way-out/new.csv", "way-out/new/new.csv", absolute.to_str().unwrap()]
        {
            assert!(files.create(Path::new(bad)).is_err(), "{bad}");
        }
        let mut names: Vec<_> = std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["inside", "secret.csv"]);
        assert_eq!(std::fs::read_to_string(outside.path().join("secret.csv")).unwrap(), "secret");
    }

    #[test]
    fn free_files_are_anywhere() {
        // Goal: paths lead out of the folder, and a pattern's matches can be opened.
        let (outside, _) = prison();
        let files = Files::free(outside.path().join("inside/sub"));
        for pattern in ["../../*.csv", "../way-out/*.csv", &format!("{}/*.csv", outside.path().display())] {
            let found = files.list(pattern).unwrap();
            assert_eq!(found.len(), 1, "{pattern}: {found:?}");
            files.open(&found[0]).unwrap();
        }
        files.create(Path::new("../../made/c.csv")).unwrap();
        assert!(outside.path().join("made/c.csv").is_file());
    }
}
