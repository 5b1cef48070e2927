//! Time to live: state that is forgotten once it was not written (or read) for a while.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::aggregate::Aggregate;
use crate::cleanup::is_kept;
use crate::process::KeyedContext;
use crate::stamp;
use crate::time::TimeDomain;

/// How long state lives: from when it was last written, unless told otherwise, by the clock of the machine.
///
/// What has expired is never seen again. It is dropped soon afterwards, at the latest after an eighth of its lifetime, and keys of which nothing is left are
/// forgotten, whether or not they were evicted.
///
/// Another version of the job can change the lifetime, and keeps what is there:
///
/// - One of another length counts from when state was written. What ends earlier by it is not seen any more, but takes its room until it would have ended before.
/// - By another clock, state counts as written when it is first *met*: when the next row of its key comes (in event time: at that row's time), or it would have
///   ended before. What one clock has shown says nothing about the other.
/// - A [join](crate::Join) can get a lifetime, or lose it. Rows that came without one count as written when they are first met.
/// - A plain field (`Option<T>`, `Vec<T>`, `BTreeMap<K, V>`) becomes one that expires by a [migration](crate::Migrations) with `.into()`, and the other way round with
///   `.into_inner()`. What had no lifetime counts as written when it is first met.
///
/// What had no lifetime, and whose key is not heard of again, is not met and stays. Checkpoints of before the schema of a state said the clock are taken to be by
/// that which is to clean the state up.
///
/// Where state is on disk, the state of an evicted key costs least if all of it expires, by one clock: then nobody has to look at it again, and its room is given back
/// when the disk's files are rewritten. Beside a field that does not expire, or one that does by the other clock, it comes back from the disk to be cleaned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    millis: i64,
    on_read: bool,
    domain: TimeDomain,
}

impl Ttl {
    /// State lives for so long after it was last written.
    pub const fn new(lifetime: Duration) -> Self {
        let millis = lifetime.as_millis();
        let millis = if millis > i64::MAX as u128 { i64::MAX } else { millis as i64 };
        Self { millis, on_read: false, domain: TimeDomain::Processing }
    }

    /// Reading it lets it live longer, too.
    #[must_use]
    pub const fn on_read(self) -> Self {
        Self { on_read: true, ..self }
    }

    /// Time is event time: what a row with event time *t* leaves behind is seen by rows (and timers) before *t* + lifetime, in whatever order they come, until the
    /// watermark is there. The end of the input is no time: nothing expires by it, and so nothing does in a stream without event times.
    #[must_use]
    pub const fn event_time(self) -> Self {
        Self { domain: TimeDomain::Event, ..self }
    }

    pub(crate) fn domain(self) -> TimeDomain {
        self.domain
    }

    /// When that expires which was touched at `stamp`.
    pub(crate) fn expiry(self, stamp: i64) -> i64 {
        stamp.saturating_add(self.millis)
    }

    /// The stamp of what is looked at while the clock shows this, and was touched at `stamp`.
    pub(crate) fn touched(self, stamp: i64, clock: i64) -> i64 {
        match stamp {
            stamp::MISSING => stamp::met_at(clock).unwrap_or(stamp),
            _ if self.on_read => stamp.max(clock),
            _ => stamp,
        }
    }

    /// How coarsely it is dropped, in ms.
    pub(crate) fn step(self) -> i64 {
        self.millis / 8
    }
}

/// The lifetime of a piece of state, as part of its type: so it stands where the state is declared.
///
/// ```
/// use weir::{Expiry, Ttl, hours};
///
/// /// An hour after the last row.
/// struct Hour;
///
/// impl Expiry for Hour {
///     const TTL: Ttl = Ttl::new(hours(1));
/// }
/// ```
pub trait Expiry: 'static {
    /// how long it lives
    const TTL: Ttl;
}

/// When something was last touched, by the clock of its lifetime.
struct Stamp<E>(Cell<i64>, PhantomData<fn() -> E>);

impl<E: Expiry> Stamp<E> {
    fn at(time: i64) -> Self {
        Self(Cell::new(time), PhantomData)
    }

