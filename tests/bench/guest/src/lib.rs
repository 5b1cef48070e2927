//! What the benchmark runs besides the Nexmark queries; the argument `job` picks one.

use weir::{EventTime, ExpiringValue, Expiry, Job, KeyedContext, Pass, Record, Str, Ttl, Watermarks, secs};

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

/// What of a bid makes a key.
#[derive(Clone, Record)]
struct Moment {
    date_time: EventTime,
}

/// A row of one of very many keys.
#[derive(Clone, Record)]
struct Wide {
    key: String,
}

/// A row of one of very many keys, with its time.
#[derive(Clone, Record)]
struct Dated {
    key: String,
    date_time: EventTime,
}

/// A running count of a key's rows.
#[derive(Clone, Record)]
struct Seen {
    rows: u64,
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
/// With the argument `keys`, that many keys, evenly.
fn latency(job: &Job) {
    let keys: Option<u64> = job.argument("keys").and_then(|keys| keys.parse().ok());
    let key = move |bid: &DueBid| match keys {
        Some(keys) => (bid.auction.rotate_left(32) ^ bid.price).wrapping_mul(0x9E37_79B9_7F4A_7C15) % keys.max(1),
        None => bid.auction - 1000,
    };
    job.source_stream::<DueBid>("nexmark", "bid")
        .map(|bid| DueBid { price: bid.price * 908 / 1000, ..bid })
        .filter(|bid| bid.price > 0)
        .map(move |bid| DueBid { auction: key(&bid), ..bid })
        .key_by(DueBid::AUCTION)
        .process_with(|bids: &mut u64, bid, cx| {
            *bids += 1;
            cx.emit(Tally { auction: bid.auction, bids: *bids, due_us: bid.due_us });
        })
        .sink("out");
}

/// A count of each of very many keys of 100 bytes. There is an event for each millisecond. In the first `fill_ms` of them each row has a key of its own; after
/// them only a hundredth of these keys come, and another one every now and then. With `passes = 2`, there are only half as many keys, and all of them come a second
/// time, in another order. With the argument `expires`, a key is forgotten after a million events; with
/// `keeps = "last"`, its last time is kept instead of a count, as Nexmark's q18 does.
fn state(job: &Job) -> Result<(), String> {
    const START: i64 = 1_436_918_400_000;
    const TURN_MS: i64 = 20_000_000;
    /// The events of which the same ones are bids in every round.
    const ROUND_MS: i64 = 50;
    let fill: i64 = job.argument("fill_ms").and_then(|ms| ms.parse().ok()).ok_or("the argument `fill_ms` is a number")?;
    let passes: i64 = job.argument("passes").and_then(|passes| passes.parse().ok()).unwrap_or(1).max(1);
    let pass_rounds = (fill / passes + ROUND_MS - 1) / ROUND_MS;
    let part = (fill / 100 / ROUND_MS).max(1) * ROUND_MS;
    let key = move |bid: &Moment| {
        let at = bid.date_time.millis() - START;
        let at = if at < fill {
            in_first_pass(at / ROUND_MS, pass_rounds) * ROUND_MS + at % ROUND_MS
        } else {
            at / TURN_MS % 100 * part + at % part
        };
        key_of(at as u64)
    };
    let wide = move |bid: Moment| Wide { key: key(&bid) };
    let bids = job.source_stream::<Moment>("nexmark", "bid");
    if job.argument("keeps").as_deref() == Some("last") {
        let last = |last: &mut Option<EventTime>, row: Dated, cx: &mut KeyedContext<'_, String, Dated>| {
            if last.is_none_or(|last| last <= row.date_time) {
                *last = Some(row.date_time);
                cx.emit(row);
            }
        };
        let dated = move |bid: Moment| Dated { key: key(&bid), date_time: bid.date_time };
        bids.map(dated).key_by(Dated::KEY).process_with(last).sink("out");
        return Ok(());
    }
    if job.argument("expires").as_deref() == Some("true") {
        let timed = bids.event_time(Moment::DATE_TIME, Watermarks::bounded(secs(0)));
        let count = |rows: &mut ExpiringValue<u64, MillionEvents>, _, cx: &mut KeyedContext<'_, String, Seen>| {
            let rows = *rows.reduce(1, |a, b| a + b, cx);
            cx.emit(Seen { rows });
        };
        timed.map(wide).key_by(Wide::KEY).process_with(count).sink("out");
        return Ok(());
    }
    let count = |rows: &mut u64, _, cx: &mut KeyedContext<'_, String, Seen>| {
        *rows += 1;
        cx.emit(Seen { rows: *rows });
    };
    bids.map(wide).key_by(Wide::KEY).process_with(count).sink("out");
    Ok(())
}

/// The round of the first pass that has the keys of a round: of a later pass, one that is far from those before and behind.
fn in_first_pass(round: i64, pass_rounds: i64) -> i64 {
    /// A prime, so that each round of a pass is another one of the first pass.
    const STEP: i64 = 1_000_000_007;
    if round < pass_rounds { round } else { round % pass_rounds * STEP % pass_rounds }
}

/// There is an event for each millisecond.
struct MillionEvents;

impl Expiry for MillionEvents {
    const TTL: Ttl = Ttl::new(secs(1000)).event_time();
}

/// A hundred letters that no compression makes short.
fn key_of(number: u64) -> String {
    let mut key = String::with_capacity(100);
    let mut word = number;
    while key.len() < 100 {
        word = (word ^ word >> 31).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        key.extend((0..10).map(|i| char::from(b'0' + (word >> (6 * i) & 63) as u8)));
    }
    key
}

/// Picks the job.
#[weir::job]
fn bench(job: &Job) -> Result<(), String> {
    match job.argument("job").as_deref() {
        Some("bids") => bids(job),
        Some("lines") => lines(job),
        Some("latency") => latency(job),
        Some("boundary") => boundary(job),
        Some("state") => state(job)?,
        other => return Err(format!("the argument `job` is bids, lines, latency, boundary or state, not {other:?}")),
    }
    Ok(())
}
