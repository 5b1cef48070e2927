//! Tests against a real broker. As each test is a process of its own and starts one, a test goes through all that is to be shown of one thing.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use tokio::sync::Notify;
use weir_types::Batch;

use super::Kafka;
use super::broker::{Broker, Record};
use super::cluster::Cluster;
use crate::error::ErrorKind;
use crate::format::encoder::Encoder;
use crate::registry::Stream;
use crate::tls::authority::Authority;
use crate::{Attempt, Connector, Context, Error, Fetch, Fetched, Files, Reader, Sink, Source, Split, Transaction, conformance};

fn context(generation: u64) -> Context {
    let attempt = Attempt { job: "job-1".into(), generation, ..Attempt::default() };
    Context { attempt, ..Context::new("events", Files::free(std::env::temp_dir())) }
}

fn stream(schema: &SchemaRef) -> Stream {
    Stream { name: String::new(), schema: schema.clone() }
}

fn source(broker: &Broker, options: &str, schema: &SchemaRef) -> Result<Box<dyn Source>, Error> {
    source_in(&context(1), broker, options, schema)
}

fn source_in(context: &Context, broker: &Broker, options: &str, schema: &SchemaRef) -> Result<Box<dyn Source>, Error> {
    // What a broker has to wait for is as short as it gets.
    let options = format!("brokers = \"{}\"\nproperties.\"fetch.wait.max.ms\" = 10\n{options}", broker.address());
    Kafka.source(&options.parse().unwrap(), &[stream(schema)], context)
}

fn sink(broker: &Broker, generation: u64, options: &str, schema: &SchemaRef) -> Result<Box<dyn Sink>, Error> {
    let options = format!("brokers = \"{}\"\n{options}", broker.address());
    Kafka.sink(&options.parse().unwrap(), schema, &context(generation))
}

fn schema(columns: &[(&str, DataType, bool)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, of, nullable)| Field::new(*name, of.clone(), *nullable)).collect::<Vec<_>>()))
}

fn numbers() -> SchemaRef {
    schema(&[("n", DataType::Int64, false)])
}

/// A reader that waits, as a task does: for its `wake` alone.
struct Patient {
    reader: Box<dyn Reader>,
    wake: Arc<Notify>,
}

impl Patient {
    /// What comes within so long; `Waiting` if nothing does.
    fn read_within(&mut self, max_rows: usize, timeout: Duration) -> Result<Fetched, Error> {
        let begin = Instant::now();
        loop {
            match self.reader.read(max_rows)? {
                Fetched::Waiting => {}
                other => return Ok(other),
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let rest = timeout.saturating_sub(begin.elapsed());
            if runtime.block_on(async { tokio::time::timeout(rest, self.wake.notified()).await }).is_err() {
                return Ok(Fetched::Waiting);
            }
        }
    }

    fn rows(&mut self) -> Fetch {
        match self.read_within(1000, Duration::from_secs(20)).unwrap() {
            Fetched::Rows(fetch) => fetch,
            other => panic!("rows should come, not {other:?}"),
        }
    }
}

impl Reader for Patient {
    fn read(&mut self, max_rows: usize) -> Result<Fetched, Error> {
        self.read_within(max_rows, Duration::from_secs(20))
    }

    fn position(&self) -> serde_json::Value {
        self.reader.position()
    }
}

/// A source whose readers wait.
struct Waiting(Box<dyn Source>);

impl Source for Waiting {
    fn splits(&self, parallelism: u16) -> Result<Vec<Split>, Error> {
        self.0.splits(parallelism)
    }

    fn excludes(&self, split: &Split) -> Option<String> {
        self.0.excludes(split)
    }

    fn renew(&self, split: &mut Split) -> Result<(), Error> {
        self.0.renew(split)
    }

    fn reader(&self, split: &Split, _: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
        Ok(Box::new(patient(&*self.0, split)?))
    }
}

fn patient(source: &dyn Source, split: &Split) -> Result<Patient, Error> {
    let wake = Arc::new(Notify::new());
    Ok(Patient { reader: source.reader(split, &wake)?, wake })
}

fn lines(schema: &SchemaRef, batch: &Batch) -> Vec<String> {
    let mut text = Vec::new();
    Encoder::jsonl(schema).unwrap().encode(batch, &mut text);
    String::from_utf8(text).unwrap().lines().map(String::from).collect()
}

/// All rows of a source that ends, as JSON lines, split by split, and how many records were malformed.
fn rows(source: &dyn Source, schema: &SchemaRef) -> Result<(Vec<Vec<String>>, u64), Error> {
    let (mut rows, mut malformed) = (vec![], 0);
    for split in source.splits(1)? {
        let mut reader = patient(source, &split)?;
        let mut of_split = vec![];
        while let Fetched::Rows(fetch) = reader.read(1000)? {
            malformed += fetch.malformed;
            fetch.batches.iter().for_each(|(_, batch)| of_split.extend(lines(schema, batch)));
        }
        rows.push(of_split);
    }
    Ok((rows, malformed))
}

/// Waits for what happens by itself.
fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn value(text: &str) -> Record<'_> {
    Record { value: Some(text.as_bytes()), ..Record::default() }
}

/// Rows `{"n": …}`.
fn batch(numbers: impl IntoIterator<Item = i64>) -> Batch {
    let numbers = arrow_array::Int64Array::from_iter_values(numbers);
    Batch::new(numbers.values().len(), vec![Arc::new(numbers)], None)
}

fn texts(numbers: impl IntoIterator<Item = i64>) -> Vec<String> {
    let mut texts: Vec<_> = numbers.into_iter().map(|n| format!("{{\"n\":{n}}}")).collect();
    texts.sort();
    texts
}

fn sorted_values(broker: &Broker, topic: &str, committed: bool) -> Vec<String> {
    let mut values: Vec<_> = broker.read(topic, committed).into_iter().map(|(_, value)| value).collect();
    values.sort();
    values
}

