//! Rows that an unaligned checkpoint has in flight: to which edges of a job they belong, and which of them come to a subtask first.
//!
//! An edge is what it is called in words: where its rows come from, where they go, by which key, and which columns are there. How many subtasks it connects,
//! and so how rows are dealt out, may change.
//!
//! Watermarks in flight hold for the splits that their senders read. So as long as the parallelism is the same, splits stay where they were; see
//! [`Restore::reader`].

use std::collections::HashMap;

use weir_checkpoint::{Manifest, TaskSnapshot};
use weir_exchange::redeal::{Ends, Flow};
use weir_exchange::{Message, Redeal, in_flight};
use weir_plan::JobPlan;
use weir_plan::job::{ChainNode, Edge, Node, NodeKind, Origin, Root, SourcePlan, Stage, Vertex};
use weir_types::graph::Partitioning;

use crate::error::{Failure, FailureKind};
use crate::restore::{Restore, fetch_failure, in_component, state_schema};

impl Restore {
    /// The subtask that has to read a split of a source, of so many; none = any can. What its reader has said of time may be in flight.
    pub(crate) fn reader(&self, source: &str, split: &str, parallelism: u16) -> Option<u16> {
        let tasks = &self.manifest.tasks;
        if tasks.iter().all(|task| task.in_flight.is_empty()) {
            return None;
        }
        let of_source =
            |task: &&TaskSnapshot| task.source.as_ref().is_some_and(|s| s.name == source && s.splits.contains_key(split));
        tasks.iter().find(of_source).filter(|task| task.parallelism == parallelism).map(|task| task.subtask)
    }

    /// What was in flight to a subtask, each message with its edge and sender.
    pub(crate) async fn in_flight(
        &self,
        plan: &JobPlan,
        vertex: usize,
        subtask: u16,
    ) -> Result<Vec<(u32, u16, Message)>, Failure> {
        let tasks = || self.manifest.tasks.iter().filter(|task| !task.in_flight.is_empty());
        let Root::Gate(gate) = &plan.vertices[vertex].root else { return Ok(vec![]) };
        if tasks().next().is_none() {
            return Ok(vec![]);
        }
        let words = edges(plan);
        let was_of = |vertex: usize| self.manifest.vertices.get(vertex).map(|vertex| vertex.parallelism);
        let is_same = self.manifest.vertices.len() == plan.vertices.len()
            && plan.vertices.iter().enumerate().all(|(index, vertex)| was_of(index) == Some(vertex.parallelism));
        let mut messages = vec![];
        for &edge in gate {
            let Some(was) = self.manifest.edges.iter().position(|was| *was == words[edge]) else { continue };
            let ends = |task: &TaskSnapshot| {
                let rows = task.in_flight.iter().find(|rows| rows.edge as usize == was)?;
                Some(Ends { senders: rows.senders, receivers: task.parallelism })
            };
            let Some(was_between) = tasks().find_map(ends) else { continue };
            let edge_now = &plan.edges[edge];
            let is = Ends { senders: plan.vertices[edge_now.from].parallelism, receivers: plan.vertices[vertex].parallelism };
            let redeal = Redeal {
                partitioning: edge_now.partitioning,
                key: &edge_now.key,
                max_parallelism: plan.spec.max_parallelism,
                was: was_between,
                is,
                is_same: is_same && was_between == is,
            };
            let mut flows = vec![];
            for task in tasks().filter(|task| redeal.takes(subtask, task.subtask)) {
                for rows in task.in_flight.iter().filter(|rows| rows.edge as usize == was) {
                    let bytes = self.folder.fetch(&rows.file).await.map_err(|e| fetch_failure(&e))?;
                    let messages = in_flight::decode(&bytes);
                    let messages =
                        messages.map_err(|e| Failure::new(FailureKind::Damaged, format!("{}: {e}", rows.file.path)))?;
                    flows.push(Flow { sender: rows.sender, receiver: task.subtask, messages });
                }
            }
            let dealt = redeal.deal(subtask, flows);
            let dealt =
                dealt.map_err(|e| Failure::new(FailureKind::Internal, format!("rows in flight cannot be dealt out: {e}")))?;
            messages.extend(dealt.into_iter().map(|(sender, message)| (edge as u32, sender, message)));
        }
        Ok(messages)
    }
}

/// Why rows in flight have nowhere to go; none if they have.
pub(crate) fn misfit(plan: &JobPlan, manifest: &Manifest) -> Option<String> {
    let now = edges(plan);
    let channels = manifest.tasks.iter().flat_map(|task| task.in_flight.iter().map(move |rows| (task, rows)));
    // Watermarks alone need not go on: those that come tell the same.
    let mut channels = channels.filter(|(_, rows)| rows.batches > 0);
    let why = channels.find_map(|(task, rows)| {
        let Some(was) = manifest.edges.get(rows.edge as usize) else { return Some("of an older version of Weir".to_owned()) };
        let Some(edge) = now.iter().position(|now| now == was) else {
            return Some(format!("{was}, which the job has not as it would start now"));
        };
        let Edge { from, to, .. } = plan.edges[edge];
        let is = [from, to].map(|vertex| plan.vertices[vertex].parallelism);
        let moves = is != [rows.senders, task.parallelism];
        (moves && assigns_times(&plan.vertices[to])).then(|| {
            format!("{was}, behind which event times are assigned channel by channel: they cannot go on at another parallelism")
        })
    })?;
    let checkpoint = manifest.checkpoint;
    Some(format!(
        "checkpoint {checkpoint} is unaligned and has rows in flight ({why}); start the job as it was, in the mode \"unaligned\", stop it (a checkpoint to stop \
         with is aligned), and change it then"
    ))
}

