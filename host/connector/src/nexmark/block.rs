//! A block of events, and its columns.
//!
//! A block holds the events of one kind in a range of event numbers. Each column is one loop over the block without branches: whether
//! an auction or a bidder is hot is a select, and later draws count from the state behind it. A column that nobody asked for is not
//! computed, nor are its draws.

use std::sync::Arc;

use arrow_array::{ArrayRef, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow_buffer::{Buffer, OffsetBuffer};
use weir_types::EventTime;

use super::draw::{draw, init, skip};
use super::lanes::{Divider, Hundreds, vectorized};
use super::pace::Pace;
use super::tables::{self, TABLES, Table};

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Person,
    Auction,
    Bid,
}

/// Events come in epochs: 1 person, then 3 auctions, then 46 bids.
pub(super) const EPOCH_EVENTS: u64 = 50;
/// The event time of event 0.
const START: EventTime = 1_436_918_400_000;
/// The first id of persons and of auctions.
const FIRST_ID: u64 = 1000;
/// How many event numbers after an auction it expires, about half of the time.
const AUCTION_EVENTS: u64 = 1666;

impl Kind {
    /// Every kind, in the order in which an epoch has them.
    pub const ALL: [Self; 3] = [Self::Person, Self::Auction, Self::Bid];

    fn of(number: u64) -> Self {
        match number % EPOCH_EVENTS {
            0 => Self::Person,
            1..=3 => Self::Auction,
            _ => Self::Bid,
        }
    }
}

/// The events of one kind that one split has.
///
/// A split has every P-th event number, so which of them are of a kind repeats after the least common multiple of P and 50.
pub(super) struct Cycle {
    length: u64,
    /// the events of the kind in the first cycle
    numbers: Vec<u64>,
    /// and their epochs
    epochs: Vec<u64>,
}

impl Cycle {
    /// The events of `kind` among `first`, `first + stride`, …
    pub fn new(kind: Kind, first: u64, stride: u64) -> Self {
        let length = (1..=EPOCH_EVENTS).map(|k| k * stride).find(|n| n % EPOCH_EVENTS == 0).unwrap_or(stride * EPOCH_EVENTS);
        let numbers: Vec<_> = (first % stride..length).step_by(stride as usize).filter(|&n| Kind::of(n) == kind).collect();
        let epochs = numbers.iter().map(|n| n / EPOCH_EVENTS).collect();
        Self { length, numbers, epochs }
    }
}

/// Events of one kind, and what all of their columns need. Kept between reads for its memory.
#[derive(Default)]
pub(super) struct Block {
    /// no event number of the block is below it
    first: u64,
    numbers: Vec<u64>,
    epochs: Vec<u64>,
    /// each event's draw state; columns that need a varying number of draws move it behind them
    states: Vec<u64>,
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
        let states = self.states.iter_mut().zip(&self.numbers);
        vectorized(
            #[inline(always)]
            || states.for_each(#[inline(always)] |(state, &n)| *state = init(seed, n)),
        );
    }

