//! Rows and their columns: every type of field, records read as others, fields that pass.

use weir::{Bytes, EventTime, Job, Pass, Record, Str, TestHarness};

#[derive(Clone, Debug, PartialEq, Record)]
struct Nested {
    name: String,
    level: Option<i8>,
}

#[derive(Clone, Debug, PartialEq, Record)]
struct Everything {
    tiny: i8,
    small: u16,
    int: i32,
    long: u64,
    single: f32,
    double: f64,
    flag: bool,
    text: Str,
    string: String,
    bytes: Bytes,
    blob: Vec<u8>,
    time: EventTime,
    maybe: Option<i64>,
    maybe_text: Option<Str>,
    nested: Nested,
    maybe_nested: Option<Nested>,
    list: Vec<i32>,
    lists: Vec<Vec<Option<String>>>,
    records: Vec<Nested>,
    #[weir(name = "type")]
    kind: bool,
}

fn everything(i: i64) -> Everything {
    let nested = |level| Nested { name: format!("level {level}"), level: (level % 2 == 0).then_some(level as i8) };
    Everything {
        tiny: -i as i8,
        small: i as u16,
        int: -i as i32,
        long: u64::MAX - i as u64,
        single: i as f32 / 2.0,
        double: -i as f64 / 3.0,
        flag: i % 3 == 0,
        text: "ä".repeat(i as usize).into(),
        string: "x".repeat(i as usize * 7 % 100),
        bytes: Bytes::from(vec![i as u8; i as usize * 3]),
        blob: vec![1, 2, i as u8],
        time: EventTime::from_millis(i * 1000 - 5000),
        maybe: (i % 2 == 1).then_some(i),
        maybe_text: (i % 5 == 1).then(|| "there".into()),
        nested: nested(i),
        maybe_nested: (i % 4 == 0).then(|| nested(i)),
        list: (0..i as i32 % 4).collect(),
        lists: vec![vec![], vec![None, Some(i.to_string())]],
        records: (0..i % 3).map(nested).collect(),
        kind: i % 2 == 0,
    }
}

/// Every type of field survives the way through a job that computes all columns, with more rows than a byte of bits holds.
#[test]
fn all_types_make_the_round_trip() {
    let mut harness = TestHarness::new(|job: &Job| job.source::<Everything>("in").map(|row| row).sink("out"));
    let rows: Vec<_> = (0..100).map(everything).collect();
    harness.push("in", rows.clone());
    assert_eq!(harness.take::<Everything>("out"), rows);
}

/// So they do where a keyed function emits several rows for each, which are written column by column.
#[test]
fn all_types_are_written_by_column() {
    for copies in [1, 3] {
        let mut harness = TestHarness::new(move |job: &Job| {
            let rows = job.source::<Everything>("in").key_by(Everything::KIND);
            rows.process_with(move |(): &mut (), row: Everything, cx| (0..copies).for_each(|_| cx.emit(row.clone()))).sink("out");
        });
        let rows: Vec<_> = (0..101).map(everything).collect();
        harness.push("in", rows.clone());
        let expected: Vec<_> = rows.into_iter().flat_map(|row| std::iter::repeat_n(row, copies)).collect();
        assert_eq!(harness.take::<Everything>("out"), expected);
    }
}

/// Rows in state are encoded and decoded with every type of field.
#[test]
fn all_types_survive_a_restart() {
    let mut harness = TestHarness::new(|job: &Job| {
        let rows = job.source::<Everything>("in").event_time(Everything::TIME, weir::Watermarks::bounded(weir::secs(0)));
        let rows = rows.window_all(weir::Global);
        rows.process(|(), _, rows: &[Everything], out| out.extend_from_slice(rows)).sink("out");
    });
    let rows: Vec<_> = (0..20).map(everything).collect();
    harness.push("in", rows.clone());
    harness.restart();
    harness.finish();
    assert_eq!(harness.take::<Everything>("out"), rows);
}

#[derive(Clone, Debug, PartialEq, Record)]
struct Full {
    id: u64,
    name: Str,
    note: Str,
}

#[derive(Clone, Record)]
struct Light {
    name: Pass<Str>,
    id: u64,
}

#[derive(Record)]
struct Renamed {
    id: u64,
    #[weir(from = "name")]
    title: Pass<Str>,
}

#[derive(Debug, PartialEq, Record)]
struct Title {
    title: String,
    id: u64,
}

fn full(id: u64) -> Full {
    Full { id, name: format!("name {id}").into(), note: "a note".into() }
}

/// A `Pass` field comes out as it went in, of the right row, also under another name and after filtering and repeating.
#[test]
fn fields_pass() {
    let mut harness = TestHarness::new(|job: &Job| {
        job.source::<Light>("in")
            .filter(|row| row.id % 2 == 1)
            .flat_map(|row| (0..2).map(move |i| Renamed { id: row.id * 10 + i, title: row.name }))
            .sink("out");
    });
    harness.push("in", (0..4).map(full));
    let expected: Vec<_> = [(10, 1), (11, 1), (30, 3), (31, 3)].map(|(id, of)| Title { title: format!("name {of}"), id }).into();
    assert_eq!(harness.take::<Title>("out"), expected);
}

