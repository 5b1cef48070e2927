//! Whether a component is as new as what it was made from.
//!
//! Cargo leaves a list of sources beside each module (`NAME.d`, in the syntax of make). It is kept beside the component as `NAME.wasm.d`,
//! with the manifest and the lock file added.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

fn list_path(output: &Path) -> PathBuf {
    output.with_added_extension("d")
}

/// Keeps the list of what a component was made from, one file a line.
///
/// # Errors
/// If the list cannot be written.
pub fn remember(module: &Path, manifest: &Path, output: &Path) -> Result<()> {
    let listed = std::fs::read_to_string(module.with_extension("d")).unwrap_or_default();
    let mut files = sources(&listed);
    files.push(manifest.to_owned());
    files.extend(Some(manifest.with_file_name("Cargo.lock")).filter(|lock| lock.is_file()));
    let lines: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
    let list = list_path(output);
    std::fs::write(&list, lines.join("\n")).with_context(|| format!("cannot write {}", list.display()))
}

/// Whether nothing on the list is newer than the component. Without a list it is not fresh.
pub fn is_fresh(output: &Path) -> bool {
    let modified = |path: &Path| -> Option<SystemTime> { std::fs::metadata(path).ok()?.modified().ok() };
    let (Some(built), Ok(list)) = (modified(output), std::fs::read_to_string(list_path(output))) else { return false };
    list.lines().all(|file| modified(Path::new(file)).is_some_and(|changed| changed <= built))
}

/// The prerequisites of a make rule. Spaces in names are escaped by a backslash.
fn sources(rule: &str) -> Vec<PathBuf> {
    let Some((_, list)) = rule.lines().next().and_then(|line| line.split_once(": ")) else { return vec![] };
    let mut files = vec![String::new()];
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek() == Some(&' ') => files.last_mut().expect("never empty").extend(chars.next()),
            ' ' => files.push(String::new()),
            c => files.last_mut().expect("never empty").push(c),
        }
    }
    files.into_iter().filter(|file| !file.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with spaces stay whole.
    #[test]
    fn rules_are_read() {
        let rule = "/t/a.wasm: /s/lib.rs /s/a\\ b.rs\n\n/s/lib.rs:\n";
        assert_eq!(sources(rule), [PathBuf::from("/s/lib.rs"), PathBuf::from("/s/a b.rs")]);
        assert!(sources("").is_empty());
    }
}