    /// Of what is written now, and was touched at `before` if it was there.
    fn written<K, O>(before: Option<i64>, cx: &mut KeyedContext<'_, K, O>) -> Self {
        let before = before.filter(|before| *before != stamp::MISSING);
        let time = cx.clock(E::TTL.domain).max(before.unwrap_or(i64::MIN));
        cx.expire(E::TTL.domain, E::TTL.expiry(time), E::TTL.step());
        Self::at(time)
    }

    fn get(&self) -> i64 {
        self.0.get()
    }

    fn is_live<K, O>(&self, cx: &KeyedContext<'_, K, O>) -> bool {
        cx.clock(E::TTL.domain) < E::TTL.expiry(self.get())
    }

    /// Whether it is live; it was read then.
    fn read<K, O>(&self, cx: &KeyedContext<'_, K, O>) -> bool {
        let is_live = self.is_live(cx);
        if is_live {
            // The timer that is set comes early then, and is set again.
            self.0.set(E::TTL.touched(self.get(), cx.clock(E::TTL.domain)));
        }
        is_live
    }

    /// Whether it is encoded.
    fn is_encoded(&self) -> bool {
        stamp::pass(&self.0, E::TTL.domain);
        is_kept(E::TTL.domain, E::TTL.expiry(self.get()), E::TTL.step())
    }
}

impl<E> fmt::Debug for Stamp<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get().fmt(f)
    }
}

impl<E> Serialize for Stamp<E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.get().serialize(serializer)
    }
}

impl<'de, E: Expiry> Deserialize<'de> for Stamp<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = stamp::read(Some(E::TTL.domain), deserializer)?;
        Ok(Self::at(stamp::settle(read, E::TTL.domain)))
    }
}

/// A value of a key that expires: in other systems value, reducing or aggregating state with a time to live.
///
/// ```
/// use weir::{EventTime, Expiry, ExpiringValue, Job, Record, TestHarness, Ttl, secs};
///
/// #[derive(Record)]
/// struct Click { user: u64 }
///
/// /// Ten seconds after the last click.
/// struct TenSeconds;
///
/// impl Expiry for TenSeconds {
///     const TTL: Ttl = Ttl::new(secs(10));
/// }
///
/// #[derive(Debug, PartialEq, Record)]
/// struct Clicks { user: u64, clicks: u64 }
///
/// fn visits(job: &Job) {
///     job.source::<Click>("clicks")
///         .key_by(Click::USER)
///         .process_with(|clicks: &mut ExpiringValue<u64, TenSeconds>, click: Click, cx| {
///             let clicks = *clicks.reduce(1, |a, b| a + b, cx);
///             cx.emit(Clicks { user: click.user, clicks });
///         })
///         .uid("visits")
///         .sink("visits");
/// }
///
/// let mut harness = TestHarness::new(visits);
/// let mut click = |harness: &mut TestHarness| {
///     harness.push("clicks", [Click { user: 7 }]);
///     harness.take::<Clicks>("visits")[0].clicks
/// };
/// assert_eq!([click(&mut harness), click(&mut harness)], [1, 2]);
/// harness.advance_clock(secs(10));
/// assert_eq!(click(&mut harness), 1, "the visit is over");
/// harness.advance_clock(secs(20));
/// assert_eq!(harness.keys("visits"), 0, "nothing is left of the user");
/// ```
pub struct ExpiringValue<T, E> {
    value: Option<(Stamp<E>, T)>,
    of: PhantomData<fn() -> E>,
}

impl<T, E: Expiry> ExpiringValue<T, E> {
    /// The value, if it is there.
    pub fn get<K, O>(&self, cx: &KeyedContext<'_, K, O>) -> Option<&T> {
        self.value.as_ref().filter(|(stamp, _)| stamp.read(cx)).map(|(_, value)| value)
    }

    /// Writes it.
    pub fn set<K, O>(&mut self, value: T, cx: &mut KeyedContext<'_, K, O>) {
        self.update(|_| value, cx);
    }

