//! A block of events, and the loops that its columns are made by.
//!
//! A block holds the events of one kind in a range of event numbers. Each column is one loop over the block without branches: whether
//! an auction or a bidder is hot is a select, and later draws count from the state behind it.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow_buffer::{Buffer, OffsetBuffer};
use weir_types::EventTime;
use weir_types::lanes::vectorized;

use super::clock::Clock;
use super::draw::{draw, init, skip};
use super::lanes::Divider;
use super::share::Share;
use super::tables::Table;

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Person,
    Auction,
    Bid,
}

/// Events come in epochs: 1 person, then 3 auctions, then 46 bids.
pub(super) const EPOCH_EVENTS: u64 = 50;
/// There are no event numbers from here on, so that no arithmetic on them overflows.
pub(super) const EVENTS_MAX: u64 = 1 << 60;
/// A block spans at most so many event numbers, so that quotients of those within it are exact.
pub(super) const BLOCK_NUMBERS_MAX: u64 = Divider::DIVIDEND_END / 2;

impl Kind {
    /// Every kind, in the order in which an epoch has them.
    pub const ALL: [Self; 3] = [Self::Person, Self::Auction, Self::Bid];

    /// What the event with this number is.
    pub fn of(number: u64) -> Self {
        match number % EPOCH_EVENTS {
            0 => Self::Person,
            1..=3 => Self::Auction,
            _ => Self::Bid,
        }
    }
}

/// The events of one kind that one split has.
///
/// Splits take turns, so which event numbers of one are of a kind repeats after the least common multiple of a turn's and an epoch's.
pub(super) struct Cycle {
    length: u64,
    /// the events of the kind in the first cycle
    numbers: Vec<u64>,
    /// and their epochs
    epochs: Vec<u64>,
}

impl Cycle {
    /// The events of `kind` in a split's share.
    pub fn new(kind: Kind, share: &Share) -> Self {
        let turn = share.turn();
        let length = (1..=EPOCH_EVENTS).map(|k| k * turn).find(|n| n % EPOCH_EVENTS == 0).unwrap_or(turn * EPOCH_EVENTS);
        let all = (0..share.before(length)).map(|place| share.number(place));
        let numbers: Vec<_> = all.filter(|&n| Kind::of(n) == kind).collect();
        let epochs = numbers.iter().map(|n| n / EPOCH_EVENTS).collect();
        Self { length, numbers, epochs }
    }
}

/// Events of one kind, and what all of their columns need. Kept between reads for its memory.
#[derive(Default)]
pub(super) struct Block {
    /// no event number of the block is below it
    pub first: u64,
    pub numbers: Vec<u64>,
    pub epochs: Vec<u64>,
    /// each event's draw state; columns that need a varying number of draws move it behind them
    pub states: Vec<u64>,
}

impl Block {
    /// Fills the block with the events of `cycle` that are in `from..to`.
    pub fn fill(&mut self, cycle: &Cycle, seed: u64, from: u64, to: u64) {
        self.first = from;
        self.numbers.clear();
        self.epochs.clear();
        let mut base = from / cycle.length * cycle.length;
        while base < to {
            let epoch = base / EPOCH_EVENTS;
            if from <= base && base + cycle.length <= to {
                self.numbers.extend(cycle.numbers.iter().map(|n| base + n));
                self.epochs.extend(cycle.epochs.iter().map(|e| epoch + e));
            } else {
                let inside = cycle.numbers.iter().zip(&cycle.epochs).filter(|&(n, _)| (from..to).contains(&(base + n)));
                for (n, e) in inside {
                    self.numbers.push(base + n);
                    self.epochs.push(epoch + e);
                }
            }
            base += cycle.length;
        }
        self.states.resize(self.numbers.len(), 0);
        let (states, event_numbers) = (&mut self.states, &self.numbers);
        vectorized(
            #[inline(always)]
            move || {
                for (state, &n) in states.iter_mut().zip(event_numbers) {
                    *state = init(seed, n);
                }
            },
        );
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// A number for each event, made of its state.
    #[inline(always)]
    pub fn numbers_of(&self, value: impl Fn(u64) -> u64) -> ArrayRef {
        numbers(map(&self.states, value))
    }

    /// A string for each event, at the table's index that is made of its state.
    #[inline(always)]
    pub fn strings_of(&self, table: &Table, index: impl Fn(u64) -> u32) -> ArrayRef {
        table.column(map(&self.states, index))
    }

    /// A string for each event, drawn at this position.
    pub fn strings(&self, table: &Table, position: u64) -> ArrayRef {
        let bound = table.len();
        self.strings_of(
            table,
            #[inline(always)]
            move |state| draw(state, position, bound) as u32,
        )
    }

    /// The events' times.
    pub fn times(&self, clock: Clock) -> ArrayRef {
        timestamps(map(
            &self.numbers,
            #[inline(always)]
            move |n| clock.time(n),
        ))
    }

    /// Strings that are `template` with parts of it overwritten by `fill`.
    pub fn fixed_text<const N: usize>(&self, template: &[u8; N], fill: impl Fn(u64, &mut [u8])) -> ArrayRef {
        let mut bytes = template.repeat(self.states.len());
        bytes.chunks_exact_mut(N).zip(&self.states).for_each(|(text, &s)| fill(s, text));
        let offsets = OffsetBuffer::from_repeated_length(N, self.states.len());
        Arc::new(StringArray::try_new(offsets, Buffer::from_vec(bytes), None).expect("templates and what fills them are ASCII"))
    }

    /// Ids of which the first draw says whether they are the hot one (`is_hot` is 1) or another, which takes a second draw (else 0).
    /// Moves the states behind the draws, also where the ids are not wanted.
    #[inline(always)]
    pub fn hot_or_cold(
        &mut self,
        wanted: bool,
        is_hot: impl Fn(u64) -> u64,
        hot_and_cold: impl Fn(u64, u64) -> (u64, u64),
    ) -> Option<ArrayRef> {
        let mut ids = vec![0; if wanted { self.states.len() } else { 0 }];
        let (slots, states, epochs) = (&mut ids, &mut self.states, &self.epochs);
        vectorized(
            #[inline(always)]
            move || {
                if wanted {
                    for ((id, state), &epoch) in slots.iter_mut().zip(states).zip(epochs) {
                        let is_hot = is_hot(*state);
                        let (hot, cold) = hot_and_cold(*state, epoch);
                        *id = if is_hot > 0 { hot } else { cold };
                        *state = skip(*state, 2 - is_hot);
                    }
                } else {
                    for state in states {
                        *state = skip(*state, 2 - is_hot(*state));
                    }
                }
            },
        );
        wanted.then(|| numbers(ids))
    }
}

/// A value for each of these numbers.
#[inline(always)]
fn map<T: Copy + Default>(numbers: &[u64], value: impl Fn(u64) -> T) -> Vec<T> {
    let mut values = vec![T::default(); numbers.len()];
    let slots = &mut values;
    vectorized(
        #[inline(always)]
        move || {
            for (slot, &n) in slots.iter_mut().zip(numbers) {
                *slot = value(n);
            }
        },
    );
    values
}

/// A column of numbers.
pub(super) fn numbers(values: Vec<u64>) -> ArrayRef {
    Arc::new(UInt64Array::from(values))
}

/// A column of event times.
pub(super) fn timestamps(times: Vec<EventTime>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))
}
