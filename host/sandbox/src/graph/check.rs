//! What must hold of a graph before anybody else sees it: names are unique, indexes are in range, types agree, nothing
//! goes round in circles, and each head has what it needs.

use std::collections::HashSet;

use arrow_schema::{DataType, Schema, SchemaRef};
use weir_types::graph::{
    Assigner, Chain, ColumnOrigin, Endpoint, EventTimeAssigner, Graph, Head, Input, Output, Partitioning, TimeDomain, Watermarks,
    Window,
};
use weir_types::key::can_be_key;

use super::{PARTS_MAX, SPAN_MS_MAX, chain_name};
use crate::schema::{check_name, event_time};

/// The most windows of one sliding assigner that a row can be in.
pub(super) const WINDOWS_PER_ROW_MAX: i64 = 100_000;

pub(super) fn check(graph: &Graph) -> Result<(), String> {
    check_name("the job", &graph.name)?;
    sources(graph)?;
    operators(graph)?;
    // Endpoints come first: the rest looks up schemas by them.
    for (index, chain) in graph.chains.iter().enumerate() {
        let named = |e| format!("{}: {e}", chain_name(index, &chain.operators));
        if chain.inputs.is_empty() {
            return Err(named("it has no input".to_owned()));
        }
        for (port, input) in chain.inputs.iter().enumerate() {
            endpoints(graph, &input.from).map_err(|e| named(format!("input {port}: {e}")))?;
        }
    }
    for (index, chain) in graph.chains.iter().enumerate() {
        ChainCheck { graph, chain, index }.check().map_err(|e| format!("{}: {e}", chain_name(index, &chain.operators)))?;
    }
    sinks(graph)?;
    acyclic(graph)
}

fn sources(graph: &Graph) -> Result<(), String> {
    if graph.sources.is_empty() {
        return Err("the job has no source".into());
    }
    let mut seen = HashSet::new();
    for source in &graph.sources {
        check_name("a source", &source.name)?;
        if !source.stream.is_empty() {
            check_name(&format!("a stream of source `{}`", source.name), &source.stream)?;
        }
        if !seen.insert((&source.name, &source.stream)) {
            return Err(format!("there are two sources `{}` of stream `{}`", source.name, source.stream));
        }
    }
    Ok(())
}

fn sinks(graph: &Graph) -> Result<(), String> {
    let mut seen = HashSet::new();
    for sink in &graph.sinks {
        check_name("a sink", &sink.name)?;
        if !seen.insert(&sink.name) {
            return Err(format!("there are two sinks `{}`", sink.name));
        }
        endpoints(graph, &sink.from).map_err(|e| format!("sink `{}`: {e}", sink.name))?;
    }
    Ok(())
}

fn operators(graph: &Graph) -> Result<(), String> {
    let mut seen = HashSet::new();
    for (index, chain) in graph.chains.iter().enumerate() {
        if chain.operators.is_empty() {
            return Err(format!("chain {index} has no operators"));
        }
        for operator in &chain.operators {
            check_name("an operator", &operator.id)?;
            check_name(&format!("the kind of operator `{}`", operator.id), &operator.kind)?;
            if !seen.insert(&operator.id) {
                return Err(format!("there are two operators with the id `{}`; give one of them another id", operator.id));
            }
        }
    }
    Ok(())
}

/// Checks that these exist and are of one schema.
fn endpoints(graph: &Graph, from: &[Endpoint]) -> Result<(), String> {
    let Some(first) = from.first() else { return Err("nothing flows into it".into()) };
    let mut seen = HashSet::new();
    for endpoint in from {
        let exists = match *endpoint {
            Endpoint::Source(source) => (source as usize) < graph.sources.len(),
            Endpoint::Chain { chain, port } => {
                graph.chains.get(chain as usize).is_some_and(|c| (port as usize) < c.outputs.len())
            }
        };
        if !exists {
            return Err(format!("it reads {}, which does not exist", endpoint_name(*endpoint)));
        }
        if !seen.insert(endpoint) {
            return Err(format!(
                "it reads {} twice, which it can only once: put an operator between, for example a map that changes nothing",
                endpoint_name(*endpoint)
            ));
        }
        if let Some(difference) = difference(graph.schema(*first), graph.schema(*endpoint)) {
            let (a, b) = (endpoint_name(*first), endpoint_name(*endpoint));
            return Err(format!("it unites {a} and {b}, whose schemas differ: {difference}"));
        }
    }
    Ok(())
}

