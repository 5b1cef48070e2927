//! The nodes of a subtask, and the order in which batches and watermarks go through them.
//!
//! Everything that a root gives goes into a queue, and what nodes make of it goes in behind: so each edge keeps its order, a watermark never overtakes
//! rows, and no call nests in another. The queue is empty again before the root is asked for more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use weir_connector::Writer;
use weir_exchange::{Message, Outbox};
use weir_operator::chain::{ChainOperator, Parts as ChainParts};
use weir_operator::{Assigner, Body, Context, Emitted, Error, GuestStart};
use weir_plan::job::{ChainNode, Node as NodePlan, NodeKind, Origin};
use weir_plan::spec::ErrorPolicy;
use weir_protocol::watermark::Merge;
use weir_sandbox::Limits;
use weir_state::MemoryBackend;
use weir_types::{Batch, EventTime, Watermark};

use super::Parts;
use crate::deploy::connector_failure;
use crate::error::{Failure, FailureKind};
use crate::metrics::{JobMetrics, NodeCounters};

/// What one slot of keyed state is taken to weigh, when a limit in bytes is turned into one in slots.
const SLOT_BYTES: u64 = 256;

/// The nodes of a subtask.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    routes: Routes,
    queue: VecDeque<(usize, Signal)>,
    emitted: Vec<Emitted>,
    /// processing time, ms: set by the task once a step
    pub(super) now: EventTime,
    /// time spent waiting for room in channels, since it was last taken
    waited: Duration,
    metrics: Arc<JobMetrics>,
    first_counter: usize,
    subtask: u16,
}

/// What goes to a node.
enum Signal {
    Rows { port: usize, batch: Batch, split: u32 },
    Watermark { feed: usize, watermark: Watermark },
    Idle { feed: usize },
}

struct Node {
    operator: Operator,
    context: Context,
    /// merges the watermarks of the node's feeds
    merge: Merge,
    /// makes watermarks of its own instead
    assigner: Option<Assigner>,
    is_idle: bool,
}

enum Operator {
    Chain(ChainOperator),
    Sink(String, Box<dyn Writer>),
    Exchange(Outbox),
}

/// A node that reads from somewhere.
#[derive(Clone, Copy)]
struct Route {
    node: usize,
    port: usize,
    /// which of the node's feeds
    feed: usize,
}

/// Who reads what.
#[derive(Default)]
struct Routes {
    streams: Vec<Vec<Route>>,
    edges: Vec<Vec<Route>>,
    /// `[node][port]`
    nodes: Vec<Vec<Vec<Route>>>,
}

impl Routes {
    fn new(nodes: &[NodePlan]) -> Self {
        let mut routes = Self { nodes: vec![vec![]; nodes.len()], ..Self::default() };
        for (node, plan) in nodes.iter().enumerate() {
            for (feed, from) in plan.feeds.iter().enumerate() {
                let (list, index) = match from.from {
                    Origin::Stream(stream) => (&mut routes.streams, stream),
                    Origin::Edge(edge) => (&mut routes.edges, edge),
                    Origin::Node { node, port } => (&mut routes.nodes[node], port),
                };
                if list.len() <= index {
                    list.resize(index + 1, vec![]);
                }
                list[index].push(Route { node, port: from.port, feed });
            }
        }
        routes
    }

    fn of(&self, origin: Origin) -> &[Route] {
        let list = match origin {
            Origin::Stream(stream) => self.streams.get(stream),
            Origin::Edge(edge) => self.edges.get(edge),
            Origin::Node { node, port } => self.nodes[node].get(port),
        };
        list.map_or(&[], Vec::as_slice)
    }
}

impl Nodes {
    /// Opens the nodes of a subtask, which reads `splits` splits.
    pub(super) async fn open(parts: &Parts, splits: usize) -> Result<Self, Box<Failure>> {
        let vertex = &parts.plan.vertices[parts.vertex];
        let mut nodes = vec![];
        for plan in &vertex.nodes {
            nodes.push(open_node(parts, plan, splits).await?);
        }
        Ok(Self {
            nodes,
            routes: Routes::new(&vertex.nodes),
            queue: VecDeque::new(),
            emitted: vec![],
            now: parts.clock.now_ms(),
            waited: Duration::ZERO,
            metrics: Arc::clone(&parts.metrics),
            first_counter: parts.first_counter,
            subtask: parts.subtask,
        })
    }

