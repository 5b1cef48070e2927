//! The life cycle of a job.
//!
//! ```text
//! Created ─▶ Deploying ─▶ Running ─▶ Finished
//!                │         │   ▲
//!                │         ▼   │
//!                │       Restarting
//!                │           │
//!                ├───────────┼─▶ Draining ───▶ Finished
//!                ├───────────┴─▶ Cancelling ─▶ Cancelled   (also from Draining)
//!                ▼
//!              Failed   (from every state that is not an end) ─▶ Cancelled   (if it was to be tried again)
//! ```
//!
//! [`next`] decides; whoever owns the job carries out the [`Command`]s, in their order, and feeds what happens back as [`Event`]s.
//! How a job ended is what its worker says: one that finishes before a cancel reaches it has finished.

use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// it is accepted, and holds nothing yet
    Created,
    /// its tasks are being opened
    Deploying,
    /// rows flow
    Running,
    /// it has failed, and starts again
    Restarting,
    /// it reads nothing more, and finishes what was read
    Draining,
    /// it was told to end now
    Cancelling,
    /// its input ended, or it was drained
    Finished,
    /// it was ended
    Cancelled,
    /// it failed
    Failed,
}

impl State {
    /// Whether the job has ended.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Finished | Self::Cancelled | Self::Failed)
    }

    /// The state's name, as the API and the command line say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Deploying => "deploying",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Draining => "draining",
            Self::Cancelling => "cancelling",
            Self::Finished => "finished",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// it got its slots
    Scheduled,
    /// all its tasks are open
    Opened,
    /// its tasks have failed, and others will take their place
    Failed,
    /// somebody wants it to drain
    StopRequested,
    /// somebody wants it to end now
    CancelRequested,
    /// its tasks ended
    Ended(End),
    /// it has failed and was to be tried again one day, which somebody does not want any more
    Abandoned,
}

/// How tasks ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// the input ended, or was drained
    Finished,
    /// they were told to end
    Cancelled,
    /// one of them failed, or could not be opened; or the job could not be scheduled at all
    Failed,
}

/// What the owner of the job has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// bring the job onto its worker
    Deploy,
    /// tell the worker to drain
    Drain,
    /// tell the worker to end
    Cancel,
    /// give the slots back
    ReleaseSlots,
}

/// The event does not fit the state: nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the job is {state}")]
pub struct Refused {
    /// the state that it stays in
    pub state: State,
}

