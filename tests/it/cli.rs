//! The command line: what it prints where, and how it ends.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use insta::assert_snapshot;
use serde_json::Value;

use crate::run::{Run, root, weir};
use crate::server::{interrupt, signal};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("what a command prints is text")
}

fn output(args: &[&str]) -> Output {
    weir().current_dir(root()).args(args).output().expect("the binary can be started")
}

/// What a command prints that ends well and says nothing on standard error.
fn printed(args: &[&str]) -> String {
    let output = output(args);
    assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{args:?}");
    text(&output.stdout)
}

const COMMANDS: [&str; 21] = [
    "new",
    "build",
    "run",
    "explain",
    "inspect",
    "server",
    "deploy",
    "job",
    "job list",
    "job stop",
    "job diff",
    "savepoint",
    "savepoint create",
    "savepoint list",
    "savepoint inspect",
    "savepoint delete",
    "component list",
    "component delete",
    "tail",
    "completions",
    "version",
];

/// Goal: the overview names every command.
#[test]
fn overview() {
    assert_snapshot!(printed(&["--help"]));
}

/// Goal: every command's help has an example.
#[test]
fn help_has_examples() {
    for command in COMMANDS {
        let args: Vec<_> = command.split(' ').chain(["--help"]).collect();
        let help = printed(&args);
        assert!(help.contains(&format!("Example: weir {command}")), "{help}");
    }
}

/// Goal: a wrong command line ends with 2, another error with 1, and both are told on standard error alone.
#[test]
fn exit_codes() {
    for (args, code) in [
        (&["runn"][..], 2),
        (&["run"], 2),
        (&["run", "job.toml", "--set", "nonsense"], 2),
        (&["run", "no-such-file.toml"], 1),
        (&["inspect", "Cargo.toml"], 1),
        (&["server", "--slots", "0"], 2),
        (&["server", "--allow-connector", "pigeon"], 2),
        (&["server", "--bind", "localhost"], 2),
        (&["server", "--checkpoint-storage", "s3:/x"], 1),
        (&["explain", "examples/nexmark/q0.toml", "--set", "sinks.out.connector=pigeon", "--set", "parallelism=0"], 1),
    ] {
        let output = output(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert_eq!(text(&output.stdout), "", "{args:?}");
        assert_ne!(text(&output.stderr), "", "{args:?}");
    }
}

/// Goal: what a connector does not know or take is told, with the binding, before anything runs, by `weir explain` as by `weir run`; so is an argument that
/// the component does not ask for, or that cannot be one. Nothing needs to be there for that.
#[test]
fn wrong_bindings_are_named() {
    let kafka = "sources.nexmark={ connector = \"kafka\", brokers = \"127.0.0.1:1\", topic = \"t\", stat = \"latest\" }";
    for (setting, says) in [
        ("sinks.out.connector=pigeon", "sink \"out\": there is no connector \"pigeon\"; there are: file, "),
        ("sources.nexmark.sead=7", "source \"nexmark\": options of \"nexmark\": unknown option `sead`, expected one of `"),
        (
            "sources.nexmark.seed=18446744073709551616",
            "expected a whole number from 0 to 9223372036854775807, like 4, but the text \"18446744073709551616\" is given (in `seed`)",
        ),
        (
            "sources.nexmrak.seed=7",
            "[sources.nexmrak]: it has no connector, like connector = \"file\"; the other sources are: nexmark",
        ),
        ("sources.nexmark.idle_after=5", "expected a duration with its unit, like \"10s\", but the number 5 is given"),
        ("sources.nexmark.rate=0", "not 0.0; leave it out to read events as fast as the job can"),
        (kafka, "source \"nexmark\": options of \"nexmark\": unknown option `stat`"),
        ("args.querry=q5", "the job has no argument `querry`; with these arguments, it asks for: `query`"),
        ("checkpoint.storage=s3:/x", "the storage \"s3:/x\" begins as a URL does and is none; write file:///directory, s3://"),
        (
            "checkpoint={ storage = \"file:///proc/nowhere\", options = { foo = \"bar\" } }",
            "file:///proc/nowhere: there is no option \"foo\"; there is sync",
        ),
        ("args.query=[1]", "an argument is a text, a number or a boolean; write anything else as a text (in `args.query`)"),
    ] {
        for command in ["explain", "run"] {
            let output = output(&[command, "examples/nexmark/q0.toml", "--set", setting]);
            let told = text(&output.stderr);
            assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""), "{command} {setting}: {told}");
            assert!(told.contains(says), "{command} {setting}: {told}");
        }
    }
}

