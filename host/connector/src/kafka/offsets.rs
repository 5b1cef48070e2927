//! Where partitions start and end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use weir_types::EventTime;

use super::native;
use super::options::{Start, topic_and_partition};
use super::source::Consumer;
use crate::Error;

/// How long the cluster may take to say what there is.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before a question is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// What the brokers say of a topic.
#[derive(Debug)]
pub(super) struct Description {
    /// what tells it from topics that had its name before; none = the brokers give no ids
    pub id: Option<String>,
    /// in order
    pub partitions: Vec<i32>,
}

/// Asks the brokers about a topic.
pub(super) fn describe(consumer: &Consumer, topic: &str) -> Result<Description, Error> {
    let failed = |e| Error::io(format!("the topic {topic} cannot be looked up"), e);
    let refused = |code| match code {
        RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition => {
            Error::missing(format!("there is no topic {topic}"))
        }
        code => failed(KafkaError::MetadataFetch(code)),
    };
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT).map_err(failed)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(|| refused(RDKafkaErrorCode::UnknownTopic))?;
    if let Some(error) = found.error() {
        return Err(refused(RDKafkaErrorCode::from(error)));
    }
    let mut partitions: Vec<_> = found.partitions().iter().map(|partition| partition.id()).collect();
    partitions.sort_unstable();
    // Every topic has some: a broker that knows of none has just started.
    if partitions.is_empty() {
        return Err(refused(RDKafkaErrorCode::LeaderNotAvailable));
    }
    let id = native::topic_id(consumer, topic, TIMEOUT).map_err(refused)?;
    Ok(Description { id, partitions })
}

/// The offset of the oldest record of a partition, and the one behind the newest that can be read.
pub(super) fn bounds(consumer: &Consumer, topic: &str, partition: i32) -> Result<(i64, i64), Error> {
    let failed = |e| Error::io(format!("topic {topic}, partition {partition}: where it begins and ends cannot be looked up"), e);
    consumer.fetch_watermarks(topic, partition, TIMEOUT).map_err(failed)
}

/// Where partitions of a topic start, for all that are told apart by more than their [`bounds`]; the others start at the oldest record.
pub(super) fn starts(
    consumer: &Consumer,
    start: &Start,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, Offset>, Error> {
    match start {
        Start::Earliest => Ok(BTreeMap::new()),
        Start::Latest => Ok(partitions.iter().map(|&partition| (partition, Offset::End)).collect()),
        Start::Offsets(offsets) => {
            for partition in absent(offsets, topic, partitions) {
                tracing::warn!("kafka: the topic {topic} has no partition {partition}, which start.offsets names");
            }
            Ok(partitions
                .iter()
                .filter_map(|&partition| {
                    let offset = offsets.get(&format!("{topic}/{partition}")).or_else(|| offsets.get(&partition.to_string()))?;
                    Some((partition, Offset::Offset(*offset)))
                })
                .collect())
        }
        Start::Group => {
            let failed = |e| Error::io(format!("topic {topic}: what the group has committed is not known"), e);
            committed(consumer, topic, partitions).map_err(failed)
        }
        Start::Timestamp(time) => at_time(consumer, *time, topic, partitions),
    }
}

/// The partitions that offsets name of a topic, and that it has not.
fn absent<'a>(offsets: &'a BTreeMap<String, i64>, topic: &str, partitions: &[i32]) -> Vec<&'a str> {
    let named = offsets.keys().map(|key| topic_and_partition(key)).filter(|(of, _)| of.is_none_or(|of| of == topic));
    let named = named.map(|(_, partition)| partition);
    named.filter(|named| !partitions.iter().any(|partition| partition.to_string() == *named)).collect()
}

/// What the group has committed. A coordinator that has just come up, or has moved, is asked again.
fn committed(consumer: &Consumer, topic: &str, partitions: &[i32]) -> KafkaResult<BTreeMap<i32, Offset>> {
    let begin = Instant::now();
    loop {
        match consumer.committed_offsets(list(topic, partitions), TIMEOUT) {
            Ok(committed) => return Ok(offsets_of(&committed)),
            Err(e) if begin.elapsed() > TIMEOUT || !is_passing(&e) => return Err(e),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

fn is_passing(e: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator, WaitingForCoordinator};
    matches!(
        e.rdkafka_error_code(),
        Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator | WaitingForCoordinator)
    )
}

fn at_time(consumer: &Consumer, time: EventTime, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, Offset>, Error> {
    let failed = |e| Error::io(format!("topic {topic}: the offsets of an instant cannot be looked up"), e);
    let mut times = list(topic, partitions);
    // The interface takes instants where there are offsets otherwise. Those before 1970 are older than any record.
    times.set_all_offsets(Offset::Offset(time.max(0))).map_err(failed)?;
    let found = consumer.offsets_for_times(times, TIMEOUT).map_err(failed)?;
    for element in found.elements() {
        element.error().map_err(failed)?;
    }
    Ok(offsets_of(&found))
}

fn list(topic: &str, partitions: &[i32]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for &partition in partitions {
        list.add_partition(topic, partition);
    }
    list
}

fn offsets_of(list: &TopicPartitionList) -> BTreeMap<i32, Offset> {
    list.elements().iter().map(|element| (element.partition(), element.offset())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_partitions_are_found() {
        // Goal: what offsets name and a topic has not is told, and what is of another topic is not.
        let offsets = ["0", "2", "a/1", "a/3", "b/7"].map(|key| (key.to_owned(), 5)).into();
        assert_eq!(absent(&offsets, "a", &[0, 1]), ["2", "3"]);
        assert_eq!(absent(&offsets, "b", &[0, 1, 2, 7]), Vec::<&str>::new());
    }
}
