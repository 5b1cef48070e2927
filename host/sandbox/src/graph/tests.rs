//! One good graph, and what is said about it once it is spoilt in each possible way.

use super::*;
use crate::wit::{ChainInput, ChainOutput, ChainPort, DataType as W, Field, WindowHead};

fn field(name: &str, data_type: W) -> Field {
    Field { name: name.into(), data_type, nullable: false, children: 0 }
}

fn bids() -> Vec<Field> {
    vec![field("auction", W::Uint64), field("price", W::Float64), field("at", W::EventTime)]
}

fn operators(id: &str, kind: &str) -> Vec<wit::OperatorInfo> {
    vec![wit::OperatorInfo { id: id.into(), kind: kind.into() }]
}

fn window() -> WindowHead {
    WindowHead {
        assigner: wit::Assigner::Sliding(wit::Sliding { size_ms: 10_000, slide_ms: 2_000, offset_ms: 0 }),
        domain: wit::TimeDomain::Event,
        trigger: wit::Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
        allowed_lateness_ms: 0,
        late_port: Some(1),
        mergeable: true,
    }
}

/// bids → filter with event times → sliding window by auction with late rows → sink.
fn good() -> wit::Graph {
    let passed = || (0..3).map(wit::ColumnOrigin::Passed).collect();
    wit::Graph {
        name: "hot-items".into(),
        sources: vec![wit::Source { name: "bids".into(), stream: String::new(), schema: bids() }],
        chains: vec![
            wit::Chain {
                operators: operators("filter-1", "filter"),
                head: wit::Head::Transform,
                inputs: vec![ChainInput {
                    from: vec![wit::Endpoint::Source(0)],
                    partitioning: wit::Partitioning::Forward,
                    key: vec![],
                    columns: vec![1],
                    times: false,
                }],
                outputs: vec![ChainOutput { name: String::new(), schema: bids(), columns: passed() }],
                event_time: Some(wit::EventTimeAssigner { column: Some(2), watermarks: wit::Watermarks::Bounded(1000) }),
                parallelism: None,
                state_schema: None,
            },
            wit::Chain {
                operators: operators("window-2", "window"),
                head: wit::Head::Window(window()),
                inputs: vec![ChainInput {
                    from: vec![wit::Endpoint::Chain(ChainPort { chain: 0, port: 0 })],
                    partitioning: wit::Partitioning::Hash,
                    key: vec![0],
                    columns: vec![],
                    times: false,
                }],
                outputs: vec![
                    ChainOutput {
                        name: String::new(),
                        schema: vec![field("bids", W::Uint64)],
                        columns: vec![wit::ColumnOrigin::Computed],
                    },
                    ChainOutput { name: "late".into(), schema: bids(), columns: passed() },
                ],
                event_time: None,
                parallelism: Some(4),
                state_schema: Some("{count: u64}".into()),
            },
        ],
        sinks: vec![wit::Sink { name: "hot".into(), from: vec![wit::Endpoint::Chain(ChainPort { chain: 1, port: 0 })] }],
    }
}

/// Takes the key of the window's input away, and deals its rows out by `partitioning`.
fn unkey(graph: &mut wit::Graph, partitioning: wit::Partitioning) {
    let input = &mut graph.chains[1].inputs[0];
    input.key.clear();
    input.partitioning = partitioning;
}

/// Gives the window a second input of the same rows, without a key.
fn add_unkeyed(graph: &mut wit::Graph) {
    let mut again = good();
    unkey(&mut again, wit::Partitioning::Hash);
    graph.chains[1].inputs.append(&mut again.chains[1].inputs);
}

/// The good graph is taken as it is.
#[test]
fn a_good_graph() {
    let graph = from_guest(good()).expect("a good graph");
    assert_eq!(graph.chains[1].parallelism, Some(4));
    assert_eq!(graph.input_schema(1, 0), &graph.sources[0].schema);
}

