//! Windows: assigners, triggers, lateness, and what is made of their rows.

use weir::{
    Aggregate, Avg, Count, CountWindow, Distinct, EventTime, First, Global, Job, Last, Max, Min, Record, Session, Sliding, Str,
    Stream, Sum, Tag, TestHarness, Trigger, Tumbling, Watermarks, Window, Windowed, millis,
};

#[derive(Clone, Debug, PartialEq, Record)]
struct Sale {
    shop: Str,
    amount: i64,
    time: EventTime,
}

fn sale((shop, amount, time): (&str, i64, i64)) -> Sale {
    Sale { shop: shop.into(), amount, time: EventTime::from_millis(time) }
}

fn sales(job: &Job) -> Stream<Sale> {
    job.source::<Sale>("in").event_time(Sale::TIME, Watermarks::bounded(millis(0)))
}

/// A result, as the tests write it.
#[derive(Clone, Debug, PartialEq, Record)]
struct Total {
    shop: Str,
    start: i64,
    end: i64,
    amount: i64,
}

fn total((shop, window, amount): (Str, Window, i64)) -> Total {
    Total { shop, start: window.start.millis(), end: window.end.millis(), amount }
}

/// Pushes rows one by one and ends the input; returns `shop start end amount` of each result in order.
fn run(window: impl Fn(Windowed<Sale, Str>) -> Windowed<Sale, Str> + 'static, rows: &[(&str, i64, i64)]) -> Vec<String> {
    let assigned = move |job: &Job| {
        let keyed = sales(job).key_by(Sale::SHOP).window(Global);
        window(keyed).aggregate(Sum::of(Sale::AMOUNT)).map(total).sink("out");
    };
    drive(assigned, rows)
}

fn drive(job: impl Fn(&Job) + 'static, rows: &[(&str, i64, i64)]) -> Vec<String> {
    let mut harness = TestHarness::new(job);
    rows.iter().for_each(|&row| harness.push("in", [sale(row)]));
    harness.finish();
    let totals: Vec<Total> = harness.take("out");
    totals.iter().map(|t| format!("{} {} {} {}", t.shop, t.start, t.end, t.amount)).collect()
}

/// Sums up the sales of each shop in these windows.
fn sums(assigner: impl weir::Assigner + Copy + 'static, rows: &[(&str, i64, i64)]) -> Vec<String> {
    drive(move |job| sales(job).key_by(Sale::SHOP).window(assigner).aggregate(Sum::of(Sale::AMOUNT)).map(total).sink("out"), rows)
}

/// Rows come into the windows that the assigner says, each key has its own, and each fires once.
#[test]
fn assigners() {
    let rows = [("a", 1, 0), ("b", 2, 5), ("a", 4, 9), ("a", 8, 10), ("a", 16, 12), ("b", 32, 31)];
    assert_eq!(sums(Tumbling::new(millis(10)), &rows), ["a 0 10 5", "b 0 10 2", "a 10 20 24", "b 30 40 32"]);
    assert_eq!(
        sums(Tumbling::new(millis(10)).offset_ms(2), &rows),
        ["a -8 2 1", "a 2 12 12", "b 2 12 2", "a 12 22 16", "b 22 32 32"]
    );
    assert_eq!(sums(Sliding::new(millis(10), millis(5)), &rows[3..]), ["a 5 15 24", "a 10 20 24", "b 25 35 32", "b 30 40 32"]);
    assert_eq!(sums(Session::gap(millis(5)), &rows), ["a 0 5 1", "b 5 10 2", "a 9 17 28", "b 31 36 32"]);
    let end = i64::MAX;
    assert_eq!(sums(Global, &rows), [format!("a {} {end} 29", i64::MIN), format!("b {} {end} 34", i64::MIN)]);
    assert_eq!(sums(CountWindow(2), &rows).len(), 3);
}