fn endpoint_name(endpoint: Endpoint) -> String {
    match endpoint {
        Endpoint::Source(source) => format!("source {source}"),
        Endpoint::Chain { chain, port } => format!("output {port} of chain {chain}"),
    }
}

/// How two schemas differ, if they do.
fn difference(a: &SchemaRef, b: &SchemaRef) -> Option<String> {
    if a.fields().len() != b.fields().len() {
        return Some(format!("{} columns and {}", a.fields().len(), b.fields().len()));
    }
    let (a, b) = a.fields().iter().zip(b.fields()).find(|(a, b)| a != b)?;
    let nullable = |nullable| if nullable { "nullable " } else { "" };
    Some(format!(
        "`{}` of type {}{} and `{}` of type {}{}",
        a.name(),
        nullable(a.is_nullable()),
        a.data_type(),
        b.name(),
        nullable(b.is_nullable()),
        b.data_type()
    ))
}

/// The most bytes of a schema of states: as `wit/definition.wit` says.
pub(super) const STATE_SCHEMA_BYTES_MAX: usize = 1 << 16;

struct ChainCheck<'a> {
    graph: &'a Graph,
    chain: &'a Chain,
    index: usize,
}

impl ChainCheck<'_> {
    fn check(&self) -> Result<(), String> {
        if self.chain.parallelism == Some(0) {
            return Err("the parallelism is 0; it must be positive".into());
        }
        for port in 0..self.chain.inputs.len() {
            self.input(port).map_err(|e| format!("input {port}: {e}"))?;
        }
        self.keys()?;
        self.state_schema()?;
        match &self.chain.head {
            Head::Transform | Head::Process => (),
            Head::Relay => self.relay()?,
            Head::Window(window) => self.window(window)?,
        }
        let mut names = HashSet::new();
        for (port, output) in self.chain.outputs.iter().enumerate() {
            if !output.name.is_empty() {
                check_name("an output", &output.name)?;
            }
            if !names.insert(&output.name) {
                let name = if output.name.is_empty() { "without a name".to_owned() } else { format!("`{}`", output.name) };
                return Err(format!("there are two outputs {name}"));
            }
            self.output(port, output).map_err(|e| format!("output {port}: {e}"))?;
        }
        self.chain.event_time.iter().try_for_each(|assigner| self.event_time(assigner))
    }

    fn input(&self, port: usize) -> Result<(), String> {
        let input = &self.chain.inputs[port];
        let schema = self.graph.input_schema(self.index, port);
        distinct("key", &input.key, schema)?;
        distinct("columns", &input.columns, schema)?;
        for &column in &input.key {
            let field = schema.field(column);
            if !can_be_key(field.data_type()) {
                return Err(format!("column `{}` of type {} cannot be a key", field.name(), field.data_type()));
            }
        }
        self.dealt_out(input)
    }

    /// State is where its key is at home: there, only rows come that are dealt out by it, or all rows.
    fn dealt_out(&self, input: &Input) -> Result<(), String> {
        let by = match input.partitioning {
            Partitioning::Hash => return Ok(()),
            Partitioning::Forward => "forward",
            Partitioning::Rebalance => "rebalance",
            Partitioning::Broadcast => "broadcast",
        };
        if !input.key.is_empty() {
            return Err(format!(
                "it has a key, but its rows are not dealt out by it: with `{by}`, rows of one key may be in several subtasks; use `hash`"
            ));
        }
        match self.chain.head {
            Head::Window(_) => Err(format!(
                "it has no key and comes by `{by}`, so that each subtask would have windows of its own; use `hash`, with a key, or without \
                 one if all rows go into the same windows"
            )),
            Head::Process if input.partitioning != Partitioning::Broadcast => Err(format!(
                "it has no key and comes by `{by}`, so that its rows belong to no state; a `process` head needs `hash`, with a key, or \
                 without one if all rows share a state, or `broadcast`"
            )),
            Head::Process | Head::Transform | Head::Relay => Ok(()),
        }
    }

    /// People are shown it.
    fn state_schema(&self) -> Result<(), String> {
        let Some(schema) = &self.chain.state_schema else { return Ok(()) };
        if matches!(self.chain.head, Head::Transform | Head::Relay) {
            return Err("it has a schema of states, and its head keeps none".into());
        }
        if schema.len() > STATE_SCHEMA_BYTES_MAX {
            return Err(format!("the schema of its states has {} bytes; {STATE_SCHEMA_BYTES_MAX} are allowed", schema.len()));
        }
        match schema.chars().find(|c| c.is_control()) {
            Some(control) => Err(format!("there is a control character in the schema of its states: {control:?}")),
            None => Ok(()),
        }
    }

    /// All inputs whose rows are dealt out by key share the chain's slots, so their keys are of the same types.
    fn keys(&self) -> Result<(), String> {
        let types = |port: usize, input: &Input| -> Vec<DataType> {
            let schema = self.graph.input_schema(self.index, port);
            input.key.iter().map(|&c| schema.field(c).data_type().clone()).collect()
        };
        let hashed = self.chain.inputs.iter().enumerate().filter(|(_, input)| input.partitioning == Partitioning::Hash);
        let mut keys = hashed.map(|(port, input)| types(port, input));
        let Some(first) = keys.next() else { return Ok(()) };
        match keys.find(|key| *key != first) {
            Some(other) if first.is_empty() || other.is_empty() => {
                Err("some of its inputs with `hash` have a key and others do not".into())
            }
            Some(other) => Err(format!("the keys of its inputs differ in type: {first:?} and {other:?}")),
            None => Ok(()),
        }
    }

    fn output(&self, port: usize, output: &Output) -> Result<(), String> {
        let fields = output.schema.fields();
        if output.columns.len() != fields.len() {
            return Err(format!("it says for {} columns where they come from, but has {}", output.columns.len(), fields.len()));
        }
        let passes = match &self.chain.head {
            Head::Transform | Head::Relay | Head::Process => self.chain.inputs.len() == 1,
            Head::Window(_) => self.chain.late_input(port).is_some(),
        };
        let input = self.graph.input_schema(self.index, self.chain.late_input(port).unwrap_or(0));
        for (field, origin) in fields.iter().zip(&output.columns) {
            let &ColumnOrigin::Passed(column) = origin else { continue };
            if !passes {
                return Err(format!(
                    "column `{}` is passed on, but only chains with one input and without a window can pass columns on",
                    field.name()
                ));
            }
            let Some(from) = input.fields().get(column) else {
                return Err(format!(
                    "column `{}` is passed on from column {column}, but the input has {}",
                    field.name(),
                    input.fields().len()
                ));
            };
            if from.data_type() != field.data_type() || (from.is_nullable() && !field.is_nullable()) {
                return Err(format!(
                    "column `{}` of type {} is passed on from `{}` of type {}{}",
                    field.name(),
                    field.data_type(),
                    from.name(),
                    from.data_type(),
                    if from.is_nullable() { ", which is nullable" } else { "" }
                ));
            }
        }
        Ok(())
    }

    fn relay(&self) -> Result<(), String> {
        if self.chain.inputs.len() != 1 {
            return Err("a relay has one input".into());
        }
        let computed = |output: &Output| output.columns.contains(&ColumnOrigin::Computed);
        match self.chain.outputs.iter().position(computed) {
            Some(port) => Err(format!("output {port}: a relay passes all columns on; it cannot compute any")),
            None => Ok(()),
        }
    }

    fn window(&self, window: &Window) -> Result<(), String> {
        match window.assigner {
            Assigner::Tumbling { size_ms, offset_ms } => offset(offset_ms, size_ms)?,
            Assigner::Sliding { size_ms, slide_ms, offset_ms } => {
                offset(offset_ms, slide_ms)?;
                if slide_ms > size_ms {
                    return Err(format!("windows of {size_ms} ms slide by {slide_ms} ms, so rows between them would be lost"));
                }
                if size_ms / slide_ms > WINDOWS_PER_ROW_MAX {
                    return Err(format!("each row is in {} windows; {WINDOWS_PER_ROW_MAX} are allowed", size_ms / slide_ms));
                }
            }
            Assigner::Session { .. } | Assigner::Global => (),
        }
        if matches!(window.assigner, Assigner::Sliding { .. } | Assigner::Session { .. }) && !window.mergeable {
            return Err("sliding and session windows need an aggregate that can be merged".into());
        }
        let trigger = &window.trigger;
        if trigger.early_every_ms == Some(0) || trigger.every_count == Some(0) {
            return Err("its trigger fires every 0 ms or rows; that must be positive".into());
        }
        if trigger.early_every_ms.is_some_and(|ms| ms > SPAN_MS_MAX) {
            return Err("its trigger fires less than once in a thousand years".into());
        }
        if !trigger.on_time && trigger.early_every_ms.is_none() && trigger.every_count.is_none() {
            return Err("its trigger never fires".into());
        }
        if window.domain == TimeDomain::Processing && (window.allowed_lateness_ms > 0 || window.late_port.is_some()) {
            return Err("in processing time no row is late: leave out the allowed lateness and the output for late rows of the \
                        window, or use event time"
                .into());
        }
        let ports = window.late_port.iter().flat_map(|&first| (first..).take(self.chain.inputs.len()));
        ports.enumerate().try_for_each(|(input, port)| self.late_output(input, port))
    }

    /// An output for the late rows of an input.
    fn late_output(&self, input: usize, port: usize) -> Result<(), String> {
        let Some(late) = self.chain.outputs.get(port) else {
            return Err(format!("late rows of input {input} go to output {port}, which does not exist"));
        };
        if let Some(difference) = difference(self.graph.input_schema(self.index, input), &late.schema) {
            return Err(format!("late rows of input {input} go to output {port}, whose schema differs: {difference}"));
        }
        if !late.columns.iter().enumerate().all(|(i, c)| *c == ColumnOrigin::Passed(i)) {
            return Err(format!("late rows of input {input} go to output {port}, which must pass all columns on as they are"));
        }
        Ok(())
    }

    fn event_time(&self, assigner: &EventTimeAssigner) -> Result<(), String> {
        if matches!(self.chain.head, Head::Window(_)) {
            return Err("a window cannot assign event times: its results have the window's end".into());
        }
        let Some(output) = self.chain.outputs.first() else {
            return Err("it assigns event times, but has no output".into());
        };
        if let Watermarks::Bounded(ms) = assigner.watermarks
            && ms > SPAN_MS_MAX
        {
            return Err(format!("watermarks are {ms} ms behind, which is more than a thousand years"));
        }
        let Some(column) = assigner.column else {
            return if self.chain.head == Head::Relay { Err("a relay has no code to assign event times".into()) } else { Ok(()) };
        };
        if self.chain.head == Head::Relay && assigner.watermarks == Watermarks::Generated {
            return Err("a relay has no code to generate watermarks".into());
        }
        match output.schema.fields().get(column) {
            None => Err(format!("the event time is column {column} of output 0, which has {}", output.schema.fields().len())),
            Some(f) if *f.data_type() != event_time() || f.is_nullable() => Err(format!(
                "the event time is in column `{}` of type {}; it must be of type event-time and not nullable",
                f.name(),
                f.data_type()
            )),
            Some(_) => Ok(()),
        }
    }
}