/// The next state of a job, and what has to be done to get there.
///
/// Asking twice for the same end is asking once. A cancel overtakes a drain; a drain does not overtake a cancel. What has ended stays as
/// it is, but for a job that has failed and is abandoned.
///
/// # Errors
/// If the event does not fit the state: the job has ended, or has not been scheduled.
pub fn next(state: State, event: Event) -> Result<(State, &'static [Command]), Refused> {
    use Event::{Abandoned, CancelRequested, Ended, Opened, Scheduled, StopRequested};
    use State::{Cancelled, Cancelling, Created, Deploying, Draining, Finished, Restarting, Running};
    let to: (State, &[Command]) = match (state, event) {
        (Created, Scheduled) => (Deploying, &[Command::Deploy]),
        // It never got slots, so there is nothing to give back.
        (Created, StopRequested | CancelRequested) => (Cancelled, &[]),
        (Created, Ended(End::Failed)) => (State::Failed, &[]),
        (Deploying | Restarting, Opened) => (Running, &[]),
        (Draining | Cancelling, Opened | Event::Failed) => (state, &[]),
        (Deploying | Running | Restarting, Event::Failed) => (Restarting, &[]),
        (Deploying | Running | Restarting, StopRequested) => (Draining, &[Command::Drain]),
        (Draining, StopRequested) => (Draining, &[]),
        (Deploying | Running | Restarting | Draining, CancelRequested) => (Cancelling, &[Command::Cancel]),
        (Cancelling, StopRequested | CancelRequested) => (Cancelling, &[]),
        (Deploying | Running | Restarting | Draining | Cancelling, Ended(end)) => {
            let end = match end {
                End::Finished => Finished,
                End::Cancelled => Cancelled,
                End::Failed => State::Failed,
            };
            (end, &[Command::ReleaseSlots])
        }
        // Its slots are free since it has failed.
        (State::Failed, Abandoned) => (Cancelled, &[]),
        (Created, Opened | Event::Failed | Ended(End::Finished | End::Cancelled) | Abandoned)
        | (Deploying | Running | Restarting | Draining | Cancelling, Scheduled | Abandoned)
        | (Running, Opened)
        | (Finished | Cancelled | State::Failed, _) => return Err(Refused { state }),
    };
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::Event::{Abandoned, CancelRequested, Ended, Opened, Scheduled, StopRequested};
    use super::State::*;
    use super::*;

    const STATES: [State; 9] = [Created, Deploying, Running, Restarting, Draining, Cancelling, Finished, Cancelled, Failed];
    const EVENTS: [Event; 9] = [
        Scheduled,
        Opened,
        Event::Failed,
        StopRequested,
        CancelRequested,
        Ended(End::Finished),
        Ended(End::Cancelled),
        Ended(End::Failed),
        Abandoned,
    ];

    /// Whole lives: each event of a row leads to the state under it.
    #[test]
    fn lives() {
        let lives: [(&[Event], &[State]); 9] = [
            (&[Scheduled, Opened, Ended(End::Finished)], &[Deploying, Running, Finished]),
            (
                &[Scheduled, Opened, Event::Failed, Opened, StopRequested, Event::Failed, Opened, Ended(End::Finished)],
                &[Deploying, Running, Restarting, Running, Draining, Draining, Draining, Finished],
            ),
            (&[Scheduled, Opened, StopRequested, Ended(End::Finished)], &[Deploying, Running, Draining, Finished]),
            (
                &[Scheduled, StopRequested, Opened, CancelRequested, Ended(End::Cancelled)],
                &[Deploying, Draining, Draining, Cancelling, Cancelled],
            ),
            (&[Scheduled, CancelRequested, Ended(End::Finished)], &[Deploying, Cancelling, Finished]),
            (&[Scheduled, Ended(End::Failed)], &[Deploying, Failed]),
            (&[Scheduled, Ended(End::Failed), Abandoned], &[Deploying, Failed, Cancelled]),
            (&[CancelRequested], &[Cancelled]),
            (&[Ended(End::Failed)], &[Failed]),
        ];
        for (events, states) in lives {
            let mut state = Created;
            for (event, expected) in events.iter().zip(states) {
                state = next(state, *event).expect("a legal step").0;
                assert_eq!(state, *expected, "{events:?} at {event:?}");
            }
            assert!(state.is_end());
        }
    }

    /// Slots are given back exactly when a job that has got some ends, and no end is ever left, but by a job that has failed and is abandoned.
    #[test]
    fn slots_are_given_back_once() {
        for state in STATES {
            for event in EVENTS {
                match next(state, event) {
                    Ok((to, commands)) => {
                        let is_abandoned = (state, event) == (Failed, Abandoned);
                        assert!(!state.is_end() || is_abandoned && to == Cancelled, "{state} is left by {event:?}");
                        let releases = commands.contains(&Command::ReleaseSlots);
                        assert_eq!(releases, to.is_end() && state != Created && !is_abandoned, "{state}, {event:?}");
                        assert_eq!(commands.contains(&Command::Deploy), state == Created && to == Deploying);
                    }
                    Err(refused) => assert_eq!(refused.state, state),
                }
            }
        }
    }

    /// Asking for an end twice changes nothing the second time, and a drain does not undo a cancel.
    #[test]
    fn asking_twice_is_asking_once() {
        assert_eq!(next(Draining, StopRequested), Ok((Draining, &[][..])));
        assert_eq!(next(Cancelling, CancelRequested), Ok((Cancelling, &[][..])));
        assert_eq!(next(Cancelling, StopRequested), Ok((Cancelling, &[][..])));
        assert_eq!(next(Draining, CancelRequested), Ok((Cancelling, &[Command::Cancel][..])));
    }
}
