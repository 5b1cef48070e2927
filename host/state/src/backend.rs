//! Where the bytes of state are kept that is not in a slot.

use weir_types::{KeyGroup, KeyGroupRange};

use crate::rocks::{KeyScan, Stats};
use crate::{Checkpointing, Clocks, Error};

/// What names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey<'a> {
    /// the key's group: what a rescale moves by
    pub group: KeyGroup,
    /// the number that the subtask's snapshot gives to the operator's id
    pub operator: u32,
    /// start of a window or slice, number of a session; 0 where there is none
    pub namespace: i64,
    /// the key
    pub key: &'a [u8],
}

/// Holds entries of bytes by [`StateKey`].
///
/// The contract, which the `conformance` module checks:
/// - Calls take batches: an implementation on disk turns each into one operation. Of several entries with one key in a batch the last one holds.
/// - Entries are ordered as `StateKey` is: by group, operator, namespace (signed), key (as bytes). Scans go in this order.
/// - A backend belongs to one subtask and is used by one thread at a time. What a call has changed, the next call sees.
/// - Any bytes are allowed in keys and values, also none.
/// - An error leaves each entry of the call either as it was or as it should be.
pub trait StateBackend: Send {
    /// Writes entries, over those that are there.
    fn put(&mut self, entries: &mut dyn Iterator<Item = (StateKey<'_>, &[u8])>) -> Result<(), Error>;

    /// Calls `found` with the index and the value of each key that is there, in the order of `keys`.
    fn get(&mut self, keys: &[StateKey<'_>], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error>;

    /// Removes entries; those that are not there are passed over.
    fn delete(&mut self, keys: &[StateKey<'_>]) -> Result<(), Error>;

    /// Calls `each` with the entries of an operator in these groups, of one namespace or of all, in order.
    fn scan(
        &mut self,
        groups: KeyGroupRange,
        operator: u32,
        namespace: Option<i64>,
        each: &mut dyn FnMut(StateKey<'_>, &[u8]),
    ) -> Result<(), Error>;

    /// Removes all entries that [`scan`](Self::scan) would show.
    fn delete_all(&mut self, groups: KeyGroupRange, operator: u32, namespace: Option<i64>) -> Result<(), Error>;

    /// From now on, values of this operator begin with their [expiry](crate::expiry), and those that have expired by these clocks are gone: gets and scans do not
    /// show them, and the backend gives their room back when it suits it. Clocks do not go back; of one operator alone values may expire. A backend that keeps no
    /// copies need not do so, and is given no values that expire.
    fn expire(&mut self, _operator: u32, _clocks: Clocks) {}

    /// Room taken, in bytes: an estimate for metrics and limits.
    fn bytes(&self) -> usize;

    /// Figures of its database, for metrics; none if it has none, or that does not tell.
    fn database(&self) -> Option<Stats> {
        None
    }

    /// Whether checkpoints of the backend can be made from what has changed since the last one. Then it keeps the entries of what was brought back into
    /// slots, and [`begin_checkpoint`](Self::begin_checkpoint) gives something. If not, snapshots have all state, and an entry is either in a slot or in
    /// the backend.
    fn keeps_copies(&self) -> bool {
        false
    }

    /// Whether it has the changes of all checkpoints that were begun: of what has not changed since the last one, it has what slots have.
    fn has_changes(&self) -> Result<bool, Error> {
        Ok(self.keeps_copies())
    }

    /// Whether anything was written since a checkpoint began, and waits for it to be completed. As long as it does, calls that go through many entries wait, too:
    /// [`scan`](Self::scan) and [`delete_all`](Self::delete_all). Who is to give the checkpoint what has changed does that before.
    fn holds_any(&self) -> bool {
        false
    }

    /// Whether that takes all the memory that there is for it: it is time to give the checkpoint what has changed.
    fn holds_much(&self) -> bool {
        false
    }

    /// Reads the keys of entries on another thread, while the backend goes on. None if it cannot, or not now.
    fn keys(&self, _groups: KeyGroupRange, _operator: u32, _namespace: i64) -> Option<KeyScan> {
        None
    }

    /// Begins a checkpoint of all that was written until now. It is completed on another thread, with what has changed in slots; what is written
    /// from now on waits for that. None if the backend keeps no copies.
    fn begin_checkpoint(&mut self) -> Result<Option<Checkpointing>, Error> {
        Ok(None)
    }
}
