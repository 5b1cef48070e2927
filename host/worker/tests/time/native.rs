//! Process functions that are native code.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, UInt32Type};
use arrow_array::{ArrayRef, Int64Array, UInt32Array};
use weir_operator::NativeChain;
use weir_sandbox::GuestError;
use weir_types::call::{DueTimers, Input, Origins, Output, Reply, Slot, Timer};
use weir_types::graph::TimeDomain;

fn output(columns: Vec<ArrayRef>) -> Output {
    Output { port: 0, rows: columns[0].len(), origins: Origins::Identity, times: None, columns }
}

/// A timer for each row, so long after its event time.
fn timers(input: &Input<'_>, after: i64) -> Vec<Timer> {
    let (slots, times) = (input.slots.expect("keyed rows have slots"), input.times.expect("the input asks for times"));
    let timer = |(&slot, &time)| Timer { slot, domain: TimeDomain::Event, time: time + after, delete: false, cleanup: false };
    slots.iter().zip(times).map(timer).collect()
}

/// Tells of each row (its id) and of each timer (minus its time), and at which watermark it came. A timer is set for the time of each row.
pub struct Echo;

impl NativeChain for Echo {
    fn assign_slots(&mut self, _: &[Slot], _: &[ArrayRef]) -> Result<(), GuestError> {
        Ok(())
    }

    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        if input.port == 1 {
            return Ok(Reply::default());
        }
        let ids = input.columns[0].as_primitive::<UInt32Type>().values();
        let what: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.iter().map(|&id| i64::from(id))));
        let watermarks: ArrayRef = Arc::new(Int64Array::from(vec![input.watermark; input.rows]));
        Ok(Reply { outputs: vec![output(vec![what, watermarks])], timers: timers(&input, 0), ..Reply::default() })
    }

    fn timers_fired(&mut self, due: DueTimers<'_>) -> Result<Reply, GuestError> {
        let what: ArrayRef = Arc::new(Int64Array::from_iter_values(due.times.iter().map(|time| -time)));
        let watermarks: ArrayRef = Arc::new(Int64Array::from(vec![due.watermark; due.times.len()]));
        Ok(Reply { outputs: vec![output(vec![what, watermarks])], ..Reply::default() })
    }
}

/// How much later [`Later`] gives a row than it has come.
pub const LATER_MS: i64 = 5;

/// Gives the key of each row [`LATER_MS`] after its event time, with that as event time and as id.
#[derive(Default)]
pub struct Later(HashMap<Slot, i64>);

impl NativeChain for Later {
    fn assign_slots(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<(), GuestError> {
        self.0.extend(slots.iter().copied().zip(keys[0].as_primitive::<Int64Type>().values().iter().copied()));
        Ok(())
    }

    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        Ok(Reply { timers: timers(&input, LATER_MS), ..Reply::default() })
    }

    fn timers_fired(&mut self, due: DueTimers<'_>) -> Result<Reply, GuestError> {
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(due.slots.iter().map(|slot| self.0[slot])));
        let ids: ArrayRef = Arc::new(UInt32Array::from_iter_values(due.times.iter().map(|&time| time as u32)));
        let output = Output { times: Some(due.times.to_vec().into()), ..output(vec![keys, ids]) };
        Ok(Reply { outputs: vec![output], progress: due.times.iter().max().copied(), ..Reply::default() })
    }
}
