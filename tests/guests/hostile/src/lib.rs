//! A guest that misbehaves in the one way that its argument `mode` names, and behaves well otherwise.
//!
//! It is written against the WIT alone, without Weir's SDK, so that nothing stands between a test and the boundary.
//!
//! | chain | head | rows out |
//! |---|---|---|
//! | 0 `echo` | `transform` | `id` passed on; `text` and `number` as they came in |
//! | 1 `count` | `process`, keyed by `id` | `id` passed on; `count` of rows with that key so far; a timer at the row number, which gives a row `time` |
//! | 2 `sum` | `window`, keyed by `id` | `sum` of `number` |
//! | 3 `times` | `relay` | all passed on; `at` becomes the event time, which `count` and `sum` go by |
//!
//! | argument | what it says |
//! |---|---|
//! | `mode` | how it misbehaves |
//! | `at` | in which call it does: `sum.emit`; in every `process` without it |
//! | `number` | that it does only if a row with this number is among those of the call |
//! | `until` | that it does only before this processing time, in milliseconds since 1970, as the last call with rows has told it |
//! | `gap` | `sum` has sessions with a gap of so many milliseconds instead of windows of a second |

use std::cell::{Cell, RefCell};

wit_bindgen::generate!({ world: "job", path: "../../../wit" });

use exports::weir::dataflow::chains::{
    Batch, DueTimers, Expiries, Guest as Chains, Input, Origins, Output, Panes, Reply, States, Subtask, Timer,
};
use exports::weir::dataflow::definition::{
    Argument, Assigner, Chain, ChainInput, ChainOutput, ChainPort, ColumnOrigin, Endpoint, EventTimeAssigner, Graph,
    Guest as Definition, Head, OperatorInfo, Partitioning, Sink, Source, TimeDomain, Trigger, Tumbling, Watermarks, WindowHead,
};
use weir::dataflow::host::{Level, log};
use weir::dataflow::types::{DataType, Field};

thread_local! {
    static MODE: RefCell<String> = const { RefCell::new(String::new()) };
    static AT: RefCell<String> = const { RefCell::new(String::new()) };
    static NUMBER: Cell<Option<i64>> = const { Cell::new(None) };
    static UNTIL: Cell<i64> = const { Cell::new(i64::MAX) };
    static NOW: Cell<i64> = const { Cell::new(0) };
    static SLOTS: RefCell<Vec<i64>> = const { RefCell::new(vec![]) };
}

fn mode(is: &str) -> bool {
    MODE.with_borrow(|mode| mode == is)
}

/// The ids of the chains with code.
const IDS: [&str; 3] = ["echo", "count", "sum"];

/// Whether it is to misbehave in this call; `numbers` are those of its rows, if they came with it.
fn is_place(chain: u32, function: &str, numbers: &[u8]) -> bool {
    let here = AT.with_borrow(|at| match at.as_str() {
        "" => function == "process",
        at => at == format!("{}.{function}", IDS[chain as usize]),
    });
    here && NOW.get() < UNTIL.get() && NUMBER.get().is_none_or(|number| i64s(numbers).any(|n| n == number))
}

struct Hostile;
export!(Hostile);

fn field(name: &str, data_type: DataType, nullable: bool) -> Field {
    Field { name: name.into(), data_type, nullable, children: 0 }
}

fn operator(id: &str, kind: &str) -> Vec<OperatorInfo> {
    vec![OperatorInfo { id: id.into(), kind: kind.into() }]
}

