//! Chains at work: one dynamic call a batch, everything behind it is static.

use crate::bindings::exports::weir::dataflow::chains::{DueTimers, Input, Panes, Reply, States};
use crate::bindings::weir::dataflow::types::Batch;

/// A chain of this instance. `wit/chains.wit` says what each call means; a chain refuses those that its head does not have.
pub trait Chain {
    /// The schemas of the states that may be imported, the chain's own among them.
    fn open(&mut self, _schemas: &[String]) -> Result<(), String> {
        Ok(())
    }
    /// Rows of a `transform` or `process` head.
    fn process(&mut self, _input: Input) -> Result<Reply, String> {
        Err(misdirected("process"))
    }
    /// Slots get keys.
    fn assign_slots(&mut self, _slots: &[u8], _keys: Batch) -> Result<(), String> {
        Err(misdirected("assign-slots"))
    }
    /// Rows of a `window` head.
    fn accumulate(&mut self, _input: Input) -> Result<(), String> {
        Err(misdirected("accumulate"))
    }
    /// Results of windows.
    fn emit(&mut self, _panes: &Panes) -> Result<Reply, String> {
        Err(misdirected("emit"))
    }
    /// Accumulators are merged.
    fn merge_slots(&mut self, _targets: &[u8], _sources: &[u8]) -> Result<(), String> {
        Err(misdirected("merge-slots"))
    }
    /// Slots are free.
    fn clear_slots(&mut self, _slots: &[u8]) -> Result<(), String> {
        Err(misdirected("clear-slots"))
    }
    /// State as bytes.
    fn export_slots(&mut self, _slots: &[u8]) -> Result<States, String> {
        Err(misdirected("export-slots"))
    }
    /// State from bytes.
    fn import_slots(&mut self, _slots: &[u8], _states: &States) -> Result<(), String> {
        Err(misdirected("import-slots"))
    }
    /// Timers of a `process` head.
    fn timers_fired(&mut self, _timers: &DueTimers) -> Result<Reply, String> {
        Err(misdirected("timers-fired"))
    }
}

fn misdirected(call: &str) -> String {
    format!("the host called `{call}` on a chain whose head does not have it")
}

/// The packed uint32s of a buffer.
#[inline]
pub(crate) fn slots_of(bytes: &[u8]) -> impl ExactSizeIterator<Item = u32> + '_ {
    bytes.as_chunks::<4>().0.iter().map(|b| u32::from_le_bytes(*b))
}

/// The packed int64s of a buffer.
#[inline]
pub(crate) fn times_of(bytes: &[u8]) -> impl ExactSizeIterator<Item = i64> + '_ {
    bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b))
}
