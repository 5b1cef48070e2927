//! State in the host's memory: bounded by it, and gone with the process but for snapshots.

use std::collections::BTreeMap;

use weir_types::{KeyGroup, KeyGroupRange};

use crate::{Error, StateBackend, StateKey};

/// What the node of an ordered map costs beside its bytes, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A group's, operator's and namespace's entries.
type Entries = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// A [`StateBackend`] in memory.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    spaces: BTreeMap<(KeyGroup, u32, i64), Entries>,
    bytes: usize,
}

impl MemoryBackend {
    fn in_range(groups: KeyGroupRange, operator: u32, namespace: Option<i64>) -> impl Fn(&(KeyGroup, u32, i64)) -> bool {
        move |&(g, o, n)| {
            groups.start <= g.0 && g.0 < groups.end && o == operator && namespace.is_none_or(|namespace| namespace == n)
        }
    }

    fn in_groups(&self, groups: KeyGroupRange) -> impl Iterator<Item = (&(KeyGroup, u32, i64), &Entries)> {
        let end = groups.end.max(groups.start);
        self.spaces.range((KeyGroup(groups.start), 0, i64::MIN)..(KeyGroup(end), 0, i64::MIN))
    }
}

fn size(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + ENTRY_OVERHEAD_BYTES
}

impl StateBackend for MemoryBackend {
    fn put(&mut self, entries: &mut dyn Iterator<Item = (StateKey<'_>, &[u8])>) -> Result<(), Error> {
        for (at, value) in entries {
            let space = self.spaces.entry((at.group, at.operator, at.namespace)).or_default();
            self.bytes += size(at.key, value);
            if let Some(old) = space.insert(at.key.into(), value.into()) {
                self.bytes -= size(at.key, &old);
            }
        }
        Ok(())
    }

    fn get(&mut self, keys: &[StateKey<'_>], found: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        for (index, at) in keys.iter().enumerate() {
            if let Some(value) = self.spaces.get(&(at.group, at.operator, at.namespace)).and_then(|s| s.get(at.key)) {
                found(index, value);
            }
        }
        Ok(())
    }

    fn delete(&mut self, keys: &[StateKey<'_>]) -> Result<(), Error> {
        for at in keys {
            let place = (at.group, at.operator, at.namespace);
            let Some(space) = self.spaces.get_mut(&place) else { continue };
            if let Some(old) = space.remove(at.key) {
                self.bytes -= size(at.key, &old);
            }
            if space.is_empty() {
                self.spaces.remove(&place);
            }
        }
        Ok(())
    }

    fn scan(
        &mut self,
        groups: KeyGroupRange,
        operator: u32,
        namespace: Option<i64>,
        each: &mut dyn FnMut(StateKey<'_>, &[u8]),
    ) -> Result<(), Error> {
        let wanted = Self::in_range(groups, operator, namespace);
        for (place, space) in self.in_groups(groups).filter(|(place, _)| wanted(place)) {
            let &(group, operator, namespace) = place;
            space.iter().for_each(|(key, value)| each(StateKey { group, operator, namespace, key }, value));
        }
        Ok(())
    }

    fn delete_all(&mut self, groups: KeyGroupRange, operator: u32, namespace: Option<i64>) -> Result<(), Error> {
        let wanted = Self::in_range(groups, operator, namespace);
        let places: Vec<_> = self.in_groups(groups).map(|(place, _)| *place).filter(|place| wanted(place)).collect();
        for place in places {
            let space = self.spaces.remove(&place).unwrap_or_default();
            self.bytes -= space.iter().map(|(key, value)| size(key, value)).sum::<usize>();
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory backend keeps the contract, and counts no bytes once it is empty.
    #[test]
    fn conforms() {
        crate::conformance::check(&mut MemoryBackend::default());
    }
}
