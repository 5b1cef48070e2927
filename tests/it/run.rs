//! `weir run` as a user runs it: the built binary in a process of its own, with a spec of the examples or the tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Output, Stdio};

use serde_json::Value;

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the checkout is there")
}

/// The `weir` binary that was built into the folder that this test was built into.
pub fn weir() -> Command {
    let test = std::env::current_exe().expect("a test knows its path");
    let binary = test.ancestors().nth(2).expect("tests lie in target/release/deps").join("weir");
    assert!(binary.exists(), "{} is missing: run `make test`, or `cargo build --release -p weir-cli` first", binary.display());
    let mut command = Command::new(binary);
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A job to run.
pub struct Run {
    command: Command,
}

impl Run {
    /// The job of a spec; its path is relative to the checkout, or absolute.
    pub fn new(spec: impl AsRef<Path>) -> Self {
        let mut command = weir();
        command.arg("run").arg(root().join(spec)).args(["--summary", "json"]);
        Self { command }
    }

    /// How many subtasks each vertex has.
    pub fn parallelism(self, parallelism: u16) -> Self {
        self.set("parallelism", parallelism)
    }

    /// Another value for a setting of the spec.
    pub fn set(mut self, path: &str, value: impl std::fmt::Display) -> Self {
        self.command.arg("--set").arg(format!("{path}={value}"));
        self
    }

    /// Without progress and guest logs.
    pub fn quiet(mut self) -> Self {
        self.command.arg("--quiet");
        self
    }

    /// Runs the job, whatever becomes of it.
    pub fn output(mut self) -> Output {
        self.command.output().expect("the binary can be started")
    }

    /// Runs the job to its end: the rows of its standard-output sinks (as JSON lines), and its summary.
    pub fn finish(self) -> (Vec<Value>, Value) {
        let what = format!("{:?}", self.command);
        let output = self.output();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{what}\n{}\n{stderr}", output.status);
        let stdout = String::from_utf8(output.stdout).expect("standard output is text");
        let mut lines: Vec<Value> = stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{what}\n{e} in the line: {line}")))
            .collect();
        let summary = lines.pop().unwrap_or_else(|| panic!("{what}\nno summary"));
        (lines, summary)
    }

    /// Starts the job, which reads its standard input.
    pub fn start(mut self) -> Live {
        let child = self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.expect("the binary can be started");
        Live {
            stdin: child.stdin.take().expect("standard input is piped"),
            stdout: BufReader::new(child.stdout.take().expect("standard output is piped")),
            stderr: BufReader::new(child.stderr.take().expect("standard error is piped")),
            child,
        }
    }

    /// Runs a job that must fail with exit code 1: what it says on standard error.
    pub fn failure(self) -> String {
        let what = format!("{:?}", self.command);
        let output = self.output();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{what}\n{stderr}");
        stderr
    }
}

/// A job that runs as long as its standard input is open.
pub struct Live {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
}

impl Live {
    /// Writes to its standard input.
    pub fn write(&mut self, text: &str) {
        let written = self.stdin.write_all(text.as_bytes()).and_then(|()| self.stdin.flush());
        written.expect("the job reads its standard input");
    }

    /// Waits for so many lines of its standard output.
    pub fn lines(&mut self, count: usize) -> Vec<String> {
        let mut line = || {
            let mut line = String::new();
            assert!(self.stdout.read_line(&mut line).expect("rows are text") > 0, "the job has ended");
            line
        };
        (0..count).map(|_| line()).collect()
    }

    /// Waits until it says this in a line of its standard error.
    pub fn wait_for(&mut self, says: &str) {
        let mut line = String::new();
        while !line.contains(says) {
            line.clear();
            assert!(self.stderr.read_line(&mut line).expect("it is text") > 0, "the job has ended, and did not say: {says}");
        }
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        crate::server::interrupt(&self.child);
    }

    /// Waits for the end of a job that must fail with exit code 1, with its input open: what it said on standard error since.
    pub fn failure(self) -> String {
        let Self { mut child, stdin: _stdin, stdout: _stdout, mut stderr } = self;
        let mut told = String::new();
        stderr.read_to_string(&mut told).expect("it is text");
        assert_eq!(child.wait().expect("it ends").code(), Some(1), "{told}");
        told
    }

    /// Ends its input: the rows that were not read yet.
    pub fn finish(self) -> Vec<String> {
        self.end().0
    }

    /// Ends its input: the summary.
    pub fn finish_with_summary(self) -> Value {
        serde_json::from_str(&self.end().1).expect("the summary is JSON")
    }

    /// Ends its input: the rows that were not read yet, and the last line, which is the summary.
    fn end(self) -> (Vec<String>, String) {
        let Self { mut child, stdin, mut stdout, mut stderr } = self;
        drop(stdin);
        let (mut rows, mut told) = (String::new(), String::new());
        stdout.read_to_string(&mut rows).expect("rows are text");
        stderr.read_to_string(&mut told).expect("it is text");
        assert!(child.wait().expect("it ends").success(), "{told}");
        let mut lines: Vec<_> = rows.lines().map(str::to_owned).collect();
        let summary = lines.pop().expect("the last line is the summary");
        (lines, summary)
    }
}
