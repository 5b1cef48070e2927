//! What users do with checkpoints and savepoints: on a server, and with `weir run`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_client::types::{CheckpointUnderWay, SavepointWish};
use weir_client::{Client, Error, JobDetail, StartFrom};

use crate::api::nexmark;
use crate::recovery::bucket::{Bucket, CALM, Fault, SILENCE, Weather};
use crate::recovery::{difference, files_below, published, undisturbed};
use crate::run::{root, weir};
use crate::server::{Server, interrupt, signal};

/// How long something is waited for that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the jobs that end by themselves read.
const EVENTS: [(&str, &str); 2] = [("sources.nexmark.events", "60000"), ("sources.nexmark.events_per_ms", "1")];
/// How fast, if something is to be done meanwhile: that takes 20 s.
const SLOW: [(&str, &str); 1] = [("sources.nexmark.rate", "3000")];
/// How fast, if it is to end.
const FAST: [(&str, &str); 1] = [("sources.nexmark.rate", "100000")];

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What a command prints that ends well.
fn printed(mut command: Command) -> String {
    let output = command.current_dir(root()).output().expect("the binary can be started");
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// What a command says that ends with exit code 1.
fn refusal(mut command: Command) -> String {
    let output = command.current_dir(root()).output().expect("the binary can be started");
    assert_eq!(output.status.code(), Some(1), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result.expect_err("this must be refused") {
        Error::Refused { status, code, .. } => (status, code),
        other => panic!("{other}"),
    }
}

fn set<'a>(command: &mut Command, settings: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (path, value) in settings {
        command.arg("--set").arg(format!("{path}={value}"));
    }
}

/// Waits until a job is as it should be.
async fn wait(client: &Client, job: &str, is_so: impl Fn(&JobDetail) -> bool) -> JobDetail {
    crate::server::wait(client, job, PATIENCE, is_so).await
}

fn has_checkpoint(detail: &JobDetail) -> bool {
    detail.checkpoints.iter().any(|checkpoint| checkpoint.failure.is_none() && checkpoint.bytes_total > 0)
}

/// Deploys a query with a checkpoint every 100 ms, whose rows are published in `out`.
fn deploy(server: &Server, query: &str, parallelism: &str, rate: [(&str, &str); 1], more: &[&str]) -> Command {
    let mut command = server.weir(&["deploy", &format!("examples/nexmark/{query}.toml")]);
    command.args(more);
    set(&mut command, EVENTS.into_iter().chain(rate));
    set(&mut command, [("sinks.out.connector", "file"), ("sinks.out.folder", "out"), ("sinks.out.format", "jsonl")]);
    set(&mut command, [("checkpoint.interval", "100ms"), ("parallelism", parallelism)]);
    command
}