    /// Writes what `f` makes of it; returns that.
    pub fn update<K, O>(&mut self, f: impl FnOnce(Option<T>) -> T, cx: &mut KeyedContext<'_, K, O>) -> &mut T {
        let before = self.value.as_ref().map(|(stamp, _)| stamp.get());
        let value = f(self.take(cx));
        &mut self.value.insert((Stamp::written(before, cx), value)).1
    }

    /// Combines it with another value, if it is there, and writes the result; returns that.
    pub fn reduce<K, O>(&mut self, value: T, f: impl FnOnce(T, T) -> T, cx: &mut KeyedContext<'_, K, O>) -> &mut T {
        self.update(
            |before| match before {
                Some(before) => f(before, value),
                None => value,
            },
            cx,
        )
    }

    /// Adds a row to the accumulator of an aggregate, and writes that; returns the result.
    pub fn aggregate<R, A, K, O>(&mut self, aggregate: &A, row: R, cx: &mut KeyedContext<'_, K, O>) -> A::Out
    where
        A: Aggregate<R, Row = R, Accumulator = T>,
        T: Default,
    {
        let add = |accumulator: Option<T>| {
            let mut accumulator = accumulator.unwrap_or_default();
            aggregate.add(&mut accumulator, row);
            accumulator
        };
        aggregate.result(self.update(add, cx))
    }

    /// Takes it out.
    pub fn take<K, O>(&mut self, cx: &KeyedContext<'_, K, O>) -> Option<T> {
        self.value.take().filter(|(stamp, _)| stamp.is_live(cx)).map(|(_, value)| value)
    }

    /// Drops it.
    pub fn clear(&mut self) {
        self.value = None;
    }
}

/// A list of a key, each item of which expires by itself.
///
/// ```
/// use weir::{Expiry, ExpiringList, Job, Record, Ttl, minutes};
///
/// #[derive(Record)]
/// struct Login { user: u64, failed: bool }
///
/// /// For ten minutes.
/// struct TenMinutes;
///
/// impl Expiry for TenMinutes {
///     const TTL: Ttl = Ttl::new(minutes(10));
/// }
///
/// #[derive(Record)]
/// struct Alarm { user: u64, attempts: u64 }
///
/// fn alarms(job: &Job) {
///     job.source::<Login>("logins")
///         .key_by(Login::USER)
///         .process_with(|failed: &mut ExpiringList<bool, TenMinutes>, login: Login, cx| {
///             failed.push(login.failed, cx);
///             let attempts = failed.iter(cx).filter(|failed| **failed).count() as u64;
///             if attempts > 5 {
///                 cx.emit(Alarm { user: login.user, attempts });
///             }
///         })
///         .sink("alarms");
/// }
/// # let mut harness = weir::TestHarness::new(alarms);
/// # harness.push("logins", [1, 2, 3, 4, 5, 6].map(|_| Login { user: 1, failed: true }));
/// # assert_eq!(harness.take::<Alarm>("alarms").len(), 1);
/// ```
pub struct ExpiringList<T, E> {
    items: Vec<(Stamp<E>, T)>,
    of: PhantomData<fn() -> E>,
}

impl<T, E: Expiry> ExpiringList<T, E> {
    /// Adds an item.
    pub fn push<K, O>(&mut self, item: T, cx: &mut KeyedContext<'_, K, O>) {
        self.items.push((Stamp::written(None, cx), item));
    }

    /// The items, in the order in which they were added.
    pub fn iter<K, O>(&self, cx: &KeyedContext<'_, K, O>) -> impl Iterator<Item = &T> {
        self.items.iter().filter(|(stamp, _)| stamp.read(cx)).map(|(_, item)| item)
    }

    /// Keeps the items for which `f` is true.
    pub fn retain(&mut self, mut f: impl FnMut(&T) -> bool) {
        self.items.retain(|(_, item)| f(item));
    }

