//! What follows where an operator with state has failed on a row: how the next attempt does better.

use std::sync::Arc;
use std::time::Duration;

use weir_plan::job::OnError;
use weir_plan::spec::ErrorPolicy;
use weir_worker::Culprit;

/// How many rows an execution remembers on which operators have failed.
const CULPRITS_MAX: usize = 10_000;

/// An attempt has failed on a row: counts that among the `known` ones, of which the next attempt is told. Returns after how long that starts, whatever the job's
/// restart strategy: it gives the row to the operator again while there are retries left, and after that it goes on without it. None if neither will do: the
/// policy is to fail, the row is barred already and did not pass by, or too many are known.
pub(super) fn count(known: &mut Vec<Arc<Culprit>>, row: &Culprit) -> Option<Duration> {
    let place = known.iter().position(|known| **known == *row);
    let failures = place.map_or(0, |place| known[place].failures);
    let OnError { policy, retries, pause } = row.on_error;
    let delay = if failures < u32::from(retries) {
        pause
    } else if failures == u32::from(retries) && policy != ErrorPolicy::Fail {
        Duration::ZERO
    } else {
        return None;
    };
    let row = Arc::new(Culprit { failures: failures + 1, ..row.clone() });
    match place {
        Some(place) => known[place] = row,
        None if known.len() < CULPRITS_MAX => known.push(row),
        None => return None,
    }
    Some(delay)
}

#[cfg(test)]
mod tests {
    use weir_sandbox::{GuestError, GuestErrorKind};
    use weir_types::Batch;

    use super::*;

    const PAUSE: Duration = Duration::from_millis(7);

    /// The row of this event time, on which an operator has failed.
    fn culprit(time: i64, policy: ErrorPolicy, retries: u16, message: &str) -> Culprit {
        Culprit {
            operator: "sum".into(),
            port: 0,
            row: Batch::new(1, vec![], Some(vec![time].into())),
            error: GuestError::new(GuestErrorKind::Trap, message),
            on_error: OnError { policy, retries, pause: PAUSE },
            failures: 1,
        }
    }

    /// Goal: each row has retries of its own, with a pause before each; then the job goes on without it at once. It fails if that is the policy, and where the row
    /// comes all the same.
    #[test]
    fn rows_are_tried_again_before_the_policy_ends_it() {
        for (policy, retries, expected) in [
            (ErrorPolicy::Skip, 0, &[Some(Duration::ZERO), None, None][..]),
            (ErrorPolicy::DeadLetter, 2, &[Some(PAUSE), Some(PAUSE), Some(Duration::ZERO), None]),
            (ErrorPolicy::Fail, 2, &[Some(PAUSE), Some(PAUSE), None, None]),
            (ErrorPolicy::Fail, 0, &[None, None]),
        ] {
            let mut known = vec![];
            for (i, expected) in expected.iter().enumerate() {
                for time in [1, 2] {
                    let delay = count(&mut known, &culprit(time, policy, retries, &format!("failure {i}")));
                    assert_eq!(delay, *expected, "{policy:?} with {retries} retries, failure {i} of row {time}");
                }
                if expected.is_some() {
                    let counted: Vec<_> = known.iter().map(|row| (row.failures as usize, row.error.message.clone())).collect();
                    assert_eq!(counted, vec![(i + 1, format!("failure {i}")); 2], "the last error is the one that is told");
                }
            }
        }
    }

    /// Goal: what is remembered is bounded; rows that are known are counted all the same.
    #[test]
    fn too_many_rows_fail_the_job() {
        let row = |time| culprit(time, ErrorPolicy::Skip, 1, "ouch");
        // The same row again and again: only how many there are matters here.
        let mut known = std::iter::repeat_n(Arc::new(row(1)), CULPRITS_MAX).collect::<Vec<_>>();
        assert_eq!(count(&mut known, &row(2)), None);
        assert_eq!(count(&mut known, &row(1)), Some(Duration::ZERO));
        assert_eq!(known.len(), CULPRITS_MAX);
    }
}
