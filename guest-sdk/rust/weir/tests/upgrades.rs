//! State that an older version of a job has written, in a newer one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir::{
    Aggregate, BroadcastProcess, EventTime, ExpiringValue, Expiry, Job, KeyedContext, Migrations, Process, Record, Str,
    TestHarness, Ttl, Tumbling, Watermarks, hours, millis, secs,
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
