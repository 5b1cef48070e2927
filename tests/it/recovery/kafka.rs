//! From topics of Kafka to parts in a folder, and to other topics.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::broker::{Broker, Record};
use super::{Dice, Moment, Victim, is_complete, published, shared, undisturbed};
use crate::run::{root, weir};
use crate::server::interrupt;

/// The broker of all tests that run now.
static BROKER: Mutex<Weak<Broker>> = Mutex::new(Weak::new());

/// Partitions of each topic.
pub(super) const PARTITIONS: i32 = 4;

/// A setting by which clients look soon whether a broker is back.
const SOON: &str = "\"reconnect.backoff.max.ms\" = 500";

pub(super) fn broker() -> Arc<Broker> {
    shared(&BROKER, || Broker::start(""))
}

/// A topic of bids, to be read to its end. What is fetched comes in small helpings, with a pause of the client between those of a partition: however fast
/// the machine is, 150,000 events take at least 10 s.
pub(super) struct Bids {
    broker: Arc<Broker>,
    topic: String,
    events: u64,
}

impl Bids {
    /// Has the generator fill a topic. The bids of an auction are in one partition.
    pub(super) fn new(topic: &str, events: u64) -> Self {
        Self::at(broker(), topic, events)
    }

    /// The same at a broker of one's own.
    fn at(broker: Arc<Broker>, topic: &str, events: u64) -> Self {
        let bids = Self { broker, topic: topic.to_owned(), events };
        bids.broker.create_topic(topic, PARTITIONS);
        let sink = format!(
            "sinks.out={{ connector = \"kafka\", brokers = \"{}\", topic = \"{topic}\", key = \"auction\", delivery = \"at-least-once\", \
             properties = {{ \"batch.num.messages\" = 100, \"linger.ms\" = 1 }} }}",
            bids.broker.address()
        );
        let mut command = weir();
        command.arg("run").arg(root().join("examples/nexmark/q0.toml")).args(["--quiet", "--set", &sink]);
        for (path, value) in bids.generator() {
            command.arg("--set").arg(format!("{path}={value}"));
        }
        assert!(command.status().unwrap().success());
        bids
    }

