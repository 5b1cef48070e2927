//! The slots of each namespace, as lists that are linked through arrays, and namespaces as small numbers.
//!
//! A namespace is known while it has slots, or entries in the backend. Its index stands for it in the hash table's entries.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use weir_types::call::Slot;

use super::NO_SLOT;
use super::filter::Filter;

#[derive(Debug)]
struct Namespace {
    id: i64,
    first: Slot,
    last: Slot,
    count: usize,
    /// entries in the backend: at most so many, unless the count is not sure
    evicted: u64,
    /// whether there may be some that were not counted
    is_unsure: bool,
    known: Known,
    /// While it is being found out by reading them all whose entries the backend has: the hashes of those that have come since.
    learning: Option<Vec<u64>>,
    /// the slot of the null key
    null: Slot,
}

impl Namespace {
    #[inline]
    fn may_have_entries(&self) -> bool {
        self.evicted > 0 || self.is_unsure
    }
}

/// What is known of whose entries the backend has.
#[derive(Debug)]
enum Known {
    /// nothing: each new key may have one
    Nothing,
    /// All of them. Those that were there when it was found out are in `then`, which knows them until that is done again; what is in there is never in `since`.
    All { then: Filter, since: Filter },
}

impl Default for Known {
    fn default() -> Self {
        Self::All { then: Filter::default(), since: Filter::default() }
    }
}

impl Known {
    #[inline]
    fn may_have(&self, hash: u64) -> bool {
        match self {
            Self::Nothing => true,
            Self::All { then, since } => since.may_have(hash) || then.may_have(hash),
        }
    }

    /// An entry has come, whose filter may take so many bytes.
    fn note(&mut self, hash: u64, bytes_max: usize) {
        let fits = match self {
            Self::Nothing => true,
            Self::All { then, since } => then.may_have(hash) || since.insert(hash, bytes_max.saturating_sub(then.bytes())),
        };
        if !fits {
            *self = Self::Nothing;
        }
    }

    /// An entry has gone.
    fn forget(&mut self, hash: u64) {
        if let Self::All { then, since } = self
            && !then.may_have(hash)
        {
            since.remove(hash);
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::All { then, since } => then.bytes() + since.bytes(),
        }
    }
}

/// Entries that come while it is being found out whose the others are, at most: it is given up if there are more.
const LEARNING_MAX: usize = 1 << 20;

/// The neighbours of a slot in the list of its namespace.
#[derive(Clone, Copy, Debug)]
struct Link {
    previous: Slot,
    next: Slot,
    namespace: u32,
}

/// The slots of each namespace.
#[derive(Debug, Default)]
pub(super) struct NamespaceLists {
    indexes: HashMap<i64, u32, RandomState>,
    namespaces: Vec<Namespace>,
    free: Vec<u32>,
    /// by slot
    links: Vec<Link>,
    /// what all filters take
    filter_bytes: usize,
    /// what they may take; none = any
    filter_bytes_max: Option<usize>,
}

impl NamespaceLists {
    pub(super) const BYTES_PER_SLOT: usize = size_of::<Link>();

    #[inline]
    pub(super) fn index(&self, namespace: i64) -> Option<u32> {
        self.indexes.get(&namespace).copied()
    }

    /// Appends a slot to the list of a namespace; returns the namespace's index, and whether the key with this hash may be among its evicted ones.
    pub(super) fn append(&mut self, namespace: i64, slot: Slot, hash: u64) -> (u32, bool) {
        let index = match self.index(namespace) {
            Some(index) => index,
            None => self.open(namespace),
        };
        let list = &mut self.namespaces[index as usize];
        let link = Link { previous: list.last, next: NO_SLOT, namespace: index };
        if slot as usize >= self.links.len() {
            self.links.resize(slot as usize + 1, link);
        }
        self.links[slot as usize] = link;
        match list.last {
            NO_SLOT => list.first = slot,
            last => self.links[last as usize].next = slot,
        }
        list.last = slot;
        list.count += 1;
        let is_away = list.may_have_entries() && list.known.may_have(hash);
        (index, is_away)
    }

