//! `tests/bench/run`: that it measures, and that it does not believe runs that disagree. How fast anything is does not matter here.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::run::{root, weir};

/// Measures the binary `weir` with a tenth of the events.
fn measure(weir: impl AsRef<Path>, arguments: &[&str]) -> Output {
    let mut command = Command::new(root().join("tests/bench/run"));
    command.arg("--weir").arg(weir.as_ref()).arg("--quick").args(arguments);
    command.output().expect("python3 can be started")
}

/// Goal: parts that need nothing but the command run to the end, and every figure that they are for is in the table.
#[test]
fn prints_a_table() {
    let output = measure(weir().get_program(), &["--only", "queries", "start", "memory", "--queries", "q7"]);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    for row in
        ["| q7, events/CPU-s | ", "| Start of a tiny job, ", "| Memory of a server ", "| Rows and checksums of all runs | agree "]
    {
        assert!(stdout.contains(row), "no {row:?} in\n{stdout}");
    }
}

/// Goal: two runs of a query with different rows make it fail, whatever else. Method: a command that gives another checksum each time.
#[test]
fn refuses_runs_that_disagree() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fake = folder.path().join("weir");
    let summary =
        r#"{"rows_out": 1, "checksum": "'$$'", "events_per_second": 1, "events_per_cpu_second": 1, "peak_rss_bytes": 1}"#;
    std::fs::write(&fake, format!("#!/bin/sh\necho '{summary}'\n")).expect("the folder is ours");
    std::fs::set_permissions(&fake, std::fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let output = measure(&fake, &["--only", "queries", "--queries", "q7", "--repeat", "2"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("**q7 of 3000000 events disagrees**"), "{stdout}");
}