impl Definition for Hostile {
    fn describe(arguments: Vec<Argument>) -> Result<Graph, String> {
        let mut gap = None;
        for Argument { name, value } in arguments {
            match name.as_str() {
                "mode" => MODE.set(value),
                "at" => AT.set(value),
                "number" => NUMBER.set(value.parse().ok()),
                "until" => UNTIL.set(value.parse().map_err(|_| "`until` is no time")?),
                "gap" => gap = value.parse().ok(),
                _ => return Err(format!("there is no argument `{name}`")),
            }
        }
        if mode("describe-error") {
            return Err("this job needs an argument".into());
        }
        if mode("describe-trap") {
            trap();
        }
        let incoming = vec![
            field("id", DataType::Int64, false),
            field("text", DataType::Utf8, true),
            field("number", DataType::Int64, false),
            field("at", DataType::EventTime, false),
        ];
        let source = || if mode("endpoint") { Endpoint::Source(7) } else { Endpoint::Source(0) };
        let timed = || Endpoint::Chain(ChainPort { chain: 3, port: 0 });
        let input = |from, partitioning, key: Vec<u32>, columns: Vec<u32>| ChainInput {
            from: vec![from],
            partitioning,
            key,
            columns,
            times: false,
        };
        let computed = |name: &str, data_type| (field(name, data_type, false), ColumnOrigin::Computed);
        let output = |name: &str, columns: Vec<(Field, ColumnOrigin)>| {
            let (schema, columns) = columns.into_iter().unzip();
            ChainOutput { name: name.into(), schema, columns }
        };
        let id = (field("id", DataType::Int64, false), ColumnOrigin::Passed(0));
        let chain = |id: &str, kind: &str, head, inputs, outputs| Chain {
            operators: operator(id, kind),
            head,
            inputs: vec![inputs],
            outputs,
            event_time: None,
            parallelism: None,
            state_schema: None,
        };
        let text = (field("text", DataType::Utf8, true), ColumnOrigin::Computed);
        let window = Head::Window(WindowHead {
            assigner: gap.map_or(Assigner::Tumbling(Tumbling { size_ms: 1000, offset_ms: 0 }), Assigner::Session),
            domain: TimeDomain::Event,
            trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
            allowed_lateness_ms: 0,
            late_port: None,
            mergeable: true,
        });
        // The rows' numbers go to `count` only where it is to look for one.
        let looked_at = if NUMBER.get().is_some() { vec![2] } else { vec![] };
        let passed: Vec<_> = incoming.iter().cloned().zip((0..).map(ColumnOrigin::Passed)).collect();
        let sink = |name: &str, chain, port| Sink { name: name.into(), from: vec![Endpoint::Chain(ChainPort { chain, port })] };
        Ok(Graph {
            name: "hostile".into(),
            sources: vec![Source { name: "in".into(), stream: String::new(), schema: incoming }],
            chains: vec![
                chain(
                    "echo",
                    "map",
                    Head::Transform,
                    input(source(), Partitioning::Forward, vec![], vec![1, 2]),
                    vec![output("", vec![id.clone(), text, computed("number", DataType::Int64)])],
                ),
                chain(
                    "count",
                    "process",
                    Head::Process,
                    input(timed(), Partitioning::Hash, vec![0], looked_at),
                    vec![
                        output("", vec![id, computed("count", DataType::Int64)]),
                        output("fired", vec![computed("time", DataType::Int64)]),
                    ],
                ),
                chain(
                    "sum",
                    "window",
                    window,
                    input(timed(), Partitioning::Hash, vec![0], vec![2]),
                    vec![output("", vec![computed("sum", DataType::Int64)])],
                ),
                Chain {
                    event_time: Some(EventTimeAssigner { column: Some(3), watermarks: Watermarks::Bounded(0) }),
                    ..chain(
                        "times",
                        "event-time",
                        Head::Relay,
                        input(source(), Partitioning::Forward, vec![], vec![]),
                        vec![output("", passed)],
                    )
                },
            ],
            sinks: vec![sink("out", 0, 0), sink("counts", 1, 0), sink("fired", 1, 1), sink("sums", 2, 0)],
        })
    }
}

/// What can go wrong in the middle of any call.
fn misbehave(chain: u32, function: &str, numbers: &[u8]) -> Result<(), String> {
    if !is_place(chain, function, numbers) {
        return Ok(());
    }
    match MODE.with_borrow(String::clone).as_str() {
        "trap" => trap(),
        "loop" => {
            let mut i = 0u64;
            while std::hint::black_box(i) < u64::MAX {
                i += 1;
            }
        }
        "grow" => {
            let mut hoard = vec![];
            loop {
                hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
            }
        }
        "overflow" => drop(std::hint::black_box(deeper(1))),
        "flood" => {
            for i in 0..100_000 {
                log(Level::Info, &format!("line {i}"));
            }
            log(Level::Info, &"x".repeat(1 << 20));
        }
        "returned" => return Err("row 3 has\n  no price".into()),
        _ => (),
    }
    Ok(())
}

fn trap() {
    log(Level::Error, "panicked at 'so it goes'");
    std::process::abort();
}

#[inline(never)]
fn deeper(n: u64) -> u64 {
    let frame = std::hint::black_box([n; 64]);
    if n == 0 { 0 } else { deeper(n + 1) + frame[(n % 64) as usize] }
}

