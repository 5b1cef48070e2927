//! Queries that look at one row at a time.

use weir::{EventTime, Job, Pass, Record, Str};

use crate::rows::{Auction, Bid, Person};

/// All events, to three sinks: the generator and the engine alone, no function of the job runs.
pub fn all(job: &Job) {
    job.source_stream::<Person>("nexmark", "person").sink("person");
    job.source_stream::<Auction>("nexmark", "auction").sink("auction");
    job.source_stream::<Bid>("nexmark", "bid").sink("bid");
}

/// A bid without its channel and URL.
#[derive(Record)]
struct Offer {
    auction: Pass<u64>,
    bidder: Pass<u64>,
    price: Pass<u64>,
    date_time: Pass<EventTime>,
    extra: Pass<Str>,
}

/// Pass-through: every bid as it is. The function does nothing, but it is called.
pub fn q0(job: &Job) {
    job.source_stream::<Offer>("nexmark", "bid").map(|bid| bid).sink("out");
}

/// An offer with a price to calculate with.
#[derive(Record)]
struct PricedOffer {
    auction: Pass<u64>,
    bidder: Pass<u64>,
    price: u64,
    date_time: Pass<EventTime>,
    extra: Pass<Str>,
}

/// An offer in euros.
#[derive(Record)]
struct EuroOffer {
    auction: Pass<u64>,
    bidder: Pass<u64>,
    price: f64,
    date_time: Pass<EventTime>,
    extra: Pass<Str>,
}

/// Currency conversion: every bid with its price in euros.
pub fn q1(job: &Job) {
    job.source_stream::<PricedOffer>("nexmark", "bid")
        .map(|bid| EuroOffer {
            auction: bid.auction,
            bidder: bid.bidder,
            // A signed number becomes a float by one instruction, an unsigned one by several; no price needs the 64th bit.
            price: bid.price as i64 as f64 * 0.908,
            date_time: bid.date_time,
            extra: bid.extra,
        })
        .sink("out");
}

/// What a bid is for, and how much it offers.
#[derive(Record)]
struct Price {
    auction: u64,
    price: Pass<u64>,
}

/// Selection: the bids for certain auctions.
pub fn q2(job: &Job) {
    job.source_stream::<Price>("nexmark", "bid").filter(|bid| bid.auction % 123 == 0).sink("out");
}
