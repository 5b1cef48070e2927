//! Queries over windows of time.

use std::cmp::Ordering;

use weir::{Aggregate, Count, EventTime, Job, Pass, Record, Session, Sliding, Stream, Tumbling, Watermarks, secs};

/// Who bids for what.
#[derive(Record)]
struct Bid {
    auction: Pass<u64>,
    bidder: Pass<u64>,
    date_time: Pass<EventTime>,
}

/// Event times of the generator never go back.
fn bids(job: &Job) -> Stream<Bid> {
    job.source_stream::<Bid>("nexmark", "bid").event_time(Bid::DATE_TIME, Watermarks::bounded(secs(0)))
}

/// How many bids an auction got in a window.
#[derive(Record)]
struct Demand {
    auction: u64,
    bids: u64,
    window_end: EventTime,
}

/// The auctions with the most bids.
struct Hottest;

impl Aggregate<Demand> for Hottest {
    type Row = Demand;
    /// the greatest number of bids, and the auctions that got so many
    type Accumulator = (u64, Vec<u64>);
    type Out = (u64, Vec<u64>);

    fn add(&self, (most, auctions): &mut Self::Accumulator, demand: Demand) {
        if demand.bids > *most {
            (*most, *auctions) = (demand.bids, vec![demand.auction]);
        } else if demand.bids == *most {
            auctions.push(demand.auction);
        }
    }

    fn merge(&self, (most, auctions): &mut Self::Accumulator, other: &Self::Accumulator) {
        match other.0.cmp(most) {
            Ordering::Less => {}
            Ordering::Equal => auctions.extend(&other.1),
            Ordering::Greater => (*most, *auctions) = other.clone(),
        }
    }

    fn result(&self, hottest: &Self::Accumulator) -> Self::Out {
        hottest.clone()
    }
}

/// Hot items: in windows of 10 s, one every 2 s, the auctions with the most bids.
pub fn q5(job: &Job) {
    bids(job)
        .key_by(Bid::AUCTION)
        .window(Sliding::new(secs(10), secs(2)))
        .aggregate(Count)
        .uid("bids-by-auction")
        .map(|(auction, window, bids)| Demand { auction, bids, window_end: window.end })
        .key_by(Demand::WINDOW_END)
        // The results of a window have its last millisecond as their time, so they are together in the last 2 s of it.
        .window(Tumbling::new(secs(2)))
        .aggregate(Hottest)
        .uid("hottest")
        .flat_map(|(window_end, _, (bids, auctions))| {
            auctions.into_iter().map(move |auction| Demand { auction, bids, window_end })
        })
        .sink("out");
}

/// An offer.
#[derive(Clone, Record)]
struct Offer {
    auction: u64,
    bidder: u64,
    price: u64,
    date_time: EventTime,
}

/// The higher offer; of equal ones the earliest, then that for the lowest auction, then that of the lowest bidder.
fn better(a: Offer, b: Offer) -> Offer {
    let order =
        a.price.cmp(&b.price).then(b.date_time.cmp(&a.date_time)).then(b.auction.cmp(&a.auction)).then(b.bidder.cmp(&a.bidder));
    if order.is_lt() { b } else { a }
}

/// Highest bid: the best offer of each 10 s.
pub fn q7(job: &Job) {
    job.source_stream::<Offer>("nexmark", "bid")
        .event_time(Offer::DATE_TIME, Watermarks::bounded(secs(0)))
        .window_all(Tumbling::new(secs(10)))
        .reduce(better)
        .uid("highest-bid")
        .map(|((), _, bid)| bid)
        .sink("out");
}

/// A while in which somebody was bidding.
#[derive(Record)]
struct Visit {
    bidder: u64,
    bids: u64,
    first: EventTime,
    end: EventTime,
}

/// User sessions: how many bids each bidder made until none came for 10 s.
pub fn q11(job: &Job) {
    bids(job)
        .key_by(Bid::BIDDER)
        .window(Session::gap(secs(10)))
        .aggregate(Count)
        .uid("bids-by-session")
        .map(|(bidder, window, bids)| Visit { bidder, bids, first: window.start, end: window.end })
        .sink("out");
}
