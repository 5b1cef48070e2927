//! Changes of a checkpoint that are written while more of them come: what waits in memory is a few pieces, however much has changed.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use super::Database;
use crate::{Entries, Error};

/// Pieces that wait for their turn. Who brings one more waits, too.
const WAITING_MAX: usize = 0;

/// Writes pieces on a thread of its own, each as a file.
pub(super) struct Pieces {
    full: SyncSender<Entries>,
    /// pieces that are written: their memory
    empty: Receiver<Entries>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Pieces {
    /// For this operator's changes.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn begin(database: &Arc<Database>, operator: u32) -> io::Result<Self> {
        let (full, pieces) = mpsc::sync_channel::<Entries>(WAITING_MAX);
        let (written, empty) = mpsc::channel();
        let of = Arc::clone(database);
        let write = move || {
            pieces.iter().try_for_each(|mut piece| {
                of.write_changes(operator, &mut piece)?;
                piece.clear();
                // Nobody wants it after the last one.
                let _ = written.send(piece);
                Ok(())
            })
        };
        let thread = thread::Builder::new().name("state-changes".into()).spawn(write)?;
        Ok(Self { full, empty, thread })
    }

    /// Hands a piece over, and returns room for the next one. If an earlier one could not be written, it goes, too, and [`finish`](Self::finish) tells why.
    pub fn write(&self, piece: Entries) -> Entries {
        match self.full.send(piece) {
            Ok(()) => self.empty.try_recv().unwrap_or_default(),
            Err(mpsc::SendError(mut piece)) => {
                piece.clear();
                piece
            }
        }
    }

    /// Waits until all are written to their database.
    ///
    /// # Errors
    /// If one could not be.
    pub fn finish(self, database: &Database) -> Result<(), Error> {
        drop(self.full);
        self.thread.join().unwrap_or_else(|_| Err(database.damaged("the thread that writes what has changed has panicked")))
    }
}
