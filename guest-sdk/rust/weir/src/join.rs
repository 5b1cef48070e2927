//! Joins: rows of two streams meet if they have the same key, whenever they come.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cleanup::{place, round_up};
use crate::key::Key;
use crate::keyed::{KeyedStream, Processed, start_pair};
use crate::process::{KeyedContext, KeyedFunction};
use crate::record::Record;
use crate::schema::{Plain, Shape, trace};
use crate::stamp::{self, Clock};
use crate::state::check_storable;
use crate::time::TimeDomain;
use crate::ttl::Ttl;
use crate::value::InState;

/// A join of two keyed streams without regard to their event times: each row meets all rows of the other stream with its key that are there, and those that are
/// still to come.
///
/// So all rows are kept, for good or for as long as their side's time to live says; rows of keys that are cold may leave memory, as all state. A result has the
/// event time of the row that came last of the two.
///
/// ```
/// use weir::{Change, Job, Record, TestHarness, Ttl, days};
///
/// #[derive(Record)]
/// struct Person { id: u64, name: String }
///
/// #[derive(Record)]
/// struct Auction { id: u64, seller: u64 }
///
/// #[derive(Debug, PartialEq, Record)]
/// struct Sale { auction: u64, seller: Option<String>, retracted: bool }
///
/// fn sales(job: &Job) {
///     let persons = job.source::<Person>("persons").key_by(Person::ID);
///     job.source::<Auction>("auctions")
///         .key_by(Auction::SELLER)
///         .join(persons)
///         .left_ttl(Ttl::new(days(1)))
///         .left_outer(|auction, person| (auction.id, person.map(|person| person.name.clone())))
///         .map(|change| {
///             let (retracted, (auction, seller)) = (change.is_retraction(), change.into_row());
///             Sale { auction, seller, retracted }
///         })
///         .sink("sales");
/// }
///
/// let mut harness = TestHarness::new(sales);
/// harness.push("auctions", [Auction { id: 1, seller: 7 }]);
/// harness.push("persons", [Person { id: 7, name: "Ada".into() }]);
/// let sale = |seller: Option<&str>, retracted| Sale { auction: 1, seller: seller.map(Into::into), retracted };
/// assert_eq!(harness.take::<Sale>("sales"), [sale(None, false), sale(None, true), sale(Some("Ada"), false)]);
/// ```
pub struct Join<L, R, K> {
    left: KeyedStream<L, K>,
    right: KeyedStream<R, K>,
    ttls: [Option<Ttl>; 2],
}

/// What an outer join says: a result is there now, or one that was there is so no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<O> {
    /// it is there
    Insert(O),
    /// it was told before, and is there no more
    Retract(O),
}

impl<O> Change<O> {
    /// Whether it takes a result back.
    pub fn is_retraction(&self) -> bool {
        matches!(self, Self::Retract(_))
    }

    /// The result.
    pub fn into_row(self) -> O {
        let (Self::Insert(row) | Self::Retract(row)) = self;
        row
    }
}

impl<L: Record, R: Record, K: Key> Join<L, R, K> {
    pub(crate) fn new(left: KeyedStream<L, K>, right: KeyedStream<R, K>) -> Self {
        Self { left, right, ttls: [None; 2] }
    }

    /// How long rows of the left stream are kept. To be read is to meet a row.
    #[must_use]
    pub fn left_ttl(mut self, ttl: Ttl) -> Self {
        self.ttls[0] = Some(ttl);
        self
    }

    /// How long rows of the right stream are kept. To be read is to meet a row.
    #[must_use]
    pub fn right_ttl(mut self, ttl: Ttl) -> Self {
        self.ttls[1] = Some(ttl);
        self
    }