fn offset(offset_ms: i64, period_ms: i64) -> Result<(), String> {
    if offset_ms.unsigned_abs() < period_ms.unsigned_abs() {
        Ok(())
    } else {
        Err(format!("the window's offset of {offset_ms} ms is not less than its period of {period_ms} ms"))
    }
}

fn distinct(what: &str, columns: &[usize], schema: &Schema) -> Result<(), String> {
    let mut seen = HashSet::new();
    for &column in columns {
        if column >= schema.fields().len() {
            return Err(format!("its {what} names column {column}, but there are {}", schema.fields().len()));
        }
        if !seen.insert(column) {
            return Err(format!("its {what} names column `{}` twice", schema.field(column).name()));
        }
    }
    Ok(())
}

/// Takes away chains of which all inputs are known, until none is left; what stays goes round in circles.
fn acyclic(graph: &Graph) -> Result<(), String> {
    let mut known = vec![false; graph.chains.len()];
    let ready = |chain: &Chain, known: &[bool]| {
        chain.inputs.iter().flat_map(|i| &i.from).all(|e| match e {
            Endpoint::Source(_) => true,
            Endpoint::Chain { chain, .. } => known[*chain as usize],
        })
    };
    // Each round takes at least one away, and there are few chains.
    for _ in 0..PARTS_MAX {
        let before = known.iter().filter(|k| **k).count();
        for (index, chain) in graph.chains.iter().enumerate() {
            known[index] = known[index] || ready(chain, &known);
        }
        if known.iter().filter(|k| **k).count() == before {
            break;
        }
    }
    match known.iter().position(|k| !k) {
        Some(index) => {
            Err(format!("{} reads its own output, directly or through others", chain_name(index, &graph.chains[index].operators)))
        }
        None => Ok(()),
    }
}
