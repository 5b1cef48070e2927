//! Keys of all shapes: columns of text, null, several columns, none.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use weir_operator::chain::ChainOperator;
use weir_operator::emission::Emitted;
use weir_operator::{Context, CopyTime, NativeChain, Progress};
use weir_plan::job::{ChainNode, OnError, Stage};
use weir_sandbox::GuestError;
use weir_types::call::{DueTimers, Input, Origins, Output, Reply, Slot, States, Timer};
use weir_types::graph::{self, Chain, ColumnOrigin, Head, OperatorInfo, Partitioning, TimeDomain};
use weir_types::{Batch, KeyGroupRange, Watermark};

use crate::harness::{MAX_PARALLELISM, chain_of, check_snapshot, restore, run};

/// Counts the rows of each key, and tells its columns by text. Of every third row there is nothing left but a timer.
#[derive(Default)]
struct Told {
    slots: HashMap<Slot, (String, u64)>,
}

fn text_of(keys: &[ArrayRef], row: usize) -> String {
    let texts: Vec<_> = keys.iter().map(|key| format!("{:?}", key.slice(row, 1))).collect();
    texts.join(" ").split_whitespace().collect()
}

impl Told {
    fn reply(&self, slots: &[Slot], timers: Vec<Timer>) -> Reply {
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(slots.iter().map(|slot| &self.slots[slot].0)));
        let counts: ArrayRef = Arc::new(UInt64Array::from_iter_values(slots.iter().map(|slot| self.slots[slot].1)));
        let output = Output { port: 0, rows: slots.len(), origins: Origins::Identity, times: None, columns: vec![texts, counts] };
        Reply { outputs: vec![output], timers, ..Reply::default() }
    }
}

impl NativeChain for Told {
    fn assign_slots(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<(), GuestError> {
        for (row, &slot) in slots.iter().enumerate() {
            assert!(self.slots.insert(slot, (text_of(keys, row), 0)).is_none(), "slot {slot} was assigned twice");
        }
        Ok(())
    }

    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        let slots = input.slots.expect("rows have slots");
        let mut timers = vec![];
        for &slot in slots {
            let count = &mut self.slots.get_mut(&slot).expect("slots are assigned").1;
            *count = (*count + 1) % 3;
            timers.push(Timer { slot, domain: TimeDomain::Event, time: 7, delete: *count == 2, cleanup: false });
        }
        Ok(self.reply(slots, timers))
    }

    fn timers_fired(&mut self, due: DueTimers<'_>) -> Result<Reply, GuestError> {
        Ok(self.reply(due.slots, vec![]))
    }

    fn clear_slots(&mut self, slots: &[Slot]) -> Result<(), GuestError> {
        slots.iter().for_each(|slot| assert!(self.slots.remove(slot).is_some(), "slot {slot} was cleared twice"));
        Ok(())
    }

    fn export_slots(&mut self, slots: &[Slot]) -> Result<States, GuestError> {
        let mut states = States::none();
        for slot in slots {
            states.bytes.extend((self.slots[slot].1 > 0).then_some(self.slots[slot].1 as u8));
            states.offsets.push(states.bytes.len() as u32);
        }
        Ok(states)
    }

    fn import_slots(&mut self, slots: &[Slot], states: &States) -> Result<(), GuestError> {
        for (slot, range) in slots.iter().zip(states.offsets.windows(2)) {
            let state = &states.bytes[range[0] as usize..range[1] as usize];
            self.slots.get_mut(slot).expect("slots are assigned").1 = state.first().map_or(0, |&count| u64::from(count));
        }
        Ok(())
    }
}

/// Key columns of some shapes, with 60 rows of some 20 keys.
fn shapes() -> Vec<Vec<ArrayRef>> {
    let numbers = || (0..60i64).map(|i| i * 7 % 20);
    let text: ArrayRef = Arc::new(numbers().map(|n| (n > 0).then(|| "é".repeat(n as usize - 1))).collect::<StringArray>());
    let bytes: ArrayRef = Arc::new(numbers().map(|n| (n > 0).then(|| vec![n as u8; n as usize - 1])).collect::<BinaryArray>());
    let long: ArrayRef = Arc::new(numbers().map(|n| (n > 0).then_some(n - 10)).collect::<Int64Array>());
    let double: ArrayRef = Arc::new(numbers().map(|n| (n > 3).then_some(n as f64)).collect::<Float64Array>());
    let flag: ArrayRef = Arc::new(numbers().map(|n| (n > 3).then_some(n % 2 == 0)).collect::<BooleanArray>());
    let several = vec![text.clone(), flag.clone(), long.clone(), bytes.clone()];
    vec![vec![text], vec![bytes], vec![long], vec![double.clone()], several, vec![flag, double], vec![]]
}

struct Operator {
    node: ChainNode,
    chain: ChainOperator,
    context: Context,
    out: Vec<Emitted>,
}

