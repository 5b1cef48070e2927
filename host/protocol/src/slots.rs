//! Which slots of a worker are taken.
//!
//! A job has its slots from when it is accepted until it has ended, whether or not its tasks hold them at the moment: they do not before they are deployed, nor
//! while the job waits to start again. One that is cancelled may end before its tasks do, if those wait for something that does not answer. What they hold until
//! then is nobody's, and not free.

use std::collections::BTreeMap;

/// How many slots are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// by jobs that have not ended
    pub by_jobs: u16,
    /// by tasks whose job has
    pub left: u16,
}

impl Taken {
    /// What is taken by these jobs, which have not ended, where tasks of these (`held`) hold slots.
    pub fn of<J: Ord>(jobs: impl IntoIterator<Item = (J, u16)>, held: impl IntoIterator<Item = (J, u16)>) -> Self {
        let jobs: BTreeMap<J, u16> = jobs.into_iter().collect();
        let left = held.into_iter().filter(|(job, _)| !jobs.contains_key(job)).map(|(_, slots)| slots);
        Self { left: left.fold(0, u16::saturating_add), by_jobs: jobs.into_values().fold(0, u16::saturating_add) }
    }

    /// All of them. A server that has fewer slots than its last process may find more than there are.
    pub fn total(self) -> u16 {
        self.by_jobs.saturating_add(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(jobs: &[(&str, u16)], held: &[(&str, u16)]) -> (u16, u16) {
        let Taken { by_jobs, left } = Taken::of(jobs.iter().copied(), held.iter().copied());
        (by_jobs, left)
    }

    /// The slots of a job that ends before its tasks do are taken until those have ended, and those of each other job once, whatever its tasks hold.
    #[test]
    fn slots_are_taken_until_tasks_have_ended() {
        let steps: [(&[_], &[_], _); 7] = [
            (&[], &[], (0, 0)),
            // It is accepted, deployed, and starts again.
            (&[("a", 2)], &[], (2, 0)),
            (&[("a", 2)], &[("a", 2)], (2, 0)),
            (&[("a", 2), ("b", 3)], &[("a", 2)], (5, 0)),
            // It was cancelled, and its tasks are still there.
            (&[("b", 3)], &[("a", 2), ("b", 3)], (3, 2)),
            (&[("b", 3)], &[("b", 3)], (3, 0)),
            (&[("c", u16::MAX), ("b", 3)], &[("a", 2)], (u16::MAX, 2)),
        ];
        for (jobs, held, expected) in steps {
            assert_eq!(taken(jobs, held), expected, "{jobs:?}, {held:?}");
        }
        assert_eq!(Taken { by_jobs: u16::MAX, left: 2 }.total(), u16::MAX);
    }
}
