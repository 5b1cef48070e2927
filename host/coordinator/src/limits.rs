//! How much a job of the API may ask for, whatever its spec says.
//!
//! A spec bounds what the job's own guests do; the server is shared, and bounds what a spec may say. Jobs of `weir run` are the user's own:
//! none of this holds for them.

use std::time::Duration;

use weir_plan::JobSpec;

use crate::error::{self, Error, ErrorKind};

/// How long a guest call may run.
const CALL_DEADLINE_MAX: Duration = Duration::from_secs(60);
/// How much a job may log in a second.
const LOG_BYTES_PER_SECOND_MAX: u64 = 1 << 20;
/// How many batches a channel may hold. There may be as many channels as parallelism squared.
const CHANNEL_CAPACITY_MAX: usize = 64;
/// How many bytes of rows a channel may hold. That all of a job's share what the server lets it take is the worker's matter.
const CHANNEL_BYTES_MAX: u64 = 64 << 20;
/// How many parts a subtask may write at the same time, to one sink. Each has buffers, and an open file.
const OPEN_PARTS_MAX: i64 = 256;
/// How often a job may be checkpointed.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// How many checkpoints of a job are kept.
const CHECKPOINTS_RETAINED_MAX: usize = 16;
/// How many rows a batch may have.
const BATCH_ROWS_MAX: usize = 64 << 10;

/// Checks a spec against the server's limits. `guest_memory_max` is the most that its sandbox gives to an instance, in bytes.
///
/// # Errors
/// If it asks for more.
pub fn check(spec: &JobSpec, guest_memory_max: usize) -> Result<(), Error> {
    let refuse = |option: &str, wanted: String, most: String| {
        let message = format!("{option} is {wanted}, but this server allows {most} at most; lower it");
        Err(Error::new(ErrorKind::Invalid, error::NOT_ALLOWED, message))
    };
    let (limits, batch, checkpoint) = (&spec.limits, &spec.batch, &spec.checkpoint);
    if checkpoint.storage.is_some() || !checkpoint.options.is_empty() {
        let message = "where checkpoints lie is for this server to say: leave checkpoint.storage and checkpoint.options out; checkpoint.interval is enough";
        return Err(Error::new(ErrorKind::Invalid, error::NOT_ALLOWED, message));
    }
    if checkpoint.interval.is_some_and(|interval| interval.0 < CHECKPOINT_INTERVAL_MIN) {
        let message = format!("checkpoint.interval must be at least {CHECKPOINT_INTERVAL_MIN:?} on this server");
        return Err(Error::new(ErrorKind::Invalid, error::NOT_ALLOWED, message));
    }
    if checkpoint.retained.get() > CHECKPOINTS_RETAINED_MAX {
        return refuse("checkpoint.retained", checkpoint.retained.to_string(), CHECKPOINTS_RETAINED_MAX.to_string());
    }
    if limits.call_deadline.0 > CALL_DEADLINE_MAX {
        return refuse("limits.call_deadline", format!("{:?}", limits.call_deadline.0), format!("{CALL_DEADLINE_MAX:?}"));
    }
    for (option, wanted, most) in [
        ("limits.guest_memory", limits.guest_memory.0, guest_memory_max as u64),
        ("limits.log_bytes_per_second", limits.log_bytes_per_second.0, LOG_BYTES_PER_SECOND_MAX),
        ("batch.rows", batch.rows as u64, BATCH_ROWS_MAX as u64),
        ("batch.channel_capacity", batch.channel_capacity as u64, CHANNEL_CAPACITY_MAX as u64),
        ("batch.channel_bytes", batch.channel_bytes.0, CHANNEL_BYTES_MAX),
    ] {
        if wanted > most {
            return refuse(option, wanted.to_string(), most.to_string());
        }
    }
    for (name, sink) in &spec.sinks {
        // Of another type, it is for the connector to refuse.
        let wanted = sink.options.get("open_parts_max").and_then(toml::Value::as_integer);
        if let Some(wanted) = wanted.filter(|wanted| *wanted > OPEN_PARTS_MAX) {
            return refuse(&format!("sinks.{name}.open_parts_max"), wanted.to_string(), OPEN_PARTS_MAX.to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the server allows is let through, and what is a little more is refused by its name.
    #[test]
    fn limits_hold() {
        const MEMORY: usize = 1 << 30;
        let checked = |option: &str, value: &str| {
            let spec = "component = \"a.wasm\"\n[sources]\n[sinks.out]\nconnector = \"file\"\n";
            let spec = JobSpec::from_toml(spec, &[(option.to_owned(), value.to_owned())]).expect("a good spec");
            check(&spec, MEMORY)
        };
        for (option, good, bad) in [
            ("limits.call_deadline", "60s", "61s"),
            ("limits.guest_memory", "1GB", "1073741825"),
            ("limits.log_bytes_per_second", "1MB", "1025KB"),
            ("batch.rows", "65536", "65537"),
            ("batch.channel_capacity", "64", "65"),
            ("batch.channel_bytes", "64MB", "67108865"),
            ("sinks.out.open_parts_max", "256", "257"),
        ] {
            assert_eq!(checked(option, good), Ok(()), "{option}");
            let error = checked(option, bad).expect_err(option);
            assert_eq!(error.code, error::NOT_ALLOWED);
            assert!(error.message.starts_with(option) && error.message.ends_with("at most; lower it"), "{error}");
        }
    }
}
