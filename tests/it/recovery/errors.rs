//! Rows on which a guest fails, in a job whose process is killed besides.

use std::fs;

use super::{Moment, Victim, published};

const ROWS: u64 = 120_000;

/// What is wrong with a row; nothing of most of them.
fn fault(id: u64) -> &'static str {
    match id % 97 {
        13 => "error",
        14 if id.is_multiple_of(3) => "panic",
        _ => "",
    }
}

fn row(id: u64) -> String {
    format!(r#"{{"id":{id},"fault":"{}"}}"#, fault(id))
}

/// Goal: each row is seen once: in the sink, or, if the guest fails on it, in the sink for dead letters, which takes part in checkpoints as any other. The
/// pauses before retries make the job slow enough to be killed.
#[test]
fn dead_letters() {
    let mut victim = Victim::new(
        "dead_letters",
        "tests/guests/picky/job.toml",
        &[
            ("batch.rows", "100"),
            ("on_error", "dead-letter"),
            ("dead_letters", "letters"),
            ("retries", "1"),
            ("retry_pause", "4ms"),
        ],
    );
    fs::create_dir(victim.path("in")).unwrap();
    for file in 0..4 {
        let lines: String = (0..ROWS).filter(|id| id % 4 == file).map(|id| row(id) + "\n").collect();
        fs::write(victim.path(&format!("in/{file}.jsonl")), lines).unwrap();
    }
    victim.set("sources.items.path", victim.path("in/*.jsonl").display());
    let out = victim.write_parts();
    let letters = victim.path("letters");
    victim.set("sinks.letters", format!("{{ connector = \"file\", folder = \"{}\", format = \"jsonl\" }}", letters.display()));
    victim.torment(&[1, 2, 3], 16, Moment::draw);
    let rows = |has_fault: bool| {
        let mut rows: Vec<_> = (0..ROWS).filter(|id| fault(*id).is_empty() != has_fault).map(row).collect();
        rows.sort_unstable();
        rows
    };
    victim.compare(&rows(false), &published(&out));
    let record = |letter: &String| {
        let letter: serde_json::Value = serde_json::from_str(letter).unwrap();
        letter["record"].as_str().expect("a dead letter has a record").to_owned()
    };
    let mut found: Vec<_> = published(&letters).iter().map(record).collect();
    found.sort_unstable();
    victim.compare(&rows(true), &found);
}

/// Goal: of an operator that keeps state, too, exactly the rows are missing on which it fails. Whoever starts the job anew does not know them, and the job finds
/// them again; what was counted before a checkpoint is not counted twice.
#[test]
fn rows_that_windows_fail_on() {
    const ROWS: i64 = 40_000;
    // A hundredth of a second from row to row, so that there are windows of a hundred.
    let number = |n: i64| if n % 4000 == 1234 { 50 } else { 1000 + n % 7 };
    let line = |n: i64| {
        let at = jiff::Timestamp::from_millisecond(1_436_918_400_000 + n * 10).unwrap();
        format!("{{\"id\":{},\"text\":\"\",\"number\":{},\"at\":\"{at}\"}}\n", n % 3, number(n))
    };
    let settings = [("batch.rows", "100"), ("operators.sum.on_error", "skip"), ("limits.call_deadline", "10s")];
    let mut victim = Victim::new("rows_that_windows_fail_on", "tests/it/hostile.toml", &settings);
    fs::write(victim.path("rows.jsonl"), (0..ROWS).map(line).collect::<String>()).unwrap();
    victim.set("sources.in.path", victim.path("rows.jsonl").display());
    victim.set("args", "{ mode = \"trap\", at = \"sum.accumulate\", number = 50 }");
    victim.write_parts();
    let sums = victim.path("sums");
    victim.set("sinks.sums", format!("{{ connector = \"file\", folder = \"{}\", format = \"jsonl\" }}", sums.display()));
    victim.torment(&[1, 2], 12, Moment::draw_elsewhere);
    let mut expected = std::collections::BTreeMap::<(i64, i64), i64>::new();
    for n in (0..ROWS).filter(|n| number(*n) != 50) {
        *expected.entry((n / 100, n % 3)).or_default() += number(n);
    }
    let mut expected: Vec<_> = expected.values().map(|sum| format!("{{\"sum\":{sum}}}")).collect();
    expected.sort_unstable();
    victim.compare(&expected, &published(&sums));
}
