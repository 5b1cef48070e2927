//! From files to tables of PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use super::flight::UNALIGNED;
use super::server::{Stop, TestServer};
use super::{Dice, Moment, Victim, run_query, shared, undisturbed};

/// The database of all tests that run now.
static SERVER: Mutex<Weak<TestServer>> = Mutex::new(Weak::new());

pub(super) fn server() -> Arc<TestServer> {
    shared(&SERVER, TestServer::start)
}

/// Files of bids, each with others in it. Returns the pattern that finds them.
fn files_of_bids(folder: &Path, files: u64, events: u64) -> PathBuf {
    for seed in 0..files {
        let settings =
            [("sources.nexmark.events", events.to_string()), ("sources.nexmark.seed", seed.to_string())].map(|(p, v)| (p, v));
        let settings = settings.each_ref().map(|(path, value)| (*path, value.as_str()));
        run_query("q0", &folder.join(format!("bids-{seed}.jsonl")), &settings);
    }
    folder.join("bids-*.jsonl")
}

/// A job that reads files, two rows at a time, so that it takes its time: some 10 s for half a million events.
fn victim(name: &'static str, query: &str, files: &Path) -> Victim {
    let mut victim = Victim::new(name, &format!("examples/nexmark/{query}.toml"), &[("batch.rows", "2")]);
    victim.set("sources.nexmark", read(files));
    victim
}

fn read(files: &Path) -> String {
    format!("{{ connector = \"file\", path = \"{}\" }}", files.display())
}

/// Rows of a table, as JSON lines in an order of their own.
pub(super) fn rows(server: &TestServer, table: &str) -> Vec<String> {
    let mut rows = server.query(&format!("SELECT row_to_json(t)::text FROM {table} t"));
    rows.sort_unstable();
    rows
}

/// A job that appends rows of files to a table.
struct Appending {
    server: Arc<TestServer>,
    table: &'static str,
    victim: Victim,
    expected: Vec<String>,
    _files: tempfile::TempDir,
}

impl Appending {
    fn new(server: Arc<TestServer>, name: &'static str, events: u64) -> Self {
        Self::of(server, name, events, "q2", "appended", "auction bigint, price bigint")
    }

    /// The same of a query, to a table with these columns.
    fn of(server: Arc<TestServer>, name: &'static str, events: u64, query: &str, table: &'static str, columns: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = files_of_bids(folder.path(), 3, events);
        let expected = undisturbed(query, &[("sources.nexmark", &read(&files))]);
        server.query(&format!("CREATE TABLE {table} ({columns})"));
        let mut victim = victim(name, query, &files);
        victim.set("sinks.out", format!("{{ connector = \"postgres\", url = \"{}\", table = \"{table}\" }}", server.url()));
        Self { server, table, victim, expected, _files: folder }
    }

