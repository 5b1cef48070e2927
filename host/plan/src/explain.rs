//! The plan as text: what `weir explain` prints.
//!
//! One paragraph a vertex, in the plan's order, and one line a node. The text is the same for the same plan, so that it can be compared
//! between versions of a job.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use arrow_schema::{DataType, Field, Schema};
use weir_types::graph::{Assigner, ColumnOrigin, Head, OperatorInfo, Partitioning, TimeDomain, Watermarks, Window};

use crate::dead_letters::OUTPUT;
use crate::job::{ChainNode, Edge, Feed, JobPlan, Node, NodeKind, OnError, Origin, Root, Stage, Vertex, keeps_state};
use crate::spec::{Binding, ErrorPolicy};

/// The plan as text, which ends with a line feed.
pub fn explain(plan: &JobPlan) -> String {
    let mut out = String::new();
    write(plan, &mut out).expect("writing to a string does not fail");
    out
}

fn write(plan: &JobPlan, out: &mut String) -> fmt::Result {
    let subtasks: u32 = plan.vertices.iter().map(|v| u32::from(v.parallelism)).sum();
    writeln!(
        out,
        "job {}: parallelism {}, {} key groups, {}, {}",
        plan.name,
        plan.spec.parallelism,
        plan.spec.max_parallelism,
        count(plan.vertices.len(), "vertex", "vertices"),
        count(subtasks as usize, "subtask", "subtasks"),
    )?;
    for (index, vertex) in plan.vertices.iter().enumerate() {
        writeln!(out, "\nvertex {index}, {}: {}", count(usize::from(vertex.parallelism), "subtask", "subtasks"), vertex.name)?;
        root(plan, vertex, out)?;
        for (number, node) in vertex.nodes.iter().enumerate() {
            write!(out, "  {number} ")?;
            match &node.kind {
                NodeKind::Chain(chain) => chain_node(plan, vertex, node, chain, out)?,
                NodeKind::Sink(sink) => {
                    let sink = &plan.sinks[*sink];
                    writeln!(
                        out,
                        "sink {}: {}, from {}",
                        sink.name,
                        connector(&plan.spec.sinks, &sink.name),
                        feeds(plan, vertex, node)
                    )?;
                    columns(&sink.schema, &[], out)?;
                }
                NodeKind::Exchange(edge) => {
                    let to = &plan.edges[*edge];
                    let how = partitioning(plan, vertex, node, to);
                    let places = if to.carries_places { ", with where rows come from" } else { "" };
                    writeln!(out, "exchange {edge}: {how} to vertex {}, from {}{places}", to.to, feeds(plan, vertex, node))?;
                }
            }
        }
    }
    Ok(())
}

/// The source of a vertex with the columns that are read, or the exchanges that come in.
fn root(plan: &JobPlan, vertex: &Vertex, out: &mut String) -> fmt::Result {
    match &vertex.root {
        Root::Source(source) => {
            let source = &plan.sources[*source];
            writeln!(out, "  source {}: {}", source.name, connector(&plan.spec.sources, &source.name))?;
            for (index, stream) in source.streams.iter().enumerate() {
                if !stream.name.is_empty() || source.streams.len() > 1 {
                    writeln!(out, "    stream {}", named(&stream.name, index))?;
                }
                columns(&stream.schema, &stream.needed, out)?;
            }
            if source.has_dead_letters {
                writeln!(out, "    stream {OUTPUT}: malformed records")?;
            }
            Ok(())
        }
        Root::Gate(edges) => {
            let from: Vec<_> = edges.iter().map(|&e| format!("exchange {e} of vertex {}", plan.edges[e].from)).collect();
            writeln!(out, "  gate: {}", from.join(", "))
        }
    }
}

