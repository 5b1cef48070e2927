//! The files that a job may touch: the one place where paths of a job's options meet the disk.
//!
//! The jobs of `weir run` are the user's own, so that their files are *free*: paths start from the job spec's folder and lead wherever they
//! say. Whoever sends a job to a server must not thereby read or write the server's disk: the files of such a job are *confined* to one
//! folder. Nothing outside is opened, made or listed, whether the way out is an absolute path, a `..`, a pattern that matches one, or a link.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt as _};

use crate::Error;
use crate::tail::cut_last_line;

/// How patterns match: a star stands for no slash, and for no dot at the beginning of a name. So the hidden parts of a sink are not read before they are
/// committed.
const AS_IN_A_SHELL: glob::MatchOptions =
    glob::MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// Whether a name on the way to a match begins with a dot, and not so in the pattern, which has no `**`.
fn is_hidden(found: &Path, pattern: &Path) -> bool {
    have_dots(found).zip(have_dots(pattern)).any(|(is_hidden, is_named)| is_hidden && !is_named)
}

/// Of each name in a path, whether it begins with a dot.
fn have_dots(path: &Path) -> impl Iterator<Item = bool> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.as_encoded_bytes().starts_with(b".")),
        _ => None,
    })
}

/// Whether a path has what may stand for several files.
fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The files that a job may touch. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Files {
    /// the folder that relative paths start from, as messages write it
    folder: PathBuf,
    /// the same, absolute
    root: PathBuf,
    /// the folder that paths cannot leave; none where they may
    confined: Option<Arc<Dir>>,
    /// whether anything is touched at all
    at_hand: bool,
}

/// What can be at a path.
enum Kind {
    File,
    Folder,
    Other,
}

/// What tells a file or a folder from all others, whatever path leads to it, and whether it is there yet or not.
#[derive(Debug)]
pub(crate) struct Identity {
    /// absolute, and without links as far as it is there
    path: PathBuf,
    /// of what is there: its device, and its number on that, which all names of a file have in common
    inode: Option<(u64, u64)>,
}

impl Identity {
    /// Whether both are the same file or folder.
    pub fn is(&self, other: &Self) -> bool {
        self.path == other.path || self.inode.is_some() && self.inode == other.inode
    }
}

impl Files {
    /// Paths start from `folder`, and lead anywhere.
    pub fn free(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        // Only an empty path cannot be made absolute; it is the current folder.
        let root = std::path::absolute(&folder).unwrap_or_else(|_| PathBuf::from("."));
        Self { folder, root, confined: None, at_hand: true }
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
        Ok(Self { folder, root, confined: Some(Arc::new(dir)), at_hand: true })
    }

    /// The same files out of reach: whatever is tried with one of them fails, and nothing on the disk is touched.
    #[must_use]
    pub fn out_of_reach(&self) -> Self {
        Self { at_hand: false, ..self.clone() }
    }

    /// The folder that paths cannot leave, if there is one: where whatever touches the disk begins.
    fn reach(&self) -> io::Result<Option<&Dir>> {
        match self.at_hand {
            true => Ok(self.confined.as_deref()),
            false => Err(io::Error::new(io::ErrorKind::Unsupported, "files are out of reach")),
        }
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, path: &Path) -> io::Result<File> {
        match self.reach()? {
            None => File::open(self.root.join(path)),
            Some(dir) => Ok(dir.open(path)?.into_std()),
        }
    }

    /// Where a path leads, for a library that opens files by itself; none where paths are confined, which such a library would not keep to.
    pub(crate) fn outside(&self, path: &Path) -> Option<PathBuf> {
        self.confined.is_none().then(|| self.root.join(path))
    }

    /// Opens a file of lines to go on behind them, without the one at its end that a crash may have cut off; none if there is no file.
    pub(crate) fn append(&self, path: &Path) -> io::Result<Option<File>> {
        if !self.is_file(path)? {
            return Ok(None);
        }
        let mut file = self.reopen(path)?;
        cut_last_line(&mut file)?;
        Ok(Some(file))
    }

