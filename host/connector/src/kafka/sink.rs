//! A topic as a sink.
//!
//! Exactly once: what a writer takes between two checkpoints is one transaction. To prepare it, the writer waits until the brokers have all of it, and goes
//! on in another one, with a producer that was begun before. To commit it, the coordinator is asked to, by the name of the transaction alone: it does not
//! matter whether that is done at once, or by a later attempt in another process.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arrow_schema::SchemaRef;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use weir_types::Batch;

use super::cluster::Cluster;
use super::encoding::Encoding;
use super::native::Outgoing;
use super::options::{self, SinkOptions};
use super::producer::Producer;
use super::security::Security;
use super::transaction::{self, Names, Prepared};
use crate::totals::Totals;
use crate::{Context, Delivery, Error, Report, Sink, Transaction, Writer};

/// How long the broker keeps a transaction open unless the job says: as long as brokers allow, unless they are told otherwise.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a record in a transaction waits for others to be sent with.
const TRANSACTION_LINGER_MS: &str = "50";
/// How long a record may take to be acknowledged, and no longer than the transaction may.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(120);
/// How long to go on asking for a commit while the cluster is in motion.
const PATIENCE: Duration = Duration::from_secs(60);
/// The same when a job ends and has a transaction open: the broker would abort it by itself, later.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// So many transactions are begun ahead at most, however close checkpoints are.
const AHEAD_MAX: usize = 16;
/// So many records are handed over at a time.
const SENT_MAX: usize = 256;
/// What a job's properties may change.
const DEFAULTS: &[(&str, &str)] = &[
    // So much may be under way in each writer: librdkafka's default would be 1 GiB.
    ("queue.buffering.max.kbytes", "65536"),
    // The partition of a key is that of Java's clients.
    ("partitioner", "murmur2_random"),
];

/// A topic that is written to.
pub(super) struct Topic {
    shared: Arc<Shared>,
    encoding: Encoding,
    delivery: options::Delivery,
    totals: Arc<Totals>,
}

/// What all writers of a sink have in common.
struct Shared {
    brokers: String,
    /// how they are reached, where the client of transactions asks them
    security: Arc<Security>,
    topic: String,
    config: ClientConfig,
    names: Names,
    /// the transactional ids that hold a transaction, prepared or not
    busy: Mutex<HashSet<String>>,
}

impl Topic {
    /// Binds the sink to its options.
    pub fn new(options: &SinkOptions, schema: &SchemaRef, context: &Context) -> Result<Self, Error> {
        let mut fixed = vec![
            ("bootstrap.servers", options.brokers.clone()),
            ("enable.idempotence", "true".into()),
            ("delivery.report.only.error", "true".into()),
        ];
        let mut defaults = DEFAULTS.to_vec();
        let delivery_ms = DELIVERY_TIMEOUT.as_millis().to_string();
        let timeout = options.transaction_timeout.map_or(TRANSACTION_TIMEOUT, |timeout| timeout.0);
        match options.delivery {
            options::Delivery::ExactlyOnce => {
                fixed.push(("transaction.timeout.ms", timeout.as_millis().to_string()));
                // Nobody sees a row before it is committed, so it can wait for others: larger batches cost less.
                defaults.push(("linger.ms", TRANSACTION_LINGER_MS));
            }
            options::Delivery::AtLeastOnce if options.transaction_timeout.is_some() => {
                return Err(Error::options(format!(
                    "options of \"{}\": the option transaction_timeout is for delivery = \"exactly-once\" only",
                    context.name
                )));
            }
            options::Delivery::AtLeastOnce => {}
        }
        if timeout > DELIVERY_TIMEOUT {
            defaults.push(("message.timeout.ms", &delivery_ms));
        }
        let config = options::client(context, &options.properties, options::OURS_WRITING, &defaults, &fixed)?;
        let security = match options.delivery {
            options::Delivery::ExactlyOnce => Security::new(&config, context)?,
            options::Delivery::AtLeastOnce => Security::default(),
        };
        let shared = Shared {
            security: Arc::new(security),
            brokers: options.brokers.clone(),
            topic: options.topic.clone(),
            config,
            names: Names::new(context),
            busy: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
            encoding: Encoding::new(options, schema, context)?,
            delivery: options.delivery,
            totals: Arc::default(),
        })
    }

    fn cluster(&self) -> Cluster {
        self.shared.cluster(PATIENCE)
    }
}