    fn open(&mut self, id: i64) -> u32 {
        let known = Known::default();
        let (first, last, null) = (NO_SLOT, NO_SLOT, NO_SLOT);
        let namespace = Namespace { id, first, last, count: 0, evicted: 0, is_unsure: false, known, learning: None, null };
        let index = match self.free.pop() {
            Some(index) => {
                self.namespaces[index as usize] = namespace;
                index
            }
            None => {
                self.namespaces.push(namespace);
                // There are never more namespaces than slots and evictions in flight, which are counted in 32 bits.
                self.namespaces.len() as u32 - 1
            }
        };
        self.indexes.insert(id, index);
        index
    }

    /// Takes a slot out of its list.
    pub(super) fn unlink(&mut self, slot: Slot) {
        let Link { previous, next, namespace } = self.links[slot as usize];
        let list = &mut self.namespaces[namespace as usize];
        match previous {
            NO_SLOT => list.first = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NO_SLOT => list.last = previous,
            next => self.links[next as usize].previous = previous,
        }
        list.count -= 1;
        self.close_if_empty(namespace);
    }

    fn close_if_empty(&mut self, index: u32) {
        let namespace = &self.namespaces[index as usize];
        if namespace.count == 0 && !namespace.may_have_entries() {
            self.indexes.remove(&namespace.id);
            self.free.push(index);
        }
    }

    pub(super) fn slots(&self, namespace: i64) -> impl Iterator<Item = Slot> {
        let first = self.index(namespace).map_or(NO_SLOT, |index| self.namespaces[index as usize].first);
        let known = |slot: Slot| (slot != NO_SLOT).then_some(slot);
        std::iter::successors(known(first), move |&slot| known(self.links[slot as usize].next))
    }

    pub(super) fn index_of(&self, slot: Slot) -> u32 {
        self.links[slot as usize].namespace
    }

    pub(super) fn namespace(&self, slot: Slot) -> i64 {
        self.namespaces[self.index_of(slot) as usize].id
    }

    pub(super) fn count(&self, index: u32) -> usize {
        self.namespaces[index as usize].count
    }

    pub(super) fn null(&self, index: u32) -> Slot {
        self.namespaces[index as usize].null
    }

    /// Whether a null key has a slot anywhere.
    pub(super) fn any_null(&self) -> bool {
        self.namespaces.iter().any(|namespace| namespace.count > 0 && namespace.null != NO_SLOT)
    }

    pub(super) fn set_null(&mut self, index: u32, slot: Slot) {
        self.namespaces[index as usize].null = slot;
    }

    pub(super) fn evicted(&self, index: u32) -> u64 {
        self.namespaces[index as usize].evicted
    }

    /// Whether entries are there of which nothing is known.
    pub(super) fn knows_nothing(&self, index: u32) -> bool {
        matches!(self.namespaces[index as usize].known, Known::Nothing)
    }

    pub(super) fn count_evicted(&mut self, slot: Slot, hash: u64) {
        let index = self.index_of(slot) as usize;
        let others = self.filter_bytes - self.namespaces[index].known.bytes();
        let most = self.room_beside(others);
        let list = &mut self.namespaces[index];
        list.evicted += 1;
        list.known.note(hash, most);
        if let Some(since) = &mut list.learning {
            since.push(hash);
        }
        list.learning.take_if(|since| since.len() > LEARNING_MAX);
        self.filter_bytes = others + list.known.bytes();
    }