    /// Opens a file that is there, for reading and writing.
    fn reopen(&self, path: &Path) -> io::Result<File> {
        match self.reach()? {
            None => File::options().read(true).write(true).open(self.root.join(path)),
            Some(dir) => {
                let mut options = cap_std::fs::OpenOptions::new();
                Ok(dir.open_with(path, options.read(true).write(true))?.into_std())
            }
        }
    }

    /// Creates a file, and the folders above it; what was in it is gone.
    pub(crate) fn create(&self, path: &Path) -> io::Result<File> {
        match self.reach()? {
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

    /// Opens a file for writing from its beginning on, and makes it, and the folders above it, if it is not there. What is in it stays until it is
    /// written over, or [cleared](clear).
    pub(crate) fn open_to_write(&self, path: &Path) -> io::Result<File> {
        match self.reach()? {
            None => {
                let path = self.root.join(path);
                path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
                File::options().write(true).create(true).truncate(false).open(path)
            }
            Some(dir) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                folder.map_or(Ok(()), |folder| dir.create_dir_all(folder))?;
                let mut options = cap_std::fs::OpenOptions::new();
                Ok(dir.open_with(path, options.write(true).create(true))?.into_std())
            }
        }
    }

    /// Makes a folder and those above it, so that they outlast a crash of the machine.
    pub(crate) fn create_folder(&self, path: &Path) -> io::Result<()> {
        let reached = self.reach()?;
        if matches!(self.kind(path), Ok(Kind::Folder)) {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        parent.map_or(Ok(()), |parent| self.create_folder(parent))?;
        let made = match reached {
            None => std::fs::create_dir(self.root.join(path)),
            Some(dir) => dir.create_dir(path),
        };
        match made {
            // Another subtask was faster; or it is no folder, or one that is outside.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => match self.kind(path)? {
                Kind::Folder => Ok(()),
                _ => Err(e),
            },
            Err(e) => Err(e),
            Ok(()) => self.sync_folder(parent.unwrap_or(Path::new("."))),
        }
    }

    /// Makes it last which names are in a folder: a file that was made there, or renamed, is there after a crash of the machine.
    pub(crate) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.open(path)?.sync_all()
    }

