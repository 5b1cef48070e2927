//! Sends records: librdkafka's producer, whose threads do the sending.

use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};

use super::native::{Outgoing, Target};
use crate::Error;

/// How long the cluster may take to answer before anything is sent.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait for room when too much is under way.
const PAUSE: Duration = Duration::from_millis(5);
/// How often to look whether all is acknowledged.
const FLUSH_PAUSE: Duration = Duration::from_millis(1);

/// Sends records to one topic.
pub(super) struct Producer {
    topic: String,
    /// the topic as the client has it; goes before it
    target: Target,
    inner: BaseProducer<Failures>,
}

/// Keeps the first record that could not be delivered: only those are reported.
#[derive(Default)]
struct Failures {
    first: Mutex<Option<KafkaError>>,
}

impl ClientContext for Failures {}

impl ProducerContext for Failures {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((e, _)) = result {
            self.first.lock().get_or_insert_with(|| e.clone());
        }
    }
}

impl Producer {
    /// Connects, and makes sure that the topic is there.
    pub fn open(topic: &str, config: &ClientConfig) -> Result<Self, Error> {
        let failed = |e| Error::io(format!("the topic {topic} cannot be written"), e);
        let inner: BaseProducer<Failures> = config.create_with_context(Failures::default()).map_err(failed)?;
        let metadata = inner.client().fetch_metadata(Some(topic), TIMEOUT).map_err(failed)?;
        match metadata.topics().iter().find_map(|found| found.error()).map(RDKafkaErrorCode::from) {
            None => {
                let target = Target::new(inner.client(), topic);
                let target = target.ok_or_else(|| Error::options(format!("there cannot be a topic {topic}")))?;
                Ok(Self { topic: topic.to_owned(), target, inner })
            }
            Some(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition) => {
                Err(Error::missing(format!("there is no topic {topic}")))
            }
            Some(code) => Err(failed(KafkaError::MetadataFetch(code))),
        }
    }

    /// As `open`, under a transactional id. What was open under it is aborted.
    pub fn open_transactional(topic: &str, config: &ClientConfig, id: &str) -> Result<Self, Error> {
        let producer = Self::open(topic, config.clone().set("transactional.id", id))?;
        let started = producer.inner.init_transactions(TIMEOUT).and_then(|()| producer.inner.begin_transaction());
        match started {
            Ok(()) => Ok(producer),
            Err(e) if e.rdkafka_error_code() == Some(RDKafkaErrorCode::InvalidTransactionTimeout) => {
                Err(Error::options(format!(
                    "the topic {topic} cannot be written: transaction_timeout is longer than transaction.max.timeout.ms of the brokers"
                )))
            }
            Err(e) => Err(Error::io(format!("the topic {topic} cannot be written: the transaction {id} cannot begin"), e)),
        }
    }

    /// Hands over records, in their order. Waits only if too much is under way.
    pub fn send(&self, mut records: &mut [Outgoing<'_>]) -> Result<(), Error> {
        loop {
            match self.target.send(records) {
                Ok(()) => return Ok(()),
                Err((sent, RDKafkaErrorCode::QueueFull)) => {
                    records = &mut records[sent..];
                    self.wait_for_room()?;
                }
                Err((_, code)) => return Err(self.failed(KafkaError::MessageProduction(code))),
            }
        }
    }

    /// Hands over a record that has headers, which librdkafka takes one at a time only. Waits only if too much is under way.
    pub fn send_with_headers(&self, key: Option<&[u8]>, value: Option<&[u8]>, headers: OwnedHeaders) -> Result<(), Error> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
        (record.key, record.payload, record.headers) = (key, value, Some(headers));
        loop {
            match self.inner.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), returned)) => {
                    record = returned;
                    self.wait_for_room()?;
                }
                Err((e, _)) => return Err(self.failed(e)),
            }
        }
    }

    /// It ends: each record that is under way is delivered, or fails by its time-out.
    fn wait_for_room(&self) -> Result<(), Error> {
        thread::sleep(PAUSE);
        self.check()
    }

    /// Serves what librdkafka has to tell: whether a record could not be delivered.
    pub fn check(&self) -> Result<(), Error> {
        self.inner.poll(Duration::ZERO);
        match self.inner.context().first.lock().clone() {
            Some(e) => Err(self.failed(e)),
            None => Ok(()),
        }
    }

    /// Waits until all that was sent is acknowledged.
    pub fn flush(&self) -> Result<(), Error> {
        loop {
            match self.inner.flush(Duration::ZERO) {
                Ok(()) => return self.check(),
                // What is acknowledged is not reported, so that a flush that waits would not notice; and the client's own waiting spins in the last
                // millisecond. It ends: each record is delivered, or fails by its time-out.
                Err(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)) => {
                    thread::sleep(FLUSH_PAUSE);
                    self.check()?;
                }
                Err(e) => return Err(self.failed(e)),
            }
        }
    }

    fn failed(&self, e: KafkaError) -> Error {
        Error::io(format!("the topic {} cannot be written", self.topic), e)
    }
}