    /// The number of events.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The columns of persons; `wanted` says which.
    pub fn persons(&self, wanted: &[bool], timeline: Timeline) -> Vec<Option<ArrayRef>> {
        let make = |column: usize, array: &dyn Fn() -> ArrayRef| wanted[column].then(array);
        let digits = |value: u64, out: &mut [u8]| {
            for (i, digit) in out.iter_mut().rev().enumerate() {
                *digit = b'0' + (value / 10_u64.pow(i as u32) % 10) as u8;
            }
        };
        vec![
            make(0, &|| numbers(self.epochs.iter().map(|epoch| epoch + FIRST_ID).collect())),
            make(1, &|| {
                self.strings(&TABLES.names, #[inline(always)] |s| {
                    draw(s, 1, tables::FIRST_NAMES) * tables::LAST_NAMES + draw(s, 2, tables::LAST_NAMES)
                })
            }),
            make(2, &|| {
                self.fixed_text(b"1234567@1234567.com", |s, email| {
                    email[..7].copy_from_slice(&TABLES.word_bytes[draw(s, 3, tables::WORDS) as usize]);
                    email[8..15].copy_from_slice(&TABLES.word_bytes[draw(s, 4, tables::WORDS) as usize]);
                })
            }),
            make(3, &|| {
                self.fixed_text(b"0000 0000 0000 0000", |s, card| {
                    (0..4).for_each(|group| digits(draw(s, 5 + group as u64, 10_000), &mut card[group * 5..group * 5 + 4]));
                })
            }),
            make(4, &|| self.strings(&TABLES.cities, #[inline(always)] |s| draw(s, 9, tables::CITIES))),
            make(5, &|| self.strings(&TABLES.states, #[inline(always)] |s| draw(s, 10, tables::STATES))),
            make(6, &|| self.times(timeline)),
            make(7, &|| self.strings(&TABLES.extras, #[inline(always)] |s| draw(s, 11, tables::EXTRAS))),
        ]
    }

    /// The columns of auctions; `wanted` says which.
    pub fn auctions(&mut self, wanted: &[bool], timeline: Timeline) -> Vec<Option<ArrayRef>> {
        let id = wanted[0].then(|| {
            // Within an epoch, the auctions are events 1 to 3.
            let ids = self.numbers.iter().zip(&self.epochs).map(|(n, epoch)| epoch * 3 + (n - epoch * EPOCH_EVENTS) - 1 + FIRST_ID);
            numbers(ids.collect())
        });
        let seller = self.persons_hot_or_some(wanted[7], 0);
        let make = |column: usize, array: &dyn Fn() -> ArrayRef| wanted[column].then(array);
        vec![
            id,
            make(1, &|| self.strings(&TABLES.words, #[inline(always)] |s| draw(s, 7, tables::WORDS))),
            make(2, &|| self.strings(&TABLES.extras, #[inline(always)] |s| draw(s, 8, tables::EXTRAS))),
            make(3, &|| numbers(self.of_states(#[inline(always)] |s| price(s, 2)))),
            make(4, &|| numbers(self.of_states(#[inline(always)] |s| price(s, 2) + price(s, 4)))),
            make(5, &|| self.times(timeline)),
            make(6, &|| {
                let clock = timeline.from(self.first);
                let expires = self.numbers.iter().zip(&self.states).map(|(&n, &s)| {
                    let time = clock.time(n);
                    let horizon = (clock.time(n + AUCTION_EVENTS) - time) as u64;
                    time + 1 + draw(s, 6, (horizon * 2).max(1)) as i64
                });
                timestamps(expires.collect())
            }),
            seller,
            make(8, &|| numbers(self.of_states(#[inline(always)] |s| 10 + draw(s, 1, 5)))),
            make(9, &|| self.strings(&TABLES.extras, #[inline(always)] |s| draw(s, 9, tables::EXTRAS))),
        ]
    }

    /// The columns of bids; `wanted` says which.
    pub fn bids(&mut self, wanted: &[bool], timeline: Timeline, pace: Option<&Pace>) -> Vec<Option<ArrayRef>> {
        // The columns with draws behind auction and bidder.
        let drawn = [2, 3, 4, 6].iter().any(|&column| wanted[column]);
        let auction = (wanted[0] || wanted[1] || drawn).then(|| self.bid_auctions(wanted[0])).flatten();
        let bidder = (wanted[1] || drawn).then(|| self.persons_hot_or_some(wanted[1], 1)).flatten();
        let make = |column: usize, array: &dyn Fn() -> ArrayRef| wanted[column].then(array);
        let mut columns = vec![
            auction,
            bidder,
            make(2, &|| numbers(self.of_states(#[inline(always)] |s| price(s, 1)))),
            make(3, &|| {
                self.strings(&TABLES.channels, #[inline(always)] |s| {
                    let (hot, cold) = (draw(s, 4, tables::HOT_CHANNELS), tables::HOT_CHANNELS + draw(s, 4, tables::CHANNELS));
                    if draw(s, 3, 2) > 0 { hot } else { cold }
                })
            }),
            make(4, &|| self.strings(&TABLES.urls, #[inline(always)] |s| draw(s, 5, tables::URLS))),
            make(5, &|| self.times(timeline)),
            make(6, &|| self.strings(&TABLES.extras, #[inline(always)] |s| draw(s, 6, tables::EXTRAS))),
        ];
        if let Some(pace) = pace {
            columns.push(make(7, &|| numbers(self.numbers.iter().map(|&n| pace.due_unix_us(n)).collect())));
        }
        columns
    }

    /// The auction of each bid: one in two bids on the hot one. Moves the states behind it.
    fn bid_auctions(&mut self, wanted: bool) -> Option<ArrayRef> {
        let hundreds = Hundreds::from(self.first / EPOCH_EVENTS * 3 + 2);
        self.hot_or_cold(
            wanted,
            #[inline(always)]
            |s| draw(s, 1, 2),
            #[inline(always)]
            |s, epoch| {
                let last = epoch * 3 + 2;
                let lowest = last.max(100) - 100;
                (hundreds.below(last), lowest + draw(s, 2, last - lowest + 11))
            },
        )
    }

    /// Three in four times the hot person of the epoch, else some person of late. Moves the states behind it.
    fn persons_hot_or_some(&mut self, wanted: bool, hot_offset: u64) -> Option<ArrayRef> {
        let hundreds = Hundreds::from(self.first / EPOCH_EVENTS);
        self.hot_or_cold(
            wanted,
            #[inline(always)]
            |s| draw(s, 1, 4).min(1),
            #[inline(always)]
            |s, epoch| {
                let persons = epoch + 1;
                let active = persons.min(1000);
                (hundreds.below(epoch) + hot_offset, persons - active + draw(s, 2, active + 10))
            },
        )
    }

    /// Ids of which the first draw says whether they are the hot one (`is_hot` is 1) or another, which takes a second draw (else 0). Moves
    /// the states behind the draws, also where the ids are not wanted.
    #[inline(always)]
    fn hot_or_cold(
        &mut self,
        wanted: bool,
        is_hot: impl Fn(u64) -> u64,
        hot_and_cold: impl Fn(u64, u64) -> (u64, u64),
    ) -> Option<ArrayRef> {
        if !wanted {
            let states = self.states.iter_mut();
            vectorized(
                #[inline(always)]
                || states.for_each(#[inline(always)] |s| *s = skip(*s, 2 - is_hot(*s))),
            );
            return None;
        }
        let mut ids = vec![0; self.states.len()];
        let rows = ids.iter_mut().zip(self.states.iter_mut().zip(&self.epochs));
        vectorized(
            #[inline(always)]
            || {
                rows.for_each(
                    #[inline(always)]
                    |(id, (s, &epoch))| {
                        let is_hot = is_hot(*s);
                        let (hot, cold) = hot_and_cold(*s, epoch);
                        *id = FIRST_ID + if is_hot > 0 { hot } else { cold };
                        *s = skip(*s, 2 - is_hot);
                    },
                );
            },
        );
        Some(numbers(ids))
    }

    /// A value for each event, made of its state.
    #[inline(always)]
    fn of_states<T: Copy + Default>(&self, value: impl Fn(u64) -> T) -> Vec<T> {
        of(&self.states, value)
    }

    fn times(&self, timeline: Timeline) -> ArrayRef {
        let clock = timeline.from(self.first);
        timestamps(of(
            &self.numbers,
            #[inline(always)]
            |n| clock.time(n),
        ))
    }

    #[inline(always)]
    fn strings(&self, table: &Table, index: impl Fn(u64) -> u64) -> ArrayRef {
        table.column(self.of_states(
            #[inline(always)]
            |s| index(s) as u32,
        ))
    }

    /// Strings that are `template` with parts of it overwritten by `fill`.
    fn fixed_text<const N: usize>(&self, template: &[u8; N], fill: impl Fn(u64, &mut [u8])) -> ArrayRef {
        let mut bytes = template.repeat(self.states.len());
        bytes.chunks_exact_mut(N).zip(&self.states).for_each(|(text, &s)| fill(s, text));
        let offsets = OffsetBuffer::from_repeated_length(N, self.states.len());
        Arc::new(StringArray::try_new(offsets, Buffer::from_vec(bytes), None).expect("templates and what fills them are ASCII"))
    }
}

/// A price, drawn at `position` and the one after: log-uniform, of integers only.
#[inline(always)]
fn price(state: u64, position: u64) -> u64 {
    /// 10^e / 100 in units of 2^-30, rounded up: with m below 2^17, m * SCALE[e] >> 30 is exactly m * 10^e / 100.
    const SCALE: [u64; 8] = {
        let one = 1_u64 << 30;
        [one / 100 + 1, one / 10 + 1, one, one * 10, one * 100, one * 1000, 0, 0]
    };
    let exponent = draw(state, position, 6);
    let mantissa = 10_000 + draw(state, position + 1, 90_000);
    (mantissa * SCALE[(exponent & 7) as usize]) >> 30
}

fn numbers(values: Vec<u64>) -> ArrayRef {
    Arc::new(UInt64Array::from(values))
}

fn timestamps(times: Vec<EventTime>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from(times).with_timezone("UTC"))
}

/// A value for each of these numbers.
#[inline(always)]
fn of<T: Copy + Default>(numbers: &[u64], value: impl Fn(u64) -> T) -> Vec<T> {
    let mut values = vec![T::default(); numbers.len()];
    let rows = values.iter_mut().zip(numbers);
    vectorized(
        #[inline(always)]
        || rows.for_each(#[inline(always)] |(out, &n)| *out = value(n)),
    );
    values
}

/// There are no event numbers from here on, so that no arithmetic on them overflows.
pub(super) const EVENTS_MAX: u64 = 1 << 60;
/// So many event numbers are in a block at most.
pub(super) const BLOCK_NUMBERS_MAX: u64 = Divider::DIVIDEND_END / 2;

/// Event times: so many events a millisecond.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    events_per_ms: u64,
    divider: Divider,
}

impl Timeline {
    pub const EVENTS_PER_MS_MAX: u64 = Divider::DIVISOR_MAX;

    /// `events_per_ms` is from 1 to [`Self::EVENTS_PER_MS_MAX`].
    pub fn new(events_per_ms: u64) -> Self {
        Self { events_per_ms, divider: Divider::new(events_per_ms) }
    }

    /// The times of the events from `first` on.
    fn from(self, first: u64) -> Clock {
        let (quotient, remainder) = (first / self.events_per_ms, first % self.events_per_ms);
        Clock { first, time: START + quotient as EventTime, remainder, divider: self.divider }
    }
}

/// The times of the events of a block.
#[derive(Clone, Copy, Debug)]
struct Clock {
    first: u64,
    /// that of the first event
    time: EventTime,
    /// how many events had this time before the first one
    remainder: u64,
    divider: Divider,
}

impl Clock {
    #[inline(always)]
    fn time(self, n: u64) -> EventTime {
        self.time + self.divider.quotient(n - self.first + self.remainder) as EventTime
    }
}
