//! The REST interface, by its client and by plain requests, and the commands that use it.

use std::collections::BTreeSet;
use std::io::Read;
use std::process::Stdio;

use reqwest::header::{CONTENT_TYPE, HOST, ORIGIN};
use serde_json::{Value, json};
use weir_client::follow::Next;
use weir_client::{Client, Error, Lines};

use crate::run::{root, weir};
use crate::server::Server;

fn wasm(path: &str) -> Vec<u8> {
    let path = root().join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; build the guests with `make guests`", path.display()))
}

fn picky() -> Vec<u8> {
    wasm("tests/guests/picky/picky.wasm")
}

/// Rows for the guest `picky`: it passes on those without a fault.
fn items(ids: std::ops::Range<u32>) -> String {
    ids.map(|id| format!("{{\"id\":{id},\"fault\":\"\"}}\n")).collect()
}

fn picky_spec(component: &str, path: &str) -> Value {
    json!({
        "name": "tasting",
        "component": component,
        "sources": { "items": { "connector": "file", "path": path, "format": "jsonl" } },
        "sinks": { "out": { "connector": "stdout" } },
    })
}

/// A job that prints rows until it is told to end.
fn endless_spec(component: &str) -> Value {
    json!({
        "name": "endless",
        "component": component,
        "args": { "query": "q2" },
        "sources": { "nexmark": { "connector": "nexmark", "rate": 100_000.0 } },
        "sinks": { "out": { "connector": "stdout" } },
    })
}

/// Uploads the component of Nexmark; returns its id.
pub async fn nexmark(client: &Client) -> String {
    client.upload(wasm("examples/nexmark/nexmark.wasm")).await.expect("a good component").id
}