    /// Counts rows that came in at the root.
    pub(super) fn count_in(&self, batch: &Batch) {
        let root = &self.metrics.nodes[self.first_counter];
        root.records_out.fetch_add(batch.rows() as u64, Relaxed);
        root.bytes_out.fetch_add(batch.bytes() as u64, Relaxed);
    }

    /// Passes rows on.
    pub(super) async fn rows(&mut self, origin: Origin, batch: Batch, split: u32) -> Result<(), Box<Failure>> {
        self.route(origin, batch, split);
        self.run().await
    }

    /// A watermark reached the root.
    pub(super) async fn watermark(&mut self, origin: Origin, watermark: Watermark) -> Result<(), Box<Failure>> {
        self.metrics.nodes[self.first_counter].watermark.store(watermark.0, Relaxed);
        for route in self.routes.of(origin) {
            self.queue.push_back((route.node, Signal::Watermark { feed: route.feed, watermark }));
        }
        self.run().await
    }

    /// A source's watermark is that of all its streams.
    pub(super) async fn source_watermark(&mut self, watermark: Watermark) -> Result<(), Box<Failure>> {
        for stream in 0..self.routes.streams.len() {
            self.watermark(Origin::Stream(stream), watermark).await?;
        }
        Ok(())
    }

    /// An edge has nothing to give for the moment.
    pub(super) async fn idle(&mut self, origin: Origin) -> Result<(), Box<Failure>> {
        for route in self.routes.of(origin) {
            self.queue.push_back((route.node, Signal::Idle { feed: route.feed }));
        }
        self.run().await
    }

    /// A split of the source gives nothing for the moment.
    pub(super) async fn split_idle(&mut self, split: u32) -> Result<(), Box<Failure>> {
        for node in 0..self.nodes.len() {
            let Some(assigner) = &mut self.nodes[node].assigner else { continue };
            match assigner.idle(split) {
                Some(watermark) => self.assigned(node, watermark),
                None if assigner.is_idle() => self.pass_idle(node),
                None => {}
            }
        }
        self.run().await
    }

    /// A split of the source has ended.
    pub(super) async fn split_ended(&mut self, split: u32) -> Result<(), Box<Failure>> {
        for node in 0..self.nodes.len() {
            let Some(assigner) = &mut self.nodes[node].assigner else { continue };
            if let Some(watermark) = assigner.ended(split) {
                self.assigned(node, watermark);
            }
        }
        self.run().await
    }

    /// A node has made a watermark of its own.
    fn assigned(&mut self, node: usize, watermark: Watermark) {
        self.nodes[node].context.watermark = watermark;
        self.pass_watermark(node, watermark);
    }

    fn pass_watermark(&mut self, node: usize, watermark: Watermark) {
        self.counters(node).watermark.store(watermark.0, Relaxed);
        for route in self.routes.nodes[node].iter().flatten() {
            self.queue.push_back((route.node, Signal::Watermark { feed: route.feed, watermark }));
        }
    }

    fn pass_idle(&mut self, node: usize) {
        for route in self.routes.nodes[node].iter().flatten() {
            self.queue.push_back((route.node, Signal::Idle { feed: route.feed }));
        }
    }

    fn counters(&self, node: usize) -> &NodeCounters {
        &self.metrics.nodes[self.first_counter + 1 + node]
    }

    /// Queues rows for everyone who reads them.
    fn route(&mut self, origin: Origin, batch: Batch, split: u32) {
        if batch.is_empty() {
            return;
        }
        if let Some((last, others)) = self.routes.of(origin).split_last() {
            for route in others {
                self.queue.push_back((route.node, Signal::Rows { port: route.port, batch: batch.clone(), split }));
            }
            self.queue.push_back((last.node, Signal::Rows { port: last.port, batch, split }));
        }
    }