    /// Makes one result of each pair of rows.
    pub fn inner<O: 'static, F>(self, mut f: F) -> Processed<impl KeyedFunction<Out = O>>
    where
        F: FnMut(&L, &R) -> O + 'static,
    {
        self.start([false, false], move |_, left: Option<&L>, right: Option<&R>| match (left, right) {
            (Some(left), Some(right)) => f(left, right),
            _ => unreachable!("an inner join makes results of pairs alone"),
        })
    }

    /// Makes one result of each pair of rows, and of each row of the left stream while there is none that it meets.
    ///
    /// A row that expires takes nothing back: results stay as they are.
    pub fn left_outer<O: 'static, F>(self, mut f: F) -> Processed<impl KeyedFunction<Out = Change<O>>>
    where
        F: FnMut(&L, Option<&R>) -> O + 'static,
    {
        self.outer([true, false], move |left: Option<&L>, right: Option<&R>| match left {
            Some(left) => f(left, right),
            None => unreachable!("a left join makes no result of a row of the right stream alone"),
        })
    }

    /// Makes one result of each pair of rows, and of each row of the right stream while there is none that it meets; as [`left_outer`](Self::left_outer).
    pub fn right_outer<O: 'static, F>(self, mut f: F) -> Processed<impl KeyedFunction<Out = Change<O>>>
    where
        F: FnMut(Option<&L>, &R) -> O + 'static,
    {
        self.outer([false, true], move |left: Option<&L>, right: Option<&R>| match right {
            Some(right) => f(left, right),
            None => unreachable!("a right join makes no result of a row of the left stream alone"),
        })
    }

    /// Makes one result of each pair of rows, and of each row of either stream while there is none that it meets; as [`left_outer`](Self::left_outer).
    pub fn full_outer<O: 'static, F>(self, f: F) -> Processed<impl KeyedFunction<Out = Change<O>>>
    where
        F: FnMut(Option<&L>, Option<&R>) -> O + 'static,
    {
        self.outer([true, true], f)
    }

    fn outer<O: 'static, F>(self, keeps: [bool; 2], mut f: F) -> Processed<impl KeyedFunction<Out = Change<O>>>
    where
        F: FnMut(Option<&L>, Option<&R>) -> O + 'static,
    {
        self.start(keeps, move |retracts: bool, left: Option<&L>, right: Option<&R>| match retracts {
            true => Change::Retract(f(left, right)),
            false => Change::Insert(f(left, right)),
        })
    }

    fn start<O: 'static, F>(self, keeps: [bool; 2], f: F) -> Processed<Joining<F, L, R, K, O>>
    where
        F: FnMut(bool, Option<&L>, Option<&R>) -> O + 'static,
    {
        let Self { left, right, ttls } = self;
        left.job.expect(check_storable::<L>());
        left.job.expect(check_storable::<R>());
        let [left_side, right_side] = [0, 1].map(|side| Side { ttl: ttls[side], keeps_single: keeps[side] });
        start_pair(left, right, Joining { f, left: left_side, right: right_side, of: PhantomData }, "join")
    }
}

/// How one stream is joined.
#[derive(Clone, Copy, Debug)]
struct Side {
    ttl: Option<Ttl>,
    /// whether its rows make results while there are none that they meet
    keeps_single: bool,
}

impl Side {
    fn is_live<K, O>(self, stamp: i64, cx: &KeyedContext<'_, K, O>) -> bool {
        self.ttl.is_none_or(|ttl| cx.clock(ttl.domain()) < ttl.expiry(stamp))
    }
}

/// A row that waits for others.
struct Waiting<T> {
    row: T,
    /// when it came, or was last read, by the clock of its time to live
    stamp: i64,
    /// by which clock the stamp is, until the state is adopted
    clock: Clock,
    /// whether there is a result of it alone
    is_single: bool,
}

/// The stamp of a row without a time to live.
const UNTIMED: i64 = 0;

/// The rows of one stream that wait, in the order in which they came.
pub struct WaitingRows<T> {
    rows: Vec<Waiting<T>>,
}