    /// The rows are there once, and nothing else is left.
    fn check(&self) {
        let Self { server, table, victim, expected, .. } = self;
        victim.compare(expected, &rows(server, table));
        assert_eq!(server.query("SELECT count(*) FROM weir_commits WHERE committed_at IS NULL"), ["0"]);
        let left = server.query("SELECT relname FROM pg_class WHERE relname LIKE 'weir_staging_%' AND relkind = 'r'");
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A job that puts rows of files in the place of others.
struct Upserting {
    server: Arc<TestServer>,
    victim: Victim,
    expected: Vec<String>,
    _files: tempfile::TempDir,
}

impl Upserting {
    fn new(server: Arc<TestServer>, name: &'static str, events: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = files_of_bids(folder.path(), 3, events);
        let all = undisturbed("keyed_count", &[("sources.nexmark", &read(&files))]);
        // Of each auction, the last count.
        let mut counts = std::collections::BTreeMap::new();
        for row in &all {
            let row: serde_json::Value = serde_json::from_str(row).unwrap();
            let count = counts.entry(row["auction"].as_u64().unwrap()).or_default();
            *count = row["bids"].as_u64().unwrap().max(*count);
        }
        let counts = counts.iter().map(|(auction, bids)| format!("{{\"auction\":{auction},\"bids\":{bids}}}"));
        let mut expected: Vec<_> = counts.collect();
        expected.sort_unstable();
        server.query("CREATE TABLE upserted (auction bigint PRIMARY KEY, bids bigint)");
        let mut victim = victim(name, "keyed_count", &files);
        let url = server.url();
        victim.set(
            "sinks.out",
            format!(
                "{{ connector = \"postgres\", url = \"{url}\", table = \"upserted\", mode = \"upsert\", key = [\"auction\"] }}"
            ),
        );
        Self { server, victim, expected, _files: folder }
    }

    fn check(&self) {
        self.victim.compare(&self.expected, &rows(&self.server, "upserted"));
    }
}

/// Stops a server one way or another and starts it again, or keeps it and its sessions from answering for a while.
fn fails(server: &TestServer, dice: &mut Dice) {
    match dice.below(3) {
        0 => server.stop(Stop::Fast),
        1 => server.stop(Stop::Immediate),
        _ => {
            server.freeze();
            std::thread::sleep(Duration::from_millis(300 + dice.below(2000)));
            return server.thaw();
        }
    }
    std::thread::sleep(Duration::from_millis(dice.below(800)));
    server.start_again();
}

/// Goal: rows that are appended are in the table once, whatever is killed between two checkpoints, at a commit or before it was done again; and nothing
/// else is left there.
#[test]
fn appended_rows() {
    let mut job = Appending::new(server(), "appended_rows", 200_000);
    job.victim.torment(&[1, 2], 24, Moment::draw_elsewhere);
    job.check();
}

/// Goal: the same of running counts whose state is on disk, beside rows that barriers have overtaken.
#[test]
fn unaligned_rows_on_disk() {
    let (server, columns) = (Arc::new(TestServer::start()), "auction bigint, bids bigint");
    let mut job = Appending::of(server, "unaligned_rows_on_disk", 60_000, "keyed_count", "counted", columns);
    for (path, value) in UNALIGNED.into_iter().chain([("state.backend", "rocksdb"), ("state.slots_max", "200")]) {
        job.victim.set(path, value);
    }
    job.victim.pause_max = Duration::from_millis(500);
    job.victim.torment(&[2, 3], 10, Moment::draw_elsewhere);
    job.check();
}

/// Goal: the same where the process stays and the server is stopped, in the midst of anything, or does not answer.
#[test]
fn appended_rows_through_outages() {
    let server = Arc::new(TestServer::start());
    let mut job = Appending::new(Arc::clone(&server), "appended_rows_through_outages", 250_000);
    job.victim.endure(2, 5, |dice| fails(&server, dice));
    job.check();
}

/// Goal: the same where the process is killed and the server fails, one in the midst of the other.
#[test]
fn killed_while_the_server_fails() {
    let server = Arc::new(TestServer::start());
    let mut job = Appending::new(Arc::clone(&server), "killed_while_the_server_fails", 200_000);
    job.victim.pause_max = Duration::from_secs(2);
    job.victim.torment_amid(&[1, 2], 8, Moment::draw_elsewhere, |dice| fails(&server, dice));
    job.check();
}

/// Goal: rows that take the place of others end up as if they had been written once.
#[test]
fn upserted_rows() {
    let mut job = Upserting::new(server(), "upserted_rows", 200_000);
    job.victim.torment(&[2, 1], 16, Moment::draw_elsewhere);
    job.check();
}

/// Goal: the same where the process stays and the server is stopped, in the midst of anything, or does not answer.
#[test]
fn upserted_rows_through_outages() {
    let server = Arc::new(TestServer::start());
    let mut job = Upserting::new(Arc::clone(&server), "upserted_rows_through_outages", 200_000);
    job.victim.endure(2, 5, |dice| fails(&server, dice));
    job.check();
}