    /// Takes all items out.
    pub fn take<K, O>(&mut self, cx: &KeyedContext<'_, K, O>) -> Vec<T> {
        let items = std::mem::take(&mut self.items).into_iter();
        items.filter(|(stamp, _)| stamp.is_live(cx)).map(|(_, item)| item).collect()
    }

    /// Drops all items.
    pub fn clear(&mut self) {
        self.items = vec![];
    }
}

/// A map of a key, each entry of which expires by itself.
///
/// ```
/// use weir::{Expiry, ExpiringMap, Job, Record, Str, Ttl, days};
///
/// #[derive(Record)]
/// struct View { user: u64, page: Str }
///
/// /// For a day after a page was last seen.
/// struct Day;
///
/// impl Expiry for Day {
///     const TTL: Ttl = Ttl::new(days(1)).on_read();
/// }
///
/// fn new_pages(job: &Job) {
///     job.source::<View>("views")
///         .key_by(View::USER)
///         .process_with(|seen: &mut ExpiringMap<String, (), Day>, view: View, cx| {
///             if seen.get(&*view.page, cx).is_none() {
///                 seen.insert(view.page.to_string(), (), cx);
///                 cx.emit(view);
///             }
///         })
///         .sink("new");
/// }
/// # let mut harness = weir::TestHarness::new(new_pages);
/// # harness.push("views", ["a", "b", "a"].map(|page| View { user: 1, page: page.into() }));
/// # assert_eq!(harness.take::<View>("new").len(), 2);
/// ```
pub struct ExpiringMap<Q, V, E> {
    entries: BTreeMap<Q, (Stamp<E>, V)>,
    of: PhantomData<fn() -> E>,
}

impl<Q: Ord, V, E: Expiry> ExpiringMap<Q, V, E> {
    /// The value at `at`, if it is there.
    pub fn get<B: Ord + ?Sized, K, O>(&self, at: &B, cx: &KeyedContext<'_, K, O>) -> Option<&V>
    where
        Q: std::borrow::Borrow<B>,
    {
        self.entries.get(at).filter(|(stamp, _)| stamp.read(cx)).map(|(_, value)| value)
    }

    /// Writes the value at `at`; returns the one that was there.
    pub fn insert<K, O>(&mut self, at: Q, value: V, cx: &mut KeyedContext<'_, K, O>) -> Option<V> {
        let before = self.entries.get(&at).map(|(stamp, _)| stamp.get());
        let replaced = self.entries.insert(at, (Stamp::written(before, cx), value));
        replaced.filter(|(stamp, _)| stamp.is_live(cx)).map(|(_, value)| value)
    }

    /// Writes what `f` makes of the value at `at`.
    pub fn update<K, O>(&mut self, at: Q, f: impl FnOnce(Option<V>) -> V, cx: &mut KeyedContext<'_, K, O>) {
        let (before, value) = match self.entries.remove(&at) {
            Some((stamp, value)) => (Some(stamp.get()), stamp.is_live(cx).then_some(value)),
            None => (None, None),
        };
        self.entries.insert(at, (Stamp::written(before, cx), f(value)));
    }

    /// Takes the value at `at` out.
    pub fn remove<B: Ord + ?Sized, K, O>(&mut self, at: &B, cx: &KeyedContext<'_, K, O>) -> Option<V>
    where
        Q: std::borrow::Borrow<B>,
    {
        self.entries.remove(at).filter(|(stamp, _)| stamp.is_live(cx)).map(|(_, value)| value)
    }

    /// The entries, in order.
    pub fn iter<K, O>(&self, cx: &KeyedContext<'_, K, O>) -> impl Iterator<Item = (&Q, &V)> {
        self.entries.iter().filter(|(_, (stamp, _))| stamp.read(cx)).map(|(at, (_, value))| (at, value))
    }

    /// Drops all entries.
    pub fn clear(&mut self) {
        self.entries = BTreeMap::new();
    }
}

/// What has no lifetime can get one, and lose it: in a [migration](crate::Migrations) of a state whose field was or becomes a plain one.
macro_rules! plain_contents {
    ($($(#[$doc:meta])* $name:ident<$($item:ident $(: $bound:path)?),*>, $plain:ty, $field:ident, |$value:ident| $stamped:expr, |$kept:ident| $bare:expr;)*) => {$(
        impl<$($item $(: $bound)?,)* E: Expiry> From<$plain> for $name<$($item,)* E> {
            /// For migrations: what has had no lifetime counts as written when it is first met.
            fn from($value: $plain) -> Self {
                Self { $field: $stamped, of: PhantomData }
            }
        }

        impl<$($item $(: $bound)?,)* E> $name<$($item,)* E> {
            $(#[$doc])*
            pub fn into_inner(self) -> $plain {
                let $kept = self.$field;
                $bare
            }
        }
    )*};
}

plain_contents! {
    /// What is in it, for migrations: with what has expired and was not dropped yet.
    ExpiringValue<T>, Option<T>, value, |value| value.map(unstamped), |value| value.map(bare);
    /// What is in it, for migrations: with what has expired and was not dropped yet.
    ExpiringList<T>, Vec<T>, items, |items| items.into_iter().map(unstamped).collect(), |items| items.into_iter().map(bare).collect();
    /// What is in it, for migrations: with what has expired and was not dropped yet.
    ExpiringMap<Q: Ord, V>, BTreeMap<Q, V>, entries, |entries| entries.into_iter().map(|(at, value)| (at, unstamped(value))).collect(),
        |entries| entries.into_iter().map(|(at, value)| (at, bare(value))).collect();
}

fn unstamped<T, E: Expiry>(item: T) -> (Stamp<E>, T) {
    (Stamp::at(stamp::missing()), item)
}

fn bare<T, E>((_, item): (Stamp<E>, T)) -> T {
    item
}

/// What all three have in common: they are what is in them, and what has expired is not encoded when it is to be dropped.
macro_rules! contents {
    ($($name:ident<$($item:ident: $bound:path),*>, $field:ident: $contents:ty = $empty:expr, $encode:expr;)*) => {$(
        impl<$($item,)* E> Default for $name<$($item,)* E> {
            fn default() -> Self {
                Self { $field: $empty, of: PhantomData }
            }
        }

        impl<$($item: fmt::Debug,)* E> fmt::Debug for $name<$($item,)* E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($name)).field(&self.$field).finish()
            }
        }

        impl<$($item: Serialize,)* E: Expiry> Serialize for $name<$($item,)* E> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $encode(&self.$field, serializer)
            }
        }

        impl<'de, $($item: DeserializeOwned + $bound,)* E: Expiry> Deserialize<'de> for $name<$($item,)* E> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Ok(Self { $field: <$contents>::deserialize(deserializer)?, of: PhantomData })
            }
        }
    )*};
}

