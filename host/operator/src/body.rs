//! The user's part of a chain: a guest, or a native stand-in of the same shape.

use std::time::Duration;

use arrow_array::ArrayRef;
use weir_sandbox::{ComponentHash, GuestError, GuestErrorKind, Instance};
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
    /// A new instance takes the place of this one: all state is gone.
    fn renew(&mut self) -> Result<(), GuestError> {
        Ok(())
    }
    /// What stands for a guest's linear memory, bytes.
    fn memory_bytes(&self) -> usize {
        0
    }
    /// The limit on that.
    fn memory_bytes_max(&self) -> usize {
        usize::MAX
    }
}

/// Whether `bytes` are at least so many percent of `of`.
fn is_share(bytes: usize, of: usize, percent: usize) -> bool {
    bytes as u128 * 100 >= of as u128 * percent as u128
}

fn not_offered(function: &str) -> GuestError {
    GuestError::new(GuestErrorKind::Contract, format!("this chain has no `{function}`"))
}

/// The user's part of a chain.
pub struct Body {
    user: User,
    past: Past,
}

enum User {
    /// a chain of a component: the subtask's instance, and how it was started
    Guest(Box<Instance>, GuestStart),
    Native(Box<dyn NativeChain>),
}

/// The instances until now.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    /// how many were replaced
    renewals: u64,
    /// the CPU time that their code took
    guest_time: Duration,
    /// the memory of the present one when it had taken over, bytes
    settled: usize,
}

/// The share of its memory limit from which on a guest is replaced between batches. Some guests' memory only grows (Python's).
const RENEWAL_PERCENT: usize = 80;

/// By what share of the limit its memory must have grown since it was last replaced. Where little grew, most is live, and replacing it again
/// would move all state for nothing.
const GROWTH_PERCENT: usize = 10;

/// Forwards a call to the guest (awaiting it) or to the native chain.
macro_rules! forward {
    ($self:ident . $function:ident ( $($argument:expr),* )) => {
        Ok(match &mut $self.user {
            User::Guest(instance, start) => instance.$function(start.chain, $($argument),*).await?,
            User::Native(native) => native.$function($($argument),*)?,
        })
    };
}

impl Body {
    /// Starts a guest.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(start: GuestStart) -> Result<Self, GuestError> {
        Ok(Self { user: User::Guest(start.start().await?, start), past: Past::default() })
    }

    /// Native code.
    pub fn native(chain: Box<dyn NativeChain>) -> Self {
        Self { user: User::Native(chain), past: Past::default() }
    }

    /// Puts a new instance in the place of the guest's. What its slots held is gone: export it before.
    ///
    /// # Errors
    /// If the new instance does not start.
    pub async fn renew(&mut self) -> Result<(), GuestError> {
        match &mut self.user {
            User::Guest(instance, start) => {
                let new = start.start().await?;
                self.past.guest_time += instance.cpu();
                *instance = new;
            }
            User::Native(native) => native.renew()?,
        }
        self.past.renewals += 1;
        self.past.settled = self.memory_bytes();
        Ok(())
    }

    /// Notes that a new instance has taken over the old one's state. Returns whether its memory is near to its limit even so.
    pub fn settle(&mut self) -> bool {
        self.past.settled = self.memory_bytes();
        self.nears_limit()
    }

    /// Whether the guest's memory is near to its limit.
    pub fn nears_limit(&self) -> bool {
        is_share(self.memory_bytes(), self.memory_bytes_max(), RENEWAL_PERCENT)
    }

    /// Whether half of the memory that the guest may have is taken.
    pub fn is_half_full(&self) -> bool {
        is_share(self.memory_bytes(), self.memory_bytes_max(), 50)
    }

    /// Whether the guest's memory has grown so near to its limit that its instance should be replaced before it meets it.
    pub fn wants_renewal(&self) -> bool {
        let growth = self.memory_bytes().saturating_sub(self.past.settled);
        self.nears_limit() && is_share(growth, self.memory_bytes_max(), GROWTH_PERCENT)
    }

    /// How many instances were replaced.
    pub fn renewals(&self) -> u64 {
        self.past.renewals
    }

    /// Lets calls run only as long as those may that look for a failing row, or again as long as any may.
    pub fn hurry(&mut self, hurries: bool) {
        if let User::Guest(instance, start) = &mut self.user {
            instance.set_call_deadline(start.call_deadline(hurries));
        }
    }

    /// The guest's linear memory, bytes.
    pub fn memory_bytes(&self) -> usize {
        match &self.user {
            User::Guest(instance, _) => instance.memory_bytes(),
            User::Native(native) => native.memory_bytes(),
        }
    }

    /// The limit on that.
    pub fn memory_bytes_max(&self) -> usize {
        match &self.user {
            User::Guest(instance, _) => instance.memory_bytes_max(),
            User::Native(native) => native.memory_bytes_max(),
        }
    }

    /// The CPU time of guest code.
    pub fn guest_time(&self) -> Duration {
        match &self.user {
            User::Guest(instance, _) => self.past.guest_time + instance.cpu(),
            User::Native(_) => Duration::ZERO,
        }
    }

    /// How the guest was started; none for a native chain.
    pub fn guest_start(&self) -> Option<&GuestStart> {
        match &self.user {
            User::Guest(_, start) => Some(start),
            User::Native(_) => None,
        }
    }

    /// What its code is known by: the component, and the arguments that it was given. All native chains are of one code.
    pub fn code(&self) -> String {
        self.guest_start().map_or_else(String::new, |GuestStart { component, args, .. }| {
            ComponentHash::of(format!("{} {args:?}", component.hash()).as_bytes()).to_string()
        })
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
