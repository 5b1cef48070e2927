//! What a job spec says about failures: how often a job is checkpointed, where to, and how it starts again.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::units::SpecDuration;

/// How a job is checkpointed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointSpec {
    /// where checkpoints lie: a URL (`file:///directory`, `s3://bucket/prefix`), or a folder, relative to the spec. None: there are no checkpoints
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<String>,
    /// options of the storage: `endpoint`, `region`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// from the start of one checkpoint to the start of the next. None: they are made on request alone
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<SpecDuration>,
    /// what tasks do with rows that come between the barriers of their inputs
    pub mode: CheckpointMode,
    /// in the mode `unaligned`: how long barriers wait behind rows before they overtake them
    pub aligned_timeout: SpecDuration,
    /// how long a checkpoint may take
    pub timeout: SpecDuration,
    /// from the end of one checkpoint to the start of the next, at least
    pub min_pause: SpecDuration,
    /// how many checkpoints may fail one after the other
    pub tolerated_failures: u32,
    /// how many complete checkpoints are kept
    pub retained: NonZeroUsize,
}

impl Default for CheckpointSpec {
    fn default() -> Self {
        Self {
            storage: None,
            options: BTreeMap::new(),
            interval: None,
            mode: CheckpointMode::default(),
            aligned_timeout: SpecDuration(Duration::ZERO),
            timeout: SpecDuration(Duration::from_mins(10)),
            min_pause: SpecDuration(Duration::ZERO),
            tolerated_failures: 3,
            retained: NonZeroUsize::MIN.saturating_add(1),
        }
    }
}

/// What tasks do with rows that come between the barriers of their inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckpointMode {
    /// inputs whose barrier has come wait for the others: state counts each row exactly once
    #[default]
    #[serde(alias = "exactly-once")]
    Aligned,
    /// barriers overtake rows, which become part of the checkpoint: as exact, and not slowed down by back-pressure, but larger
    Unaligned,
    /// no input waits: after a failure, state may count rows twice
    AtLeastOnce,
}

/// How a job that has failed starts again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartSpec {
    /// the strategy. None: `exponential` for a job with checkpoints, and `none` for one without, which would write its rows again
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RestartStrategy>,
    /// `fixed`, `failure-rate`: how long to wait (1 s). `exponential`: how long to wait at first (100 ms)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<SpecDuration>,
    /// `exponential`: how long to wait at most (1 m)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delay: Option<SpecDuration>,
    /// `exponential`: after how long without a failure the delay is the first one again (10 m). `failure-rate`: the time in which failures are counted (5 m)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<SpecDuration>,
    /// `fixed`: how often (3). `failure-rate`: how often within the window (3). `exponential`: how often in a row (without end)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<NonZeroU16>,
}

/// When, and how often, a job that has failed starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartStrategy {
    /// not at all
    None,
    /// after the same time, so many times
    Fixed,
    /// after a time that doubles with each failure
    Exponential,
    /// after the same time, unless there were too many failures lately
    FailureRate,
}

impl CheckpointSpec {
    /// Checks what types alone cannot say.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.interval.is_some_and(|interval| interval.0 < Duration::from_millis(10)) {
            return Err(Error::new("checkpoint.interval must be at least 10ms"));
        }
        if self.timeout.0.is_zero() {
            return Err(Error::new("checkpoint.timeout must be more than 0"));
        }
        if !self.aligned_timeout.0.is_zero() && self.mode != CheckpointMode::Unaligned {
            return Err(Error::new("checkpoint.aligned_timeout is for `checkpoint.mode = \"unaligned\"` only"));
        }
        if self.storage.is_none() && !self.options.is_empty() {
            return Err(Error::new("checkpoint.options are options of checkpoint.storage, which is missing"));
        }
        Ok(())
    }
}