/// Goal: a `WEIR_LOG` that cannot be read is told, with an example of one that can, and nothing is done.
#[test]
fn wrong_logs_are_named() {
    for wrong in ["loud", "weir_worker=loud"] {
        let output = weir().arg("version").env("WEIR_LOG", wrong).output().expect("the binary can be started");
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{wrong}");
        let told = text(&output.stderr);
        assert!(told.contains(&format!("WEIR_LOG is \"{wrong}\"")) && told.contains("`warn,weir_worker=debug`"), "{told}");
    }
}

/// Goal: the plan of a job with a window, as a user sees it.
#[test]
fn explain() {
    assert_snapshot!(printed(&["explain", "examples/nexmark/q5.toml", "--set", "parallelism=2"]));
}

/// Goal: a component says what it is without running a job.
#[test]
fn inspect() {
    let shown = printed(&["inspect", "examples/nexmark/nexmark.wasm", "--arg", "query=q0"]);
    for part in [
        "component sha256:",
        "world     weir:dataflow/job@0.1.0",
        "imports   weir:dataflow/host@0.1.0",
        "source nexmark, stream bid",
        "sink out",
    ] {
        assert!(shown.contains(part), "\"{part}\" is missing in\n{shown}");
    }
    let refused = output(&["inspect", "examples/nexmark/nexmark.wasm"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("the argument `query` is missing"), "{}", text(&refused.stderr));
}

/// Goal: the summary has every field that programs read, in its last line, and nothing else is on standard output.
#[test]
fn summary() {
    let (rows, summary) = Run::new("examples/nexmark/q2.toml").set("sources.nexmark.events", 100_000).finish();
    assert!(rows.is_empty(), "a blackhole prints nothing");
    for field in [
        "job",
        "parallelism",
        "ended",
        "events_in",
        "rows_out",
        "seconds",
        "cpu_seconds",
        "events_per_second",
        "events_per_cpu_second",
        "checksum",
        "peak_rss_bytes",
        "first_row_ms",
        "malformed",
        "late_records",
        "operators",
    ] {
        assert!(!summary[field].is_null(), "{field} is missing in {summary}");
    }
    assert_eq!((&summary["events_in"], &summary["ended"]), (&100_000.into(), &"finished".into()));
    assert!(summary["cpu_seconds"].as_f64().is_some_and(|s| s > 0.0), "{summary}");
}

/// Goal: the time of guest code is a part of that in which its operator works, also where most of it is that of the guest's start.
#[test]
fn guests_work_while_their_operators_do() {
    for parallelism in [1, 2] {
        let run = Run::new("examples/nexmark/q5.toml").set("sources.nexmark.events", 10).set("sinks.out.connector", "blackhole");
        let (_, summary) = run.parallelism(parallelism).finish();
        let operators = summary["operators"].as_array().expect("a list of operators");
        let seconds = |operator: &serde_json::Value, of: &str| operator[of].as_f64().expect("a number");
        assert!(operators.iter().any(|operator| seconds(operator, "guest_seconds") > 0.0), "{summary}");
        for operator in operators {
            assert!(seconds(operator, "guest_seconds") <= seconds(operator, "busy_seconds"), "{operator}");
        }
    }
}

/// Goal: a reader that has gone is no error, of standard output as of standard error.
#[test]
fn closed_pipes() {
    let closed = || std::io::pipe().expect("a pipe").1;
    for args in [
        &["version"][..],
        &["completions", "bash"],
        &["explain", "examples/nexmark/q0.toml"],
        &["inspect", "examples/nexmark/nexmark.wasm", "--arg", "query=q0"],
        &["run", "examples/nexmark/q2.toml", "--set", "sources.nexmark.events=1000", "--summary", "json"],
    ] {
        let output = weir().current_dir(root()).args(args).stdout(closed()).output().expect("the binary can be started");
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{args:?}");
    }
    let status = weir().args(["run", "no-such-file.toml"]).stderr(closed()).status().expect("the binary can be started");
    assert_eq!(status.code(), Some(1));
}

/// Goal: where standard output cannot be written, a command says that it was this, be it rows, a summary or another text.
#[test]
fn full_outputs_are_named() {
    for args in [
        &["version"][..],
        &["run", "examples/nexmark/q2.toml", "--set", "sources.nexmark.events=1000", "--summary", "json"],
        &["run", "examples/nexmark/q0.toml", "--set", "sources.nexmark.events=1000", "--set", "sinks.out.connector=stdout"],
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("the system has this device");
        let output = weir().current_dir(root()).args(args).stdout(full).output().expect("the binary can be started");
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
        assert!(told.contains("the standard output cannot be written: No space left on device"), "{args:?}: {told}");
    }
}

/// Goal: where compiled components cannot be kept, a command says so and does its work.
#[test]
fn without_a_home() {
    let mut command = weir();
    command.current_dir(root()).args(["explain", "examples/nexmark/q0.toml"]).env("WEIR_HOME", "/dev/null/home");
    let output = command.output().expect("the binary can be started");
    let told = text(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(told.starts_with("warning: compiled components are not kept: ") && told.lines().count() == 1, "{told}");
}

/// A job without end that prints all bids, started.
fn endless() -> Child {
    endless_command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary can be started")
}

fn endless_command() -> Command {
    // The spec bounds the number of events; this is as good as no bound.
    bids(&["sources.nexmark.rate=50000", "sources.nexmark.events=1000000000000"])
}

/// A job that prints all bids of a source with these settings.
fn bids(settings: &[&str]) -> Command {
    let mut command = weir();
    command.arg("run").arg(root().join("examples/nexmark/q0.toml")).args(["--summary", "json"]);
    for setting in ["name=endless", "sinks.out.connector=stdout"].iter().chain(settings) {
        command.args(["--set", *setting]);
    }
    command
}

/// Waits until rows were printed, and then until the pipe is full since no more are read.
fn stall(stdout: &mut impl Read) {
    stdout.read_exact(&mut [0]).expect("there are rows");
    // In this time the job makes many times as much as a pipe holds.
    std::thread::sleep(Duration::from_secs(1));
}

/// Checks that a job that was interrupted twice ends soon.
fn ends_interrupted(mut child: Child) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut status = None;
    while status.is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
        status = child.try_wait().expect("it can be waited for");
    }
    if status.is_none() {
        child.kill().and_then(|()| child.wait()).expect("it can be killed");
    }
    assert_eq!(status.expect("it ends by itself").code(), Some(130));
}

