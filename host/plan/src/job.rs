//! What runs: vertices, the nodes inside them, and the edges between them.
//!
//! A *vertex* is a task, run by `parallelism` subtasks. Inside it, *nodes* pass batches on by calls: they form a directed
//! acyclic graph whose root is a source or a gate (the channels that come in). Between vertices, *edges* pass batches on through channels.

use std::time::Duration;

use arrow_schema::SchemaRef;
use weir_types::graph::{Chain, Head, Partitioning};

use crate::spec::{ErrorPolicy, JobSpec};

/// A job, ready to be deployed.
#[derive(Clone, Debug)]
pub struct JobPlan {
    /// the job's name
    pub name: String,
    /// the spec that it was made from
    pub spec: JobSpec,
    /// components by name, in the order of [`JobSpec::component_specs`]
    pub components: Vec<String>,
    /// bound sources
    pub sources: Vec<SourcePlan>,
    /// bound sinks
    pub sinks: Vec<SinkPlan>,
    /// tasks; a vertex comes after those that feed it
    pub vertices: Vec<Vertex>,
    /// exchanges
    pub edges: Vec<Edge>,
}

/// A source that the spec binds, with the streams that the job wants of it.
#[derive(Clone, Debug)]
pub struct SourcePlan {
    /// the name that the spec binds
    pub name: String,
    /// streams
    pub streams: Vec<StreamPlan>,
    /// whether its malformed records become dead letters: rows of one stream more, behind these
    pub has_dead_letters: bool,
}

/// One stream of a source.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// the connector's name for it
    pub name: String,
    /// all columns that the graph names
    pub schema: SchemaRef,
    /// those of them that somebody reads: the connector makes only these, the others are left out of batches (see [`Node::needed`])
    pub needed: Vec<bool>,
}

/// A sink that the spec binds.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// the name that the spec binds
    pub name: String,
    /// the rows
    pub schema: SchemaRef,
}

/// A task, run by `parallelism` subtasks.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// the ids of its operators, for people
    pub name: String,
    /// how many subtasks
    pub parallelism: u16,
    /// where its rows come from
    pub root: Root,
    /// what it does with them; a node comes after those that feed it
    pub nodes: Vec<Node>,
}

/// Where the rows of a vertex come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// a source: index into [`JobPlan::sources`]
    Source(usize),
    /// edges: indexes into [`JobPlan::edges`]
    Gate(Vec<usize>),
}

/// A step of a task.
#[derive(Clone, Debug)]
pub struct Node {
    /// what it does
    pub kind: NodeKind,
    /// where its rows come from
    pub feeds: Vec<Feed>,
    /// for each output port, the columns that somebody downstream reads; the others are left out: a null array stands in their place,
    /// so that column numbers stay as the graph has them
    pub needed: Vec<Vec<bool>>,
}

/// One stream of rows into a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feed {
    /// where from
    pub from: Origin,
    /// which input of the node
    pub port: usize,
}

/// Where rows come from, inside a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// a stream of the source at the root
    Stream(usize),
    /// an edge of the gate at the root: index into the gate's list
    Edge(usize),
    /// an output port of another node of the task
    Node {
        /// which node
        node: usize,
        /// which port
        port: usize,
    },
}

/// What a node does.
#[derive(Clone, Debug)]
pub enum NodeKind {
    /// runs a chain of a component
    Chain(Box<ChainNode>),
    /// writes to a sink: index into [`JobPlan::sinks`]
    Sink(usize),
    /// sends to another vertex: index into [`JobPlan::edges`]
    Exchange(usize),
}

/// A chain at work in a task.
#[derive(Clone, Debug)]
pub struct ChainNode {
    /// index into [`JobPlan::components`]
    pub component: usize,
    /// index into the component's graph
    pub index: u32,
    /// what the graph says of it; where there are dead letters, with an output for them behind its own
    pub chain: Chain,
    /// the schema of each input
    pub inputs: Vec<SchemaRef>,
    /// which part of a window aggregation it does
    pub stage: Stage,
    /// what happens where the guest fails
    pub on_error: OnError,
    /// where rows go on which it fails; only with [`ErrorPolicy::DeadLetter`]
    pub dead_letters: Option<DeadLetters>,
}

/// What happens where a chain's guest fails on rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnError {
    /// what happens with a row on which it fails
    pub policy: ErrorPolicy,
    /// how often the call is made again before that; where there is state, how often the job goes back to a checkpoint to give the row to the chain again
    pub retries: u16,
    /// how long before each of these
    pub pause: Duration,
}

impl OnError {
    /// Whether all that happens is that the job fails.
    pub fn only_fails(&self) -> bool {
        self.policy == ErrorPolicy::Fail && self.retries == 0
    }
}

/// The dead letters of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetters {
    /// the chain's output for them
    pub port: usize,
    /// the names of the sources that its rows may come from
    pub sources: Vec<String>,
}

/// Which part of a window aggregation a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// all of it
    Complete,
    /// before the exchange: accumulates what it gets and hands on partial accumulators, or passes rows on where that is cheaper
    Local,
    /// after the exchange: merges partial accumulators, and accumulates rows
    Merging,
}

impl Stage {
    /// The port by which rows leave the local part as they came, and come into the merging part.
    pub const ROWS: usize = 0;
    /// The port by which partial accumulators do. They begin with the key columns.
    pub const PARTIALS: usize = 1;
}

/// Whether a chain with this head keeps state, so that a call that fails may do harm to it.
pub fn keeps_state(head: Head) -> bool {
    matches!(head, Head::Process | Head::Window(_))
}

/// An exchange: all channels between two vertices.
#[derive(Clone, Debug)]
pub struct Edge {
    /// index of the sending vertex
    pub from: usize,
    /// index of the receiving vertex
    pub to: usize,
    /// how rows are dealt out
    pub partitioning: Partitioning,
    /// the key columns, for hash
    pub key: Vec<usize>,
    /// how many columns rows have; none of partial accumulators, which only their operator knows
    pub columns: Option<usize>,
    /// whether rows bring a column more, behind these, that says where they come from: they may become dead letters
    pub carries_places: bool,
}

impl ChainNode {
    /// The id of the operator that the chain starts with: the name of its state and of its errors.
    pub fn operator_id(&self) -> &str {
        self.chain.operators.first().map_or("chain", |o| &o.id)
    }

    /// All operator ids, joined.
    pub fn name(&self) -> String {
        let ids: Vec<_> = self.chain.operators.iter().map(|o| o.id.as_str()).collect();
        match self.stage {
            Stage::Local => format!("{} (local)", ids.first().copied().unwrap_or("chain")),
            Stage::Complete | Stage::Merging => ids.join(" → "),
        }
    }
}