#[test]
fn it_conforms_as_a_source() {
    // Goal: a topic of several partitions gives the same rows in every way of reading it, and from every position on.
    let broker = Broker::start("");
    broker.create_topic("events", 3);
    let (all_types, sample) = conformance::sample(true);
    let records: Vec<_> = (0..40).flat_map(|_| lines(&all_types, &sample)).collect();
    // The last partition is empty.
    let partitioned = records.iter().enumerate().map(|(i, text)| Record { partition: Some(i as i32 % 2), ..value(text) });
    broker.send("events", partitioned);
    let bind = |streams: &[Stream]| -> Result<Box<dyn Source>, Error> {
        let options = "topic = \"events\"\nuntil = \"latest\"";
        Ok(Box::new(Waiting(source(&broker, options, &streams[0].schema)?)))
    };
    conformance::source(&bind, &[stream(&all_types)]);
}

#[test]
fn it_conforms_as_a_sink() {
    // Goal: what writers take is in the topic once if nothing fails, and can be read, with every compression.
    let broker = Broker::start("");
    let count = std::cell::Cell::new(0);
    let topic = || format!("rows-{}", count.get());
    let bind = |schema: &SchemaRef| {
        count.set(count.get() + 1);
        broker.create_topic(&topic(), 3);
        sink(&broker, 1, &format!("topic = \"{}\"\ndelivery = \"at-least-once\"", topic()), schema)
    };
    conformance::sink(&bind, true, &|_| sorted_values(&broker, &topic(), false));
    // However it is compressed.
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("by-{codec}");
        broker.create_topic(&topic, 1);
        let options =
            format!("topic = \"{topic}\"\ndelivery = \"at-least-once\"\nproperties = {{ \"compression.type\" = \"{codec}\" }}");
        let mut writer = sink(&broker, 1, &options, &numbers()).unwrap().writer(0, 1).unwrap();
        writer.write(&batch(0..1000)).unwrap();
        writer.prepare().unwrap();
        let options = format!("topic = \"{topic}\"\nuntil = \"latest\"");
        let (mut found, _) = rows(&*source(&broker, &options, &numbers()).unwrap(), &numbers()).unwrap();
        found[0].sort();
        assert_eq!(found, [texts(0..1000)], "{codec}");
    }
}

#[test]
fn records_become_rows() {
    // Goal: each part of a record comes as what the documentation says it is, also where it is missing; raw values come as they are; and what is malformed
    // is failed on, skipped or kept, by topic, partition and offset.
    let broker = Broker::start("");
    broker.create_topic("events", 1);
    broker.send(
        "events",
        [
            Record {
                key: Some(b"k"),
                timestamp: Some(1_000),
                headers: &[("a", b"1"), ("b", b"2")],
                ..value("{\"n\":1,\"_offset\":7}")
            },
            Record { timestamp: Some(2_000), ..Record::default() },
        ],
    );
    let header =
        DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)].into());
    let time = DataType::Timestamp(arrow_schema::TimeUnit::Millisecond, Some("UTC".into()));
    let all = schema(&[
        ("_key", DataType::Utf8, true),
        ("_topic", DataType::Utf8, false),
        ("n", DataType::Int64, true),
        ("_partition", DataType::Int32, false),
        ("_offset", DataType::Int64, false),
        ("_timestamp", time, true),
        ("_headers", DataType::List(Arc::new(Field::new("item", header, false))), false),
    ]);
    let options = "topic = \"events\"\nuntil = \"latest\"\n";
    let source_of_all = source(&broker, options, &all).unwrap();
    let split = &source_of_all.splits(1).unwrap()[0];
    assert_eq!((split.id.as_str(), &split.position), ("events/0", &None));
    let batch = &patient(&*source_of_all, split).unwrap().rows().batches[0].1;
    assert_eq!(
        lines(&all, batch),
        [
            "{\"_key\":\"k\",\"_topic\":\"events\",\"n\":1,\"_partition\":0,\"_offset\":0,\"_timestamp\":\"1970-01-01T00:00:01Z\",\
         \"_headers\":[{\"key\":\"a\",\"value\":\"MQ==\"},{\"key\":\"b\",\"value\":\"Mg==\"}]}",
            "{\"_topic\":\"events\",\"_partition\":0,\"_offset\":1,\"_timestamp\":\"1970-01-01T00:00:02Z\",\"_headers\":[]}",
        ]
    );
    assert_eq!(batch.times().map(|times| times[0]), Some(1_000), "the event time is the record's timestamp");
    let raw = schema(&[("_key", DataType::Binary, true), ("text", DataType::Utf8, true)]);
    let (found, _) = rows(&*source(&broker, &format!("{options}format = \"raw\""), &raw).unwrap(), &raw).unwrap();
    assert_eq!(found, [["{\"_key\":\"aw==\",\"text\":\"{\\\"n\\\":1,\\\"_offset\\\":7}\"}", "{}"]]);

    broker.create_topic("avro", 1);
    let binary: [&[u8]; 2] = [b"\0\0\0\0\x07\x04", b"\x01\0\0\0\x07\x04"];
    broker.send("avro", binary.map(|value| Record { value: Some(value), ..Record::default() }));
    let schema_of_n = "{\"type\": \"record\", \"name\": \"N\", \"fields\": [{\"name\": \"n\", \"type\": \"long\"}]}";
    let avro = "topic = \"avro\"\nuntil = \"latest\"\non_malformed = \"skip\"\nformat = \"avro\"\nframing = \"confluent\"\n";
    let found = rows(&*source(&broker, &format!("{avro}schema = '{schema_of_n}'"), &numbers()).unwrap(), &numbers()).unwrap();
    assert_eq!(found, (vec![texts([2])], 1));

    broker.create_topic("protobuf", 1);
    let binary: [&[u8]; 2] = [b"\0\0\0\0\x07\0\x0a\x03Ada", b"\0\0\0\0\x07\x02\0\x0a\x03Bob"];
    broker.send("protobuf", binary.map(|value| Record { value: Some(value), ..Record::default() }));
    let testdata = concat!(env!("CARGO_MANIFEST_DIR"), "/src/format/protobuf/testdata");
    let protobuf = format!(
        "topic = \"protobuf\"\nuntil = \"latest\"\nformat = \"protobuf\"\nframing = \"confluent\"\n\
         descriptors_path = \"{testdata}/user.descriptors\"\nmessage = \"org.example.User\""
    );
    let name = schema(&[("name", DataType::Utf8, false)]);
    let (found, _) = rows(&*source(&broker, &protobuf, &name).unwrap(), &name).unwrap();
    assert_eq!(found, [["{\"name\":\"Ada\"}", "{\"name\":\"Bob\"}"]]);

    broker.send("events", [value("{\"n\":\"x\"}"), value("{\"n\":2}")]);
    let failure = |options: &str| rows(&*source(&broker, options, &numbers()).unwrap(), &numbers()).unwrap_err().message;
    let missing = failure(options);
    assert!(
        missing.starts_with("topic events, partition 0, offset 1: \"n\" is missing (to pass over such records,"),
        "{missing}"
    );
    let (found, malformed) =
        rows(&*source(&broker, &format!("{options}on_malformed = \"skip\""), &numbers()).unwrap(), &numbers()).unwrap();
    assert_eq!((found, malformed), (vec![texts([1, 2])], 2));
    let folder = tempfile::tempdir().unwrap();
    let context = Context { files: Files::free(folder.path()), ..context(1) };
    let options = format!("{options}on_malformed = \"rejects\"\nrejects_path = \"rejects.jsonl\"");
    rows(&*source_in(&context, &broker, &options, &numbers()).unwrap(), &numbers()).unwrap();
    let rejects = std::fs::read_to_string(folder.path().join("rejects.jsonl")).unwrap();
    let expected = "{\"topic\":\"events\",\"partition\":0,\"offset\":2,\"reason\":\"\\\"n\\\": expected an integer of 64 bits, found \\\"x\\\"\",";
    assert!(rejects.lines().nth(1).unwrap().starts_with(expected), "{rejects}");
}

