//! One job in several versions, whose operators keep states of other types: `[args] job = "version-1"`.
//!
//! It reads bids, keeps for each auction how much was bid, and counts the bids of each auction in windows. Each line begins with what all versions say the
//! same.

use serde::{Deserialize, Serialize};
use weir::{Aggregate, EventTime, Job, Migrations, Record, State, Tumbling, Watermarks, millis, secs};

use crate::line;

#[derive(Clone, Debug, Record)]
struct Bid {
    auction: u64,
    price: u64,
    date_time: EventTime,
}

#[derive(Default, Serialize, Deserialize)]
struct Total1 {
    bid: u64,
    bids: u32,
    first: Option<u64>,
}

/// A field has gone, one is wider, one is new.
#[derive(Default, Serialize, Deserialize)]
struct Total2 {
    note: Option<String>,
    bids: u64,
    bid: u64,
}

/// Counts bids, in a type `A` of its own.
struct Bids<A>(fn(&mut A, u64), fn(&A) -> u64);

macro_rules! bids {
    ($accumulator:ty, $migrations:expr) => {
        impl Aggregate<Bid> for Bids<$accumulator> {
            type Row = ();
            type Accumulator = $accumulator;
            type Out = u64;

            fn add(&self, bids: &mut $accumulator, (): ()) {
                self.0(bids, 1);
            }
            fn merge(&self, bids: &mut $accumulator, other: &$accumulator) {
                self.0(bids, self.1(other));
            }
            fn result(&self, bids: &$accumulator) -> u64 {
                self.1(bids)
            }
            fn migrations() -> Migrations<$accumulator> {
                $migrations
            }
        }
    };
}

/// As text, in the second version.
type Text = String;

fn number(text: &Text) -> u64 {
    text.parse().unwrap_or(0)
}

bids!(u64, Migrations::none());
bids!(Text, Migrations::none().from(|bids: u64| bids.to_string()));

fn version<S: State, A: State>(
    job: &Job,
    add: impl Fn(&mut S, u64) + 'static,
    result: impl Fn(&S) -> (u64, u64) + 'static,
    bids: Bids<A>,
) where
    Bids<A>: Aggregate<Bid, Out = u64>,
{
    let timed = job.source_stream::<Bid>("in", "bid").event_time(Bid::DATE_TIME, Watermarks::bounded(millis(0))).tee();
    timed
        .clone()
        .key_by(Bid::AUCTION)
        .process_with(move |state: &mut S, row: Bid, cx| {
            add(state, row.price);
            let (bid, bids) = result(state);
            cx.emit(line(format!("total {} {bid} {bids}", row.auction)));
        })
        .uid("totals")
        .sink("out");
    timed
        .key_by(Bid::AUCTION)
        .window(Tumbling::new(secs(30)))
        .aggregate(bids)
        .uid("windows")
        .map(|(auction, window, bids)| line(format!("window {auction} {} {bids}", window.end.millis())))
        .sink("out");
}

pub fn version_1(job: &Job) {
    let add = |total: &mut Total1, price| {
        total.bid += price;
        total.bids += 1;
        total.first.get_or_insert(price);
    };
    version(job, add, |total| (total.bid, total.bids.into()), Bids::<u64>(|bids, more| *bids += more, |bids| *bids));
}

pub fn version_2(job: &Job) {
    let add = |total: &mut Total2, price| {
        total.bid += price;
        total.bids += 1;
        total.note = Some("seen by the second version".into());
    };
    let bids = Bids::<Text>(|bids, more| *bids = (number(bids) + more).to_string(), number);
    version(job, add, |total| (total.bid, total.bids), bids);
}

/// A third version, which cannot read what the others have left of their totals.
pub fn version_3(job: &Job) {
    let add = |bids: &mut Vec<String>, price: u64| bids.push(price.to_string());
    let result = |bids: &Vec<String>| (bids.iter().map(number).sum(), bids.len() as u64);
    let bids = Bids::<Text>(|bids, more| *bids = (number(bids) + more).to_string(), number);
    version(job, add, result, bids);
}