fn chain_node(plan: &JobPlan, vertex: &Vertex, node: &Node, node_chain: &ChainNode, out: &mut String) -> fmt::Result {
    let chain = &node_chain.chain;
    let stage = match node_chain.stage {
        Stage::Complete => "",
        Stage::Local => ", local part",
        Stage::Merging => ", merging part",
    };
    let component = plan.components.get(node_chain.component).filter(|name| !name.is_empty() && chain.head != Head::Relay);
    let component = component.map(|name| format!(" of {name}")).unwrap_or_default();
    // The local part of a window only accumulates: what follows the window runs after the merging part.
    let operators =
        if node_chain.stage == Stage::Local { &chain.operators[..1.min(chain.operators.len())] } else { &chain.operators };
    writeln!(out, "chain{component}: {}{stage}, from {}", operator_list(operators), feeds(plan, vertex, node))?;
    if let Head::Window(window) = &chain.head {
        writeln!(out, "      {}", describe_window(window))?;
    }
    if let Some(schema) = chain.state_schema.as_ref().filter(|_| node_chain.stage != Stage::Local) {
        writeln!(out, "      state {schema}")?;
    }
    for (input, schema) in chain.inputs.iter().zip(&node_chain.inputs) {
        let key = (!input.key.is_empty()).then(|| format!("key {}", names(schema, &input.key)));
        let reads = match (&chain.head, node_chain.stage) {
            (Head::Relay, _) | (_, Stage::Merging) => None,
            _ if input.columns.is_empty() => Some("reads no column".to_owned()),
            _ => Some(format!("reads {}", names(schema, &input.columns))),
        };
        let times = (input.times && node_chain.stage != Stage::Merging).then(|| "event times".to_owned());
        let line: Vec<_> = key.into_iter().chain(reads).chain(times).collect();
        if !line.is_empty() {
            writeln!(out, "      {}", line.join("; "))?;
        }
    }
    if node_chain.stage == Stage::Local {
        return Ok(());
    }
    if let Some(assigner) = &chain.event_time {
        let column = assigner.column.map_or("computed".to_owned(), |c| chain.outputs[0].schema.field(c).name().clone());
        match assigner.watermarks {
            Watermarks::Bounded(ms) => writeln!(out, "      event time {column}, at most {} out of order", duration(ms as i64))?,
            Watermarks::Generated => writeln!(out, "      event time {column}, watermarks by the guest")?,
        }
    }
    for (port, output) in chain.outputs.iter().enumerate() {
        let name = if output.name.is_empty() { String::new() } else { format!(" {}", output.name) };
        let fields = output.schema.fields().iter().zip(&output.columns).enumerate().map(|(i, (field, origin))| {
            let unread = node.needed.get(port).and_then(|n| n.get(i)) == Some(&false);
            let gives_time = port == 0 && chain.event_time.and_then(|e| e.column) == Some(i);
            let how = match (unread, origin) {
                (true, _) if gives_time => " (not read after that)",
                (true, _) => " (not read)",
                (false, ColumnOrigin::Passed(_)) => " (passed)",
                (false, ColumnOrigin::Computed) => "",
            };
            format!("{}{how}", field.name())
        });
        writeln!(out, "      out{name}: {}", fields.collect::<Vec<_>>().join(", "))?;
    }
    on_error(plan, node_chain, out)
}

/// What happens where a chain fails, if it does not just fail, or the job's word for that does not hold for it.
fn on_error(plan: &JobPlan, chain: &ChainNode, out: &mut String) -> fmt::Result {
    let OnError { policy, retries, pause } = chain.on_error;
    let keeps_state = keeps_state(chain.chain.head);
    let wants_more = plan.spec.on_error != ErrorPolicy::Fail || plan.spec.retries > 0;
    if keeps_state && policy == ErrorPolicy::Fail && wants_more && !plan.spec.has_checkpoints() {
        return writeln!(
            out,
            "      on error: the job fails, since it has no checkpoints for the operator's state to go back to"
        );
    }
    if chain.on_error.only_fails() {
        return Ok(());
    }
    let retries = match retries {
        0 if keeps_state => "the job goes back to a checkpoint, then ".to_owned(),
        0 => String::new(),
        retries => {
            let times = count(usize::from(retries), "retry", "retries");
            let from = if keeps_state { " from a checkpoint" } else { "" };
            format!("{times}{from} after {} each, then ", duration(pause.as_millis() as i64))
        }
    };
    let last = match policy {
        ErrorPolicy::Fail => "the job fails",
        ErrorPolicy::Skip => "rows are skipped",
        ErrorPolicy::DeadLetter => "rows become dead letters",
    };
    writeln!(out, "      on error: {retries}{last}")
}