/// Goal: a second interrupt ends a job soon although it waits for a reader of its rows.
#[test]
fn second_interrupt_ends() {
    let mut child = endless();
    let mut stdout = child.stdout.take().expect("standard output is piped");
    stall(&mut stdout);
    interrupt(&child);
    let mut told = BufReader::new(child.stderr.take().expect("standard error is piped")).lines();
    let stops = told.any(|line| line.expect("it is text").contains("press Ctrl-C again"));
    assert!(stops, "it does not say that it stops");
    interrupt(&child);
    ends_interrupted(child);
}

/// Goal: the same where standard error goes into the same full pipe, so that nothing can be told either.
#[test]
fn second_interrupt_ends_in_silence() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = endless_command();
    command.stdout(writer.try_clone().expect("a pipe can be shared")).stderr(writer);
    let child = command.spawn().expect("the binary can be started");
    // With its ends of the pipe: without them, the job's end is the pipe's.
    drop(command);
    stall(&mut reader);
    interrupt(&child);
    // Signals that come at once may count as one.
    std::thread::sleep(Duration::from_millis(500));
    interrupt(&child);
    ends_interrupted(child);
}

/// Goal: one interrupt drains the job: every event that was read comes out, whole. That these are not all is told, by the exit code, too.
#[test]
fn interrupt_drains() {
    let mut child = endless();
    let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
    lines.next().expect("there are rows").expect("rows are text");
    interrupt(&child);
    let mut rows: Vec<Value> = lines
        .map(|line| {
            let line = line.expect("rows are text");
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
        })
        .collect();
    let mut told = String::new();
    child.stderr.take().expect("standard error is piped").read_to_string(&mut told).expect("it is text");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{told}");
    assert!(told.contains("press Ctrl-C again") && told.contains(CUT_SHORT), "{told}");
    // Of 50 events, the first is a person, three are auctions, and the others bids.
    let summary = rows.pop().expect("the last line is the summary");
    let events = summary["events_in"].as_u64().expect("a number");
    assert_eq!(rows.len() as u64 + 1, events / 50 * 46 + (events % 50).saturating_sub(4), "{summary}");
    assert_eq!(summary["rows_out"], rows.len() + 1);
    assert_eq!(summary["ended"], "stopped");
}

