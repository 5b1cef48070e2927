//! A function that counts the rows of each key and does what they say with timers; it checks that the host keeps the rules of the boundary.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, UInt32Array};
use weir_operator::NativeChain;
use weir_sandbox::GuestError;
use weir_types::EventTime;
use weir_types::call::{DueTimers, Expiries, Input, Origins, Output, Reply, Slot, States, Timer};
use weir_types::graph::TimeDomain;

use crate::harness::Op;

/// The slot of the state that is not a key's.
const OPERATOR_STATE: Slot = Slot::MAX;

/// What a timer does when it fires: sets another one so much later, if its time is a multiple of a number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rearm {
    pub multiple_of: EventTime,
    pub by: EventTime,
}

impl Rearm {
    /// The timer that a timer sets.
    pub fn next(self, time: EventTime) -> Option<EventTime> {
        (self.multiple_of > 0 && time % self.multiple_of == 0).then_some(time + self.by)
    }
}

/// The key and the count of each slot in use.
#[derive(Default)]
pub struct Counts {
    pub slots: HashMap<Slot, (i64, u64)>,
    /// of counts that end: when that is to be looked at, and when it is
    pub lives: HashMap<Slot, (EventTime, EventTime)>,
    /// rows of the broadcast input
    pub broadcast: u64,
    pub rearm: Rearm,
    /// what a state weighs besides its count
    pub ballast: usize,
    /// memory that is lost with every row, as some guests' is
    pub leak: usize,
    pub memory_max: usize,
    pub leaked: usize,
}

impl Counts {
    fn weight(&self) -> usize {
        self.slots.len() * (self.ballast + 8)
    }

    /// What a cleanup finds: a count of which some or all has expired, or any, if it was set.
    fn clean_up(&mut self, due: DueTimers<'_>) -> Vec<Timer> {
        let mut timers = vec![];
        for (&slot, &time) in due.slots.iter().zip(due.times) {
            let count = &mut self.slots.get_mut(&slot).expect("slots are assigned").1;
            let timer = |time, delete| Timer { slot, domain: TimeDomain::Event, time, delete, cleanup: true };
            match self.lives.get_mut(&slot) {
                _ if Op::cleans_up_at(time) == time => {
                    *count = 0;
                    timers.extend(self.lives.remove(&slot).map(|(next, _)| timer(next, true)));
                }
                Some((next, end)) if *next == time && *end > due.watermark => {
                    *count = Op::some_expired(*count);
                    *next = *end;
                    timers.push(timer(*end, false));
                }
                Some((next, _)) if *next == time => {
                    *count = 0;
                    self.lives.remove(&slot);
                }
                _ => {}
            }
        }
        timers
    }

    fn reply(&self, rows: Vec<(i64, u64, EventTime)>, origins: Vec<u32>, timers: Vec<Timer>) -> Reply {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1 as i64))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2))),
        ];
        let origins = Origins::Picked(UInt32Array::from(origins));
        Reply { outputs: vec![Output { port: 0, rows: rows.len(), origins, times: None, columns }], timers, ..Reply::default() }
    }
}

