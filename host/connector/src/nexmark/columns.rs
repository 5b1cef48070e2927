//! The columns of persons, auctions and bids.
//!
//! A column that nobody asked for is not computed, nor are its draws: `wanted` says, column by column in the order of a stream's
//! columns, which are. The positions of draws count from the event's state, or from where the columns before have moved it.

use arrow_array::ArrayRef;

use super::block::{Block, EPOCH_EVENTS, numbers, timestamps};
use super::clock::{Pace, Timeline};
use super::draw::draw;
use super::lanes::Hundreds;
use super::tables::{COLD_CHANNELS, FIRST_NAMES, HOT_CHANNELS, LAST_NAMES, TABLES};

/// The first id of persons and of auctions.
const FIRST_ID: u64 = 1000;
/// So many persons of late are active.
const ACTIVE_PERSONS: u64 = 1000;
/// An auction expires at the latest when there were twice so many more events.
const AUCTION_EVENTS: u64 = 1666;

/// The columns of persons.
pub(super) fn persons(block: &Block, wanted: &[bool], timeline: Timeline) -> Vec<Option<ArrayRef>> {
    let make = |column: usize, array: &dyn Fn() -> ArrayRef| wanted[column].then(array);
    vec![
        make(0, &|| numbers(block.epochs.iter().map(|epoch| epoch + FIRST_ID).collect())),
        make(1, &|| block.strings_of(&TABLES.names, name)),
        make(2, &|| {
            block.fixed_text(b"1234567@1234567.com", |s, email| {
                email[..7].copy_from_slice(TABLES.word(draw(s, 3, TABLES.words.len())));
                email[8..15].copy_from_slice(TABLES.word(draw(s, 4, TABLES.words.len())));
            })
        }),
        make(3, &|| {
            block.fixed_text(b"0000 0000 0000 0000", |s, card| {
                for (position, group) in (5..).zip(card.chunks_mut(5)) {
                    write_digits(draw(s, position, 10_000), &mut group[..4]);
                }
            })
        }),
        make(4, &|| block.strings(&TABLES.cities, 9)),
        make(5, &|| block.strings(&TABLES.states, 10)),
        make(6, &|| block.times(timeline.from(block.first))),
        make(7, &|| block.strings(&TABLES.extras, 11)),
    ]
}

/// The columns of auctions.
pub(super) fn auctions(block: &mut Block, wanted: &[bool], timeline: Timeline) -> Vec<Option<ArrayRef>> {
    let seller = hot_or_active_person(block, wanted[7], 0);
    let block = &*block;
    let clock = timeline.from(block.first);
    let make = |column: usize, array: &dyn Fn() -> ArrayRef| wanted[column].then(array);
    vec![
        make(0, &|| {
            // Within an epoch, the auctions are events 1 to 3.
            let events = block.numbers.iter().zip(&block.epochs);
            numbers(events.map(|(n, epoch)| epoch * 3 + (n - epoch * EPOCH_EVENTS) - 1 + FIRST_ID).collect())
        }),
        make(1, &|| block.strings(&TABLES.words, 7)),
        make(2, &|| block.strings(&TABLES.extras, 8)),
        make(3, &|| block.numbers_of(initial_bid)),
        make(4, &|| block.numbers_of(reserve)),
        make(5, &|| block.times(clock)),
        make(6, &|| {
            let expires = block.numbers.iter().zip(&block.states).map(|(&n, &s)| {
                let time = clock.time(n);
                let horizon = (clock.time(n + AUCTION_EVENTS) - time) as u64;
                time + 1 + draw(s, 6, (horizon * 2).max(1)) as i64
            });
            timestamps(expires.collect())
        }),
        seller,
        make(8, &|| block.numbers_of(category)),
        make(9, &|| block.strings(&TABLES.extras, 9)),
    ]
}