/// Sessions that a row brings together become one.
#[test]
fn sessions_merge() {
    let job = |job: &Job| {
        let sales = job.source::<Sale>("in").event_time(Sale::TIME, Watermarks::bounded(millis(100)));
        sales.key_by(Sale::SHOP).window(Session::gap(millis(5))).aggregate(Sum::of(Sale::AMOUNT)).map(total).sink("out");
    };
    assert_eq!(drive(job, &[("a", 1, 0), ("a", 2, 8), ("a", 4, 20), ("a", 8, 4)]), ["a 0 13 11", "a 20 25 4"]);
}

/// Late rows update their window while it is kept, and go to the side output afterwards.
#[test]
fn lateness() {
    let mut harness = TestHarness::new(|job: &Job| {
        let late = Tag::<Sale>::new("late");
        sales(job)
            .key_by(|sale: &Sale| sale.shop.clone())
            .window(Tumbling::new(millis(10)))
            .allowed_lateness(millis(10))
            .late_output(&late)
            .aggregate(Sum::of(Sale::AMOUNT))
            .map(total)
            .sink("out");
        job.side_output(&late).sink("late");
    });
    let mut amounts = |row| {
        harness.push("in", [sale(row)]);
        (harness.take::<Total>("out").iter().map(|t| t.amount).collect::<Vec<_>>(), harness.take::<Sale>("late"))
    };
    assert_eq!(amounts(("a", 1, 3)), (vec![], vec![]));
    assert_eq!(amounts(("a", 2, 12)), (vec![1], vec![]));
    assert_eq!(amounts(("a", 4, 5)), (vec![5], vec![]));
    assert_eq!(amounts(("a", 8, 25)), (vec![2], vec![]));
    assert_eq!(amounts(("a", 16, 5)), (vec![], vec![sale(("a", 16, 5))]));
}

/// Late rows of two streams go to a side output each, or to that of one of them alone; other side outputs come beside them.
#[test]
fn lateness_of_two() {
    #[derive(Clone, Debug, PartialEq, Record)]
    struct Refund {
        shop: Str,
        cents: i64,
        time: EventTime,
    }

    for (left, right) in [(true, true), (false, true), (true, false)] {
        let mut harness = TestHarness::new(move |job: &Job| {
            let (late_sales, late_refunds) = (Tag::<Sale>::new("late sales"), Tag::<Refund>::new("late refunds"));
            let many = Tag::<Total>::new("many");
            let refunds = job.source::<Refund>("refunds").event_time(Refund::TIME, Watermarks::bounded(millis(0)));
            // One key is computed: its column is behind those of the record.
            let refunds = refunds.key_by(|refund: &Refund| refund.shop.clone());
            let mut windows = sales(job).key_by(Sale::SHOP).connect(refunds).window(Tumbling::new(millis(10)));
            if left {
                windows = windows.late_left(&late_sales);
            }
            if right {
                windows = windows.late_right(&late_refunds);
            }
            windows
                .cogroup(|shop: &Str, window, sales: &[Sale], refunds: &[Refund], out| {
                    out.push(total((shop.clone(), window, sales.len() as i64 * 10 + refunds.len() as i64)));
                })
                .divert(&many, |total| if total.amount > 10 { Err(total) } else { Ok(total) })
                .sink("out");
            job.side_output(&many).sink("many");
            if left {
                job.side_output(&late_sales).sink("late sales");
            }
            if right {
                job.side_output(&late_refunds).sink("late refunds");
            }
        });
        let refund = |shop: &str, cents, time| Refund { shop: shop.into(), cents, time: EventTime::from_millis(time) };
        harness.push("in", [sale(("a", 1, 5)), sale(("b", 1, 5)), sale(("a", 1, 30))]);
        harness.push("refunds", [refund("a", 1, 5), refund("a", 1, 30)]);
        harness.push("in", [sale(("a", 2, 6)), sale(("a", 3, 35))]);
        harness.push("refunds", [refund("c", 2, 7)]);
        let amounts = |totals: Vec<Total>| totals.iter().map(|total| total.amount).collect::<Vec<_>>();
        assert_eq!((amounts(harness.take("out")), amounts(harness.take("many"))), (vec![10], vec![11]));
        if left {
            assert_eq!(harness.take::<Sale>("late sales"), [sale(("a", 2, 6))]);
        }
        if right {
            assert_eq!(harness.take::<Refund>("late refunds"), [refund("c", 2, 7)]);
        }
        harness.finish();
        assert_eq!(amounts(harness.take("many")), [21], "the last window");
        assert_eq!(amounts(harness.take("out")), []);
    }
}