impl Operator {
    fn new(keys: &[ArrayRef], slots_max: Option<usize>) -> Self {
        let field = |(i, key): (usize, &ArrayRef)| Field::new(format!("key-{i}"), key.data_type().clone(), true);
        let schema = Arc::new(Schema::new(keys.iter().enumerate().map(field).collect::<Vec<_>>()));
        let out = Schema::new(vec![Field::new("key", DataType::Utf8, false), Field::new("count", DataType::UInt64, false)]);
        let key = (0..keys.len()).collect();
        let chain = Chain {
            operators: vec![OperatorInfo { id: "told".into(), kind: "process".into() }],
            head: Head::Process,
            inputs: vec![graph::Input { from: vec![], partitioning: Partitioning::Hash, key, columns: vec![], times: false }],
            outputs: vec![graph::Output { name: String::new(), schema: Arc::new(out), columns: vec![ColumnOrigin::Computed; 2] }],
            event_time: None,
            parallelism: None,
            state_schema: None,
        };
        let node = ChainNode {
            component: 0,
            index: 1,
            chain,
            inputs: vec![schema.clone()],
            stage: Stage::Complete,
            on_error: OnError::default(),
            dead_letters: None,
        };
        let chain = chain_of(&node, Box::<Told>::default(), slots_max, None);
        Self { node, chain, context: Context::new("told".into(), vec![schema], OnError::default()), out: vec![] }
    }

    fn rows(&mut self, keys: &[ArrayRef], from: usize, rows: usize) {
        let batch = Batch::new(rows, keys.iter().map(|key| key.slice(from, rows)).collect(), None);
        run(self.chain.on_batch(0, &batch, &mut self.context, &mut self.out)).expect("counting does not fail");
    }

    fn restart(&mut self, slots_max: Option<usize>) {
        let snapshot = run(self.chain.snapshot(&mut self.context, CopyTime::Barrier)).expect("counting does not fail");
        let mut snapshot = snapshot.expect("a process function has state");
        check_snapshot(&mut snapshot);
        self.chain = chain_of(&self.node, Box::<Told>::default(), slots_max, None);
        let groups = KeyGroupRange { start: 0, end: MAX_PARALLELISM };
        restore(&mut self.chain, &self.context, &[snapshot], groups).expect("it is a snapshot of this operator");
    }

    fn finish(mut self) -> Vec<(String, u64)> {
        self.context.watermark = Watermark::END;
        while run(self.chain.on_watermark(&mut self.context, &mut self.out)).expect("the timers end") == Progress::More {}
        let mut results = vec![];
        for (_, batch) in self.out {
            let (keys, counts) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<UInt64Type>());
            results.extend((0..batch.rows()).map(|row| (keys.value(row).to_owned(), counts.value(row))));
        }
        results.sort_unstable();
        results
    }
}

/// Keys of every shape come back from a snapshot, with their state and their timers, also those that are evicted at that moment.
#[test]
fn all_shapes_are_restored() {
    for keys in shapes() {
        let mut whole = Operator::new(&keys, None);
        (0..60).step_by(5).for_each(|from| whole.rows(&keys, from, 5));
        let expected = whole.finish();
        for limits in [[None, None], [Some(4), None], [None, Some(4)], [Some(3), Some(7)]] {
            let mut operator = Operator::new(&keys, limits[0]);
            for from in (0..60).step_by(5) {
                operator.rows(&keys, from, 5);
                if from % 20 == 15 {
                    operator.restart(limits[from / 20 % 2]);
                }
            }
            assert_eq!(
                operator.finish(),
                expected,
                "{limits:?}, keys {:?}",
                keys.iter().map(|k| k.data_type()).collect::<Vec<_>>()
            );
        }
    }
}

/// Whatever a byte of an entry is changed to, the operator goes on or says what is wrong; it does not panic.
#[test]
fn corrupt_entries_are_errors() {
    for keys in shapes() {
        let mut operator = Operator::new(&keys, Some(7));
        operator.rows(&keys, 0, 12);
        let mut snapshot = run(operator.chain.snapshot(&mut operator.context, CopyTime::Barrier))
            .expect("counting does not fail")
            .expect("it has state");
        snapshot.entries.sort();
        let (mut refused, mut taken) = (0, 0);
        for entry in snapshot.entries.iter() {
            for at in 0..=entry.key.len() {
                for change in [0x01, 0x02, 0x40, 0xff] {
                    let mut key = entry.key.to_vec();
                    match key.get_mut(at) {
                        Some(byte) => *byte ^= change,
                        None => key.push(change),
                    }
                    if restores(&operator, &keys, entry, &key) { taken += 1 } else { refused += 1 }
                }
                if at < entry.key.len() {
                    if restores(&operator, &keys, entry, &entry.key[..at]) { taken += 1 } else { refused += 1 }
                }
            }
        }
        // What is taken looks like another key of the same group, or another kind of entry.
        assert!(refused > taken || keys.is_empty(), "{refused} are refused, {taken} taken");
    }
}

fn restores(like: &Operator, keys: &[ArrayRef], entry: weir_state::Entry<'_>, key: &[u8]) -> bool {
    let mut new = Operator::new(keys, None);
    let mut entries = weir_state::Entries::default();
    entries.push(entry.group, entry.namespace, key, entry.value);
    if let Err(error) = new.chain.restore_entries(&entries, &like.context) {
        assert!(error.to_string().contains("\"told\""), "{error}");
        return false;
    }
    new.chain.finish_restore().expect("there is room");
    new.rows(keys, 0, 12);
    new.finish();
    true
}
