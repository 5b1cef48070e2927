//! From which input rows the rows of an output come.

use crate::bindings::exports::weir::dataflow::chains::Origins;
use crate::value::{FixedWriter, Writer as _};

/// Notes where rows come from.
#[derive(Debug, Default)]
pub(crate) struct OriginList(FixedWriter<4>);

impl OriginList {
    /// Makes room for `rows` more rows.
    pub fn reserve(&mut self, rows: usize) {
        self.0.reserve(rows);
    }

    /// Adds a row that comes from input row `origin`.
    #[inline(always)]
    pub fn push(&mut self, origin: u32) {
        self.0.push(origin.to_le_bytes());
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.0.rows().len()
    }

    /// The number of rows and their origins, and starts anew; `input` is how many rows came in, where rows came in.
    pub fn finish(&mut self, input: Option<usize>) -> (u32, Origins) {
        let origins = self.0.rows();
        let rows = origins.len() as u32;
        if input == Some(origins.len()) && origins.iter().copied().map(u32::from_le_bytes).eq(0..rows) {
            self.0.clear();
            return (rows, Origins::Identity);
        }
        (rows, Origins::Picked(self.0.take()))
    }
}
