use std::sync::Arc;

use arrow_schema::{Field, Schema};
use tokio::sync::Notify;

use super::*;
use crate::blackhole::Blackhole;

fn context() -> Context {
    Context::new("events", crate::Files::free("."))
}

fn stream(name: &str, kind: Kind) -> Stream {
    let fields: Vec<_> = fields(kind, false).into_iter().map(|(name, data_type)| Field::new(name, data_type, false)).collect();
    Stream { name: name.into(), schema: Arc::new(Schema::new(fields)) }
}

fn all_streams() -> [Stream; 3] {
    [stream("person", Kind::Person), stream("auction", Kind::Auction), stream("bid", Kind::Bid)]
}

/// Reads every split to its end, `max_rows` at a time, into one blackhole a stream: the sum of their checksums, and the events.
fn checksum(options: &str, parallelism: u16, max_rows: usize) -> (u64, u64) {
    let options: toml::Table = options.parse().unwrap();
    let streams = all_streams();
    let sinks: Vec<_> = (0..3)
        .map(|i| {
            let options = format!("kind = {i}").parse().unwrap();
            Blackhole.sink(&options, &streams[i].schema, &context()).unwrap()
        })
        .collect();
    let source = Nexmark.source(&options, &streams, &context()).unwrap();
    let mut events = 0;
    for split in source.splits(parallelism).unwrap() {
        let mut writers: Vec<_> = sinks.iter().map(|s| s.writer(0, 1).unwrap()).collect();
        let mut reader = source.reader(&split, &Arc::new(Notify::new())).unwrap();
        while let Fetched::Rows(fetch) = reader.read(max_rows).unwrap() {
            events += fetch.events;
            fetch.batches.iter().for_each(|(stream, batch)| writers[*stream].write(batch).unwrap());
        }
    }
    let sum = sinks.iter().map(|s| s.report().checksum.unwrap()).fold(0, u64::wrapping_add);
    (sum, events)
}

#[test]
fn events_are_those_of_the_specification() {
    // Goal: all columns of all events are those of an independent implementation, at any parallelism and read size.
    for (options, events, expected) in [
        ("events = 50000", 50_000, 0x9c05_376a_24dd_fe6f),
        ("events = 1000000\nseed = 42\nevents_per_ms = 10", 1_000_000, 0x7ad3_003d_072a_f51a),
        ("events = 300000\nseed = 7", 300_000, 0x3820_68e9_0f01_15c6),
    ] {
        for (parallelism, max_rows) in [(1, 4096), (2, 1000), (7, 333), (60, 4096)] {
            assert_eq!(checksum(options, parallelism, max_rows), (expected, events), "{options}, {parallelism} subtasks");
        }
    }
}

#[test]
fn events_may_be_read_one_at_a_time() {
    // Goal: the smallest reads give the same rows as the largest.
    assert_eq!(checksum("events = 3000", 3, 1), checksum("events = 3000", 1, 100_000));
}

#[test]
fn a_paced_source_gives_only_what_is_due() {
    // Goal: with a rate so low that only event 0 is due, one event comes and then an instant to wait for. No time passes in the test.
    let mut streams = all_streams();
    let fields: Vec<_> =
        fields(Kind::Bid, true).into_iter().map(|(name, data_type)| Field::new(name, data_type, false)).collect();
    streams[2].schema = Arc::new(Schema::new(fields));
    let source = Nexmark.source(&"rate = 0.001".parse().unwrap(), &streams, &context()).unwrap();
    let mut reader = source.reader(&source.splits(1).unwrap()[0], &Arc::new(Notify::new())).unwrap();
    let Fetched::Rows(fetch) = reader.read(100).unwrap() else { panic!("event 0 is due at once") };
    assert_eq!(fetch.events, 1);
    assert!(matches!(reader.read(100).unwrap(), Fetched::NotBefore(instant) if instant > std::time::Instant::now()));
    assert_eq!(reader.position(), json!(1));
    // The last event of all is due at an instant that there is not; the reader looks again before.
    assert!(Pace::new(*Pace::RATES.start(), 0).pause(u64::MAX) > std::time::Instant::now());
}

#[test]
fn what_cannot_be_read_is_refused() {
    // Goal: each error of a job spec names what is wrong and what there is instead.
    let check = |options: &str, stream: Stream, parts: &[&str]| {
        let Err(error) = Nexmark.source(&options.parse().unwrap(), &[stream], &context()) else {
            panic!("{options} was accepted")
        };
        for part in parts {
            assert!(error.message.contains(part), "{error} lacks {part}");
        }
    };
    let bid = || stream("bid", Kind::Bid);
    let column = |name: &str, data_type| Stream {
        name: "bid".into(),
        schema: Arc::new(Schema::new(vec![Field::new(name, data_type, false)])),
    };
    check("evnts = 1", bid(), &["evnts", "events", "events_per_ms", "rate", "\"events\""]);
    check("events_per_ms = 0", bid(), &["events_per_ms"]);
    for rate in ["-1.0", "0.0", "1e-300", "1e13", "inf", "nan"] {
        check(&format!("rate = {rate}"), bid(), &["rate must be from 1e-3 to 1e12", "leave it out to read events as fast"]);
    }
    check("", Stream { name: "bids".into(), ..bid() }, &["bids", "person, auction, bid"]);
    check("", column("prize", DataType::UInt64), &["prize", "auction, bidder, price"]);
    check("", column("price", DataType::Utf8), &["price", "UInt64", "Utf8"]);
    check("", column("due_us", DataType::UInt64), &["due_us", "rate"]);
}

#[test]
fn it_conforms() {
    // Goal: the source passes the suite of all sources.
    let bind = |streams: &[Stream]| Nexmark.source(&"events = 300".parse().unwrap(), streams, &context());
    crate::conformance::source(&bind, &all_streams());
}

#[test]
fn events_end_if_they_are_counted() {
    // Goal: a source that makes events without end does not say that it ends.
    for (options, ends) in [("", false), ("rate = 10", false), ("events = 10", true)] {
        let source = Nexmark.source(&options.parse().unwrap(), &all_streams(), &context()).unwrap();
        assert_eq!(source.ends(), ends, "{options}");
    }
}
