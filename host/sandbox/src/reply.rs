//! What a guest returns from a call, checked against its graph.
//!
//! An error names the port, the column and the row, and says what was expected instead.

use arrow_array::UInt32Array;
use arrow_schema::FieldRef;
use weir_types::EventTime;
use weir_types::call::{Expiries, Origins, Output, Reply, States, Timer};
use weir_types::graph::{Chain, ColumnOrigin, Graph, Head, TimeDomain};

use crate::decode::{decode, numbers};
use crate::graph::{PARTS_MAX, time_domain};
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

/// The most outputs of a reply: one for each port that a chain can have.
const OUTPUTS_MAX: usize = PARTS_MAX;

struct Port {
    computed: Vec<FieldRef>,
    /// a column that is passed on from the row of origin, if there is one
    passed: Option<FieldRef>,
    /// whether its rows come with event times; none before the first rows
    timed: Option<bool>,
    /// late rows go there, and never come from the guest
    late: bool,
}

/// What the origins of a reply's rows count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
    /// rows of the input
    Rows(usize),
    /// panes or timers: they have a time, but no columns
    Times(usize),
}

/// Whether a guest returns event times.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    No,
    /// each output has them always or never
    Maybe,
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
            times: match chain.head {
                _ if event_time.is_some_and(|e| e.column.is_none()) => Times::Yes,
                Head::Process => Times::Maybe,
                Head::Transform | Head::Relay | Head::Window(_) => Times::No,
            },
            assigns_times: event_time.is_some(),
            has_timers: chain.head == Head::Process,
        }
    }

    /// Checks what a call returned.
    pub(crate) fn check(&mut self, sources: Sources, reply: wit::Reply) -> Result<Reply, String> {
        if reply.outputs.len() > OUTPUTS_MAX {
            return Err(format!("there are {} outputs; {OUTPUTS_MAX} are allowed", reply.outputs.len()));
        }
        let late_max = match sources {
            Sources::Rows(rows) => rows,
            Sources::Times(_) => 0,
        };
        if reply.late as usize > late_max {
            return Err(format!("it found {} rows to be late, of {late_max}", reply.late));
        }
        let output = |output: wit::Output| {
            let port = output.port;
            self.output(sources, output).map_err(|e| format!("output {port}: {e}"))
        };
        let outputs = reply.outputs.into_iter().map(output).collect::<Result<_, _>>()?;
        if !reply.timers.is_empty() && !self.has_timers {
            return Err("it set a timer, but only `process` functions can".into());
        }
        let timers = reply.timers.into_iter().map(|t| self.timer(t)).collect::<Result<_, _>>()?;
        if reply.progress.is_some() && !self.assigns_times {
            return Err("it told its progress in event time, but the chain assigns no event times".into());
        }
        Ok(Reply { outputs, timers, progress: reply.progress, late: reply.late })
    }

    fn output(&mut self, sources: Sources, output: wit::Output) -> Result<Output, String> {
        let count = self.outputs.len();
        let port = self.outputs.get(output.port as usize).ok_or_else(|| format!("there are only {count}"))?;
        if port.late {
            return Err("it is for late rows, which the host sends there".into());
        }
        let rows = output.rows.rows as usize;
        let source_rows = match (sources, &port.passed) {
            (Sources::Times(_), Some(column)) if rows > 0 => {
                return Err(format!(
                    "its column `{}` is passed on from a row of the input, but these rows come of timers; compute it, or send them to \
                     another output",
                    column.name()
                ));
            }
            (Sources::Rows(count) | Sources::Times(count), _) => count,
        };
        let origins = origins(source_rows, rows, output.origins)?;
        let times = self.output_times(output.port, rows, output.times)?;
        let port = &mut self.outputs[output.port as usize];
        if rows > 0 && *port.timed.get_or_insert(times.is_some()) != times.is_some() {
            let (now, before) = if times.is_some() { ("", "none") } else { ("no ", "some") };
            return Err(format!("it has {now}event times, but had {before} before: an output has them always or never"));
        }
        Ok(Output { port: output.port, rows, origins, times, columns: decode(&port.computed, rows, output.rows.buffers)? })
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
            Times::Maybe if times.is_empty() => Ok(None),
            Times::Yes if times.is_empty() && (rows > 0 && port > 0) => Ok(None),
            Times::Yes | Times::Maybe => numbers("the event times", rows, times).map(Some),
        }
    }

    fn timer(&self, timer: wit::Timer) -> Result<Timer, String> {
        if timer.slot >= self.slots {
            return Err(format!("it set a timer for slot {}, but only {} were assigned", timer.slot, self.slots));
        }
        let wit::Timer { slot, time, delete, cleanup, .. } = timer;
        Ok(Timer { slot, domain: time_domain(timer.domain), time, delete, cleanup })
    }
}

