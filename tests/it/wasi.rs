//! A guest that imports WASI 0.2 (in C by the standard adapter, in Python and JavaScript by what their usual tools build)
//! finds an empty world, and the same one in each run.

use std::fs;
use std::process::Stdio;

use crate::run::{root, weir};

/// What a guest of `tests/guests` says about the world, and the rows of its job. The job is in the same folder.
fn look_around(guest: &str) -> (Vec<String>, String) {
    let (folder, component) = guest.split_once('/').expect("a folder and a component");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bids = dir.path().join("bids.jsonl");
    fs::write(&bids, r#"{"auction":1,"price":1000,"channel":"one","date_time":"2015-07-15T00:00:00Z"}"#)
        .expect("the folder is ours");
    let secret = dir.path().join("secret");
    fs::write(&secret, "what is in here is none of the guest's business").expect("the folder is ours");
    let mut command = weir();
    command.arg("run").arg(root().join("tests/guests").join(folder).join("job.toml"));
    command.arg("--set").arg(format!("component={component}"));
    command.arg("--set").arg(format!("sources.bids.path={}", bids.display())).env("SECRET", "a secret");
    command.stdin(Stdio::from(fs::File::open(&secret).expect("it was written")));
    let output = command.output().expect("the binary can be started");
    let stderr = String::from_utf8(output.stderr).expect("a log is text");
    assert!(output.status.success(), "{stderr}");
    let said = stderr.lines().map(|line| line.split_once(' ').expect("a level and a line").1.trim_start().to_owned()).collect();
    (said, String::from_utf8(output.stdout).expect("rows are text"))
}

/// Has a guest look around: it says what is expected of it, then two random numbers, and makes this row of the one bid.
fn check_empty_world(guest: &str, expected: &[&str], row: &str) {
    let (said, rows) = look_around(guest);
    assert_eq!(rows.trim_end(), row);
    let (random, rest) = said.split_last().expect("it says something");
    assert_eq!(rest, expected);
    assert!(random.starts_with("random numbers: ") && !random.contains("0000000000000000"), "{random}");
    assert_eq!(look_around(guest), (said, rows), "a second run sees the same");
}

/// Goal: no files, no environment, no input, a clock and random numbers that do not come from the machine; and the job is done.
#[test]
fn an_empty_world() {
    let expected = [
        "variables: 0",
        "arguments: 0",
        "first open folder: none",
        "folder /: is not there",
        "/etc/passwd, to be opened for r: is not there",
        "/tmp/weir-guest, to be opened for w: is not there",
        "bytes of standard input: 0",
        "seconds since 1970: 0",
        "seconds that an hour takes: 3600",
    ];
    let row = r#"{"auction":1,"price":1000,"channel":"ONE","date_time":"2015-07-15T00:00:00Z","euros":908}"#;
    check_empty_world("c/wasi.wasm", &expected, row);
}

/// Goal: so it is for a guest in Python with all of its standard library; it cannot connect, bind or look up a name, and gets an
/// error each time that it can deal with.
#[test]
fn an_empty_world_in_python() {
    let expected = [
        "variables: []",
        "arguments: []",
        "folder /: FileNotFoundError",
        "/etc/passwd, to be opened for r: FileNotFoundError",
        "/tmp/weir-guest, to be opened for w: FileNotFoundError",
        "bytes of standard input: 0",
        "TCP, to connect: PermissionError",
        "TCP, to bind: PermissionError",
        "UDP, to connect: PermissionError",
        "UDP, to bind: PermissionError",
        "localhost, to be looked up: gaierror",
        "seconds since 1970: 0",
        "seconds that an hour takes: 3600",
    ];
    let row = r#"{"channel":"one","price":908,"date_time":"2015-07-15T00:00:00Z"}"#;
    check_empty_world("python/guest.wasm", &expected, row);
}

/// Goal: and for one in JavaScript, whose own library knows of time, random numbers and output.
#[test]
fn an_empty_world_in_javascript() {
    let row = r#"{"channel":"one","price":1000,"date_time":"2015-07-15T00:00:00Z"}"#;
    check_empty_world("js/guest.wasm", &["seconds since 1970: 0", "seconds that an hour takes: 3600"], row);
}

/// Goal: the guests really import WASI; other tests would mean nothing if an adapter or stubs within the component answered.
#[test]
fn the_guests_import_wasi() {
    const ALL: [&str; 5] = ["cli/stdin", "filesystem/preopens", "clocks/wall-clock", "clocks/monotonic-clock", "random/random"];
    const PYTHON: [&str; 4] = ["cli/environment", "sockets/tcp-create-socket", "sockets/udp", "sockets/ip-name-lookup"];
    let guests: [(&str, &[&str]); 4] = [
        ("c/wasi.wasm", &["cli/environment"]),
        ("go/guest.wasm", &["cli/environment"]),
        ("python/guest.wasm", &PYTHON),
        ("js/guest.wasm", &["cli/stdout"]),
    ];
    for (guest, more) in guests {
        let output =
            weir().arg("inspect").arg(root().join("tests/guests").join(guest)).output().expect("the binary can be started");
        let shown = String::from_utf8(output.stdout).expect("it is text");
        for import in ALL.iter().chain(more) {
            assert!(shown.contains(&format!("wasi:{import}@0.2.")), "{import} is missing in {guest}:\n{shown}");
        }
    }
}