/// What is told of a job of which rows are missing.
const CUT_SHORT: &str = "warning: the job \"endless\" was stopped before the end of the input";

/// Starts a job, stops it by a signal when it has printed a row: its exit code, what it told, and its summary.
fn stopped(mut command: Command, by: rustix::process::Signal) -> (Option<i32>, String, Value) {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.expect("the binary can be started");
    let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
    lines.next().expect("there are rows").expect("rows are text");
    signal(&child, by);
    let summary = lines.last().expect("there is a summary").expect("it is text");
    let mut told = String::new();
    child.stderr.take().expect("standard error is piped").read_to_string(&mut told).expect("it is text");
    (child.wait().expect("it ends").code(), told, serde_json::from_str(&summary).expect("the summary is JSON"))
}

/// Goal: a job that was stopped before the end of its input says so even if it is to be quiet, and its exit code says by which signal; it does so with
/// checkpoints as without.
#[test]
fn stopped_jobs_say_what_they_lack() {
    use rustix::process::Signal;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let storage = format!("checkpoint.storage={}", folder.path().display());
    for (by, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut quiet = endless_command();
        quiet.arg("--quiet");
        let mut checkpointed = endless_command();
        checkpointed.args(["--quiet", "--set", &storage]);
        for (command, what) in [(quiet, "of what it had read by then"), (checkpointed, "run it again to go on from there")] {
            let (ended, told, summary) = stopped(command, by);
            assert_eq!((ended, &summary["ended"]), (Some(code), &"stopped".into()), "{told}");
            assert!(told.starts_with(CUT_SHORT) && told.trim_end().ends_with(what) && told.lines().count() == 1, "{told}");
        }
    }
}

/// Goal: to stop a job whose input has no end is no failure: its exit code is 0, and nothing is missing.
#[test]
fn stopped_jobs_without_an_end_are_done() {
    for by in [rustix::process::Signal::INT, rustix::process::Signal::TERM] {
        let (ended, told, summary) = stopped(bids(&["sources.nexmark={ connector = \"nexmark\", rate = 50000 }"]), by);
        assert_eq!((ended, &summary["ended"]), (Some(0), &"stopped".into()), "{told}");
        assert!(!told.contains("warning"), "{told}");
    }
}

/// Goal: when the reader of the rows goes away, the job drains; that is no failure.
#[test]
fn closed_output_drains() {
    let mut child = endless();
    let mut rows = BufReader::new(child.stdout.take().expect("standard output is piped"));
    rows.read_line(&mut String::new()).expect("there are rows");
    drop(rows);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// Goal: on a terminal the progress is shown while a job runs whose table comes at its end, and the table comes out whole.
#[test]
fn progress_above_a_table() {
    // Python makes the terminal: what the job writes to it comes out at its standard output.
    let spawn = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let mut command = Command::new("python3");
    command
        .args(["-c", spawn, "sh", "-c", "stty rows 50 cols 200; exec \"$@\"", "sh"])
        .arg(weir().get_program())
        .arg("run")
        .arg(root().join("examples/flights/job.toml"));
    let shown = command.stdin(Stdio::null()).env("TERM", "xterm").output().expect("python3 can be started");
    let shown = text(&shown.stdout).replace("\r\n", "\n");
    let table = Run::new("examples/flights/job.toml").output();
    let table = text(&table.stdout);
    let (table, _) = table.trim_end().rsplit_once('\n').expect("the last line is the summary");
    assert!(shown.contains(table), "the table is not there, or not whole:\n{shown}");
    let (before, after) = shown.split_once(table).expect("it was found");
    assert!(before.contains("events in") && before.contains("records/s"), "no progress is shown before:\n{before}");
    assert!(after.contains("rows out"), "no summary is shown behind:\n{after}");
}

/// Where guests of all tests are compiled, so that the standard library is compiled once.
fn build_guests_together(command: &mut Command) {
    if std::env::var_os("WEIR_GUEST_TARGET_DIR").is_none() {
        command.env("WEIR_GUEST_TARGET_DIR", root().join("target/guest"));
    }
}

/// Where guests are compiled for the machine that tests run on: with those of the examples.
fn native_target() -> PathBuf {
    let guests = std::env::var_os("WEIR_GUEST_TARGET_DIR").map_or_else(|| root().join("target/guest"), PathBuf::from);
    guests.join("native")
}

/// The page and minute of each line of the template's data, counted.
fn expected_counts(csv: &str) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for line in csv.lines().skip(1) {
        let mut cells = line.split(',');
        let (time, page) = (cells.next().expect("a time"), cells.next().expect("a page"));
        let minute = time[..16].to_owned();
        *counts.entry((page.to_owned(), minute)).or_insert(0) += 1;
    }
    counts
}