/// Triggers emit early by count and by clock, with what came so far or with what came since.
#[test]
fn triggers() {
    let by_two = Trigger::on_time().every_count(2);
    let rows = [("a", 1, 0), ("a", 2, 1), ("a", 4, 2)];
    let whole = format!("{} {}", i64::MIN, i64::MAX);
    assert_eq!(run(move |w| w.trigger(by_two), &rows), [format!("a {whole} 3"), format!("a {whole} 7")]);
    assert_eq!(run(move |w| w.trigger(by_two.purging()), &rows), [format!("a {whole} 3"), format!("a {whole} 4")]);
    assert_eq!(run(|w| w.trigger(Trigger::never().every_count(3)), &rows), [format!("a {whole} 7")]);

    let mut harness = TestHarness::new(|job: &Job| {
        let windows = sales(job).key_by(Sale::SHOP).window(Tumbling::new(millis(100)));
        windows.trigger(Trigger::on_time().early_every(millis(10))).aggregate(Sum::of(Sale::AMOUNT)).map(total).sink("out");
    });
    let mut amounts = |rows: &[(&str, i64, i64)], wait| {
        harness.push("in", rows.iter().map(|&row| sale(row)));
        harness.advance_clock(millis(wait));
        harness.take::<Total>("out").iter().map(|t| t.amount).collect::<Vec<_>>()
    };
    assert_eq!(amounts(&rows[..2], 5), []);
    assert_eq!(amounts(&[], 5), [3]);
    assert_eq!(amounts(&[], 100), [], "nothing has changed");
    assert_eq!(amounts(&rows[2..], 10), [7]);
}

/// Windows in processing time follow the clock, not the rows.
#[test]
fn processing_time() {
    let mut harness = TestHarness::new(|job: &Job| {
        let windows = job.source::<Sale>("in").key_by(Sale::SHOP).window(Tumbling::new(millis(10))).processing_time();
        windows.aggregate(Count).map(|(shop, w, n)| total((shop, w, n as i64))).sink("out");
    });
    harness.push("in", [sale(("a", 1, 999)), sale(("a", 1, 0))]);
    harness.advance_clock(millis(9));
    assert_eq!(harness.take::<Total>("out"), [], "rows may still come in the window's last millisecond");
    harness.push("in", [sale(("a", 1, 7))]);
    assert_eq!(harness.take::<Total>("out"), [], "no row is late by the clock");
    harness.advance_clock(millis(1));
    let expected = |start, end, amount| Total { shop: "a".into(), start, end, amount };
    assert_eq!(harness.take::<Total>("out"), [expected(0, 10, 3)]);
    harness.push("in", [sale(("a", 1, 8))]);
    harness.finish();
    assert_eq!(harness.take::<Total>("out"), [expected(10, 20, 1)], "at the end of the input no window waits for the clock");
}

/// A row that meets a session is not late, however early its time is; one that meets none is.
#[test]
fn late_rows_of_sessions() {
    let rows = [("a", 1, 100), ("a", 2, 105), ("a", 4, 94), ("a", 8, 84)];
    assert_eq!(sums(Session::gap(millis(10)), &rows), ["a 94 115 7"]);
}

