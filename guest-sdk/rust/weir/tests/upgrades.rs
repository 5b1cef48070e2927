//! State that an older version of a job has written, in a newer one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir::{
    Aggregate, BroadcastProcess, EventTime, ExpiringList, ExpiringMap, ExpiringValue, Expiry, Job, KeyedContext, Migrations,
    Process, Record, Str, TestHarness, Ttl, Tumbling, Watermarks, days, hours, millis, secs,
};

#[derive(Clone, Debug, PartialEq, Record)]
struct Order {
    user: u64,
    amount: u64,
    time: EventTime,
}

fn order(user: u64, amount: u64, second: i64) -> Order {
    Order { user, amount, time: EventTime::from_millis(second * 1000) }
}

#[derive(Debug, PartialEq, Record)]
struct Total {
    user: u64,
    total: u64,
    note: Option<String>,
}

fn total(user: u64, total: u64, note: Option<&str>) -> Total {
    Total { user, total, note: note.map(str::to_owned) }
}

/// A job that keeps `S` for each user.
fn totals<S: weir::State>(
    add: impl Fn(&mut S, &Order) + Clone + 'static,
    result: impl Fn(&S) -> (u64, Option<String>) + Clone + 'static,
) -> impl Fn(&Job) {
    move |job| {
        let (add, result) = (add.clone(), result.clone());
        job.source::<Order>("orders")
            .key_by(Order::USER)
            .process_with(move |state: &mut S, order: Order, cx| {
                add(state, &order);
                let (total, note) = result(state);
                cx.emit(Total { user: order.user, total, note });
            })
            .uid("totals")
            .sink("totals");
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Version1 {
    total: u32,
    first: Option<i64>,
}

#[derive(Default, Serialize, Deserialize)]
struct Version2 {
    note: Option<String>,
    total: u64,
    #[serde(default)]
    orders: u64,
}

fn version1() -> impl Fn(&Job) {
    totals(|state: &mut Version1, order| state.total += order.amount as u32, |state| (state.total.into(), None))
}

fn version2() -> impl Fn(&Job) {
    totals(
        |state: &mut Version2, order| {
            state.total += order.amount;
            state.orders += 1;
            state.note = Some(format!("{} since the upgrade", state.orders));
        },
        |state| (state.total, state.note.clone()),
    )
}

/// Fields that are optional come and go; what was written by both versions is read after that, too, and by the first one again.
#[test]
fn optional_fields_come_and_go() {
    let mut harness = TestHarness::new(version1());
    harness.push("orders", [order(1, 10, 0), order(2, 20, 0)]);
    assert_eq!(harness.take::<Total>("totals"), [total(1, 10, None), total(2, 20, None)]);
    harness.upgrade(version2()).expect("its state can be read");
    harness.push("orders", [order(1, 5, 1)]);
    harness.restart();
    harness.push("orders", [order(1, 5, 1), order(2, 5, 1)]);
    assert_eq!(
        harness.take::<Total>("totals"),
        [
            total(1, 15, Some("1 since the upgrade")),
            total(1, 20, Some("2 since the upgrade")),
            total(2, 25, Some("1 since the upgrade"))
        ]
    );
    let refusal = harness.upgrade(version1()).expect_err("a total may be too large now");
    assert_eq!(refusal, "operator `totals`: `total`: u64 cannot be read as u32");
}

#[test]
fn what_cannot_be_read_is_refused() {
    let mut harness = TestHarness::new(version1());
    harness.push("orders", [order(1, 10, 0)]);
    let text = totals(|text: &mut String, _| text.push('.'), |text| (text.len() as u64, None));
    let refusal = harness.upgrade(text).expect_err("a struct is no text");
    assert_eq!(refusal, "operator `totals`: {total: u32, first?: option<i64>} cannot be read as string");
}

/// Expires after an hour of event time.
struct Hour;

impl Expiry for Hour {
    const TTL: Ttl = Ttl::new(hours(1)).event_time();
}

/// What expires keeps the time that it has left.
#[test]
fn expiring_state() {
    fn job<S: weir::State>(add: fn(Option<S>, u64) -> S, result: fn(&S) -> u64) -> impl Fn(&Job) {
        move |job| {
            job.source::<Order>("orders")
                .event_time(Order::TIME, Watermarks::bounded(millis(0)))
                .key_by(Order::USER)
                .process_with(move |state: &mut ExpiringValue<S, Hour>, order: Order, cx| {
                    let total = result(state.update(|state| add(state, order.amount), cx));
                    cx.emit(Total { user: order.user, total, note: None });
                })
                .uid("totals")
                .sink("totals");
        }
    }
    let mut harness = TestHarness::new(job::<u32>(|total, amount| total.unwrap_or(0) + amount as u32, |total| (*total).into()));
    harness.push("orders", [order(1, 10, 0), order(2, 20, 3000)]);
    harness.upgrade(job::<u64>(|total, amount| total.unwrap_or(0) + amount, |total| *total)).expect("a wider number");
    harness.push("orders", [order(1, 1, 3601), order(2, 1, 3601)]);
    let totals = harness.take::<Total>("totals");
    assert_eq!(totals[2..], [total(1, 1, None), total(2, 21, None)]);
}

/// Of the orders of the last day by one clock or the other: their sum, the amounts, and the last of each amount.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
struct LastDay<E: Expiry> {
    sum: ExpiringValue<u64, E>,
    amounts: ExpiringList<u64, E>,
    by_amount: ExpiringMap<u64, i64, E>,
}

impl<E: Expiry> Default for LastDay<E> {
    fn default() -> Self {
        Self { sum: ExpiringValue::default(), amounts: ExpiringList::default(), by_amount: ExpiringMap::default() }
    }
}

macro_rules! lifetimes {
    ($($name:ident: $ttl:expr;)*) => {$(
        struct $name;
        impl Expiry for $name {
            const TTL: Ttl = $ttl;
        }
    )*};
}

lifetimes! {
    DayOfEvents: Ttl::new(days(1)).event_time();
    Day: Ttl::new(days(1));
    TwoDays: Ttl::new(days(2));
    SixHours: Ttl::new(hours(6));
}

/// Says of each user's orders what is kept in `LastDay`, before the new one is added.
fn last_day<E: Expiry>(job: &Job) {
    job.source::<Order>("orders")
        .event_time(Order::TIME, Watermarks::bounded(hours(1)))
        .key_by(Order::USER)
        .process_with(|day: &mut LastDay<E>, order: Order, cx| {
            let sum = day.sum.get(cx).copied().unwrap_or_default();
            let note = format!("{} {}", day.amounts.iter(cx).count(), day.by_amount.iter(cx).count());
            cx.emit(total(order.user, sum, Some(&note)));
            day.sum.set(sum + order.amount, cx);
            day.amounts.push(order.amount, cx);
            day.by_amount.insert(order.amount, order.time.millis(), cx);
        })
        .uid("totals")
        .sink("totals");
}

const HOUR: i64 = 3600;
const IN_2017: i64 = 1_500_000_000;

/// A job that has stamped state of the users 1 to 3, in 2025 by its clock and in 2017 by its rows.
fn orders_of_2017(job: impl Fn(&Job) + 'static) -> TestHarness {
    let mut harness = TestHarness::new(job);
    harness.advance_clock(days(20_000));
    harness.push("orders", [1, 2, 3].map(|user| order(user, 10, IN_2017)));
    harness.take::<Total>("totals");
    harness
}

/// What one more order of a user finds.
fn found(harness: &mut TestHarness, user: u64, second: i64) -> Total {
    harness.push("orders", [order(user, 5, second)]);
    let [found] = harness.take::<Total>("totals").try_into().expect("one order");
    found
}

/// A lifetime by another clock begins when state is first met, one way and the other: nothing is taken for long past, or for still to come. Then it ends in time.
#[test]
fn a_lifetime_by_another_clock_begins_anew() {
    let there = |user| total(user, 10, Some("1 1"));
    let gone = |user| total(user, 0, Some("0 0"));

    let mut harness = orders_of_2017(last_day::<DayOfEvents>);
    harness.upgrade(last_day::<Day>).expect("its stamps are not asked for");
    harness.restart();
    assert_eq!(found(&mut harness, 1, IN_2017 + 48 * HOUR), there(1), "two days of event time are nothing to it");
    harness.advance_clock(hours(23));
    harness.restart();
    assert_eq!(found(&mut harness, 2, IN_2017), there(2));
    harness.advance_clock(hours(2));
    assert_eq!(found(&mut harness, 3, IN_2017), gone(3), "it was met a day ago");
    harness.advance_clock(days(2));
    assert_eq!(harness.keys("totals"), 0);

    let mut harness = orders_of_2017(last_day::<Day>);
    harness.upgrade(last_day::<DayOfEvents>).expect("its stamps are not asked for");
    harness.restart();
    harness.advance_clock(days(2));
    assert_eq!(found(&mut harness, 1, IN_2017 + HOUR), there(1), "two days of the machine's time are nothing to it");
    harness.restart();
    assert_eq!(found(&mut harness, 2, IN_2017 + 22 * HOUR), there(2));
    assert_eq!(found(&mut harness, 3, IN_2017 + 25 * HOUR), gone(3), "it was met a day ago");
    harness.advance_watermark(EventTime::from_millis((IN_2017 + 60 * HOUR) * 1000));
    assert_eq!(harness.keys("totals"), 0);
}

/// Rows of one batch see what is met as of the first of them, as they would in several.
#[test]
fn what_is_met_expires_within_a_batch() {
    let mut harness = orders_of_2017(last_day::<Day>);
    harness.upgrade(last_day::<DayOfEvents>).expect("its stamps are not asked for");
    harness.push("orders", [order(1, 5, IN_2017 + 48 * HOUR), order(1, 5, IN_2017 + 72 * HOUR)]);
    assert_eq!(harness.take::<Total>("totals"), [total(1, 10, Some("1 1")), total(1, 0, Some("0 0"))]);
}

/// A lifetime of another length counts from when state was written.
#[test]
fn a_lifetime_of_another_length_holds_for_what_is_there() {
    let mut harness = orders_of_2017(last_day::<Day>);
    harness.upgrade(last_day::<TwoDays>).expect("its stamps are of the same clock");
    harness.advance_clock(hours(47));
    assert_eq!(found(&mut harness, 1, IN_2017), total(1, 10, Some("1 1")));
    harness.upgrade(last_day::<SixHours>).expect("its stamps are of the same clock");
    harness.advance_clock(hours(5));
    assert_eq!(found(&mut harness, 1, IN_2017), total(1, 15, Some("1 1")), "what was written five hours ago is left");
    assert_eq!(found(&mut harness, 2, IN_2017), total(2, 0, Some("0 0")));
    harness.advance_clock(days(3));
    assert_eq!(harness.keys("totals"), 0);
}

/// Emits the sum of each user's orders.
struct Summed<S> {
    add: fn(&mut S, u64, &mut KeyedContext<'_, u64, Total>) -> u64,
}

macro_rules! summed {
    ($state:ty, $migrations:expr) => {
        impl Process<Order> for Summed<$state> {
            type Key = u64;
            type State = $state;
            type Out = Total;

            fn row(&mut self, state: &mut $state, order: Order, cx: &mut KeyedContext<'_, u64, Total>) {
                let sum = (self.add)(state, order.amount, cx);
                cx.emit(total(order.user, sum, None));
            }
            fn migrations() -> Migrations<$state> {
                $migrations
            }
        }
    };
}

summed!(Option<u64>, Migrations::none().from(|sum: ExpiringValue<u64, Day>| sum.into_inner()));
summed!(ExpiringValue<u64, Day>, Migrations::none().from(|sum: Option<u64>| sum.into()));

fn summed<S: weir::State>(summed: fn() -> Summed<S>) -> impl Fn(&Job)
where
    Summed<S>: Process<Order, Key = u64, Out = Total>,
{
    move |job| job.source::<Order>("orders").key_by(Order::USER).process(summed()).uid("totals").sink("totals")
}

/// A value gets a lifetime, which begins when it is first met, and loses it, by a migration.
#[test]
fn a_lifetime_comes_and_goes() {
    let plain = || {
        summed(|| Summed {
            add: |sum: &mut Option<u64>, amount, _| {
                *sum = Some(sum.unwrap_or_default() + amount);
                sum.unwrap_or_default()
            },
        })
    };
    let expiring =
        || summed(|| Summed { add: |sum: &mut ExpiringValue<u64, Day>, amount, cx| *sum.reduce(amount, |a, b| a + b, cx) });
    let mut harness = TestHarness::new(plain());
    harness.advance_clock(days(20_000));
    harness.push("orders", [1, 2, 3].map(|user| order(user, 10, 0)));
    harness.upgrade(expiring()).expect("there is a migration");
    harness.take::<Total>("totals");
    assert_eq!(found(&mut harness, 1, 0), total(1, 15, None));
    harness.advance_clock(hours(20));
    assert_eq!(found(&mut harness, 2, 0), total(2, 15, None));
    harness.advance_clock(hours(5));
    assert_eq!([1, 3].map(|user| found(&mut harness, user, 0)), [total(1, 5, None), total(3, 15, None)]);
    harness.upgrade(plain()).expect("there is a migration");
    harness.advance_clock(days(100));
    assert_eq!([1, 2, 3].map(|user| found(&mut harness, user, 0).total), [10, 20, 20]);
}

/// The greatest amount.
struct Greatest;

impl Aggregate<Order> for Greatest {
    type Row = Order;
    type Accumulator = u64;
    type Out = u64;

    fn add(&self, greatest: &mut u64, order: Order) {
        *greatest = order.amount.max(*greatest);
    }
    fn merge(&self, greatest: &mut u64, other: &u64) {
        *greatest = (*other).max(*greatest);
    }
    fn result(&self, greatest: &u64) -> u64 {
        *greatest
    }
}

/// The greatest amount and how many there were.
struct GreatestOf;

impl Aggregate<Order> for GreatestOf {
    type Row = Order;
    type Accumulator = (u64, u64);
    type Out = u64;

    fn add(&self, state: &mut (u64, u64), order: Order) {
        self.merge(state, &(order.amount, 1));
    }
    fn merge(&self, (greatest, count): &mut (u64, u64), other: &(u64, u64)) {
        *greatest = other.0.max(*greatest);
        *count += other.1;
    }
    fn result(&self, (greatest, count): &(u64, u64)) -> u64 {
        greatest * 100 + count
    }
    fn migrations() -> Migrations<(u64, u64)> {
        Migrations::none().from(|greatest: u64| (greatest, 50))
    }
}

/// Accumulators of windows that are open are migrated.
#[test]
fn accumulators() {
    fn job<A: Aggregate<Order, Out = u64>>(aggregate: fn() -> A) -> impl Fn(&Job) {
        move |job| {
            job.source::<Order>("orders")
                .event_time(Order::TIME, Watermarks::bounded(millis(0)))
                .key_by(Order::USER)
                .window(Tumbling::new(secs(10)))
                .aggregate(aggregate())
                .map(|(user, _, total)| Total { user, total, note: None })
                .sink("totals");
        }
    }
    let mut harness = TestHarness::new(job(|| Greatest));
    harness.push("orders", [order(1, 7, 1), order(1, 3, 2)]);
    harness.upgrade(job(|| GreatestOf)).expect("there is a migration");
    harness.push("orders", [order(1, 5, 3), order(1, 0, 20)]);
    assert_eq!(harness.take::<Total>("totals"), [total(1, 751, None)]);
}

#[derive(Clone, Debug, PartialEq, Record)]
struct Limit {
    kind: Str,
    most: u64,
}

/// Notes orders over the limit; keeps `B` of the limits.
struct Watch<B>(fn(&mut B, Limit), fn(&B) -> u64);

macro_rules! watch {
    ($broadcast:ty, $migrations:expr) => {
        impl BroadcastProcess<Order, Limit> for Watch<$broadcast> {
            type Key = u64;
            type State = u64;
            type Broadcast = $broadcast;
            type Out = Total;

            fn row(&mut self, total: &mut u64, limits: &$broadcast, order: Order, cx: &mut KeyedContext<'_, u64, Total>) {
                *total += order.amount;
                let note = (*total > self.1(limits)).then(|| "too much".to_owned());
                cx.emit(Total { user: order.user, total: *total, note });
            }
            fn broadcast(&mut self, limits: &mut $broadcast, limit: Limit) {
                self.0(limits, limit);
            }
            fn broadcast_migrations() -> Migrations<$broadcast> {
                $migrations
            }
        }
    };
}

watch!(u64, Migrations::none());
watch!(BTreeMap<String, u64>, Migrations::none().from(|most: u64| [("all".to_owned(), most)].into()));

fn watched<B: weir::State>(watch: fn() -> Watch<B>) -> impl Fn(&Job)
where
    Watch<B>: BroadcastProcess<Order, Limit, Key = u64, Out = Total>,
{
    move |job| {
        let limits = job.source::<Limit>("limits");
        job.source::<Order>("orders").key_by(Order::USER).connect_broadcast(limits).process(watch()).uid("watch").sink("totals");
    }
}

/// State of the operator is migrated apart from that of the keys.
#[test]
fn broadcast_state() {
    let mut harness = TestHarness::new(watched(|| Watch::<u64>(|most, limit| *most = limit.most, |most| *most)));
    harness.push("limits", [Limit { kind: "any".into(), most: 10 }]);
    harness.push("orders", [order(1, 10, 0)]);
    let by_kind = || {
        Watch::<BTreeMap<String, u64>>(
            |limits, limit| {
                limits.insert(limit.kind.to_string(), limit.most);
            },
            |limits| limits.values().copied().min().unwrap_or(0),
        )
    };
    harness.upgrade(watched(by_kind)).expect("there is a migration");
    harness.push("orders", [order(1, 1, 0)]);
    assert_eq!(harness.take::<Total>("totals"), [total(1, 10, None), total(1, 11, Some("too much"))]);
    harness.restart();
    harness.push("limits", [Limit { kind: "all".into(), most: 100 }]);
    harness.push("orders", [order(1, 1, 0)]);
    assert_eq!(harness.take::<Total>("totals"), [total(1, 12, None)]);
}

/// Rows that a join keeps may get optional columns.
#[test]
fn rows_in_state() {
    #[derive(Clone, Debug, PartialEq, Record)]
    struct Noted {
        user: u64,
        amount: u64,
        time: EventTime,
        note: Option<Str>,
    }
    struct Last<T>(fn(Order) -> T, fn(&T) -> Total);
    impl<T: Record + Clone> Process<Order> for Last<T> {
        type Key = u64;
        type State = weir::StoredRows<T>;
        type Out = Total;

        fn row(&mut self, rows: &mut weir::StoredRows<T>, order: Order, cx: &mut KeyedContext<'_, u64, Total>) {
            rows.push((self.0)(order));
            rows.rows().iter().for_each(|row| cx.emit((self.1)(row)));
        }
    }
    fn job<T: Record + Clone>(last: fn() -> Last<T>) -> impl Fn(&Job) {
        move |job| {
            job.source::<Order>("orders").key_by(Order::USER).process(last()).sink("totals");
        }
    }
    let mut harness = TestHarness::new(job(|| Last::<Order>(|order| order, |order| total(order.user, order.amount, None))));
    harness.push("orders", [order(1, 10, 0)]);
    harness.take::<Total>("totals");
    let noted = || {
        Last::<Noted>(
            |Order { user, amount, time }| Noted { user, amount, time, note: Some("new".into()) },
            |row| total(row.user, row.amount, row.note.as_deref()),
        )
    };
    harness.upgrade(job(noted)).expect("the column is optional");
    harness.push("orders", [order(1, 5, 0)]);
    assert_eq!(harness.take::<Total>("totals"), [total(1, 10, None), total(1, 5, Some("new"))]);
}