/// A `Pass` that is kept until another row, or put into another field, is refused.
#[test]
fn misplaced_pass_is_refused() {
    let mut harness = TestHarness::new(|job: &Job| {
        let mut last = None;
        let keep_last = move |row: Light| Light { name: *last.get_or_insert(row.name), id: row.id };
        job.source::<Light>("in").map(keep_last).sink("out");
    });
    harness.push("in", [full(1)]);
    let error = harness.try_push("in", "", [full(2), full(3)]).expect_err("the second row has the name of the first");
    assert!(error.contains("Pass"), "{error}");
    // Nothing of the failed batch is left.
    harness.push("in", [full(4)]);
    assert_eq!(harness.take::<Title2>("out").iter().map(|t| t.id).collect::<Vec<_>>(), [1, 4]);
}

/// So it is by a keyed function, wherever among its rows the wrong one is.
#[test]
fn misplaced_pass_of_a_key_is_refused() {
    for wrong in [None, Some(1), Some(3), Some(4), Some(9)] {
        let mut harness = TestHarness::new(move |job: &Job| {
            let mut before: Option<Light> = None;
            let rows = job.source::<Light>("in").key_by(Light::ID);
            let exchange = move |(): &mut (), row: Light, cx: &mut weir::KeyedContext<u64, Light>| {
                let other = before.replace(row.clone()).filter(|_| Some(row.id) == wrong);
                cx.emit(Light { name: other.map_or(row.name, |other| other.name), id: row.id });
            };
            rows.process_with(exchange).sink("out");
        });
        match (harness.try_push("in", "", (0..10).map(full)), wrong) {
            (Ok(()), None) => assert_eq!(harness.take::<Title2>("out").len(), 10),
            (Err(error), Some(_)) => assert!(error.contains("Pass"), "{error}"),
            (result, _) => panic!("row {wrong:?} has the name of the one before: {result:?}"),
        }
    }
}

#[derive(Record)]
struct Title2 {
    id: u64,
}

/// What makes no sense is found when the job is described.
#[test]
fn mistakes_are_reported() {
    #[derive(Record)]
    struct Wrapped {
        inner: Light,
    }

    #[derive(Record)]
    struct Other {
        other: Pass<Str>,
        id: u64,
    }

    fn mistake(job: impl Fn(&Job) + 'static, words: &str) {
        let error = TestHarness::try_new(job, &[]).err().unwrap_or_else(|| panic!("no mistake was found: {words}"));
        assert!(error.contains(words), "{error}");
    }

    mistake(|job| job.source::<Wrapped>("in").sink("out"), "nested");
    mistake(|job| job.source::<Light>("in").select::<Full>().sink("out"), "`note`");
    mistake(
        |job| {
            job.source::<Light>("in")
                .map(|r| Renamed { id: r.id, title: r.name })
                .map(|_| -> Other { unreachable!() })
                .sink("out")
        },
        "`other`",
    );
    mistake(
        |job| {
            job.source::<Light>("in")
                .key_by(Light::ID)
                .window(weir::CountWindow(1))
                .aggregate(weir::Last)
                .map(|(_, _, l)| l)
                .flat_map(|l| l)
                .sink("out");
        },
        "kept in state",
    );
    mistake(
        |job| {
            let windows = job.source::<Full>("in").window_all(weir::Global);
            windows.aggregate(weir::Count).map(|(_, _, id)| Title2 { id }).sink("out");
        },
        "no event times",
    );
    mistake(|job| job.source::<Full>("in").map(|r| r).uid("a").filter(|_| true).uid("a").sink("out"), "two operators");
    mistake(
        |job| {
            job.source::<Full>("in").sink("a");
            job.source::<Light>("in").sink("b");
        },
        "two different records",
    );
    mistake(|job| job.side_output(&weir::Tag::<Full>::new("side")).sink("out"), "side output `side`");
    mistake(|job| job.source::<Full>("in").parallelism(2).sink("out"), "`.parallelism(2)` stands where there is no operator");
    mistake(|job| drop(job.source::<Full>("in").map(|r| r).tee().parallelism(3).key_by(Full::ID)), "no operator");
}

/// A stream is read as a record with fewer columns in another order, and its passed columns as values.
#[test]
fn select_reads_by_name() {
    #[derive(Debug, PartialEq, Record)]
    struct Name {
        name: String,
    }

    let mut harness = TestHarness::new(|job: &Job| {
        job.source::<Light>("in").filter(|row| row.id > 1).select::<Name>().map(|n| Name { name: n.name + "!" }).sink("out");
    });
    harness.push("in", (0..3).map(full));
    assert_eq!(harness.take::<Name>("out"), [Name { name: "name 2!".into() }]);
}
