//! Whether it pays to aggregate before an exchange.
//!
//! An accumulator on its way costs about as much as thirty rows: it is exported, cleared, sent as bytes, found a slot for and imported. Where it stands for
//! fewer, rows had better go as they are. But a key with a large part of all rows would then keep the others waiting for the one subtask that has it; so
//! where there is such a key, they are aggregated in any case.
//!
//! What was handed on tells how many rows an accumulator stood for. Rows that pass tell nothing, so that some are aggregated again now and then: the less
//! often, the more often it was for nothing.

/// So many rows an accumulator has to stand for.
const ROWS_PER_PARTIAL_MIN: u64 = 32;

/// No key has a large part of all rows if the one with the most has less than one in so many.
const ROWS_PER_ROW_OF_A_KEY_MIN: u64 = 16;

/// After so many rows it is decided what happens to those that follow.
const PROBED_ROWS_MIN: u64 = 1 << 16;

/// So many rows pass before some are aggregated again, and each time that it was for nothing twice as many as the last time, up to a limit.
const PASSED_ROWS_MIN: u64 = 32 * PROBED_ROWS_MIN;
const PASSED_ROWS_MAX: u64 = 16 * PASSED_ROWS_MIN;

/// What is known of accumulators that were handed on, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Reduction {
    partials: u64,
    /// the rows in them
    rows: u64,
    /// of these, the rows in the greatest one of each part
    greatest: u64,
    /// the rows in the greatest one of the current part
    greatest_of_part: u64,
    /// how many rows are still to pass
    passing: u64,
    /// how many were to pass the last time; 0 = none
    passed: u64,
}

impl Reduction {
    /// Rows have come. Returns whether they pass as they are.
    pub fn passes(&mut self, rows: usize) -> bool {
        let passes = self.passing > 0;
        self.passing = self.passing.saturating_sub(rows as u64);
        passes
    }

    /// An accumulator of so many rows is handed on.
    pub fn hand_on(&mut self, rows: u64) {
        self.partials += 1;
        self.rows += rows;
        self.greatest_of_part = self.greatest_of_part.max(rows);
    }

    /// All accumulators of a part were handed on.
    pub fn end_part(&mut self) {
        self.greatest += std::mem::take(&mut self.greatest_of_part);
        if self.rows < PROBED_ROWS_MIN {
            return;
        }
        let are_small = self.rows < self.partials * ROWS_PER_PARTIAL_MIN;
        let are_even = self.rows > self.greatest * ROWS_PER_ROW_OF_A_KEY_MIN;
        let passed = if are_small && are_even { (2 * self.passed).clamp(PASSED_ROWS_MIN, PASSED_ROWS_MAX) } else { 0 };
        *self = Self { passing: passed, passed, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many million rows pass, which come in batches of a thousand, if each part has accumulators of so many rows.
    fn passed(millions: u64, part: &[u64]) -> u64 {
        let mut reduction = Reduction::default();
        let (mut passed, mut waiting) = (0, 0);
        for _ in 0..1000 * millions {
            if reduction.passes(1000) {
                passed += 1000;
                continue;
            }
            waiting += 1000;
            while waiting >= part.iter().sum() {
                waiting -= part.iter().sum::<u64>();
                part.iter().for_each(|&rows| reduction.hand_on(rows));
                reduction.end_part();
            }
        }
        passed
    }

    /// Rows of many keys pass, but for the few by which it is known that they are of many: ever fewer, and never none.
    #[test]
    fn rows_of_many_keys_pass() {
        let kept = |millions| 1_000_000 * millions - passed(millions, &[8; 1000]);
        let (few, many, more) = (kept(10), kept(200), kept(400));
        assert!(few > 2 * PROBED_ROWS_MIN && few < 500_000, "{few} of ten million");
        assert!(many < 4 * few, "{many} of 200 million, {few} of ten million");
        assert!(more > many + 4 * PROBED_ROWS_MIN, "{more} of 400 million, {many} of 200 million");
    }

    /// Rows of few keys are aggregated, and so are those of many keys if one has a good part of them.
    #[test]
    fn rows_of_few_keys_are_aggregated() {
        assert_eq!(passed(10, &[100; 1000]), 0);
        assert_eq!(passed(10, &[1000]), 0);
        let mut part = vec![8; 1000];
        part[500] = 1000;
        assert_eq!(passed(10, &part), 0);
    }
}
