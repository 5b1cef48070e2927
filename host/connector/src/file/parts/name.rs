//! The names of parts: `part-SINK-JOB-LOG-GENERATION-SUBTASK-SEQUENCE.EXTENSION`, where jobs without checkpoints have no `LOG-`.
//!
//! Sink, job and log are escaped, so that the dashes are those between the pieces.

use std::fmt::Write;

use crate::{Attempt, Error};

/// How long the names of sink and job may be together, escaped: a file system takes names of 255 bytes.
const BYTES_MAX: usize = 160;

/// What the names of one sink's parts have in common.
#[derive(Debug)]
pub(super) struct Series {
    /// `part-SINK-JOB-LOG-`
    prefix: String,
    generation: u64,
}

impl Series {
    /// Those of a sink in an attempt.
    pub fn new(sink: &str, attempt: &Attempt) -> Result<Self, Error> {
        let (sink, job) = (escaped(sink), escaped(&attempt.job));
        if sink.len() + job.len() > BYTES_MAX {
            return Err(Error::options(format!(
                "files are named after the sink \"{sink}\" and the job \"{job}\", which are longer than {BYTES_MAX} bytes together; give the sink a shorter name"
            )));
        }
        let log = if attempt.log.is_empty() { String::new() } else { format!("{}-", escaped(&attempt.log)) };
        Ok(Self { prefix: format!("part-{sink}-{job}-{log}"), generation: attempt.generation })
    }

    /// The name of a part.
    pub fn name(&self, subtask: u16, sequence: u64, extension: &str) -> String {
        format!("{}{:06}-{subtask:05}-{sequence:06}.{extension}", self.prefix, self.generation)
    }

    /// Whether a part of this name was written by the same sink in an older attempt.
    pub fn is_older(&self, name: &str) -> bool {
        let Some(rest) = name.strip_prefix(&self.prefix) else { return false };
        // No log's id is taken for a generation: behind that there are just two more numbers.
        let mut pieces =
            rest.split_once('.').map_or(rest, |(pieces, _)| pieces).split('-').map(|piece| piece.parse::<u64>().ok());
        let (generation, subtask, sequence) = (pieces.next().flatten(), pieces.next().flatten(), pieces.next().flatten());
        let is_name = subtask.and(sequence).is_some() && pieces.next().is_none();
        is_name && generation.is_some_and(|generation| generation < self.generation)
    }
}

/// The text without anything but letters and digits of ASCII, `_` and `.`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("text takes text");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_attempts_apart() {
        // Goal: only parts of the same sink and job, and of an older generation, are older; whatever dashes the names hold.
        let series = |sink: &str, job: &str, generation| {
            Series::new(sink, &Attempt { job: job.into(), generation, ..Attempt::default() }).expect("short names")
        };
        let of = |sink, job, generation| series(sink, job, generation).name(3, 7, "jsonl");
        assert_eq!(of("out", "job_1", 12), "part-out-job_1-000012-00003-000007.jsonl");
        let of_log = |log: &str| Series::new("a", &Attempt { job: "b".into(), log: log.into(), generation: 9, continues: false });
        let in_log = |log: &str| of_log(log).expect("short names").name(3, 7, "jsonl");
        assert_eq!(in_log("0k1"), "part-a-b-0k1-000009-00003-000007.jsonl");
        assert_eq!(of("a-b/ü", "", 1_700_000_000_000), "part-a%2Db%2F%C3%BC--1700000000000-00003-000007.jsonl");
        let new = series("a", "b", 10);
        assert!(new.is_older(&of("a", "b", 9)));
        assert!(new.is_older(&of("a", "b", 0)));
        let others = [of("a", "b", 10), of("a", "b", 11), of("a", "c", 9), of("a-b", "", 9), of("a", "b-1", 9), of("", "a-b", 9)];
        for other in others.into_iter().chain([in_log("0k1"), in_log("1")]) {
            assert!(!new.is_older(&other), "{other}");
        }
        assert!(!new.is_older("part-a-b-x") && !new.is_older("other"));
        assert!(Series::new(&"x".repeat(200), &Attempt::default()).is_err());
    }
}