    /// Works until the queue is empty.
    async fn run(&mut self) -> Result<(), Box<Failure>> {
        while let Some((node, signal)) = self.queue.pop_front() {
            let start = Instant::now();
            let waited = self.waited;
            let split = match &signal {
                Signal::Rows { split, .. } => *split,
                _ => 0,
            };
            self.handle(node, signal).await.map_err(|e| Box::new(self.failure(node, e)))?;
            self.pass_on(node, split);
            let busy = start.elapsed().saturating_sub(self.waited - waited);
            self.counters(node).busy_ns.fetch_add(busy.as_nanos() as u64, Relaxed);
        }
        Ok(())
    }

    async fn handle(&mut self, index: usize, signal: Signal) -> Result<(), NodeError> {
        let counters = &self.metrics.nodes[self.first_counter + 1 + index];
        let node = &mut self.nodes[index];
        node.context.now = self.now;
        match signal {
            Signal::Rows { port, batch, split } => {
                counters.records_in.fetch_add(batch.rows() as u64, Relaxed);
                counters.bytes_in.fetch_add(batch.bytes() as u64, Relaxed);
                node.is_idle = false;
                match &mut node.operator {
                    Operator::Chain(chain) => {
                        node.context.split = split;
                        chain.on_batch(port, &batch, &mut node.context, &mut self.emitted).await?;
                        count_chain(counters, chain, &node.context);
                    }
                    Operator::Sink(_, writer) => {
                        writer.write(&batch)?;
                        counters.records_out.fetch_add(batch.rows() as u64, Relaxed);
                    }
                    Operator::Exchange(outbox) => {
                        counters.records_out.fetch_add(batch.rows() as u64, Relaxed);
                        let start = Instant::now();
                        outbox.send(batch).await?;
                        self.waited += start.elapsed();
                    }
                }
            }
            Signal::Watermark { feed, watermark } => {
                let Some(merged) = node.merge.advance(feed, watermark) else { return Ok(()) };
                // A node that makes its own watermarks heeds only the end of its input.
                if node.assigner.is_some() && merged != Watermark::END {
                    return Ok(());
                }
                node.is_idle = false;
                self.on_watermark(index, merged).await?;
            }
            Signal::Idle { feed } => {
                if let Some(merged) = node.merge.idle(feed) {
                    self.on_watermark(index, merged).await?;
                } else if node.merge.is_idle() && !node.is_idle {
                    node.is_idle = true;
                    match &mut node.operator {
                        Operator::Exchange(outbox) => outbox.broadcast(Message::Idle).await?,
                        Operator::Chain(_) | Operator::Sink(..) => self.pass_idle(index),
                    }
                }
            }
        }
        Ok(())
    }

    async fn on_watermark(&mut self, index: usize, watermark: Watermark) -> Result<(), NodeError> {
        let counters = &self.metrics.nodes[self.first_counter + 1 + index];
        let node = &mut self.nodes[index];
        node.context.watermark = watermark;
        match &mut node.operator {
            Operator::Chain(chain) => {
                chain.on_watermark(&mut node.context, &mut self.emitted).await?;
                count_chain(counters, chain, &node.context);
            }
            Operator::Sink(..) => {}
            Operator::Exchange(outbox) => outbox.watermark(watermark).await?,
        }
        // Rows that fire at a watermark go before it.
        self.pass_emitted(index, 0);
        self.pass_watermark(index, watermark);
        Ok(())
    }

    /// Passes on the rows that a node has made, and the watermark that follows from them.
    fn pass_on(&mut self, node: usize, split: u32) {
        self.pass_emitted(node, split);
        let Some(progress) = self.nodes[node].context.progress.take() else { return };
        let watermark = self.nodes[node].assigner.as_mut().and_then(|a| a.progress(split, progress));
        if let Some(watermark) = watermark {
            self.assigned(node, watermark);
        }
    }

    fn pass_emitted(&mut self, node: usize, split: u32) {
        if self.emitted.is_empty() {
            return;
        }
        let mut emitted = std::mem::take(&mut self.emitted);
        for (port, batch) in emitted.drain(..) {
            let counters = self.counters(node);
            counters.records_out.fetch_add(batch.rows() as u64, Relaxed);
            counters.bytes_out.fetch_add(batch.bytes() as u64, Relaxed);
            self.route(Origin::Node { node, port }, batch, split);
        }
        self.emitted = emitted;
    }

