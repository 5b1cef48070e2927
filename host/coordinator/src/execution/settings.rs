//! What a job's spec says about failures, as those who decide want it.

use std::sync::Arc;
use std::time::Duration;

use weir_checkpoint::{Savepoint, Storage};
use weir_plan::recovery::{self, CheckpointSpec, RestartSpec, RestartStrategy};
use weir_plan::units::SpecDuration;
use weir_protocol::checkpoint::{CheckpointId, Config};
use weir_protocol::restart::Strategy;

/// Where a job's checkpoints lie.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    /// the storage
    pub storage: Storage,
    /// what the job is called there; whoever has the same name and storage continues the same job
    pub job: String,
}

/// What a job starts from.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// a savepoint, instead of the job's newest checkpoint
    pub savepoint: Option<Arc<Savepoint>>,
    /// nothing, although there may be checkpoints
    pub fresh: bool,
    /// whether state of operators that the job has not any more is left behind
    pub drops_unmatched: bool,
    /// the checkpoint that the job is known to have had: as long as neither this one nor a later one is in its log, no attempt begins. None: the job may never
    /// have run
    pub expected: Option<CheckpointId>,
    /// whether the job fails for good where it has had checkpoints and none of them can be used, since somebody is there who can say what to do; if not, it waits
    /// until one can be
    pub gives_up: bool,
}

/// When checkpoints are made.
pub(super) fn config(spec: &CheckpointSpec, stores: bool) -> Config {
    Config {
        store: stores,
        interval_ms: spec.interval.map(ms),
        min_pause_ms: ms(spec.min_pause),
        timeout_ms: ms(spec.timeout),
        tolerated_failures: spec.tolerated_failures,
    }
}

/// When a job starts again.
pub(super) fn strategy(spec: &RestartSpec, has_checkpoints: bool) -> Strategy {
    let attempts = spec.attempts.map(|attempts| u32::from(attempts.get()));
    let or = |duration: Option<SpecDuration>, default: Duration| ms(duration.unwrap_or(SpecDuration(default)));
    match spec.strategy_of(has_checkpoints) {
        RestartStrategy::None => Strategy::None,
        RestartStrategy::Fixed => {
            Strategy::Fixed { delay_ms: or(spec.delay, recovery::DELAY), attempts: attempts.unwrap_or(recovery::ATTEMPTS.into()) }
        }
        RestartStrategy::Exponential => Strategy::Exponential {
            delay_ms: or(spec.delay, recovery::FIRST_DELAY),
            max_delay_ms: or(spec.max_delay, Duration::from_mins(1)),
            reset_ms: or(spec.window, Duration::from_mins(10)),
            attempts,
        },
        RestartStrategy::FailureRate => Strategy::FailureRate {
            delay_ms: or(spec.delay, recovery::DELAY),
            window_ms: or(spec.window, recovery::WINDOW),
            attempts: attempts.unwrap_or(recovery::ATTEMPTS.into()),
        },
    }
}

fn ms(duration: SpecDuration) -> u64 {
    u64::try_from(duration.0.as_millis()).unwrap_or(u64::MAX)
}
