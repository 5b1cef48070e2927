//! Plans of graphs that are made by hand, compared as the text that `weir explain` prints.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use insta::assert_snapshot;
use weir_types::graph::{
    Assigner, Chain, ColumnOrigin, Endpoint, EventTimeAssigner, Graph, Head, Input, OperatorInfo, Output, Partitioning, Sink,
    Source, TimeDomain, Trigger, Watermarks, Window,
};

use crate::explain::explain;
use crate::{JobSpec, plan};

fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|(name, t)| Field::new(*name, t.clone(), false)).collect::<Vec<_>>()))
}

fn bid() -> SchemaRef {
    schema(&[("auction", DataType::UInt64), ("price", DataType::UInt64), ("url", DataType::Utf8)])
}

fn counted() -> SchemaRef {
    schema(&[("auction", DataType::UInt64), ("count", DataType::UInt64)])
}

fn operators(ids: &[&str]) -> Vec<OperatorInfo> {
    let kind = |id: &str| id.split('-').next().unwrap_or_default().to_owned();
    ids.iter().map(|id| OperatorInfo { id: (*id).to_owned(), kind: kind(id) }).collect()
}

fn input(from: Endpoint, partitioning: Partitioning, key: &[usize], columns: &[usize]) -> Input {
    Input { from: vec![from], partitioning, key: key.to_vec(), columns: columns.to_vec(), times: false }
}

/// A filter: reads these columns, passes all on.
fn filter(id: &str, from: Endpoint, reads: &[usize], schema: &SchemaRef) -> Chain {
    let passed = (0..schema.fields().len()).map(ColumnOrigin::Passed).collect();
    Chain {
        operators: operators(&[id]),
        head: Head::Transform,
        inputs: vec![input(from, Partitioning::Forward, &[], reads)],
        outputs: vec![Output { name: String::new(), schema: schema.clone(), columns: passed }],
        event_time: None,
        parallelism: None,
        state_schema: None,
    }
}

/// A count over tumbling windows, by these key columns of [`bid`].
fn window(from: Endpoint, key: &[usize]) -> Chain {
    let window = Window {
        assigner: Assigner::Tumbling { size_ms: 10_000, offset_ms: 0 },
        domain: TimeDomain::Event,
        trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
        allowed_lateness_ms: 0,
        late_port: None,
        mergeable: true,
    };
    Chain {
        operators: operators(&["window-1", "map-1"]),
        head: Head::Window(window),
        inputs: vec![input(from, Partitioning::Hash, key, &[])],
        outputs: vec![Output { name: String::new(), schema: counted(), columns: vec![ColumnOrigin::Computed; 2] }],
        event_time: None,
        parallelism: None,
        state_schema: None,
    }
}

const CHAIN_0: Endpoint = Endpoint::Chain { chain: 0, port: 0 };
const CHAIN_1: Endpoint = Endpoint::Chain { chain: 1, port: 0 };

fn graph(chains: Vec<Chain>, out: Endpoint) -> Graph {
    Graph {
        name: "counts".into(),
        sources: vec![Source { name: "bids".into(), stream: String::new(), schema: bid() }],
        chains,
        sinks: vec![Sink { name: "out".into(), from: vec![out] }],
    }
}

/// Bids, filtered by price, counted by auction.
fn counts() -> Graph {
    graph(vec![filter("filter-1", Endpoint::Source(0), &[1], &bid()), window(CHAIN_0, &[0])], CHAIN_1)
}

const ONE: &str = r#"
    component = "a.wasm"
    [sources.bids]
    connector = "nexmark"
    [sinks.out]
    connector = "stdout"
"#;

fn spec(text: &str, settings: &[(&str, &str)]) -> JobSpec {
    let settings: Vec<_> = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    JobSpec::from_toml(text, &settings).expect("a good spec")
}

fn planned(text: &str, settings: &[(&str, &str)], graphs: &[Graph]) -> String {
    explain(&plan(&spec(text, settings), graphs).expect("a good job"))
}

fn refused(text: &str, settings: &[(&str, &str)], graphs: &[Graph]) -> String {
    plan(&spec(text, settings), graphs).expect_err("a bad job").to_string()
}

