//! Interval joins: rows of two streams meet if they have the same key, and event times that are near each other.

use std::marker::PhantomData;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cleanup::round_up;
use crate::key::Key;
use crate::keyed::{KeyedStream, Processed, start_pair};
use crate::process::{KeyedContext, KeyedFunction};
use crate::record::Record;
use crate::side::Tag;
use crate::state::check_storable;
use crate::time::{TimeDomain, to_millis};
use crate::value::InState;

/// Rows that are over are dropped in steps of at least so many milliseconds.
const STEP_MIN_MS: i64 = 100;

/// A distance in time, back or ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offset {
    millis: i64,
}

impl Offset {
    /// At the same time.
    pub const ZERO: Self = Self { millis: 0 };

    /// So much earlier.
    pub fn before(duration: Duration) -> Self {
        Self { millis: -to_millis(duration) }
    }

    /// So much later.
    pub fn after(duration: Duration) -> Self {
        Self { millis: to_millis(duration) }
    }
}

/// A join of two keyed streams in event time: a row of the left stream with time *t* meets the rows of the right one with times from *t* + lower bound to *t* +
/// upper bound, bounds included; without `between`, those of the same time.
///
/// A row is kept until the watermark says that no row will come any more which it could meet. A row that comes when the watermark has reached its time already
/// is too late: it is counted, and meets none. A pair has the later one of its rows' event times.
///
/// ```
/// use weir::{EventTime, Job, Offset, Record, TestHarness, Watermarks, minutes, secs};
///
/// #[derive(Record)]
/// struct Order { id: u64, at: EventTime }
///
/// #[derive(Record)]
/// struct Payment { order: u64, cents: u64, at: EventTime }
///
/// #[derive(Debug, PartialEq, Record)]
/// struct Paid { order: u64, cents: u64 }
///
/// /// Payments that came within the minute after their order.
/// fn paid(job: &Job) {
///     let payments = job.source::<Payment>("payments").event_time(Payment::AT, Watermarks::bounded(secs(5)));
///     job.source::<Order>("orders")
///         .event_time(Order::AT, Watermarks::bounded(secs(5)))
///         .key_by(Order::ID)
///         .interval_join(payments.key_by(Payment::ORDER))
///         .between(Offset::ZERO, Offset::after(minutes(1)))
///         .join(|order, payment| Paid { order: order.id, cents: payment.cents })
///         .uid("paid")
///         .sink("paid");
/// }
///
/// let mut harness = TestHarness::new(paid);
/// let at = |secs: i64| EventTime::from_millis(secs * 1000);
/// harness.push("payments", [Payment { order: 1, cents: 50, at: at(70) }, Payment { order: 1, cents: 70, at: at(71) }]);
/// harness.push("orders", [Order { id: 1, at: at(10) }]);
/// assert_eq!(harness.take::<Paid>("paid"), [Paid { order: 1, cents: 50 }]);
/// ```
pub struct IntervalJoin<L, R, K> {
    left: KeyedStream<L, K>,
    right: KeyedStream<R, K>,
    bounds: Bounds,
    late_left: Option<Tag<L>>,
    late_right: Option<Tag<R>>,
}

impl<L: Record, R: Record, K: Key> IntervalJoin<L, R, K> {
    pub(crate) fn new(left: KeyedStream<L, K>, right: KeyedStream<R, K>) -> Self {
        Self { left, right, bounds: Bounds { lower: 0, upper: 0 }, late_left: None, late_right: None }
    }

    /// From when to when the rows of the right stream lie that a row of the left stream meets, seen from there.
    #[must_use]
    pub fn between(self, lower: Offset, upper: Offset) -> Self {
        Self { bounds: Bounds { lower: lower.millis, upper: upper.millis }, ..self }
    }

    /// Leaves out the lower bound itself. Stands behind `between`.
    #[must_use]
    pub fn lower_exclusive(mut self) -> Self {
        self.bounds.lower = self.bounds.lower.saturating_add(1);
        self
    }

    /// Leaves out the upper bound itself. Stands behind `between`.
    #[must_use]
    pub fn upper_exclusive(mut self) -> Self {
        self.bounds.upper = self.bounds.upper.saturating_sub(1);
        self
    }

    /// Sends rows of the left stream that are too late to a side output, instead of counting and dropping them.
    #[must_use]
    pub fn late_left(mut self, tag: &Tag<L>) -> Self {
        self.left = self.left.side_output(tag);
        self.late_left = Some(tag.clone());
        self
    }

    /// Sends rows of the right stream that are too late to a side output, instead of counting and dropping them.
    #[must_use]
    pub fn late_right(mut self, tag: &Tag<R>) -> Self {
        self.left = self.left.side_output(tag);
        self.late_right = Some(tag.clone());
        self
    }

    /// Makes one result of each pair of rows.
    pub fn join<O: 'static, F>(self, f: F) -> Processed<IntervalJoining<F, L, R, K, O>>
    where
        F: FnMut(&L, &R) -> O + 'static,
    {
        let Self { left, right, bounds, late_left, late_right } = self;
        let job = &left.job;
        job.expect(check_storable::<L>());
        job.expect(check_storable::<R>());
        if !(left.upstream.timed && right.upstream.timed) {
            job.fail("the rows of an interval join have no event times: assign them to both streams by `.event_time(…)`".into());
        }
        if bounds.lower > bounds.upper {
            let Bounds { lower, upper } = bounds;
            job.fail(format!("the bounds of an interval join leave nothing between them: from {lower} ms to {upper} ms"));
        }
        let function = IntervalJoining { f, bounds, late_left, late_right, of: PhantomData };
        start_pair(left, right, function, "interval-join")
    }
}