/// Whether event times are assigned in a vertex: behind a gate, each channel counts as a split, whose rows are in order.
fn assigns_times(vertex: &Vertex) -> bool {
    let assigns = |chain: &ChainNode| chain.stage != Stage::Local && chain.chain.event_time.is_some();
    vertex.nodes.iter().any(|node| matches!(&node.kind, NodeKind::Chain(chain) if assigns(chain)))
}

/// What crosses each edge of a plan, in words: where it comes from, where it goes, by which key, and which columns are there.
pub fn edges(plan: &JobPlan) -> Vec<String> {
    let mut words = vec![String::new(); plan.edges.len()];
    let mut seen: HashMap<String, usize> = HashMap::new();
    for vertex in &plan.vertices {
        for node in &vertex.nodes {
            let (NodeKind::Exchange(index), Some(feed)) = (&node.kind, node.feeds.first()) else { continue };
            let edge = &plan.edges[*index];
            let origin = match feed.from {
                Origin::Stream(stream) => {
                    format!("stream {stream} of {}", source(plan, vertex).map_or("", |source| &source.name))
                }
                Origin::Edge(place) => format!("input {place}"),
                Origin::Node { node, port } => format!("output {port} of {}", name(plan, &vertex.nodes[node].kind)),
            };
            // Of rows that went to all, each receiver has its own: they cannot go on where each goes to one.
            let how = if edge.partitioning == Partitioning::Broadcast { "broadcast " } else { "" };
            let receiver = receiver(plan, *index, &plan.vertices[edge.to]);
            let columns = columns(plan, vertex, feed.from);
            let mut what = format!("{how}{origin} to {receiver} by {:?}: {columns}", edge.key);
            let count = seen.entry(what.clone()).or_default();
            *count += 1;
            if *count > 1 {
                what = format!("{what}, {count}");
            }
            words[*index] = what;
        }
    }
    words
}

/// The source at the root of a vertex.
fn source<'a>(plan: &'a JobPlan, vertex: &Vertex) -> Option<&'a SourcePlan> {
    match vertex.root {
        Root::Source(source) => Some(&plan.sources[source]),
        Root::Gate(_) => None,
    }
}

/// The columns that rows from there have.
fn columns(plan: &JobPlan, vertex: &Vertex, from: Origin) -> String {
    let (schema, needed) = match from {
        Origin::Stream(stream) => match source(plan, vertex) {
            Some(source) => (&source.streams[stream].schema, &source.streams[stream].needed),
            None => return String::new(),
        },
        Origin::Edge(_) => return String::new(),
        Origin::Node { node, port } => {
            let Node { kind, feeds, needed } = &vertex.nodes[node];
            let NodeKind::Chain(chain) = kind else { return String::new() };
            match (chain.stage, feeds.first()) {
                (Stage::Local, Some(feed)) if port == Stage::ROWS => return columns(plan, vertex, feed.from),
                (Stage::Local, _) => return format!("accumulators, {}", state_schema(chain)),
                (Stage::Complete | Stage::Merging, _) => match (chain.chain.outputs.get(port), needed.get(port)) {
                    (Some(output), Some(needed)) => (&output.schema, needed),
                    _ => return String::new(),
                },
            }
        }
    };
    let there = schema.fields().iter().zip(needed).filter(|(_, needed)| **needed);
    there.map(|(field, _)| format!("{} {}", field.name(), field.data_type())).collect::<Vec<_>>().join(", ")
}

/// Which inputs of which operators an edge leads to.
fn receiver(plan: &JobPlan, edge: usize, vertex: &Vertex) -> String {
    let Root::Gate(gate) = &vertex.root else { return String::new() };
    let is_fed = |from: &Origin| matches!(from, Origin::Edge(place) if gate[*place] == edge);
    let inputs = vertex.nodes.iter().flat_map(|node| node.feeds.iter().map(move |feed| (node, feed)));
    let inputs = inputs.filter(|(_, feed)| is_fed(&feed.from));
    inputs.map(|(node, feed)| format!("input {} of {}", feed.port, name(plan, &node.kind))).collect::<Vec<_>>().join(", ")
}

/// What a node is called, at any parallelism.
fn name(plan: &JobPlan, kind: &NodeKind) -> String {
    match kind {
        NodeKind::Chain(chain) => in_component(plan, chain, &chain.name()),
        NodeKind::Sink(sink) => plan.sinks[*sink].name.clone(),
        NodeKind::Exchange(_) => "an exchange".to_owned(),
    }
}