/// Goal: a new project builds and runs as it is, counts right, and its unit test passes.
#[test]
fn new_project_runs() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let project = dir.path().join("page-views");
    let mut new = weir();
    build_guests_together(&mut new);
    let made = new.arg("new").arg(&project).env("WEIR_HOME", dir.path().join("home")).output().expect("it can be started");
    assert!(made.status.success(), "{}", text(&made.stderr));

    let mut run = weir();
    build_guests_together(&mut run);
    let ran = run.args(["run", "job.toml"]).current_dir(&project).output().expect("it can be started");
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    let mut counts = BTreeMap::new();
    for line in text(&ran.stdout).lines() {
        let row: Value = serde_json::from_str(line).expect("rows are JSON");
        let (page, minute) = (row["page"].as_str().expect("a page"), row["minute"].as_str().expect("a minute"));
        counts.insert((page.to_owned(), minute[..16].to_owned()), row["views"].as_u64().expect("a number"));
    }
    let csv = fs::read_to_string(project.join("data/views.csv")).expect("the template has data");
    assert_eq!(counts, expected_counts(&csv));

    // What has not changed is not built again; what has changed is.
    let component = project.join("target/page-views.wasm");
    let modified = |path: &Path| fs::metadata(path).expect("it is there").modified().expect("files have times");
    let built = modified(&component);
    let run_again = || {
        let mut run = weir();
        build_guests_together(&mut run);
        let ran = run.args(["run", "job.toml"]).current_dir(&project).output().expect("it can be started");
        assert!(ran.status.success(), "{}", text(&ran.stderr));
        text(&ran.stderr)
    };
    assert_eq!(run_again(), "");
    assert_eq!(modified(&component), built);
    let source = project.join("src/lib.rs");
    let changed = fs::read_to_string(&source).expect("the template has sources") + "\n// changed\n";
    fs::write(&source, changed).expect("the folder is ours");
    assert!(run_again().contains("building"));
    assert!(modified(&component) > built);

    let mut test = Command::new("cargo");
    test.args(["test", "--release", "--locked"]).current_dir(&project).env("CARGO_TARGET_DIR", native_target());
    let tested = test.output().expect("cargo can be started");
    assert!(tested.status.success(), "{}", text(&tested.stderr));
    assert!(text(&tested.stdout).contains("results_are_named_after_their_minute ... ok"), "{}", text(&tested.stdout));
}

/// Goal: a folder that is there is left alone, and a name that cargo would refuse is refused, also for the sake of the SDK's crates.
#[test]
fn new_refuses() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let new = |name: &str| {
        let output = weir().arg("new").arg(dir.path().join(name)).output().expect("it can be started");
        assert_eq!(output.status.code(), Some(1), "{name}");
        text(&output.stderr)
    };
    fs::create_dir(dir.path().join("taken")).expect("the folder is ours");
    assert!(new("taken").contains("is there already"));
    assert!(new("Page Views").contains("cannot be the name of a job"));
    for name in ["weir", "weir-macros", "weir_macros"] {
        let told = new(name);
        assert!(told.contains(&format!("\"{name}\" cannot be the name of a job: the SDK has a crate")), "{told}");
        assert!(!dir.path().join(name).exists(), "{name}: a folder was made");
    }
}

/// Goal: a folder that cannot be made is named.
#[test]
fn new_names_the_folder() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("the folder is ours");
    let project = file.join("page-views");
    let output = weir().arg("new").arg(&project).env("WEIR_HOME", dir.path().join("home")).output().expect("it can be started");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(&format!("cannot make the folder {}", project.display())), "{told}");
}