/// Without key columns, `hash` makes one key of all rows, of windows and of process functions; the latter may have broadcast rows besides, or
/// alone. What keeps no state takes its rows by any way.
#[test]
fn inputs_without_a_key() {
    use wit::Partitioning::{Broadcast, Forward, Hash, Rebalance};
    type Change = fn(&mut wit::Graph);
    let cases: [(&str, Change); 6] = [
        ("one key of windows", |g| unkey(g, Hash)),
        ("one key of a process function", |g| {
            g.chains[1].head = wit::Head::Process;
            unkey(g, Hash);
        }),
        ("broadcast rows alone", |g| {
            g.chains[1].head = wit::Head::Process;
            unkey(g, Broadcast);
        }),
        ("broadcast rows besides", |g| {
            g.chains[1].head = wit::Head::Process;
            g.chains[1].outputs.truncate(1);
            add_unkeyed(g);
            g.chains[1].inputs[1].partitioning = Broadcast;
        }),
        ("a transform of rebalanced rows", |g| g.chains[0].inputs[0].partitioning = Rebalance),
        ("a transform of forwarded rows", |g| {
            g.chains[1].head = wit::Head::Transform;
            g.chains[1].state_schema = None;
            unkey(g, Forward);
        }),
    ];
    for (what, change) in cases {
        let mut graph = good();
        change(&mut graph);
        if let Err(error) = from_guest(graph) {
            panic!("{what}: {error}");
        }
    }
}