/// `filter-1 (filter) → map`: the kind is left out where the id says it.
fn operator_list(operators: &[OperatorInfo]) -> String {
    let one = |o: &OperatorInfo| {
        let says_kind = o.id.strip_prefix(&o.kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        if says_kind { o.id.clone() } else { format!("{} ({})", o.id, o.kind) }
    };
    operators.iter().map(one).collect::<Vec<_>>().join(" → ")
}

/// Which rows of a key share a window: what the state of windows depends on.
pub fn window_shape(window: &Window) -> String {
    let offset = |ms: i64| if ms == 0 { String::new() } else { format!(" from {}", duration(ms)) };
    let assigner = match window.assigner {
        Assigner::Tumbling { size_ms, offset_ms } => format!("tumbling {}{}", duration(size_ms), offset(offset_ms)),
        Assigner::Sliding { size_ms, slide_ms, offset_ms } => {
            format!("sliding {} every {}{}", duration(size_ms), duration(slide_ms), offset(offset_ms))
        }
        Assigner::Session { gap_ms } => format!("session with a gap of {}", duration(gap_ms)),
        Assigner::Global => "global".to_owned(),
    };
    format!("{assigner}, {}", time_domain(window.domain))
}

/// What a time domain is called.
pub fn time_domain(domain: TimeDomain) -> &'static str {
    match domain {
        TimeDomain::Event => "event time",
        TimeDomain::Processing => "processing time",
    }
}

fn describe_window(window: &Window) -> String {
    let mut parts = vec![window_shape(window)];
    if !window.trigger.on_time {
        parts.push("not emitted at its end".to_owned());
    }
    if let Some(ms) = window.trigger.early_every_ms {
        parts.push(format!("early every {}", duration(ms as i64)));
    }
    if let Some(count) = window.trigger.every_count {
        parts.push(format!("every {count} rows"));
    }
    if window.trigger.purging {
        parts.push("purging".to_owned());
    }
    if window.allowed_lateness_ms > 0 {
        parts.push(format!("lateness {}", duration(window.allowed_lateness_ms)));
    }
    if window.late_port.is_some() {
        parts.push("late rows go to a side output".to_owned());
    }
    format!("window: {}", parts.join(", "))
}

