//! A guest that misbehaves in the one way that its argument `mode` names, and behaves well otherwise.
//!
//! It is written against the WIT alone, without Weir's SDK, so that nothing stands between a test and the boundary.
//!
//! | chain | head | rows out |
//! |---|---|---|
//! | 0 `echo` | `transform` | `id` passed on; `text` and `number` as they came in |
//! | 1 `count` | `process`, keyed by `id` | `id` passed on; `count` of rows with that key so far; a timer at the row number |
//! | 2 `sum` | `window`, keyed by `id` | `sum` of `number` |

use std::cell::RefCell;

wit_bindgen::generate!({ world: "job", path: "../../../wit" });

use exports::weir::dataflow::chains::{
    Batch, DueTimers, Guest as Chains, Input, Origins, Output, Panes, Reply, States, Subtask, Timer,
};
use exports::weir::dataflow::definition::{
    Argument, Assigner, Chain, ChainInput, ChainOutput, ChainPort, ColumnOrigin, Endpoint, Graph, Guest as Definition, Head,
    OperatorInfo, Partitioning, Sink, Source, TimeDomain, Trigger, Tumbling, WindowHead,
};
use weir::dataflow::host::{Level, log};
use weir::dataflow::types::{DataType, Field};

thread_local! {
    static MODE: RefCell<String> = const { RefCell::new(String::new()) };
    static SLOTS: RefCell<Vec<i64>> = const { RefCell::new(vec![]) };
}

fn mode(is: &str) -> bool {
    MODE.with_borrow(|mode| mode == is)
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
        for argument in arguments {
            if argument.name == "mode" {
                MODE.set(argument.value);
            }
        }
        if mode("describe-error") {
            return Err("this job needs an argument".into());
        }
        if mode("describe-trap") {
            misbehave();
        }
        let incoming = vec![
            field("id", DataType::Int64, false),
            field("text", DataType::Utf8, true),
            field("number", DataType::Int64, false),
        ];
        let input = |partitioning, key: Vec<u32>, columns: Vec<u32>| ChainInput {
            from: vec![if mode("endpoint") { Endpoint::Source(7) } else { Endpoint::Source(0) }],
            partitioning,
            key,
            columns,
            times: false,
        };
        let computed = |name: &str, data_type| (field(name, data_type, false), ColumnOrigin::Computed);
        let output = |columns: Vec<(Field, ColumnOrigin)>| {
            let (schema, columns) = columns.into_iter().unzip();
            vec![ChainOutput { name: String::new(), schema, columns }]
        };
        let id = (field("id", DataType::Int64, false), ColumnOrigin::Passed(0));
        let chain = |id: &str, kind: &str, head, inputs, outputs| Chain {
            operators: operator(id, kind),
            head,
            inputs: vec![inputs],
            outputs,
            event_time: None,
            parallelism: None,
        };
        let text = (field("text", DataType::Utf8, true), ColumnOrigin::Computed);
        let window = Head::Window(WindowHead {
            assigner: Assigner::Tumbling(Tumbling { size_ms: 1000, offset_ms: 0 }),
            domain: TimeDomain::Event,
            trigger: Trigger { on_time: true, early_every_ms: None, every_count: None, purging: false },
            allowed_lateness_ms: 0,
            late_port: None,
            mergeable: true,
        });
        Ok(Graph {
            name: "hostile".into(),
            sources: vec![Source { name: "in".into(), stream: String::new(), schema: incoming }],
            chains: vec![
                chain(
                    "echo",
                    "map",
                    Head::Transform,
                    input(Partitioning::Forward, vec![], vec![1, 2]),
                    output(vec![id.clone(), text, computed("number", DataType::Int64)]),
                ),
                chain(
                    "count",
                    "process",
                    Head::Process,
                    input(Partitioning::Hash, vec![0], vec![]),
                    output(vec![id, computed("count", DataType::Int64)]),
                ),
                chain(
                    "sum",
                    "window",
                    window,
                    input(Partitioning::Hash, vec![0], vec![2]),
                    output(vec![computed("sum", DataType::Int64)]),
                ),
            ],
            sinks: vec![Sink { name: "out".into(), from: vec![Endpoint::Chain(ChainPort { chain: 0, port: 0 })] }],
        })
    }
}