/// Each way to spoil it is refused, in words that say where and what.
#[test]
fn spoilt_graphs() {
    fn set_window(graph: &mut wit::Graph, change: impl Fn(&mut WindowHead)) {
        let wit::Head::Window(window) = &mut graph.chains[1].head else { unreachable!("chain 1 is the window") };
        change(window);
    }
    let from = |chain, port| wit::Endpoint::Chain(ChainPort { chain, port });
    type Spoil<'a> = Box<dyn Fn(&mut wit::Graph) + 'a>;
    let cases: Vec<(Spoil<'_>, &str)> = vec![
        (Box::new(|g| g.name.clear()), "the job has an empty name"),
        (Box::new(|g| g.sources.clear()), "the job has no source"),
        (Box::new(|g| g.sources[0].name = "a\nb".into()), "a source has a control character"),
        (Box::new(|g| g.sources[0].schema[1].children = 1), "source `bids`: field `price` has 1 children"),
        (Box::new(|g| g.sources.extend(good().sources)), "two sources `bids` of stream ``"),
        (Box::new(|g| g.sinks.extend(good().sinks)), "two sinks `hot`"),
        (Box::new(|g| g.sinks[0].from.clear()), "sink `hot`: nothing flows into it"),
        (
            Box::new(|g| g.sinks[0].from.push(from(1, 0))),
            "sink `hot`: it reads output 0 of chain 1 twice, which it can only once: put an operator between",
        ),
        (
            Box::new(|g| g.chains[0].inputs[0].from.push(wit::Endpoint::Source(0))),
            "input 0: it reads source 0 twice, which it can only once: put an operator between",
        ),
        (Box::new(|g| g.sinks[0].from.push(from(1, 2))), "sink `hot`: it reads output 2 of chain 1, which does not exist"),
        (Box::new(|g| g.sinks[0].from.push(from(0, 0))), "whose schemas differ: 1 columns and 3"),
        (Box::new(|g| g.chains[0].operators.clear()), "chain 0 has no operators"),
        (Box::new(|g| g.chains[1].operators[0].id = "filter-1".into()), "two operators with the id `filter-1`"),
        (Box::new(|g| g.chains[1].inputs.clear()), "chain 1 (`window-2`): it has no input"),
        (Box::new(|g| g.chains[1].parallelism = Some(0)), "the parallelism is 0"),
        (Box::new(|g| g.chains[0].state_schema = Some("u8".into())), "it has a schema of states, and its head keeps none"),
        (Box::new(|g| g.chains[1].state_schema = Some("u".repeat(70_000))), "the schema of its states has 70000 bytes"),
        (Box::new(|g| g.chains[1].state_schema = Some("\u{1b}[31m".into())), "there is a control character in the schema"),
        (Box::new(|g| g.chains[1].parallelism = Some(70_000)), "the parallelism is 70000"),
        (Box::new(|g| g.chains[1].inputs[0].key = vec![3]), "input 0: its key names column 3, but there are 3"),
        (Box::new(|g| g.chains[1].inputs[0].key = vec![0, 0]), "its key names column `auction` twice"),
        (Box::new(|g| g.chains[0].inputs[0].columns = vec![9]), "its columns names column 9"),
        (
            Box::new(|g| g.chains[1].inputs[0].partitioning = wit::Partitioning::Forward),
            "chain 1 (`window-2`): input 0: it has a key, but its rows are not dealt out by it: with `forward`",
        ),
        (
            Box::new(|g| g.chains[1].inputs[0].partitioning = wit::Partitioning::Rebalance),
            "it has a key, but its rows are not dealt out by it: with `rebalance`",
        ),
        (
            Box::new(|g| g.chains[1].inputs[0].partitioning = wit::Partitioning::Broadcast),
            "it has a key, but its rows are not dealt out by it: with `broadcast`",
        ),
        (
            Box::new(|g| {
                g.chains[1].head = wit::Head::Process;
                g.chains[1].inputs[0].partitioning = wit::Partitioning::Forward;
            }),
            "it has a key, but its rows are not dealt out by it: with `forward`",
        ),
        (
            Box::new(|g| g.chains[0].inputs[0].key = vec![0]),
            "chain 0 (`filter-1`): input 0: it has a key, but its rows are not dealt out by it: with `forward`",
        ),
        (
            Box::new(|g| unkey(g, wit::Partitioning::Forward)),
            "input 0: it has no key and comes by `forward`, so that each subtask would have windows of its own; use `hash`",
        ),
        (
            Box::new(|g| unkey(g, wit::Partitioning::Rebalance)),
            "comes by `rebalance`, so that each subtask would have windows of its own",
        ),
        (
            Box::new(|g| unkey(g, wit::Partitioning::Broadcast)),
            "comes by `broadcast`, so that each subtask would have windows of its own",
        ),
        (
            Box::new(|g| {
                g.chains[1].head = wit::Head::Process;
                unkey(g, wit::Partitioning::Forward);
            }),
            "input 0: it has no key and comes by `forward`, so that its rows belong to no state; a `process` head needs `hash`",
        ),
        (
            Box::new(|g| {
                g.chains[1].head = wit::Head::Process;
                unkey(g, wit::Partitioning::Rebalance);
            }),
            "it has no key and comes by `rebalance`, so that its rows belong to no state",
        ),
        (Box::new(add_unkeyed), "some of its inputs with `hash` have a key and others do not"),
        (
            Box::new(|g| {
                g.chains[1].head = wit::Head::Process;
                add_unkeyed(g);
            }),
            "some of its inputs with `hash` have a key and others do not",
        ),
        (Box::new(|g| g.chains[0].outputs[0].columns.truncate(2)), "it says for 2 columns where they come from, but has 3"),
        (
            Box::new(|g| g.chains[0].outputs[0].columns[0] = wit::ColumnOrigin::Passed(1)),
            "column `auction` of type UInt64 is passed on from `price` of type Float64",
        ),
        (
            Box::new(|g| g.chains[0].outputs[0].columns[0] = wit::ColumnOrigin::Passed(5)),
            "passed on from column 5, but the input has 3",
        ),
        (
            Box::new(|g| g.chains[1].outputs[0].columns[0] = wit::ColumnOrigin::Passed(0)),
            "only chains with one input and without a window",
        ),
        (
            Box::new(|g| g.chains[0].outputs[0].schema[1].children = 2),
            "chain 0 (`filter-1`): output 0: field `price` has 2 children",
        ),
        (Box::new(|g| g.chains[1].outputs[1].name.clear()), "there are two outputs without a name"),
        (Box::new(|g| g.chains[1].outputs[0].name = "late".into()), "there are two outputs `late`"),
        (Box::new(|g| g.chains[0].event_time.as_mut().expect("set").column = Some(1)), "the event time is in column `price`"),
        (Box::new(|g| g.chains[0].event_time.as_mut().expect("set").column = Some(8)), "the event time is column 8 of output 0"),
        (Box::new(|g| g.chains[1].event_time = g.chains[0].event_time), "a window cannot assign event times"),
        (
            Box::new(|g| {
                g.chains[0].head = wit::Head::Relay;
                g.chains[0].outputs[0].columns[1] = wit::ColumnOrigin::Computed;
            }),
            "output 0: a relay passes all columns on",
        ),
        (
            Box::new(|g| {
                g.chains[0].head = wit::Head::Relay;
                g.chains[0].event_time.as_mut().expect("set").column = None;
            }),
            "a relay has no code",
        ),
        (Box::new(|g| set_window(g, |w| w.mergeable = false)), "need an aggregate that can be merged"),
        (Box::new(|g| set_window(g, |w| w.trigger.on_time = false)), "its trigger never fires"),
        (Box::new(|g| set_window(g, |w| w.trigger.every_count = Some(0))), "its trigger fires every 0"),
        (Box::new(|g| set_window(g, |w| w.late_port = Some(2))), "late rows of input 0 go to output 2, which does not exist"),
        (Box::new(|g| set_window(g, |w| w.late_port = Some(0))), "late rows of input 0 go to output 0, whose schema differs"),
        (Box::new(|g| set_window(g, |w| w.allowed_lateness_ms = u64::MAX)), "more than a thousand years"),
        (Box::new(|g| set_window(g, |w| w.domain = wit::TimeDomain::Processing)), "in processing time no row is late: leave out"),
        (
            Box::new(|g| {
                set_window(g, |w| (w.domain, w.late_port, w.allowed_lateness_ms) = (wit::TimeDomain::Processing, None, 1));
            }),
            "in processing time no row is late: leave out the allowed lateness",
        ),
        (
            Box::new(|g| set_window(g, |w| w.assigner = wit::Assigner::Tumbling(wit::Tumbling { size_ms: 0, offset_ms: 0 }))),
            "the window's size is 0 ms",
        ),
        (
            Box::new(|g| set_window(g, |w| w.assigner = wit::Assigner::Tumbling(wit::Tumbling { size_ms: 5, offset_ms: 5 }))),
            "the window's offset of 5 ms is not less than its period of 5 ms",
        ),
        (
            Box::new(|g| {
                set_window(g, |w| w.assigner = wit::Assigner::Sliding(wit::Sliding { size_ms: 5, slide_ms: 6, offset_ms: 0 }));
            }),
            "rows between them would be lost",
        ),
        (
            Box::new(|g| {
                let sliding = wit::Sliding { size_ms: 1_000_000_000, slide_ms: 1, offset_ms: 0 };
                set_window(g, |w| w.assigner = wit::Assigner::Sliding(sliding));
            }),
            "each row is in 1000000000 windows",
        ),
        (
            Box::new(|g| g.chains[0].inputs[0].from.push(from(1, 1))),
            "chain 0 (`filter-1`) reads its own output, directly or through others",
        ),
    ];
    for (spoil, expected) in cases {
        let mut graph = good();
        spoil(&mut graph);
        match from_guest(graph) {
            Ok(_) => panic!("should be refused: {expected}"),
            Err(error) => assert!(error.contains(expected), "{error}\n  should say: {expected}"),
        }
    }
}

