//! What the benchmark runs besides the Nexmark queries; the argument `job` picks one.

use weir::{EventTime, Job, Pass, Record, Str};

/// A bid with all its fields, none of which the guest looks at.
#[derive(Clone, Record)]
struct PassedBid {
    auction: Pass<u64>,
    bidder: Pass<u64>,
    price: Pass<u64>,
    channel: Pass<Str>,
    url: Pass<Str>,
    date_time: Pass<EventTime>,
    extra: Pass<Str>,
}

/// A bid with all its fields, each of which crosses into the guest and out again.
#[derive(Clone, Record)]
struct WholeBid {
    auction: u64,
    bidder: u64,
    price: u64,
    channel: Str,
    url: Str,
    date_time: EventTime,
    extra: Str,
}

/// What the filter of `lines` reads and writes.
#[derive(Clone, Record)]
struct Offer {
    auction: u64,
    price: u64,
    channel: Pass<Str>,
    date_time: Pass<EventTime>,
}

/// A bid that was due at an instant, in microseconds since 1970.
#[derive(Clone, Record)]
struct DueBid {
    auction: u64,
    price: u64,
    due_us: Pass<u64>,
}

/// A running count of an auction's bids.
#[derive(Clone, Record)]
struct Tally {
    auction: u64,
    bids: u64,
    due_us: Pass<u64>,
}

/// Made-up bids, written as they are.
fn bids(job: &Job) {
    job.source_stream::<PassedBid>("nexmark", "bid").sink("out");
}

/// Map and filter with nothing that the host could pass: what a crossing costs at most.
fn boundary(job: &Job) {
    job.source_stream::<WholeBid>("nexmark", "bid")
        .map(|bid| WholeBid { price: bid.price * 908 / 1000, ..bid })
        .filter(|bid| bid.price % 2 == 0)
        .sink("out");
}

/// Four of the seven columns, and the half of the rows with an even auction; a price in euros.
fn lines(job: &Job) {
    job.source::<Offer>("bids")
        .filter(|offer| offer.auction % 2 == 0)
        .map(|offer| Offer { price: offer.price * 908 / 1000, ..offer })
        .sink("out");
}

/// Map, filter, map, and a count by key behind an exchange.
fn latency(job: &Job) {
    job.source_stream::<DueBid>("nexmark", "bid")
        .map(|bid| DueBid { price: bid.price * 908 / 1000, ..bid })
        .filter(|bid| bid.price > 0)
        .map(|bid| DueBid { auction: bid.auction - 1000, ..bid })
        .key_by(DueBid::AUCTION)
        .process_with(|bids: &mut u64, bid, cx| {
            *bids += 1;
            cx.emit(Tally { auction: bid.auction, bids: *bids, due_us: bid.due_us });
        })
        .sink("out");
}

/// Picks the job.
#[weir::job]
fn bench(job: &Job) -> Result<(), String> {
    match job.argument("job").as_deref() {
        Some("bids") => bids(job),
        Some("lines") => lines(job),
        Some("latency") => latency(job),
        Some("boundary") => boundary(job),
        other => return Err(format!("the argument `job` is bids, lines, latency or boundary, not {other:?}")),
    }
    Ok(())
}
