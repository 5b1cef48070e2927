//! State in the host's memory: bounded by it, and gone with the process but for snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_types::{KeyGroup, KeyGroupRange};

use crate::allowance::{Allowance, Share};
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
    /// of what it may take with others; none = as much as there is
    share: Option<Share>,
}

impl MemoryBackend {
    /// One that takes no more memory, together with others, than is allowed.
    pub fn within(allowance: Arc<Allowance>) -> Self {
        Self { share: Some(Share::of(allowance)), ..Self::default() }
    }

    /// Tells its share how much it takes.
    fn tell(&mut self) -> Result<(), Error> {
        self.share.as_mut().map_or(Ok(()), |share| share.resize(self.bytes))
    }

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
        self.tell()
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
        self.tell()
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
        self.tell()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The memory backend keeps the contract, and counts no bytes once it is empty; within an allowance, too.
    #[test]
    fn conforms() {
        crate::conformance::check(&mut MemoryBackend::default());
        let allowance = Arc::new(Allowance::new(usize::MAX));
        crate::conformance::check(&mut MemoryBackend::within(Arc::clone(&allowance)));
        assert_eq!(allowance.taken(), 0);
    }

    /// Backends of one job take no more together than is allowed: the next entry is refused, and there is room again for what others have let go of.
    #[test]
    fn evicted_state_is_bounded() {
        const ENTRY: usize = 8 + 100 + ENTRY_OVERHEAD_BYTES;
        let allowance = Arc::new(Allowance::new(3 * ENTRY));
        let [mut one, mut other] = [(); 2].map(|()| MemoryBackend::within(Arc::clone(&allowance)));
        let put = |backend: &mut MemoryBackend, key: u64| {
            let key = key.to_be_bytes();
            backend.put(&mut std::iter::once((at(&key), &[0u8; 100][..])))
        };
        for key in 0..2 {
            put(&mut one, key).expect("there is room");
            put(&mut one, 0).expect("it takes the place of one of the same size");
        }
        put(&mut other, 0).expect("there is room for one more");
        assert_eq!(allowance.taken(), 3 * ENTRY);
        assert!(
            matches!(put(&mut other, 1), Err(Error::MemoryFull { taken, bytes_max }) if (taken, bytes_max) == (4 * ENTRY, 3 * ENTRY))
        );
        one.delete(&[at(&0u64.to_be_bytes()), at(&1u64.to_be_bytes())]).expect("it is memory");
        put(&mut other, 2).expect("there is room again");
        other.delete_all(KeyGroupRange { start: 0, end: 1 }, 0, None).expect("it is memory");
        assert_eq!(allowance.taken(), 0);
    }

    fn at(key: &[u8]) -> StateKey<'_> {
        StateKey { group: KeyGroup(0), operator: 0, namespace: 0, key }
    }
}
