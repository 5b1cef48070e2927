//! A server in a process of its own, for one test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use weir_client::Client;

use crate::run::weir;

/// A server on a free port, with a data directory of its own. It is killed when this is dropped.
pub struct Server {
    child: Child,
    /// kept open: the server writes its log there
    stderr: BufReader<ChildStderr>,
    url: String,
    data: tempfile::TempDir,
}

impl Server {
    /// Starts a server with this many slots, and waits until it listens.
    pub fn start(slots: u16) -> Self {
        Self::start_with(slots, &[])
    }

    /// The same, with these variables in its environment.
    pub fn start_with(slots: u16, environment: &[(&str, String)]) -> Self {
        let data = tempfile::tempdir().expect("a temporary folder");
        let mut command = weir();
        command.args(["server", "--bind", "127.0.0.1:0", "--slots", &slots.to_string(), "--data-dir"]).arg(data.path());
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the binary can be started");
        let mut stderr = BufReader::new(child.stderr.take().expect("standard error is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("the server says where it listens");
        let url = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("the server says: {line}")).to_owned();
        Self { child, stderr, url, data }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(&self.url)
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
    pub fn stop(mut self) -> (Option<i32>, String) {
        interrupt(&self.child);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.stderr, &mut text).expect("the log is text");
        (self.child.wait().expect("the server ends").code(), text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
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