impl<T> Default for WaitingRows<T> {
    fn default() -> Self {
        Self { rows: vec![] }
    }
}

impl<T> WaitingRows<T> {
    /// Takes away stamps that are not of the time to live that rows have now; returns whether one is missing.
    fn adopt(&mut self, ttl: Option<Ttl>, timers: [i64; 2]) -> bool {
        for waiting in &mut self.rows {
            let clock = std::mem::replace(&mut waiting.clock, Clock::Own);
            let Some(ttl) = ttl else {
                waiting.stamp = UNTIMED;
                continue;
            };
            let is_of_clock = match clock {
                Clock::Own => true,
                Clock::Unsaid => waiting.stamp != UNTIMED && timers[place(ttl.domain())] < i64::MAX,
                Clock::Of(domain) => domain == ttl.domain(),
            };
            if !is_of_clock {
                waiting.stamp = stamp::MISSING;
            }
        }
        self.rows.iter().any(|waiting| waiting.stamp == stamp::MISSING)
    }

    /// Rows whose stamps are missing count as written now; returns whether one is missing still.
    fn meet(&mut self, ttl: Option<Ttl>, clocks: [i64; 2]) -> bool {
        let Some(clock) = ttl.map(|ttl| clocks[place(ttl.domain())]) else { return false };
        let unmet = self.rows.iter_mut().filter(|waiting| waiting.stamp == stamp::MISSING);
        match stamp::met_at(clock) {
            None => unmet.count() > 0,
            Some(time) => {
                unmet.for_each(|waiting| waiting.stamp = time);
                false
            }
        }
    }

    /// Drops what has expired by a clock that shows `time`; returns when the next row does, rounded up.
    fn expire(&mut self, ttl: Option<Ttl>, domain: TimeDomain, time: i64) -> i64 {
        let Some(ttl) = ttl.filter(|ttl| ttl.domain() == domain) else { return i64::MAX };
        self.rows.retain(|waiting| time < ttl.expiry(waiting.stamp));
        if self.rows.len() < self.rows.capacity() / 4 {
            self.rows.shrink_to_fit();
        }
        self.rows.iter().map(|waiting| round_up(ttl.expiry(waiting.stamp), ttl.step())).min().unwrap_or(i64::MAX)
    }

    /// When the last row has expired by a clock, rounded up; [`i64::MAX`] if one never does.
    fn end(&self, ttl: Option<Ttl>, domain: TimeDomain) -> i64 {
        let end = |waiting: &Waiting<T>| match ttl.filter(|ttl| ttl.domain() == domain) {
            Some(ttl) => round_up(ttl.expiry(waiting.stamp), ttl.step()),
            None => i64::MAX,
        };
        self.rows.iter().map(end).max().unwrap_or(i64::MIN)
    }
}

impl<T: Record> Serialize for WaitingRows<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.iter().map(|waiting| (waiting.stamp, waiting.is_single, InState(&waiting.row))))
    }
}

impl<'de, T: Record> Deserialize<'de> for WaitingRows<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let rows = Vec::deserialize(deserializer)?.into_iter();
        let waiting = |(AnyStamp(stamp, clock), is_single, InState(row))| Waiting { row, stamp, clock, is_single };
        Ok(Self { rows: rows.map(waiting).collect() })
    }
}

/// A stamp of the clock that its schema says: the time to live is not in the type.
struct AnyStamp(i64, Clock);

impl<'de> Deserialize<'de> for AnyStamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        stamp::read(None, deserializer).map(|(stamp, clock)| Self(stamp, clock))
    }
}

/// Says in the shape of waiting rows by which clock their stamps are, if they have any.
fn name_clock(rows: &mut Shape, ttl: Option<Ttl>) {
    if let (Shape::List(row), Some(ttl)) = (rows, ttl)
        && let Shape::Tuple(parts) = &mut **row
        && let Some(stamp) = parts.first_mut()
    {
        *stamp = Shape::Plain(Plain::stamp(ttl.domain()));
    }
}