/// The first sample of a metric that a job has.
fn sample(metrics: &str, name: &str, job: &str) -> Option<f64> {
    let is_of_it = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{')) && line.contains(job);
    metrics.lines().find(is_of_it)?.rsplit_once(' ')?.1.parse().ok()
}

/// A job of Nexmark without end that writes to nowhere.
async fn endless(client: &Client, query: &str, interval: Option<&str>) -> (String, Value) {
    let component = nexmark(client).await;
    let mut spec = json!({
        "name": "endless",
        "component": component,
        "args": { "query": query },
        "sources": { "nexmark": { "connector": "nexmark", "rate": 20_000.0 } },
        "sinks": { "out": { "connector": "blackhole" } },
    });
    if let Some(interval) = interval {
        spec["checkpoint"] = json!({ "interval": interval });
    }
    (client.submit(&spec).await.expect("a good spec").id, spec)
}

fn wish(id: &str) -> SavepointWish {
    SavepointWish { id: Some(id.to_owned()), ..SavepointWish::default() }
}

/// Goal: a job is stopped with a savepoint, and another one, with another parallelism, goes on from it: together they write each row once.
#[tokio::test]
async fn goes_on_from_a_savepoint() {
    let expected = undisturbed("q5", &EVENTS);
    let server = Server::start(4);
    let client = server.client();
    let deploy = |parallelism: &str, rate, more: &[&str]| deploy(&server, "q5", parallelism, rate, more);
    let job = printed(deploy("1", SLOW, &[])).trim().to_owned();
    wait(&client, &job, has_checkpoint).await;

    // The job goes on after the first one.
    let made = printed(server.weir(&["savepoint", "create", &job, "--id", "first", "--output", "json"]));
    let made: Value = serde_json::from_str(&made).expect("JSON");
    assert_eq!(made["savepoint"], "first");
    assert!(made["url"].as_str().is_some_and(|url| url.ends_with("/checkpoints/default/savepoints/first")), "{made}");
    let listed = client.checkpoints(&job).await.expect("a list");
    assert!(listed.iter().any(|checkpoint| Some(checkpoint.checkpoint) == made["checkpoint"].as_u64()), "{listed:?}");
    let got = printed(server.weir(&["job", "get", &job]));
    assert!(got.lines().any(|line| line.starts_with("checkpoint ") && line.contains(" bytes new")), "{got}");
    let metrics = server.metrics().await;
    for name in [
        "weir_checkpoints_completed_total",
        "weir_checkpoint_age_seconds",
        "weir_checkpoint_size_bytes",
        "weir_task_busy_seconds_total",
        "weir_task_idle_seconds_total",
        "weir_task_watermark_timestamp_seconds",
    ] {
        assert!(sample(&metrics, name, &job).is_some_and(|value| value > 0.0), "{name} in\n{metrics}");
    }
    for name in ["weir_checkpoints_in_flight", "weir_sink_transactions_pending"] {
        assert!(sample(&metrics, name, &job).is_some(), "{name} in\n{metrics}");
    }
    assert_eq!(sample(&metrics, "weir_job_restore_seconds", &job), None, "it has started from nothing");
    for sample in ["weir_job_restarts_total", "weir_checkpoints_failed_total"] {
        assert!(metrics.contains(&format!("{sample}{{tenant=\"default\",job=\"{job}\"}} 0\n")), "{sample}");
    }
    assert!(metrics.contains("weir_udf_renewals_total{"), "{metrics}");

    printed(server.weir(&["job", "stop", &job, "--savepoint=second"]));
    let stopped = wait(&client, &job, |detail| detail.job.is_ended()).await;
    assert_eq!(stopped.job.state, "finished");
    let before = published(&server.data().join("files/default/out"));
    assert!(before.len() < expected.len(), "it stopped before its end");

    let next = printed(deploy("2", FAST, &["--from-savepoint", "second"])).trim().to_owned();
    wait(&client, &next, |detail| detail.job.is_ended()).await;
    let found = published(&server.data().join("files/default/out"));
    assert!(found == expected, "{}", difference(&expected, &found));
    let metrics = server.metrics().await;
    for name in ["weir_job_restore_seconds", "weir_sink_commit_seconds"] {
        assert!(sample(&metrics, name, &next).is_some_and(|value| value > 0.0 && value < 60.0), "{name} in\n{metrics}");
    }
    for name in ["weir_checkpoints_in_flight", "weir_sink_transactions_pending"] {
        assert_eq!(sample(&metrics, name, &next), Some(0.0), "all is over: {name}");
    }

    // They outlive their jobs, until they are deleted.
    let list = printed(server.weir(&["savepoint", "list"]));
    let ids: Vec<_> = list.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(ids, ["first", "second"], "{list}");
    let detail: Value =
        serde_json::from_str(&printed(server.weir(&["savepoint", "inspect", "second", "-o", "json"]))).expect("JSON");
    assert_eq!(
        (&detail["job"], &detail["kind"], &detail["max_parallelism"]),
        (&"nexmark-q5".into(), &"savepoint".into(), &128.into())
    );
    let operators: Vec<_> = detail["operators"].as_array().expect("a list").iter().map(|operator| &operator["id"]).collect();
    assert_eq!(operators, ["bids-by-auction", "hottest"]);
    assert!(detail["operators"][0]["bytes"].as_u64() > Some(0), "{detail}");
    assert_eq!(detail["sources"][0]["name"], "nexmark");
    let shown = printed(server.weir(&["savepoint", "inspect", "second"]));
    assert!(shown.contains("windows (sliding 10s every 2s") && shown.contains("nexmark-q5, checkpoint "), "{shown}");
    printed(server.weir(&["savepoint", "delete", "first"]));
    assert!(refusal(server.weir(&["savepoint", "delete", "first"])).contains("WEIR-SAVEPOINT-002"));
    assert_eq!(client.savepoints().await.expect("a list").len(), 1);
}

/// Goal: a job that is drained emits its windows before it stops: none is left in the savepoint.
#[tokio::test]
async fn drains_with_a_savepoint() {
    let server = Server::start(2);
    let client = server.client();
    for drain in [false, true] {
        let (job, _) = endless(&client, "q5", Some("100ms")).await;
        wait(&client, &job, has_checkpoint).await;
        let mut stop = server.weir(&["job", "stop", &job, "--savepoint"]);
        if drain {
            stop.arg("--drain");
        }
        let printed = printed(stop);
        let id = printed.split_whitespace().next().expect("an id");
        assert!(id.starts_with("endless-20"), "{printed}");
        assert_eq!(wait(&client, &job, |detail| detail.job.is_ended()).await.job.state, "finished");
        let savepoint = client.savepoint(id).await.expect("it is there");
        assert_eq!(savepoint.operators.iter().all(|operator| operator.bytes == 0), drain, "{savepoint:?}");
    }
}

/// How many bids each bidder has made, by what q11 says of their sessions.
fn bids_by_bidder(visits: &[String]) -> BTreeMap<u64, u64> {
    let mut bids = BTreeMap::new();
    for visit in visits {
        let visit: Value = serde_json::from_str(visit).expect("a row is JSON");
        let number = |name: &str| visit[name].as_u64().unwrap_or_else(|| panic!("no {name} in {visit}"));
        *bids.entry(number("bidder")).or_default() += number("bids");
    }
    bids
}

/// Goal: what is read after a drained savepoint is in windows: no bid is missing, and none counts twice, though a session that the drain has cut comes in two parts.
#[tokio::test]
async fn goes_on_from_a_drained_savepoint() {
    let expected = bids_by_bidder(&undisturbed("q11", &EVENTS));
    let server = Server::start(4);
    let client = server.client();
    let deploy = |parallelism: &str, rate, more: &[&str]| deploy(&server, "q11", parallelism, rate, more);
    let job = printed(deploy("1", SLOW, &[])).trim().to_owned();
    wait(&client, &job, has_checkpoint).await;
    printed(server.weir(&["job", "stop", &job, "--savepoint=drained", "--drain"]));
    assert_eq!(wait(&client, &job, |detail| detail.job.is_ended()).await.job.state, "finished");
    let out = server.data().join("files/default/out");
    let before = bids_by_bidder(&published(&out));
    let total = |bids: &BTreeMap<u64, u64>| bids.values().sum::<u64>();
    assert!((1..total(&expected)).contains(&total(&before)), "it was drained in the midst");
    let shown = printed(server.weir(&["savepoint", "inspect", "drained"]));
    assert!(shown.lines().any(|line| line.starts_with("time ") && line.contains("begins anew")), "{shown}");

    let next = printed(deploy("2", FAST, &["--from-savepoint", "drained"])).trim().to_owned();
    assert_eq!(wait(&client, &next, |detail| detail.job.is_ended()).await.job.state, "finished");
    assert_eq!(bids_by_bidder(&published(&out)), expected);
}

/// Goal: from a savepoint of a job that has finished, input is read that is new, and windows make rows of it, also where its time is before the end of the old one.
#[test]
fn goes_on_from_a_savepoint_of_a_finished_job() {
    let mut job = Local::expiring();
    job.settings.push(("args.job", "window-all".to_owned()));
    job.settings.push(("sources.in.path", job.path("rows*.jsonl").display().to_string()));
    let write = |name: &str, id: u64| {
        let row = format!("{{\"id\":{id},\"key\":\"k\",\"number\":1,\"at\":1436918400000}}\n");
        fs::write(job.path(name), row).expect("the folder is ours");
    };
    write("rows.jsonl", 1);
    job.finish(&[]);
    let first = published(&job.path("out"));
    assert_eq!(first.len(), 1, "{first:?}");
    printed(job.command(&["savepoint", "create", "--id", "kept"]));
    let kept = format!("{}/savepoints/kept", job.storage());
    let told = |from: &[&str]| printed(job.command(&[&["job", "diff"][..], from].concat())).contains("time begins anew");
    assert!(told(&["--from-savepoint", &kept]) && !told(&[]), "the job itself has nothing more to read");
    write("rows-2.jsonl", 2);
    job.finish(&["--from-savepoint", &kept, "--set", &format!("sinks.out.folder={}", job.path("out2").display())]);
    assert_eq!(published(&job.path("out2")), first, "a row of the same window");
}

/// Goal: a checkpoint is made when somebody asks for it, long before it is time for the next one.
#[tokio::test]
async fn checkpoints_on_request() {
    let server = Server::start(4);
    let client = server.client();
    let (job, _) = endless(&client, "q5", Some("1h")).await;
    wait(&client, &job, |detail| detail.job.state == "running").await;
    let first = client.checkpoint(&job).await.expect("a checkpoint").checkpoint;
    let told = printed(server.weir(&["job", "checkpoint", &job]));
    let second = told.trim().strip_prefix("checkpoint ").and_then(|told| told.strip_suffix(" is complete")).expect(&told);
    assert!(second.parse::<u64>().is_ok_and(|second| second > first), "{first}, {told}");
    let made = client.checkpoints(&job).await.expect("the job is there");
    assert!(made.iter().any(|one| one.checkpoint == first && one.failure.is_none()), "{made:?}");
    client.cancel(&job).await.expect("it runs");
    wait(&client, &job, |detail| detail.job.is_ended()).await;
    assert_eq!(refused(client.checkpoint(&job).await), (409, "WEIR-JOB-005".into()));
    let (bare, _) = endless(&client, "q5", None).await;
    wait(&client, &bare, |detail| detail.job.state == "running").await;
    assert_eq!(refused(client.checkpoint(&bare).await), (409, "WEIR-SAVEPOINT-001".into()));
}

/// Goal: the same of a job of `weir run`, by a signal.
#[test]
fn checkpoint_by_signal() {
    let job = Local::new("q5");
    let mut command = job.command(&["run"]);
    set(&mut command, [job.paces[0], ("checkpoint.interval", "1h")]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it can be started");
    let mut told = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    // It has claimed its log before anything runs, and listens by then.
    let since = Instant::now();
    while job.entries().is_empty() {
        assert!(since.elapsed() < PATIENCE, "the job does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(&child, rustix::process::Signal::USR1);
    let complete = told.by_ref().map(|line| line.expect("it is text")).find(|line| line.contains("checkpoint"));
    assert!(complete.as_ref().is_some_and(|line| line.ends_with("is complete")), "{complete:?}");
    assert_eq!(job.entries().len(), 2, "the claim, and the checkpoint");
    interrupt(&child);
    told.for_each(drop);
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
}

/// Goal: what cannot be is refused with a code, and leaves the job as it is.
#[tokio::test]
async fn refusals() {
    let server = Server::start(4);
    let client = server.client();
    let (bare, _) = endless(&client, "q5", None).await;
    assert_eq!(refused(client.save(&bare, &wish("bare")).await), (409, "WEIR-SAVEPOINT-001".into()));
    let told = refusal(server.weir(&["savepoint", "create", &bare]));
    assert!(told.contains("set checkpoint.interval in its spec"), "{told}");
    client.cancel(&bare).await.expect("it runs");

    let (job, spec) = endless(&client, "keyed_count", Some("100ms")).await;
    wait(&client, &job, has_checkpoint).await;
    client.save(&job, &wish("one")).await.expect("a savepoint");
    let stopping = SavepointWish { stop: true, ..wish("one") };
    for (wish, status, code) in [
        (stopping.clone(), 409, "WEIR-SAVEPOINT-003"),
        (wish("a/b"), 422, "WEIR-SAVEPOINT-004"),
        (SavepointWish { drain: true, ..wish("two") }, 422, "WEIR-SAVEPOINT-004"),
    ] {
        assert_eq!(refused(client.save(&job, &wish).await), (status, code.into()), "{wish:?}");
    }
    assert_eq!(client.job(&job).await.expect("it is there").job.state, "running");

    let from = |id: &str| StartFrom { savepoint: Some(id.to_owned()), drops_unmatched: false };
    assert_eq!(refused(client.submit_from(&spec, &from("none")).await), (404, "WEIR-SAVEPOINT-002".into()));
    assert_eq!(refused(client.savepoint("none").await), (404, "WEIR-SAVEPOINT-002".into()));
    let mut other = spec.clone();
    other["args"]["query"] = "q18".into();
    assert_eq!(refused(client.submit_from(&other, &from("one")).await), (422, "WEIR-SAVEPOINT-006".into()));
    let mut groups = spec.clone();
    groups["max_parallelism"] = 64.into();
    assert_eq!(refused(client.submit_from(&groups, &from("one")).await), (422, "WEIR-SAVEPOINT-006".into()));
    let dropping = StartFrom { drops_unmatched: true, ..from("one") };
    let other = client.submit_from(&other, &dropping).await.expect("state may be left behind").id;
    // From then on it does without the savepoint.
    wait(&client, &other, has_checkpoint).await;

    // A component stays as long as a job uses it.
    let component = spec["component"].as_str().expect("an id");
    assert_eq!(refused(client.delete_component(component).await), (409, "WEIR-COMPONENT-004".into()));

    let folder = server.data().join("checkpoints/default/savepoints/one");
    let whole = fs::read(folder.join("manifest.json")).expect("it is there");
    fs::write(folder.join("manifest.json"), &whole[..whole.len() / 2]).expect("the folder is ours");
    assert_eq!(refused(client.submit_from(&spec, &from("one")).await), (409, "WEIR-SAVEPOINT-007".into()));
    fs::remove_file(folder.join("manifest.json")).expect("the folder is ours");
    assert_eq!(refused(client.savepoint("one").await), (404, "WEIR-SAVEPOINT-002".into()));
    let list = printed(server.weir(&["savepoint", "list"]));
    assert!(list.contains("it has no manifest: it is being written, or writing it broke off"), "{list}");
    assert_eq!(refused(client.save(&job, &stopping).await), (409, "WEIR-SAVEPOINT-003".into()));
    client.delete_savepoint("one").await.expect("what is left can be deleted");
    client.save(&job, &stopping).await.expect("the id is free again");
    wait(&client, &job, |detail| detail.job.is_ended()).await;
    assert_eq!(refused(client.save(&job, &wish("late")).await), (409, "WEIR-JOB-005".into()));
    assert_eq!(refused(client.save("job_00000000000000000000000000", &wish("x")).await), (404, "WEIR-JOB-003".into()));

    client.cancel(&other).await.expect("it runs");
    wait(&client, &other, |detail| detail.job.is_ended()).await;
    printed(server.weir(&["component", "delete", component]));
    assert_eq!(printed(server.weir(&["component", "list"])).lines().count(), 1, "the head alone");
    assert_eq!(refused(client.component(component).await), (404, "WEIR-COMPONENT-002".into()));
}

/// A job of `weir run` with checkpoints, and its folders.
struct Local {
    folder: tempfile::TempDir,
    spec: String,
    settings: Vec<(&'static str, String)>,
    /// how fast it is, if something is to be done meanwhile, and if it is to end
    paces: [(&'static str, &'static str); 2],
}

impl Local {
    /// A query of Nexmark.
    fn new(query: &str) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            spec: format!("examples/nexmark/{query}.toml"),
            settings: EVENTS.map(|(path, value)| (path, value.to_owned())).to_vec(),
            paces: [SLOW[0], FAST[0]],
        }
    }

    /// State that expires after 300 ms, of a hundred keys that come every 200 ms or so each.
    fn expiring() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let row = |id: u64| {
            let (key, at) = (id * id * 7919 % 1_000_003 % 100, 1_436_918_400_000 + 2 * id);
            format!("{{\"id\":{id},\"key\":\"k{key}\",\"number\":{},\"at\":{at}}}\n", id % 1000)
        };
        let rows = folder.path().join("rows.jsonl");
        fs::write(&rows, (0..150_000).map(row).collect::<String>()).expect("the folder is ours");
        Self {
            spec: "tests/guests/operators/job.toml".into(),
            settings: vec![("args.job", "expiring".into()), ("sources.in.path", rows.display().to_string())],
            paces: [("batch.rows", "2"), ("batch.rows", "1000")],
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn storage(&self) -> String {
        self.path("checkpoints").display().to_string()
    }

    /// A command with the job's spec.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = weir();
        command.args(words).arg(root().join(&self.spec));
        let (storage, out) = (self.storage(), self.path("out").display().to_string());
        set(&mut command, self.settings.iter().map(|(path, value)| (*path, value.as_str())));
        set(&mut command, [("checkpoint.storage", storage.as_str()), ("checkpoint.interval", "50ms")]);
        set(&mut command, [("sinks.out.connector", "file"), ("sinks.out.folder", out.as_str()), ("sinks.out.format", "jsonl")]);
        command
    }

    /// Runs the job until it has some checkpoints, and ends it there.
    fn interrupted(&self) -> Output {
        self.interrupted_with(&[])
    }

    fn interrupted_with(&self, settings: &[(&str, &str)]) -> Output {
        // Old entries go; the numbers of those that are left tell how many there were. The first is the claim.
        let is_there = |name: &str| self.entries().last().is_some_and(|last| last.file_name() >= Some(OsStr::new(name)));
        self.interrupted_when(settings, || is_there("00000000000000000003.json"))
    }

    /// Runs the job until something has happened, and ends it there.
    fn interrupted_when(&self, settings: &[(&str, &str)], has_happened: impl Fn() -> bool) -> Output {
        let mut command = self.command(&["run"]);
        set(&mut command, self.paces[..1].iter().chain(settings).copied());
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it can be started");
        let since = Instant::now();
        while !has_happened() {
            assert!(since.elapsed() < PATIENCE && child.try_wait().expect("a child").is_none(), "no checkpoints");
            std::thread::sleep(Duration::from_millis(5));
        }
        interrupt(&child);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        output
    }

    /// The entries of its log, oldest first.
    fn entries(&self) -> Vec<PathBuf> {
        let mut entries = files_below(&self.path("checkpoints"));
        entries.retain(|path| path.parent().is_some_and(|folder| folder.ends_with("log")));
        entries.sort();
        entries
    }

    fn finish(&self, more: &[&str]) -> String {
        let mut command = self.command(&["run"]);
        set(&mut command, [self.paces[1]]);
        let output = command.args(more).output().expect("it can be started");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    }

    /// Compares what was published with what a query of Nexmark gives.
    fn expect_rows(&self, query: &str, is_exact: bool) {
        let (mut expected, mut found) = (undisturbed(query, &EVENTS), published(&self.path("out")));
        if !is_exact {
            expected.dedup();
            found.dedup();
        }
        assert!(found == expected, "{}", difference(&expected, &found));
    }
}

/// Goal: while a checkpoint is being uploaded, one sees how far it is; when it is complete, it is not under way any more, and what was uploaded is counted.
#[test]
fn checkpoints_under_way() {
    // It has a runtime of its own.
    let bucket = Bucket::start(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(watch_a_checkpoint(&bucket));
}

async fn watch_a_checkpoint(bucket: &Bucket) {
    const LATE: Weather = &[(100, Fault::Late(3000))];
    let environment = [&bucket.environment()[..], &[("WEIR_CHECKPOINT_STORAGE", bucket.url("checkpoints"))]].concat();
    let server = Server::start_with(2, &environment);
    let client = server.client();
    let (job, _) = endless(&client, "keyed_count", Some("100ms")).await;
    wait(&client, &job, has_checkpoint).await;
    let before = uploaded(&server, &job).await;
    assert!(before > 0.0, "a checkpoint was uploaded");
    bucket.set(LATE);
    let is_uploading = |c: &&CheckpointUnderWay| c.bytes_uploaded < c.bytes_to_upload;
    let detail = wait(&client, &job, |detail| detail.checkpoints_under_way.iter().any(|c| is_uploading(&c))).await;
    let seen = detail.checkpoints_under_way.iter().find(is_uploading).expect("there is one");
    assert!(seen.acked < seen.tasks && seen.started_ms > 0 && seen.savepoint.is_none(), "{seen:?}");
    let is_seen = |checkpoint: u64| checkpoint == seen.checkpoint;
    assert!(!detail.checkpoints.iter().any(|complete| is_seen(complete.checkpoint)), "{detail:?}");
    let got = printed(server.weir(&["job", "get", &job]));
    let told = format!("checkpoint {}: ", seen.checkpoint);
    assert!(got.lines().any(|line| line.starts_with(&told) && line.contains(", under way since ")), "{got}");

    bucket.set(CALM);
    let detail = wait(&client, &job, |detail| detail.checkpoints.iter().any(|complete| is_seen(complete.checkpoint))).await;
    assert!(!detail.checkpoints_under_way.iter().any(|c| is_seen(c.checkpoint)), "{detail:?}");
    assert!(uploaded(&server, &job).await >= before + seen.bytes_to_upload as f64);
}

/// How many bytes a job has uploaded for checkpoints, as its server's metrics say.
async fn uploaded(server: &Server, job: &str) -> f64 {
    let metrics = server.metrics().await;
    sample(&metrics, "weir_checkpoint_uploaded_bytes_total", job).unwrap_or_else(|| panic!("{metrics}"))
}

/// Goal: a job that is cancelled ends, also where the storage of its checkpoints does not answer, and says what it has left; the newest complete checkpoint is not
/// lost.
#[test]
fn cancelled_while_the_storage_is_silent() {
    // It has a runtime of its own.
    let bucket = Bucket::start(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(cancel_while_silent(&bucket));
}

async fn cancel_while_silent(bucket: &Bucket) {
    let environment = [&bucket.environment()[..], &[("WEIR_CHECKPOINT_STORAGE", bucket.url("checkpoints"))]].concat();
    let server = Server::start_with(2, &environment);
    let client = server.client();
    let (job, _) = endless(&client, "keyed_count", Some("100ms")).await;
    wait(&client, &job, has_checkpoint).await;
    bucket.set(SILENCE);
    let entries =
        || files_below(&bucket.path("checkpoints")).into_iter().filter(|path| path.extension().is_some_and(|e| e == "json"));
    let newest = entries().max().expect("the job has a checkpoint");
    // A checkpoint is under way by then, and stays so.
    let asked = bucket.count(SILENCE[0].1);
    let since = Instant::now();
    while bucket.count(SILENCE[0].1) < asked + 2 {
        assert!(since.elapsed() < PATIENCE, "nothing is asked of the storage");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.cancel(&job).await.expect("it runs");
    let ended = wait(&client, &job, |detail| detail.job.is_ended()).await;
    assert_eq!(ended.job.state, "cancelled");
    let told = printed(server.weir(&["tail", "--logs", &job]));
    assert!(told.contains("cancelled without waiting for storages and sinks that do not answer"), "{told}");
    assert!(entries().any(|entry| entry == newest), "the newest checkpoint is gone");
}

/// Goal: what one state backend has stored, the other one reads, at another parallelism: a checkpoint, and a savepoint that was moved.
#[test]
fn backends_read_each_other() {
    for (from, to) in [("memory", "rocksdb"), ("rocksdb", "memory"), ("rocksdb", "rocksdb")] {
        for query in ["q4", "q5", "q11"] {
            let job = Local::new(query);
            job.interrupted_with(&[("state.backend", from), ("parallelism", "2")]);
            let to = format!("state.backend={to}");
            let more = ["--set", &to, "--parallelism", "3"];
            if query == "q5" {
                let moved = job.path("moved").display().to_string();
                printed(job.command(&["savepoint", "create", "--id", "kept"]));
                fs::rename(Path::new(&job.storage()).join("savepoints/kept"), &moved).expect("the folder is ours");
                fs::remove_dir_all(job.storage()).expect("the folder is ours");
                let told = job.finish(&[&more[..], &["--from-savepoint", &moved]].concat());
                assert!(!told.contains("error"), "{told}");
            } else {
                job.finish(&more);
            }
            job.expect_rows(query, true);
        }
    }
}

/// Goal: `/metrics` says how the databases of a job's state are doing, and what memory they share; of a job without any it says nothing of the kind.
#[tokio::test]
async fn databases_are_measured() {
    const OF_DATABASES: [&str; 4] = [
        "weir_state_database_files",
        "weir_state_database_file_bytes",
        "weir_state_database_write_buffer_bytes",
        "weir_state_database_pending_compaction_bytes",
    ];
    let server = Server::start(2);
    let client = server.client();
    let (in_memory, mut spec) = endless(&client, "q5", Some("100ms")).await;
    wait(&client, &in_memory, has_checkpoint).await;
    assert!(!server.metrics().await.contains("weir_worker_state_memory_bytes{"), "there is no database yet");

    spec["state"] = json!({ "backend": "rocksdb" });
    let on_disk = client.submit(&spec).await.expect("a good spec").id;
    wait(&client, &on_disk, has_checkpoint).await;
    let metrics = server.metrics().await;
    for name in OF_DATABASES {
        let has = |job| sample(&metrics, name, job).is_some();
        assert!(has(&on_disk) && !has(&in_memory), "{name} in\n{metrics}");
    }
    let memory = |part: &str| sample(&metrics, "weir_worker_state_memory_bytes", &format!("part=\"{part}\""));
    let budget = memory("budget").expect("there is a budget");
    for part in ["used", "pinned", "write_buffers"] {
        assert!(memory(part).is_some_and(|bytes| (0.0..budget).contains(&bytes)), "{part} in\n{metrics}");
    }
}

/// Goal: a savepoint that was moved is all that a job needs to go on: what the job published before, under other checkpoints, stays there.
#[test]
fn goes_on_where_its_checkpoints_are_not() {
    let job = Local::new("q1");
    job.interrupted_when(&[], || !published(&job.path("out")).is_empty());
    let moved = job.path("moved").display().to_string();
    printed(job.command(&["savepoint", "create", "--id", "kept"]));
    fs::rename(Path::new(&job.storage()).join("savepoints/kept"), &moved).expect("the folder is ours");
    fs::remove_dir_all(job.storage()).expect("the folder is ours");
    job.finish(&["--from-savepoint", &moved]);
    job.expect_rows("q1", true);
}

/// Goal: a job whose log is gone does not write over what it has published.
#[test]
fn published_rows_are_not_replaced() {
    let job = Local::new("q1");
    job.finish(&[]);
    let before = published(&job.path("out"));
    fs::remove_dir_all(job.path("checkpoints/jobs/nexmark-q1/log")).expect("the folder is ours");
    let mut again = job.command(&["run"]);
    set(&mut again, FAST);
    let told = refusal(again);
    assert!(told.contains("is there already, of a job of the same name whose checkpoints are gone"), "{told}");
    assert_eq!(published(&job.path("out")), before);
}

/// Goal: the same of parts in a bucket: an object that is there is not replaced. Where the job has other checkpoints, its parts have other names.
#[test]
fn published_objects_are_not_replaced() {
    let (job, bucket) = (Local::new("q1"), Bucket::start(1));
    let sink =
        format!("{{ connector = \"file\", url = \"{}\", format = \"jsonl\", s3 = {} }}", bucket.url("out"), bucket.options());
    let run = |checkpoints: &str| {
        let storage = job.path(checkpoints).display().to_string();
        let mut command = job.command(&["run"]);
        set(&mut command, [FAST[0], ("sinks.out", sink.as_str()), ("checkpoint.storage", storage.as_str())]);
        command
    };
    printed(run("some"));
    let before = published(&bucket.path("out"));
    assert!(!before.is_empty(), "nothing is there that could be replaced");
    let (log, aside) = (job.path("some/jobs/nexmark-q1/log"), job.path("aside"));
    fs::rename(&log, &aside).expect("the folder is ours");
    let told = refusal(run("some"));
    assert!(told.contains("is there already, of a job of the same name whose checkpoints are gone"), "{told}");
    assert_eq!(published(&bucket.path("out")), before);
    // With its log back it is as good as before, and starts again.
    fs::remove_dir_all(&log).expect("the folder is ours");
    fs::rename(&aside, &log).expect("the folder is ours");
    printed(run("some"));
    assert_eq!(published(&bucket.path("out")), before);
    printed(run("others"));
    assert_eq!(published(&bucket.path("out")).len(), 2 * before.len());
}

/// Goal: state that expires goes on from a savepoint with another backend and another parallelism: what had expired by then is not seen again, what had not is, and
/// its time is not begun anew.
#[test]
fn expiring_state_goes_on() {
    let calm = Local::expiring();
    calm.finish(&[]);
    let expected = published(&calm.path("out"));
    let fresh = expected.iter().filter(|line| line.contains(" 1 [")).count();
    assert!(fresh > 1000 && expected.len() > 2 * fresh, "{fresh} of {} rows are seen by fresh state", expected.len());
    for (from, to) in [("memory", "rocksdb"), ("rocksdb", "memory")] {
        let job = Local::expiring();
        job.interrupted_with(&[("state.backend", from), ("state.slots_max", "20"), ("parallelism", "2")]);
        assert!(published(&job.path("out")).len() < expected.len(), "it ended before it was interrupted");
        printed(job.command(&["savepoint", "create", "--id", "kept"]));
        let (kept, to) = (format!("{}/savepoints/kept", job.storage()), format!("state.backend={to}"));
        let more = ["--set", &to, "--set", "state.slots_max=20", "--parallelism", "3"];
        job.finish(&[&more[..], &["--from-savepoint", &kept]].concat());
        let found = published(&job.path("out"));
        assert!(found == expected, "from {from}: {}", difference(&expected, &found));
    }
}

/// Goal: a database of which a file is damaged is found to be, and the checkpoint before it taken.
#[test]
fn damaged_database() {
    let job = Local::new("q5");
    job.interrupted_with(&[("state.backend", "rocksdb")]);
    let is_table = |path: &PathBuf| path.to_string_lossy().contains("rocksdb-") && path.to_string_lossy().contains(".sst");
    let mut tables: Vec<_> = files_below(&job.path("checkpoints")).into_iter().filter(is_table).collect();
    tables.sort_by_key(|path| fs::metadata(path).and_then(|file| file.modified()).expect("it has a time"));
    let newest = tables.last().expect("there is state on disk");
    // A link would have the database's own file changed, too: that is gone.
    let mut bytes = fs::read(newest).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(newest, bytes).expect("the folder is ours");
    let told = job.finish(&["--set", "state.backend=rocksdb"]);
    assert!(told.contains("is damaged") && told.contains("going back to the one before"), "{told}");
    job.expect_rows("q5", false);
}

/// Goal: a savepoint of a job of `weir run` is made of its newest checkpoint, can be looked at, moved, and started from.
#[test]
fn without_a_server() {
    let job = Local::new("q5");
    job.interrupted();
    let storage = job.storage();
    let made = printed(job.command(&["savepoint", "create", "--id", "kept"]));
    assert!(made.starts_with("kept  file:///"), "{made}");
    assert!(refusal(job.command(&["savepoint", "create", "--id", "kept"])).contains("choose another id or delete it"));
    assert!(refusal(job.command(&["savepoint", "create", "--stop"])).contains("press Ctrl-C there"));
    let list = |storage: &str| {
        let mut command = weir();
        command.args(["savepoint", "list", "--storage", storage]);
        command
    };
    assert!(printed(list(&storage)).lines().nth(1).is_some_and(|line| line.starts_with("kept") && line.contains("nexmark-q5")));
    assert!(refusal(list("/no/such/folder")).contains("there is no folder /no/such/folder"));
    let typo = job.path("typo");
    let url = format!("file://{}", typo.display());
    assert!(refusal(list(&url)).contains(&format!("there is no folder {}", typo.display())));
    let from = job.command(&["run", "--from-savepoint", &format!("{url}/kept")]);
    assert!(refusal(from).contains(&format!("there is no folder {}/kept", typo.display())));
    assert!(!typo.exists(), "who looks for a folder does not make it");

    // It refers to nothing outside of its folder.
    let moved = job.path("moved");
    fs::rename(Path::new(&storage).join("savepoints/kept"), &moved).expect("the folder is ours");
    let moved = moved.display().to_string();
    let inspect = || {
        let mut command = weir();
        command.args(["savepoint", "inspect", &moved]);
        command
    };
    assert!(printed(inspect()).contains("bids-by-auction"));
    assert!(printed(job.command(&["job", "diff", "--from-savepoint", &moved])).contains("bids-by-auction  kept"));
    let told = job.finish(&["--from-savepoint", &moved, "--parallelism", "2"]);
    assert!(!told.contains("goes on from its checkpoint"), "{told}");
    job.expect_rows("q5", true);

    let file = files_below(Path::new(&moved)).into_iter().find(|path| !path.ends_with("manifest.json")).expect("it has files");
    fs::remove_file(file).expect("the folder is ours");
    let told = refusal(inspect());
    assert!(told.contains("1 files of the savepoint are missing"), "{told}");
}

/// Goal: `weir job diff` says what becomes of each operator's state, and a start does what it has said.
#[test]
fn differences() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rows = folder.path().join("rows.jsonl");
    fs::write(&rows, "{\"id\":1,\"key\":\"a\",\"number\":1,\"at\":\"2015-07-15T00:00:00Z\"}\n").expect("the folder is ours");
    let (rows, storage) = (rows.display().to_string(), folder.path().join("checkpoints").display().to_string());
    let command = |words: &[&str], job: &str| {
        let mut command = weir();
        command.args(words).arg(root().join("tests/guests/operators/job.toml"));
        set(
            &mut command,
            [("name", "changing"), ("args.job", job), ("sources.in.path", &rows), ("checkpoint.storage", &storage)],
        );
        command
    };
    assert!(refusal(command(&["job", "diff"], "several-fields")).contains("there is no folder "));
    fs::create_dir(&storage).expect("it was not made by looking for it");
    assert!(refusal(command(&["job", "diff"], "several-fields")).contains("there is no complete checkpoint in "));
    printed(command(&["run"], "several-fields"));
    let diff = |job: &str| {
        let output = command(&["job", "diff", "--output", "json"], job).output().expect("it can be started");
        let diff: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
        assert_eq!(output.status.code(), Some(i32::from(diff["starts"] != true)), "{diff}");
        let operators = diff["operators"].as_array().expect("a list").iter();
        let states = operators.map(|o| format!("{} {}", o["operator"].as_str().unwrap_or(""), o["state"].as_str().unwrap_or("")));
        states.collect::<Vec<_>>()
    };
    let kept = diff("several-fields");
    assert!(kept.len() == 1 && kept[0].ends_with(" kept"), "{kept:?}");
    let operator = kept[0].split(' ').next().expect("an operator");
    assert_eq!(diff("count"), ["leaking new".to_owned(), format!("{operator} lost")]);
    assert_eq!(diff("computed-key"), [format!("{operator} unreadable")]);

    let output = command(&["job", "diff"], "computed-key").output().expect("it can be started");
    let shown = text(&output.stdout);
    assert!(shown.contains("cannot read") && shown.contains("it was a process function by key Utf8"), "{shown}");
    let told = refusal(command(&["run"], "computed-key"));
    assert!(told.contains("cannot read its state of checkpoint"), "{told}");
    let told = refusal(command(&["run"], "count"));
    assert!(told.contains("which the job has not") && told.contains("--allow-non-restored-state"), "{told}");
    printed(command(&["run", "--allow-non-restored-state"], "count"));
    let mut groups = command(&["job", "diff"], "several-fields");
    set(&mut groups, [("max_parallelism", "64")]);
    let told = refusal(groups);
    assert!(told.contains("would not start") && told.contains("set max_parallelism = 128"), "{told}");
}

/// Goal: a job that was stopped, or has finished, has nothing left to commit: it goes on with a sink in another place, and each row is in one of them, once.
#[test]
fn sinks_change_after_a_stop() {
    let job = Local::new("q5");
    job.interrupted();
    let first = published(&job.path("out"));
    let elsewhere = |name: &str| format!("sinks.out.folder={}", job.path(name).display());
    job.finish(&["--set", &elsewhere("out2")]);
    assert_eq!(published(&job.path("out")), first, "nothing more is written where the sink was");
    let (expected, mut found) = (undisturbed("q5", &EVENTS), [first, published(&job.path("out2"))].concat());
    found.sort_unstable();
    assert!(found == expected, "{}", difference(&expected, &found));
    let told = job.finish(&["--set", &elsewhere("out3")]);
    assert!(told.contains("has finished already"), "{told}");
    assert!(published(&job.path("out3")).is_empty());
}

/// Goal: a job that has finished and is started again does nothing, although there is new input by then: that is told. From the start, the job reads it, too.
#[test]
fn finished_jobs_leave_new_input() {
    let mut job = Local::expiring();
    job.settings.push(("sources.in.path", job.path("rows*.jsonl").display().to_string()));
    let write = |name: &str, id: u64| {
        let row = format!("{{\"id\":{id},\"key\":\"k\",\"number\":1,\"at\":1436918400000}}\n");
        fs::write(job.path(name), row).expect("the folder is ours");
    };
    write("rows.jsonl", 1);
    job.finish(&[]);
    let first = published(&job.path("out"));
    assert_eq!(first.len(), 1, "{first:?}");
    write("rows-2.jsonl", 2);
    let told = job.finish(&[]);
    for part in ["has finished already", "does not read", "rows-2.jsonl\", new since", "--fresh"] {
        assert!(told.contains(part), "{told}");
    }
    assert_eq!(published(&job.path("out")), first);
    job.finish(&["--fresh", "--set", &format!("sinks.out.folder={}", job.path("out2").display())]);
    assert_eq!(published(&job.path("out2")).len(), 2);
}

/// Goal: where a source does not name any more what the job has read a part of, that is refused before anything starts, and `weir job diff` says so; told to, the job
/// leaves the rest unread, says so, and reads what the source names now. So it is where the source has become another connector's.
#[test]
fn sources_that_change_are_told() {
    let job = Local::expiring();
    job.interrupted();
    let other = job.path("other.jsonl");
    fs::write(&other, "{\"id\":1,\"key\":\"other\",\"number\":1,\"at\":1436918400000}\n").expect("the folder is ours");
    let path = format!("sources.in.path={}", other.display());
    let command = |words: &[&str]| {
        let mut command = job.command(words);
        command.args(["--set", &path]);
        command
    };
    let is_line =
        |shown: &str, line: &[&str]| shown.lines().any(|found| found.split_whitespace().take(2).eq(line.iter().copied()));
    let shown = printed(job.command(&["job", "diff", "-p", "2"]));
    assert!(is_line(&shown, &["in", "kept"]) && is_line(&shown, &["out", "kept"]), "{shown}");
    let output = command(&["job", "diff"]).output().expect("it can be started");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(is_line(&shown, &["in", "lost"]) && shown.contains("the option path = "), "{shown}");
    let entries = job.entries().len();
    for _ in 0..2 {
        let told = refusal(command(&["run"]));
        for part in ["rows.jsonl\" to its end", "other.jsonl\" does not name it", "--allow-non-restored-state"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("starts again"), "{told}");
    }
    assert!(job.entries().len() <= entries + 2, "it has tried no more than it was told to");
    let told = job.finish(&["--allow-non-restored-state", "--set", &path]);
    assert!(told.contains("does not read the rest of"), "{told}");
}

/// Goal: `weir job diff --job` compares a spec with the newest checkpoint of a job on a server, while it runs and when it has ended; what cannot be compared is refused
/// with a code that says why, and no answer has a secret of the spec.
#[tokio::test]
async fn differences_on_a_server() {
    const SPEC: &str = "examples/nexmark/keyed_count.toml";
    let server = Server::start_with(4, &[("WEIR_ALLOW_CONNECTOR", "postgres".into())]);
    let client = server.client();
    let (job, spec) = endless(&client, "keyed_count", Some("100ms")).await;
    wait(&client, &job, has_checkpoint).await;
    let diff = |settings: &[(&str, &str)]| {
        let mut command = server.weir(&["job", "diff", SPEC, "--job", &job]);
        set(&mut command, settings.iter().copied());
        command
    };
    let is_kept = |shown: &str| shown.lines().any(|line| line.split_whitespace().eq(["bids", "kept"]));
    let shown = printed(diff(&[]));
    assert!(is_kept(&shown) && shown.starts_with("checkpoint ") && shown.contains(&job), "{shown}");

    let mut other = diff(&[("args.query", "q18")]);
    let output = other.args(["--output", "json"]).current_dir(root()).output().expect("the binary can be started");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    assert_eq!((output.status.code(), &told["starts"]), (Some(1), &json!(false)));
    assert!(text(&output.stderr).contains("the job would not start: there is state that it cannot take"), "{output:?}");
    assert_eq!(told["operators"][0], json!({ "operator": "last-bid", "state": "new" }));
    assert_eq!((&told["operators"][1]["operator"], &told["operators"][1]["state"]), (&json!("bids"), &json!("lost")), "{told}");
    let told = refusal(diff(&[("max_parallelism", "64")]));
    assert!(told.contains("would not start") && told.contains("set max_parallelism = 128"), "{told}");

    let (bare, _) = endless(&client, "keyed_count", None).await;
    assert_eq!(refused(client.diff(&bare, &spec).await), (409, "WEIR-SAVEPOINT-001".into()));
    let (early, _) = endless(&client, "keyed_count", Some("1h")).await;
    let told = refusal(server.weir(&["job", "diff", SPEC, "--job", &early]));
    assert!(told.contains("WEIR-JOB-008") && told.contains(&format!("`weir savepoint create {early}`")), "{told}");
    let told = refusal(server.weir(&["job", "diff", SPEC, "--job", "job_00000000000000000000000000"]));
    assert!(told.contains("WEIR-JOB-003"), "{told}");
    for (name, value, status, code) in [
        ("component", json!(format!("sha256:{}", "0".repeat(64))), 404, "WEIR-COMPONENT-002"),
        ("parallelism", json!("many"), 422, "WEIR-JOB-001"),
        ("sinks", json!({}), 422, "WEIR-JOB-002"),
        ("sources", json!({ "nexmark": { "connector": "stdin" } }), 422, "WEIR-JOB-006"),
    ] {
        let mut wrong = spec.clone();
        wrong[name] = value;
        assert_eq!(refused(client.diff(&job, &wrong).await), (status, code.into()), "{name}");
    }
    let mut both = diff(&[]);
    let both = both.args(["--from-savepoint", "kept"]).current_dir(root()).output().expect("the binary can be started");
    assert_eq!(both.status.code(), Some(2), "{both:?}");

    // Nobody needs to listen there: a connector only looks at its options.
    for (host, status) in [("127.0.0.1:1", 200), ("127.0.0.1:port", 422)] {
        let mut secret = spec.clone();
        secret["sinks"]["out"] =
            json!({ "connector": "postgres", "url": format!("postgres://me:hunter2@{host}/x"), "table": "counts" });
        let post = reqwest::Client::new().post(format!("{}/v1/jobs/{job}/diff", server.url())).json(&secret);
        let answer = post.send().await.expect("an answer");
        assert_eq!(answer.status(), status, "{host}");
        let answer = answer.text().await.expect("text");
        assert!(answer.contains("kept") == (status == 200) && !answer.contains("hunter2"), "{answer}");
    }

    client.cancel(&job).await.expect("it runs");
    wait(&client, &job, |detail| detail.job.is_ended()).await;
    let shown = printed(diff(&[]));
    assert!(is_kept(&shown), "{shown}");
}

/// Goal: a checkpoint whose manifest is torn is passed over, which is said, and the one before it taken.
#[test]
fn torn_manifest() {
    let job = Local::new("q5");
    job.interrupted();
    let entries = job.entries();
    let newest = entries.last().expect("there are entries");
    let whole = fs::read(newest).expect("it is there");
    fs::write(newest, &whole[..whole.len() / 2]).expect("the folder is ours");
    let told = job.finish(&[]);
    assert!(told.contains("cannot be read; if it was a checkpoint, what it committed will be written again"), "{told}");
    assert!(told.contains("goes on from its checkpoint"), "{told}");
    job.expect_rows("q5", false);
}

/// Goal: a job whose newest checkpoint is of a newer Weir does not begin anew, nor from an older one: whatever one asks for is refused alike, and nothing is written.
#[test]
fn newer_checkpoints() {
    let job = Local::new("q5");
    job.interrupted();
    let (entries, rows) = (job.entries(), published(&job.path("out")));
    for (n, entry) in entries.iter().enumerate().rev() {
        let document = fs::read_to_string(entry).expect("it is there");
        fs::write(entry, document.replacen("\"format\":1", "\"format\":2", 1)).expect("the folder is ours");
        if n + 1 < entries.len() && n > 0 {
            continue;
        }
        for words in [&["run"][..], &["run", "--fresh"], &["job", "diff"], &["savepoint", "create"]] {
            let told = refusal(job.command(words));
            assert!(
                told.contains("it has format 2") && told.contains("use a newer Weir, or another storage"),
                "{words:?}: {told}"
            );
            assert!(!told.contains("starts again"), "{words:?}: {told}");
        }
        assert_eq!(
            (job.entries(), published(&job.path("out"))),
            (entries.clone(), rows.clone()),
            "nothing is claimed or written"
        );
    }
}

/// Goal: a mistyped storage is no folder: a job that has one does not start, and makes none.
#[test]
fn mistyped_storages() {
    let job = Local::new("q5");
    for (storage, why) in [
        ("s3:/bucket/checkpoints", "begins as a URL does and is none; write file:///directory, s3://bucket/prefix"),
        ("", "the storage is empty; name a folder, or write file:///directory"),
    ] {
        let mut run = job.command(&["run"]);
        set(&mut run, [("checkpoint.storage", storage)]);
        let told = refusal(run);
        assert!(told.contains(why), "{told}");
    }
    assert!(!root().join("examples/nexmark/s3:").exists() && !job.path("out").exists());
}

/// Goal: a checkpoint whose state is damaged is left, which is said, and the job starts from the one before it.
#[test]
fn damaged_state() {
    let job = Local::new("q5");
    job.interrupted();
    let number = |path: &Path| path.file_name()?.to_str()?.split_once('-')?.0.parse::<u64>().ok();
    let mut state = files_below(&job.path("checkpoints"));
    state.retain(|path| path.components().any(|part| part.as_os_str() == "files"));
    let newest = state.iter().filter_map(|path| number(path)).max().expect("there is state");
    for path in state.iter().filter(|path| number(path) == Some(newest)) {
        let mut bytes = fs::read(path).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("the folder is ours");
    }
    // That is no restart that a strategy would have to allow. Who wants it quiet is told all the same.
    let told = job.finish(&["--set", "restart.strategy=none", "--quiet"]);
    assert!(told.contains(&format!("checkpoint {newest} of \"nexmark-q5\" is damaged")), "{told}");
    assert!(told.contains("going back to the one before"), "{told}");
    job.expect_rows("q5", false);
}

/// Goal: where a file is damaged that all checkpoints share, the job does not begin anew: it fails, says which checkpoints and which file, and publishes nothing;
/// it goes on from the newest one once the file is back.
#[test]
fn damaged_files_that_checkpoints_share() {
    let job = Local::new("q5");
    job.interrupted_with(&[("state.backend", "rocksdb")]);
    let rows = published(&job.path("out"));
    let manifests: Vec<_> = job.entries().iter().map(|entry| fs::read_to_string(entry).expect("it is there")).collect();
    let manifests: Vec<_> = manifests.iter().filter(|entry| entry.contains("\"manifest\"")).collect();
    let lists = |manifest: &str, file: &Path| {
        let (_, below) = file.to_str().and_then(|path| path.split_once("/files/")).expect("a file of state");
        manifest.contains(&format!("\"files/{below}\""))
    };
    let mut state = state_below(Path::new(&job.storage()));
    state.sort_by_key(|file| std::cmp::Reverse(manifests.iter().filter(|manifest| lists(manifest, file)).count()));
    let one_of = |manifest: &&String| state.iter().find(|file| lists(manifest, file)).expect("it has state");
    let mut cut: Vec<_> = manifests.iter().map(one_of).collect();
    cut.sort();
    cut.dedup();
    let whole: Vec<_> = cut.iter().map(|file| fs::read(file).expect("it is there")).collect();
    for file in &cut {
        fs::remove_file(file).and_then(|()| fs::write(file, "cut")).expect("the folder is ours");
    }
    let run = || job.command(&["run", "--set", "state.backend=rocksdb"]);
    let told = refusal(run());
    let is_named = |file: &&PathBuf| {
        let name = file.file_name().and_then(OsStr::to_str).expect("a name");
        told.contains(&format!("{name} has 3 bytes instead of "))
    };
    assert!(cut.iter().any(is_named), "{cut:?}: {told}");
    for part in ["it does not begin anew by itself", "bring back what was in there", "--from-savepoint", "--fresh"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("cannot be read"), "{told}");
    let backs = told.matches("going back to the one before").count();
    assert_eq!(backs + 1, manifests.len(), "there is none before the first: {told}");
    assert_eq!(published(&job.path("out")), rows, "nothing is published");
    // It was the checkpoints of an attempt that another one has gone back behind.
    let again = refusal(run());
    assert!(again.contains("it does not begin anew by itself"), "{again}");

    for (file, bytes) in cut.iter().zip(whole) {
        fs::write(file, bytes).expect("the folder is ours");
    }
    job.finish(&["--set", "state.backend=rocksdb"]);
    job.expect_rows("q5", true);
}

/// Goal: where all manifests are torn, the job does not begin anew: it fails, names them, publishes nothing and claims nothing; it starts from a savepoint if one
/// says so.
#[test]
fn torn_manifests_of_all_checkpoints() {
    let job = Local::new("q5");
    job.interrupted();
    printed(job.command(&["savepoint", "create", "--id", "kept"]));
    let (entries, rows) = (job.entries(), published(&job.path("out")));
    for entry in &entries {
        let whole = fs::read(entry).expect("it is there");
        fs::write(entry, &whole[..whole.len() / 2]).expect("the folder is ours");
    }
    let told = refusal(job.command(&["run"]));
    // The first one is a claim, if it is still there.
    for entry in entries.iter().filter(|entry| !entry.ends_with("00000000000000000000.json")) {
        let name = entry.file_name().and_then(OsStr::to_str).expect("a name");
        assert!(told.contains(&format!("log/{name}, which may be a checkpoint, is damaged (")), "{name}: {told}");
    }
    for part in ["it does not begin anew by itself", "bring back what was in there", "--from-savepoint", "--fresh"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(!told.contains("going back") && !told.contains("starts again"), "{told}");
    assert_eq!((job.entries(), published(&job.path("out"))), (entries, rows), "nothing is claimed or published");

    let kept = format!("{}/savepoints/kept", job.storage());
    job.finish(&["--from-savepoint", &kept]);
    job.expect_rows("q5", false);
}

/// Goal: where the savepoint that a job is to start from is damaged, it fails at once, and says so: there is none before it.
#[test]
fn damaged_savepoint() {
    let job = Local::new("q5");
    job.interrupted();
    printed(job.command(&["savepoint", "create", "--id", "kept"]));
    let kept = Path::new(&job.storage()).join("savepoints/kept");
    let state = files_below(&kept).into_iter().filter(|path| path.components().any(|part| part.as_os_str() == "files"));
    for path in state {
        let mut bytes = fs::read(&path).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        // It may be a link to a file of a checkpoint.
        fs::remove_file(&path).and_then(|()| fs::write(&path, bytes)).expect("the folder is ours");
    }
    let kept = kept.display().to_string();
    let told = refusal(job.command(&["run", "--from-savepoint", &kept]));
    assert!(told.contains("the savepoint that it was to start from is damaged"), "{told}");
    assert!(!told.contains("going back"), "{told}");
    // The job's own checkpoints are as good as before.
    job.finish(&[]);
    job.expect_rows("q5", false);
}

/// Changes one bit of a file, which becomes a file of its own if it was linked.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("it is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(path).and_then(|()| fs::write(path, bytes)).expect("the folder is ours");
}

/// The files with state below a folder.
fn state_below(folder: &Path) -> Vec<PathBuf> {
    let mut state = files_below(folder);
    state.retain(|path| path.components().any(|part| part.as_os_str() == "files"));
    state.retain(|path| fs::metadata(path).is_ok_and(|file| file.len() > 0));
    state
}

/// Goal: there is no savepoint of a checkpoint that is damaged; and where a savepoint is damaged later, `--verify` finds it, here and on a server.
#[tokio::test]
async fn damage_is_found() {
    let job = Local::new("q5");
    job.interrupted();
    let kept = Path::new(&job.storage()).join("savepoints/kept");
    printed(job.command(&["savepoint", "create", "--id", "kept"]));
    let inspect = |more: &[&str]| {
        let mut command = weir();
        command.args(["savepoint", "inspect"]).arg(&kept).args(more);
        command
    };
    let shown = printed(inspect(&["--verify"]));
    assert!(shown.contains(" files, all read"), "{shown}");
    damage(state_below(&kept).first().expect("there is state"));
    printed(inspect(&[]));
    let output = inspect(&["--verify"]).output().expect("it can be started");
    let (shown, told) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(shown.contains("has the checksum") && told.contains("error: 1 files of the savepoint"), "{shown}{told}");

    let server = Server::start(2);
    let client = server.client();
    let (id, _) = endless(&client, "q5", Some("100ms")).await;
    wait(&client, &id, has_checkpoint).await;
    client.save(&id, &wish("there")).await.expect("a savepoint");
    assert!(client.verified_savepoint("there").await.expect("it is there").broken.is_empty());
    damage(state_below(&server.data().join("checkpoints/default/savepoints/there")).first().expect("there is state"));
    assert!(client.savepoint("there").await.expect("it is there").broken.is_empty());
    assert!(refusal(server.weir(&["savepoint", "inspect", "there", "--verify"])).contains("error: 1 files of the savepoint"));

    fs::remove_dir_all(&kept).expect("the folder is ours");
    state_below(Path::new(&job.storage())).iter().for_each(|path| damage(path));
    let told = refusal(job.command(&["savepoint", "create", "--id", "kept"]));
    assert!(told.contains("is damaged, and so would the savepoint be") && told.contains("has the checksum"), "{told}");
    assert!(files_below(&kept).is_empty(), "something is left of it");
}

/// Changes what a document of a storage says: its second line, of which the first one has length and checksum.
fn rewrite(document: &Path, change: impl FnOnce(&mut Value)) {
    let whole = fs::read_to_string(document).expect("it is there");
    let mut lines = whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("each line is JSON"));
    let (mut head, mut body) = (lines.next().expect("a head"), lines.next().expect("a body"));
    change(&mut body);
    let body = body.to_string();
    let mut sum = flate2::Crc::new();
    sum.update(format!("{}\n{body}", head["writer"].as_str().expect("a name")).as_bytes());
    head["bytes"] = body.len().into();
    head["crc32"] = format!("{:08x}", sum.sum()).into();
    fs::write(document, format!("{head}\n{body}\n")).expect("the folder is ours");
}

/// Has a manifest say that three batches are in flight.
fn put_in_flight(manifest: &mut Value) {
    let tasks = manifest["tasks"].as_array_mut().expect("tasks");
    let file = tasks.iter().find_map(|task| task.pointer("/chains/0/state/entries/0").cloned()).expect("there is state");
    tasks[0]["in_flight"] = json!([{ "edge": 0, "sender": 0, "senders": 1, "batches": 3, "file": file }]);
}

/// Goal: there is no savepoint of a checkpoint with rows in flight, and one that was made all the same is known.
#[test]
fn savepoints_have_no_rows_in_flight() {
    let job = Local::new("q5");
    job.interrupted();
    let kept = Path::new(&job.storage()).join("savepoints/kept");
    printed(job.command(&["savepoint", "create", "--id", "kept"]));
    let inspect = || {
        let mut command = weir();
        command.args(["savepoint", "inspect"]).arg(&kept);
        command
    };
    assert!(!printed(inspect()).contains("in flight"));
    rewrite(&kept.join("manifest.json"), put_in_flight);
    let shown = printed(inspect());
    assert!(shown.lines().any(|line| line.starts_with("in flight ") && line.contains(" 3 batches of rows")), "{shown}");

    rewrite(job.entries().last().expect("there are entries"), |entry| put_in_flight(&mut entry["manifest"]));
    let told = refusal(job.command(&["savepoint", "create", "--id", "next"]));
    assert!(told.contains("is unaligned and has rows in flight") && told.contains("stop it"), "{told}");
    assert!(files_below(&kept.with_file_name("next")).is_empty(), "something is left of it");
}