impl Shared {
    /// The brokers, as far as transactions go.
    fn cluster(&self, patience: Duration) -> Cluster {
        Cluster::new(&self.brokers, Arc::clone(&self.security), patience)
    }
}

impl Sink for Topic {
    fn writer(&self, subtask: u16, _parallelism: u16) -> Result<Box<dyn Writer>, Error> {
        let output = match self.delivery {
            options::Delivery::AtLeastOnce => Output::Plain(Producer::open(&self.shared.topic, &self.shared.config)?),
            options::Delivery::ExactlyOnce => {
                Output::Transactions(Box::new(Transactions::new(Arc::clone(&self.shared), subtask)?))
            }
        };
        Ok(Box::new(TopicWriter { encoding: self.encoding.clone(), output, totals: Arc::clone(&self.totals) }))
    }

    fn report(&self) -> Report {
        self.totals.report()
    }

    fn delivery(&self) -> Delivery {
        match self.delivery {
            options::Delivery::AtLeastOnce => Delivery::AtLeastOnce,
            options::Delivery::ExactlyOnce => Delivery::ExactlyOnce,
        }
    }

    fn recover(&self, pending: &[Transaction]) -> Result<(), Error> {
        if self.delivery == options::Delivery::AtLeastOnce {
            return Ok(());
        }
        let pending = pending.iter().map(Prepared::of).collect::<Result<Vec<_>, _>>()?;
        transaction::recover(&mut self.cluster(), &self.shared.names, &pending)
    }

    fn commit(&self, transactions: &[Transaction]) -> Result<(), Error> {
        let mut cluster = self.cluster();
        for transaction in transactions {
            let prepared = Prepared::of(transaction)?;
            transaction::commit(&mut cluster, &prepared)?;
            self.shared.busy.lock().remove(&prepared.transactional_id);
        }
        Ok(())
    }
}

/// Writes the rows of a subtask.
struct TopicWriter {
    encoding: Encoding,
    output: Output,
    totals: Arc<Totals>,
}

/// How records are sent.
enum Output {
    /// visible at once
    Plain(Producer),
    /// visible once committed
    Transactions(Box<Transactions>),
}

impl Writer for TopicWriter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let producer = match &mut self.output {
            Output::Plain(producer) => &*producer,
            Output::Transactions(transactions) => transactions.producer()?,
        };
        let mut records = Vec::with_capacity(SENT_MAX);
        let bytes = self.encoding.each(batch, |key, value, headers| {
            if let Some(headers) = headers {
                return producer.send_with_headers(key, value, headers);
            }
            records.push(Outgoing::new(key, value));
            if records.len() < SENT_MAX {
                return Ok(());
            }
            let sent = producer.send(&mut records);
            records.clear();
            sent
        })?;
        producer.send(&mut records)?;
        self.totals.add_rows(batch.rows());
        self.totals.add_bytes(bytes);
        producer.check()
    }

    /// Threads of the producer send within milliseconds (`linger.ms`) by themselves.
    fn flush(&mut self) -> Result<(), Error> {
        match &self.output {
            Output::Plain(producer) => producer.check(),
            Output::Transactions(transactions) => transactions.check(),
        }
    }

    fn prepare(&mut self) -> Result<Vec<Transaction>, Error> {
        match &mut self.output {
            Output::Plain(producer) => producer.flush().map(|()| vec![]),
            Output::Transactions(transactions) => Ok(transactions.prepare()?.iter().map(Prepared::to_json).collect()),
        }
    }

    fn finish(&mut self) -> Result<(), Error> {
        match &mut self.output {
            Output::Plain(producer) => producer.flush(),
            Output::Transactions(_) => Ok(()),
        }
    }
}

