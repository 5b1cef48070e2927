//! From which input rows the rows of an output come.

use crate::bindings::exports::weir::dataflow::chains::Origins;

/// Counts rows and notes their origins; nothing is written down as long as row `i` comes from row `i`.
#[derive(Debug)]
pub(crate) struct OriginList {
    rows: u32,
    in_order: bool,
    /// uint32 a row, once they are not in order
    listed: Vec<u8>,
    /// how many rows there may be
    expected: usize,
}

impl Default for OriginList {
    fn default() -> Self {
        Self { rows: 0, in_order: true, listed: vec![], expected: 0 }
    }
}

impl OriginList {
    /// About `rows` rows will come.
    pub fn expect(&mut self, rows: usize) {
        self.expected = rows;
    }

    /// Adds a row that comes from input row `origin`.
    #[inline(always)]
    pub fn push(&mut self, origin: u32) {
        if self.in_order && origin != self.rows {
            self.list();
        }
        if !self.in_order {
            self.listed.extend_from_slice(&origin.to_le_bytes());
        }
        self.rows += 1;
    }

    /// Writes down the origins so far.
    #[cold]
    fn list(&mut self) {
        self.in_order = false;
        self.listed.reserve(self.expected.max(self.rows as usize + 1) * 4);
        self.listed.extend((0..self.rows).flat_map(u32::to_le_bytes));
    }

    /// The number of rows and their origins, and starts anew; `input` is how many rows came in, where rows came in.
    pub fn finish(&mut self, input: Option<usize>) -> (u32, Origins) {
        let rows = std::mem::take(&mut self.rows);
        if self.in_order && input == Some(rows as usize) {
            return (rows, Origins::Identity);
        }
        if self.in_order {
            self.rows = rows;
            self.list();
            self.rows = 0;
        }
        self.in_order = true;
        (rows, Origins::Picked(std::mem::take(&mut self.listed)))
    }
}