/// All lines until the end of the job.
async fn all_lines(client: &Client, job: &str, after: u64) -> Vec<weir_client::Line> {
    let mut follow = client.follow(job, Lines::Output, after).await.expect("the job is there");
    let mut lines = vec![];
    loop {
        match follow.next().await.expect("the stream goes on") {
            Next::Line(line) => lines.push(line),
            Next::Missed(count) => panic!("{count} lines are gone"),
            Next::End => return lines,
        }
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Error>) -> (u16, String) {
    match result.expect_err("this must be refused") {
        Error::Refused { status, code, .. } => (status, code),
        other => panic!("{other}"),
    }
}

/// Goal: components are stored once, under the digest of their bytes; what is none is refused.
#[tokio::test]
async fn components() {
    let server = Server::start(1);
    let client = server.client();
    assert!(client.components().await.expect("a list").is_empty());
    let component = client.upload(picky()).await.expect("a good component");
    assert!(component.id.starts_with("sha256:") && component.id.len() == 7 + 64, "{}", component.id);
    let graph = component.graph.expect("it needs no arguments");
    assert_eq!((&graph["sources"], &graph["sinks"]), (&json!(["items"]), &json!(["out"])));
    assert_eq!(client.upload(picky()).await.expect("again").id, component.id);
    let listed: Vec<_> = client.components().await.expect("a list").into_iter().map(|c| (c.id, c.size)).collect();
    assert_eq!(listed, [(component.id.clone(), picky().len() as u64)]);
    assert_eq!(client.component(&component.id).await.expect("it is there").size, component.size);

    assert_eq!(refused(client.upload(b"nonsense".to_vec()).await), (422, "WEIR-COMPONENT-001".into()));
    let unknown = format!("sha256:{}", "0".repeat(64));
    assert_eq!(refused(client.component(&unknown).await), (404, "WEIR-COMPONENT-002".into()));
    assert_eq!(refused(client.component("../../etc").await).0, 404);
    // A component that needs arguments is taken, and says why it shows no graph.
    let component = client.upload(wasm("examples/nexmark/nexmark.wasm")).await.expect("a good component");
    assert!(component.graph.is_none() && component.refusal.is_some_and(|r| r.contains("query")));
}

/// Goal: a job reads, runs and ends; its lines, state, plan and figures can be asked for afterwards.
#[tokio::test]
async fn job_runs_to_its_end() {
    let server = Server::start(2);
    server.put_file("items.jsonl", &items(0..100));
    let client = server.client();
    let component = client.upload(picky()).await.expect("a good component").id;
    let job = client.submit(&picky_spec(&component, "items.jsonl")).await.expect("a good spec");
    assert!(job.id.starts_with("job_") && job.tenant == "default" && job.slots == 1, "{job:?}");
    let lines = all_lines(&client, &job.id, 0).await;
    let ids: BTreeSet<_> = lines.iter().map(|l| serde_json::from_str::<Value>(&l.text).expect("rows")["id"].as_u64()).collect();
    assert_eq!(ids.len(), 100);

    // A reader that was cut off goes on where it was; so does one that asks page by page.
    assert_eq!(all_lines(&client, &job.id, 40).await, lines[40..]);
    let page = client.lines(&job.id, Lines::Output, 98).await.expect("a page");
    assert_eq!((page.lines.as_slice(), page.missed, page.ended), (&lines[98..], 0, true));

    let detail = client.job(&job.id).await.expect("it is remembered");
    assert_eq!((detail.job.state.as_str(), detail.job.ended.is_some()), ("finished", true), "{detail:?}");
    assert!(detail.plan.contains("sink out: stdout"), "{}", detail.plan);
    assert_eq!(detail.metrics.expect("it ran")["events_in"], 100);
    assert_eq!(refused(client.stop(&job.id).await), (409, "WEIR-JOB-005".into()));
    assert_eq!(refused(client.job("job_00000000000000000000000000").await), (404, "WEIR-JOB-003".into()));

    let metrics = server.metrics().await;
    for sample in [
        "weir_worker_slots{state=\"free\"} 2\n".to_owned(),
        format!("weir_source_events_total{{tenant=\"default\",job=\"{}\"}} 100\n", job.id),
        format!("weir_job_state{{tenant=\"default\",job=\"{}\",name=\"tasting\",state=\"finished\"}} 1\n", job.id),
    ] {
        assert!(metrics.contains(&sample), "{sample} is missing in\n{metrics}");
    }
    // The source has worked, besides the operators behind it; it ended before it waited for long.
    let of_source = format!("{{tenant=\"default\",job=\"{}\",operator=\"items\",index=\"0\"}} ", job.id);
    let seconds = |name: &str| {
        let sample = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(&of_source));
        sample.unwrap_or_else(|| panic!("{name} is missing in\n{metrics}")).parse::<f64>().expect("a number")
    };
    assert!(seconds("weir_task_busy_seconds_total") > 0.0, "{metrics}");
    for name in ["weir_task_idle_seconds_total", "weir_task_backpressured_seconds_total"] {
        assert!((0.0..60.0).contains(&seconds(name)), "{metrics}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit_once(' ').expect("a sample has a value").1;
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
}

/// Goal: jobs without end are drained and cancelled, and their slots are free for others again.
#[tokio::test]
async fn jobs_are_ended() {
    let server = Server::start(1);
    let client = server.client();
    let component = nexmark(&client).await;
    let spec = endless_spec(&component);
    for (cancel, state) in [(false, "finished"), (true, "cancelled")] {
        let job = client.submit(&spec).await.expect("a good spec").id;
        let mut follow = client.follow(&job, Lines::Output, 0).await.expect("the job is there");
        assert!(matches!(follow.next().await, Ok(Next::Line(_))), "rows flow");
        assert_eq!(refused(client.submit(&spec).await), (429, "WEIR-JOB-004".into()), "the slot is taken");
        if cancel { client.cancel(&job).await } else { client.stop(&job).await }.expect("it runs");
        while follow.next().await.expect("the stream goes on") != Next::End {}
        assert_eq!(client.job(&job).await.expect("it is remembered").job.state, state);
    }
}

/// Goal: what a spec may not ask for is refused with a code before anything runs.
#[tokio::test]
async fn specs_are_checked() {
    let server = Server::start(1);
    let client = server.client();
    let component = client.upload(picky()).await.expect("a good component").id;
    let changed = |pointer: &str, value: Value| {
        let mut spec = picky_spec(&component, "items.jsonl");
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer has a slash");
        spec.pointer_mut(parent).expect("the pointer is of the spec")[key] = value;
        spec
    };
    for (spec, status, code) in [
        (changed("/sources/items/path", json!("/etc/passwd")), 422, "WEIR-JOB-006"),
        (changed("/sources/items/path", json!("../secrets.jsonl")), 422, "WEIR-JOB-006"),
        (changed("/sources/items/rejects_path", json!("../rejects.jsonl")), 422, "WEIR-JOB-006"),
        (changed("/limits", json!({ "call_deadline": "1h" })), 422, "WEIR-JOB-006"),
        (changed("/sources/items/connector", json!("stdin")), 422, "WEIR-JOB-006"),
        (changed("/sinks/out/connector", json!("pigeon")), 422, "WEIR-JOB-006"),
        (changed("/sinks/out/connector", json!("kafka")), 422, "WEIR-JOB-006"),
        (changed("/sinks/out/max_rows", json!(7)), 422, "WEIR-JOB-007"),
        (changed("/sources/items/pth", json!("items.jsonl")), 422, "WEIR-JOB-007"),
        (changed("/args", json!({ "fault": "none" })), 422, "WEIR-COMPONENT-003"),
        (changed("/args", json!({ "fault": [] })), 422, "WEIR-JOB-001"),
        (changed("/sinks", json!({})), 422, "WEIR-JOB-002"),
        (changed("/name", json!(7)), 422, "WEIR-JOB-001"),
        (changed("/component", json!("picky.wasm")), 422, "WEIR-COMPONENT-002"),
        (changed("/component", json!(format!("sha256:{}", "0".repeat(64)))), 404, "WEIR-COMPONENT-002"),
    ] {
        assert_eq!(refused(client.submit(&spec).await), (status, code.into()), "{spec}");
    }
    assert!(client.jobs().await.expect("a list").is_empty());
}

/// Goal: a job that fails says why, and leaves the server as it was.
#[tokio::test]
async fn failures_are_told() {
    let server = Server::start(1);
    server.put_file("bad.jsonl", "{\"id\":1,\"fault\":\"panic\"}\n");
    server.put_file("good.jsonl", &items(0..3));
    let client = server.client();
    let component = client.upload(picky()).await.expect("a good component").id;
    let job = client.submit(&picky_spec(&component, "bad.jsonl")).await.expect("a good spec").id;
    all_lines(&client, &job, 0).await;
    let job = client.job(&job).await.expect("it is remembered").job;
    assert_eq!(job.state, "failed");
    let failure = job.failure.expect("a failed job says why");
    assert_eq!(failure.kind, "guest", "{failure:?}");
    // A file that is not there is the job's failure, too.
    let job = client.submit(&picky_spec(&component, "none.jsonl")).await.expect("a good spec").id;
    all_lines(&client, &job, 0).await;
    assert_eq!(client.job(&job).await.expect("it is remembered").job.failure.expect("why").kind, "connector");
    let job = client.submit(&picky_spec(&component, "good.jsonl")).await.expect("a good spec").id;
    assert_eq!(all_lines(&client, &job, 0).await.len(), 3);
    assert_eq!(client.jobs().await.expect("a list").len(), 3);
}

fn hostile() -> Vec<u8> {
    wasm("tests/guests/hostile/hostile.wasm")
}

/// A job of the guest `hostile`, with limits that it meets soon.
fn hostile_spec(component: &str, mode: &str) -> Value {
    let blackhole = json!({ "connector": "blackhole" });
    json!({
        "name": mode,
        "component": component,
        "args": { "mode": mode, "at": "echo.process" },
        "sources": { "in": { "connector": "file", "path": "rows.jsonl", "format": "jsonl" } },
        "sinks": { "out": blackhole, "counts": blackhole, "fired": blackhole, "sums": blackhole },
        // The one that never ends is to be there until the others have ended.
        "limits": { "guest_memory": "32MiB", "call_deadline": "60s" },
    })
}

/// Goal: of four jobs side by side, one traps, one never ends its call and one takes all memory it can get; the fourth is none the worse,
/// and the server answers.
#[tokio::test]
async fn bad_neighbours() {
    let server = Server::start(4);
    server.put_file("rows.jsonl", "{\"id\":1,\"text\":\"\",\"number\":1,\"at\":\"2015-07-15T00:00:00Z\"}\n");
    server.put_file("items.jsonl", &items(0..5_000));
    let client = server.client();
    let bad = client.upload(hostile()).await.expect("a good component").id;
    let good = client.upload(picky()).await.expect("a good component").id;

    let looping = client.submit(&hostile_spec(&bad, "loop")).await.expect("a good spec").id;
    let trapping = client.submit(&hostile_spec(&bad, "trap")).await.expect("a good spec").id;
    let growing = client.submit(&hostile_spec(&bad, "grow")).await.expect("a good spec").id;
    let mut spec = picky_spec(&good, "items.jsonl");
    spec["batch"] = json!({ "rows": 10 });
    let good = client.submit(&spec).await.expect("a good spec").id;
    let lines = all_lines(&client, &good, 0).await;
    let ids: BTreeSet<_> = lines.iter().map(|l| serde_json::from_str::<Value>(&l.text).expect("rows")["id"].as_u64()).collect();
    assert_eq!(ids, (0..5_000).map(Some).collect());
    let finished = client.job(&good).await.expect("it is remembered");
    assert_eq!((finished.job.state.as_str(), &finished.metrics.expect("it ran")["rows_out"]), ("finished", &json!(5_000)));

    for (job, says) in [(trapping, "so it goes"), (growing, "wants more than its limit of 33554432")] {
        all_lines(&client, &job, 0).await;
        let job = client.job(&job).await.expect("it is remembered").job;
        let failure = job.failure.expect("a failed job says why").message;
        assert_eq!(job.state, "failed");
        assert!(failure.contains("operator \"echo\" failed on batch 1, record 0") && failure.contains(says), "{failure}");
    }
    // Still in its call, which can be ended at any time.
    assert_eq!(client.job(&looping).await.expect("it is there").job.state, "running");
    client.cancel(&looping).await.expect("it runs");
    all_lines(&client, &looping, 0).await;
    assert_eq!(client.job(&looping).await.expect("it is remembered").job.state, "cancelled");
    let health = reqwest::get(format!("{}/healthz", server.url())).await.expect("an answer");
    assert_eq!(health.text().await.expect("text"), "ok\n");
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
}

/// Goal: what components log is kept beside what jobs write, is cut off if it floods, and can be followed.
#[tokio::test]
async fn logs() {
    let server = Server::start(1);
    server.put_file("rows.jsonl", "{\"id\":1,\"text\":\"\",\"number\":1,\"at\":\"2015-07-15T00:00:00Z\"}\n");
    let client = server.client();
    let component = client.upload(hostile()).await.expect("a good component").id;
    let job = client.submit(&hostile_spec(&component, "flood")).await.expect("a good spec").id;
    assert!(all_lines(&client, &job, 0).await.is_empty(), "a log is no output");
    let page = client.lines(&job, Lines::Logs, 0).await.expect("a page");
    assert!(page.lines.iter().all(|line| line.level.is_some()), "{page:?}");

    // The command shows what the server has, and where there is more than it keeps, it says so.
    let tailed = server.weir(&["tail", "--logs", &job]).output().expect("the binary can be started");
    let (tailed, told) = (String::from_utf8_lossy(&tailed.stdout), String::from_utf8_lossy(&tailed.stderr));
    assert!(tailed.lines().any(|line| line.to_lowercase().starts_with("info") && line.contains("line ")), "{tailed}{told}");
    assert!(tailed.contains("lines were dropped: the job's guests log too much"), "{tailed}{told}");
    assert!(tailed.len() < 1 << 20, "{} bytes", tailed.len());

    let trapped = client.submit(&hostile_spec(&component, "trap")).await.expect("a good spec").id;
    let tailed = server.weir(&["tail", "--logs", &trapped]).output().expect("the binary can be started");
    assert!(String::from_utf8_lossy(&tailed.stdout).contains("panicked at 'so it goes'"), "{tailed:?}");
    assert_eq!(tailed.status.code(), Some(1), "the job has failed, and so does the command");
    assert!(String::from_utf8_lossy(&tailed.stderr).contains("operator \"echo\" failed on batch 1"), "{tailed:?}");
}

/// Goal: `weir job stop` lets a job finish what it has read, `weir job cancel` ends it; both say what has become of it.
#[tokio::test]
async fn commands_end_jobs() {
    let server = Server::start(1);
    let client = server.client();
    let component = nexmark(&client).await;
    for (command, state) in [("stop", "finished"), ("cancel", "cancelled")] {
        let job = client.submit(&endless_spec(&component)).await.expect("a good spec").id;
        let mut follow = client.follow(&job, Lines::Output, 0).await.expect("the job is there");
        assert!(matches!(follow.next().await, Ok(Next::Line(_))), "rows flow");
        let output = server.weir(&["job", command, &job]).output().expect("the binary can be started");
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with(&format!("{job} is ")), "{output:?}");
        while follow.next().await.expect("the stream goes on") != Next::End {}
        assert_eq!(client.job(&job).await.expect("it is remembered").job.state, state);
        let again = server.weir(&["job", command, &job]).output().expect("the binary can be started");
        assert_eq!(again.status.code(), Some(1), "it has ended already: {again:?}");
    }
    let unknown = server.weir(&["job", "cancel", "job_00000000000000000000000000"]).output().expect("the binary can be started");
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("WEIR-JOB-003"), "{unknown:?}");
}