#[test]
fn partitions_are_followed() {
    // Goal: a job starts where it was told to, waits without being asked, finds new partitions, and says what it cannot read.
    let broker = Broker::start("");
    broker.create_topic("events", 1);
    let stamped: Vec<_> = (0..10).map(|n| format!("{{\"n\":{n}}}")).collect();
    broker.send("events", stamped.iter().zip(1..).map(|(text, n)| Record { timestamp: Some(n * 1000), ..value(text) }));
    let bounded = |start: &str| {
        let options = format!("topic = \"events\"\nuntil = \"latest\"\ngroup = \"g\"\nstart = {start}");
        rows(&*source(&broker, &options, &numbers()).unwrap(), &numbers()).unwrap().0.concat()
    };
    assert_eq!(bounded("\"group\""), texts(0..10), "a group that has committed nothing starts at the oldest record");
    assert_eq!(bounded("\"earliest\""), texts(0..10));
    assert_eq!(bounded("\"latest\""), texts([]));
    assert_eq!(bounded("{ timestamp = 8000 }"), texts(7..10));
    assert_eq!(bounded("{ timestamp = 1970-01-01T00:00:08Z }"), texts(7..10));
    assert_eq!(bounded("{ timestamp = \"2100-01-01T00:00:00Z\" }"), texts([]));
    assert_eq!(bounded("{ offsets = { 0 = 6 } }"), texts(6..10));
    assert_eq!(bounded("{ offsets = { \"events/0\" = 9 } }"), texts(9..10));
    // What was read above has been committed for the group.
    eventually("the group is told how far was read", || bounded("\"group\"") == texts([]));

    let options = "topic = \"events\"\nstart = \"latest\"\n";
    let live = source(&broker, &format!("{options}discover = \"1s\""), &numbers()).unwrap();
    assert_eq!(live.discovers_every(), Some(Duration::from_secs(1)));
    let splits = live.splits(2).unwrap();
    let mut reader = patient(&*live, &splits[0]).unwrap();
    assert!(matches!(reader.read_within(10, Duration::from_millis(300)).unwrap(), Fetched::Waiting));
    broker.send("events", [value("{\"n\":10}")]);
    assert_eq!(lines(&numbers(), &reader.rows().batches[0].1), texts([10]));
    assert_eq!((reader.position(), reader.reader.lag()), (11.into(), Some(0)));
    broker.send("events", ["{\"n\":0}"; 3].map(value));
    eventually("the client hears of records that were not read", || reader.reader.lag() == Some(3));
    let bounded = source(&broker, "topic = \"events\"\nuntil = \"latest\"", &numbers()).unwrap();
    let unread = patient(&*bounded, &bounded.splits(1).unwrap()[0]).unwrap();
    assert_eq!(unread.reader.lag(), Some(14), "where it ends is known from the start");
    broker.set_partitions("events", 2);
    broker.send("events", [Record { partition: Some(1), ..value("{\"n\":11}") }]);
    let known: HashSet<_> = splits.iter().map(|split| split.id.clone()).collect();
    let new = live.new_splits(&known).unwrap();
    assert_eq!(new.iter().map(|split| split.id.as_str()).collect::<Vec<_>>(), ["events/1"]);
    let mut of_new = patient(&*live, &new[0]).unwrap();
    assert_eq!(lines(&numbers(), &of_new.rows().batches[0].1), texts([11]), "what came before it was found is read, too");
    assert!(live.new_splits(&known.into_iter().chain(["events/1".to_owned()]).collect()).unwrap().is_empty());
    drop((reader, of_new));

    // The job goes on with other options.
    let other = |options: &str| source(&broker, options, &numbers()).unwrap();
    let ending = other("topic = \"events\"\nuntil = \"latest\"");
    let mut ended = splits[0].clone();
    ending.renew(&mut ended).unwrap();
    assert_eq!((ending.excludes(&ended), &ended.spec["end"]), (None, &serde_json::json!(14)), "it ends where the topic does now");
    let settled = ended.clone();
    broker.send("events", [Record { partition: Some(0), ..value("{\"n\":12}") }]);
    ending.renew(&mut ended).unwrap();
    live.renew(&mut ended).unwrap();
    assert_eq!(ended, settled, "an end that is settled stays");
    broker.create_topic("others", 1);
    broker.send("others", [value("{\"n\":13}")]);
    let moved = other("topic = \"others\"\nuntil = \"latest\"");
    let why = moved.excludes(&splits[0]).expect("it is of another topic");
    assert_eq!(why, "the options name others, and not the topic events");
    let both = other("topics = [\"events\", \"others\"]\nuntil = \"latest\"");
    assert_eq!(both.excludes(&splits[0]), None);
    let new = both.new_splits(&["events/0".to_owned()].into()).unwrap();
    assert_eq!(
        new.iter().map(|split| (split.id.as_str(), &split.spec["end"])).collect::<Vec<_>>(),
        [("others/0", &serde_json::json!(1))]
    );

    let split = Split { position: Some(99.into()), ..splits[0].clone() };
    let gone = patient(&*live, &split).unwrap().read(10).unwrap_err().message;
    assert!(gone.starts_with("topic events, partition 0, offset 99: the partition does not have this offset"), "{gone}");
    let missing = source(&broker, "topic = \"nothing\"", &numbers()).unwrap().splits(1).unwrap_err();
    assert_eq!((missing.kind, missing.message.as_str()), (ErrorKind::Missing, "there is no topic nothing"));
}