/// A join as a keyed function. Its closure is told whether the result is retracted, and the rows that it is made of.
pub struct Joining<F, L, R, K, O> {
    f: F,
    left: Side,
    right: Side,
    of: PhantomData<fn() -> (L, R, K, O)>,
}

/// A row has come: it meets the rows of the other stream that are there, and waits for others.
fn arrive<A: Record, B: Record, K, O>(
    mut row: A,
    (own_side, own): (Side, &mut WaitingRows<A>),
    (other_side, other): (Side, &mut WaitingRows<B>),
    cx: &mut KeyedContext<'_, K, O>,
    mut result: impl FnMut(bool, Option<&A>, Option<&B>) -> O,
) {
    let mut is_single = own_side.keeps_single;
    for waiting in &mut other.rows {
        if !other_side.is_live(waiting.stamp, cx) {
            continue;
        }
        if std::mem::take(&mut waiting.is_single) {
            cx.emit(result(true, None, Some(&waiting.row)));
        }
        cx.emit(result(false, Some(&row), Some(&waiting.row)));
        is_single = false;
        if let Some(ttl) = other_side.ttl {
            waiting.stamp = ttl.touched(waiting.stamp, cx.clock(ttl.domain()));
        }
    }
    if is_single {
        cx.emit(result(false, Some(&row), None));
    }
    let stamp = own_side.ttl.map_or(UNTIMED, |ttl| {
        let stamp = cx.clock(ttl.domain());
        cx.expire(ttl.domain(), ttl.expiry(stamp), ttl.step());
        stamp
    });
    <A as Record>::detach(&mut row);
    own.rows.push(Waiting { row, stamp, clock: Clock::Own, is_single });
}

impl<F, L: Record, R: Record, K: Key, O: 'static> KeyedFunction for Joining<F, L, R, K, O>
where
    F: FnMut(bool, Option<&L>, Option<&R>) -> O + 'static,
{
    type Key = K;
    type Left = L;
    type Right = R;
    type State = (WaitingRows<L>, WaitingRows<R>);
    type Out = O;

    fn left(&mut self, (left, right): &mut Self::State, row: L, cx: &mut KeyedContext<'_, K, O>) {
        arrive(row, (self.left, left), (self.right, right), cx, &mut self.f);
    }
    fn right(&mut self, (left, right): &mut Self::State, row: R, cx: &mut KeyedContext<'_, K, O>) {
        let f = &mut self.f;
        arrive(row, (self.right, right), (self.left, left), cx, |retracts, right, left| f(retracts, left, right));
    }
    fn end(&self, (left, right): &Self::State, _fresh: &[u8], domain: TimeDomain) -> Result<i64, String> {
        Ok(left.end(self.left.ttl, domain).max(right.end(self.right.ttl, domain)))
    }
    fn adopt(&mut self, (left, right): &mut Self::State, timers: [i64; 2]) -> Result<bool, String> {
        Ok(left.adopt(self.left.ttl, timers) | right.adopt(self.right.ttl, timers))
    }
    fn meet(&mut self, (left, right): &mut Self::State, clocks: [i64; 2]) -> Result<bool, String> {
        Ok(left.meet(self.left.ttl, clocks) | right.meet(self.right.ttl, clocks))
    }
    fn state_schema(&self) -> String {
        let mut schema = trace::<Self::State>();
        if let Shape::Tuple(sides) = &mut schema {
            sides.iter_mut().zip([self.left.ttl, self.right.ttl]).for_each(|(side, ttl)| name_clock(side, ttl));
        }
        schema.to_string()
    }
    fn expire(&mut self, (left, right): &mut Self::State, domain: TimeDomain, time: i64) -> Result<i64, String> {
        Ok(left.expire(self.left.ttl, domain, time).min(right.expire(self.right.ttl, domain, time)))
    }
}