/// Goal: TOML is taken as well as JSON; other types, paths and methods are refused as problems with a code.
#[tokio::test]
async fn plain_requests() {
    let server = Server::start(1);
    // A connection is closed where a request is refused before all of it was read; so each request has its own.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let url = |path: &str| format!("{}{path}", server.url());
    let component = server.client().upload(picky()).await.expect("a good component").id;
    server.put_file("items.jsonl", &items(0..1));
    let toml = format!(
        "component = \"{component}\"\n[sources.items]\nconnector = \"file\"\npath = \"items.jsonl\"\n[sinks.out]\nconnector = \"blackhole\"\n"
    );
    let post = |kind: &'static str, body: String| http.post(url("/v1/jobs")).header(CONTENT_TYPE, kind).body(body).send();
    assert_eq!(post("application/toml", toml.clone()).await.expect("an answer").status(), 201);
    for (response, status, code) in [
        (post("text/plain", toml.clone()).await, 415, "WEIR-API-004"),
        (post("application/json", toml).await, 422, "WEIR-JOB-001"),
        (post("application/json", "[]".to_owned()).await, 422, "WEIR-JOB-001"),
        (post("application/json", " ".repeat(2 << 20)).await, 413, "WEIR-API-003"),
        (
            http.post(url("/v1/jobs/job_00000000000000000000000000/savepoints")).json(&json!(["x", true])).send().await,
            400,
            "WEIR-API-001",
        ),
        (http.get(url("/v1/nothing")).send().await, 404, "WEIR-API-002"),
        (http.delete(url("/v1/jobs")).send().await, 405, "WEIR-API-002"),
        (http.get(url("/v1/jobs/job_00000000000000000000000000/output?after=x")).send().await, 404, "WEIR-JOB-003"),
        (http.get(url("/v1/jobs/%ff")).send().await, 400, "WEIR-API-001"),
        (http.get(url("/v1/jobs/%ff/logs")).send().await, 400, "WEIR-API-001"),
        (http.delete(url("/v1/components/%ff")).send().await, 400, "WEIR-API-001"),
        (http.get(url("/v1/savepoints/%ff")).send().await, 400, "WEIR-API-001"),
    ] {
        let response = response.expect("an answer");
        assert_eq!(response.status(), status, "{code}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json", "{code}");
        let problem: Value = response.json().await.expect("a problem is JSON");
        assert_eq!((&problem["code"], &problem["status"]), (&json!(code), &json!(status)));
    }
    let large = post("application/json", " ".repeat(2 << 20)).await.expect("an answer");
    let problem: Value = large.json().await.expect("a problem is JSON");
    let detail = problem["detail"].as_str().expect("a problem has a detail");
    assert!(detail.starts_with("the body is too large: a job spec may have 1 MiB, which no setting changes"), "{detail}");
    let health = http.get(url("/healthz")).send().await.expect("an answer");
    assert_eq!(health.text().await.expect("text"), "ok\n");
    let openapi: Value = http.get(url("/openapi.json")).send().await.expect("an answer").json().await.expect("JSON");
    let paths: Vec<_> = openapi["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
    insta::assert_snapshot!(paths.join("\n"));
}

/// The paths of the interface, as its sources have them.
fn routes() -> BTreeSet<String> {
    let mut routes = BTreeSet::new();
    for (source, prefix) in [("host/api/src/lib.rs", ""), ("host/api/src/v1/mod.rs", "/v1")] {
        let text = std::fs::read_to_string(root().join(source)).expect("the sources are part of the checkout");
        let paths = text.split(".route(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0));
        routes.extend(paths.map(|path| format!("{prefix}{path}")));
    }
    routes
}

/// The names in braces of a path.
fn placeholders(path: &str) -> Vec<&str> {
    path.split('{').skip(1).filter_map(|rest| Some(rest.split_once('}')?.0)).collect()
}

/// Goal: the description has every path with each of its methods, the parameters that it has, and all that they answer; what it refers to is there, under names that say what it is.
#[tokio::test]
async fn the_interface_is_described() {
    let server = Server::start(1);
    // A connection is closed where a request is refused before all of it was read; so each request has its own.
    let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().expect("a client");
    let text = http.get(format!("{}/openapi.json", server.url())).send().await.expect("an answer").text().await.expect("text");
    let described: Value = serde_json::from_str(&text).expect("JSON");
    let paths = described["paths"].as_object().expect("paths");
    assert_eq!(paths.keys().cloned().collect::<BTreeSet<_>>(), routes());
    let mut names = BTreeSet::new();
    for (path, route) in paths {
        let url = format!("{}{}", server.url(), path.replace("{id}", "none"));
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let request = http.request(reqwest::Method::from_bytes(method.as_bytes()).expect("a method"), &url);
            let status = request.send().await.expect("an answer").status();
            let operation = &route[method.to_lowercase()];
            assert_eq!(operation.is_null(), status == 405, "{method} {path}: {status}");
            if operation.is_null() {
                continue;
            }
            let responses = operation["responses"].as_object().expect("an operation has responses");
            let of_id = path.contains("{id}").then_some("400");
            for expected in [status.as_str(), "403", "500", "503"].into_iter().chain(of_id) {
                assert!(responses.contains_key(expected), "{method} {path}: {expected} is missing");
            }
            for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{method} {path}: {status}");
            }
            let name = operation["operationId"].as_str().expect("an operation has a name");
            assert!(names.insert(name), "two operations are called {name}");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_path: Vec<_> = parameters.filter(|parameter| parameter["in"] == "path").collect();
            let described = of_path.iter().map(|parameter| parameter["name"].as_str().expect("a parameter has a name"));
            assert_eq!(described.collect::<Vec<_>>(), placeholders(path), "{method} {path}: its path has other parameters");
            assert!(
                of_path.iter().all(|parameter| parameter["required"] == true),
                "{method} {path}: a part of a path is required"
            );
        }
    }
    for (path, method, statuses) in [
        ("/v1/jobs", "post", &["201", "400", "404", "409", "413", "415", "422", "429"][..]),
        ("/v1/components", "post", &["201", "400", "413", "415", "422"]),
        ("/v1/components/{id}", "delete", &["204", "404", "409", "422"]),
        ("/v1/jobs/{id}/savepoints", "post", &["201", "400", "404", "409", "415", "422"]),
        ("/v1/jobs/{id}/diff", "post", &["200", "400", "404", "409", "413", "415", "422"]),
        ("/v1/jobs/{id}/output", "get", &["200", "400", "404"]),
        ("/v1/jobs/{id}/stop", "post", &["202", "404", "409"]),
    ] {
        for status in statuses {
            assert!(!paths[path][method]["responses"][status].is_null(), "{method} {path}: {status} is missing");
        }
    }
    for path in ["/v1/jobs/{id}/output", "/v1/jobs/{id}/logs"] {
        let lines = &paths[path]["get"];
        let content = lines["responses"]["200"]["content"].as_object().expect("lines have content");
        assert_eq!(content.keys().collect::<Vec<_>>(), ["application/json", "text/event-stream"], "{path}");
        for name in ["after", "follow"] {
            let parameters = lines["parameters"].as_array().expect("lines have parameters");
            let parameter = parameters.iter().find(|parameter| parameter["name"] == name).expect(name);
            assert_eq!((&parameter["in"], &parameter["required"]), (&json!("query"), &json!(false)), "{path}: {name}");
        }
    }
    let schemas = described["components"]["schemas"].as_object().expect("schemas");
    for reference in text.split("\"#/components/schemas/").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0)) {
        assert!(schemas.contains_key(reference), "there is no schema {reference}");
    }
    for vague in ["Content", "Line", "Operator", "Page", "Source", "Summary", "View", "Wish", "Written"] {
        assert!(!schemas.contains_key(vague), "the schema {vague} does not say of what");
    }
}