fn u32s(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

fn i64s(bytes: &[u8]) -> impl Iterator<Item = i64> + '_ {
    bytes.chunks_exact(8).map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
}

fn packed(numbers: impl IntoIterator<Item = i64>) -> Vec<u8> {
    numbers.into_iter().flat_map(i64::to_le_bytes).collect()
}

impl Chains for Hostile {
    fn open(chain: u32, _: Subtask, _: Vec<String>) -> Result<(), String> {
        misbehave(chain, "open", &[])
    }

    fn process(chain: u32, input: Input) -> Result<Reply, String> {
        NOW.set(input.now);
        let numbers = input.rows.buffers.last().cloned().unwrap_or_default();
        misbehave(chain, "process", &numbers)?;
        let rows = input.rows.rows;
        let reply = if chain == 0 {
            let output = Output { port: 0, origins: Origins::Identity, times: vec![], rows: input.rows };
            Reply { outputs: vec![output], timers: vec![], progress: None, late: 0 }
        } else {
            count(&input.slots, rows)
        };
        Ok(distorted(reply, chain, "process", &numbers, rows))
    }

    fn assign_slots(chain: u32, slots: Vec<u8>, keys: Batch) -> Result<(), String> {
        misbehave(chain, "assign-slots", &[])?;
        if keys.rows as usize != slots.len() / 4 || keys.buffers.len() != 2 || keys.buffers[1].len() != slots.len() * 2 {
            return Err("the keys do not match the slots".into());
        }
        SLOTS.with_borrow_mut(|states| {
            for slot in u32s(&slots) {
                states.resize(states.len().max(slot as usize + 1), 0);
                states[slot as usize] = 0;
            }
        });
        Ok(())
    }

    fn accumulate(chain: u32, input: Input) -> Result<(), String> {
        NOW.set(input.now);
        misbehave(chain, "accumulate", &input.rows.buffers[1])?;
        SLOTS.with_borrow_mut(|states| {
            for (slot, number) in u32s(&input.slots).zip(i64s(&input.rows.buffers[1])) {
                states[slot as usize] += number;
            }
        });
        Ok(())
    }

    fn emit(chain: u32, panes: Panes) -> Result<Reply, String> {
        misbehave(chain, "emit", &[])?;
        let groups: Vec<_> = u32s(&panes.groups).collect();
        let slots: Vec<_> = u32s(&panes.slots).collect();
        let sum = |from: u32, to: u32| {
            SLOTS.with_borrow(|states| slots[from as usize..to as usize].iter().map(|&s| states[s as usize]).sum::<i64>())
        };
        let sums = packed(groups.windows(2).map(|w| sum(w[0], w[1])));
        let panes = groups.len() as u32 - 1;
        let rows = Batch { rows: panes, buffers: vec![vec![], sums] };
        let output = Output { port: 0, origins: Origins::Identity, times: vec![], rows };
        let reply = Reply { outputs: vec![output], timers: vec![], progress: None, late: 0 };
        Ok(distorted(reply, chain, "emit", &[], panes))
    }

    fn merge_slots(chain: u32, targets: Vec<u8>, sources: Vec<u8>) -> Result<(), String> {
        misbehave(chain, "merge-slots", &[])?;
        SLOTS.with_borrow_mut(|states| {
            for (target, source) in u32s(&targets).zip(u32s(&sources)) {
                states[target as usize] += states[source as usize];
            }
        });
        Ok(())
    }

    fn clear_slots(chain: u32, slots: Vec<u8>) -> Result<(), String> {
        misbehave(chain, "clear-slots", &[])?;
        SLOTS.with_borrow_mut(|states| u32s(&slots).for_each(|slot| states[slot as usize] = 0));
        Ok(())
    }

    fn export_slots(chain: u32, slots: Vec<u8>) -> Result<States, String> {
        misbehave(chain, "export-slots", &[])?;
        let bytes = SLOTS.with_borrow(|states| packed(u32s(&slots).map(|slot| states[slot as usize])));
        let mut offsets: Vec<u32> = (0..=slots.len() as u32 / 4).map(|i| i * 8).collect();
        if mode("states") {
            offsets[1] = 4096;
        }
        let count = slots.len() / 4;
        let times = |time: i64| time.to_le_bytes().repeat(count);
        let clocks = vec![if mode("third-clock") { 2 } else { 1 }; count];
        let expiries = |cleanups, ends| Some(Expiries { clocks, cleanups, ends });
        let expiries = match () {
            () if mode("expiries") => expiries(times(10), times(5)),
            () if mode("short-expiries") => expiries(times(5), vec![]),
            () if mode("expire") || mode("third-clock") => expiries(times(5), times(10)),
            () => None,
        };
        Ok(States { offsets: offsets.into_iter().flat_map(u32::to_le_bytes).collect(), bytes, expiries })
    }