    /// When a node wants to look at processing time next.
    pub(super) fn next_clock(&mut self) -> Option<EventTime> {
        self.nodes
            .iter_mut()
            .filter_map(|node| match &mut node.operator {
                Operator::Chain(chain) => chain.next_clock(),
                Operator::Sink(..) | Operator::Exchange(_) => None,
            })
            .min()
    }

    /// Lets nodes look at processing time.
    pub(super) async fn on_clock(&mut self) -> Result<(), Box<Failure>> {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let Operator::Chain(chain) = &mut node.operator else { continue };
            if chain.next_clock().is_none_or(|time| time > self.now) {
                continue;
            }
            node.context.now = self.now;
            let result = chain.on_clock(&mut node.context, &mut self.emitted).await;
            result.map_err(|e| Box::new(self.failure(index, e.into())))?;
            self.pass_emitted(index, 0);
            self.run().await?;
        }
        Ok(())
    }

    /// Puts out what nodes hold back.
    pub(super) async fn flush(&mut self) -> Result<(), Box<Failure>> {
        for index in 0..self.nodes.len() {
            let result: Result<(), NodeError> = match &mut self.nodes[index].operator {
                Operator::Chain(_) => Ok(()),
                Operator::Sink(_, writer) => writer.flush().map_err(NodeError::from),
                Operator::Exchange(outbox) => {
                    let start = Instant::now();
                    let result = outbox.flush().await;
                    self.waited += start.elapsed();
                    result.map_err(NodeError::from)
                }
            };
            result.map_err(|e| Box::new(self.failure(index, e)))?;
        }
        Ok(())
    }

    /// All input has ended and all of it is through: closes sinks, and tells the receivers of exchanges.
    pub(super) async fn finish(&mut self) -> Result<(), Box<Failure>> {
        for index in 0..self.nodes.len() {
            let result: Result<(), NodeError> = match &mut self.nodes[index].operator {
                Operator::Chain(_) => Ok(()),
                Operator::Sink(_, writer) => writer.flush().and_then(|()| writer.finish()).map_err(NodeError::from),
                Operator::Exchange(outbox) => outbox.broadcast(Message::End).await.map_err(NodeError::from),
            };
            result.map_err(|e| Box::new(self.failure(index, e)))?;
        }
        Ok(())
    }

    /// The time spent waiting for room in channels since the last call.
    pub(super) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    fn failure(&self, node: usize, error: NodeError) -> Failure {
        let mut failure = match (&self.nodes[node].operator, error) {
            (Operator::Sink(name, _), NodeError::Connector(error)) => connector_failure("sink", name, &error),
            (_, NodeError::Connector(error)) => Failure::new(FailureKind::Connector, error.to_string()),
            (_, NodeError::Exchange(error)) => Failure::new(FailureKind::Internal, error.to_string()),
            (_, NodeError::Operator(error)) => operator_failure(&error),
        };
        failure.operator.get_or_insert_with(|| self.nodes[node].context.operator.clone());
        failure.subtask = Some(self.subtask);
        failure
    }
}

/// The failure of an operator; of a guest's with its backtrace.
fn operator_failure(error: &Error) -> Failure {
    let guest = match error {
        Error::Guest(guest) | Error::Rows { error: guest, .. } => Some(guest),
        _ => None,
    };
    let kind = if guest.is_some() { FailureKind::Guest } else { FailureKind::Internal };
    let mut failure = Failure::new(kind, error.to_string());
    failure.backtrace = guest.map(|g| g.backtrace.clone()).unwrap_or_default();
    failure
}

