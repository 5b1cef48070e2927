//! Opens the nodes of a subtask: starts guests, opens writers, takes channels.

use std::collections::HashSet;
use std::sync::Arc;

use weir_exchange::Outbox;
use weir_operator::chain::Parts as ChainParts;
use weir_operator::{Assigner, Body, ChainOperator, Context, Culprits, Error, GuestStart};
use weir_plan::JobPlan;
use weir_plan::job::{ChainNode, Edge, Node as NodePlan, NodeKind, OnError, Origin, Stage};
use weir_plan::spec::Backend;
use weir_protocol::watermark::Merge;
use weir_state::{MemoryBackend, RocksBackend, StateBackend};
use weir_types::KeyGroupRange;
use weir_types::graph::Partitioning;
use weir_types::key::range_of;

use super::dead_letters::DeadLetters;
use super::nodes::{Node, Operator, StateName};
use super::splits::Reach;
use super::{Parts, calmly};
use crate::database::{Opened, StoredFiles};
use crate::deploy::{connector_failure, opening_failure};
use crate::error::{Failure, operator_failure, state_failure};
use crate::limits::{divide, limits};
use crate::restore::{Owner, Restore, state_id, state_schema};
use crate::snapshot::Prepared;

/// Opens a node, which `reach` reaches.
pub(super) async fn open_node(parts: &Parts, plan: &NodePlan, reach: Reach) -> Result<Node, Box<Failure>> {
    let spec = &parts.plan.spec;
    Ok(match &plan.kind {
        NodeKind::Chain(chain) => {
            let located = |what: &str, failure: Failure| {
                let message = format!("cannot {what} operator \"{}\": {}", chain.operator_id(), failure.message);
                Box::new(Failure {
                    message,
                    operator: Some(chain.operator_id().to_owned()),
                    subtask: Some(parts.subtask),
                    ..failure
                })
            };
            let id: Arc<str> = state_id(&parts.plan, chain).into();
            let groups = range_of(parts.subtask, parts.plan.vertices[parts.vertex].parallelism, spec.max_parallelism);
            let Kept { backend, bytes_max, stored, in_backend } =
                open_backend(parts, chain, &id, groups).await.map_err(|failure| located("restore", failure))?;
            let schemas: Arc<[String]> = Restore::state_schemas(parts.restore.as_deref(), &id, chain).into();
            let operator = open_chain(parts, chain, Arc::clone(&schemas), &plan.needed, backend, bytes_max).await;
            let operator = operator.map_err(|e| located("start", operator_failure(&e)))?;
            let dead_letters = DeadLetters::of(&parts.plan, chain)
                .map_err(|e| connector_failure("the dead letters of operator", chain.operator_id(), &e))?;
            let makes_rows = ChainOperator::makes_rows(chain.chain.head);
            let splits = if makes_rows { vec![true] } else { reach.to_assigner() };
            // Partial accumulators have no event times yet.
            let event_time = chain.chain.event_time.filter(|_| chain.stage != Stage::Local);
            let mut context = Context::new(chain.operator_id().to_owned(), chain.inputs.clone(), chain.on_error);
            // Partial accumulators are no rows.
            if chain.stage != Stage::Merging {
                context.culprits = Culprits::new(parts.culprits.iter().filter(|culprit| *culprit.operator == *id).cloned());
            }
            let mut node = Node {
                operator: Operator::Chain(operator),
                id: Arc::clone(&id),
                context,
                time: Merge::new(plan.feeds.len()),
                timeless: timeless_feeds(plan, chain),
                assigner: event_time.map(|e| Assigner::new(e.watermarks, &splits)),
                makes_rows,
                carries_places: false,
                dead_letters,
                reach,
                // Before an exchange nothing is kept over a barrier, and the state behind it has the same name.
                state: (chain.stage != Stage::Local).then(|| StateName {
                    id,
                    schema: state_schema(chain).into(),
                    state_schemas: schemas,
                    stored: stored.into(),
                }),
                firing: None,
            };
            if let (Some(restore), Some(name), Operator::Chain(operator)) = (&parts.restore, &node.state, &mut node.operator) {
                let owner = Owner { operator: &name.id, subtask: parts.subtask, groups };
                let restored = restore.restore(owner, in_backend, &parts.disk, operator, &mut node.context).await;
                restored.map_err(|failure| located("restore", failure))?;
            }
            for (feed, _) in node.timeless.iter().enumerate().filter(|(_, timeless)| **timeless) {
                // It does not hold time back, and the end of time still waits for its end: that is what an idle input does.
                let _ = node.time.idle(feed);
            }
            node
        }
        NodeKind::Sink(index) => {
            let (name, sink) = &parts.metrics.sinks[*index];
            let parallelism = parts.plan.vertices[parts.vertex].parallelism;
            let writer = calmly(|| sink.writer(parts.subtask, parallelism));
            let writer = writer.map_err(|e| opening_failure("sink", name, &e, parts.has_run))?;
            plain_node(Operator::Sink { name: name.clone(), writer, prepared: Prepared::default() }, name, plan, reach)
        }
        NodeKind::Exchange(edge) => {
            let mut senders = parts.senders.lock();
            let senders = senders.iter_mut().find(|(e, _)| e == edge).map(|(_, s)| std::mem::take(s)).unwrap_or_default();
            let is_alone = sends_alone(&parts.plan, *edge);
            let edge = &parts.plan.edges[*edge];
            let outbox = Outbox::new(edge.partitioning, &edge.key, parts.subtask, spec.max_parallelism, senders)
                .counting(Arc::clone(&parts.metrics.tasks[parts.task_counter].2.backpressured));
            let outbox = if is_alone { outbox } else { outbox.beside_others() };
            let node = plain_node(Operator::Exchange(outbox), "exchange out", plan, reach);
            Node { carries_places: edge.carries_places, ..node }
        }
    })
}