    /// What the generator was told.
    fn generator(&self) -> [(&'static str, String); 2] {
        [("sources.nexmark.events", self.events.to_string()), ("sources.nexmark.events_per_ms", "1".into())]
    }

    /// What a query makes of them if nobody disturbs it.
    pub(super) fn expected(&self, query: &str) -> Vec<String> {
        let settings = self.generator();
        undisturbed(query, &settings.each_ref().map(|(path, value)| (*path, value.as_str())))
    }

    /// A job that reads them.
    pub(super) fn victim(&self, name: &'static str, query: &str, settings: &[(&str, &str)]) -> Victim {
        let mut victim = Victim::new(name, &format!("examples/nexmark/{query}.toml"), settings);
        victim.set(
            "sources.nexmark",
            format!(
                "{{ connector = \"kafka\", brokers = \"{}\", topic = \"{}\", until = \"latest\", properties = {{ \
                 \"fetch.message.max.bytes\" = 32768, \"queued.min.messages\" = 1, \"fetch.queue.backoff.ms\" = 60, {SOON} }} }}",
                self.broker.address(),
                self.topic
            ),
        );
        victim
    }

    /// Binds the sink of a job to a new topic.
    pub(super) fn write_topic(&self, victim: &mut Victim, topic: &str, delivery: &str) {
        self.broker.create_topic(topic, PARTITIONS);
        let broker = self.broker.address();
        victim.set(
            "sinks.out",
            format!(
                "{{ connector = \"kafka\", brokers = \"{broker}\", topic = \"{topic}\", key = \"auction\", delivery = \"{delivery}\", \
                 properties = {{ {SOON} }} }}"
            ),
        );
    }

    /// The same as the function of that name, at its broker.
    pub(super) fn committed(&self, topic: &str) -> Vec<String> {
        committed(&self.broker, topic)
    }
}

/// The rows that a reader of a topic sees who sees only what is committed, in an order of their own.
pub(super) fn committed(broker: &Broker, topic: &str) -> Vec<String> {
    let mut rows: Vec<_> = broker.read(topic, true).into_iter().map(|(_, value)| value).collect();
    rows.sort_unstable();
    rows
}

/// Goal: partitions go on where the checkpoint has them, so that windows over them count each record once, at any parallelism.
#[test]
fn windows_over_partitions() {
    let bids = Bids::new("windows_over_partitions", 150_000);
    let expected = bids.expected("q5");
    let mut victim = bids.victim("windows_over_partitions", "q5", &[]);
    let out = victim.write_parts();
    victim.torment(&[2, 1], 12, Moment::draw_elsewhere);
    victim.compare(&expected, &published(&out));
}

/// Goal: from topic to topic, each row is seen once by those who read what is committed, whatever is killed between two checkpoints, at a commit or before
/// a pending transaction was committed again.
#[test]
fn topic_to_topic() {
    survives_from_topic_to_topic("topic_to_topic", "keyed_count", &[1, 2, 3], 14, &[]);
}

/// Kills a job of a query from topic to topic so many times, and compares what those see in the end who read what is committed.
fn survives_from_topic_to_topic(name: &'static str, query: &str, parallelisms: &[u64], kills: u32, settings: &[(&str, &str)]) {
    let bids = Bids::new(name, 150_000);
    let expected = bids.expected(query);
    let mut victim = bids.victim(name, query, settings);
    let topic = format!("{name}_out");
    bids.write_topic(&mut victim, &topic, "exactly-once");
    // A producer with transactions takes about a second to begin.
    victim.set("checkpoint.interval", "300ms");
    victim.pause_max = Duration::from_secs(3);
    victim.torment(parallelisms, kills, Moment::draw_late);
    victim.compare(&expected, &bids.committed(&topic));
}

/// Goal: the same of windows, whose state and results are of one moment.
#[test]
fn windows_from_topic_to_topic() {
    survives_from_topic_to_topic("windows_from_topic_to_topic", "q5", &[1, 2, 3], 10, &[]);
}

/// Goal: the same where barriers overtake rows, state is on disk, and the parallelism changes.
#[test]
fn unaligned_windows_from_topic_to_topic() {
    let settings = [
        ("checkpoint.mode", "unaligned"),
        ("batch.channel_capacity", "2"),
        ("batch.rows", "64"),
        ("state.backend", "rocksdb"),
        ("state.slots_max", "64"),
    ];
    survives_from_topic_to_topic("unaligned_windows_from_topic_to_topic", "q5", &[2, 1, 3], 6, &settings);
}

/// Goal: at least once, all rows are there, whatever is killed.
#[test]
fn topic_to_topic_at_least_once() {
    let bids = Bids::new("at_least_once", 100_000);
    let expected = bids.expected("keyed_count");
    let mut victim = bids.victim("topic_to_topic_at_least_once", "keyed_count", &[]);
    bids.write_topic(&mut victim, "at_least_once_counts", "at-least-once");
    victim.torment(&[2, 1], 10, Moment::draw_elsewhere);
    assert!(is_complete(&expected, &bids.committed("at_least_once_counts")), "{}", victim.log());
}

/// Goal: a source that never ends reads all of its partitions at the same time, however many they are, and those that are added while the job runs. It tells
/// how far it is behind.
#[test]
fn partitions_come_and_are_read() {
    let broker = shared(&BROKER, || Broker::start(""));
    for parallelism in ["1", "2"] {
        let topic = format!("partitions_come_{parallelism}");
        broker.create_topic(&topic, 20);
        let send = |partitions: std::ops::Range<i32>| {
            let bid = |n: i32| format!("{{\"auction\":{},\"price\":{n}}}", 123 * n);
            partitions.for_each(|n| {
                broker.send(&topic, [Record { partition: Some(n), value: Some(bid(n).as_bytes()), ..Record::default() }]);
            });
        };
        send(0..20);
        let mut command = weir();
        command.arg("run").arg(root().join("examples/nexmark/q2.toml")).args(["--quiet", "--parallelism", parallelism]);
        command.args(["--summary", "json", "--set", "sinks.out={ connector = \"stdout\" }", "--set"]).arg(format!(
            "sources.nexmark={{ connector = \"kafka\", brokers = \"{}\", topic = \"{topic}\", discover = \"200ms\" }}",
            broker.address()
        ));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut read = |rows: usize| {
            let mut prices: Vec<u64> = lines
                .by_ref()
                .take(rows)
                .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap()["price"].as_u64().unwrap())
                .collect();
            prices.sort_unstable();
            prices
        };
        assert_eq!(read(20), (0..20).collect::<Vec<_>>());
        broker.set_partitions(&topic, 26);
        send(20..26);
        assert_eq!(read(6), (20..26).collect::<Vec<_>>());
        interrupt(&child);
        let summary = lines.next().expect("the summary comes last").unwrap();
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert_eq!(summary["operators"][0]["lag_records"], 0, "{summary}");
        assert!(child.wait().unwrap().success());
    }
}

