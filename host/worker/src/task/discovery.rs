//! Looks for new splits while a job runs.
//!
//! Each subtask asks for itself, beside its work, and takes the splits whose ids hash to its number; the others do the same with theirs. What nobody has taken yet
//! when a checkpoint is made is new again to the job that starts from it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::oneshot::{self, error::TryRecvError};
use weir_connector::error::ErrorKind;
use weir_connector::{Error, Source, Split};

use crate::fnv::fnv;

/// Looks for new splits of a source on behalf of a subtask.
pub(super) struct Discovery {
    every: Duration,
    /// the ids of all that were listed so far, those of other subtasks included
    known: HashSet<String>,
    subtask: u16,
    parallelism: u16,
    next: Instant,
    /// the answer that is waited for
    asked: Option<oneshot::Receiver<Result<Vec<Split>, Error>>>,
}

impl Discovery {
    pub(super) fn new(every: Duration, known: HashSet<String>, subtask: u16, parallelism: u16) -> Self {
        Self { every, known, subtask, parallelism, next: Instant::now() + every, asked: None }
    }

    /// Asks if it is time to, and returns what the subtask is to read besides. `wake` is notified when there is an answer.
    pub(super) fn look(&mut self, source: &Arc<dyn Source>, wake: &Arc<Notify>) -> Result<Vec<Split>, Error> {
        let Some(asked) = &mut self.asked else {
            if Instant::now() >= self.next {
                let (answer, asked) = oneshot::channel();
                let (source, known, wake) = (Arc::clone(source), self.known.clone(), Arc::clone(wake));
                self.asked = Some(asked);
                tokio::task::spawn_blocking(move || {
                    // The subtask may have ended.
                    let _ = answer.send(source.new_splits(&known));
                    wake.notify_one();
                });
            }
            return Ok(vec![]);
        };
        let found = match asked.try_recv() {
            Err(TryRecvError::Empty) => return Ok(vec![]),
            Err(TryRecvError::Closed) => vec![],
            Ok(Ok(found)) => found,
            Ok(Err(error)) if matches!(error.kind, ErrorKind::Options | ErrorKind::Gone) => return Err(error),
            // The outside, or what is listed, may be away for a while: the next time will show what there is.
            Ok(Err(_)) => vec![],
        };
        self.asked = None;
        self.next = Instant::now() + self.every;
        self.known.extend(found.iter().map(|split| split.id.clone()));
        Ok(found.into_iter().filter(|split| owner(&split.id, self.parallelism) == self.subtask).collect())
    }

    /// When to look again, unless an answer wakes the subtask.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.asked.is_none().then_some(self.next)
    }
}

/// The subtask that reads a split of this id.
fn owner(id: &str, parallelism: u16) -> u16 {
    (fnv(id.bytes()) % u64::from(parallelism.max(1))) as u16
}

#[cfg(test)]
mod tests {
    use weir_connector::Reader;

    use super::*;

    /// A source that cannot list what is new, in this way.
    struct Failing(fn(&'static str) -> Error);

    impl Source for Failing {
        fn splits(&self, _: u16) -> Result<Vec<Split>, Error> {
            Err(self.0("there is no topic"))
        }

        fn reader(&self, _: &Split, _: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
            Err(self.0("there is no topic"))
        }
    }

    /// Goal: what is missing may come back, so that it is looked for again; what is gone for good, or cannot be, ends the job.
    #[tokio::test]
    async fn what_is_missing_is_looked_for_again() {
        let looked = async |failing: fn(&'static str) -> Error| {
            let (source, wake): (Arc<dyn Source>, _) = (Arc::new(Failing(failing)), Arc::new(Notify::new()));
            let mut discovery = Discovery::new(Duration::ZERO, HashSet::new(), 0, 1);
            discovery.look(&source, &wake).map(|found| assert_eq!(found, vec![])).expect("nobody has answered");
            wake.notified().await;
            let answer = discovery.look(&source, &wake);
            (answer.map(|found| found.len()).map_err(|e| e.kind), discovery.not_before().is_some())
        };
        assert_eq!(looked(Error::missing).await, (Ok(0), true));
        assert_eq!(looked(Error::gone).await.0, Err(ErrorKind::Gone));
        assert_eq!(looked(Error::options).await.0, Err(ErrorKind::Options));
    }
}