/// What can go wrong in the middle of a call.
fn misbehave() {
    if mode("trap") || mode("describe-trap") {
        log(Level::Error, "panicked at 'so it goes'");
        std::process::abort();
    }
    if mode("loop") {
        let mut i = 0u64;
        while std::hint::black_box(i) < u64::MAX {
            i += 1;
        }
    }
    if mode("grow") {
        let mut hoard = vec![];
        loop {
            hoard.push(std::hint::black_box(vec![1u8; 1 << 20]));
        }
    }
    if mode("overflow") {
        std::hint::black_box(deeper(1));
    }
    if mode("flood") {
        for i in 0..100_000 {
            log(Level::Info, &format!("line {i}"));
        }
        log(Level::Info, &"x".repeat(1 << 20));
    }
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
    fn open(_: u32, _: Subtask) -> Result<(), String> {
        Ok(())
    }

    fn process(chain: u32, input: Input) -> Result<Reply, String> {
        misbehave();
        if mode("returned") {
            return Err("row 3 has\n  no price".into());
        }
        let rows = input.rows.rows;
        let mut reply = if chain == 0 {
            let output = Output { port: 0, origins: Origins::Identity, times: vec![], rows: input.rows };
            Reply { outputs: vec![output], timers: vec![], progress: None }
        } else {
            count(&input.slots, rows)
        };
        let output = &mut reply.outputs[0];
        let buffers = &mut output.rows.buffers;
        let set = |bytes: &mut Vec<u8>, at: usize, value: i32| bytes[at * 4..][..4].copy_from_slice(&value.to_le_bytes());
        match MODE.with_borrow(String::clone).as_str() {
            "port" => output.port = 9,
            "buffers" => drop(buffers.pop()),
            "short" => buffers[4].truncate(8),
            "first-offset" => set(&mut buffers[1], 0, 1),
            "backwards" => set(&mut buffers[1], 2, 0),
            "beyond" => set(&mut buffers[1], rows as usize, 1 << 20),
            "negative" => set(&mut buffers[1], 1, -5),
            "utf8" => buffers[2][3] = 0xff,
            "cut" => buffers[2][..2].copy_from_slice("ü".as_bytes()),
            "null" => buffers[3] = vec![0; rows.div_ceil(8) as usize],
            "rows" => output.rows.rows += 1,
            "origins" => output.origins = Origins::Picked([0u32, 1, 2, rows].iter().flat_map(|i| i.to_le_bytes()).collect()),
            "origins-length" => output.origins = Origins::Picked(vec![0; 7]),
            "picked" => output.origins = Origins::Picked((0..rows).rev().flat_map(u32::to_le_bytes).collect()),
            "times" => output.times = packed([1, 2, 3, 4]),
            "progress" => reply.progress = Some(5),
            "timer" => reply.timers.push(Timer { slot: 1000, domain: TimeDomain::Event, time: 1, delete: false }),
            "big" => buffers[2] = vec![b'x'; 8 << 20],
            _ => (),
        }
        Ok(reply)
    }

    fn assign_slots(_: u32, slots: Vec<u8>, keys: Batch) -> Result<(), String> {
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

    fn accumulate(_: u32, input: Input) -> Result<(), String> {
        SLOTS.with_borrow_mut(|states| {
            for (slot, number) in u32s(&input.slots).zip(i64s(&input.rows.buffers[1])) {
                states[slot as usize] += number;
            }
        });
        Ok(())
    }

    fn emit(_: u32, panes: Panes) -> Result<Reply, String> {
        let groups: Vec<_> = u32s(&panes.groups).collect();
        let slots: Vec<_> = u32s(&panes.slots).collect();
        let sum = |from: u32, to: u32| {
            SLOTS.with_borrow(|states| slots[from as usize..to as usize].iter().map(|&s| states[s as usize]).sum::<i64>())
        };
        let sums = packed(groups.windows(2).map(|w| sum(w[0], w[1])));
        let rows = Batch { rows: groups.len() as u32 - 1, buffers: vec![vec![], sums] };
        let output = Output { port: 0, origins: Origins::Identity, times: vec![], rows };
        Ok(Reply { outputs: vec![output], timers: vec![], progress: None })
    }

    fn merge_slots(_: u32, targets: Vec<u8>, sources: Vec<u8>) -> Result<(), String> {
        SLOTS.with_borrow_mut(|states| {
            for (target, source) in u32s(&targets).zip(u32s(&sources)) {
                states[target as usize] += states[source as usize];
            }
        });
        Ok(())
    }

    fn clear_slots(_: u32, slots: Vec<u8>) -> Result<(), String> {
        SLOTS.with_borrow_mut(|states| u32s(&slots).for_each(|slot| states[slot as usize] = 0));
        Ok(())
    }

    fn export_slots(_: u32, slots: Vec<u8>) -> Result<States, String> {
        let bytes = SLOTS.with_borrow(|states| packed(u32s(&slots).map(|slot| states[slot as usize])));
        let mut offsets: Vec<u32> = (0..=slots.len() as u32 / 4).map(|i| i * 8).collect();
        if mode("states") {
            offsets[1] = 4096;
        }
        Ok(States { offsets: offsets.into_iter().flat_map(u32::to_le_bytes).collect(), bytes })
    }

    fn import_slots(_: u32, slots: Vec<u8>, states: States) -> Result<(), String> {
        SLOTS.with_borrow_mut(|all| {
            for (slot, state) in u32s(&slots).zip(i64s(&states.bytes)) {
                all[slot as usize] += state;
            }
        });
        Ok(())
    }

    fn timers_fired(_: u32, timers: DueTimers) -> Result<Reply, String> {
        let rows = timers.times.len() as u32 / 8;
        let rows = Batch { rows, buffers: vec![vec![], timers.times] };
        let output = Output { port: 0, origins: Origins::Identity, times: vec![], rows };
        Ok(Reply { outputs: vec![output], timers: vec![], progress: None })
    }
}

/// Counts rows by slot, and sets a timer for each at its row number.
fn count(slots: &[u8], rows: u32) -> Reply {
    let counts = SLOTS.with_borrow_mut(|states| {
        packed(u32s(slots).map(|slot| {
            states[slot as usize] += 1;
            states[slot as usize]
        }))
    });
    let timers = u32s(slots).zip(0..).map(|(slot, time)| Timer { slot, domain: TimeDomain::Event, time, delete: false });
    let rows = Batch { rows, buffers: vec![vec![], counts] };
    let output = Output { port: 0, origins: Origins::Identity, times: vec![], rows };
    Reply { outputs: vec![output], timers: timers.collect(), progress: None }
}