/// Goal: a partition without rows holds windows back, unless the job says after how long it is idle; then they close on what the others have.
#[test]
fn empty_partitions_are_idle() {
    const SECONDS: u64 = 30;
    let broker = broker();
    broker.create_topic("empty_partitions", 2);
    let bid = |second: u64| format!("{{\"auction\":7,\"bidder\":1,\"date_time\":\"2015-07-15T00:00:{second:02}Z\"}}");
    let bids: Vec<_> = (0..SECONDS).map(bid).collect();
    let values = bids.iter().map(|bid| Some(bid.as_bytes()));
    broker.send("empty_partitions", values.map(|value| Record { partition: Some(0), value, ..Record::default() }));
    let start = |setting: &str| {
        let mut command = weir();
        command.arg("run").arg(root().join("examples/nexmark/q5.toml")).args(["--quiet", "--parallelism", "1"]);
        command.args(["--set", "sinks.out={ connector = \"stdout\" }", "--set"]).arg(format!(
            "sources.nexmark={{ connector = \"kafka\", brokers = \"{}\", topic = \"empty_partitions\"{setting} }}",
            broker.address()
        ));
        super::Process(command.stdout(Stdio::piped()).spawn().unwrap())
    };
    let lines = |process: &mut super::Process| BufReader::new(process.0.stdout.take().unwrap()).lines();

    let mut patient = start("");
    let mut held_back = lines(&mut patient);
    let mut process = start(", idle_after = \"300ms\"");
    let demand =
        |line: std::io::Result<String>| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap()["bids"].as_u64();
    // Windows of 10 s, of which one ends every 2 s, and the last one that has ended does so at 28 s.
    let mut demands: Vec<_> = lines(&mut process).take(14).map(demand).collect();
    demands.sort_unstable();
    assert_eq!(demands, (1..=14).map(|n| Some(10_u64.min(2 * n))).collect::<Vec<_>>());
    drop(patient);
    assert!(held_back.next().is_none(), "no window is known to be complete");
}

/// A job from topic to topic that has to get over what befalls its broker by itself.
fn outlasts(name: &'static str, events: u64, times: u32, trouble: impl Fn(&Broker, &mut Dice)) {
    let bids = Bids::at(Arc::new(Broker::start("")), "bids", events);
    let expected = bids.expected("keyed_count");
    let mut victim = bids.victim(name, "keyed_count", &[]);
    bids.write_topic(&mut victim, "counts", "exactly-once");
    victim.set("checkpoint.interval", "300ms");
    victim.set("checkpoint.timeout", "2s");
    victim.endure(2, times, |dice| trouble(&bids.broker, dice));
    victim.compare(&expected, &bids.committed("counts"));
}

/// Goal: a broker that answers nobody for a while, for shorter and for longer than a checkpoint may take, costs time and no row.
#[test]
fn frozen_broker() {
    outlasts("frozen_broker", 150_000, 4, |broker, dice| {
        broker.freeze();
        std::thread::sleep(Duration::from_millis(500 + dice.below(3500)));
        broker.thaw();
    });
}

/// Goal: a broker that answers everything, but slowly, costs time and no row.
#[test]
fn slow_broker() {
    outlasts("slow_broker", 150_000, 3, |broker, dice| {
        // For seconds, it is awake a fifth of the time.
        for _ in 0..20 + dice.below(20) {
            broker.freeze();
            std::thread::sleep(Duration::from_millis(80));
            broker.thaw();
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

/// Goal: a broker that is killed and comes back with what it had costs time and no row, whatever transactions were open or were being committed.
#[test]
fn killed_broker() {
    outlasts("killed_broker", 150_000, 2, |broker, dice| {
        broker.kill();
        std::thread::sleep(Duration::from_millis(dice.below(1500)));
        broker.start_again();
    });
}

/// Goal: the same where the process is killed besides, while its broker does not answer, while it is away, and when it is back.
#[test]
fn killed_while_the_broker_fails() {
    let bids = Bids::at(Arc::new(Broker::start("")), "bids", 150_000);
    let expected = bids.expected("keyed_count");
    let mut victim = bids.victim("killed_while_the_broker_fails", "keyed_count", &[]);
    bids.write_topic(&mut victim, "counts", "exactly-once");
    victim.set("checkpoint.interval", "300ms");
    victim.set("checkpoint.timeout", "2s");
    victim.pause_max = Duration::from_secs(3);
    let broker = &bids.broker;
    victim.torment_amid(&[2, 1], 7, Moment::draw_late, |dice| {
        if dice.below(3) == 0 {
            broker.kill();
            std::thread::sleep(Duration::from_millis(dice.below(800)));
            broker.start_again();
        } else {
            broker.freeze();
            std::thread::sleep(Duration::from_millis(200 + dice.below(1500)));
            broker.thaw();
        }
    });
    victim.compare(&expected, &bids.committed("counts"));
}

/// Goal: a job that is started before its broker waits for it.
#[test]
fn absent_broker() {
    let bids = Bids::at(Arc::new(Broker::start("")), "bids", 20_000);
    let expected = bids.expected("keyed_count");
    let mut victim = bids.victim("absent_broker", "keyed_count", &[]);
    bids.write_topic(&mut victim, "counts", "exactly-once");
    bids.broker.kill();
    victim.endure(1, 1, |_| bids.broker.start_again());
    victim.compare(&expected, &bids.committed("counts"));
}