/// With one subtask nothing has to be exchanged: the whole job is one task. Nobody reads `url`.
#[test]
fn one_subtask_is_one_task() {
    assert_snapshot!(planned(ONE, &[], &[counts()]), @r"
    job counts: parallelism 1, 128 key groups, 1 vertex, 1 subtask

    vertex 0, 1 subtask: bids → filter-1 → window-1 → map-1 → out
      source bids: nexmark
          auction  uint64
          price    uint64
          url      utf8, not read
      0 chain: filter-1, from the source
          reads price
          out: auction (passed), price (not read), url (not read)
      1 chain: window-1 → map-1, from 0
          window: tumbling 10s, event time
          key auction; reads no column
          out: auction, count
      2 sink out: stdout, from 1
          auction  uint64
          count    uint64
    ");
}

/// A mergeable window is counted on both sides of the exchange.
#[test]
fn windows_are_preaggregated() {
    assert_snapshot!(planned(ONE, &[("parallelism", "4")], &[counts()]), @r"
    job counts: parallelism 4, 128 key groups, 2 vertices, 8 subtasks

    vertex 0, 4 subtasks: bids → filter-1 → window-1 (local)
      source bids: nexmark
          auction  uint64
          price    uint64
          url      utf8, not read
      0 chain: filter-1, from the source
          reads price
          out: auction (passed), price (not read), url (not read)
      1 chain: window-1, local part, from 0
          window: tumbling 10s, event time
          key auction; reads no column
      2 exchange 0: hash(auction) to vertex 1, from 1.partials
      3 exchange 1: hash(auction) to vertex 1, from 1

    vertex 1, 4 subtasks: window-1 → map-1 → out
      gate: exchange 0 of vertex 0, exchange 1 of vertex 0
      0 chain: window-1 → map-1, merging part, from exchange 0 (partials), exchange 1
          window: tumbling 10s, event time
          key auction
          out: auction, count
      1 sink out: stdout, from 0
          auction  uint64
          count    uint64
    ");
}

/// Without pre-aggregation, rows go through the exchange by their key.
#[test]
fn preaggregation_can_be_turned_off() {
    let text = planned(ONE, &[("parallelism", "4"), ("preaggregation", "false")], &[counts()]);
    assert!(text.contains("exchange 0: hash(auction) to vertex 1"), "{text}");
    assert!(!text.contains("local part"), "{text}");
}

/// A window that emits early, waits for late rows or cannot merge its accumulators sees every row itself.
#[test]
fn windows_that_see_every_row_are_not_preaggregated() {
    let changes: [fn(&mut Window); 5] = [
        |w| w.mergeable = false,
        |w| w.domain = TimeDomain::Processing,
        |w| w.trigger.every_count = Some(1),
        |w| w.trigger.early_every_ms = Some(100),
        |w| w.allowed_lateness_ms = 1,
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut graph = counts();
        let Head::Window(window) = &mut graph.chains[1].head else { panic!("chain 1 is the window") };
        change(window);
        let text = planned(ONE, &[("parallelism", "2")], &[graph]);
        assert!(!text.contains("local part"), "change {i}: {text}");
    }
}

/// Rows without a key are one key: one subtask takes them all.
#[test]
fn keyless_windows_have_one_subtask() {
    let graph = graph(vec![filter("filter-1", Endpoint::Source(0), &[1], &bid()), window(CHAIN_0, &[])], CHAIN_1);
    assert_snapshot!(planned(ONE, &[("parallelism", "4")], &[graph]), @r"
    job counts: parallelism 4, 128 key groups, 2 vertices, 5 subtasks

    vertex 0, 4 subtasks: bids → filter-1 → window-1 (local)
      source bids: nexmark
          auction  uint64, not read
          price    uint64
          url      utf8, not read
      0 chain: filter-1, from the source
          reads price
          out: auction (not read), price (not read), url (not read)
      1 chain: window-1, local part, from 0
          window: tumbling 10s, event time
          reads no column
      2 exchange 0: all rows to vertex 1, from 1.partials

    vertex 1, 1 subtask: window-1 → map-1 → out
      gate: exchange 0 of vertex 0
      0 chain: window-1 → map-1, merging part, from exchange 0 (partials)
          window: tumbling 10s, event time
          out: auction, count
      1 sink out: stdout, from 0
          auction  uint64
          count    uint64
    ");
}

/// Without chaining each step is a task of its own.
#[test]
fn chaining_can_be_turned_off() {
    let plan = plan(&spec(ONE, &[("chaining", "false"), ("parallelism", "2")]), &[counts()]).expect("a good job");
    assert_eq!(plan.vertices.len(), 4, "{}", explain(&plan));
}

/// Where rows may be in flight in a checkpoint, there are the same exchanges at each parallelism.
#[test]
fn exchanges_stay_for_rows_in_flight() {
    let mut two = counts();
    two.chains[0].parallelism = Some(2);
    let edges_of = |graph: &Graph, mode: &str, parallelism: &str| {
        let settings = [("checkpoint.mode", mode), ("parallelism", parallelism)];
        plan(&spec(ONE, &settings), std::slice::from_ref(graph)).expect("a good job").edges.len()
    };
    assert_eq!(["1", "2", "3"].map(|parallelism| edges_of(&two, "unaligned", parallelism)), [3; 3]);
    let edges = |mode: &str, parallelism: &str| edges_of(&counts(), mode, parallelism);
    assert_eq!(["1", "2", "3"].map(|parallelism| edges("unaligned", parallelism)), [2; 3]);
    assert_eq!(["1", "2"].map(|parallelism| edges("aligned", parallelism)), [0, 2]);
}

/// What lies between a source and the chain that assigns event times is not cut: in a channel, the rows of several splits would be mixed.
#[test]
fn splits_are_kept_apart() {
    let mut times = filter("event-time", CHAIN_0, &[], &bid());
    times.head = Head::Relay;
    times.event_time = Some(EventTimeAssigner { column: Some(1), watermarks: Watermarks::Bounded(0) });
    let after = filter("filter-2", CHAIN_1, &[1], &bid());
    let chains = vec![filter("filter-1", Endpoint::Source(0), &[1], &bid()), times, after];
    let mut graph = graph(chains, Endpoint::Chain { chain: 2, port: 0 });
    let settings = [("chaining", "false"), ("parallelism", "2")];
    let vertices = |graph: &Graph| {
        let plan = plan(&spec(ONE, &settings), std::slice::from_ref(graph)).expect("a good job");
        plan.vertices.into_iter().map(|vertex| vertex.name).collect::<Vec<_>>()
    };
    assert_eq!(vertices(&graph), ["bids → filter-1 → event-time", "filter-2", "out"]);
    graph.chains[1].inputs[0].partitioning = Partitioning::Rebalance;
    assert_eq!(vertices(&graph), ["bids", "filter-1", "event-time", "filter-2", "out"], "unless the user asks for it");
}

const LINKED: &str = r#"
    [components.clean]
    component = "clean.wasm"
    [components.count]
    component = "count.wasm"
    [links]
    "clean.out" = "count.bids"
    [sources."clean.bids"]
    connector = "nexmark"
    [sinks."count.out"]
    connector = "stdout"
"#;

/// The graph of a component whose sink offers `offered`.
fn clean(offered: &SchemaRef) -> Graph {
    let mut graph = graph(vec![filter("filter-1", Endpoint::Source(0), &[1], offered)], CHAIN_0);
    graph.sources[0].schema = offered.clone();
    graph
}

/// A linked sink that has more columns than are wanted is projected by a relay, and what the relay drops is not read.
#[test]
fn links_project_by_name() {
    let offered =
        schema(&[("note", DataType::Utf8), ("price", DataType::UInt64), ("url", DataType::Utf8), ("auction", DataType::UInt64)]);
    let count = graph(vec![window(Endpoint::Source(0), &[0])], CHAIN_0);
    assert_snapshot!(planned(LINKED, &[], &[clean(&offered), count]), @r"
    job counts: parallelism 1, 128 key groups, 1 vertex, 1 subtask

    vertex 0, 1 subtask: clean.bids → filter-1 → link-clean.out → window-1 → map-1 → count.out
      source clean.bids: nexmark
          note     utf8, not read
          price    uint64
          url      utf8, not read
          auction  uint64
      0 chain of clean: filter-1, from the source
          reads price
          out: note (not read), price (not read), url (not read), auction (passed)
      1 chain: link-clean.out, from 0
          out: auction (passed), price (not read), url (not read)
      2 chain of count: window-1 → map-1, from 1
          window: tumbling 10s, event time
          key auction; reads no column
          out: auction, count
      3 sink count.out: stdout, from 2
          auction  uint64
          count    uint64
    ");
}

/// A link whose columns are missing or of another type is refused, with the column's name.
#[test]
fn links_of_other_columns_are_refused() {
    let count = graph(vec![window(Endpoint::Source(0), &[0])], CHAIN_0);
    let missing = schema(&[("note", DataType::Utf8), ("price", DataType::UInt64)]);
    assert_snapshot!(refused(LINKED, &[], &[clean(&missing), count.clone()]), @r#"link "clean.out": column "auction" is wanted, but not there"#);
    let other = schema(&[("auction", DataType::Utf8), ("price", DataType::UInt64), ("url", DataType::Utf8)]);
    assert_snapshot!(refused(LINKED, &[], &[clean(&other), count]), @r#"link "clean.out": column "auction" is Utf8 there, but UInt64 is wanted"#);
}

/// Components that feed each other are refused.
#[test]
fn loops_are_refused() {
    let text = r#"
        [components.a]
        component = "a.wasm"
        [components.b]
        component = "b.wasm"
        [links]
        "a.out" = "b.bids"
        "b.out" = "a.bids"
    "#;
    assert_snapshot!(refused(text, &[], &[clean(&bid()), clean(&bid())]), @r#"the links go round in a loop through component "a""#);
}

/// What is not bound, and what is bound without being there, is named.
#[test]
fn wrong_names_are_named() {
    let no_sink = ONE.replace("[sinks.out]", "[sinks.hot]");
    assert_snapshot!(refused(&no_sink, &[], &[counts()]), @r#"the job writes to "out", but the spec has no [sinks.out]"#);
    let no_source = ONE.replace("[sources.bids]", "[sources.bid]");
    assert_snapshot!(refused(&no_source, &[], &[counts()]), @r#"the job reads "bids", but the spec has no [sources.bids]"#);
    assert_snapshot!(refused(ONE, &[("sources.more.connector", "file")], &[counts()]), @r#"the job reads no "more"; it reads: bids"#);
    assert_snapshot!(refused(ONE, &[("sinks.more.connector", "file")], &[counts()]), @r#"the job writes no "more"; it writes: out"#);
    let unknown = LINKED.replace("\"clean.out\"", "\"cleen.out\"");
    assert_snapshot!(refused(&unknown, &[], &[clean(&bid()), counts()]), @r#"link "cleen.out": there is no component "cleen""#);
}

/// A side output keeps its name, and what nobody reads of it is not made.
#[test]
fn side_outputs_are_named() {
    let mut graph = counts();
    graph.chains[0].outputs.push(Output {
        name: "cheap".into(),
        schema: bid(),
        columns: vec![ColumnOrigin::Passed(0), ColumnOrigin::Passed(1), ColumnOrigin::Passed(2)],
    });
    graph.sinks.push(Sink { name: "cheap".into(), from: vec![Endpoint::Chain { chain: 0, port: 1 }] });
    let text = planned(ONE, &[("sinks.cheap.connector", "file")], &[graph]);
    assert!(text.contains("out: auction (passed), price (not read), url (not read)"), "{text}");
    assert!(text.contains("out cheap: auction (passed), price (passed), url (passed)"), "{text}");
    assert!(text.contains("sink cheap: file, from 0.cheap"), "{text}");
}

/// Settings that bind a sink for dead letters, and others.
fn with_letters<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("sinks.letters.connector", "file"), ("dead_letters", "letters")], settings].concat()
}

/// Dead letters leave by an output of their own for a sink in the same task, and have the whole record.
#[test]
fn dead_letters_flow_to_their_sink() {
    let mut graph = graph(vec![filter("filter-1", Endpoint::Source(0), &[1], &counted())], CHAIN_0);
    graph.sources[0].schema = counted();
    let settings = with_letters(&[("on_error", "dead-letter"), ("retries", "2"), ("operators.filter-1.retry_pause", "2s")]);
    assert_snapshot!(planned(ONE, &settings, &[graph]), @r"
    job counts: parallelism 1, 128 key groups, 1 vertex, 1 subtask

    vertex 0, 1 subtask: bids → filter-1 → out → letters
      source bids: nexmark
          auction  uint64
          count    uint64
      0 chain: filter-1, from the source
          reads count
          out: auction (passed), count (passed)
          out dead-letters: job, operator, time, source, split, first_position, last_position, event_time, record, error, message, backtrace
          on error: 2 retries after 2s each, then rows become dead letters
      1 sink out: stdout, from 0
          auction  uint64
          count    uint64
      2 sink letters: file, from 0.dead-letters
          job             utf8
          operator        utf8?
          time            event-time
          source          utf8
          split           utf8?
          first_position  int64?
          last_position   int64?
          event_time      event-time?
          record          utf8
          error           utf8
          message         utf8
          backtrace       utf8?
    ");
}

/// The dead letters of malformed records leave by a stream of their source, which the connector knows nothing of.
#[test]
fn malformed_records_have_a_stream() {
    let settings = with_letters(&[("sources.bids.on_malformed", "dead-letter")]);
    let text = planned(ONE, &settings, &[counts()]);
    for line in ["    stream dead-letters: malformed records", "sink letters: file, from stream dead-letters"] {
        assert!(text.contains(line), "{text}");
    }
}

/// Dead letters of several tasks come together in one. A window whose rows may become such sees each of them: it is not aggregated before the exchange,
/// all columns are read, and rows say where they come from.
#[test]
fn dead_letters_of_several_tasks_meet() {
    let settings = with_letters(&[("on_error", "dead-letter"), ("parallelism", "2"), ("checkpoint.interval", "1s")]);
    let text = planned(ONE, &settings, &[counts()]);
    assert_snapshot!(text, @r"
    job counts: parallelism 2, 128 key groups, 3 vertices, 6 subtasks

    vertex 0, 2 subtasks: bids → filter-1
      source bids: nexmark
          auction  uint64
          price    uint64
          url      utf8
      0 chain: filter-1, from the source
          reads price
          out: auction (passed), price (passed), url (passed)
          out dead-letters: job, operator, time, source, split, first_position, last_position, event_time, record, error, message, backtrace
          on error: rows become dead letters
      1 exchange 0: hash(auction) to vertex 1, from 0, with where rows come from
      2 exchange 1: forward to vertex 2, from 0.dead-letters

    vertex 1, 2 subtasks: window-1 → map-1 → out
      gate: exchange 0 of vertex 0
      0 chain: window-1 → map-1, from exchange 0
          window: tumbling 10s, event time
          key auction; reads no column
          out: auction, count
          out dead-letters: job, operator, time, source, split, first_position, last_position, event_time, record, error, message, backtrace
          on error: the job goes back to a checkpoint, then rows become dead letters
      1 sink out: stdout, from 0
          auction  uint64
          count    uint64
      2 exchange 2: forward to vertex 2, from 0.dead-letters

    vertex 2, 2 subtasks: letters
      gate: exchange 1 of vertex 0, exchange 2 of vertex 1
      0 sink letters: file, from exchange 1, exchange 2
          job             utf8
          operator        utf8?
          time            event-time
          source          utf8
          split           utf8?
          first_position  int64?
          last_position   int64?
          event_time      event-time?
          record          utf8
          error           utf8
          message         utf8
          backtrace       utf8?
    ");
}

/// Rows say where they come from over all exchanges from their source to who may make dead letters of them, and no others: not where operators with state
/// have made them, nor where nobody asks.
#[test]
fn rows_say_where_they_come_from() {
    let exchanges = |settings: &[(&str, &str)]| {
        let settings =
            [&with_letters(settings)[..], &[("chaining", "false"), ("parallelism", "2"), ("checkpoint.interval", "1s")]].concat();
        let text = planned(ONE, &settings, &[counts()]);
        let lines = text.lines().filter(|line| line.contains(" to vertex "));
        lines.map(|line| line.ends_with("with where rows come from")).collect::<Vec<_>>()
    };
    // To the filter; to the window, to which accumulators go besides where its rows cannot become dead letters; to the sink; and, of dead letters, to theirs.
    assert_eq!(exchanges(&[("operators.window-1.on_error", "dead-letter")]), [true, true, false, false]);
    assert_eq!(exchanges(&[("operators.filter-1.on_error", "dead-letter")]), [true, false, false, false, false]);
}

/// An operator's own word goes before the job's, and holds for all that run in the same call. Operators that keep state need checkpoints to do anything but
/// fail.
#[test]
fn operators_have_policies_of_their_own() {
    let mut graph = counts();
    graph.chains[0].operators = operators(&["filter-1", "map-2"]);
    let lines = |settings: &[(&str, &str)]| {
        let text = planned(ONE, settings, std::slice::from_ref(&graph));
        text.lines().filter_map(|line| line.trim().strip_prefix("on error: ").map(str::to_owned)).collect::<Vec<_>>()
    };
    let skips = "rows are skipped";
    let fails = "the job fails, since it has no checkpoints for the operator's state to go back to";
    let goes_back = "the job goes back to a checkpoint, then rows are skipped";
    assert_eq!(lines(&[("operators.map-2.on_error", "skip")]), [skips]);
    assert_eq!(lines(&[("on_error", "skip")]), [skips, fails]);
    assert_eq!(lines(&[("on_error", "skip"), ("operators.map-2.on_error", "fail")]), [fails]);
    assert_eq!(lines(&[("operators.filter-1.retries", "1")]), ["1 retry after 100ms each, then the job fails"]);
    let has_checkpoints = ("checkpoint.interval", "1s");
    assert_eq!(lines(&[("retries", "1")]), ["1 retry after 100ms each, then the job fails", fails]);
    assert_eq!(
        lines(&[has_checkpoints, ("on_error", "skip"), ("retries", "1")]),
        ["1 retry after 100ms each, then rows are skipped", "1 retry from a checkpoint after 100ms each, then rows are skipped"]
    );
    assert_eq!(
        lines(&[has_checkpoints, ("operators.map-1.retries", "3"), ("operators.map-1.retry_pause", "2s")]),
        ["3 retries from a checkpoint after 2s each, then the job fails"]
    );
    assert_eq!(lines(&[has_checkpoints, ("on_error", "skip"), ("operators.map-1.retries", "0")]), [skips, goes_back]);
    assert_eq!(lines(&[has_checkpoints, ("operators.map-1.on_error", "skip")]), [goes_back]);
    assert_eq!(lines(&[has_checkpoints, ("on_error", "skip"), ("operators.window-1.on_error", "fail")]), [skips]);
}

/// What cannot be, or would be of no use, is refused with what is wrong, where, and what to do.
#[test]
fn wrong_error_policies_are_refused() {
    let refused = |settings: &[(&str, &str)]| refused(ONE, settings, &[counts()]);
    let letters = ("operators.filter-1.on_error", "dead-letter");
    let misspelt = [letters, ("dead_letters", "letters"), ("sinks.leters.connector", "file")];
    for (settings, says) in [
        (
            &[("operators.filter-2.on_error", "skip")][..],
            "[operators.filter-2]: the job has no operator \"filter-2\"; it has: filter-1, map-1, window-1",
        ),
        (
            &[("operators.window-1.on_error", "skip")],
            "[operators.window-1]: the operator keeps state, which a call that fails may leave half changed",
        ),
        (&[("operators.map-1.retries", "3")], "so the job has to go back to a checkpoint, and has none"),
        (&[letters], "operator \"filter-1\" makes dead letters of rows, but the spec does not say where they go"),
        (&[letters, ("dead_letters", "letters")], "dead letters go to \"letters\", but the spec has no [sinks.letters]"),
        (
            &[letters, ("dead_letters", "out")],
            "dead letters go to \"out\", but the job itself writes to it, rows with other columns",
        ),
        (&with_letters(&[("on_error", "skip")]), "dead_letters is \"letters\", but no rows can go there"),
        (
            &[("operators.filter-1.dead_letters", "letters")],
            "[operators.filter-1]: dead_letters is \"letters\", but no rows go there",
        ),
        (&misspelt, "the spec has no [sinks.letters]"),
    ] {
        let error = refused(settings);
        assert!(error.contains(says), "{settings:?}: {error}");
    }
}

/// Operators of one call cannot differ, and a step without code of the guest cannot fail.
#[test]
fn policies_are_of_calls() {
    let mut graph = counts();
    graph.chains[0].operators = operators(&["filter-1", "map-2"]);
    let differing = [("operators.filter-1.on_error", "skip"), ("operators.map-2.retries", "1")];
    assert_snapshot!(refused(ONE, &differing, &[graph.clone()]), @"[operators.filter-1] and [operators.map-2]: both run in the same guest call, which fails as a whole: say the same of both, or leave one out");
    graph.chains[0].head = Head::Relay;
    assert_snapshot!(refused(ONE, &[("operators.map-2.on_error", "skip")], &[graph]), @"[operators.map-2]: the operator runs no code of a guest, so it cannot fail: leave it out");
}

/// Where several components are, an operator can be named with its component.
#[test]
fn operators_of_components() {
    let graphs = [clean(&bid()), counts()];
    let text = |own: &str| format!("{LINKED}\n[operators.{own}]\non_error = \"skip\"");
    let skipping = |own: &str| planned(&text(own), &[], &graphs).matches("rows are skipped").count();
    assert_eq!((skipping("filter-1"), skipping("\"count.filter-1\"")), (2, 1));
    assert_snapshot!(refused(&text("\"clean.window-1\""), &[], &graphs), @r#"[operators.clean.window-1]: the job has no operator "clean.window-1"; it has: filter-1, map-1, window-1"#);
}
