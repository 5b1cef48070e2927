//! Dropping what has expired while files are rewritten: what compactions are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use rocksdb::{CompactionDecision, Options};

use super::encoding;
use crate::expiry::is_over;
use crate::{Clocks, StateKey};

/// How the filter is called, in the library's log.
const NAME: &std::ffi::CStr = c"expiry";

/// No operator has this number: nothing expires.
const NO_OPERATOR: u32 = u32::MAX;

/// Whose values may have expired, and by which clocks. The library's threads read them one by one, each of which only ever makes more expire.
#[derive(Debug)]
pub(super) struct Expiring {
    operator: AtomicU32,
    event: AtomicI64,
    processing: AtomicI64,
}

impl Expiring {
    pub fn new() -> Self {
        let Clocks { event, processing } = Clocks::START;
        Self { operator: NO_OPERATOR.into(), event: event.into(), processing: processing.into() }
    }

    /// Has compactions drop what has expired of an operator's values.
    pub fn set(&self, operator: u32, clocks: Clocks) {
        self.event.store(clocks.event, Ordering::Relaxed);
        self.processing.store(clocks.processing, Ordering::Relaxed);
        self.operator.store(operator, Ordering::Relaxed);
    }

    fn clocks(&self) -> Clocks {
        Clocks { event: self.event.load(Ordering::Relaxed), processing: self.processing.load(Ordering::Relaxed) }
    }

    /// Whether an entry has expired.
    pub fn is_over(&self, at: &StateKey<'_>, value: &[u8]) -> bool {
        self.operator.load(Ordering::Relaxed) == at.operator && is_over(value, &self.clocks())
    }

    /// Has the compactions of a database with these options look here.
    pub fn filter(self: &Arc<Self>, options: &mut Options) {
        let expiring = Arc::clone(self);
        // What is removed leaves a tombstone where older entries of the name may lie further down.
        options.set_compaction_filter(NAME, move |_, name, value| {
            if expiring.operator.load(Ordering::Relaxed) == NO_OPERATOR {
                return CompactionDecision::Keep;
            }
            match encoding::decode(name) {
                Some(at) if expiring.is_over(&at, value) => CompactionDecision::Remove,
                _ => CompactionDecision::Keep,
            }
        });
    }
}