#[test]
fn positions_stand_for_what_they_did() {
    // Goal: a topic that was made anew, or has lost what was to be read, is refused for good, when a job goes on and while it runs; a gap is passed over where the
    // options say so; positions from before there were ids are read on.
    let broker = Broker::start("");
    broker.create_topic("events", 1);
    let texts_of_all: Vec<_> = (0..30).map(|n| format!("{{\"n\":{n}}}")).collect();
    broker.send("events", texts_of_all.iter().map(|text| value(text)));
    let bind = |options: &str| source(&broker, &format!("topic = \"events\"\n{options}"), &numbers()).unwrap();
    let live = bind("");
    let listed = live.splits(1).unwrap().remove(0);
    assert!(listed.spec["topic_id"].is_string(), "{}", listed.spec);
    let at = |offset: i64| Split { position: Some(offset.into()), ..listed.clone() };
    let renewed = |options: &str, mut split: Split| bind(options).renew(&mut split).map(|()| split);
    let refused = |options: &str, split: Split, expected: &str| {
        let error = renewed(options, split).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Gone, "{error}");
        assert!(error.message.contains("topic events, partition 0: ") && error.message.contains(expected), "{error}");
    };
    assert_eq!(renewed("", at(20)).unwrap(), at(20));
    let mut old = at(20);
    old.spec.as_object_mut().unwrap().remove("topic_id");
    assert_eq!(renewed("", old.clone()).unwrap(), at(20), "the id is noted from now on");

    broker.trim("events", 0, 25);
    refused("", at(20), "its oldest record is at 25: 5 are not kept any more; set on_lost");
    let skipped = renewed("on_lost = \"skip\"", at(20)).unwrap();
    assert_eq!(skipped, at(25));
    assert_eq!(lines(&numbers(), &patient(&*live, &skipped).unwrap().rows().batches[0].1), texts(25..30));
    let started = |options: &str| bind(options).splits(1).map(|splits| splits[0].spec["start"].clone());
    let offsets = "start = { offsets = { 0 = 20 } }";
    let too_early = started(offsets).unwrap_err();
    assert!(too_early.kind == ErrorKind::Options && too_early.message.contains("its oldest record is at 25"), "{too_early}");
    assert_eq!(started(&format!("{offsets}\non_lost = \"skip\"")).unwrap(), 25);
    let too_late = started("start = { offsets = { \"events/0\" = 31 } }\nuntil = \"latest\"").unwrap_err();
    assert!(
        too_late.kind == ErrorKind::Options && too_late.message.contains("offset 31 is beyond its end, which is 30"),
        "{too_late}"
    );

    broker.delete_topic("events");
    let known: HashSet<_> = [listed.id.clone()].into();
    assert_eq!(live.new_splits(&known).unwrap_err().kind, ErrorKind::Missing, "it may come back");
    assert_eq!(renewed("", at(20)).unwrap_err().kind, ErrorKind::Missing);
    let writer = sink(&broker, 1, "topic = \"events\"\ndelivery = \"at-least-once\"", &numbers()).unwrap().writer(0, 1);
    assert_eq!(writer.err().unwrap().kind, ErrorKind::Missing);
    broker.create_topic("events", 1);
    broker.send("events", texts_of_all.iter().map(|text| value(text)));
    refused("", at(20), "made anew");
    refused("on_lost = \"skip\"\nuntil = \"latest\"", at(20), "--allow-non-restored-state");
    let found = live.new_splits(&known).unwrap_err();
    assert!(found.kind == ErrorKind::Gone && found.message.contains("the topic events was made anew"), "{found}");
    old.position = Some(31.into());
    refused("until = \"latest\"", old, "offset 31 is beyond its end, which is 30");
}

/// Takes rows into one transaction each, and prepares it.
fn prepare(writer: &mut Box<dyn crate::Writer>, rows: impl IntoIterator<Item = i64>) -> Vec<Transaction> {
    writer.write(&batch(rows)).unwrap();
    writer.flush().unwrap();
    let transactions = writer.prepare().unwrap();
    assert_eq!(transactions.len(), 1);
    transactions
}