/// Where a node's rows come from.
fn feeds(plan: &JobPlan, vertex: &Vertex, node: &Node) -> String {
    let several = node.feeds.iter().any(|f| f.port > 0);
    let is_merging = matches!(&node.kind, NodeKind::Chain(chain) if chain.stage == Stage::Merging);
    let one = |feed: &Feed| {
        let from = match feed.from {
            Origin::Stream(stream) => match vertex.root {
                Root::Source(source) => match plan.sources[source].streams.get(stream).map(|stream| stream.name.as_str()) {
                    None => format!("stream {OUTPUT}"),
                    Some("") => "the source".to_owned(),
                    Some(name) => format!("stream {name}"),
                },
                Root::Gate(_) => "the source".to_owned(),
            },
            Origin::Edge(place) => match &vertex.root {
                Root::Gate(edges) => format!("exchange {}", edges[place]),
                Root::Source(_) => "the gate".to_owned(),
            },
            Origin::Node { node, port } => match port {
                0 => node.to_string(),
                port => format!("{node}.{}", port_name(vertex, node, port)),
            },
        };
        match (is_merging, feed.port) {
            (true, Stage::PARTIALS) => format!("{from} (partials)"),
            (false, port) if several => format!("{from} (input {port})"),
            _ => from,
        }
    };
    node.feeds.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The name of a side output, or its number.
fn port_name(vertex: &Vertex, node: usize, port: usize) -> String {
    match &vertex.nodes[node].kind {
        NodeKind::Chain(chain) if chain.stage == Stage::Local => "partials".to_owned(),
        NodeKind::Chain(chain) => named(&chain.chain.outputs[port].name, port),
        NodeKind::Sink(_) | NodeKind::Exchange(_) => port.to_string(),
    }
}

fn named(name: &str, index: usize) -> String {
    if name.is_empty() { index.to_string() } else { name.to_owned() }
}

fn partitioning(plan: &JobPlan, vertex: &Vertex, node: &Node, edge: &Edge) -> String {
    match edge.partitioning {
        Partitioning::Forward => "forward".to_owned(),
        Partitioning::Rebalance if plan.vertices[edge.to].parallelism == 1 => "all rows".to_owned(),
        Partitioning::Rebalance => "rebalance".to_owned(),
        Partitioning::Broadcast => "broadcast".to_owned(),
        Partitioning::Hash => {
            let sent = node.feeds.first().map(|feed| sent_columns(plan, vertex, feed.from)).unwrap_or_default();
            let key = edge.key.iter().map(|&c| sent.get(c).cloned().unwrap_or_else(|| c.to_string()));
            format!("hash({})", key.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The names of the columns that come from `origin`.
fn sent_columns(plan: &JobPlan, vertex: &Vertex, origin: Origin) -> Vec<String> {
    let all = |schema: &Schema| schema.fields().iter().map(|f| f.name().clone()).collect();
    match (origin, &vertex.root) {
        (Origin::Stream(stream), Root::Source(source)) => {
            plan.sources[*source].streams.get(stream).map(|stream| all(&stream.schema)).unwrap_or_default()
        }
        (Origin::Edge(place), Root::Gate(edges)) => {
            // What came over an edge has the columns of the node that sent it.
            let sender = &plan.vertices[plan.edges[edges[place]].from];
            let sent = sender.nodes.iter().find(|n| matches!(n.kind, NodeKind::Exchange(e) if e == edges[place]));
            sent.and_then(|n| n.feeds.first()).map(|f| sent_columns(plan, sender, f.from)).unwrap_or_default()
        }
        (Origin::Node { node, port }, _) => match &vertex.nodes[node].kind {
            NodeKind::Chain(chain) if chain.stage == Stage::Local && port == Stage::ROWS => all(&chain.inputs[0]),
            NodeKind::Chain(chain) if chain.stage == Stage::Local => {
                let key = &chain.chain.inputs[0].key;
                key.iter().map(|&c| chain.inputs[0].field(c).name().clone()).collect()
            }
            NodeKind::Chain(chain) => all(&chain.chain.outputs[port].schema),
            NodeKind::Sink(_) | NodeKind::Exchange(_) => vec![],
        },
        (Origin::Stream(_), Root::Gate(_)) | (Origin::Edge(_), Root::Source(_)) => vec![],
    }
}

/// The connector that a source or sink is bound to.
fn connector<'a>(bindings: &'a BTreeMap<String, Binding>, name: &str) -> &'a str {
    bindings.get(name).map_or("not bound", |b| &b.connector)
}

/// One line a column; those that are not `needed` are marked (no list: all are needed).
fn columns(schema: &Schema, needed: &[bool], out: &mut String) -> fmt::Result {
    let width = schema.fields().iter().map(|f| f.name().chars().count()).max().unwrap_or(0);
    for (i, field) in schema.fields().iter().enumerate() {
        let unread = if needed.get(i) == Some(&false) { ", not read" } else { "" };
        writeln!(out, "      {:width$}  {}{unread}", field.name(), TypeOf(field))?;
    }
    Ok(())
}

fn names(schema: &Schema, columns: &[usize]) -> String {
    columns.iter().map(|&c| schema.field(c).name().as_str()).collect::<Vec<_>>().join(", ")
}

/// The type of a column, or of a part of one, in the words of `wit/types.wit`; with a question mark where a value may be missing.
pub struct TypeOf<'a>(pub &'a Field);

impl Display for TypeOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.data_type() {
            DataType::Timestamp(_, _) => f.write_str("event-time")?,
            DataType::List(item) => write!(f, "sequence<{}>", Self(item))?,
            DataType::Struct(fields) => {
                f.write_str("structure<")?;
                for (i, field) in fields.iter().enumerate() {
                    let comma = if i > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", field.name(), Self(field))?;
                }
                f.write_str(">")?;
            }
            other => f.write_str(&other.to_string().to_lowercase())?,
        }
        if self.0.is_nullable() { f.write_str("?") } else { Ok(()) }
    }
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// Milliseconds in the greatest unit that fits.
fn duration(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let (n, unit) = match ms.unsigned_abs() {
        0 => (0, "s"),
        ms if ms % 86_400_000 == 0 => (ms / 86_400_000, "d"),
        ms if ms % 3_600_000 == 0 => (ms / 3_600_000, "h"),
        ms if ms % 60_000 == 0 => (ms / 60_000, "m"),
        ms if ms % 1000 == 0 => (ms / 1000, "s"),
        ms => (ms, "ms"),
    };
    format!("{sign}{n}{unit}")
}

#[cfg(test)]
mod tests {
    use arrow_schema::Fields;

    use super::*;

    /// Goal: what may be missing is marked wherever it is, in a column, in the items of a list and in the fields of a record.
    #[test]
    fn what_may_be_missing_is_marked() {
        let list = |item| DataType::List(Field::new("item", item, true).into());
        let fields = vec![Field::new("a", DataType::Int16, true), Field::new("b", list(DataType::Utf8), false)];
        let record = DataType::Struct(Fields::from(fields));
        for (is_nullable, expected) in [
            (true, "sequence<structure<a: int16?, b: sequence<utf8?>>?>?"),
            (false, "sequence<structure<a: int16?, b: sequence<utf8?>>?>"),
        ] {
            assert_eq!(TypeOf(&Field::new("c", list(record.clone()), is_nullable)).to_string(), expected);
        }
    }
}
