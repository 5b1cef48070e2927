//! Going through an operator's entries, group by group.

use rocksdb::{DB, DBRawIterator, ReadOptions};
use weir_types::KeyGroupRange;

use super::encoding;

/// A walk through the entries of an operator in a range of groups, of one namespace or of all.
///
/// They lie in as many places as there are groups. A walk asks only for groups that may have some: where the iterator stands after one group says
/// which is the next one with any entries at all.
pub(super) struct Walk<'a> {
    iterator: DBRawIterator<'a>,
    operator: u32,
    namespace: Option<i64>,
    /// the groups that are left
    groups: KeyGroupRange,
    /// what names in the group begin with that it is in
    prefix: Vec<u8>,
}

impl<'a> Walk<'a> {
    pub fn new(db: &'a DB, groups: KeyGroupRange, operator: u32, namespace: Option<i64>) -> Self {
        let mut options = ReadOptions::default();
        // What is scanned is taken or dropped then: it must not displace what gets want. Reading ahead is left to the library, which does so from the
        // third block on: most groups of a window are smaller than any fixed amount would be.
        options.fill_cache(false);
        // The library stops there, instead of stepping over tombstones that nobody asked for.
        options.set_iterate_upper_bound(groups.end.to_be_bytes());
        Self { iterator: db.raw_iterator_opt(options), operator, namespace, groups, prefix: vec![] }
    }

    /// Goes on to the next group that has entries; false if there is none.
    pub fn next_group(&mut self) -> bool {
        while self.groups.start < self.groups.end {
            self.prefix = encoding::prefix(self.groups.start, self.operator, self.namespace);
            self.iterator.seek(&self.prefix);
            let Some(group) = self.iterator.key().and_then(encoding::group) else { break };
            self.groups.start = group.max(self.groups.start + 1);
            if self.entry().is_some() {
                return true;
            }
        }
        false
    }

    /// What the names of the group's entries begin with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The entry that it has come to; none at the end of the group.
    pub fn entry(&self) -> Option<(&[u8], &[u8])> {
        self.iterator.item().filter(|(key, _)| key.starts_with(&self.prefix))
    }

    /// Goes on to the next entry.
    pub fn advance(&mut self) {
        self.iterator.next();
    }

    /// Why it ended early, if it did.
    pub fn end(self) -> Result<(), rocksdb::Error> {
        self.iterator.status()
    }
}
