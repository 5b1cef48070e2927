//! State in the host's memory: bounded by it, and gone with the process but for snapshots.

use std::collections::{BTreeMap, BTreeSet};

use weir_types::graph::TimeDomain;
use weir_types::{EventTime, KeyGroup, KeyGroupRange};

use crate::{Clocks, Error, StateBackend, StateKey, expiry};

/// What the node of an ordered map costs beside its bytes, roughly.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// A group's, operator's and namespace's entries.
type Entries = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Where an operator's entry is: its group, namespace and key.
type Place = (KeyGroup, i64, Box<[u8]>);

/// A [`StateBackend`] in memory.
#[derive(Debug, Default)]
pub struct MemoryBackend {
    spaces: BTreeMap<(KeyGroup, u32, i64), Entries>,
    bytes: usize,
    /// what will expire; none = nothing does
    expiring: Option<Expiring>,
}

/// The entries of an operator that expire.
#[derive(Debug)]
struct Expiring {
    operator: u32,
    clocks: Clocks,
    /// by clock, and by when all of an entry has expired
    places: [BTreeSet<(EventTime, Place)>; 2],
}

const DOMAINS: [TimeDomain; 2] = [TimeDomain::Event, TimeDomain::Processing];

impl Expiring {
    /// The places of entries that expire by the same clock as one with this value, and when it does; none if it does not.
    fn places_of(&mut self, at: &StateKey<'_>, value: &[u8]) -> Option<(&mut BTreeSet<(EventTime, Place)>, (EventTime, Place))> {
        let expiry = expiry::decode(value).and_then(|(expiry, _)| expiry).filter(|_| at.operator == self.operator)?;
        let place = (expiry.last, (at.group, at.namespace, at.key.into()));
        Some((&mut self.places[usize::from(expiry.domain == TimeDomain::Processing)], place))
    }

    /// An entry has come.
    fn add(&mut self, at: &StateKey<'_>, value: &[u8]) {
        if let Some((places, place)) = self.places_of(at, value) {
            places.insert(place);
        }
    }

    /// An entry has gone.
    fn remove(&mut self, at: &StateKey<'_>, value: &[u8]) {
        if let Some((places, place)) = self.places_of(at, value) {
            places.remove(&place);
        }
    }

    /// Takes out the place of an entry that has expired.
    fn pop(&mut self) -> Option<Place> {
        let Self { clocks, places, .. } = self;
        let due = |(domain, places): (_, &mut BTreeSet<_>)| match places.first() {
            Some((last, _)) if *last <= clocks.of(domain) => places.pop_first().map(|(_, place)| place),
            _ => None,
        };
        DOMAINS.into_iter().zip(places).find_map(due)
    }
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

    /// Takes an entry out.
    fn remove(&mut self, at: &StateKey<'_>) -> Option<Box<[u8]>> {
        let place = (at.group, at.operator, at.namespace);
        let space = self.spaces.get_mut(&place)?;
        let old = space.remove(at.key);
        if space.is_empty() {
            self.spaces.remove(&place);
        }
        self.bytes -= old.as_ref().map_or(0, |old| size(at.key, old));
        old
    }

    /// Removes what has expired.
    fn drop_expired(&mut self) {
        while let Some(expiring) = &mut self.expiring
            && let Some((group, namespace, key)) = expiring.pop()
        {
            let operator = expiring.operator;
            self.remove(&StateKey { group, operator, namespace, key: &key });
        }
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
                self.expiring.iter_mut().for_each(|expiring| expiring.remove(&at, &old));
            }
            self.expiring.iter_mut().for_each(|expiring| expiring.add(&at, value));
        }
        self.drop_expired();
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
            if let Some(old) = self.remove(at) {
                self.expiring.iter_mut().for_each(|expiring| expiring.remove(at, &old));
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
            if let Some(expiring) = &mut self.expiring {
                let (group, operator, namespace) = place;
                space.iter().for_each(|(key, old)| expiring.remove(&StateKey { group, operator, namespace, key }, old));
            }
        }
        Ok(())
    }

    fn expire(&mut self, operator: u32, clocks: Clocks) {
        match &mut self.expiring {
            Some(expiring) if expiring.operator == operator => expiring.clocks = clocks,
            expiring => {
                let expiring = expiring.insert(Expiring { operator, clocks, places: Default::default() });
                for (&(group, operator, namespace), space) in &self.spaces {
                    space.iter().for_each(|(key, value)| expiring.add(&StateKey { group, operator, namespace, key }, value));
                }
            }
        }
        self.drop_expired();
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