/// A session that was purged keeps its bounds: rows that it meets make it longer, and it takes them for as long as it would have.
#[test]
fn purged_sessions_keep_their_bounds() {
    let job = |job: &Job| {
        let windows = sales(job).key_by(Sale::SHOP).window(Session::gap(millis(4))).allowed_lateness(millis(20));
        let windows = windows.trigger(Trigger::on_time().purging());
        windows.aggregate(Sum::of(Sale::AMOUNT)).map(total).sink("out");
    };
    let mut harness = TestHarness::new(job);
    let mut totals = |row| {
        harness.push("in", [sale(row)]);
        harness.restart();
        harness.take::<Total>("out").iter().map(|t| (t.start, t.end, t.amount)).collect::<Vec<_>>()
    };
    assert_eq!(totals(("a", 1, 14)), []);
    assert_eq!(totals(("b", 1, 30)), [(14, 18, 1)]);
    assert_eq!(totals(("a", 2, 12)), [(12, 18, 2)]);
    assert_eq!(totals(("a", 4, 16)), [(12, 20, 4)]);
}

/// A window that its number of rows has emitted is emitted on time as well, whether or not rows came since, unless it was purged.
#[test]
fn windows_fire_by_count_and_on_time() {
    let job = |trigger: Trigger| {
        move |job: &Job| {
            let windows = sales(job).key_by(Sale::SHOP).window(Tumbling::new(millis(4))).trigger(trigger);
            windows.aggregate(Sum::of(Sale::AMOUNT)).map(total).sink("out");
        }
    };
    let by_two = Trigger::on_time().every_count(2);
    let rows = [("a", 1, 0), ("a", 2, 1), ("a", 4, 5)];
    assert_eq!(drive(job(by_two), &rows), ["a 0 4 3", "a 0 4 3", "a 4 8 4"]);
    assert_eq!(drive(job(by_two.purging()), &rows), ["a 0 4 3", "a 4 8 4"]);
}

/// Where sessions merge, their rows are counted together: a count that is jumped over fires as one that is reached.
#[test]
fn counts_are_not_jumped_over() {
    let job = |job: &Job| {
        let sales = job.source::<Sale>("in").event_time(Sale::TIME, Watermarks::bounded(millis(100)));
        let windows = sales.key_by(Sale::SHOP).window(Session::gap(millis(5))).trigger(Trigger::never().every_count(4));
        windows.aggregate(Sum::of(Sale::AMOUNT)).map(total).sink("out");
    };
    let rows = [("a", 1, 0), ("a", 1, 1), ("a", 1, 8), ("a", 1, 9), ("a", 1, 4)];
    assert_eq!(drive(job, &rows), ["a 0 14 5"]);
}

/// Early results come at multiples of their interval, whenever rows came.
#[test]
fn early_results_come_on_a_grid() {
    let mut harness = TestHarness::new(|job: &Job| {
        let windows = sales(job).key_by(Sale::SHOP).window(Tumbling::new(millis(100)));
        windows.trigger(Trigger::on_time().early_every(millis(10))).aggregate(Sum::of(Sale::AMOUNT)).map(total).sink("out");
    });
    harness.advance_clock(millis(7));
    harness.push("in", [sale(("a", 1, 0))]);
    harness.advance_clock(millis(2));
    assert_eq!(harness.take::<Total>("out").len(), 0);
    harness.advance_clock(millis(1));
    assert_eq!(harness.take::<Total>("out").len(), 1);
}