    fn import_slots(chain: u32, slots: Vec<u8>, states: States) -> Result<(), String> {
        misbehave(chain, "import-slots", &[])?;
        SLOTS.with_borrow_mut(|all| {
            for (slot, state) in u32s(&slots).zip(i64s(&states.bytes)) {
                all[slot as usize] += state;
            }
        });
        Ok(())
    }

    fn timers_fired(chain: u32, timers: DueTimers) -> Result<Reply, String> {
        misbehave(chain, "timers-fired", &[])?;
        let fired = timers.times.len() as u32 / 8;
        let rows = Batch { rows: fired, buffers: vec![vec![], timers.times] };
        let output = Output { port: 1, origins: Origins::Identity, times: vec![], rows };
        let reply = Reply { outputs: vec![output], timers: vec![], progress: None, late: 0 };
        Ok(distorted(reply, chain, "timers-fired", &[], fired))
    }
}

/// The reply to a call on `rows` rows (panes, timers), with what can be wrong with one.
fn distorted(mut reply: Reply, chain: u32, function: &str, numbers: &[u8], rows: u32) -> Reply {
    if !is_place(chain, function, numbers) {
        return reply;
    }
    let output = &mut reply.outputs[0];
    let buffers = &mut output.rows.buffers;
    let set = |bytes: &mut Vec<u8>, at: usize, value: i32| {
        bytes.chunks_exact_mut(4).skip(at).take(1).for_each(|place| place.copy_from_slice(&value.to_le_bytes()));
    };
    let picked = |origins: &[u32]| Origins::Picked(origins.iter().flat_map(|i| i.to_le_bytes()).collect());
    match MODE.with_borrow(String::clone).as_str() {
        "port" => output.port = 9,
        "passing-timers" => output.port = 0,
        "buffers" => drop(buffers.pop()),
        "short" => buffers.last_mut().into_iter().for_each(|numbers| numbers.truncate(8)),
        "first-offset" => set(&mut buffers[1], 0, 1),
        "backwards" => set(&mut buffers[1], 2, 0),
        "beyond" => set(&mut buffers[1], rows as usize, 1 << 20),
        "negative" => set(&mut buffers[1], 1, -5),
        "utf8" => buffers[2][3] = 0xff,
        "cut" => buffers[2].get_mut(..2).into_iter().for_each(|text| text.copy_from_slice("ü".as_bytes())),
        "null" => buffers[3] = vec![0; rows.div_ceil(8) as usize],
        "rows" => output.rows.rows += 1,
        "origins" => output.origins = picked(&(0..rows - 1).chain([rows]).collect::<Vec<_>>()),
        "origins-length" => output.origins = Origins::Picked(vec![0; 7]),
        "picked" => output.origins = picked(&(0..rows).rev().collect::<Vec<_>>()),
        "times" => output.times = packed([1, 2, 3, 4]),
        "progress" => reply.progress = Some(5),
        "timer" => reply.timers.push(Timer { slot: 1000, domain: TimeDomain::Event, time: 1, delete: false, cleanup: false }),
        "big" => buffers[2] = vec![b'x'; 8 << 20],
        _ => (),
    }
    reply
}

/// Counts rows by slot, and sets a timer for each at its row number.
fn count(slots: &[u8], rows: u32) -> Reply {
    let counts = SLOTS.with_borrow_mut(|states| {
        packed(u32s(slots).map(|slot| {
            states[slot as usize] += 1;
            states[slot as usize]
        }))
    });
    let timers =
        u32s(slots).zip(0..).map(|(slot, time)| Timer { slot, domain: TimeDomain::Event, time, delete: false, cleanup: false });
    let rows = Batch { rows, buffers: vec![vec![], counts] };
    let output = Output { port: 0, origins: Origins::Identity, times: vec![], rows };
    Reply { outputs: vec![output], timers: timers.collect(), progress: None, late: 0 }
}
