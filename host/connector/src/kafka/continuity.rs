//! Whether a position still stands for the records that it stood for, and what to do where it does not. Pure: brokers are asked elsewhere.

use std::fmt;

use super::options::OnLost;

/// How far a partition has been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Position<'a> {
    /// which of all topics that ever had the name it was; none = nobody has noted it
    pub topic_id: Option<&'a str>,
    /// the offset of the next record
    pub next: i64,
    /// where reading ends; none = nowhere
    pub end: Option<i64>,
}

impl Position<'_> {
    /// Whether nothing is left to be read: then it does not matter what the brokers have.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }

    /// The offset that the partition is known to have got to.
    pub fn reached(&self) -> i64 {
        self.end.unwrap_or(self.next)
    }
}

/// What the brokers have of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log<'a> {
    /// none = the brokers give topics no ids
    pub topic_id: Option<&'a str>,
    /// the offset of the oldest record
    pub oldest: i64,
    /// the one behind the newest
    pub newest: i64,
}

/// Where reading goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GoesOn {
    pub at: i64,
    /// how many offsets before that are passed over, since their records are gone
    pub lost: i64,
}

/// Why a position cannot be read on from, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// it is one of another topic, which had the name before
    MadeAnew { next: i64 },
    /// it lies behind the end
    Beyond { reached: i64, newest: i64 },
    /// records from there on are not kept any more
    Lost { next: i64, oldest: i64 },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MadeAnew { next } => {
                write!(f, "the topic was made anew since it was read up to offset {next}, which stands for another record now")
            }
            Self::Beyond { reached, newest } => {
                write!(f, "offset {reached} is beyond its end, which is {newest}: it was made anew, or has lost records")
            }
            Self::Lost { next, oldest } => write!(
                f,
                "it was to be read from offset {next} on, and its oldest record is at {oldest}: {} are not kept any more",
                oldest - next
            ),
        }
    }
}

/// Where a position that is not [over](Position::is_over) goes on, by what the brokers have.
pub(super) fn decide(position: Position<'_>, log: Log<'_>, on_lost: OnLost) -> Result<GoesOn, Broken> {
    let Position { topic_id, next, end } = position;
    // Brokers that have forgotten ids know nothing against the position.
    if topic_id.zip(log.topic_id).is_some_and(|(was, is)| was != is) {
        return Err(Broken::MadeAnew { next });
    }
    let reached = position.reached();
    if reached > log.newest {
        return Err(Broken::Beyond { reached, newest: log.newest });
    }
    let at = next.max(end.map_or(log.oldest, |end| log.oldest.min(end)));
    match on_lost {
        OnLost::Fail if at > next => Err(Broken::Lost { next, oldest: log.oldest }),
        _ => Ok(GoesOn { at, lost: at - next }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Log = Log { topic_id: Some("a"), oldest: 10, newest: 20 };

    fn position(topic_id: Option<&str>, next: i64, end: Option<i64>) -> Position<'_> {
        Position { topic_id, next, end }
    }

    fn goes_on(at: i64, lost: i64) -> Result<GoesOn, Broken> {
        Ok(GoesOn { at, lost })
    }

    #[test]
    fn positions_stand_for_their_records() {
        // Goal: what is there is read on; what is not is refused, by its cause; what was noted before there were ids is taken by its offsets alone.
        let fail = |position| decide(position, LOG, OnLost::Fail);
        for id in [Some("a"), None] {
            for next in [10, 15, 20] {
                assert_eq!(fail(position(id, next, None)), goes_on(next, 0));
            }
            assert_eq!(fail(position(id, 21, None)), Err(Broken::Beyond { reached: 21, newest: 20 }));
            assert_eq!(fail(position(id, 7, None)), Err(Broken::Lost { next: 7, oldest: 10 }));
            assert_eq!(fail(position(id, 15, Some(20))), goes_on(15, 0));
            assert_eq!(
                fail(position(id, 15, Some(21))),
                Err(Broken::Beyond { reached: 21, newest: 20 }),
                "it is shorter than it was"
            );
        }
        for next in [7, 15, 21] {
            assert_eq!(fail(position(Some("b"), next, None)), Err(Broken::MadeAnew { next }));
        }
        let nameless = Log { topic_id: None, ..LOG };
        assert_eq!(decide(position(Some("a"), 15, None), nameless, OnLost::Fail), goes_on(15, 0));
    }

    #[test]
    fn gaps_are_passed_over_where_they_may_be() {
        // Goal: a gap is passed over and counted if that is allowed, and no further than to where reading ends; nothing else is.
        let skip = |position| decide(position, LOG, OnLost::Skip);
        assert_eq!(skip(position(Some("a"), 7, None)), goes_on(10, 3));
        assert_eq!(skip(position(Some("a"), 7, Some(15))), goes_on(10, 3));
        assert_eq!(skip(position(Some("a"), 7, Some(9))), goes_on(9, 2));
        assert_eq!(skip(position(Some("a"), 12, None)), goes_on(12, 0));
        assert_eq!(skip(position(Some("b"), 7, None)), Err(Broken::MadeAnew { next: 7 }));
        assert_eq!(skip(position(Some("a"), 21, None)), Err(Broken::Beyond { reached: 21, newest: 20 }));
    }

    #[test]
    fn partitions_that_are_done_need_no_records() {
        // Goal: what has been read to its end may be gone.
        assert!(position(None, 5, Some(5)).is_over() && position(None, 6, Some(5)).is_over());
        assert!(!position(None, 4, Some(5)).is_over() && !position(None, 4, None).is_over());
    }
}
