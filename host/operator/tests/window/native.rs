//! Accumulators that keep the ids of their rows, so that a result tells exactly which rows it is made of; they check that the host keeps the rules of
//! the boundary.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{ArrayRef, Int64Array, StringArray};
use weir_operator::NativeChain;
use weir_sandbox::GuestError;
use weir_types::call::{Input, Origins, Output, Panes, Reply, Slot, States};

/// A hundredth of the memory that such a chain may take, bytes.
const PERCENT: usize = 10 << 20;

/// The key of each slot in use, and the ids of its rows.
#[derive(Default)]
pub struct RowIds {
    pub slots: HashMap<Slot, (Option<i64>, Vec<u32>)>,
    /// memory that is lost with every batch, as some guests' is, in percent of the limit
    pub leak: usize,
    /// bytes
    pub leaked: usize,
}

impl RowIds {
    fn ids(&mut self, slot: Slot) -> &mut Vec<u32> {
        &mut self.slots.get_mut(&slot).unwrap_or_else(|| panic!("slot {slot} was not assigned")).1
    }
}

impl NativeChain for RowIds {
    fn assign_slots(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<(), GuestError> {
        for (i, &slot) in slots.iter().enumerate() {
            let key = keys.first().map(|k| k.as_primitive::<Int64Type>().value(i));
            assert!(self.slots.insert(slot, (key, vec![])).is_none(), "slot {slot} was assigned twice");
        }
        Ok(())
    }

    fn accumulate(&mut self, input: Input<'_>) -> Result<(), GuestError> {
        let slots = input.slots.expect("rows of windows have slots");
        let ids = input.columns[0].as_primitive::<UInt32Type>();
        assert_eq!((slots.len(), ids.values().len()), (input.rows, input.rows));
        slots.iter().zip(ids.values()).for_each(|(&slot, &id)| self.ids(slot).push(id));
        self.leaked += self.leak * PERCENT;
        Ok(())
    }

    fn emit(&mut self, panes: Panes<'_>) -> Result<Reply, GuestError> {
        let (mut keys, mut texts) = (vec![], vec![]);
        for group in panes.groups.windows(2) {
            let slots = &panes.slots[group[0] as usize..group[1] as usize];
            let (key, _) = self.slots[&slots[0]];
            assert!(slots.iter().all(|slot| self.slots[slot].0 == key), "a pane is of one key");
            let mut ids: Vec<u32> = slots.iter().flat_map(|slot| self.slots[slot].1.iter().copied()).collect();
            ids.sort_unstable();
            keys.push(key);
            texts.push(ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" "));
        }
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(keys)),
            Arc::new(Int64Array::from(panes.starts.to_vec())),
            Arc::new(Int64Array::from(panes.ends.to_vec())),
            Arc::new(StringArray::from(texts)),
        ];
        let output = Output { port: 0, rows: panes.starts.len(), origins: Origins::Identity, times: None, columns };
        Ok(Reply { outputs: vec![output], ..Reply::default() })
    }

    fn merge_slots(&mut self, targets: &[Slot], sources: &[Slot]) -> Result<(), GuestError> {
        for (&target, &source) in targets.iter().zip(sources) {
            assert_eq!(self.slots[&target].0, self.slots[&source].0, "only slots of one key are merged");
            let ids = self.ids(source).clone();
            self.ids(target).extend(ids);
        }
        Ok(())
    }

    fn clear_slots(&mut self, slots: &[Slot]) -> Result<(), GuestError> {
        for slot in slots {
            assert!(self.slots.remove(slot).is_some(), "slot {slot} was cleared twice");
        }
        Ok(())
    }

    fn export_slots(&mut self, slots: &[Slot]) -> Result<States, GuestError> {
        let mut states = States::none();
        for &slot in slots {
            states.bytes.extend(self.ids(slot).iter().flat_map(|id| id.to_le_bytes()));
            states.offsets.push(states.bytes.len() as u32);
        }
        Ok(states)
    }

    fn import_slots(&mut self, slots: &[Slot], states: &States) -> Result<(), GuestError> {
        assert_eq!(states.offsets.len(), slots.len() + 1);
        for (&slot, range) in slots.iter().zip(states.offsets.windows(2)) {
            let bytes = &states.bytes[range[0] as usize..range[1] as usize];
            let ids = bytes.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes")));
            self.ids(slot).extend(ids);
        }
        Ok(())
    }

    fn renew(&mut self) -> Result<(), GuestError> {
        self.slots.clear();
        self.leaked = 0;
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.leaked
    }

    fn memory_bytes_max(&self) -> usize {
        100 * PERCENT
    }
}
