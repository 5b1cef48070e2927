//! Which events a split has.

use serde::{Deserialize, Serialize};

use super::block::{EPOCH_EVENTS, EVENTS_MAX};

/// Events are dealt out in turn to so many splits, some at a time.
///
/// Whole epochs: so each split has events of each kind. Where one had none of a kind, that stream's watermark would wait for it until the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Share {
    /// whose turn it is that the split gets some
    first: u64,
    /// how many splits there are
    stride: u64,
    /// how many events in a row it gets; checkpoints that do not say have one
    #[serde(default = "one")]
    run: u64,
}

fn one() -> u64 {
    1
}

impl Share {
    /// That of one of so many splits.
    pub fn of(first: u16, splits: u16) -> Self {
        Self { first: first.into(), stride: splits.into(), run: EPOCH_EVENTS }
    }

    /// Whether it can be a share at all.
    pub fn is_valid(&self) -> bool {
        (1..=u64::from(u16::MAX)).contains(&self.stride) && self.first < self.stride && (1..=EPOCH_EVENTS).contains(&self.run)
    }

    /// After so many event numbers it is the same split's turn again.
    pub fn turn(&self) -> u64 {
        self.run * self.stride
    }

    /// Whether an event is in it.
    pub fn has(&self, number: u64) -> bool {
        number / self.run % self.stride == self.first
    }

    /// The number of its event at this place, counted from 0.
    pub fn number(&self, place: u64) -> u64 {
        place / self.run * self.turn() + self.first * self.run + place % self.run
    }

    /// How many of its events come before this one, whoever has that: the place of one that it has.
    pub fn before(&self, number: u64) -> u64 {
        let number = number.min(EVENTS_MAX);
        let of_turn = (number % self.turn()).saturating_sub(self.first * self.run);
        number / self.turn() * self.run + of_turn.min(self.run)
    }

    /// How many events from this one on can be taken at once, so that they span no more than so many numbers: at least one.
    pub fn within(&self, number: u64, span: u64) -> u64 {
        let run_left = self.run - number % self.run;
        (span / self.stride).saturating_sub(self.run).max(run_left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nexmark::block::Kind;

    #[test]
    fn events_are_dealt_out_once() {
        // Goal: each event is in one split, which knows its place; from two splits on, too, each has events of each kind.
        for (splits, run) in [(1, 50), (2, 50), (3, 50), (50, 50), (7, 1), (2, 1), (50, 1)] {
            let shares: Vec<_> = (0..splits).map(|first| Share { first, stride: splits, run }).collect();
            for number in 0..3 * 50 * splits {
                let owners: Vec<_> = shares.iter().filter(|share| share.has(number)).collect();
                assert_eq!(owners.len(), 1, "event {number} of {splits} splits");
                assert_eq!(owners[0].number(owners[0].before(number)), number);
                for share in &shares {
                    assert_eq!(share.before(number + 1) - share.before(number), u64::from(share.has(number)));
                }
            }
        }
        for share in (0..50).map(|first| Share::of(first, 50)) {
            for kind in Kind::ALL {
                assert!((0..50).any(|place| Kind::of(share.number(place)) == kind), "{share:?} has none of {kind:?}");
            }
        }
    }

    #[test]
    fn what_is_taken_at_once_spans_no_more() {
        // Goal: however many splits there are, events that are taken at once lie within a span.
        for splits in [1, 2, 3, 1000, u16::MAX] {
            let share = Share::of(splits - 1, splits);
            for place in [0, 1, 49, 50, 12_345] {
                let first = share.number(place);
                for span in [100, 1 << 20, 1 << 24] {
                    let count = share.within(first, span);
                    assert!(count > 0 && share.number(place + count - 1) - first < span, "{share:?} {place} {span}");
                }
            }
        }
    }

    #[test]
    fn older_checkpoints_go_on_as_they_were() {
        // Goal: what a split had of which only that is known that it gets every P-th event, it still has.
        let share: Share = serde_json::from_value(serde_json::json!({ "first": 1, "stride": 3 })).unwrap();
        assert!(share.is_valid());
        assert_eq!((0..4).map(|place| share.number(place)).collect::<Vec<_>>(), [1, 4, 7, 10]);
        let other: Share = serde_json::from_value(serde_json::to_value(Share::of(1, 3)).unwrap()).unwrap();
        assert_eq!(other, Share::of(1, 3));
    }
}
