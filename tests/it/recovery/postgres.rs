//! From files to tables of PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use super::server::TestServer;
use super::{Moment, Victim, run_query, shared, undisturbed};

/// The database of all tests that run now.
static SERVER: Mutex<Weak<TestServer>> = Mutex::new(Weak::new());

fn server() -> Arc<TestServer> {
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

/// A job that reads files, a few rows at a time, so that it takes its time.
fn victim(name: &'static str, query: &str, files: &Path) -> Victim {
    let mut victim = Victim::new(name, &format!("examples/nexmark/{query}.toml"), &[("batch.rows", "8")]);
    victim.set("sources.nexmark", read(files));
    victim
}

fn read(files: &Path) -> String {
    format!("{{ connector = \"file\", path = \"{}\" }}", files.display())
}

/// Rows of a table, as JSON lines in an order of their own.
fn rows(server: &TestServer, table: &str) -> Vec<String> {
    let mut rows = server.query(&format!("SELECT row_to_json(t)::text FROM {table} t"));
    rows.sort_unstable();
    rows
}

/// Goal: rows that are appended are in the table once, whatever is killed between two checkpoints, at a commit or before it was done again; and nothing
/// else is left there.
#[test]
fn appended_rows() {
    let folder = tempfile::tempdir().unwrap();
    let files = files_of_bids(folder.path(), 3, 250_000);
    let expected = undisturbed("q2", &[("sources.nexmark", &read(&files))]);
    let server = server();
    server.query("CREATE TABLE appended (auction bigint, price bigint)");
    let mut victim = victim("appended_rows", "q2", &files);
    victim.set("sinks.out", format!("{{ connector = \"postgres\", url = \"{}\", table = \"appended\" }}", server.url()));
    victim.torment(&[1, 2], 24, Moment::draw_elsewhere);
    victim.compare(&expected, &rows(&server, "appended"));
    assert_eq!(server.query("SELECT count(*) FROM weir_commits WHERE committed_at IS NULL"), ["0"]);
    let left = server.query("SELECT relname FROM pg_class WHERE relname LIKE 'weir_staging_%' AND relkind = 'r'");
    assert!(left.is_empty(), "{left:?}");
}

/// Goal: rows that take the place of others end up as if they had been written once.
#[test]
fn upserted_rows() {
    let folder = tempfile::tempdir().unwrap();
    let files = files_of_bids(folder.path(), 3, 60_000);
    let all = undisturbed("keyed_count", &[("sources.nexmark", &read(&files))]);
    // Of each auction, the last count.
    let mut counts = std::collections::BTreeMap::new();
    for row in &all {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        let count = counts.entry(row["auction"].as_u64().unwrap()).or_default();
        *count = row["bids"].as_u64().unwrap().max(*count);
    }
    let mut expected: Vec<_> =
        counts.iter().map(|(auction, bids)| format!("{{\"auction\":{auction},\"bids\":{bids}}}")).collect();
    expected.sort_unstable();
    let server = server();
    server.query("CREATE TABLE upserted (auction bigint PRIMARY KEY, bids bigint)");
    let mut victim = victim("upserted_rows", "keyed_count", &files);
    victim.set(
        "sinks.out",
        format!(
            "{{ connector = \"postgres\", url = \"{}\", table = \"upserted\", mode = \"upsert\", key = [\"auction\"] }}",
            server.url()
        ),
    );
    victim.torment(&[2, 1], 16, Moment::draw_elsewhere);
    victim.compare(&expected, &rows(&server, "upserted"));
}
