//! What a job spec says about failures: how often a job is checkpointed, where to, and how it starts again.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::units::SpecDuration;

/// How long the strategies `fixed` and `failure-rate` wait where the spec does not say.
pub const DELAY: Duration = Duration::from_secs(1);
/// How long the strategy `exponential` waits at first where the spec does not say.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// In which time the strategy `failure-rate` counts failures where the spec does not say.
pub const WINDOW: Duration = Duration::from_mins(5);
/// How often the strategies `fixed` and `failure-rate` start a job again where the spec does not say.
pub const ATTEMPTS: u16 = 3;

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

impl RestartStrategy {
    /// As specs write it.
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Fixed => "fixed",
            Self::Exponential => "exponential",
            Self::FailureRate => "failure-rate",
        }
    }

    /// Which other keys of `restart` it goes by.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Fixed => &["delay", "attempts"],
            Self::Exponential => &["delay", "max_delay", "window", "attempts"],
            Self::FailureRate => &["delay", "window", "attempts"],
        }
    }
}

impl RestartSpec {
    /// The strategy of a job that has checkpoints, or has none.
    pub fn strategy_of(&self, has_checkpoints: bool) -> RestartStrategy {
        let default = if has_checkpoints { RestartStrategy::Exponential } else { RestartStrategy::None };
        self.strategy.unwrap_or(default)
    }

    /// Checks what types alone cannot say: that nothing is set which then counts for nothing.
    pub(crate) fn check(&self, has_checkpoints: bool) -> Result<(), Error> {
        let strategy = self.strategy_of(has_checkpoints);
        self.check_keys(strategy)?;
        let delay = |default| self.delay.map_or(default, |delay| delay.0);
        match strategy {
            RestartStrategy::Exponential if self.max_delay.is_some_and(|max| max.0 < delay(FIRST_DELAY)) => {
                Err(Error::new(format!("restart.max_delay must be at least restart.delay ({:?})", delay(FIRST_DELAY))))
            }
            RestartStrategy::FailureRate => {
                let attempts = self.attempts.map_or(ATTEMPTS, NonZeroU16::get);
                let apart = delay(DELAY).saturating_mul(attempts.into());
                if self.window.map_or(WINDOW, |window| window.0) > apart {
                    return Ok(());
                }
                Err(Error::new(format!(
                    "restart.window must be more than {apart:?}, which is restart.attempts ({attempts}) times restart.delay: more failures are never closer \
                     together"
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_keys(&self, strategy: RestartStrategy) -> Result<(), Error> {
        use RestartStrategy::{Exponential, FailureRate, Fixed};
        let keys = [
            ("delay", self.delay.is_some()),
            ("max_delay", self.max_delay.is_some()),
            ("window", self.window.is_some()),
            ("attempts", self.attempts.is_some()),
        ];
        let Some((key, _)) = keys.iter().find(|(key, is_set)| *is_set && !strategy.keys().contains(key)) else { return Ok(()) };
        let readers = [Fixed, Exponential, FailureRate].into_iter().filter(|reader| reader.keys().contains(key));
        let readers: Vec<_> = readers.map(|reader| format!("\"{}\"", reader.name())).collect();
        let own = match self.strategy {
            Some(own) => format!("which is \"{}\" here", own.name()),
            None => "which is \"none\" for a job without checkpoints that does not set it".to_owned(),
        };
        Err(Error::new(format!("restart.{key} is for the restart.strategy {} only, {own}", readers.join(" or "))))
    }
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
