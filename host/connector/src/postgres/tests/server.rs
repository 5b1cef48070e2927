//! A PostgreSQL server for a test: on a free port of this machine, in a folder that goes with it. It can be frozen, stopped and started again.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio_postgres::NoTls;

/// The user and the group that a server runs as where the tests run as root, which it refuses: those of `nobody`.
const NOBODY: u32 = 65534;

/// A server that runs. It stops when it is dropped.
pub struct TestServer {
    /// none while it is stopped
    child: Mutex<Option<Child>>,
    port: u16,
    folder: tempfile::TempDir,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// it breaks off what its clients are doing, and goes in order
    Fast,
    /// it goes at once, with its children: what it had not written out it takes from its log when it starts again
    Immediate,
}

/// Where the programs of the newest version are.
fn programs() -> PathBuf {
    let found = glob::glob("/usr/lib/postgresql/*/bin/initdb").unwrap().filter_map(Result::ok).max();
    found.and_then(|path| path.parent().map(Path::to_owned)).expect("PostgreSQL is needed: run scripts/setup test")
}

/// A program, as a user that the server can run as.
fn command(program: &str) -> Command {
    let program = programs().join(program);
    // The folder of this process belongs to root.
    if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap() != 0 {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]).arg(program);
    command
}

impl TestServer {
    /// Starts a server with an empty database.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts a server that can encrypt, with its certificate and its key in one text (PEM).
    pub fn start_with_tls(identity: &[u8]) -> Self {
        Self::start_with(Some(identity))
    }

    fn start_with(identity: Option<&[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("data");
        fs::create_dir(&data).unwrap();
        // Fails where the tests do not run as root, and is not needed there.
        drop(chown(&data, Some(NOBODY), Some(NOBODY)));
        let output = command("initdb")
            .args(["--username=weir", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"])
            .arg(&data)
            .current_dir("/")
            .output()
            .unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        if let Some(identity) = identity {
            let path = data.join("identity.pem");
            fs::write(&path, identity).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            drop(chown(&path, Some(NOBODY), Some(NOBODY)));
            let settings = data.join("postgresql.conf");
            let text = fs::read_to_string(&settings).unwrap();
            fs::write(&settings, text + "\nssl = on\nssl_cert_file = 'identity.pem'\nssl_key_file = 'identity.pem'\n").unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { child: Mutex::new(None), port, folder };
        server.start_again();
        server
    }

    /// Starts one that was stopped: with what it holds, at the same address. Waits until it answers.
    pub fn start_again(&self) {
        let child = command("postgres")
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
            .args(["-c", "fsync=off", "-c", "shared_buffers=16MB"])
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.try_query("SELECT 1").is_err() {
            assert!(Instant::now() < deadline, "the server does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it. What it holds stays in its folder.
    pub fn stop(&self, how: Stop) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let signal = match how {
                Stop::Fast => "-INT",
                Stop::Immediate => "-QUIT",
            };
            drop(Command::new("kill").args([signal, &child.id().to_string()]).status());
            drop(child.wait());
        }
    }

    /// Stops it and its sessions where they are: connections stay, and nobody answers.
    pub fn freeze(&self) {
        // The server first, so that it begins no more sessions.
        self.signal("-STOP", &[self.pid()]);
        self.signal("-STOP", &self.sessions());
    }

    /// Lets all of it go on.
    pub fn thaw(&self) {
        self.signal("-CONT", &self.sessions());
        self.signal("-CONT", &[self.pid()]);
    }

    fn pid(&self) -> String {
        self.child.lock().unwrap().as_ref().expect("the server runs").id().to_string()
    }

    /// The processes that the server has for its sessions and other work.
    fn sessions(&self) -> Vec<String> {
        let pid = self.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// Some of the processes may have ended.
    fn signal(&self, signal: &str, pids: &[String]) {
        drop(Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status());
    }

    pub fn url(&self) -> String {
        format!("postgres://weir@127.0.0.1:{}/postgres", self.port)
    }

    /// Runs statements, and returns the first column of the rows of all.
    pub fn query(&self, statements: &str) -> Vec<String> {
        self.try_query(statements).unwrap_or_else(|e| panic!("{statements}: {e:?}"))
    }

    fn try_query(&self, statements: &str) -> Result<Vec<String>, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url(), NoTls).await?;
            tokio::spawn(connection);
            let messages = client.simple_query(statements).await?;
            let text = |message| match message {
                tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
                _ => None,
            };
            Ok(messages.into_iter().filter_map(text).collect())
        })
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}
