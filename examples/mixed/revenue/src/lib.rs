//! The window of the example: what each channel's bids sum up to, every ten seconds.

use weir::{Count, EventTime, Job, Record, Str, Sum, Tumbling, Watermarks, secs};

/// A bid, its price in euros.
#[derive(Clone, Record)]
struct Bid {
    channel: Str,
    price: u64,
    date_time: EventTime,
}

/// The bids of a channel in ten seconds.
#[derive(Clone, Record)]
struct Revenue {
    window_start: EventTime,
    channel: Str,
    bids: u64,
    euros: u64,
}

/// Bids arrive up to a second out of order.
#[weir::job]
fn revenue(job: &Job) {
    job.source::<Bid>("bids")
        .event_time(Bid::DATE_TIME, Watermarks::bounded(secs(1)))
        .key_by(Bid::CHANNEL)
        .window(Tumbling::new(secs(10)))
        .aggregate((Count, Sum::of(Bid::PRICE)))
        .map(|(channel, window, (bids, euros))| Revenue { window_start: window.start, channel, bids, euros })
        .sink("revenue");
}