/// The columns of bids.
pub(super) fn bids(block: &mut Block, wanted: &[bool], timeline: Timeline, pace: Option<&Pace>) -> Vec<Option<ArrayRef>> {
    // The columns whose draws are behind those of auction and bidder.
    let behind = [2, 3, 4, 6].iter().any(|&column| wanted[column]);
    let auction = if wanted[0] || wanted[1] || behind { hot_or_late_auction(block, wanted[0]) } else { None };
    let bidder = if wanted[1] || behind { hot_or_active_person(block, wanted[1], 1) } else { None };
    let block = &*block;
    let make = |column: usize, array: &dyn Fn() -> ArrayRef| wanted[column].then(array);
    let mut columns = vec![
        auction,
        bidder,
        make(2, &|| block.numbers_of(bid_price)),
        make(3, &|| block.strings_of(&TABLES.channels, channel)),
        make(4, &|| block.strings(&TABLES.urls, 5)),
        make(5, &|| block.times(timeline.from(block.first))),
        make(6, &|| block.strings(&TABLES.extras, 6)),
    ];
    if let Some(pace) = pace {
        columns.push(make(7, &|| numbers(block.numbers.iter().map(|&n| pace.due_unix_us(n)).collect())));
    }
    columns
}

/// The auction of a bid: one time in two the hot one, else one of late.
fn hot_or_late_auction(block: &mut Block, wanted: bool) -> Option<ArrayRef> {
    let hundreds = Hundreds::from(last_auction(block.first / EPOCH_EVENTS));
    block.hot_or_cold(
        wanted,
        #[inline(always)]
        |state| draw(state, 1, 2),
        #[inline(always)]
        move |state, epoch| {
            let last = last_auction(epoch);
            let lowest = last.max(100) - 100;
            (hundreds.below(last) + FIRST_ID, lowest + draw(state, 2, last - lowest + 11) + FIRST_ID)
        },
    )
}

/// The seller of an auction or the bidder of a bid: three times in four the hot person of the epoch, else an active one.
fn hot_or_active_person(block: &mut Block, wanted: bool, hot_offset: u64) -> Option<ArrayRef> {
    let hundreds = Hundreds::from(block.first / EPOCH_EVENTS);
    block.hot_or_cold(
        wanted,
        #[inline(always)]
        |state| draw(state, 1, 4).min(1),
        #[inline(always)]
        move |state, epoch| {
            let persons = epoch + 1;
            let active = persons.min(ACTIVE_PERSONS);
            (hundreds.below(epoch) + hot_offset + FIRST_ID, persons - active + draw(state, 2, active + 10) + FIRST_ID)
        },
    )
}

#[inline(always)]
fn last_auction(epoch: u64) -> u64 {
    epoch * 3 + 2
}

#[inline(always)]
fn name(state: u64) -> u32 {
    (draw(state, 1, FIRST_NAMES) * LAST_NAMES + draw(state, 2, LAST_NAMES)) as u32
}

#[inline(always)]
fn category(state: u64) -> u64 {
    10 + draw(state, 1, 5)
}

#[inline(always)]
fn initial_bid(state: u64) -> u64 {
    price(state, 2)
}

#[inline(always)]
fn reserve(state: u64) -> u64 {
    initial_bid(state) + price(state, 4)
}

#[inline(always)]
fn bid_price(state: u64) -> u64 {
    price(state, 1)
}

#[inline(always)]
fn channel(state: u64) -> u32 {
    let hot = draw(state, 4, HOT_CHANNELS);
    let cold = HOT_CHANNELS + draw(state, 4, COLD_CHANNELS);
    (if draw(state, 3, 2) > 0 { hot } else { cold }) as u32
}

/// A price, drawn at `position` and the one after: log-uniform, of integers only.
#[inline(always)]
fn price(state: u64, position: u64) -> u64 {
    let exponent = draw(state, position, 6);
    let mantissa = 10_000 + draw(state, position + 1, 90_000);
    (mantissa * scale(exponent)) >> SCALE_BITS
}

const SCALE_BITS: u32 = 30;

/// 10^exponent / 100 in units of 2^-30, rounded up. For m below 2^17, m * scale >> 30 is exactly m * 10^exponent / 100. Computed, since
/// vector units look up tables slowly.
#[inline(always)]
fn scale(exponent: u64) -> u64 {
    const ONE: u64 = 1 << SCALE_BITS;
    let tens = exponent.wrapping_sub(2);
    let whole = ONE * (1 + 9 * (tens & 1)) * (1 + 99 * (tens >> 1 & 1));
    let part = if exponent == 0 { ONE / 100 + 1 } else { ONE / 10 + 1 };
    if exponent < 2 { part } else { whole }
}

/// Writes a number with leading zeros.
fn write_digits(mut number: u64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
