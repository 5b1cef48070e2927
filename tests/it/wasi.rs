//! A guest that imports WASI 0.2 (in C, by the standard adapter) finds an empty world, and the same one in each run.

use std::fs;
use std::process::Stdio;

use crate::run::{root, weir};

/// What the guest says about the world, and the rows of its job.
fn look_around() -> (Vec<String>, String) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let bids = dir.path().join("bids.jsonl");
    fs::write(&bids, r#"{"auction":1,"price":1000,"channel":"one","date_time":"2015-07-15T00:00:00Z"}"#)
        .expect("the folder is ours");
    let secret = dir.path().join("secret");
    fs::write(&secret, "what is in here is none of the guest's business").expect("the folder is ours");
    let mut command = weir();
    command.arg("run").arg(root().join("tests/guests/c/job.toml")).args(["--set", "component=wasi.wasm"]);
    command.arg("--set").arg(format!("sources.bids.path={}", bids.display())).env("SECRET", "a secret");
    command.stdin(Stdio::from(fs::File::open(&secret).expect("it was written")));
    let output = command.output().expect("the binary can be started");
    let stderr = String::from_utf8(output.stderr).expect("a log is text");
    assert!(output.status.success(), "{stderr}");
    let said = stderr.lines().map(|line| line.split_once(' ').expect("a level and a line").1.trim_start().to_owned()).collect();
    (said, String::from_utf8(output.stdout).expect("rows are text"))
}

/// Goal: no files, no environment, no input, a clock and random numbers that do not come from the machine; and the job is done.
#[test]
fn an_empty_world() {
    let (said, rows) = look_around();
    let row = r#"{"auction":1,"price":1000,"channel":"ONE","date_time":"2015-07-15T00:00:00Z","euros":908}"#;
    assert_eq!(rows.trim_end(), row);
    let (random, rest) = said.split_last().expect("it says something");
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
    assert_eq!(rest, expected);
    assert!(random.starts_with("random numbers: ") && !random.contains("0000000000000000"), "{random}");
    assert_eq!(look_around(), (said, rows), "a second run sees the same");
}

/// Goal: the guests in C and Go really import WASI; other tests would mean nothing if an adapter within the component answered.
#[test]
fn the_guests_import_wasi() {
    for guest in ["c/wasi.wasm", "go/guest.wasm"] {
        let output =
            weir().arg("inspect").arg(root().join("tests/guests").join(guest)).output().expect("the binary can be started");
        let shown = String::from_utf8(output.stdout).expect("it is text");
        for import in [
            "cli/environment",
            "cli/stdin",
            "filesystem/preopens",
            "clocks/wall-clock",
            "clocks/monotonic-clock",
            "random/random",
        ] {
            assert!(shown.contains(&format!("wasi:{import}@0.2.")), "{import} is missing in {guest}:\n{shown}");
        }
    }
}