/// Goal: who follows a job whose server is killed is told so, on standard error and by the exit code.
#[tokio::test]
async fn a_killed_server_is_missed() {
    let server = Server::start(1);
    let client = server.client();
    let component = nexmark(&client).await;
    let job = client.submit(&endless_spec(&component)).await.expect("a good spec").id;
    let mut tail = server.weir(&["tail", &job]);
    let mut tail = tail.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be started");
    let mut rows = tail.stdout.take().expect("standard output is piped");
    rows.read_exact(&mut [0]).expect("rows flow");
    let reader = std::thread::spawn(move || std::io::copy(&mut rows, &mut std::io::sink()));
    let says = format!("error: the server at {} went away before it had said all: ", server.url());
    drop(server);
    let output = tail.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&says), "{told}");
    reader.join().expect("the reader ends").expect("rows can be read");
}

/// Goal: a page of another site can neither read from the server nor end its jobs.
#[tokio::test]
async fn strangers_are_refused() {
    let server = Server::start(1);
    let http = reqwest::Client::new();
    let url = |path: &str| format!("{}{path}", server.url());
    let stop = "/v1/jobs/job_00000000000000000000000000/stop";
    for (request, status, code) in [
        (http.post(url(stop)).header(ORIGIN, "http://evil.example"), 403, "WEIR-API-005"),
        (http.get(url("/v1/jobs")).header(HOST, "evil.example:8081"), 403, "WEIR-API-005"),
        (http.post(url(stop)).header(ORIGIN, server.url()), 404, "WEIR-JOB-003"),
    ] {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), status, "{code}");
        let problem: Value = response.json().await.expect("a problem is JSON");
        assert_eq!(problem["code"], code);
    }
}