const EXACTLY_ONCE: &str = "topic = \"out\"";

#[test]
fn rows_are_seen_once_committed() {
    // Goal: rows are hidden until they are committed, and seen once then, however often and in whatever order it is done. A commit that is done again never
    // ends a later transaction.
    let broker = Broker::start("");
    broker.create_topic("out", 2);
    let committed = || sorted_values(&broker, "out", true);
    let sink = sink(&broker, 1, EXACTLY_ONCE, &numbers()).unwrap();
    assert_eq!(sink.delivery(), crate::Delivery::ExactlyOnce);
    sink.recover(&[]).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    assert_eq!(writer.prepare().unwrap(), Vec::<Transaction>::new(), "no rows, no transaction");

    let first = prepare(&mut writer, 0..3);
    assert_eq!(committed(), texts([]));
    assert_eq!(sorted_values(&broker, "out", false), texts(0..3), "the broker has them");
    let second = prepare(&mut writer, 3..6);
    assert_ne!(first, second);
    sink.commit(&second).unwrap();
    sink.commit(&first).unwrap();
    // A commit that the broker has answered is seen in each partition a moment later.
    eventually("both are seen", || committed() == texts(0..6));

    // A third slot was taken before the first two were free; now these are taken again.
    let third = prepare(&mut writer, 6..9);
    let fourth = prepare(&mut writer, 9..12);
    assert_eq!(fourth[0]["transactional_id"], first[0]["transactional_id"]);
    writer.write(&batch(12..13)).unwrap();
    writer.flush().unwrap();
    sink.commit(&[&first[..], &second[..], &first[..]].concat()).unwrap();
    assert_eq!(committed(), texts(0..6), "what was committed again is not what the slot holds now");
    sink.commit(&[&third[..], &fourth[..], &third[..]].concat()).unwrap();

    writer.finish().unwrap();
    let last = writer.prepare().unwrap();
    // Brokers of another cluster know nothing of it, which is no sign of a commit.
    let mut elsewhere = last.clone();
    elsewhere[0]["cluster"] = "another".into();
    let error = sink.commit(&elsewhere).unwrap_err();
    assert!(error.kind == crate::error::ErrorKind::Missing && error.message.contains("on the cluster another"), "{error}");
    sink.commit(&last).unwrap();
    eventually("all but one are seen", || committed() == texts(0..13));
    assert_eq!(sink.report().rows, 13);

    // A writer that is dropped lets go of what it has not prepared.
    let mut writer = sink.writer(1, 2).unwrap();
    writer.write(&batch([99])).unwrap();
    drop(writer);
    broker.send("out", [value("{\"n\":13}")]);
    eventually("nobody waits for an open transaction", || committed() == texts(0..14));
}

#[test]
fn attempts_do_not_meet() {
    // Goal: whenever an attempt ends, a later one commits what it was told was prepared, and removes the rest; each row is seen once. An older attempt that
    // still runs, or runs again, harms nothing.
    let broker = Broker::start("");
    broker.create_topic("out", 2);
    let committed = || sorted_values(&broker, "out", true);
    let attempt = |generation| sink(&broker, generation, EXACTLY_ONCE, &numbers()).unwrap();
    // A crash: nothing is put in order.
    let crash = |sink: Box<dyn Sink>, writer: Box<dyn crate::Writer>| std::mem::forget((sink, writer));

    // Ended between prepare and commit, with more rows in the next transaction.
    let one = attempt(1);
    let mut writer = one.writer(0, 1).unwrap();
    let pending = prepare(&mut writer, 0..3);
    prepare(&mut writer, 100..101);
    writer.write(&batch([101])).unwrap();
    writer.flush().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    crash(one, writer);
    let two = attempt(2);
    two.recover(&pending).unwrap();
    assert_eq!(committed(), texts([]));
    // Attempts may end before they get to it.
    let three = attempt(3);
    three.recover(&pending).unwrap();
    three.commit(&pending).unwrap();
    three.commit(&pending).unwrap();
    eventually("what was prepared is there, and nobody waits for the rest", || committed() == texts(0..3));
    two.commit(&pending).unwrap();

    // A newer attempt is left alone by an older one that recovers late.
    let mut writer = three.writer(0, 1).unwrap();
    writer.write(&batch(3..5)).unwrap();
    writer.flush().unwrap();
    two.recover(&[]).unwrap();
    let next = writer.prepare().unwrap();
    two.recover(&[]).unwrap();
    three.commit(&next).unwrap();
    eventually("the newer attempt was left alone", || committed() == texts(0..5));

    // The commit happened, but nobody wrote that down; the slot has gone on since.
    let mut after = prepare(&mut writer, 5..7);
    three.commit(&after).unwrap();
    for n in 102..105 {
        let transactions = prepare(&mut writer, [n]);
        if n == 104 {
            crash(three, writer);
            let four = attempt(4);
            four.recover(&after).unwrap();
            four.commit(&after).unwrap();
            break;
        }
        after.extend(transactions.clone());
        three.commit(&transactions).unwrap();
    }
    eventually("nothing is lost, and nothing seen twice", || committed() == texts((0..7).chain(102..104)));

    // Another job, another sink, or another log of the same job: not theirs. They neither end what it has prepared, nor take its ids.
    let options = format!("brokers = \"{}\"\n{EXACTLY_ONCE}", broker.address());
    for (count, job, log) in [(10, "job-1-events", ""), (11, "job-1", "elsewhere")] {
        let mut other = context(9);
        (other.attempt.job, other.attempt.log) = (job.into(), log.into());
        let other = Kafka.sink(&options.parse().unwrap(), &numbers(), &other).unwrap();
        let mut writer = other.writer(0, 1).unwrap();
        let of_other = prepare(&mut writer, [7]);
        let newer = attempt(10);
        newer.recover(&[]).unwrap();
        let same = attempt(9);
        drop(same.writer(0, 1).unwrap());
        other.commit(&of_other).unwrap();
        eventually("others are left alone", || committed().len() == count);
    }
}