fn plain_node(operator: Operator, name: &str, plan: &NodePlan, reach: Reach) -> Node {
    Node {
        operator,
        id: name.into(),
        context: Context::new(name.to_owned(), vec![], OnError::default()),
        time: Merge::new(plan.feeds.len()),
        timeless: vec![false; plan.feeds.len()],
        assigner: None,
        makes_rows: false,
        carries_places: false,
        dead_letters: None,
        reach,
        state: None,
        firing: None,
    }
}

/// Whether the receivers of an edge get their rows from one node: also where that sends some as they are, and others aggregated.
fn sends_alone(plan: &JobPlan, edge: usize) -> bool {
    let receiver = plan.edges[edge].to;
    let senders = plan.edges.iter().enumerate().filter(|(_, other)| other.to == receiver).map(|(other, Edge { from, .. })| {
        let node = plan.vertices[*from].nodes.iter().find(|node| matches!(node.kind, NodeKind::Exchange(e) if e == other));
        let origin = node.and_then(|node| node.feeds.first()).map(|feed| match feed.from {
            Origin::Node { node, .. } => Origin::Node { node, port: 0 },
            origin => origin,
        });
        (*from, origin)
    });
    let senders: HashSet<_> = senders.collect();
    senders.len() == 1
}

/// By feed: whether it brings broadcast rows to a keyed operator. Those are facts to look things up in, often without event times: the operator's
/// time is that of its keyed rows.
fn timeless_feeds(plan: &NodePlan, chain: &ChainNode) -> Vec<bool> {
    let inputs = &chain.chain.inputs;
    let is_keyed = inputs.iter().any(|input| input.partitioning == Partitioning::Hash);
    // Partial accumulators come by a port that is no input.
    let is_broadcast = |port: usize| inputs.get(port).is_some_and(|input| input.partitioning == Partitioning::Broadcast);
    plan.feeds.iter().map(|feed| is_keyed && is_broadcast(feed.port)).collect()
}

/// Where an operator's keyed state is kept.
struct Kept {
    backend: Box<dyn StateBackend>,
    /// what slots may take of memory, bytes
    bytes_max: Option<u64>,
    /// the files of it that are stored already
    stored: StoredFiles,
    /// whether it has the state of the databases that the job starts from
    in_backend: bool,
}

async fn open_backend(parts: &Parts, node: &ChainNode, id: &str, groups: KeyGroupRange) -> Result<Kept, Failure> {
    // What is before an exchange is handed on at every barrier.
    let is_kept = ChainOperator::makes_rows(node.chain.head) && node.stage != Stage::Local;
    let memory_limit = parts.plan.spec.state.memory_limit.map(|limit| limit.0);
    if parts.plan.spec.state.backend == Backend::Memory || !is_kept {
        let backend = parts.allowance.clone().map_or_else(MemoryBackend::default, MemoryBackend::within);
        return Ok(Kept { backend: Box::new(backend), bytes_max: memory_limit, stored: StoredFiles::new(), in_backend: false });
    }
    let folder = parts.disk.folder(parts.has_run)?;
    if memory_limit.is_some() {
        parts.disk.note_limit();
    }
    let mut restored = None;
    if let Some(restore) = &parts.restore {
        let owner = Owner { operator: id, subtask: parts.subtask, groups };
        restored = restore.open_database(owner, &folder, parts.storage.as_ref()).await?;
    }
    let in_backend = restored.is_some();
    let Opened { mut backend, stored } = match restored {
        Some(opened) => opened,
        None => {
            let backend = RocksBackend::open(&folder.place(), folder.memory()).map_err(|e| state_failure(&e))?;
            Opened { backend, stored: StoredFiles::new() }
        }
    };
    let (bytes_max, room) = divide(memory_limit, parts.storage.is_some());
    backend.set_room(room);
    Ok(Kept { backend: Box::new(backend), bytes_max, stored, in_backend })
}

async fn open_chain(
    parts: &Parts,
    node: &ChainNode,
    schemas: Arc<[String]>,
    needed: &[Vec<bool>],
    backend: Box<dyn StateBackend>,
    bytes_max: Option<u64>,
) -> Result<ChainOperator, Error> {
    if !ChainOperator::needs_guest(node.chain.head) {
        return ChainOperator::new(node, needed, None);
    }
    let native = parts.native.as_ref().and_then(|native| native(node.component, node.index, parts.subtask));
    let body = match native {
        Some(native) => Body::native(native),
        None => Body::start(guest_start(parts, node, schemas)).await?,
    };
    let spec = &parts.plan.spec;
    let chain_parts =
        ChainParts { body, backend, slots_max: spec.state.slots_max, bytes_max, max_parallelism: spec.max_parallelism };
    ChainOperator::new(node, needed, Some(chain_parts))
}

fn guest_start(parts: &Parts, node: &ChainNode, schemas: Arc<[String]>) -> GuestStart {
    let spec = &parts.plan.spec;
    let args = spec.component_specs()[node.component].1.arguments();
    GuestStart {
        component: parts.components[node.component].clone(),
        args: Arc::new(args),
        limits: limits(&spec.limits),
        log: parts.log.clone(),
        chain: node.index,
        subtask: parts.subtask,
        parallelism: parts.plan.vertices[parts.vertex].parallelism,
        schemas,
    }
}
