//! Whether a component is as new as what it was made from.
//!
//! Cargo leaves a list of sources beside each module (`NAME.d`, in the syntax of make). It is kept beside the component as `NAME.wasm.d`,
//! with the manifest and the lock file added.
//!
//! A component has the time at which its build began, not that of its end: what is edited while the compiler runs may not be in it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result};

const LOCK: &str = "Cargo.lock";

fn list_path(output: &Path) -> PathBuf {
    output.with_added_extension("d")
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).ok()?.modified().ok()
}

/// From when on what a component is made of was read, if cargo was started at `started`: not before cargo has written the lock file, where it did.
pub fn begun(manifest: &Path, started: SystemTime) -> SystemTime {
    modified(&manifest.with_file_name(LOCK)).map_or(started, |locked| locked.max(started))
}

/// Keeps the list of what a component was made from, one file a line.
///
/// # Errors
/// If the list cannot be written.
pub fn remember(module: &Path, manifest: &Path, output: &Path) -> Result<()> {
    let listed = std::fs::read_to_string(module.with_extension("d")).unwrap_or_default();
    let mut files = sources(&listed);
    // What build scripts have made is newer than the beginning of the build, and made of what is on the list, too.
    files.retain(|file| module.parent().is_none_or(|made| !file.starts_with(made)));
    files.push(manifest.to_owned());
    files.extend(Some(manifest.with_file_name(LOCK)).filter(|lock| lock.is_file()));
    let lines: Vec<_> = files.iter().map(|file| file.to_string_lossy()).collect();
    let list = list_path(output);
    std::fs::write(&list, lines.join("\n")).with_context(|| format!("cannot write {}", list.display()))
}

/// Whether nothing on the list is newer than the component. Without a list it is not fresh.
pub fn is_fresh(output: &Path) -> bool {
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
    use std::time::Duration;

    use super::super::component::put;
    use super::*;

    /// Names with spaces stay whole.
    #[test]
    fn rules_are_read() {
        let rule = "/t/a.wasm: /s/lib.rs /s/a\\ b.rs\n\n/s/lib.rs:\n";
        assert_eq!(sources(rule), [PathBuf::from("/s/lib.rs"), PathBuf::from("/s/a b.rs")]);
        assert!(sources("").is_empty());
    }

    /// A folder with a manifest and a source, whose component was built from `BEGUN` on.
    struct Guest(tempfile::TempDir);

    const BEGUN: u64 = 1_000_000;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    impl Guest {
        fn new() -> Self {
            let guest = Self(tempfile::tempdir().expect("a temporary folder"));
            for name in ["Cargo.toml", "lib.rs"] {
                guest.edit(name, BEGUN - 10);
            }
            guest
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn edit(&self, name: &str, seconds: u64) {
            put(&self.path(name), b"", at(seconds)).expect("the folder is ours");
        }

        /// Ends a build of what the compiler says to have read.
        fn build(&self, rule: &str) -> PathBuf {
            let (module, manifest, output) = (self.path("made/a.wasm"), self.path("Cargo.toml"), self.path("a.wasm"));
            std::fs::create_dir_all(self.path("made/build")).expect("the folder is ours");
            std::fs::write(module.with_extension("d"), rule).expect("the folder is ours");
            put(&output, b"component", begun(&manifest, at(BEGUN))).expect("the folder is ours");
            remember(&module, &manifest, &output).expect("the folder is ours");
            output
        }
    }

    /// Goal: what was edited since the build began is not in the component, however long the build took; what was edited before is.
    #[test]
    fn edits_while_it_builds_are_not_fresh() {
        let guest = Guest::new();
        let rule = format!("a.wasm: {}", guest.path("lib.rs").display());
        assert!(is_fresh(&guest.build(&rule)));
        guest.edit("lib.rs", BEGUN + 1);
        assert!(!is_fresh(&guest.build(&rule)));
    }

    /// Goal: what the build itself writes makes no component old: the lock file, and what build scripts make.
    #[test]
    fn what_a_build_writes_is_not_newer() {
        let guest = Guest::new();
        guest.edit("Cargo.lock", BEGUN + 1);
        let output =
            guest.build(&format!("a.wasm: {} {}", guest.path("lib.rs").display(), guest.path("made/build/x.rs").display()));
        guest.edit("made/build/x.rs", BEGUN + 2);
        assert!(is_fresh(&output));
        guest.edit("Cargo.lock", BEGUN + 2);
        assert!(!is_fresh(&output));
    }

    /// Goal: a component appears whole, under its name alone, in the place of an older one.
    #[test]
    fn components_appear_whole() {
        let guest = Guest::new();
        let output = guest.build("a.wasm:");
        guest.build("a.wasm:");
        assert_eq!(std::fs::read(&output).expect("it is there"), b"component");
        let mut names: Vec<_> =
            std::fs::read_dir(guest.0.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
        names.sort();
        assert_eq!(names, ["Cargo.toml", "a.wasm", "a.wasm.d", "lib.rs", "made"]);
    }
}
