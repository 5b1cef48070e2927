//! Slots by key: those of the panes that a window is made of.

use hashbrown::HashTable;
use weir_types::call::Slot;

use super::{Entry, NO_SLOT, SlotTable};

/// The slots of some namespaces by key, as [`SlotTable::group_by_key`] finds them. Kept from one time to the next for its memory: windows have about as many
/// keys as those before them.
#[derive(Debug, Default)]
pub struct Grouping {
    /// where each group begins among the slots, and the last one ends
    starts: Vec<u32>,
    slots: Vec<Slot>,
    keys: HashTable<Grouped>,
    /// slots as they are found, with their groups
    members: Vec<(Slot, u32)>,
}

/// A key, by one slot that has it.
#[derive(Clone, Copy, Debug)]
struct Grouped {
    key: u64,
    slot: Slot,
    group: u32,
}

impl Grouping {
    /// The slots of each key.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = &[Slot]> {
        self.starts.windows(2).map(|bounds| &self.slots[bounds[0] as usize..bounds[1] as usize])
    }

    /// All slots, in the order of their groups.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

impl SlotTable {
    /// Groups the slots of these namespaces by key, those of a key in the order of `namespaces`. Groups come in the order in which their keys first appear.
    pub fn group_by_key(&self, namespaces: &[i64], grouping: &mut Grouping) {
        let Grouping { starts, slots, keys, members } = grouping;
        slots.clear();
        starts.clear();
        if let [only] = namespaces {
            slots.extend(self.slots_of(*only));
            starts.extend(0..=slots.len() as u32);
            return;
        }
        keys.clear();
        members.clear();
        // A counting sort: each group is counted two places on, so that its slots move its start to its end, where the next one starts.
        starts.extend([0, 0]);
        for slot in namespaces.iter().flat_map(|&n| self.slots_of(n)) {
            let key = self.keys[slot as usize];
            let same = |e: &Grouped| e.key == key && self.agree_beyond_key(e.slot, slot);
            let entry = keys.entry(Entry::hash(key), same, |e| Entry::hash(e.key));
            let group = entry.or_insert_with(|| {
                starts.push(0);
                Grouped { key, slot, group: starts.len() as u32 - 3 }
            });
            let group = group.get().group;
            starts[group as usize + 2] += 1;
            members.push((slot, group));
        }
        for i in 2..starts.len() {
            starts[i] += starts[i - 1];
        }
        slots.resize(members.len(), NO_SLOT);
        for &(slot, group) in &*members {
            let place = &mut starts[group as usize + 1];
            slots[*place as usize] = slot;
            *place += 1;
        }
        starts.pop();
    }
}