#[test]
fn connections_are_encrypted() {
    // Goal: by TLS and by each way to log in, rows are written exactly once and read again; a broker whom no authority of ours vouches for gets nothing, nor does
    // a wrong password get anything; no error has the password.
    const PASSWORD: &str = "s3cret-of-ann";
    let (ours, other) = (Authority::new(), Authority::new());
    let broker = Broker::start_encrypted(&ours.certificate(), &ours.identify("127.0.0.1").certificate_and_key(), PASSWORD);
    let folder = tempfile::tempdir().unwrap();
    let own = ours.identify("somebody");
    let files = [
        ("ours.pem", ours.certificate()),
        ("other.pem", other.certificate()),
        ("own.pem", own.certificate),
        ("own.key", own.key),
    ];
    files.iter().for_each(|(name, content)| std::fs::write(folder.path().join(name), content).unwrap());
    // Paths start from the folder of the spec.
    let context = |generation| Context { files: Files::free(folder.path()), ..context(generation) };
    let [by_certificate, by_login] = broker.encrypted_addresses();
    let ssl = |authority: &str| format!("\"security.protocol\" = \"ssl\", \"ssl.ca.location\" = \"{authority}\"");
    let certificate = "\"ssl.certificate.location\" = \"own.pem\", \"ssl.key.location\" = \"own.key\"";
    let login = |mechanism: &str, password: &str| {
        format!(
            "\"security.protocol\" = \"sasl_ssl\", \"ssl.ca.location\" = \"ours.pem\", \"sasl.mechanism\" = \"{mechanism}\", \
             \"sasl.username\" = \"ann\", \"sasl.password\" = \"{password}\""
        )
    };
    let ways = [
        (&by_certificate, format!("{}, {certificate}", ssl("ours.pem"))),
        (&by_login, login("PLAIN", PASSWORD)),
        (&by_login, login("SCRAM-SHA-256", PASSWORD)),
        (&by_login, login("SCRAM-SHA-512", PASSWORD)),
    ];
    for (at, (address, properties)) in ways.iter().enumerate() {
        let topic = format!("way-{at}");
        broker.create_topic(&topic, 1);
        let options = format!("brokers = \"{address}\"\ntopic = \"{topic}\"\nproperties = {{ {properties} }}");
        let sink = Kafka.sink(&options.parse().unwrap(), &numbers(), &context(1)).unwrap();
        sink.recover(&[]).unwrap();
        let mut writer = sink.writer(0, 1).unwrap();
        let prepared = prepare(&mut writer, 0..3);
        sink.commit(&prepared).unwrap();
        let source = Kafka.source(&format!("{options}\nuntil = \"latest\"").parse().unwrap(), &[stream(&numbers())], &context(1));
        let (found, _) = rows(&*source.unwrap(), &numbers()).unwrap();
        assert_eq!(found, [texts(0..3)], "{properties}");
    }
    let recover = |address: &str, properties: &str| {
        let options = format!("brokers = \"{address}\"\ntopic = \"way-0\"\nproperties = {{ {properties} }}");
        let sink = Kafka.sink(&options.parse().unwrap(), &numbers(), &context(2));
        sink.and_then(|sink| sink.recover(&[])).unwrap_err().message
    };
    for (address, properties, why) in [
        (&by_certificate, format!("{}, {certificate}", ssl("other.pem")), "certificate verify failed"),
        (&by_certificate, ssl("gone.pem"), "gone.pem"),
        (&by_login, login("PLAIN", "s3cret-of-bob"), "SASL_AUTHENTICATION_FAILED"),
        (&by_login, login("SCRAM-SHA-256", "s3cret-of-bob"), "SASL_AUTHENTICATION_FAILED"),
        (&by_login, login("OAUTHBEARER", PASSWORD), "\"sasl.mechanism\" to be \"PLAIN\""),
    ] {
        let error = recover(address, &properties);
        assert!(error.contains(why) && !error.contains("s3cret"), "{properties}: {error}");
    }
}

