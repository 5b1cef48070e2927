//! The user's part of a chain: a guest, or a native stand-in of the same shape.

use std::time::Duration;

use arrow_array::ArrayRef;
use weir_sandbox::{GuestError, GuestErrorKind, Instance};
use weir_types::call::{DueTimers, Input, Panes, Reply, Slot, States};

use crate::Error;
use crate::guest::GuestStart;

/// A chain that is native code: what a guest does, behind the same interface, without the sandbox. Tests use it, and the measurement of what
/// the sandbox costs. Each method means what the function of the same name in `wit/chains.wit` means; those that a head does not need
/// keep their default, which refuses.
pub trait NativeChain: Send {
    /// Rows for a `transform` or `process` head.
    fn process(&mut self, _input: Input<'_>) -> Result<Reply, GuestError> {
        Err(not_offered("process"))
    }
    /// These slots now belong to these keys, with fresh state.
    fn assign_slots(&mut self, _slots: &[Slot], _keys: &[ArrayRef]) -> Result<(), GuestError> {
        Err(not_offered("assign-slots"))
    }
    /// Rows for a `window` head.
    fn accumulate(&mut self, _input: Input<'_>) -> Result<(), GuestError> {
        Err(not_offered("accumulate"))
    }
    /// The results of panes.
    fn emit(&mut self, _panes: Panes<'_>) -> Result<Reply, GuestError> {
        Err(not_offered("emit"))
    }
    /// Merges `sources[i]` into `targets[i]`.
    fn merge_slots(&mut self, _targets: &[Slot], _sources: &[Slot]) -> Result<(), GuestError> {
        Err(not_offered("merge-slots"))
    }
    /// The slots are free.
    fn clear_slots(&mut self, _slots: &[Slot]) -> Result<(), GuestError> {
        Err(not_offered("clear-slots"))
    }
    /// The state of these slots.
    fn export_slots(&mut self, _slots: &[Slot]) -> Result<States, GuestError> {
        Err(not_offered("export-slots"))
    }
    /// Merges states into slots.
    fn import_slots(&mut self, _slots: &[Slot], _states: &States) -> Result<(), GuestError> {
        Err(not_offered("import-slots"))
    }
    /// Timers that are due.
    fn timers_fired(&mut self, _timers: DueTimers<'_>) -> Result<Reply, GuestError> {
        Err(not_offered("timers-fired"))
    }
}

fn not_offered(function: &str) -> GuestError {
    GuestError::new(GuestErrorKind::Contract, format!("this chain has no `{function}`"))
}

/// The user's part of a chain.
pub enum Body {
    /// a chain of a component
    Guest {
        /// the subtask's instance
        instance: Box<Instance>,
        /// how it was started
        start: GuestStart,
        /// the time spent in the instances before it
        before: Duration,
    },
    /// native code
    Native(Box<dyn NativeChain>),
}

/// The share of its memory limit from which on a guest is replaced between batches. Some guests' memory only grows (Python's).
const RENEWAL_PERCENT: u64 = 80;

/// Forwards a call to the guest (awaiting it) or to the native chain.
macro_rules! forward {
    ($self:ident . $function:ident ( $($argument:expr),* )) => {
        Ok(match $self {
            Self::Guest { instance, start, .. } => instance.$function(start.chain, $($argument),*).await?,
            Self::Native(native) => native.$function($($argument),*)?,
        })
    };
}

impl Body {
    /// Starts a guest.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(start: GuestStart) -> Result<Self, GuestError> {
        Ok(Self::Guest { instance: start.start().await?, start, before: Duration::ZERO })
    }

    /// Puts a new instance in the place of the guest's. What its slots held is gone: export it before. A native chain stays.
    ///
    /// # Errors
    /// If the new instance does not start.
    pub async fn renew(&mut self) -> Result<(), GuestError> {
        if let Self::Guest { instance, start, before } = self {
            let next = start.start().await?;
            *before += instance.cpu();
            *instance = next;
        }
        Ok(())
    }

    /// Whether the guest's memory has grown so near to its limit that its instance should be replaced before it meets it.
    pub fn wants_renewal(&self) -> bool {
        match self {
            Self::Guest { instance, start, .. } => {
                instance.memory_bytes() as u64 * 100 >= start.limits.memory_bytes as u64 * RENEWAL_PERCENT
            }
            Self::Native(_) => false,
        }
    }

    /// The guest's linear memory, bytes.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Guest { instance, .. } => instance.memory_bytes(),
            Self::Native(_) => 0,
        }
    }

    /// The time spent in guest code, in this instance and in those that it took the place of.
    pub fn guest_time(&self) -> Duration {
        match self {
            Self::Guest { instance, before, .. } => *before + instance.cpu(),
            Self::Native(_) => Duration::ZERO,
        }
    }

    /// How the guest was started; none for a native chain.
    pub fn guest_start(&self) -> Option<&GuestStart> {
        match self {
            Self::Guest { start, .. } => Some(start),
            Self::Native(_) => None,
        }
    }

    /// Rows for a `transform` or `process` head.
    pub async fn process(&mut self, input: Input<'_>) -> Result<Reply, Error> {
        forward!(self.process(input))
    }
    /// These slots now belong to these keys, with fresh state.
    pub async fn assign_slots(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<(), Error> {
        forward!(self.assign_slots(slots, keys))
    }
    /// Rows for a `window` head.
    pub async fn accumulate(&mut self, input: Input<'_>) -> Result<(), Error> {
        forward!(self.accumulate(input))
    }
    /// The results of panes.
    pub async fn emit(&mut self, panes: Panes<'_>) -> Result<Reply, Error> {
        forward!(self.emit(panes))
    }
    /// Merges `sources[i]` into `targets[i]`.
    pub async fn merge_slots(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<(), Error> {
        forward!(self.merge_slots(targets, sources))
    }
    /// The slots are free.
    pub async fn clear_slots(&mut self, slots: &[Slot]) -> Result<(), Error> {
        forward!(self.clear_slots(slots))
    }
    /// The state of these slots.
    pub async fn export_slots(&mut self, slots: &[Slot]) -> Result<States, Error> {
        forward!(self.export_slots(slots))
    }
    /// Merges states into slots.
    pub async fn import_slots(&mut self, slots: &[Slot], states: &States) -> Result<(), Error> {
        forward!(self.import_slots(slots, states))
    }
    /// Timers that are due.
    pub async fn timers_fired(&mut self, timers: DueTimers<'_>) -> Result<Reply, Error> {
        forward!(self.timers_fired(timers))
    }
}
