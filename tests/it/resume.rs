//! Jobs that outlive the process of their server.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_client::types::{Lines, SavepointWish};
use weir_client::{Client, Error, JobDetail};

use crate::api::nexmark;
use crate::recovery::bucket::{Bucket, CALM, Fault, Weather};
use crate::recovery::{difference, files_below, published, undisturbed};
use crate::run::weir;
use crate::server::Server;

/// How long something is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until a job is there, and as it should be.
async fn wait(client: &Client, job: &str, is_so: impl Fn(&JobDetail) -> bool) -> JobDetail {
    crate::server::wait(client, job, PATIENCE, is_so).await
}

fn has_checkpoint(detail: &JobDetail) -> bool {
    detail.checkpoints.iter().any(|checkpoint| checkpoint.failure.is_none())
}

/// Uploads the component of Nexmark, and returns a job of it with this sink.
async fn spec(client: &Client, rate: f64, events: Option<u64>, sink: Value) -> Value {
    let component = nexmark(client).await;
    let mut source = json!({ "connector": "nexmark", "rate": rate, "events_per_ms": 1 });
    if let Some(events) = events {
        source["events"] = json!(events);
    }
    json!({
        "name": "lasting",
        "component": component,
        "args": { "query": "q5" },
        "parallelism": 2,
        "sources": { "nexmark": source },
        "sinks": { "out": sink },
        "checkpoint": { "interval": "100ms" },
    })
}

fn entries(server: &Server) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(server.data().join("jobs")).expect("the server has made it");
    entries.map(|entry| entry.expect("it can be read").path()).collect()
}

/// Goal: a job with checkpoints goes on under its id when its server was killed or ended, and publishes each row once; one that has none, or has ended, does
/// not come back.
#[tokio::test]
async fn jobs_outlive_their_server() {
    let expected = undisturbed("q5", &[("sources.nexmark.events", "90000"), ("sources.nexmark.events_per_ms", "1")]);
    let mut server = Server::start(6);
    let client = server.client();
    let parts = json!({ "connector": "file", "folder": "out", "format": "jsonl" });
    let job = client.submit(&spec(&client, 15_000.0, Some(90_000), parts).await).await.expect("a good spec").id;
    let nothing = json!({ "connector": "blackhole" });
    let cancelled = client.submit(&spec(&client, 1000.0, None, nothing.clone()).await).await.expect("a good spec").id;
    let mut without = spec(&client, 1000.0, None, nothing).await;
    without.as_object_mut().expect("an object").remove("checkpoint");
    let without = client.submit(&without).await.expect("a good spec").id;
    wait(&client, &cancelled, |detail| detail.job.state == "running").await;
    client.cancel(&cancelled).await.expect("it runs");
    wait(&client, &cancelled, |detail| detail.job.is_ended()).await;

    // Killed, killed while it starts, and ended.
    for end in [false, false, true] {
        wait(&server.client(), &job, |detail| has_checkpoint(detail) || detail.job.is_ended()).await;
        server = server.again(end);
    }
    let client = server.client();
    let done = wait(&client, &job, |detail| detail.job.is_ended()).await;
    assert_eq!(done.job.state, "finished", "{done:?}");
    let found = published(&server.data().join("files/default/out"));
    assert!(found == expected, "{}", difference(&expected, &found));
    for gone in [&cancelled, &without] {
        assert!(matches!(client.job(gone).await, Err(Error::Refused { status: 404, .. })), "{gone}");
    }
    assert!(entries(&server).is_empty(), "there is nothing to go on with any more");
    let server = server.again(true);
    assert!(server.client().jobs().await.expect("a list").is_empty());
}

/// Goal: a job that started from a savepoint goes on from its own checkpoints, also when the savepoint is gone.
#[tokio::test]
async fn its_own_checkpoints_come_before_its_savepoint() {
    let server = Server::start(4);
    let client = server.client();
    let nothing = json!({ "connector": "blackhole" });
    let spec = spec(&client, 20_000.0, None, nothing).await;
    let first = client.submit(&spec).await.expect("a good spec").id;
    wait(&client, &first, has_checkpoint).await;
    let wish = SavepointWish { id: Some("begin".into()), stop: true, ..Default::default() };
    let begun = client.save(&first, &wish).await.expect("a savepoint").checkpoint;
    let from = weir_client::StartFrom { savepoint: Some("begin".into()), ..Default::default() };
    let job = client.submit_from(&spec, &from).await.expect("it can start from there").id;
    let detail = wait(&client, &job, |detail| detail.checkpoints.len() > 2).await;
    let last = detail.checkpoints.last().expect("there are some").checkpoint;
    client.delete_savepoint("begin").await.expect("it is there");
    let server = server.again(false);
    let detail = wait(&server.client(), &job, has_checkpoint).await;
    assert!(detail.checkpoints[0].checkpoint > last, "{last} after {begun}: {:?}", detail.checkpoints);
}

