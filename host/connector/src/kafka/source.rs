//! Topics as a source: each partition is a split.
//!
//! Where a partition starts, and with `until` where it ends, is settled when it is listed, and stands in its split. So it does not depend on when a reader
//! gets to it, and is the same when a job starts again.

use std::collections::{HashMap, HashSet};
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

use super::continuity::{self, Broken, GoesOn, Log, Position};
use super::offsets::{self, Description};
use super::options::{self, OnLost, SourceOptions, Start, Until, Values};
use super::reader::{Commits, PartitionReader};
use super::records::{self, Records};
use crate::format::malformed::Policy;
use crate::{Context, Error, Reader, Source, Split};

/// How often new partitions are looked for unless the job says.
const DISCOVER: Duration = Duration::from_secs(60);
/// What to do about records that are not kept any more.
const LOST_ADVICE: &str = "set on_lost = \"skip\" to read on behind them, or start the job anew by --fresh";
/// What to do about a topic that is not the one that was read.
const MADE_ANEW_ADVICE: &str =
    "start the job anew by --fresh, or keep its state and leave the positions behind by --allow-non-restored-state";
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
    on_lost: OnLost,
    discover: Duration,
    values: Values,
    schema: SchemaRef,
    policy: Arc<Policy>,
    commits: Commits,
    config: ClientConfig,
    /// shared by all readers in this process, made when it is needed
    consumer: Mutex<Option<Arc<Consumer>>>,
    /// the ids of the topics that are read, by their names
    ids: Mutex<HashMap<String, String>>,
}

