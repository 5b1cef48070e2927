//! From topic to topic on a server whose operator offers Kafka: drains, stops with savepoints and starts from them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use weir_client::{Client, Error, JobDetail, SavepointWish, StartFrom};

use super::PATIENCE;
use super::broker::{Broker, Record};
use super::kafka::{PARTITIONS, broker, committed};
use crate::api::nexmark;
use crate::server::Server;

/// How many auctions there are bids for.
const AUCTIONS: u64 = 11;

/// Sends bids of these numbers. All of an auction's are in one partition.
fn send(broker: &Broker, topic: &str, numbers: std::ops::Range<u64>) {
    let bids: Vec<_> = numbers.map(|n| (n % AUCTIONS, json!({ "auction": n % AUCTIONS, "price": n }).to_string())).collect();
    let records = bids.iter().map(|(auction, bid)| Record {
        partition: Some((auction % PARTITIONS as u64) as i32),
        value: Some(bid.as_bytes()),
        ..Record::default()
    });
    broker.send(topic, records);
}

/// The running counts of the bids with numbers below `end`, in an order of their own.
fn counts(end: u64) -> Vec<String> {
    let mut bids = BTreeMap::<u64, u64>::new();
    let count = |n: u64| {
        let bids = bids.entry(n % AUCTIONS).or_default();
        *bids += 1;
        json!({ "auction": n % AUCTIONS, "bids": *bids }).to_string()
    };
    let mut rows: Vec<_> = (0..end).map(count).collect();
    rows.sort_unstable();
    rows
}

/// A job that counts bids as they come, without end.
fn spec(broker: &Broker, component: &str, parallelism: u16) -> Value {
    let kafka = |topic: &str| json!({ "connector": "kafka", "brokers": broker.address(), "topic": topic });
    json!({
        "name": "offered",
        "component": component,
        "args": { "query": "keyed_count" },
        "parallelism": parallelism,
        "sources": { "nexmark": kafka("offered_bids") },
        "sinks": { "out": kafka("offered_counts") },
        "checkpoint": { "interval": "300ms" },
    })
}

/// Waits until a job is as it should be.
async fn wait(client: &Client, job: &str, is_so: impl Fn(&JobDetail) -> bool) -> JobDetail {
    crate::server::wait(client, job, PATIENCE, is_so).await
}

/// Waits until a job has read so many events.
async fn read(client: &Client, job: &str, events: u64) {
    wait(client, job, |detail| detail.metrics.as_ref().is_some_and(|metrics| metrics["events_in"].as_u64() >= Some(events)))
        .await;
}

/// Goal: a job from topic to topic is stopped with a savepoint; another one goes on from it at another parallelism, has a savepoint made while it runs, and is
/// drained. Who reads what is committed sees each count once.
#[test]
fn topic_to_topic_on_a_server() {
    let broker = broker();
    for topic in ["offered_bids", "offered_counts"] {
        broker.create_topic(topic, PARTITIONS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(on_a_server(&broker));
}

async fn on_a_server(broker: &Broker) {
    let server = Server::start_with(2, &[("WEIR_ALLOW_CONNECTOR", "kafka".into())]);
    let client = server.client();
    let component = nexmark(&client).await;

    send(broker, "offered_bids", 0..500);
    let job = client.submit(&spec(broker, &component, 1)).await.unwrap().id;
    read(&client, &job, 500).await;
    send(broker, "offered_bids", 500..700);
    let wish = |id: &str, stop| SavepointWish { id: Some(id.into()), stop, drain: false };
    client.save(&job, &wish("stopped", true)).await.unwrap();
    let ended = wait(&client, &job, |detail| detail.job.is_ended()).await.job;
    assert_eq!(ended.state, "finished", "{ended:?}");
    // All that it has read is published with the savepoint, and nothing else.
    let published = committed(broker, "offered_counts");
    assert!((500..=700).contains(&published.len()), "{} rows", published.len());

    send(broker, "offered_bids", 700..900);
    let from = StartFrom { savepoint: Some("stopped".into()), ..StartFrom::default() };
    let job = client.submit_from(&spec(broker, &component, 2), &from).await.unwrap().id;
    read(&client, &job, 900 - published.len() as u64).await;
    client.save(&job, &wish("live", false)).await.unwrap();
    assert!(client.savepoints().await.unwrap().iter().any(|savepoint| savepoint.id == "live" && savepoint.problem.is_none()));
    client.stop(&job).await.unwrap();
    let ended = wait(&client, &job, |detail| detail.job.is_ended()).await.job;
    assert_eq!(ended.state, "finished", "{ended:?}");
    let (found, expected) = (committed(broker, "offered_counts"), counts(900));
    assert!(found == expected, "{}", super::difference(&expected, &found));
}

/// Goal: a server offers only those of these connectors that its operator allows, and says by which option; of what it offers, a job may not name files of the
/// server. Nobody needs to be there for that.
#[tokio::test]
async fn offers_are_the_operators() {
    let server = Server::start_with(1, &[("WEIR_ALLOW_CONNECTOR", "postgres".into())]);
    let client = server.client();
    let component = nexmark(&client).await;
    let job = |sink: Value| {
        json!({
            "component": component,
            "args": { "query": "keyed_count" },
            "sources": { "nexmark": { "connector": "nexmark" } },
            "sinks": { "out": sink },
        })
    };
    let postgres = |url: &str| json!({ "connector": "postgres", "url": url, "table": "counts" });
    for (sink, code, says) in [
        (
            json!({ "connector": "kafka", "brokers": "127.0.0.1:1", "topic": "t" }),
            "WEIR-JOB-006",
            "`weir server --allow-connector kafka`",
        ),
        (
            postgres("postgres://weir@%2Fvar%2Frun/x"),
            "WEIR-JOB-007",
            "sink \"out\": a job on a server reaches databases by TCP only",
        ),
    ] {
        match client.submit(&job(sink)).await {
            Err(Error::Refused { status: 422, code: refused, detail }) => {
                assert!(refused == code && detail.contains(says), "{detail}")
            }
            other => panic!("{other:?}"),
        }
    }
    // This one is taken; that nobody listens there is the job's trouble.
    client.submit(&job(postgres("postgres://weir@127.0.0.1:1/x"))).await.unwrap();
}