/// Goal: a savepoint that a job has started from stays as long as the job would start from there again, here or in the next process of its server.
#[tokio::test]
async fn savepoints_stay_while_they_are_needed() {
    let server = Server::start(4);
    let client = server.client();
    let mut spec = spec(&client, 20_000.0, None, json!({ "connector": "blackhole" })).await;
    let first = client.submit(&spec).await.expect("a good spec").id;
    wait(&client, &first, has_checkpoint).await;
    let wish = SavepointWish { id: Some("begin".into()), stop: true, ..Default::default() };
    client.save(&first, &wish).await.expect("a savepoint");
    wait(&client, &first, |detail| detail.job.is_ended()).await;
    let from = weir_client::StartFrom { savepoint: Some("begin".into()), ..Default::default() };
    let is_refused = async |client: &Client, job: &str| match client.delete_savepoint("begin").await {
        Err(Error::Refused { status: 409, code, detail }) => {
            assert!(code == "WEIR-SAVEPOINT-008" && detail.contains(job), "{code}: {detail}");
        }
        other => panic!("{job} needs the savepoint: {other:?}"),
    };

    let mut bare = spec.clone();
    bare.as_object_mut().expect("an object").remove("checkpoint");
    let bare = client.submit_from(&bare, &from).await.expect("it can start from there").id;
    is_refused(&client, &bare).await;
    client.cancel(&bare).await.expect("it runs");
    wait(&client, &bare, |detail| detail.job.is_ended()).await;

    spec["checkpoint"]["interval"] = "1h".into();
    let job = client.submit_from(&spec, &from).await.expect("it can start from there").id;
    is_refused(&client, &job).await;
    let server = server.again(false);
    let client = server.client();
    is_refused(&client, &job).await;
    wait(&client, &job, |detail| detail.job.state == "running").await;
    is_refused(&client, &job).await;
    client.checkpoint(&job).await.expect("it runs");
    wait(&client, &job, has_checkpoint).await;
    client.delete_savepoint("begin").await.expect("nobody needs it");
    let server = server.again(false);
    wait(&server.client(), &job, |detail| detail.job.state == "running").await;
}

/// Has what a server has noted down of a job name a component that is not there.
fn lose_component(server: &Server, job: &str, spec: &Value) {
    let entry = entries(server).into_iter().find(|path| path.ends_with(format!("{job}.json"))).expect("it is noted down");
    let text = std::fs::read_to_string(&entry).expect("an entry");
    let component = spec["component"].as_str().expect("an id");
    std::fs::write(&entry, text.replace(component, &format!("sha256:{}", "0".repeat(64)))).expect("written");
}

/// Goal: a job that cannot go on is seen as failed, with why and what to do, and hinders no other; two servers do not have one directory.
#[tokio::test]
async fn jobs_that_cannot_go_on() {
    let server = Server::start(4);
    let client = server.client();
    let nothing = json!({ "connector": "blackhole" });
    let spec = spec(&client, 1000.0, None, nothing).await;
    let job = client.submit(&spec).await.expect("a good spec").id;
    let other = client.submit(&spec).await.expect("a good spec").id;
    wait(&client, &other, has_checkpoint).await;
    lose_component(&server, &job, &spec);

    let mut second = weir();
    second.args(["server", "--bind", "127.0.0.1:0", "--data-dir"]).arg(server.data());
    let refused = second.output().expect("the binary can be started");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && told.contains("another server has the data directory"), "{told}");

    let server = server.again(false);
    let failed = wait(&server.client(), &job, |detail| detail.job.is_ended()).await;
    assert_eq!(failed.job.state, "failed");
    let why = failed.job.failure.expect("it says why").message;
    assert!(why.contains("cannot go on") && why.contains("there is no component"), "{why}");
    wait(&server.client(), &other, has_checkpoint).await;
    assert_eq!(entries(&server).len(), 2, "it is tried again another time");
}