contents! {
    ExpiringValue<T: Sized>, value: Option<(Stamp<E>, T)> = None, encode_value;
    ExpiringList<T: Sized>, items: Vec<(Stamp<E>, T)> = vec![], encode_items;
    ExpiringMap<Q: Ord, V: Sized>, entries: BTreeMap<Q, (Stamp<E>, V)> = BTreeMap::new(), encode_entries;
}

fn encode_value<T: Serialize, E: Expiry, S: Serializer>(value: &Option<(Stamp<E>, T)>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().filter(|(stamp, _)| stamp.is_encoded()).serialize(serializer)
}

fn encode_items<T: Serialize, E: Expiry, S: Serializer>(items: &[(Stamp<E>, T)], serializer: S) -> Result<S::Ok, S::Error> {
    // Their number comes before them.
    let kept: Vec<_> = items.iter().filter(|(stamp, _)| stamp.is_encoded()).collect();
    serializer.collect_seq(kept)
}

fn encode_entries<Q: Serialize, V: Serialize, E: Expiry, S: Serializer>(
    entries: &BTreeMap<Q, (Stamp<E>, V)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let kept: Vec<_> = entries.iter().filter(|(_, (stamp, _))| stamp.is_encoded()).collect();
    serializer.collect_map(kept)
}
