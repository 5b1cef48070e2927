//! Topics as a source: each partition is a split.
//!
//! Where a partition starts, and with `until` where it ends, is settled when it is listed, and stands in its split. So it does not depend on when a reader
//! gets to it, and is the same when a job starts again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arrow_schema::SchemaRef;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::offsets;
use super::options::{self, SourceOptions, Start, Until, Values};
use super::reader::{Commits, PartitionReader};
use super::records::{self, Records};
use crate::format::malformed::Policy;
use crate::{Context, Error, Reader, Source, Split};

/// How often new partitions are looked for unless the job says.
const DISCOVER: Duration = Duration::from_secs(60);
/// What a job's properties may change.
const DEFAULTS: &[(&str, &str)] = &[
    // Of each partition, so much is fetched ahead: librdkafka's default would be 64 MiB.
    ("queued.max.messages.kbytes", "16384"),
    // That is read in less than the second for which librdkafka would fetch no more then.
    ("fetch.queue.backoff.ms", "20"),
    ("topic.metadata.refresh.interval.ms", "60000"),
];

/// librdkafka's client, from which all partitions are read.
pub(super) type Consumer = BaseConsumer<Told>;

/// Logs what the client has to tell.
pub(super) struct Told;

impl ClientContext for Told {
    fn error(&self, e: KafkaError, reason: &str) {
        // The end of a partition is told in the same way.
        if e.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!("kafka: {reason}");
        }
    }
}

impl ConsumerContext for Told {}

/// The topics of a source.
pub(super) struct Topics {
    /// what messages call the source
    name: String,
    topics: Vec<String>,
    start: Start,
    until: Option<Until>,
    discover: Duration,
    values: Values,
    schema: SchemaRef,
    policy: Arc<Policy>,
    commits: Commits,
    config: ClientConfig,
    /// shared by all readers in this process, made when it is needed
    consumer: Mutex<Option<Arc<Consumer>>>,
}

/// A partition, as it was listed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Partition {
    pub topic: String,
    pub partition: i32,
    /// where to start
    pub start: i64,
    /// where it ends; none = nowhere
    pub end: Option<i64>,
}

impl Partition {
    fn of(split: &Split) -> Result<Self, Error> {
        Self::deserialize(&split.spec).map_err(|_| foreign(split, "description"))
    }

    fn split(&self) -> Split {
        let spec = serde_json::json!({
            "topic": self.topic, "partition": self.partition, "start": self.start, "end": self.end,
        });
        Split { id: id(&self.topic, self.partition), spec, position: None }
    }
}

fn foreign(split: &Split, what: &str) -> Error {
    Error::options(format!("the split {} has a {what} that is none of Kafka", split.id))
}

fn id(topic: &str, partition: i32) -> String {
    format!("{topic}/{partition}")
}

impl Topics {
    /// Binds the source to its options.
    pub fn new(options: SourceOptions, schema: &SchemaRef, context: &Context) -> Result<Self, Error> {
        let topics = options.topics(context)?;
        if options.start == Start::Group && options.group.is_none() {
            return Err(Error::options(format!("options of \"{}\": start = \"group\" needs the option group", context.name)));
        }
        // librdkafka assigns partitions only to a consumer with a group. Weir deals them out itself, so it is never joined.
        let group = options.group.clone().unwrap_or_else(|| format!("weir-{}-{}", context.attempt.job, context.name));
        let fixed = [
            ("bootstrap.servers", options.brokers.clone()),
            ("group.id", group),
            ("enable.auto.commit", "false".into()),
            ("enable.auto.offset.store", "false".into()),
            // Records that are gone are an error: they would be missing without anyone noticing.
            ("auto.offset.reset", "error".into()),
            ("enable.partition.eof", options.until.is_some().to_string()),
        ];
        let config = options::client(context, &options.properties, options::OURS_READING, DEFAULTS, &fixed)?;
        let values = options.values(&records::value_columns(schema), context)?;
        // Whether the columns can be read is known now.
        Records::new(values.clone(), schema)?;
        Ok(Self {
            name: context.name.clone(),
            topics,
            start: options.start,
            until: options.until,
            discover: options.discover.map_or(DISCOVER, |duration| duration.0),
            values,
            schema: schema.clone(),
            policy: Arc::new(Policy::new(options.on_malformed, options.rejects_path, context)?),
            commits: if options.group.is_some() { Commits::Asynchronous } else { Commits::None },
            config,
            consumer: Mutex::new(None),
        })
    }

