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
    /// entries in the backend
    evicted: u64,
    /// of which keys they are; none if that is not known
    filter: Option<Filter>,
    /// the slot of the null key
    null: Slot,
}

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
        let is_away = list.evicted > 0 && list.filter.as_ref().is_none_or(|filter| filter.may_have(hash));
        (index, is_away)
    }

    fn open(&mut self, id: i64) -> u32 {
        let namespace =
            Namespace { id, first: NO_SLOT, last: NO_SLOT, count: 0, evicted: 0, filter: Some(Filter::default()), null: NO_SLOT };
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
        if namespace.count == 0 && namespace.evicted == 0 {
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

    pub(super) fn count_evicted(&mut self, slot: Slot, hash: u64) {
        let list = &mut self.namespaces[self.links[slot as usize].namespace as usize];
        list.evicted += 1;
        let Some(filter) = &mut list.filter else { return };
        let others = self.filter_bytes - filter.bytes();
        let most = self.filter_bytes_max.map_or(usize::MAX, |max| max.saturating_sub(others));
        if !filter.insert(hash, most) {
            list.filter = None;
        }
        self.filter_bytes = others + list.filter.as_ref().map_or(0, Filter::bytes);
    }

    /// Counts entries of which it is not told whose they are.
    pub(super) fn add_evicted(&mut self, namespace: i64, count: u64) {
        if count > 0 {
            let index = self.index(namespace).unwrap_or_else(|| self.open(namespace));
            self.namespaces[index as usize].evicted += count;
            self.set_filter(index, None);
        }
    }

    pub(super) fn count_restored(&mut self, slot: Slot, hash: u64) {
        let index = self.index_of(slot);
        let list = &mut self.namespaces[index as usize];
        list.evicted = list.evicted.checked_sub(1).expect("no more entries are restored than were evicted");
        if list.evicted == 0 {
            self.set_filter(index, Some(Filter::default()));
        } else if let Some(filter) = &mut list.filter {
            filter.remove(hash);
        }
    }

    pub(super) fn forget_evicted(&mut self, namespace: i64) {
        if let Some(index) = self.index(namespace) {
            self.namespaces[index as usize].evicted = 0;
            self.set_filter(index, Some(Filter::default()));
            self.close_if_empty(index);
        }
    }

    fn set_filter(&mut self, index: u32, filter: Option<Filter>) {
        let old = std::mem::replace(&mut self.namespaces[index as usize].filter, filter);
        self.filter_bytes -= old.as_ref().map_or(0, Filter::bytes);
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
