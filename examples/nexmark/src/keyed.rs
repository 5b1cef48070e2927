//! Queries with state for each key.

use weir::{EventTime, Job, Pass, Record};

/// An offer, of which only the time is looked at.
#[derive(Record)]
struct Offer {
    auction: Pass<u64>,
    bidder: Pass<u64>,
    price: Pass<u64>,
    date_time: EventTime,
}

/// The last bid of each bidder for each auction, as a stream of changes.
pub fn q18(job: &Job) {
    job.source_stream::<Offer>("nexmark", "bid")
        .key_by((Offer::BIDDER, Offer::AUCTION))
        .process_with(|last: &mut Option<EventTime>, bid: Offer, cx| {
            if last.is_none_or(|last| last <= bid.date_time) {
                *last = Some(bid.date_time);
                cx.emit(bid);
            }
        })
        .uid("last-bid")
        .sink("out");
}

/// What a bid is for.
#[derive(Record)]
struct Bid {
    auction: Pass<u64>,
}

/// How many bids there were so far.
#[derive(Record)]
struct Bids {
    auction: Pass<u64>,
    bids: u64,
}

/// A running count of the bids for each auction.
pub fn count(job: &Job) {
    job.source_stream::<Bid>("nexmark", "bid")
        .key_by(Bid::AUCTION)
        .process_with(|bids: &mut u64, bid: Bid, cx| {
            *bids += 1;
            cx.emit(Bids { auction: bid.auction, bids: *bids });
        })
        .uid("bids")
        .sink("out");
}