/// A partition, as it was listed.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Partition {
    pub topic: String,
    /// what tells the topic from others that have its name before or after; none = it was listed when that was not noted, or brokers give no ids
    #[serde(default)]
    pub topic_id: Option<String>,
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
        Split { id: id(&self.topic, self.partition), spec: self.spec(), position: None }
    }

    fn spec(&self) -> serde_json::Value {
        serde_json::json!({
            "topic": self.topic, "topic_id": self.topic_id, "partition": self.partition, "start": self.start, "end": self.end,
        })
    }

    /// The offset of the next record of its split.
    fn next(&self, split: &Split) -> Result<i64, Error> {
        match &split.position {
            None => Ok(self.start),
            Some(position) => position.as_i64().filter(|&offset| offset >= 0).ok_or_else(|| foreign(split, "position")),
        }
    }

    /// Its position cannot be read on from.
    fn gone(&self, broken: Broken) -> Error {
        let advice = if matches!(broken, Broken::Lost { .. }) { LOST_ADVICE } else { MADE_ANEW_ADVICE };
        let why = format!("topic {}, partition {}: {broken}", self.topic, self.partition);
        // Whoever leaves the position behind is told, too.
        tracing::warn!("kafka: {why}");
        Error::gone(format!("{why}; {advice}"))
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
        options.start.check(&topics, context)?;
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
            on_lost: options.on_lost,
            discover: options.discover.map_or(DISCOVER, |duration| duration.0),
            values,
            schema: schema.clone(),
            policy: Arc::new(Policy::new(options.on_malformed, options.rejects_path, context)?),
            commits: if options.group.is_some() { Commits::Asynchronous } else { Commits::None },
            config,
            consumer: Mutex::new(None),
            ids: Mutex::default(),
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

    /// What the brokers say of a topic, which has to be the one that has been read so far.
    fn describe(&self, topic: &str) -> Result<Description, Error> {
        let consumer = self.consumer()?;
        let description = offsets::describe(&consumer, topic)?;
        let mut ids = self.ids.lock();
        match (&description.id, ids.get(topic)) {
            (Some(is), Some(was)) if is != was => {
                return Err(Error::gone(format!("the topic {topic} was made anew while it was read; {MADE_ANEW_ADVICE}")));
            }
            (Some(is), _) => drop(ids.insert(topic.to_owned(), is.clone())),
            (None, _) => {}
        }
        Ok(description)
    }

    /// The id of a topic. The brokers are asked if nobody has asked them before.
    fn topic_id(&self, topic: &str) -> Result<Option<String>, Error> {
        let known = self.ids.lock().get(topic).cloned();
        known.map_or_else(|| self.describe(topic).map(|description| description.id), |id| Ok(Some(id)))
    }

    /// The partitions of a topic of which nobody has heard: they are read from their beginning.
    fn new_partitions(&self, topic: &str, known: &HashSet<String>) -> Result<Vec<Partition>, Error> {
        let consumer = self.consumer()?;
        let Description { id: topic_id, partitions } = self.describe(topic)?;
        let unknown = partitions.into_iter().filter(|&p| !known.contains(&id(topic, p)));
        unknown
            .map(|partition| {
                let (start, _) = offsets::bounds(&consumer, topic, partition)?;
                Ok(Partition { topic: topic.to_owned(), topic_id: topic_id.clone(), partition, start, end: None })
            })
            .collect()
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, Error> {
        let consumer = self.consumer()?;
        let Description { id: topic_id, partitions } = self.describe(topic)?;
        let starts = offsets::starts(&consumer, &self.start, topic, &partitions)?;
        partitions
            .into_iter()
            .map(|partition| {
                let (oldest, newest) = offsets::bounds(&consumer, topic, partition)?;
                let end = self.until.map(|Until::Latest| newest);
                let listed = Partition { topic: topic.to_owned(), topic_id: topic_id.clone(), partition, start: oldest, end };
                let start = match starts.get(&partition) {
                    Some(Offset::Offset(offset)) => self.told_to_start(&listed, *offset, (oldest, newest))?,
                    Some(Offset::End) => newest,
                    _ => oldest,
                };
                Ok(Partition { start, ..listed })
            })
            .collect()
    }

    /// Where a partition starts that is to start at an offset. What brokers have found by the time is there.
    fn told_to_start(&self, partition: &Partition, next: i64, bounds: (i64, i64)) -> Result<i64, Error> {
        if !matches!(self.start, Start::Offsets(_) | Start::Group) {
            return Ok(next);
        }
        self.goes_on(partition, Position { topic_id: None, next, end: None }, bounds)?.map_err(|broken| {
            let advice = if matches!(broken, Broken::Lost { .. }) {
                "set on_lost = \"skip\", or another start"
            } else {
                "set another start"
            };
            let Partition { topic, partition, .. } = partition;
            Error::options(format!(
                "options of \"{}\": start: topic {topic}, partition {partition}: {broken}; {advice}",
                self.name
            ))
        })
    }

    /// The offset at which a partition is read on, as it was listed now, by what the brokers have of it.
    fn goes_on(
        &self,
        partition: &Partition,
        position: Position<'_>,
        (oldest, newest): (i64, i64),
    ) -> Result<Result<i64, Broken>, Error> {
        let Partition { topic, topic_id, partition, .. } = partition;
        // A transaction that is open hides what lies behind it, and whoever did not mind that may have read further.
        let newest = if position.reached() > newest { self.hidden_end(topic, *partition)? } else { newest };
        let log = Log { topic_id: topic_id.as_deref(), oldest, newest };
        Ok(continuity::decide(position, log, self.on_lost).map(|GoesOn { at, lost }| {
            if lost > 0 {
                let next = position.next;
                let place = format!("topic {topic}, partition {partition}, offset {next}");
                tracing::warn!("kafka: {place}: {lost} from there on are passed over, which are not kept any more");
            }
            at
        }))
    }

    /// The offset behind the newest record of a partition, in a transaction that is open or not.
    fn hidden_end(&self, topic: &str, partition: i32) -> Result<i64, Error> {
        let mut config = self.config.clone();
        config.set("isolation.level", "read_uncommitted");
        let failed = |e| Error::io(format!("\"{}\" cannot make a client of Kafka", self.name), e);
        let consumer: Consumer = config.create_with_context(Told).map_err(failed)?;
        offsets::bounds(&consumer, topic, partition).map(|(_, newest)| newest)
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

    /// What its position stands for has to be there. A partition that was to be read without end gets one where `until` was set since.
    fn renew(&self, split: &mut Split) -> Result<(), Error> {
        let was = Partition::of(split)?;
        let next = was.next(split)?;
        let position = Position { topic_id: was.topic_id.as_deref(), next, end: was.end };
        if position.is_over() {
            return Ok(());
        }
        let topic_id = self.topic_id(&was.topic)?;
        let consumer = self.consumer()?;
        let bounds = offsets::bounds(&consumer, &was.topic, was.partition)?;
        let end = was.end.or(self.until.map(|Until::Latest| bounds.1));
        let is = Partition { topic: was.topic.clone(), topic_id, end, ..was };
        let at = self.goes_on(&is, position, bounds)?.map_err(|broken| is.gone(broken))?;
        if at > next {
            split.position = Some(at.into());
        }
        split.spec = is.spec();
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
        let next = partition.next(split)?;
        let records = Records::new(self.values.clone(), &self.schema)?;
        let reader =
            PartitionReader::open(self.consumer()?, partition, next, records, Arc::clone(&self.policy), self.commits, wake)?;
        Ok(Box::new(reader))
    }
}