/// Goal: the commands that talk to a server: a job is deployed, listed, followed and shown; an interrupted server ends its jobs.
#[tokio::test]
async fn commands() {
    let server = Server::start(2);
    server.put_file("items.jsonl", &items(0..10));
    let printed = |args: &[&str]| {
        let output = server.weir(args).current_dir(root()).output().expect("the binary can be started");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    };
    let job = printed(&["deploy", "tests/guests/picky/job.toml", "--set", "name=tasting"]);
    let job = job.trim();
    assert_eq!(printed(&["tail", job]).lines().count(), 10);
    let list = printed(&["job", "list"]);
    assert!(list.lines().nth(1).is_some_and(|l| l.contains(job) && l.contains("tasting") && l.contains("finished")), "{list}");
    let listed: Value = serde_json::from_str(&printed(&["job", "list", "--output", "json"])).expect("JSON");
    assert_eq!(listed[0]["id"], job);
    assert!(printed(&["job", "get", job]).contains("10 events in, 10 rows out"));

    let component = nexmark(&server.client()).await;
    let endless = server.client().submit(&endless_spec(&component)).await.expect("a good spec").id;
    assert!(server.client().job(&endless).await.is_ok());
    let (code, log) = server.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("those with checkpoints go on when the server starts again"), "{log}");
}