    fn consumer(&self) -> Result<Arc<Consumer>, Error> {
        let mut consumer = self.consumer.lock();
        if let Some(consumer) = &*consumer {
            return Ok(Arc::clone(consumer));
        }
        let failed = |e| Error::io(format!("\"{}\" cannot make a client of Kafka", self.name), e);
        Ok(Arc::clone(consumer.insert(Arc::new(self.config.create_with_context(Told).map_err(failed)?))))
    }

    /// The partitions of a topic of which nobody has heard: they are read from their beginning.
    fn new_partitions(&self, topic: &str, known: &HashSet<String>) -> Result<Vec<Partition>, Error> {
        let consumer = self.consumer()?;
        let unknown = offsets::partitions(&consumer, topic)?.into_iter().filter(|&p| !known.contains(&id(topic, p)));
        unknown
            .map(|partition| {
                let (start, _) = offsets::bounds(&consumer, topic, partition)?;
                Ok(Partition { topic: topic.to_owned(), partition, start, end: None })
            })
            .collect()
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, Error> {
        let consumer = self.consumer()?;
        let partitions = offsets::partitions(&consumer, topic)?;
        let starts = offsets::starts(&consumer, &self.start, topic, &partitions)?;
        partitions
            .into_iter()
            .map(|partition| {
                let (oldest, newest) = offsets::bounds(&consumer, topic, partition)?;
                let start = match starts.get(&partition) {
                    Some(Offset::Offset(offset)) => *offset,
                    Some(Offset::End) => newest,
                    _ => oldest,
                };
                Ok(Partition { topic: topic.to_owned(), partition, start, end: self.until.map(|Until::Latest| newest) })
            })
            .collect()
    }
}

impl Source for Topics {
    fn splits(&self, _parallelism: u16) -> Result<Vec<Split>, Error> {
        let mut splits = vec![];
        for topic in &self.topics {
            splits.extend(self.partitions(topic)?.iter().map(Partition::split));
        }
        Ok(splits)
    }

    fn new_splits(&self, known: &HashSet<String>) -> Result<Vec<Split>, Error> {
        let mut splits = vec![];
        for topic in &self.topics {
            let is_known = known.iter().any(|id| id.rsplit_once('/').is_some_and(|(of, _)| of == topic));
            let partitions = match self.until {
                // A topic that the options have not named before is read as they say.
                _ if !is_known => self.partitions(topic)?,
                // What has come since the end was settled lies behind it.
                Some(Until::Latest) => vec![],
                None => self.new_partitions(topic, known)?,
            };
            splits.extend(partitions.iter().map(Partition::split));
        }
        Ok(splits)
    }

    fn excludes(&self, split: &Split) -> Option<String> {
        let Ok(partition) = Partition::deserialize(&split.spec) else { return Some("it is no split of Kafka".to_owned()) };
        let is_named = self.topics.contains(&partition.topic);
        (!is_named).then(|| format!("the options name {}, and not the topic {}", self.topics.join(", "), partition.topic))
    }

    /// A partition that was to be read without end gets one where `until` was set since.
    fn renew(&self, split: &mut Split) -> Result<(), Error> {
        let Some(Until::Latest) = self.until else { return Ok(()) };
        let mut partition = Partition::of(split)?;
        if partition.end.is_none() {
            let consumer = self.consumer()?;
            let (_, newest) = offsets::bounds(&consumer, &partition.topic, partition.partition)?;
            partition.end = Some(newest);
            split.spec = partition.split().spec;
        }
        Ok(())
    }

    fn discovers_every(&self) -> Option<Duration> {
        (self.until.is_none() && !self.discover.is_zero()).then_some(self.discover)
    }

    fn ends(&self) -> bool {
        self.until.is_some()
    }

    fn reader(&self, split: &Split, wake: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
        let partition = Partition::of(split)?;
        let next = match &split.position {
            None => partition.start,
            Some(position) => position.as_i64().filter(|&offset| offset >= 0).ok_or_else(|| foreign(split, "position"))?,
        };
        let records = Records::new(self.values.clone(), &self.schema)?;
        let reader =
            PartitionReader::open(self.consumer()?, partition, next, records, Arc::clone(&self.policy), self.commits, wake)?;
        Ok(Box::new(reader))
    }
}
