//! Operators without state: closures, side outputs, unions, event time.

use weir::{EventTime, Job, KeyedContext, Record, Str, Tag, TestHarness, WatermarkGenerator, Watermarks, millis};

#[derive(Clone, Debug, PartialEq, Record)]
struct Number {
    value: i64,
}

fn numbers(values: impl IntoIterator<Item = i64>) -> impl Iterator<Item = Number> {
    values.into_iter().map(|value| Number { value })
}

fn values(rows: Vec<Number>) -> Vec<i64> {
    rows.into_iter().map(|n| n.value).collect()
}

/// Runs a job from `in` to `out` on the numbers 0 to 9.
fn check<O: 'static>(job: impl Fn(&Job) -> O + 'static, expected: &[i64]) {
    let mut harness = TestHarness::new(move |j: &Job| drop(job(j)));
    harness.push("in", numbers(0..10));
    harness.finish();
    assert_eq!(values(harness.take("out")), expected);
}

/// Each operator does what its name says, alone and behind others.
#[test]
fn closures() {
    let source = |job: &Job| job.source::<Number>("in");
    check(move |j| source(j).sink("out"), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    check(move |j| source(j).map(|n| Number { value: -n.value }).filter(|n| n.value < -7).sink("out"), &[-8, -9]);
    check(move |j| source(j).filter(|n| n.value > 7).inspect(|n| assert!(n.value > 7)).sink("out"), &[8, 9]);
    check(move |j| source(j).flat_map(|n| numbers(0..n.value)).filter(|n| n.value > 6).sink("out"), &[7, 7, 8]);
    check(move |j| source(j).flat_map(|n| (n.value == 3).then_some(n)).sink("out"), &[3]);
    check(
        move |j| source(j).map(|n| (n.value, 1)).map(|(a, b)| Number { value: a + b }).sink("out"),
        &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
    );
    check(move |j| source(j).filter(|n| n.value > 8).rebalance().sink("out"), &[9]);
    check(move |j| source(j).filter(|n| n.value > 8).broadcast().map(|n| n).break_chain().sink("out"), &[9]);
}

/// However many rows come of those that came in, there is room for all of them, in each kind of column, in the main output and beside it; and rows come in
/// any number.
#[test]
fn more_rows_than_came_in() {
    #[derive(Clone, Debug, PartialEq, Record)]
    struct Mixed {
        value: i64,
        odd: bool,
        half: Option<i64>,
        word: Str,
        digits: Vec<u8>,
        words: Vec<Option<String>>,
    }

    fn mixed(value: i64) -> Mixed {
        let text = value.to_string();
        let half = (value % 2 == 0).then_some(value / 2);
        Mixed {
            value,
            odd: value % 2 == 1,
            half,
            word: (&*text).into(),
            digits: text.clone().into_bytes(),
            words: vec![None, Some(text)],
        }
    }

    for rows in 0..10 {
        let mut harness = TestHarness::new(move |job: &Job| {
            let small = Tag::<Mixed>::new("small");
            let part = |n: Number| if n.value % 1000 < 300 { Err(mixed(n.value)) } else { Ok(n) };
            let many = |n: Number| numbers(n.value * 1000..n.value * 1000 + 700);
            job.source::<Number>("in").flat_map(many).divert(&small, part).map(|n| mixed(n.value)).sink("large");
            job.side_output(&small).sink("small");
        });
        harness.push("in", numbers(0..rows));
        let expected = |part: std::ops::Range<i64>| -> Vec<_> {
            (0..rows).flat_map(|n| part.clone().map(move |i| mixed(n * 1000 + i))).collect()
        };
        assert_eq!(harness.take::<Mixed>("small"), expected(0..300));
        assert_eq!(harness.take::<Mixed>("large"), expected(300..700));
    }
}

/// A stream is used twice, and two streams are mixed.
#[test]
fn tee_and_union() {
    check(
        |job| {
            let numbers = job.source::<Number>("in").filter(|n| n.value > 7).tee();
            let negative = numbers.clone().map(|n| Number { value: -n.value });
            numbers.union(negative).filter(|n| n.value % 2 == 0).sink("out");
        },
        &[-8, 8],
    );
}

/// A stream that is mixed with itself, or given to a sink twice, is refused, with what to do instead; that does work.
#[test]
fn rows_come_to_an_input_once() {
    fn mistake(job: impl Fn(&Job) + 'static) -> String {
        TestHarness::try_new(job, &[]).err().unwrap_or_else(|| panic!("no mistake was found"))
    }

    let advice = "twice: put an operator into one of the two ways, such as `.map(|row| row)`";
    let numbers = |job: &Job| job.source::<Number>("in");
    let united = mistake(move |job| numbers(job).union(numbers(job)).map(|n| n).uid("same").sink("out"));
    assert_eq!(united, format!("operator `same`: it is given the rows of source `in` {advice}"));
    let sunk = mistake(move |job| {
        let positive = numbers(job).filter(|n| n.value > 0).uid("positive").tee();
        positive.clone().sink("out");
        positive.sink("out");
    });
    assert_eq!(sunk, format!("sink `out`: it is given the rows of operator `positive` {advice}"));
    let side = mistake(move |job| {
        let odd = Tag::<Number>::new("odd");
        numbers(job).divert(&odd, |n| if n.value % 2 == 0 { Ok(n) } else { Err(n) }).sink("even");
        job.side_output(&odd).union(job.side_output(&odd)).sink("out");
    });
    assert_eq!(side, format!("sink `out`: it is given the rows of side output `odd` of operator `divert-1` {advice}"));
    check(
        move |job| {
            let large = numbers(job).filter(|n| n.value > 8).tee();
            large.clone().union(large.clone().map(|row| row)).sink("out");
            large.map(|row| row).sink("out");
        },
        &[9, 9, 9],
    );
}

/// Operators that nobody would run, or that feed one port from two places, are refused by their names.
#[test]
fn impossible_operators_are_refused() {
    let parallel = |subtasks| {
        let job = move |job: &Job| job.source::<Number>("in").map(|n| n).uid("same").parallelism(subtasks).sink("out");
        TestHarness::try_new(job, &[]).map(drop)
    };
    assert_eq!(parallel(1), Ok(()));
    let none = "operator `same`: `.parallelism(0)` leaves nobody to run it: give it at least 1, or leave it out";
    assert_eq!(parallel(0), Err(none.into()));
    assert!(parallel(70_000).is_err_and(|error| error.contains("at most 65535")));
    let twice = TestHarness::try_new(
        |job: &Job| {
            let odd = Tag::<Number>::new("odd");
            let part = |n: Number| if n.value % 2 == 0 { Ok(n) } else { Err(n) };
            job.source::<Number>("in").divert(&odd, part).divert(&odd, part).sink("even");
        },
        &[],
    );
    assert!(twice.is_err_and(|error| error.starts_with("operator `divert-1`: the side output `odd` is fed twice")));
}

/// Rows are parted by a closure; the side output can have another type.
#[test]
fn divert() {
    #[derive(Debug, PartialEq, Record)]
    struct Word {
        word: Str,
    }

    let mut harness = TestHarness::new(|job: &Job| {
        let odd = Tag::<Word>::new("odd");
        let part = |n: Number| if n.value % 2 == 0 { Ok(n) } else { Err(Word { word: n.value.to_string().into() }) };
        job.source::<Number>("in").divert(&odd, part).sink("even");
        job.side_output(&odd).filter(|w| &*w.word != "3").sink("odd");
    });
    harness.push("in", numbers(0..6));
    assert_eq!(values(harness.take("even")), [0, 2, 4]);
    assert_eq!(harness.take::<Word>("odd"), ["1", "5"].map(|w| Word { word: w.into() }));
}

/// A closure that fails, fails its batch, and nothing of the batch comes out.
#[test]
fn try_map() {
    let mut harness = TestHarness::new(|job: &Job| {
        let half =
            |n: Number| if n.value % 2 == 0 { Ok(Number { value: n.value / 2 }) } else { Err(format!("{} is odd", n.value)) };
        job.source::<Number>("in").try_map(half).sink("out");
    });
    assert_eq!(harness.try_push("in", "", numbers([2, 3, 4])), Err("3 is odd".to_owned()));
    harness.push("in", numbers([4]));
    assert_eq!(values(harness.take("out")), [2]);
}

#[derive(Clone, Debug, PartialEq, Record)]
struct Tick {
    time: EventTime,
}

fn ticks(times: impl IntoIterator<Item = i64>) -> impl Iterator<Item = Tick> {
    times.into_iter().map(|t| Tick { time: EventTime::from_millis(t) })
}

/// Windows fire when the watermark of the assigned event times has passed them, whichever way they were assigned.
#[test]
fn event_times() {
    /// The watermark follows marked rows only: those at multiples of 100.
    #[derive(Default)]
    struct Marks(Option<EventTime>);

    impl WatermarkGenerator<Tick> for Marks {
        fn row(&mut self, _tick: &Tick, time: EventTime) {
            if time.millis() % 100 == 0 {
                self.0 = Some(time);
            }
        }
        fn watermark(&mut self) -> Option<EventTime> {
            self.0.take()
        }
    }

    fn fired(job: impl Fn(&Job) -> weir::Stream<Tick> + 'static) -> Vec<usize> {
        let mut harness = TestHarness::new(move |j: &Job| {
            let counts = job(j).window_all(weir::Tumbling::new(millis(10))).aggregate(weir::Count);
            counts.map(|((), w, n)| Tick { time: EventTime::from_millis(w.end.millis() * 100 + n as i64) }).sink("out");
        });
        let mut fired = vec![];
        for times in [vec![1, 9, 3], vec![11], vec![14, 15], vec![16], vec![100]] {
            harness.push("in", ticks(times));
            fired.push(harness.take::<Tick>("out").len());
        }
        fired
    }

    let bounded = || Watermarks::bounded(millis(5));
    assert_eq!(fired(move |j| j.source::<Tick>("in").event_time(Tick::TIME, bounded()).uid("times")), [0, 0, 1, 0, 1]);
    assert_eq!(fired(move |j| j.source::<Tick>("in").event_time(|t: &Tick| t.time, bounded()).tee()), [0, 0, 1, 0, 1]);
    assert_eq!(
        fired(move |j| j.source("in").map(|t: Tick| t).event_time(|t: &Tick| t.time, bounded()).filter(|_| true).tee()),
        [0, 0, 1, 0, 1]
    );
    assert_eq!(
        fired(|j| j.source::<Tick>("in").event_time(|t: &Tick| t.time, Watermarks::generated(Marks::default)).tee()),
        [0, 0, 0, 0, 2]
    );
}

/// A generator sees the rows: the watermark follows from those that are marked, wherever in a batch they come, and however far ahead the others are.
#[test]
fn watermarks_follow_marks_in_rows() {
    #[derive(Record)]
    struct Reading {
        time: EventTime,
        is_mark: bool,
    }

    #[derive(Record)]
    struct Fired {
        end: i64,
        count: u64,
    }

    struct Marks(Option<EventTime>);

    impl WatermarkGenerator<Reading> for Marks {
        fn row(&mut self, reading: &Reading, time: EventTime) {
            if reading.is_mark {
                self.0 = Some(time);
            }
        }
        fn watermark(&mut self) -> Option<EventTime> {
            self.0.take()
        }
    }

    let mut harness = TestHarness::new(|job: &Job| {
        job.source::<Reading>("in")
            .event_time(|reading: &Reading| reading.time, Watermarks::generated(|| Marks(None)))
            .window_all(weir::Tumbling::new(millis(10)))
            .aggregate(weir::Count)
            .map(|((), window, count)| Fired { end: window.end.millis(), count })
            .sink("out");
    });
    let mut fired = |readings: &[(i64, bool)]| {
        let reading = |&(time, is_mark): &(i64, bool)| Reading { time: EventTime::from_millis(time), is_mark };
        harness.push("in", readings.iter().map(reading));
        harness.take::<Fired>("out").into_iter().map(|window| (window.end, window.count)).collect::<Vec<_>>()
    };
    assert_eq!(fired(&[(1, false), (100, false)]), []);
    assert_eq!(fired(&[(12, false)]), [], "no row before it is marked");
    assert_eq!(fired(&[(2, false), (9, true), (28, false)]), [(10, 3)]);
    assert_eq!(fired(&[(3, false)]), [], "it is too late");
    assert_eq!(fired(&[(29, true), (13, false)]), [(20, 2), (30, 2)]);
}

/// A row that is diverted before a closure assigns event times has none, and not that of the row before it; one that is
/// diverted behind the closure has its own.
#[test]
fn diverted_rows_have_their_own_times() {
    fn seen(job: impl Fn(&Job, &Tag<Tick>) -> weir::Stream<Tick> + 'static) -> Vec<(i64, i64)> {
        #[derive(Record)]
        struct Seen {
            time: i64,
            event_time: i64,
        }

        let mut harness = TestHarness::new(move |j: &Job| {
            let odd = Tag::new("odd");
            job(j, &odd).sink("even");
            j.side_output(&odd)
                .key_by(|_: &Tick| ())
                .process_with(|(): &mut (), tick: Tick, cx: &mut KeyedContext<(), Seen>| {
                    cx.emit(Seen { time: tick.time.millis(), event_time: cx.event_time().millis() });
                })
                .sink("out");
        });
        harness.push("in", ticks([2, 3, 4, 5]));
        harness.finish();
        harness.take::<Seen>("out").into_iter().map(|s| (s.time, s.event_time)).collect()
    }

    fn part(tick: Tick) -> Result<Tick, Tick> {
        if tick.time.millis() % 2 == 0 { Ok(tick) } else { Err(tick) }
    }

    let times = || Watermarks::bounded(millis(0));
    let before = seen(move |j, odd| j.source("in").divert(odd, part).event_time(|t: &Tick| t.time, times()).tee());
    assert_eq!(before, [(3, i64::MIN), (5, i64::MIN)]);
    let behind = seen(move |j, odd| j.source("in").event_time(|t: &Tick| t.time, times()).divert(odd, part).tee());
    assert_eq!(behind, [(3, 3), (5, 5)]);
    let again = seen(move |j, odd| {
        let shifted = |t: &Tick| t.time + millis(100);
        j.source("in").event_time(Tick::TIME, times()).divert(odd, part).event_time(shifted, times()).tee()
    });
    assert_eq!(again, [(3, 3), (5, 5)], "they keep the times that they came with");
}

/// An argument that the job does not ask for is refused, with those that it asks for, also where these are not given.
#[test]
fn unknown_arguments_are_refused() {
    let job = |job: &Job| {
        let least = job.argument("least").map_or(0, |least| least.parse().unwrap_or(0));
        if job.argument("twice").is_some() {
            job.argument("thrice");
        }
        job.source::<Number>("in").filter(move |n| n.value >= least).sink("out");
    };
    let built = |arguments: &[(&str, &str)]| TestHarness::try_new(job, arguments).map(drop);
    assert_eq!(built(&[]), Ok(()));
    assert_eq!(built(&[("least", "3"), ("twice", "yes"), ("thrice", "yes")]), Ok(()));
    let unknown = "the job has no argument `leest`; with these arguments, it asks for: `least`, `twice`";
    assert_eq!(built(&[("leest", "3")]), Err(unknown.into()));
    let unknown = "the job has no argument `thrice`; with these arguments, it asks for: `least`, `twice`";
    assert_eq!(built(&[("thrice", "yes")]), Err(unknown.into()));
    let without = TestHarness::try_new(|job: &Job| job.source::<Number>("in").sink("out"), &[("least", "3")]).map(drop);
    assert_eq!(without, Err("the job has no argument `least`; with these arguments, it asks for: none".into()));
}
