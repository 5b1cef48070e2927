//! A server in a process of its own, for one test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use weir_client::{Client, JobDetail};

use crate::run::weir;

/// Where a server listens unless a test says.
const ANY_PORT: &str = "127.0.0.1:0";

/// A server on a free port, with a data directory of its own. It is killed when this is dropped.
pub struct Server {
    child: Process,
    /// kept open: the server writes its log there
    stderr: BufReader<ChildStderr>,
    url: String,
    data: tempfile::TempDir,
    slots: u16,
}

impl Server {
    /// Starts a server with this many slots, and waits until it listens.
    pub fn start(slots: u16) -> Self {
        Self::start_with(slots, &[])
    }

    /// The same, with these variables in its environment.
    pub fn start_with(slots: u16, environment: &[(&str, String)]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), ANY_PORT, slots, environment)
    }

    /// Starts a server with one slot at this address.
    pub fn start_at(address: &str) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), address, 1, &[])
    }

    fn start_in(data: tempfile::TempDir, address: &str, slots: u16, environment: &[(&str, String)]) -> Self {
        let mut command = weir();
        command.args(["server", "--bind", address, "--slots", &slots.to_string(), "--data-dir"]).arg(data.path());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary can be started");
        let mut stderr = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("the server says where it listens");
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("the server says: {line}")).to_owned();
        Self { child: Process(child), stderr, url, data, slots }
    }

    /// Ends the server's process without a warning (or, if it may `end`, as its operator does), and starts another one with the same data directory.
    pub fn again(self, end: bool) -> Self {
        let slots = self.slots;
        self.again_with(end, slots, &[])
    }

    /// The same; the other one has this many slots, and these variables in its environment.
    pub fn again_with(self, end: bool, slots: u16, environment: &[(&str, String)]) -> Self {
        let Self { mut child, mut stderr, data, .. } = self;
        if end {
            interrupt(&child.0);
            std::io::copy(&mut stderr, &mut std::io::sink()).expect("the log can be read");
        } else {
            child.0.kill().expect("the process runs");
        }
        child.0.wait().expect("the server ends");
        Self::start_in(data, ANY_PORT, slots, environment)
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
    }

    /// What it tells a Prometheus of itself and its jobs.
    pub async fn metrics(&self) -> String {
        let response = reqwest::get(format!("{}/metrics", self.url)).await.expect("an answer");
        response.text().await.expect("text")
    }

    /// A command that talks to it.
    pub fn weir(&self, args: &[&str]) -> Command {
        let mut command = weir();
        command.args(args).env("WEIR_SERVER", &self.url);
        command
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        self.data.path()
    }

    /// Writes a file that jobs can read.
    pub fn put_file(&self, name: &str, content: &str) {
        let folder = self.data.path().join("files/default");
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        std::fs::write(folder.join(name), content).expect("the folder is ours");
    }

    /// Asks the server to end, and waits until it has: its exit code and what it wrote to standard error.
    pub fn stop(self) -> (Option<i32>, String) {
        let Self { mut child, mut stderr, .. } = self;
        interrupt(&child.0);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut stderr, &mut text).expect("the log is text");
        (child.0.wait().expect("the server ends").code(), text)
    }
}

/// Waits until a job is as it should be, for so long.
pub async fn wait(client: &Client, job: &str, patience: Duration, is_so: impl Fn(&JobDetail) -> bool) -> JobDetail {
    let since = Instant::now();
    loop {
        let detail = client.job(job).await.expect("it is known");
        if is_so(&detail) {
            return detail;
        }
        assert!(since.elapsed() < patience && !detail.job.is_ended(), "{detail:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A process that does not outlive its test.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        // To a process that has ended, this does nothing.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Ctrl-C.
pub fn interrupt(child: &Child) {
    signal(child, rustix::process::Signal::INT);
}

/// Sends a signal to a process.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), signal).expect("the process runs");
}