/// Goal: a job that could not go on is tried again at each start of its server, until it is cancelled: then it is forgotten. Any other job that has ended cannot be
/// cancelled.
#[tokio::test]
async fn jobs_that_cannot_go_on_are_cancelled() {
    let server = Server::start(2);
    let client = server.client();
    let spec = spec(&client, 1000.0, None, json!({ "connector": "blackhole" })).await;
    let job = client.submit(&spec).await.expect("a good spec").id;
    wait(&client, &job, has_checkpoint).await;
    lose_component(&server, &job, &spec);
    let mut server = server;
    for end in [false, true] {
        server = server.again(end);
        let failed = wait(&server.client(), &job, |detail| detail.job.is_ended()).await;
        let why = failed.job.failure.expect("it says why").message;
        assert_eq!(failed.job.state, "failed");
        assert!(why.contains("tried again when the server starts, unless you cancel it"), "{why}");
    }
    let client = server.client();
    let cancelled = client.cancel(&job).await.expect("it would be tried again");
    assert_eq!(cancelled.state, "cancelled");
    assert!(entries(&server).is_empty());
    let again = client.cancel(&job).await;
    assert!(matches!(again, Err(Error::Refused { status: 409, .. })), "{again:?}");
    let server = server.again(false);
    assert!(server.client().jobs().await.expect("a list").is_empty());
}