/// What bounds a graph is told to those who write guests: in the table of limits, and in the comments of the interface.
#[test]
fn limits_are_told() {
    let (names, parts, schemas) = (schema::NAME_BYTES_MAX, PARTS_MAX, check::STATE_SCHEMA_BYTES_MAX);
    let years = SPAN_MS_MAX / (366 * 24 * 3600 * 1000);
    let windows = format!("{},{:03}", check::WINDOWS_PER_ROW_MAX / 1000, check::WINDOWS_PER_ROW_MAX % 1000);
    let page = include_str!("../../../../docs/JOB-SPEC.md");
    for (what, limit) in [
        ("sources, chains and sinks of a graph", format!("{parts} of each")),
        ("what one guest call returns", format!("in at most {parts} outputs")),
        ("a name in a graph", format!("{names} bytes, without control characters")),
        ("columns of a schema", format!("{}, at most {} levels deep", schema::FIELDS_MAX, schema::DEPTH_MAX)),
        ("a `state-schema`", format!("{} KiB, without control characters", schemas >> 10)),
        ("a span of time in a graph", format!("{years} years")),
        ("windows that a row is in", windows.clone()),
    ] {
        let row = page.lines().find(|line| line.starts_with(&format!("| {what}")));
        assert!(
            row.is_some_and(|row| row.ends_with(&format!("| {limit} |")) || row.ends_with(&format!(", {limit} |"))),
            "{what}: {row:?}"
        );
    }
    let interface = include_str!("../../../../wit/definition.wit");
    for told in [
        format!("A name has at most {names} bytes and no control"),
        format!("at most {parts} sources, chains and sinks"),
        format!("At most {schemas} bytes, without control characters"),
        format!("No span of time is longer than {years} years"),
        format!("A row is in at most {windows} of them"),
    ] {
        assert!(interface.contains(&told), "the interface does not tell: {told}");
    }
    assert!(include_str!("../../../../wit/chains.wit").contains(&format!("At most {parts} outputs.")));
}