/// Why a node failed.
#[derive(Debug, thiserror::Error)]
enum NodeError {
    #[error(transparent)]
    Operator(#[from] Error),
    #[error(transparent)]
    Connector(#[from] weir_connector::Error),
    #[error(transparent)]
    Exchange(#[from] weir_exchange::outbox::Error),
}

fn count_chain(counters: &NodeCounters, chain: &ChainOperator, context: &Context) {
    if let Some(body) = chain.body() {
        counters.guest_ns.store(body.guest_time().as_nanos() as u64, Relaxed);
        counters.guest_memory_bytes.store(body.memory_bytes() as u64, Relaxed);
    }
    counters.slots.store(chain.slots() as u64, Relaxed);
    counters.late_records.store(chain.late_rows(), Relaxed);
    counters.skipped_records.store(context.skipped, Relaxed);
}

async fn open_node(parts: &Parts, plan: &NodePlan, splits: usize) -> Result<Node, Box<Failure>> {
    let feeds = plan.feeds.len();
    let spec = &parts.plan.spec;
    Ok(match &plan.kind {
        NodeKind::Chain(chain) => {
            let operator = open_chain(parts, chain, &plan.needed).await.map_err(|e| {
                let mut failure = operator_failure(&e);
                failure.message = format!("cannot start operator \"{}\": {}", chain.operator_id(), failure.message);
                failure.operator = Some(chain.operator_id().to_owned());
                failure.subtask = Some(parts.subtask);
                Box::new(failure)
            })?;
            let skips = spec.on_error == ErrorPolicy::Skip;
            Node {
                operator: Operator::Chain(operator),
                context: Context::new(chain.operator_id().to_owned(), chain.inputs.clone(), skips),
                merge: Merge::new(feeds),
                assigner: chain.chain.event_time.map(|e| Assigner::new(e.watermarks, splits)),
                is_idle: false,
            }
        }
        NodeKind::Sink(index) => {
            let (name, sink) = &parts.metrics.sinks[*index];
            let parallelism = parts.plan.vertices[parts.vertex].parallelism;
            let writer = sink.writer(parts.subtask, parallelism).map_err(|e| connector_failure("sink", name, &e))?;
            plain_node(Operator::Sink(name.clone(), writer), name, feeds)
        }
        NodeKind::Exchange(edge) => {
            let mut senders = parts.senders.lock();
            let senders = senders.iter_mut().find(|(e, _)| e == edge).map(|(_, s)| std::mem::take(s)).unwrap_or_default();
            let edge = &parts.plan.edges[*edge];
            let outbox = Outbox::new(edge.partitioning, &edge.key, parts.subtask, spec.max_parallelism, senders);
            plain_node(Operator::Exchange(outbox), "exchange out", feeds)
        }
    })
}

fn plain_node(operator: Operator, name: &str, feeds: usize) -> Node {
    Node {
        operator,
        context: Context::new(name.to_owned(), vec![], false),
        merge: Merge::new(feeds),
        assigner: None,
        is_idle: false,
    }
}

async fn open_chain(parts: &Parts, node: &ChainNode, needed: &[Vec<bool>]) -> Result<ChainOperator, Error> {
    if !ChainOperator::needs_guest(node.chain.head) {
        return ChainOperator::new(node, needed, None);
    }
    let native = parts.native.as_ref().and_then(|native| native(node.component, node.index, parts.subtask));
    let body = match native {
        Some(native) => Body::Native(native),
        None => Body::start(guest_start(parts, node)).await?,
    };
    let spec = &parts.plan.spec;
    let by_bytes = spec.state.memory_limit.map(|limit| (limit.0 / SLOT_BYTES).max(1) as usize);
    let chain_parts = ChainParts {
        body,
        backend: Box::new(MemoryBackend::default()),
        slots_max: [spec.state.slots_max, by_bytes].into_iter().flatten().min(),
        max_parallelism: spec.max_parallelism,
    };
    ChainOperator::new(node, needed, Some(chain_parts))
}

fn guest_start(parts: &Parts, node: &ChainNode) -> GuestStart {
    let spec = &parts.plan.spec;
    let args = spec.component_specs()[node.component].1.args.iter().map(|(k, v)| (k.clone(), v.to_string())).collect();
    GuestStart {
        component: parts.components[node.component].clone(),
        args: Arc::new(args),
        limits: Limits {
            memory_bytes: spec.limits.guest_memory.0 as usize,
            call_deadline: spec.limits.call_deadline.0,
            ..Limits::default()
        },
        log: parts.log.clone(),
        chain: node.index,
        subtask: parts.subtask,
        parallelism: parts.plan.vertices[parts.vertex].parallelism,
    }
}