/// Windows that the host would refuse are a mistake of the job, which says what operator it is, what is wrong, and what to do.
#[test]
fn impossible_windows_are_refused() {
    type Windows = Windowed<Sale, Str>;

    fn mistake(window: impl Fn(weir::KeyedStream<Sale, Str>) -> Windows + 'static, words: &str) {
        let job = move |job: &Job| {
            let windows = window(sales(job).key_by(Sale::SHOP));
            windows.aggregate(Sum::of(Sale::AMOUNT)).uid("totals").map(total).sink("out");
        };
        let error = TestHarness::try_new(job, &[]).err().unwrap_or_else(|| panic!("no mistake was found: {words}"));
        assert!(error.starts_with("operator `totals`: ") && error.contains(words), "{error}");
    }

    let (none, some) = (millis(0), millis(10));
    mistake(|k| k.window(CountWindow(0)), "every 0 rows: let the count be at least 1");
    mistake(move |k| k.window(Tumbling::new(none)), "a length of 0 ms: let that be at least 1 ms");
    mistake(move |k| k.window(Tumbling::new(some).offset_ms(-10)), "shift them by less than 10 ms");
    mistake(move |k| k.window(Tumbling::new(weir::days(400_000))), "more than a thousand years");
    mistake(move |k| k.window(Session::gap(none)), "a gap of 0 ms");
    mistake(move |k| k.window(Sliding::new(some, none)), "slide by 0 ms");
    mistake(
        move |k| k.window(Sliding::new(some, millis(11))),
        "rows between them would be lost: let them slide by 10 ms at most",
    );
    mistake(move |k| k.window(Sliding::new(weir::days(1), millis(1))), "let them slide by more");
    mistake(|k| k.window(Global).trigger(Trigger::never()), "its trigger never fires: add");
    mistake(move |k| k.window(Global).trigger(Trigger::on_time().early_every(none)), "an interval of 0 ms");
    mistake(|k| k.window(CountWindow(3)).trigger(Trigger::on_time()), "`CountWindow(3)`, of which it would replace the count");
    let late = || Tag::<Sale>::new("late");
    mistake(move |k| k.window(Global).processing_time().allowed_lateness(some), "no row is late: leave out the allowed lateness");
    mistake(move |k| k.window(Global).late_output(&late()).processing_time(), "no row is late");
    mistake(move |k| k.window(CountWindow(3)).late_output(&late()), "as count windows do");
}

/// Every built-in aggregate, several of the same column among them, over a window that was merged and restored.
#[test]
fn aggregates() {
    #[derive(Debug, PartialEq, Record)]
    struct Summary {
        count: u64,
        sum: i64,
        min: Option<i64>,
        max: Option<Str>,
        avg: Option<f64>,
        distinct: u64,
        first: Option<i64>,
        last: Option<i64>,
        large: u64,
    }

    let mut harness = TestHarness::new(|job: &Job| {
        let numbers = (Count, Sum::of(Sale::AMOUNT), Min::of(Sale::AMOUNT), Max::of(Sale::SHOP), Avg::of(Sale::AMOUNT));
        let rows = (Distinct::of(Sale::SHOP), First, Last, Sum::of(|s: &Sale| u64::from(s.amount > 3)));
        job.source::<Sale>("in")
            .event_time(Sale::TIME, Watermarks::bounded(millis(100)))
            .window_all(Session::gap(millis(5)))
            .aggregate((numbers, rows))
            .map(|((), _, ((count, sum, min, max, avg), (distinct, first, last, large)))| Summary {
                count,
                sum,
                min,
                max,
                avg,
                distinct,
                first: first.map(|s| s.amount),
                last: last.map(|s| s.amount),
                large,
            })
            .sink("out");
    });
    harness.push("in", [("a", 2, 0), ("b", 8, 7), ("b", 4, 1)].map(sale));
    harness.restart();
    harness.push("in", [sale(("a", 1, 4))]);
    harness.finish();
    let expected = Summary {
        count: 4,
        sum: 15,
        min: Some(1),
        max: Some("b".into()),
        avg: Some(3.75),
        distinct: 2,
        first: Some(2),
        // The row that has made them one session belongs to the earlier one.
        last: Some(8),
        large: 2,
    };
    assert_eq!(harness.take::<Summary>("out"), [expected]);
}

/// Missing values are passed over by aggregates.
#[test]
fn missing_values() {
    #[derive(Record)]
    struct Maybe {
        value: Option<i32>,
    }

    #[derive(Debug, PartialEq, Record)]
    struct Summary {
        sum: i64,
        max: Option<i32>,
        avg: Option<f64>,
    }

    let mut harness = TestHarness::new(|job: &Job| {
        let windows = job.source::<Maybe>("in").window_all(CountWindow(2));
        let summary = windows.aggregate((Sum::of(Maybe::VALUE), Max::of(Maybe::VALUE), Avg::of(Maybe::VALUE)));
        summary.map(|((), _, (sum, max, avg))| Summary { sum, max, avg }).sink("out");
    });
    harness.push("in", [None, None, Some(3), None].map(|value| Maybe { value }));
    let expected = [Summary { sum: 0, max: None, avg: None }, Summary { sum: 3, max: Some(3), avg: Some(3.0) }];
    assert_eq!(harness.take::<Summary>("out"), expected);
}