/// The transactions of a subtask, one after another.
struct Transactions {
    shared: Arc<Shared>,
    subtask: u16,
    cluster: Cluster,
    /// the transaction that takes rows
    open: Option<Open>,
    /// those that will, the next one first
    begun: VecDeque<JoinHandle<Result<Open, Error>>>,
    /// how many to begin ahead: one more whenever the next one was not ready, since librdkafka takes about a second for each
    ahead: usize,
}

/// A transaction that takes rows.
struct Open {
    id: String,
    producer: Producer,
    /// whether it has taken any; before that, the brokers know nothing of it
    has_rows: bool,
}

/// Does what takes a while in a thread of its own.
fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<JoinHandle<T>, Error> {
    let thread = thread::Builder::new().name("weir-kafka".into()).spawn(work);
    thread.map_err(|e| Error::io("a thread for the client of Kafka cannot be started", e))
}

impl Transactions {
    fn new(shared: Arc<Shared>, subtask: u16) -> Result<Self, Error> {
        let cluster = shared.cluster(PATIENCE);
        let begun = VecDeque::new();
        let mut transactions = Self { shared, subtask, cluster, open: None, begun, ahead: 1 };
        // That the topic can be written is known before the first row comes.
        transactions.open()?;
        Ok(transactions)
    }

    /// Begins a transaction, in a thread of its own.
    fn begin(&self) -> Result<JoinHandle<Result<Open, Error>>, Error> {
        let (shared, id) = (Arc::clone(&self.shared), self.free_id());
        beside(move || {
            let producer = Producer::open_transactional(&shared.topic, &shared.config, &id)?;
            Ok(Open { id, producer, has_rows: false })
        })
    }

    /// The first transactional id of this subtask that holds no transaction.
    fn free_id(&self) -> String {
        let mut busy = self.shared.busy.lock();
        let mut slot = 0;
        loop {
            let id = self.shared.names.id(self.subtask, slot);
            if busy.insert(id.clone()) {
                return id;
            }
            slot += 1;
        }
    }

    /// The transaction that takes rows.
    fn open(&mut self) -> Result<&mut Open, Error> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let next = match self.begun.pop_front() {
                    Some(next) => {
                        self.ahead = if next.is_finished() { self.ahead } else { AHEAD_MAX.min(self.ahead + 1) };
                        next
                    }
                    None => self.begin()?,
                };
                next.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?
            }
        };
        Ok(self.open.insert(open))
    }

    /// The producer of that transaction, which gets rows now: the next ones are begun.
    fn producer(&mut self) -> Result<&Producer, Error> {
        if !self.open()?.has_rows {
            while self.begun.len() < self.ahead {
                let next = self.begin()?;
                self.begun.push_back(next);
            }
        }
        let open = self.open()?;
        open.has_rows = true;
        Ok(&open.producer)
    }

    fn check(&self) -> Result<(), Error> {
        self.open.as_ref().map_or(Ok(()), |open| open.producer.check())
    }

    /// Sees to it that the brokers have all rows, and goes on in another transaction. None if there are no rows.
    fn prepare(&mut self) -> Result<Option<Prepared>, Error> {
        let Some(open) = self.open.as_ref().filter(|open| open.has_rows) else { return Ok(None) };
        open.producer.flush()?;
        let prepared = transaction::prepared(&mut self.cluster, open.id.clone())?;
        let done = self.open.take();
        // To close a producer takes a while.
        beside(move || drop(done))?;
        Ok(Some(prepared))
    }
}

impl Drop for Transactions {
    /// Whoever reads the topic waits for transactions that are open, so one that nobody will commit is aborted.
    fn drop(&mut self) {
        if let Some(Open { id, producer, has_rows: true }) = self.open.take() {
            drop(producer);
            // If it fails, the next attempt does it, or the time-out.
            let _ = self.shared.cluster(LAST_PATIENCE).fence(&id);
        }
    }
}
