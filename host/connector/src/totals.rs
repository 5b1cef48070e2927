//! What all writers of a sink have written together.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Instant;

use crate::Report;

/// Counts rows and bytes; once a batch, not once a row.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    rows: AtomicU64,
    bytes: AtomicU64,
    first_row: OnceLock<Instant>,
    finished: AtomicU16,
}

impl Totals {
    /// Counts rows that were taken.
    pub fn add_rows(&self, rows: usize) {
        if rows > 0 {
            self.first_row.get_or_init(Instant::now);
            self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        }
    }

    /// Counts bytes that were put out.
    pub fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The number of bytes that were put out.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Counts a writer that has finished; whether it is the last of so many.
    pub fn is_last(&self, writers: u16) -> bool {
        self.finished.fetch_add(1, Ordering::AcqRel) + 1 == writers
    }

    /// What was written so far.
    pub fn report(&self) -> Report {
        Report {
            rows: self.rows.load(Ordering::Relaxed),
            bytes: self.bytes(),
            first_row: self.first_row.get().copied(),
            ..Report::default()
        }
    }
}