    /// It is being found out whose the entries of a namespace are, of which there are so many at least: by [`learned`](Self::learned) it is told. What is known until
    /// then, still holds. Returns how many bytes that may take; none if it is being found out, if there are no entries, or no room to know them all.
    pub(super) fn begin_learning(&mut self, namespace: i64, at_least: u64) -> Option<usize> {
        let index = self.index(namespace)?;
        let room = self.room_instead(index);
        let list = &mut self.namespaces[index as usize];
        let fits = at_least.saturating_mul(Filter::PRINT_BYTES) <= room as u64;
        if !list.may_have_entries() || !fits || list.learning.is_some() {
            return None;
        }
        list.learning = Some(vec![]);
        Some(room)
    }

    /// All entries that the backend had when that was begun, and still has, are in this filter, and no more than so many; none = it could not be found out.
    pub(super) fn learned(&mut self, namespace: i64, found: Option<(Filter, u64)>) {
        let Some(index) = self.index(namespace) else { return };
        let most = self.room_instead(index);
        let list = &mut self.namespaces[index as usize];
        let Some((since, (mut then, count))) = list.learning.take().zip(found) else { return };
        let fits = then.bytes() <= most && since.iter().all(|&hash| then.may_have(hash) || then.insert(hash, most));
        if !fits {
            return;
        }
        // Entries that have expired are not among them, and were counted until now. Those of slots are, and are not counted otherwise.
        let found = count + since.len() as u64;
        list.evicted = if std::mem::take(&mut list.is_unsure) { found } else { list.evicted.min(found) };
        match list.evicted {
            0 => self.forget_evicted(namespace),
            _ => self.set_known(index, Known::All { then, since: Filter::default() }),
        }
    }

    /// Counts entries of which it is not told whose they are.
    pub(super) fn add_evicted(&mut self, namespace: i64, count: u64, is_sure: bool) {
        if count > 0 || !is_sure {
            let index = self.index(namespace).unwrap_or_else(|| self.open(namespace));
            let list = &mut self.namespaces[index as usize];
            list.evicted += count;
            list.is_unsure |= !is_sure;
            list.learning = None;
            self.set_known(index, Known::Nothing);
        }
    }

    pub(super) fn count_restored(&mut self, slot: Slot, hash: u64) {
        let index = self.index_of(slot);
        let list = &mut self.namespaces[index as usize];
        list.evicted = match list.is_unsure {
            true => list.evicted.saturating_sub(1),
            false => list.evicted.checked_sub(1).expect("no more entries are restored than were evicted"),
        };
        if !list.may_have_entries() {
            list.learning = None;
            self.set_known(index, Known::default());
        } else {
            list.known.forget(hash);
        }
    }

    pub(super) fn forget_evicted(&mut self, namespace: i64) {
        if let Some(index) = self.index(namespace) {
            let list = &mut self.namespaces[index as usize];
            (list.evicted, list.is_unsure, list.learning) = (0, false, None);
            self.set_known(index, Known::default());
            self.close_if_empty(index);
        }
    }

    /// What a filter may take beside others that take so many bytes.
    fn room_beside(&self, others: usize) -> usize {
        self.filter_bytes_max.map_or(usize::MAX, |max| max.saturating_sub(others))
    }

    /// What a filter may take in the place of a namespace's.
    fn room_instead(&self, index: u32) -> usize {
        self.room_beside(self.filter_bytes - self.namespaces[index as usize].known.bytes())
    }

    fn set_known(&mut self, index: u32, known: Known) {
        let new = known.bytes();
        let old = std::mem::replace(&mut self.namespaces[index as usize].known, known);
        self.filter_bytes = self.filter_bytes - old.bytes() + new;
    }

    pub(super) fn limit_filters(&mut self, bytes: usize) {
        self.filter_bytes_max = Some(bytes);
    }

    pub(super) fn filter_bytes(&self) -> usize {
        self.filter_bytes
    }

    pub(super) fn bytes(&self) -> usize {
        self.indexes.capacity() * 17
            + self.namespaces.capacity() * size_of::<Namespace>()
            + self.free.capacity() * 4
            + self.links.capacity() * size_of::<Link>()
            + self.filter_bytes
    }
}
