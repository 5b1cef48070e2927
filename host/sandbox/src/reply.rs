//! What a guest returns from a call, checked against its graph.
//!
//! An error names the port, the column and the row, and says what was expected instead.

use arrow_array::UInt32Array;
use arrow_schema::FieldRef;
use weir_types::EventTime;
use weir_types::call::{Origins, Output, Reply, States, Timer};
use weir_types::graph::{Chain, ColumnOrigin, Graph, Head};

use crate::decode::{decode, numbers};
use crate::graph::time_domain;
use crate::wit;

/// What is needed of a chain to check its calls.
pub(crate) struct Layout {
    /// the columns that the guest reads, by input
    pub(crate) inputs: Vec<Vec<FieldRef>>,
    /// the columns of the keys
    pub(crate) key: Vec<FieldRef>,
    /// how many slots have been assigned: one more than the greatest
    pub(crate) slots: u32,
    outputs: Vec<Port>,
    times: Times,
    assigns_times: bool,
    has_timers: bool,
}

struct Port {
    computed: Vec<FieldRef>,
    /// whether there are columns that the host takes from input rows
    passes: bool,
    /// late rows go there, and never come from the guest
    late: bool,
}

/// What the origins of a reply count.
#[derive(Clone, Copy)]
pub(crate) enum Counted {
    /// so many input rows
    Rows(usize),
    /// so many panes or timers
    Others(usize),
}

/// Whether a guest returns event times.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    No,
    /// the main output must have them, the others may
    Yes,
}

impl Layout {
    pub(crate) fn new(graph: &Graph, index: usize) -> Self {
        let chain = &graph.chains[index];
        let input_field = |port: usize, column: usize| FieldRef::clone(&graph.input_schema(index, port).fields()[column]);
        let fields = |port: usize, columns: &[usize]| columns.iter().map(|&c| input_field(port, c)).collect::<Vec<_>>();
        let keyed = chain.inputs.iter().position(|i| !i.key.is_empty());
        let event_time = chain.event_time.as_ref();
        Self {
            inputs: chain.inputs.iter().enumerate().map(|(port, input)| fields(port, &input.columns)).collect(),
            key: keyed.map_or_else(Vec::new, |port| fields(port, &chain.inputs[port].key)),
            slots: 0,
            outputs: (0..chain.outputs.len()).map(|port| Port::new(chain, port)).collect(),
            times: if event_time.is_some_and(|e| e.column.is_none()) { Times::Yes } else { Times::No },
            assigns_times: event_time.is_some(),
            has_timers: chain.head == Head::Process,
        }
    }

    /// Checks what a call returned. Its origins are these.
    pub(crate) fn check(&self, origins: Counted, reply: wit::Reply) -> Result<Reply, String> {
        let output = |output: wit::Output| {
            let port = output.port;
            self.output(origins, output).map_err(|e| format!("output {port}: {e}"))
        };
        let outputs = reply.outputs.into_iter().map(output).collect::<Result<_, _>>()?;
        if !reply.timers.is_empty() && !self.has_timers {
            return Err("it set a timer, but only `process` functions can".into());
        }
        let timers = reply.timers.into_iter().map(|t| self.timer(t)).collect::<Result<_, _>>()?;
        if reply.progress.is_some() && !self.assigns_times {
            return Err("it told its progress in event time, but the chain assigns no event times".into());
        }
        Ok(Reply { outputs, timers, progress: reply.progress })
    }

    fn output(&self, counted: Counted, output: wit::Output) -> Result<Output, String> {
        let port = self.outputs.get(output.port as usize).ok_or_else(|| format!("there are only {}", self.outputs.len()))?;
        if port.late {
            return Err("it is for late rows, which the host sends there".into());
        }
        let rows = output.rows.rows as usize;
        let source_rows = match counted {
            Counted::Rows(count) => count,
            Counted::Others(_) if port.passes && rows > 0 => {
                return Err("it passes columns on, but these rows come from no input rows to take them from".into());
            }
            Counted::Others(count) => count,
        };
        let origins = origins(source_rows, rows, output.origins)?;
        Ok(Output {
            port: output.port,
            rows,
            origins,
            times: self.output_times(output.port, rows, output.times)?,
            columns: decode(&port.computed, rows, output.rows.buffers)?,
        })
    }

    fn output_times(
        &self,
        port: u32,
        rows: usize,
        times: Vec<u8>,
    ) -> Result<Option<arrow_buffer::ScalarBuffer<EventTime>>, String> {
        match self.times {
            Times::No if times.is_empty() => Ok(None),
            Times::No => Err("it has event times, but the chain does not compute any".into()),
            Times::Yes if times.is_empty() && (rows > 0 && port > 0) => Ok(None),
            Times::Yes => numbers("the event times", rows, times).map(Some),
        }
    }

    fn timer(&self, timer: wit::Timer) -> Result<Timer, String> {
        if timer.slot >= self.slots {
            return Err(format!("it set a timer for slot {}, but only {} were assigned", timer.slot, self.slots));
        }
        Ok(Timer { slot: timer.slot, domain: time_domain(timer.domain), time: timer.time, delete: timer.delete })
    }
}

impl Port {
    fn new(chain: &Chain, port: usize) -> Self {
        let output = &chain.outputs[port];
        let computed = output.schema.fields().iter().zip(&output.columns).filter(|(_, o)| **o == ColumnOrigin::Computed);
        Self {
            computed: computed.map(|(f, _)| FieldRef::clone(f)).collect(),
            passes: output.columns.iter().any(|o| *o != ColumnOrigin::Computed),
            late: matches!(&chain.head, Head::Window(w) if w.late_port == Some(port)),
        }
    }
}

fn origins(source_rows: usize, rows: usize, origins: wit::Origins) -> Result<Origins, String> {
    match origins {
        wit::Origins::Identity if rows == source_rows => Ok(Origins::Identity),
        wit::Origins::Identity => Err(format!("{rows} rows come from {source_rows} one by one")),
        wit::Origins::Picked(indexes) => {
            let indexes = numbers::<u32>("the list of origins", rows, indexes)?;
            let greatest = indexes.iter().fold(0, |greatest, &i| greatest.max(i));
            if rows > 0 && greatest as usize >= source_rows {
                let row = indexes.iter().position(|&i| i as usize >= source_rows).unwrap_or(0);
                return Err(format!("row {row} comes from row {} of {source_rows}", indexes[row]));
            }
            Ok(Origins::Picked(UInt32Array::new(indexes, None)))
        }
    }
}

/// Checks exported states of `slots` slots.
pub(crate) fn states(slots: usize, states: wit::StatesOut) -> Result<States, String> {
    let offsets = numbers::<u32>("the list of offsets", slots + 1, states.offsets)?;
    if offsets[0] != 0 {
        return Err(format!("the first offset is {} instead of 0", offsets[0]));
    }
    if let Some(slot) = offsets.windows(2).position(|w| w[0] > w[1]) {
        return Err(format!("the state of slot number {slot} ends before it starts"));
    }
    let end = offsets[slots] as usize;
    if end != states.bytes.len() {
        return Err(format!("the last offset is {end}, but there are {} bytes", states.bytes.len()));
    }
    Ok(States { offsets: offsets.to_vec(), bytes: states.bytes })
}