    /// Gives a file another name, at once: a reader sees the one or the other.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match self.reach()? {
            None => std::fs::rename(self.root.join(from), self.root.join(to)),
            Some(dir) => dir.rename(from, dir, to),
        }
    }

    /// Removes a file.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        match self.reach()? {
            None => std::fs::remove_file(self.root.join(path)),
            Some(dir) => dir.remove_file(path),
        }
    }

    /// Whether there is a file at this path.
    pub(crate) fn is_file(&self, path: &Path) -> io::Result<bool> {
        match self.kind(path) {
            Ok(kind) => Ok(matches!(kind, Kind::File)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The names of all that is in a folder, in no order; those that are not UTF-8 are left out.
    pub(crate) fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<OsString>| entry.map(|name| name.into_string().ok()).transpose();
        match self.reach()? {
            None => std::fs::read_dir(self.root.join(folder))?.filter_map(|entry| name(entry.map(|e| e.file_name()))).collect(),
            Some(dir) => dir.read_dir(folder)?.filter_map(|entry| name(entry.map(|e| e.file_name()))).collect(),
        }
    }

    /// Whether paths cannot leave the folder: the job is not the user's own.
    pub(crate) fn is_confined(&self) -> bool {
        self.confined.is_some()
    }

    /// The files that a path or a pattern names, in order.
    pub(crate) fn list(&self, path: &str) -> Result<Vec<PathBuf>, Error> {
        self.reach().map_err(|e| Error::io(format!("the files of {path} cannot be listed"), e))?;
        let whole = Path::new(path);
        let is_pattern = is_pattern(path);
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
            Err(e) if !is_pattern && matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::missing(format!(
                    "there is no file {}; correct the path, or put the file there",
                    self.shown(whole)
                )));
            }
            Err(e) if !is_pattern => return Err(Error::io(format!("the file {} cannot be read", self.shown(whole)), e)),
            Ok(_) | Err(_) => {}
        }
        // Each part of a pattern is good where the whole is.
        glob::Pattern::new(&self.pattern(path).to_string_lossy())
            .map_err(|e| Error::options(format!("the path {path} is not a pattern: {e}")))?;
        let mut paths = self.matches(path).map_err(|e| Error::io(format!("the files of {path} cannot be listed"), e))?;
        let recurses = whole.components().any(|part| part.as_os_str() == "**");
        // A match that cannot be opened from within a confined folder is outside: as if it were not there.
        paths.retain(|found| matches!(self.kind(found), Ok(Kind::File)) && !(recurses && self.is_behind_link(whole, found)));
        paths.sort();
        paths.dedup();
        if paths.is_empty() {
            return Err(Error::missing(format!("no file matches {}; correct the path, or put files there", self.shown(whole))));
        }
        Ok(paths)
    }

    /// All that a pattern matches, in no order; of one that ends in `**`, which stands for folders, nothing.
    ///
    /// What a `**` stands for is found here: the library follows links where it looks for that, and would not come to an end where two of them lead back.
    fn matches(&self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        if pattern.ends_with("**") {
            return Ok(Vec::new());
        }
        // In what is a pattern, a `**` is a whole name. What is before one ends with a slash, and so matches folders only.
        let mut parts = pattern.split("**/");
        let mut found = self.expand(Path::new(""), parts.next().unwrap_or_default())?;
        for part in parts.filter(|part| !part.is_empty()) {
            let mut folders = self.with_those_below(found)?;
            // The name that follows a `**` is one that a star could stand for.
            if part.starts_with(['.', '/']) {
                folders.clear();
            }
            found = Vec::new();
            for folder in &folders {
                found.extend(self.expand(folder, part)?);
            }
        }
        Ok(found)
    }

    /// What a pattern without `**` matches in a folder.
    fn expand(&self, folder: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
        let pattern = self.pattern(&Path::new(&glob::Pattern::escape(&folder.to_string_lossy())).join(pattern).to_string_lossy());
        // What is hidden is left out below: the library would panic where it meets a name that is not UTF-8.
        let options = glob::MatchOptions { require_literal_leading_dot: false, ..AS_IN_A_SHELL };
        let matches =
            glob::glob_with(&pattern.to_string_lossy(), options).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let mut paths = Vec::new();
        for found in matches {
            match found {
                Ok(found) if is_hidden(&found, &pattern) => {}
                Ok(found) => paths.push(found.strip_prefix(&self.root).map(Path::to_owned).unwrap_or(found)),
                // What a pattern meets outside is nobody's business.
                Err(_) if self.confined.is_some() => {}
                Err(e) if is_hidden(e.path(), &pattern) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(paths)
    }

    /// These folders, and those below them that a `**` stands for: that are neither hidden nor links, and below none that is.
    fn with_those_below(&self, mut folders: Vec<PathBuf>) -> io::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            if found.contains(&folder) {
                continue;
            }
            match self.folders_in(&folder) {
                Ok(names) => folders.extend(names.iter().filter(|name| !name.starts_with('.')).map(|name| folder.join(name))),
                // It may be outside.
                Err(_) if self.confined.is_some() => continue,
                Err(e) => return Err(e),
            }
            found.insert(folder);
        }
        Ok(found)
    }

    /// The names of the folders in a folder, without links to such, in no order; those that are not UTF-8 are left out.
    fn folders_in(&self, folder: &Path) -> io::Result<Vec<String>> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let entries: Vec<(OsString, bool)> = match self.reach()? {
            None => std::fs::read_dir(self.root.join(folder))?
                .map(|entry| entry.map(|e| (e.file_name(), e.file_type().is_ok_and(|kind| kind.is_dir()))))
                .collect::<io::Result<_>>()?,
            Some(dir) => dir
                .read_dir(folder)?
                .map(|entry| entry.map(|e| (e.file_name(), e.file_type().is_ok_and(|kind| kind.is_dir()))))
                .collect::<io::Result<_>>()?,
        };
        Ok(entries.into_iter().filter_map(|(name, is_folder)| name.into_string().ok().filter(|_| is_folder)).collect())
    }

    /// A pattern from the root on.
    fn pattern(&self, path: &str) -> PathBuf {
        Path::new(&glob::Pattern::escape(&self.root.to_string_lossy())).join(path)
    }

    /// Whether a path or a pattern names a file that it has [listed](Self::list), which may be gone by now.
    pub(crate) fn names_file(&self, path: &str, file: &Path) -> bool {
        if Path::new(path) == file {
            return true;
        }
        if !is_pattern(path) {
            return false;
        }
        // Without any `.` in the middle, which stands for nothing.
        let plain = |path: PathBuf| path.components().collect::<PathBuf>();
        let pattern = glob::Pattern::new(&plain(self.pattern(path)).to_string_lossy());
        let is_match = pattern.is_ok_and(|pattern| pattern.matches_path_with(&plain(self.root.join(file)), AS_IN_A_SHELL));
        // What it lists it names, whatever can be said of the pattern.
        is_match || self.list(path).is_ok_and(|listed| listed.iter().any(|listed| listed == file))
    }

    /// Whether a match of a pattern lies in a folder that is a symbolic link, beyond what the pattern names before its first `**`: as in a shell, that does not
    /// follow them. They could lead back, and the same file would be read again.
    fn is_behind_link(&self, pattern: &Path, found: &Path) -> bool {
        let pattern = pattern.strip_prefix(&self.root).unwrap_or(pattern);
        let before = pattern.components().take_while(|part| part.as_os_str() != "**");
        let named = before.filter(|part| *part != Component::CurDir).count();
        let crossed = found.components().count().saturating_sub(named + 1);
        found.ancestors().skip(1).take(crossed).any(|folder| self.root.join(folder).is_symlink())
    }

    /// What is at this path, or would be made there; none for what keeps nothing that could be overwritten, such as a pipe or `/dev/null`.
    pub(crate) fn identity(&self, path: &Path) -> Option<Identity> {
        let reached = self.reach().ok()?;
        if matches!(self.kind(path), Ok(Kind::Other)) {
            return None;
        }
        let inode = match reached {
            None => std::fs::metadata(self.root.join(path)).map(|m| (m.dev(), m.ino())),
            Some(dir) => dir.metadata(path).map(|m| (m.dev(), m.ino())),
        };
        Some(Identity { path: self.resolved(path), inode: inode.ok() })
    }

    /// A path that is absolute, and without links as far as it is there.
    fn resolved(&self, path: &Path) -> PathBuf {
        let there = match &self.confined {
            None => self.root.join(path).canonicalize(),
            Some(dir) => dir.canonicalize(path).map(|inside| self.root.join(inside)),
        };
        there.unwrap_or_else(|_| match (path.parent(), path.components().next_back()) {
            (Some(parent), Some(name)) => self.resolved(parent).join(name),
            _ => self.root.join(path),
        })
    }

    /// What there is at this path.
    fn kind(&self, path: &Path) -> io::Result<Kind> {
        let (is_file, is_dir) = match self.reach()? {
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

/// Removes what is in a file. What is no file, such as a pipe or `/dev/null`, keeps nothing.
pub(crate) fn clear(file: &File) -> io::Result<()> {
    if file.metadata()?.is_file() { file.set_len(0) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::ffi::OsStrExt as _;
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
    fn recursive_patterns_follow_no_links_to_folders() {
        // Goal: each file is read once, also where a link leads back; what the pattern names before may be a link, and files may be links.
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("g/a/b")).unwrap();
        for file in ["g/a/1.jsonl", "g/a/b/2.jsonl"] {
            std::fs::write(at(file), "{}").unwrap();
        }
        symlink("1.jsonl", at("g/a/link.jsonl")).unwrap();
        symlink(".", at("g/loop")).unwrap();
        symlink("g", at("h")).unwrap();
        let files = Files::free(folder.path());
        for start in ["g", "./g", "h", at("g").to_str().unwrap()] {
            let found = files.list(&format!("{start}/**/*.jsonl")).unwrap();
            let names: Vec<_> = found.iter().map(|path| path.file_name().unwrap()).collect();
            assert_eq!(names, ["1.jsonl", "2.jsonl", "link.jsonl"], "{start}");
        }
        assert_eq!(files.list("g/loop/a/*.jsonl").unwrap().len(), 2, "a link that is named is followed");
    }

    #[test]
    fn recursive_patterns_end_where_links_lead_back() {
        // Goal: two links in a loop, which give a file more paths than could ever be listed, give it one.
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        std::fs::create_dir_all(at("g/a")).unwrap();
        std::fs::write(at("g/a/f.jsonl"), "{}").unwrap();
        symlink("a", at("g/b")).unwrap();
        symlink("..", at("g/a/up")).unwrap();
        for files in [Files::free(folder.path()), Files::confined(folder.path()).unwrap()] {
            for pattern in ["g/**/*.jsonl", "**/*.jsonl", "**/f.jsonl", "g/**/**/f.*", "**/a/**/*.jsonl", "g/b/up/a/**/*.jsonl"] {
                let found = files.list(pattern).unwrap();
                assert_eq!(found.len(), 1, "{pattern}: {found:?}");
                assert!(found[0].ends_with("a/f.jsonl"), "{pattern}: {found:?}");
            }
            assert_eq!(files.list("g/*/**/*.jsonl").unwrap(), ["g/a/f.jsonl", "g/b/f.jsonl"].map(Path::new));
        }
    }

    #[test]
    fn recursive_patterns_match_in_folders_of_any_depth() {
        // Goal: a `**` stands for no folder, for one and for several, but for none that is hidden, and for no file; what it is followed by can be any
        // pattern. The folders that it stands for are no patterns.
        let folder = tempfile::tempdir().unwrap();
        for file in ["x.csv", "a/x.csv", "a/b/x.csv", "a/.h/x.csv", ".h/x.csv", "a[1]/x.csv", "b/a/y.csv"] {
            let path = folder.path().join("t").join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        for files in [Files::free(folder.path()), Files::confined(folder.path()).unwrap()] {
            for (pattern, expected) in [
                ("t/**/x.csv", vec!["t/a/b/x.csv", "t/a/x.csv", "t/a[1]/x.csv", "t/x.csv"]),
                ("**/[xy].csv", vec!["t/a/b/x.csv", "t/a/x.csv", "t/a[1]/x.csv", "t/b/a/y.csv", "t/x.csv"]),
                ("t/**/a/*.csv", vec!["t/a/x.csv", "t/b/a/y.csv"]),
                ("t/**/b/**/*.csv", vec!["t/a/b/x.csv", "t/b/a/y.csv"]),
                ("t/*/**/b/x.*", vec!["t/a/b/x.csv"]),
                ("t/a/.h/**/*.csv", vec!["t/a/.h/x.csv"]),
                ("t/**/a/.h/*.csv", vec!["t/a/.h/x.csv"]),
            ] {
                let found = files.list(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
                assert_eq!(found, expected.into_iter().map(PathBuf::from).collect::<Vec<_>>(), "{pattern}");
            }
            for (pattern, part) in [
                ("t/**", "no file matches"),
                ("t/**/", "no file matches"),
                ("t/**/a", "no file matches"),
                ("t/**/.h/*.csv", "no file matches"),
                ("t/**//x.csv", "no file matches"),
                ("t/a**/x.csv", "is not a pattern"),
            ] {
                let error = files.list(pattern).unwrap_err();
                assert!(error.message.contains(part), "{pattern}: {error}");
            }
        }
    }

    #[test]
    fn names_that_are_no_text_are_passed_over() {
        // Goal: a file or a folder whose name is not UTF-8 is none that a pattern matches, and hides nothing that it does match. What is hidden is found
        // where the pattern says so.
        let folder = tempfile::tempdir().unwrap();
        let odd = std::ffi::OsStr::from_bytes(b"\xff.csv");
        for file in ["a/x.csv", ".h/x.csv", "a/.y.csv"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::fs::write(folder.path().join("a").join(odd), "").unwrap();
        std::fs::create_dir(folder.path().join(odd)).unwrap();
        for files in [Files::free(folder.path()), Files::confined(folder.path()).unwrap()] {
            for (pattern, expected) in [
                ("*/*.csv", "a/x.csv"),
                ("**/*.csv", "a/x.csv"),
                ("./*/x.csv", "a/x.csv"),
                (".h/*.csv", ".h/x.csv"),
                (".*/*.csv", ".h/x.csv"),
                ("*/.*.csv", "a/.y.csv"),
            ] {
                assert_eq!(files.list(pattern).unwrap(), [Path::new(expected)], "{pattern}");
            }
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
        files.open_to_write(Path::new("newer/folder/b.csv")).unwrap();
        assert!(outside.path().join("inside/newer/folder/b.csv").is_file());
        let absolute = outside.path().join("new.csv");
        for bad in
            ["../new.csv", "link.csv", "dangling.csv", "way-out/new.csv", "way-out/new/new.csv", absolute.to_str().unwrap()]
        {
            assert!(files.create(Path::new(bad)).is_err() && files.open_to_write(Path::new(bad)).is_err(), "{bad}");
        }
        let mut names: Vec<_> = std::fs::read_dir(outside.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["inside", "secret.csv"]);
        assert_eq!(std::fs::read_to_string(outside.path().join("secret.csv")).unwrap(), "secret");
    }

    #[test]
    fn files_are_renamed_and_removed_inside_only() {
        // Goal: confined or free, folders are made, files renamed, listed and removed; confined, nothing of it reaches outside.
        let (outside, confined) = prison();
        for files in [Files::free(outside.path().join("inside")), confined] {
            files.create_folder(Path::new("x/y")).unwrap();
            files.create_folder(Path::new("x/y")).unwrap();
            files.create(Path::new("x/a")).unwrap();
            files.rename(Path::new("x/a"), Path::new("x/y/b")).unwrap();
            files.sync_folder(Path::new("x/y")).unwrap();
            assert_eq!(files.names(Path::new("x/y")).unwrap(), ["b"]);
            assert!(files.is_file(Path::new("x/y/b")).unwrap() && !files.is_file(Path::new("x/a")).unwrap());
            files.remove(Path::new("x/y/b")).unwrap();
            assert!(files.names(Path::new("x/y")).unwrap().is_empty());
        }
        let (outside, files) = prison();
        let inner = Path::new("sub/a.csv");
        for bad in ["../secret.csv", "way-out/secret.csv"] {
            let bad = Path::new(bad);
            assert!(files.remove(bad).is_err() && files.rename(bad, inner).is_err() && files.rename(inner, bad).is_err());
        }
        for bad in ["..", "way-out", "../new", "way-out/new"] {
            let bad = Path::new(bad);
            assert!(files.names(bad).is_err() && files.sync_folder(bad).is_err(), "{}", bad.display());
            assert!(files.create_folder(bad).is_err(), "{}", bad.display());
        }
        assert_eq!(std::fs::read_to_string(outside.path().join("secret.csv")).unwrap(), "secret");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 2);
    }

    #[test]
    fn patterns_pass_over_hidden_files() {
        // Goal: what begins with a dot is found by its name only.
        let (outside, files) = prison();
        std::fs::create_dir(outside.path().join("inside/sub/.weir")).unwrap();
        std::fs::write(outside.path().join("inside/sub/.weir/b.csv"), "hidden").unwrap();
        for files in [Files::free(outside.path().join("inside")), files] {
            for pattern in ["sub/*.csv", "s*/*.csv", "s*/**/*.csv", "sub/**/*.csv"] {
                assert_eq!(files.list(pattern).unwrap(), [Path::new("sub/a.csv")], "{pattern}");
            }
            assert!(files.list("sub/*/*.csv").is_err());
            assert_eq!(files.list("sub/.weir/*.csv").unwrap(), [Path::new("sub/.weir/b.csv")]);
        }
    }

    #[test]
    fn files_are_known_by_all_their_names() {
        // Goal: what is one file or folder is known as such by every path to it, whether it is there or not, and nothing else is.
        let (outside, confined) = prison();
        let inside = outside.path().join("inside");
        symlink("sub", inside.join("way-down")).unwrap();
        std::fs::hard_link(inside.join("sub/a.csv"), inside.join("other-name.csv")).unwrap();
        std::fs::write(inside.join("sub/b.csv"), "mine").unwrap();
        for files in [Files::free(&inside), confined] {
            let is = |a: &str, b: &str| {
                let [a, b] = [a, b].map(|path| files.identity(Path::new(path)).unwrap());
                a.is(&b) && b.is(&a)
            };
            for (a, b) in [
                ("sub/a.csv", "./sub/../sub/a.csv"),
                ("sub/a.csv", "good-link.csv"),
                ("sub/a.csv", "other-name.csv"),
                ("sub", "way-down/"),
                ("new.csv", "./new.csv"),
                ("new.csv", "sub/../new.csv"),
                ("sub/new/new.csv", "way-down/new/./new.csv"),
            ] {
                assert!(is(a, b), "{a}, {b}");
            }
            for (a, b) in [("sub/a.csv", "sub/b.csv"), ("sub/a.csv", "a.csv"), ("sub/new.csv", "new.csv"), ("sub", "sub/new")] {
                assert!(!is(a, b), "{a}, {b}");
            }
        }
        let free = Files::free(&inside);
        let absolute = free.identity(&inside.join("new.csv")).unwrap();
        assert!(absolute.is(&free.identity(Path::new("new.csv")).unwrap()));
        assert!(free.identity(Path::new("/dev/null")).is_none());
    }

    #[test]
    fn files_out_of_reach_are_left_alone() {
        // Goal: nothing is read, listed, made, renamed or removed, and whether paths are confined is still known.
        let (outside, confined) = prison();
        let inside = outside.path().join("inside");
        for files in [Files::free(&inside), confined] {
            let is_confined = files.is_confined();
            let files = files.out_of_reach();
            let (there, new) = (Path::new("sub/a.csv"), Path::new("new/b.csv"));
            assert!(files.open(there).is_err() && files.append(there).is_err() && files.list("sub/*.csv").is_err());
            assert!(files.open_to_write(there).is_err() && files.open_to_write(new).is_err());
            assert!(files.names(Path::new("sub")).is_err() && files.is_file(there).is_err() && files.identity(there).is_none());
            assert!(files.create(new).is_err() && files.create_folder(new).is_err() && files.rename(there, new).is_err());
            assert!(files.remove(there).is_err() && files.sync_folder(Path::new("sub")).is_err());
            assert_eq!(files.is_confined(), is_confined);
            assert_eq!(std::fs::read_to_string(inside.join(there)).unwrap(), "mine");
            assert!(!inside.join("new").exists());
        }
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