/// Waits until a line of a job's log has all of this.
async fn says(client: &Client, job: &str, parts: &[&str]) {
    let since = Instant::now();
    loop {
        let page = client.lines(job, Lines::Logs, 0).await.expect("the job is there");
        if page.lines.iter().any(|line| parts.iter().all(|part| line.text.contains(part))) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{page:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Goal: a job whose checkpoints are away does not begin anew: it waits, keeps its component, and goes on when they are there again; or is cancelled for good.
#[tokio::test]
async fn jobs_wait_for_their_storage() {
    let server = Server::start(4);
    let client = server.client();
    let spec = spec(&client, 20_000.0, None, json!({ "connector": "blackhole" })).await;
    let job = client.submit(&spec).await.expect("a good spec").id;
    let last = wait(&client, &job, has_checkpoint).await.checkpoints[0].checkpoint;

    let other = tempfile::tempdir().expect("a temporary folder");
    let elsewhere = [("WEIR_CHECKPOINT_STORAGE", format!("file://{}", other.path().display()))];
    let server = server.again_with(false, 4, &elsewhere);
    let client = server.client();
    says(&client, &job, &["cannot go on yet", &other.path().display().to_string()]).await;
    assert_eq!(wait(&client, &job, |_| true).await.job.state, "created");
    let component = spec["component"].as_str().expect("an id");
    let in_use = client.delete_component(component).await;
    assert!(matches!(in_use, Err(Error::Refused { status: 409, .. })), "{in_use:?}");

    let server = server.again(true);
    let detail = wait(&server.client(), &job, has_checkpoint).await;
    assert!(detail.checkpoints[0].checkpoint > last, "{last} before {:?}", detail.checkpoints);

    let server = server.again_with(false, 4, &elsewhere);
    let cancelled = server.client().cancel(&job).await.expect("it waits");
    assert_eq!(cancelled.state, "cancelled");
    assert!(entries(&server).is_empty());
    let server = server.again(false);
    assert!(server.client().jobs().await.expect("a list").is_empty());
}

/// Goal: where a job's checkpoints vanish after its server has looked for them, and before the job has claimed its log, the job does not begin anew: it waits,
/// writes nothing in their place, and goes on when they are there again.
///
/// Method: in between the storage is tried out, which takes seconds in a bucket that is slow.
#[test]
fn jobs_whose_checkpoints_vanish() {
    // It has a runtime of its own.
    let bucket = Bucket::start(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(vanish_before_the_claim(&bucket));
}

async fn vanish_before_the_claim(bucket: &Bucket) {
    const SLOW: Weather = &[(100, Fault::Late(1500))];
    let environment = [&bucket.environment()[..], &[("WEIR_CHECKPOINT_STORAGE", bucket.url("checkpoints"))]].concat();
    let server = Server::start_with(2, &environment);
    let client = server.client();
    let job = client.submit(&spec(&client, 20_000.0, None, json!({ "connector": "blackhole" })).await).await;
    let job = job.expect("a good spec").id;
    let last = wait(&client, &job, has_checkpoint).await.checkpoints[0].checkpoint;
    let storage = bucket.path("checkpoints/default");
    let (log, trials, aside) = (storage.join("jobs").join(&job).join("log"), storage.join("probes"), bucket.path("aside"));
    assert!(files_below(&trials).is_empty(), "the storage is tried out before a job runs");

    bucket.set(SLOW);
    let server = server.again_with(false, 2, &environment);
    let since = Instant::now();
    while files_below(&trials).is_empty() {
        assert!(since.elapsed() < PATIENCE, "the storage is not tried out");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::rename(&log, &aside).expect("the job has a log");
    bucket.set(CALM);
    let client = server.client();
    says(&client, &job, &["the job starts again", "must not begin anew", "a later one is missing (there is none)"]).await;
    assert_eq!(wait(&client, &job, |_| true).await.job.state, "restarting");
    assert!(!log.exists(), "nothing is claimed");

    std::fs::rename(&aside, &log).expect("nothing is in its place");
    let detail = wait(&client, &job, has_checkpoint).await;
    assert!(detail.checkpoints[0].checkpoint > last, "{last} before {:?}", detail.checkpoints);
}

/// Goal: of two jobs for which a server has slots for one only by now, one goes on, and the other one when that has ended; a new job does not go before it.
#[tokio::test]
async fn jobs_wait_for_slots() {
    let server = Server::start(4);
    let client = server.client();
    let spec = spec(&client, 1000.0, None, json!({ "connector": "blackhole" })).await;
    let mut jobs = vec![];
    for _ in 0..2 {
        let job = client.submit(&spec).await.expect("a good spec").id;
        wait(&client, &job, has_checkpoint).await;
        jobs.push(job);
    }
    let server = server.again_with(false, 2, &[]);
    let client = server.client();
    let since = Instant::now();
    let (first, second) = loop {
        let states: Vec<_> = client.jobs().await.expect("a list").into_iter().map(|job| job.state).collect();
        match states.iter().position(|state| state == "running") {
            Some(running) => break (&jobs[running], &jobs[1 - running]),
            None => assert!(since.elapsed() < PATIENCE, "{states:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    says(&client, second, &["cannot go on yet", "the job needs 2 slots, but 0 of 2 are free"]).await;
    client.cancel(first).await.expect("it runs");
    wait(&client, first, |detail| detail.job.is_ended()).await;
    let refused = client.submit(&spec).await;
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    wait(&client, second, |detail| detail.job.state == "running").await;
}

/// Goal: a job that was told to stop does not run on when its server is killed before it has: it ends as one that was drained.
#[tokio::test]
async fn jobs_that_were_stopped_end() {
    let server = Server::start(2);
    let client = server.client();
    let job = client.submit(&spec(&client, 20_000.0, None, json!({ "connector": "blackhole" })).await).await;
    let job = job.expect("a good spec").id;
    wait(&client, &job, has_checkpoint).await;
    // Where its checkpoints are away, it cannot end before the server is killed.
    let other = tempfile::tempdir().expect("a temporary folder");
    let server = server.again_with(false, 2, &[("WEIR_CHECKPOINT_STORAGE", format!("file://{}", other.path().display()))]);
    server.client().stop(&job).await.expect("it waits");
    let server = server.again(false);
    let done = wait(&server.client(), &job, |detail| detail.job.is_ended()).await;
    assert_eq!(done.job.state, "finished", "{done:?}");
    assert!(entries(&server).is_empty());
}

/// Goal: a job whose windows have all been emitted for a savepoint is over, also if its server is killed before it has ended; the savepoint is one to start from.
#[tokio::test]
async fn drained_jobs_are_over() {
    let server = Server::start(2);
    let client = server.client();
    let job = client.submit(&spec(&client, 20_000.0, None, json!({ "connector": "blackhole" })).await).await;
    let job = job.expect("a good spec").id;
    wait(&client, &job, has_checkpoint).await;
    let entry = entries(&server).remove(0);
    let kept = std::fs::read(&entry).expect("an entry");
    let wish = SavepointWish { id: Some("drained".into()), stop: true, drain: true };
    client.save(&job, &wish).await.expect("a savepoint");
    wait(&client, &job, |detail| detail.job.is_ended()).await;
    assert_eq!(client.savepoint("drained").await.expect("it is there").content.kind, "savepoint");
    // As if the server had been killed before.
    std::fs::write(&entry, kept).expect("written");
    let server = server.again(false);
    let done = wait(&server.client(), &job, |detail| detail.job.is_ended()).await;
    assert_eq!(done.job.state, "finished", "{done:?}");
    assert!(entries(&server).is_empty());
}
