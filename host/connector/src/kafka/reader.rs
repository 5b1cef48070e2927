//! Reads a partition: takes what librdkafka's threads have fetched, and never waits for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::Notify;

use super::native::{self, Queue};
use super::records::Records;
use super::source::{Consumer, Partition, Told};
use crate::format::decoder::RECORD_BYTES_MAX;
use crate::format::malformed::{Place, Policy};
use crate::positions::Runs;
use crate::{Error, Fetch, Fetched, Reader};

/// How often a group is told how far was read.
const COMMIT_EVERY: Duration = Duration::from_secs(5);

/// Whether a group is told how far was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    None,
    /// for people who watch the group; nothing depends on it
    Asynchronous,
}

/// Reads one partition.
pub(super) struct PartitionReader {
    partition: Partition,
    next: i64,
    /// none if there is nothing to read
    assigned: Option<Assigned>,
    records: Records,
    /// by row: its offset
    positions: Runs,
    policy: Arc<Policy>,
    commits: Commits,
    committed: (i64, Instant),
}

/// The partition among those that the shared consumer fetches, until this is dropped.
struct Assigned {
    consumer: Arc<Consumer>,
    /// what was fetched of it
    queue: Queue,
    /// the same, which wakes the reader's task
    _wakes: PartitionQueue<Told>,
    partition: TopicPartitionList,
}

impl Assigned {
    fn new(consumer: Arc<Consumer>, partition: &Partition, next: i64, wake: &Arc<Notify>) -> Result<Self, Error> {
        let Partition { topic, partition, .. } = partition;
        let failed = |e| Error::io(format!("topic {topic}, partition {partition}, offset {next}: cannot be read"), e);
        // The queue comes first: what is fetched before there is one would go to the consumer's own.
        let (wakes, queue) = (consumer.split_partition_queue(topic, *partition), Queue::new(consumer.clone(), topic, *partition));
        let missing = || failed(KafkaError::Subscription("no such partition".into()));
        let (mut wakes, queue) = wakes.zip(queue).ok_or_else(missing)?;
        let wake = Arc::clone(wake);
        wakes.set_nonempty_callback(move || wake.notify_one());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, *partition, Offset::Offset(next)).map_err(failed)?;
        consumer.incremental_assign(&list).map_err(failed)?;
        Ok(Self { consumer, queue, _wakes: wakes, partition: list })
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        // It fails if the consumer has lost the partition already, which is as well.
        let _ = self.consumer.incremental_unassign(&self.partition);
    }
}

impl PartitionReader {
    /// Starts to read at an offset.
    pub fn open(
        consumer: Arc<Consumer>,
        partition: Partition,
        next: i64,
        records: Records,
        policy: Arc<Policy>,
        commits: Commits,
        wake: &Arc<Notify>,
    ) -> Result<Self, Error> {
        let is_empty = partition.end.is_some_and(|end| next >= end);
        let assigned = if is_empty { None } else { Some(Assigned::new(consumer, &partition, next, wake)?) };
        Ok(Self {
            partition,
            next,
            assigned,
            records,
            positions: Runs::default(),
            policy,
            commits,
            committed: (next, Instant::now()),
        })
    }

    fn failed(&self, e: KafkaError) -> Error {
        let Partition { topic, partition, .. } = &self.partition;
        let place = format!("topic {topic}, partition {partition}, offset {}", self.next);
        match e.rdkafka_error_code() {
            Some(RDKafkaErrorCode::OffsetOutOfRange | RDKafkaErrorCode::AutoOffsetReset) => Error::io(
                format!("{place}: the partition does not have this offset (any more); records may have to be kept for longer"),
                e,
            ),
            _ => Error::io(format!("{place}: cannot be read"), e),
        }
    }

    /// Tells the group how far was read.
    fn commit(&mut self) {
        let (Commits::Asynchronous, Some(assigned)) = (self.commits, &self.assigned) else { return };
        if self.committed.0 == self.next {
            return;
        }
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.partition.topic, self.partition.partition, Offset::Offset(self.next));
        // Whoever watches the group sees the next one.
        let _ = added.and_then(|()| assigned.consumer.commit(&list, CommitMode::Async));
        self.committed = (self.next, Instant::now());
    }
}

impl Reader for PartitionReader {
    fn read(&mut self, max_rows: usize) -> Result<Fetched, Error> {
        let max_rows = max_rows.max(1);
        let Some(assigned) = &mut self.assigned else { return Ok(Fetched::End) };
        let mut fetch = Fetch::default();
        let mut is_waiting = false;
        // The bytes of malformed records that are handed on.
        let mut rejected = 0;
        while fetch.events < max_rows as u64 && !self.records.are_enough(max_rows) && rejected < RECORD_BYTES_MAX {
            let record = match assigned.queue.next() {
                None => {
                    is_waiting = true;
                    break;
                }
                Some(Ok(record)) => record,
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    // What lies before the end, but is no record (the marks of transactions), is passed over.
                    self.next = self.next.max(self.partition.end.unwrap_or_default());
                    break;
                }
                Some(Err(e)) => return Err(self.failed(e)),
            };
            let offset = record.offset();
            if self.partition.end.is_some_and(|end| offset >= end) {
                self.next = offset;
                break;
            }
            fetch.events += 1;
            fetch.bytes += (record.value().map_or(0, <[u8]>::len) + record.key().map_or(0, <[u8]>::len)) as u64;
            match self.records.push(&record) {
                Ok(row) => self.positions.push(row, offset as u64),
                Err(reason) => {
                    fetch.malformed += 1;
                    let place = Place::Record { topic: &self.partition.topic, partition: self.partition.partition, offset };
                    let reject = self.policy.handle(&place, reason, record.value().unwrap_or_default())?;
                    rejected += reject.as_ref().map_or(0, |reject| reject.record.len());
                    fetch.rejects.extend(reject);
                }
            }
            self.next = offset + 1;
        }
        if is_waiting {
            // Nothing comes here but troubles of the client as a whole, like brokers that are away: they are logged, and librdkafka goes on trying.
            while assigned.consumer.poll(Duration::ZERO).is_some() {}
        }
        if fetch.events > 0 {
            fetch.batches.extend(self.records.take().map(|batch| (0, batch)));
            fetch.positions = Some(self.positions.take());
            if self.committed.1.elapsed() >= COMMIT_EVERY {
                self.commit();
            }
            return Ok(Fetched::Rows(fetch));
        }
        if self.partition.end.is_some_and(|end| self.next >= end) {
            self.commit();
            self.assigned = None;
            return Ok(Fetched::End);
        }
        Ok(Fetched::Waiting)
    }

    fn position(&self) -> serde_json::Value {
        self.next.into()
    }

    /// Counts offsets: the marks of transactions, too.
    fn lag(&self) -> Option<u64> {
        let Some(assigned) = &self.assigned else { return Some(0) };
        let Partition { topic, partition, end, .. } = &self.partition;
        let end = end.or_else(|| native::end(&assigned.consumer, topic, *partition))?;
        Some(u64::try_from(end - self.next).unwrap_or(0))
    }
}

impl Drop for PartitionReader {
    fn drop(&mut self) {
        self.commit();
    }
}