impl Port {
    fn new(chain: &Chain, port: usize) -> Self {
        let output = &chain.outputs[port];
        let (computed, passed): (Vec<_>, Vec<_>) =
            output.schema.fields().iter().zip(&output.columns).partition(|(_, origin)| **origin == ColumnOrigin::Computed);
        Self {
            computed: computed.into_iter().map(|(f, _)| FieldRef::clone(f)).collect(),
            passed: passed.first().map(|(f, _)| FieldRef::clone(f)),
            timed: None,
            late: chain.late_input(port).is_some(),
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
    let expiries = states.expiries.map(|expiries| self::expiries(slots, expiries)).transpose()?;
    Ok(States { offsets: offsets.to_vec(), bytes: states.bytes, expiries })
}

fn expiries(slots: usize, expiries: wit::ExpiriesOut) -> Result<Expiries, String> {
    let clocks = numbers::<u8>("the list of clocks", slots, expiries.clocks)?;
    let domain = |(slot, clock): (usize, &u8)| match clock {
        0 => Ok(TimeDomain::Event),
        1 => Ok(TimeDomain::Processing),
        other => Err(format!("the state of slot number {slot} expires by clock {other}, and there are 0 and 1")),
    };
    let domains = clocks.iter().enumerate().map(domain).collect::<Result<Vec<_>, _>>()?;
    let cleanups = numbers::<EventTime>("the list of cleanups", slots, expiries.cleanups)?.to_vec();
    let ends = numbers::<EventTime>("the list of ends", slots, expiries.ends)?.to_vec();
    if let Some(slot) = cleanups.iter().zip(&ends).position(|(cleanup, end)| cleanup > end) {
        let (cleanup, end) = (cleanups[slot], ends[slot]);
        return Err(format!("the state of slot number {slot} ends at {end}, before its cleanup at {cleanup}"));
    }
    Ok(Expiries { domains, cleanups, ends })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::{DataType, Field, Schema};
    use weir_types::graph::{EventTimeAssigner, Head, Input, OperatorInfo, Partitioning, Source, Watermarks};

    use super::*;

    /// A chain that assigns event times itself. Output 0 computes `n`, output 1 passes it on, output 2 has no columns.
    fn layout() -> Layout {
        let n = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let output = |name: &str, schema, columns| weir_types::graph::Output { name: name.into(), schema, columns };
        let chain = Chain {
            operators: vec![OperatorInfo { id: "p".into(), kind: "process".into() }],
            head: Head::Process,
            inputs: vec![Input {
                from: vec![weir_types::graph::Endpoint::Source(0)],
                partitioning: Partitioning::Hash,
                key: vec![0],
                columns: vec![],
                times: false,
            }],
            outputs: vec![
                output("", Arc::clone(&n), vec![ColumnOrigin::Computed]),
                output("passed", Arc::clone(&n), vec![ColumnOrigin::Passed(0)]),
                output("side", Arc::new(Schema::empty()), vec![]),
            ],
            event_time: Some(EventTimeAssigner { column: None, watermarks: Watermarks::Bounded(0) }),
            parallelism: None,
            state_schema: None,
        };
        let source = Source { name: "in".into(), stream: String::new(), schema: n };
        Layout::new(&Graph { name: "test".into(), sources: vec![source], chains: vec![chain], sinks: vec![] }, 0)
    }

    fn output(port: u32, rows: u32, times: bool) -> wit::Output {
        let buffers = if port == 0 { vec![vec![], vec![0; rows as usize * 8]] } else { vec![] };
        let times = vec![0; if times { rows as usize * 8 } else { 0 }];
        wit::Output { port, origins: wit::Origins::Identity, times, rows: wit::BatchOut { rows, buffers } }
    }

    fn reply(outputs: Vec<wit::Output>) -> wit::Reply {
        wit::Reply { outputs, timers: vec![], progress: None, late: 0 }
    }

    /// Timers have no columns that could be passed on; rows have.
    #[test]
    fn timers_pass_nothing_on() {
        let mut layout = layout();
        layout.check(Sources::Rows(2), reply(vec![output(1, 2, false)])).expect("rows are passed on");
        layout.check(Sources::Times(2), reply(vec![output(0, 2, true)])).expect("a computed column needs no row");
        layout.check(Sources::Times(0), reply(vec![output(1, 0, false)])).expect("no rows need nothing");
        let error = layout.check(Sources::Times(2), reply(vec![output(1, 2, false)])).expect_err("a timer is no row");
        assert!(error.contains("output 1: its column `n` is passed on") && error.contains("timers"), "{error}");
    }

    /// A side output has event times in each reply or in none; one without rows says nothing.
    #[test]
    fn event_times_come_always_or_never() {
        for first in [true, false] {
            let mut layout = layout();
            layout.check(Sources::Rows(2), reply(vec![output(2, 2, first)])).expect("either is fine");
            layout.check(Sources::Rows(0), reply(vec![output(2, 0, !first)])).expect("no rows");
            layout.check(Sources::Rows(2), reply(vec![output(2, 2, first)])).expect("the same again");
            let error = layout.check(Sources::Rows(2), reply(vec![output(2, 2, !first)])).expect_err("the other way");
            assert!(error.contains("output 2: it has") && error.contains("always or never"), "{error}");
        }
    }

    /// What a process function computes has event times in each reply or in none, if it assigns none; no more rows are late than came in.
    #[test]
    fn results_may_have_times() {
        for first in [true, false] {
            let mut layout = Layout { times: Times::Maybe, ..layout() };
            layout.check(Sources::Rows(2), reply(vec![output(0, 2, first)])).expect("either is fine");
            let error = layout.check(Sources::Rows(2), reply(vec![output(0, 2, !first)])).expect_err("the other way");
            assert!(error.contains("output 0: it has") && error.contains("always or never"), "{error}");
        }
        let late = |late| wit::Reply { late, ..reply(vec![]) };
        layout().check(Sources::Rows(2), late(2)).expect("all rows may be late");
        let error = layout().check(Sources::Rows(2), late(3)).expect_err("there are only two");
        assert!(error.contains("it found 3 rows to be late, of 2"), "{error}");
        layout().check(Sources::Times(2), late(1)).expect_err("a timer is never late");
    }

    /// The outputs of a reply are counted.
    #[test]
    fn outputs_are_bounded() {
        let outputs = |count| (0..count).map(|_| output(2, 0, false)).collect();
        layout().check(Sources::Rows(0), reply(outputs(OUTPUTS_MAX))).expect("as many as are allowed");
        let error = layout().check(Sources::Rows(0), reply(outputs(OUTPUTS_MAX + 1))).expect_err("too many");
        assert!(error.contains("there are 1025 outputs; 1024 are allowed"), "{error}");
    }
}
