//! Writes the parts of one subtask: one open part for each folder that rows go to.

use std::collections::HashMap;
use std::sync::Arc;

use weir_types::Batch;

use super::open::OpenPart;
use super::{Prepared, Shared};
use crate::{Error, Transaction, Writer};

/// Writes the parts of one subtask.
pub(super) struct PartWriter {
    shared: Arc<Shared>,
    subtask: u16,
    /// the number of the next part
    sequence: u64,
    /// by the folder below the sink's, with its last slash
    open: HashMap<String, OpenPart>,
    /// closed since the last `prepare`
    closed: Vec<Prepared>,
    /// how often rows were added to a part
    writes: u64,
}

impl PartWriter {
    /// A writer without parts.
    pub fn new(shared: Arc<Shared>, subtask: u16) -> Self {
        Self { shared, subtask, sequence: 0, open: HashMap::new(), closed: Vec::new(), writes: 0 }
    }

    /// Adds rows to the part of a folder, and closes it if it has become large.
    fn add(&mut self, folder: &str, batch: &Batch) -> Result<(), Error> {
        if !self.open.contains_key(folder) {
            self.make_room()?;
            let name = self.shared.series.name(self.subtask, self.sequence, &self.shared.extension);
            self.sequence += 1;
            let part = OpenPart::new(&*self.shared.store, format!("{folder}{name}"), &self.shared.layout)?;
            self.open.insert(folder.to_owned(), part);
        }
        let Some(part) = self.open.get_mut(folder) else { return Ok(()) };
        self.writes += 1;
        part.used = self.writes;
        part.write(batch)?;
        if part.bytes() >= self.shared.limits.roll_bytes { self.close(folder) } else { Ok(()) }
    }

    /// Closes the part that was not written to for longest, if there are as many open ones as there may be.
    fn make_room(&mut self) -> Result<(), Error> {
        if self.open.len() < self.shared.limits.open_parts_max {
            return Ok(());
        }
        let oldest = self.open.iter().min_by_key(|(_, part)| part.used).map(|(folder, _)| folder.clone());
        oldest.map_or(Ok(()), |folder| self.close(&folder))
    }

    /// Closes the parts that have become old.
    fn close_old(&mut self) -> Result<(), Error> {
        let Some(age) = self.shared.limits.roll_after else { return Ok(()) };
        self.close_all(|part| part.since.elapsed() >= age)
    }

    fn close_all(&mut self, which: impl Fn(&OpenPart) -> bool) -> Result<(), Error> {
        let mut folders: Vec<_> = self.open.iter().filter(|(_, part)| which(part)).map(|(folder, _)| folder.clone()).collect();
        folders.sort_unstable();
        folders.iter().try_for_each(|folder| self.close(folder))
    }

    fn close(&mut self, folder: &str) -> Result<(), Error> {
        if let Some(part) = self.open.remove(folder) {
            let (prepared, bytes) = part.close()?;
            self.shared.totals.add_bytes(bytes);
            self.closed.push(prepared);
        }
        Ok(())
    }
}

impl Writer for PartWriter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.close_old()?;
        let shared = Arc::clone(&self.shared);
        shared.partitioning.split(batch, &mut |folder, rows| self.add(folder, rows))?;
        shared.totals.add_rows(batch.rows());
        Ok(())
    }

    /// Nobody sees rows before they are committed, so nothing is gained by putting out a small block.
    fn flush(&mut self) -> Result<(), Error> {
        self.close_old()
    }

    fn prepare(&mut self) -> Result<Vec<Transaction>, Error> {
        self.close_all(|_| true)?;
        if self.closed.is_empty() {
            return Ok(vec![]);
        }
        self.shared.store.sync()?;
        let transaction = |part: Prepared| serde_json::to_value(part).map_err(|e| Error::io("a part cannot be named", e));
        std::mem::take(&mut self.closed).into_iter().map(transaction).collect()
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.close_all(|_| true)
    }
}