impl NativeChain for Counts {
    fn assign_slots(&mut self, slots: &[Slot], keys: &[ArrayRef]) -> Result<(), GuestError> {
        for (i, &slot) in slots.iter().enumerate() {
            let key = keys[0].as_primitive::<Int64Type>().value(i);
            assert!(self.slots.insert(slot, (key, 0)).is_none(), "slot {slot} was assigned twice");
        }
        Ok(())
    }

    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        self.leaked += self.leak * input.rows;
        let Some(slots) = input.slots else {
            self.broadcast += input.rows as u64;
            return Ok(Reply::default());
        };
        let (ops, ats) = (input.columns[0].as_primitive::<Int64Type>(), input.columns[1].as_primitive::<Int64Type>());
        let (mut rows, mut timers) = (vec![], vec![]);
        for (row, &slot) in slots.iter().enumerate() {
            let state = self.slots.get_mut(&slot).unwrap_or_else(|| panic!("slot {slot} was not assigned"));
            state.1 += 1;
            rows.push((state.0, state.1 + self.broadcast, EventTime::MIN));
            let time = ats.value(row);
            let timer = |domain, delete| Timer { slot, domain, time, delete, cleanup: false };
            let cleanup = |time, delete| Timer { time, cleanup: true, ..timer(TimeDomain::Event, delete) };
            match Op::of(ops.value(row)) {
                Op::Count => {}
                Op::Forget => {
                    state.1 = 0;
                    timers.extend(self.lives.remove(&slot).map(|(next, _)| cleanup(next, true)));
                }
                Op::Set => timers.push(timer(TimeDomain::Event, false)),
                Op::Delete => timers.push(timer(TimeDomain::Event, true)),
                Op::SetClock => timers.push(timer(TimeDomain::Processing, false)),
                Op::SetCleanup => timers.push(cleanup(Op::cleans_up_at(time), false)),
                Op::Live => {
                    let until = Op::lives_until(time);
                    let (_, end) = self.lives.entry(slot).or_insert_with(|| {
                        timers.push(cleanup(until, false));
                        (until, until)
                    });
                    *end = until.max(*end);
                }
            }
        }
        Ok(self.reply(rows, (0..input.rows as u32).collect(), timers))
    }

    fn timers_fired(&mut self, due: DueTimers<'_>) -> Result<Reply, GuestError> {
        if due.cleanup {
            return Ok(Reply { timers: self.clean_up(due), ..Reply::default() });
        }
        let (mut rows, mut timers) = (vec![], vec![]);
        for (&slot, &time) in due.slots.iter().zip(due.times) {
            let (key, count) = self.slots[&slot];
            rows.push((key, count, time));
            let is_to_come = |next| due.slots.iter().zip(due.times).any(|timer| timer == (&slot, &next)) && next > time;
            if let Some(next) = self.rearm.next(time).filter(|&next| !is_to_come(next)) {
                timers.push(Timer { slot, domain: due.domain, time: next, delete: false, cleanup: false });
            }
        }
        let origins = (0..rows.len() as u32).collect();
        Ok(self.reply(rows, origins, timers))
    }

    fn clear_slots(&mut self, slots: &[Slot]) -> Result<(), GuestError> {
        for slot in slots {
            assert!(self.slots.remove(slot).is_some(), "slot {slot} was cleared twice");
            self.lives.remove(slot);
        }
        Ok(())
    }

    fn export_slots(&mut self, slots: &[Slot]) -> Result<States, GuestError> {
        let mut states = States::none();
        let lives = |slot: &Slot| self.lives.get(slot).copied();
        let (cleanups, ends) = slots.iter().map(|slot| lives(slot).unwrap_or((EventTime::MAX, EventTime::MAX))).unzip();
        states.expiries = Some(Expiries { domains: vec![TimeDomain::Event; slots.len()], cleanups, ends });
        for &slot in slots {
            let count = if slot == OPERATOR_STATE { self.broadcast } else { self.slots[&slot].1 };
            if count > 0 {
                states.bytes.extend(count.to_le_bytes());
                let (next, end) = lives(&slot).unwrap_or((EventTime::MAX, EventTime::MAX));
                [next, end].iter().for_each(|time| states.bytes.extend(time.to_le_bytes()));
                states.bytes.resize(states.bytes.len() + self.ballast, 0);
            }
            states.offsets.push(states.bytes.len() as u32);
        }
        assert!(states.bytes.len() < 16 << 20, "{} bytes are more than a call may return", states.bytes.len());
        Ok(states)
    }

    fn import_slots(&mut self, slots: &[Slot], states: &States) -> Result<(), GuestError> {
        assert_eq!(states.offsets.len(), slots.len() + 1);
        for (&slot, range) in slots.iter().zip(states.offsets.windows(2)) {
            let bytes = &states.bytes[range[0] as usize..range[1] as usize];
            let Some(count) = bytes.first_chunk::<8>() else { continue };
            let count = u64::from_le_bytes(*count);
            if slot == OPERATOR_STATE {
                self.broadcast = count;
                continue;
            }
            self.slots.get_mut(&slot).expect("slots are assigned before").1 = count;
            let [next, end] = [8, 16].map(|at| EventTime::from_le_bytes(*bytes[at..].first_chunk().expect("it has times")));
            if end < EventTime::MAX {
                self.lives.insert(slot, (next, end));
            }
        }
        Ok(())
    }

    fn renew(&mut self) -> Result<(), GuestError> {
        self.slots.clear();
        self.lives.clear();
        self.broadcast = 0;
        self.leaked = 0;
        Ok(())
    }

    fn memory_bytes(&self) -> usize {
        self.weight() + self.leaked
    }

    fn memory_bytes_max(&self) -> usize {
        if self.memory_max == 0 { usize::MAX } else { self.memory_max }
    }
}