/// An aggregate of the job's own reads the columns that it names.
#[test]
fn own_aggregate() {
    #[derive(Record)]
    struct Amount {
        amount: i64,
    }

    struct Product;

    impl Aggregate<Sale> for Product {
        type Row = Amount;
        type Accumulator = Option<i64>;
        type Out = i64;

        fn add(&self, product: &mut Option<i64>, row: Amount) {
            *product = Some(product.unwrap_or(1) * row.amount);
        }
        fn merge(&self, product: &mut Option<i64>, other: &Option<i64>) {
            *product = Some(product.unwrap_or(1) * other.unwrap_or(1));
        }
        fn result(&self, product: &Option<i64>) -> i64 {
            product.unwrap_or(1)
        }
    }

    let job =
        |job: &Job| sales(job).key_by(Sale::SHOP).window(Tumbling::new(millis(10))).aggregate(Product).map(total).sink("out");
    assert_eq!(drive(job, &[("a", 3, 0), ("a", 5, 1), ("a", 7, 12)]), ["a 0 10 15", "a 10 20 7"]);
}

/// Rows of a window are reduced, or handed to a closure all together.
#[test]
fn reduce_and_process() {
    let rows = [("a", 3, 0), ("b", 1, 1), ("a", 5, 2), ("a", 4, 3)];
    let reduce = |job: &Job| {
        let windows = sales(job).key_by(Sale::SHOP).window(Session::gap(millis(5)));
        let best = windows.reduce(|a, b| if b.amount > a.amount { b } else { a });
        best.map(|(shop, window, sale)| total((shop, window, sale.amount * 100 + sale.time.millis()))).sink("out");
    };
    assert_eq!(drive(reduce, &rows), ["b 1 6 101", "a 0 8 502"]);
    let process = |job: &Job| {
        let windows = sales(job).key_by(Sale::SHOP).window(Tumbling::new(millis(10)));
        windows
            .process(|shop: &Str, window, rows: &[Sale], out| {
                out.extend(rows.iter().filter(|r| r.amount > 3).map(|r| total((shop.clone(), window, r.amount))));
            })
            .sink("out");
    };
    assert_eq!(drive(process, &rows), ["a 0 10 5", "a 0 10 4"]);
}

/// Two streams are joined within windows, also after a restart in the middle of one.
#[test]
fn joins() {
    #[derive(Clone, Record)]
    struct Shop {
        name: Str,
        city: Str,
        time: EventTime,
    }

    #[derive(Debug, PartialEq, Record)]
    struct Located {
        city: Str,
        amount: i64,
    }

    let mut harness = TestHarness::new(|job: &Job| {
        let shops = job.source::<Shop>("shops").event_time(Shop::TIME, Watermarks::bounded(millis(0))).key_by(Shop::NAME);
        let sales = sales(job).key_by(Sale::SHOP);
        let windows = sales.connect(shops).window(Tumbling::new(millis(10)));
        windows.join(|sale, shop| Located { city: shop.city.clone(), amount: sale.amount }).sink("out");
    });
    let shop = |name: &str, city: &str, time| Shop { name: name.into(), city: city.into(), time: EventTime::from_millis(time) };
    harness.push("in", [("a", 1, 0), ("b", 2, 1), ("a", 4, 5)].map(sale));
    harness.restart();
    harness.push("shops", [shop("a", "Rome", 9), shop("b", "Oslo", 11)]);
    harness.finish();
    let located = |city: &str, amount| Located { city: city.into(), amount };
    assert_eq!(harness.take::<Located>("out"), [located("Rome", 1), located("Rome", 4)]);
}