/// When the rows of the right stream are, seen from one of the left, in ms; both included.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    lower: i64,
    upper: i64,
}

impl Bounds {
    /// How coarsely rows are dropped.
    fn step(self) -> i64 {
        (self.upper.saturating_sub(self.lower) / 8).max(STEP_MIN_MS)
    }

    /// From when to when the left rows are, seen from one of the right.
    fn reversed(self) -> Self {
        Self { lower: self.upper.saturating_neg(), upper: self.lower.saturating_neg() }
    }
}

/// Rows of one stream, in the order of their times.
pub struct RowsByTime<T> {
    rows: Vec<(i64, T)>,
}

impl<T> Default for RowsByTime<T> {
    fn default() -> Self {
        Self { rows: vec![] }
    }
}

impl<T: Record> RowsByTime<T> {
    /// Adds a row behind those of the same time.
    fn insert(&mut self, time: i64, mut row: T) {
        <T as Record>::detach(&mut row);
        let place = match self.rows.last() {
            Some((last, _)) if *last > time => self.rows.partition_point(|(other, _)| *other <= time),
            _ => self.rows.len(),
        };
        self.rows.insert(place, (time, row));
    }

    /// The rows with a time in these bounds around `time`.
    fn around(&self, time: i64, bounds: Bounds) -> &[(i64, T)] {
        let (from, to) = (time.saturating_add(bounds.lower), time.saturating_add(bounds.upper));
        let start = self.rows.partition_point(|(time, _)| *time < from);
        let length = self.rows[start..].partition_point(|(time, _)| *time <= to);
        &self.rows[start..start + length]
    }

    /// Drops the rows that meet none after `watermark`, if they meet those up to `upper` ms later; returns when the next row does so.
    fn drop_until(&mut self, watermark: i64, upper: i64) -> i64 {
        let over = self.rows.partition_point(|(time, _)| time.saturating_add(upper) <= watermark);
        self.rows.drain(..over);
        if self.rows.len() < self.rows.capacity() / 4 {
            self.rows.shrink_to_fit();
        }
        self.rows.first().map_or(i64::MAX, |(time, _)| time.saturating_add(upper))
    }

    /// Until when there are rows, if they meet those up to `upper` ms later.
    fn end(&self, upper: i64) -> i64 {
        self.rows.last().map_or(i64::MIN, |(time, _)| time.saturating_add(upper))
    }
}

impl<T: Record> Serialize for RowsByTime<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|(time, row)| (time, InState(row))))
    }
}

impl<'de, T: Record> Deserialize<'de> for RowsByTime<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rows = Vec::deserialize(deserializer)?.into_iter();
        Ok(Self { rows: rows.map(|(time, InState(row))| (time, row)).collect() })
    }
}

/// An interval join as a keyed function.
pub struct IntervalJoining<F, L, R, K, O> {
    f: F,
    bounds: Bounds,
    late_left: Option<Tag<L>>,
    late_right: Option<Tag<R>>,
    of: PhantomData<fn() -> (K, O)>,
}

/// A row has come: `meet` is called with those of the other stream that are in these bounds around it, and it is kept for those that are still to come.
fn arrive<A: Record, B: Record, K, O>(
    row: A,
    bounds: Bounds,
    (own, other): (&mut RowsByTime<A>, &RowsByTime<B>),
    cx: &mut KeyedContext<'_, K, O>,
    mut meet: impl FnMut(&A, &B) -> O,
) {
    let time = cx.time();
    for (other_time, other) in other.around(time, bounds) {
        cx.emit_at(meet(&row, other), time.max(*other_time));
    }
    let needed_until = time.saturating_add(bounds.upper);
    if cx.watermark().millis() < needed_until {
        cx.expire(TimeDomain::Event, needed_until, bounds.step());
        own.insert(time, row);
    }
}

impl<F, L: Record, R: Record, K: Key, O: 'static> KeyedFunction for IntervalJoining<F, L, R, K, O>
where
    F: FnMut(&L, &R) -> O + 'static,
{
    type Key = K;
    type Left = L;
    type Right = R;
    type State = (RowsByTime<L>, RowsByTime<R>);
    type Out = O;
    const COMPUTES_TIMES: bool = true;

    fn left(&mut self, (left, right): &mut Self::State, row: L, cx: &mut KeyedContext<'_, K, O>) {
        if !cx.is_late(&row, self.late_left.as_ref()) {
            arrive(row, self.bounds, (left, right), cx, &mut self.f);
        }
    }
    fn right(&mut self, (left, right): &mut Self::State, row: R, cx: &mut KeyedContext<'_, K, O>) {
        if !cx.is_late(&row, self.late_right.as_ref()) {
            arrive(row, self.bounds.reversed(), (right, left), cx, |right, left| (self.f)(left, right));
        }
    }
    fn end(&self, (left, right): &Self::State, _fresh: &[u8], _: TimeDomain) -> Result<i64, String> {
        Ok(left.end(self.bounds.upper).max(right.end(self.bounds.reversed().upper)))
    }
    fn expire(&mut self, (left, right): &mut Self::State, _: TimeDomain, time: i64) -> Result<i64, String> {
        let next_left = left.drop_until(time, self.bounds.upper);
        let next_right = right.drop_until(time, self.bounds.reversed().upper);
        let next = next_left.min(next_right);
        Ok(if next == i64::MAX { next } else { round_up(next, self.bounds.step()) })
    }
}
