//! Parts in a folder. Hidden ones are in `.weir/` below it, under names that end with `.hidden`: neither patterns that follow the shell's rule for dots
//! nor those that name an extension find them.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{HIDDEN, Hidden, Prepared, Store, Upload, lost, taken};
use crate::{Error, Files};

/// What the names of hidden parts end with.
const SUFFIX: &str = ".hidden";

/// Parts in a folder.
pub(in crate::file) struct Folder {
    files: Files,
    path: PathBuf,
}

impl Folder {
    /// Parts in this folder, which need not be there yet.
    pub fn new(files: &Files, path: PathBuf) -> Self {
        Self { files: files.clone(), path }
    }

    fn hidden_folder(&self) -> PathBuf {
        self.path.join(HIDDEN)
    }

    fn hidden(&self, part: &str) -> PathBuf {
        let name = part.rsplit('/').next().unwrap_or(part);
        self.hidden_folder().join(format!("{name}{SUFFIX}"))
    }

    fn shown_path(&self, path: &Path) -> String {
        self.files.shown(path).to_string()
    }

    fn publish_one(&self, part: &str) -> Result<(), Error> {
        let (hidden, path) = (self.hidden(part), self.path.join(part));
        let failed = |e| Error::io(format!("the part {} cannot be committed", self.shown(part)), e);
        if self.files.is_file(&path).map_err(failed)? && self.files.is_file(&hidden).map_err(failed)? {
            return Err(taken(&self.shown(part)));
        }
        match self.files.rename(&hidden, &path) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => match self.files.is_file(&path).map_err(failed)? {
                true => Ok(()),
                false => Err(lost(&self.shown(part), &self.shown_path(&hidden))),
            },
            Err(e) => Err(failed(e)),
        }
    }
}

impl Store for Folder {
    fn open(&self) -> Result<(), Error> {
        let hidden = self.hidden_folder();
        let made = self.files.create_folder(&hidden);
        made.map_err(|e| Error::io(format!("the folder {} cannot be made", self.shown_path(&hidden)), e))
    }

    fn begin(&self, part: &str) -> Result<Box<dyn Hidden>, Error> {
        let path = self.hidden(part);
        let file = self.files.create(&path);
        let file = file.map_err(|e| Error::io(format!("the file {} cannot be written", self.shown_path(&path)), e))?;
        Ok(Box::new(HiddenFile(file)))
    }

    fn sync(&self) -> Result<(), Error> {
        let folder = self.hidden_folder();
        let synced = self.files.sync_folder(&folder);
        synced.map_err(|e| Error::io(format!("the folder {} cannot be made durable", self.shown_path(&folder)), e))
    }

    fn publish(&self, parts: &[Prepared]) -> Result<(), Error> {
        let folder_of = |part: &Prepared| self.path.join(&part.part).parent().map_or_else(PathBuf::new, Path::to_owned);
        let folders: BTreeSet<_> = parts.iter().map(folder_of).collect();
        let failed = |path: &Path, e| Error::io(format!("parts cannot be committed in {}", self.shown_path(path)), e);
        for folder in &folders {
            self.files.create_folder(folder).map_err(|e| failed(folder, e))?;
        }
        parts.iter().try_for_each(|part| self.publish_one(&part.part))?;
        folders.iter().try_for_each(|folder| self.files.sync_folder(folder).map_err(|e| failed(folder, e)))
    }

    fn discard(&self, is_garbage: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let folder = self.hidden_folder();
        let names = match self.files.names(&folder) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(Error::io(format!("the folder {} cannot be listed", self.shown_path(&folder)), e)),
        };
        for name in names.iter().filter(|name| name.strip_suffix(SUFFIX).is_some_and(is_garbage)) {
            let path = folder.join(name);
            match self.files.remove(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("the file {} cannot be removed", self.shown_path(&path)), e));
                }
                // Another attempt may have removed it.
                _ => {}
            }
        }
        Ok(())
    }

    fn shown(&self, part: &str) -> String {
        self.shown_path(&self.path.join(part))
    }
}

struct HiddenFile(std::fs::File);

impl Write for HiddenFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Hidden for HiddenFile {
    fn seal(self: Box<Self>) -> io::Result<Option<Upload>> {
        self.0.sync_all()?;
        Ok(None)
    }
}
