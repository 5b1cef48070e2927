//! Rows on which a guest fails, in a job whose process is killed besides.

use std::fs;
use std::time::Duration;

use super::{Moment, Victim, published};

const ROWS: u64 = 120_000;

/// A job that fails on some of these rows, and goes on; its pauses before retries make it slow enough to be killed.
fn picky(name: &'static str, rows: u64) -> Victim {
    let mut victim = Victim::new(
        name,
        "tests/guests/picky/job.toml",
        &[
            ("batch.rows", "100"),
            ("on_error", "dead-letter"),
            ("dead_letters", "letters"),
            ("sources.items.on_malformed", "dead-letter"),
            ("retries", "1"),
            ("retry_pause", "4ms"),
        ],
    );
    fs::create_dir(victim.path("in")).unwrap();
    for file in 0..4 {
        let lines: String = (0..rows).filter(|id| id % 4 == file).map(|id| row(id) + "\n").collect();
        fs::write(victim.path(&format!("in/{file}.jsonl")), lines).unwrap();
    }
    victim.set("sources.items.path", victim.path("in/*.jsonl").display());
    victim
}

/// The rows that become dead letters, or the others, in an order of their own.
fn expected(rows: u64, are_dead: bool) -> Vec<String> {
    let mut rows: Vec<_> = (0..rows).filter(|id| (is_cut(*id) || !fault(*id).is_empty()) == are_dead).map(row).collect();
    rows.sort_unstable();
    rows
}

/// The records of dead letters, each of which is checked to say where it was, in an order of their own.
fn records(letters: &[String]) -> Vec<String> {
    let record = |letter: &String| {
        let letter: serde_json::Value = serde_json::from_str(letter).unwrap();
        let record = letter["record"].as_str().expect("a dead letter has a record").to_owned();
        let id: u64 = record[6..].split(',').next().unwrap().parse().unwrap();
        assert_eq!(
            (&letter["first_position"], &letter["last_position"]),
            (&(id / 4 + 1).into(), &(id / 4 + 1).into()),
            "{letter}"
        );
        record
    };
    let mut records: Vec<_> = letters.iter().map(record).collect();
    records.sort_unstable();
    records
}

/// What is wrong with a row; nothing of most of them.
fn fault(id: u64) -> &'static str {
    match id % 97 {
        13 => "error",
        14 if id.is_multiple_of(3) => "panic",
        _ => "",
    }
}

/// Of some rows, only the beginning came.
fn is_cut(id: u64) -> bool {
    id % 97 == 15
}

fn row(id: u64) -> String {
    if is_cut(id) {
        return format!(r#"{{"id":{id},"fa"#);
    }
    format!(r#"{{"id":{id},"fault":"{}"}}"#, fault(id))
}

/// Goal: each row is seen once: in the sink, or, if the guest fails on it or it is malformed, in the sink for dead letters, which takes part in checkpoints as any other.
#[test]
fn dead_letters() {
    let mut victim = picky("dead_letters", ROWS);
    let out = victim.write_parts();
    let letters = victim.path("letters");
    victim.set("sinks.letters", format!("{{ connector = \"file\", folder = \"{}\", format = \"jsonl\" }}", letters.display()));
    victim.torment(&[1, 2, 3], 16, Moment::draw);
    victim.compare(&expected(ROWS, false), &published(&out));
    victim.compare(&expected(ROWS, true), &records(&published(&letters)));
}

/// Goal: the same of dead letters in a table of PostgreSQL, as the documents have it.
#[test]
fn dead_letters_in_a_table() {
    const ROWS: u64 = 40_000;
    let server = super::postgres::server();
    server.query(
        "CREATE TABLE dead_letters (job text, operator text, time timestamptz, source text, split text, first_position bigint, \
         last_position bigint, event_time timestamptz, record text, error text, message text, backtrace text)",
    );
    let mut victim = picky("dead_letters_in_a_table", ROWS);
    let out = victim.write_parts();
    victim.set("sinks.letters", format!("{{ connector = \"postgres\", url = \"{}\", table = \"dead_letters\" }}", server.url()));
    victim.torment(&[1, 2], 8, Moment::draw_elsewhere);
    victim.compare(&expected(ROWS, false), &published(&out));
    victim.compare(&expected(ROWS, true), &records(&super::postgres::rows(&server, "dead_letters")));
}

/// Goal: the same of dead letters in a topic of Kafka, for those who read what is committed.
#[test]
fn dead_letters_in_a_topic() {
    const ROWS: u64 = 80_000;
    let broker = super::kafka::broker();
    broker.create_topic("dead_letters", 2);
    let mut victim = picky("dead_letters_in_a_topic", ROWS);
    let out = victim.write_parts();
    let address = broker.address();
    victim.set(
        "sinks.letters",
        format!("{{ connector = \"kafka\", brokers = \"{address}\", topic = \"dead_letters\", key = \"split\" }}"),
    );
    // A producer with transactions takes about a second to begin.
    victim.set("checkpoint.interval", "300ms");
    victim.pause_max = Duration::from_secs(3);
    victim.torment(&[1, 2], 6, Moment::draw_late);
    victim.compare(&expected(ROWS, false), &published(&out));
    let letters: Vec<_> = broker.read("dead_letters", true).into_iter().map(|(_, letter)| letter).collect();
    victim.compare(&expected(ROWS, true), &records(&letters));
}

/// Goal: of an operator that keeps state, too, exactly the rows are missing on which it fails. Whoever starts the job anew does not know them, and the job finds
/// them again; what was counted before a checkpoint is not counted twice.
#[test]
fn rows_that_windows_fail_on() {
    const ROWS: i64 = 160_000;
    // A hundredth of a second from row to row, so that there are windows of a hundred.
    let number = |n: i64| if n % 4000 == 1234 { 50 } else { 1000 + n % 7 };
    let line = |n: i64| {
        let at = jiff::Timestamp::from_millisecond(1_436_918_400_000 + n * 10).unwrap();
        format!("{{\"id\":{},\"text\":\"\",\"number\":{},\"at\":\"{at}\"}}\n", n % 3, number(n))
    };
    // So many calls that it takes its time.
    let settings = [("batch.rows", "2"), ("operators.sum.on_error", "skip"), ("limits.call_deadline", "10s")];
    let mut victim = Victim::new("rows_that_windows_fail_on", "tests/it/hostile.toml", &settings);
    fs::write(victim.path("rows.jsonl"), (0..ROWS).map(line).collect::<String>()).unwrap();
    victim.set("sources.in.path", victim.path("rows.jsonl").display());
    victim.set("args", "{ mode = \"trap\", at = \"sum.accumulate\", number = 50 }");
    victim.write_parts();
    let sums = victim.path("sums");
    victim.set("sinks.sums", format!("{{ connector = \"file\", folder = \"{}\", format = \"jsonl\" }}", sums.display()));
    victim.pause_max = Duration::from_millis(400);
    victim.torment(&[1, 2], 12, Moment::draw_elsewhere);
    let mut expected = std::collections::BTreeMap::<(i64, i64), i64>::new();
    for n in (0..ROWS).filter(|n| number(*n) != 50) {
        *expected.entry((n / 100, n % 3)).or_default() += number(n);
    }
    let mut expected: Vec<_> = expected.values().map(|sum| format!("{{\"sum\":{sum}}}")).collect();
    expected.sort_unstable();
    victim.compare(&expected, &published(&sums));
}