#[test]
fn written_formats_are_read_again() {
    // Goal: rows that were written as Avro, as messages and as JSON, with keys and headers, are read again as they were, whatever comes before the values.
    let broker = Broker::start("");
    let header =
        DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Binary, true)].into());
    let headers = DataType::List(Arc::new(Field::new("item", header, false)));
    let written = schema(&[("name", DataType::Utf8, false), ("number", DataType::Float32, true), ("_headers", headers, false)]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("user"), include_bytes!("../format/protobuf/testdata/user.descriptors")).unwrap();
    let avro = r#"{"type": "record", "name": "R", "fields": [{"name": "number", "type": ["null", "float"]}, {"name": "name", "type": "string"}]}"#;
    let protobuf = "descriptors_path = \"user\"\nmessage = \"org.example.User\"";
    let context = Context { files: Files::free(folder.path()), ..context(1) };
    let lines_of = [
        "{\"name\":\"Ada\",\"number\":1.5,\"_headers\":[{\"key\":\"a\",\"value\":\"AQI=\"},{\"key\":\"a\",\"value\":null}]}",
        "{\"name\":\"Bob\",\"_headers\":[]}",
    ];
    let mut rows_of = crate::format::columns::Rows::new(&written).unwrap();
    for line in lines_of {
        crate::format::json::read_object(line, &mut rows_of).and_then(|()| rows_of.end_row(0)).unwrap();
    }
    let batch = rows_of.take();
    let ways = [
        ("json".to_owned(), ""),
        (format!("avro\"\nschema = '''{avro}'''\nframing = \"none"), ""),
        (format!("avro\"\nschema = '''{avro}'''\nframing = \"confluent"), "schema_id = 7"),
        (format!("protobuf\"\n{protobuf}\nframing = \"none"), ""),
        (format!("protobuf\"\n{protobuf}\nframing = \"confluent"), "schema_id = 7"),
    ];
    for (at, (format, more)) in ways.iter().enumerate() {
        let topic = format!("formats-{at}");
        broker.create_topic(&topic, 1);
        let options = format!("brokers = \"{}\"\ntopic = \"{topic}\"\nformat = \"{format}\"", broker.address());
        let own =
            format!("{options}\ndelivery = \"at-least-once\"\nkey = [\"name\", \"number\"]\nheaders = \"_headers\"\n{more}");
        let sink = Kafka.sink(&own.parse().unwrap(), &written, &context).unwrap();
        let mut writer = sink.writer(0, 1).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let source = Kafka.source(&format!("{options}\nuntil = \"latest\"").parse().unwrap(), &[stream(&written)], &context);
        let (found, _) = rows(&*source.unwrap(), &written).unwrap();
        assert_eq!(found, [lines_of], "{format}");
        let keys: Vec<_> = if at == 0 { broker.read(&topic, false).into_iter().map(|(key, _)| key).collect() } else { vec![] };
        assert!(
            at > 0 || keys == [Some("{\"name\":\"Ada\",\"number\":1.5}".into()), Some("{\"name\":\"Bob\"}".into())],
            "{keys:?}"
        );
    }
    for (options, why) in [
        ("format = \"avro\"", "either the option schema or schema_path"),
        ("format = \"protobuf\"", "descriptors_path and message"),
        ("schema = \"x\"", "for the format avro only"),
        ("schema_id = 1", "for the formats avro and protobuf only"),
        ("headers = \"name\"", "headers are a list of records"),
        ("headers = \"gone\"", "the column of headers of kafka is \"gone\""),
        (&format!("format = \"avro\"\nschema = '''{avro}'''"), "it has no field \"_headers\""),
        (&format!("format = \"avro\"\nschema = '''{avro}'''\nframing = \"confluent\""), "needs the option schema_id"),
        (&format!("format = \"avro\"\nschema = '''{avro}'''\nschema_id = 1"), "for framing = \"confluent\" only"),
    ] {
        let options = format!("brokers = \"{}\"\ntopic = \"x\"\n{options}", broker.address());
        let error = Kafka.sink(&options.parse().unwrap(), &written, &context).map(drop).unwrap_err().message;
        assert!(error.contains(why), "{options}: {error}");
    }
}

#[test]
fn transactions_time_out() {
    // Goal: what the broker has aborted by its time-out is not taken for committed, neither when it is prepared nor when it is committed.
    let broker = Broker::start("");
    broker.create_topic("out", 1);
    let sink = sink(&broker, 1, &format!("{EXACTLY_ONCE}\ntransaction_timeout = \"5s\""), &numbers()).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    let prepared = prepare(&mut writer, [1]);
    writer.write(&batch([2])).unwrap();
    writer.flush().unwrap();
    let mut cluster = Cluster::new(&broker.address(), Arc::default(), Duration::from_secs(20));
    eventually("both are aborted", || cluster.open_transactions().unwrap().is_empty());
    let lost = sink.commit(&prepared).unwrap_err().message;
    assert!(lost.contains("are lost") && lost.contains("transaction_timeout"), "{lost}");
    let ended = writer.prepare().unwrap_err().message;
    assert!(ended.contains("transaction_timeout") || ended.contains("out"), "{ended}");
    assert_eq!(broker.read("out", true), []);

    let too_long = format!("{EXACTLY_ONCE}\ntransaction_timeout = \"1h\"");
    let refused = sink_writer_error(&broker, &too_long);
    assert!(refused.contains("transaction.max.timeout.ms"), "{refused}");
}

fn sink_writer_error(broker: &Broker, options: &str) -> String {
    sink(broker, 1, options, &numbers()).unwrap().writer(0, 1).err().unwrap().message
}

#[test]
fn keys_choose_partitions() {
    // Goal: the key of a record is what the options say, rows of a key share a partition, and the partition is that of Java's clients (murmur2).
    let broker = Broker::start("");
    let columns = schema(&[("n", DataType::Int64, false), ("text", DataType::Utf8, true)]);
    let batch = Batch::new(
        3,
        vec![
            Arc::new(arrow_array::Int64Array::from(vec![1, 2, 3])),
            Arc::new(arrow_array::StringArray::from(vec![Some("a"), None, Some("a")])),
        ],
        None,
    );
    let keys = |topic: &str, options: &str| {
        broker.create_topic(topic, 8);
        let options = format!("topic = \"{topic}\"\ndelivery = \"at-least-once\"\n{options}");
        let sink = sink(&broker, 1, &options, &columns).unwrap();
        let mut writer = sink.writer(0, 1).unwrap();
        writer.write(&batch).unwrap();
        assert_eq!(writer.prepare().unwrap(), Vec::<Transaction>::new());
        let mut found = broker.read(topic, false);
        found.sort_by_key(|(_, value)| value.clone());
        found.into_iter().map(|(key, value)| (key.unwrap_or_else(|| "none".into()), value)).collect::<Vec<_>>()
    };
    let only = |found: Vec<(String, String)>| found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(only(keys("no-key", "")), ["none", "none", "none"]);
    assert_eq!(only(keys("text", "key = \"text\"")), ["a", "none", "a"]);
    assert_eq!(only(keys("number", "key = \"n\"")), ["1", "2", "3"]);
    assert_eq!(
        only(keys("both", "key = [\"text\", \"n\"]")),
        ["{\"text\":\"a\",\"n\":1}", "{\"n\":2}", "{\"text\":\"a\",\"n\":3}"]
    );
    let raw = keys("raw", "key = \"n\"\nformat = \"raw\"");
    assert_eq!(raw, [("2", ""), ("1", "a"), ("3", "a")].map(|(key, value)| (key.to_owned(), value.to_owned())));
    // Kafka's own documentation of its partitioner: murmur2 of the key, without its sign, modulo the partitions.
    let source = source(&broker, "topic = \"text\"\nuntil = \"latest\"", &schema(&[("_key", DataType::Utf8, true)])).unwrap();
    let split = source.splits(1).unwrap().into_iter().find(|split| split.id == format!("text/{}", murmur2(b"a") % 8)).unwrap();
    let rows = patient(&*source, &split).unwrap().rows();
    let keyed = lines(&schema(&[("_key", DataType::Utf8, true)]), &rows.batches[0].1);
    assert_eq!(keyed.iter().filter(|line| *line == "{\"_key\":\"a\"}").count(), 2);
}