/// Goal: a command that is given right after the one that starts its server waits until that listens; without one, it says so.
#[test]
fn servers_may_be_late() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let address = free.expect("there is a free port").to_string();
    let deploy = || {
        let mut command = weir();
        command.current_dir(root()).args(["deploy", "tests/guests/picky/job.toml", "--server", &format!("http://{address}")]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be started")
    };
    let output = deploy().wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains(&format!("the server does not answer at http://{address}: ")), "{told}");

    let early = deploy();
    let server = Server::start_at(&address);
    let output = early.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.starts_with(b"job_"), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(server.url(), format!("http://{address}"));
}

/// Goal: a server listens on a name of its machine, and is found by an address that does not say that it is one of HTTP.
#[test]
fn addresses_are_what_people_write() {
    let server = Server::start_at("localhost:0");
    let address = server.url().strip_prefix("http://").expect("it speaks HTTP");
    let output = weir().args(["job", "list", "--server", address]).output().expect("the binary can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Goal: every error code in the sources is explained in the documentation, and no other.
#[test]
fn error_codes_are_explained() {
    let documented = std::fs::read_to_string(root().join("docs/errors.md")).expect("the page is part of the checkout");
    let documented: BTreeSet<_> = documented.lines().filter_map(|l| l.strip_prefix("### ")).map(str::to_owned).collect();
    let mut used = BTreeSet::new();
    for source in ["host/api/src/problem.rs", "host/coordinator/src/error.rs"] {
        let text = std::fs::read_to_string(root().join(source)).expect("the sources are part of the checkout");
        let codes = text.split('"').filter(|word| word.starts_with("WEIR-") && word.ends_with(|c: char| c.is_ascii_digit()));
        used.extend(codes.map(str::to_owned));
    }
    assert_eq!(used, documented);
}