/// Kafka's hash of a key (`org.apache.kafka.common.utils.Utils.murmur2`), without its sign, for keys of less than 4 bytes.
fn murmur2(key: &[u8]) -> u32 {
    assert!(key.len() == 1);
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ key.len() as u32;
    hash = (hash ^ u32::from(key[0])).wrapping_mul(M);
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

#[test]
fn options_are_checked() {
    // Goal: a wrong option is named before anything is connected to.
    let source = |options: &str| {
        Kafka.source(&options.parse().unwrap(), &[stream(&numbers())], &context(1)).err().map(|e| e.message).unwrap_or_default()
    };
    let sink = |options: &str| {
        Kafka.sink(&options.parse().unwrap(), &numbers(), &context(1)).err().map(|e| e.message).unwrap_or_default()
    };
    let valid = "brokers = \"127.0.0.1:1\"\ntopic = \"t\"\n";
    assert_eq!((source(valid), sink(valid)), Default::default());
    for (options, expected) in [
        ("topics = [\"u\"]", "either the option topic"),
        ("start = \"oldest\"", "start is \"earliest\""),
        ("start = \"group\"", "needs the option group"),
        ("start = { offsets = { 0 = -1 } }", "start.offsets.0 is no offset"),
        ("start = { offsets = { \"u/1\" = 1 } }", "\"u/1\" is no partition of t"),
        ("start = { offsets = { first = 1 } }", "\"first\" is no partition of t"),
        ("start = { offsets = { 01 = 1 } }", "\"01\" is no partition of t"),
        ("on_lost = \"wait\"", "unknown variant `wait`"),
        ("start = { timestamp = \"today\" }", "start.timestamp is an instant"),
        ("format = \"xml\"", "xml"),
        ("framing = \"confluent\"", "for the formats avro and protobuf only"),
        ("schema = \"x\"", "for the format avro only"),
        ("message = \"x\"", "for the format protobuf only"),
        ("format = \"protobuf\"", "needs the options descriptors_path and message"),
        ("format = \"avro\"", "either the option schema or schema_path"),
        ("format = \"avro\"\nschema = \"x\"", "the Avro schema: it is no JSON"),
        ("format = \"avro\"\nschema_path = \"no/where.avsc\"", "no/where.avsc cannot be read"),
        ("discover = \"often\"", "no duration"),
        ("on_malformed = \"rejects\"", "rejects_path"),
        ("key = \"n\"", "key"),
        ("properties.\"group.id\" = \"g\"", "the option group stands for it"),
        ("properties.\"bootstrap.servers\" = \"x\"", "the option brokers stands for it"),
        ("properties.\"plugin.library.paths\" = \"x\"", "does not load code"),
        ("properties.\"fetch.wait.min\" = 1", "the property \"fetch.wait.min\""),
        ("properties.\"fetch.wait.max.ms\" = \"soon\"", "the property \"fetch.wait.max.ms\""),
    ] {
        let message = source(&format!("{valid}{options}"));
        assert!(message.contains("events") && message.contains(expected) || message.contains(expected), "{options}: {message}");
    }
    for (options, expected) in [
        ("key = \"m\"", "the columns are: n"),
        ("key = []", "key is the name of a column"),
        ("delivery = \"at-most-once\"", "exactly-once"),
        ("delivery = \"at-least-once\"\ntransaction_timeout = \"1m\"", "for delivery = \"exactly-once\" only"),
        ("format = \"raw\"", "utf8 or binary"),
        ("properties.\"transactional.id\" = \"x\"", "the option delivery stands for it"),
        ("properties.acks = 1", "all replicas"),
    ] {
        let message = sink(&format!("{valid}{options}"));
        assert!(message.contains(expected), "{options}: {message}");
    }
}

#[test]
fn confined_jobs_have_few_properties() {
    // Goal: no setting by which a job on a server would open a file, run a command or harm the process gets to librdkafka, whichever side it is of.
    let folder = tempfile::tempdir().unwrap();
    let confined = Context { files: Files::confined(folder.path()).unwrap(), ..context(1) };
    let schema = schema(&[("n", DataType::Int64, false)]);
    let bound = |properties: &str| {
        let options = format!("brokers = \"127.0.0.1:1\"\ntopic = \"t\"\n{properties}").parse().unwrap();
        let source = Kafka.source(&options, &[stream(&schema)], &confined).map(drop);
        source.and(Kafka.sink(&options, &schema, &confined).map(drop))
    };
    bound("properties.\"security.protocol\" = \"ssl\"\nproperties.\"socket.timeout.ms\" = 1000").unwrap();
    for name in [
        "ssl.ca.location",
        "ssl.keystore.location",
        "ssl.engine.location",
        "ssl.providers",
        "sasl.kerberos.keytab",
        "sasl.kerberos.kinit.cmd",
        "offset.store.path",
        "internal.termination.signal",
        "debug",
        "queued.min.messages",
        "reconnect.backoff.ms",
        "reconnect.backoff.max.ms",
    ] {
        let error = bound(&format!("properties.\"{name}\" = \"all\"")).unwrap_err();
        let says = format!("properties of a job on a server cannot have \"{name}\", only these: ");
        assert!(error.message.contains(&says) && error.message.contains("ssl.ca.pem"), "{error}");
    }
}
