//! The nodes of a subtask, and the order in which batches and watermarks go through them.
//!
//! Everything that a root gives goes into a queue, and what nodes make of it goes in behind: so each edge keeps its order, a watermark never overtakes
//! rows, and no call nests in another. The queue is empty again before the root is asked for more. A node that makes more of a watermark than fits into a
//! batch goes on behind what it has made; what comes for it meanwhile waits.
//!
//! A node has two times. Its *own*, merged from its feeds, drives its timers and windows. That of its *output* is the same, unless its chain assigns event
//! times: then it follows from those, split by split.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use weir_checkpoint::SinkSnapshot;
use weir_connector::{Reject, Writer};
use weir_exchange::{Barrier, Message, Outbox};
use weir_operator::{Assigner, ChainOperator, Context, CopyTime, Culprit, Emitted, Error, Progress};
use weir_plan::job::{Edge, Node as NodePlan, NodeKind, Origin, Root};
use weir_protocol::watermark::{Change, Merge};
use weir_types::key::range_of;
use weir_types::{Batch, EventTime, KeyGroupRange, Watermark};

use super::dead_letters::{DeadLetters, DeadRecords};
use super::open::open_node;
use super::places::attach;
use super::provenance::{Names, Provenance, places};
use super::routes::Routes;
use super::splits::{Reach, Splits};
use super::{Parts, calmly};
use crate::database::StoredFiles;
use crate::deploy::connector_failure;
use crate::error::{Failure, FailureKind, failure_at_work};
use crate::metrics::{JobMetrics, NO_LAG, NodeCounters};
use crate::snapshot::{Captured, CapturedChain, CapturedState, Prepared};

/// The nodes of a subtask.
pub(super) struct Nodes {
    nodes: Vec<Node>,
    /// by node: the other exchanges with the same receivers
    companions: Vec<Vec<usize>>,
    routes: Routes,
    queue: VecDeque<(usize, Signal)>,
    emitted: Vec<Emitted>,
    /// processing time, ms: set by the task once a step
    pub(super) now: EventTime,
    /// time spent waiting for room in channels, since it was last taken
    waited: Duration,
    /// time, of all that passes, in which nodes were at work, or other tasks had the thread: the root itself did not work
    elsewhere: Duration,
    metrics: Arc<JobMetrics>,
    first_counter: usize,
    subtask: u16,
    /// what the source and its splits are called
    names: Names,
    /// the key groups that the subtask owns
    groups: KeyGroupRange,
    /// whether there are checkpoints for state to go to
    stores: bool,
    /// whether a checkpoint waits for copies that nodes have to make
    copies: bool,
}

/// When a node has begun to work, and what had been waited for room in channels until then.
struct Begin {
    at: Instant,
    waited: Duration,
}

/// What goes to a node.
enum Signal {
    /// rows; those that were made on the way come from no split
    Rows { port: usize, feed: usize, batch: Batch, from: Option<Provenance> },
    /// no row at or before it follows, and the feed is active
    Watermark { feed: usize, watermark: Watermark },
    /// nothing follows for the time being
    Idle { feed: usize },
    /// there is more to fire
    More,
}

pub(super) struct Node {
    pub operator: Operator,
    /// what the spec and checkpoints call it
    pub id: Arc<str>,
    /// its watermark is the node's own time; where there is none because rows get their event times here, that of the output
    pub context: Context,
    /// the node's own time
    pub time: Merge,
    /// by feed: whether it has no say in that
    pub timeless: Vec<bool>,
    /// the time of the output, if that is not the node's own
    pub assigner: Option<Assigner>,
    /// whether rows that leave were made here, and are of no split
    pub makes_rows: bool,
    /// whether rows that leave say where they come from
    pub carries_places: bool,
    /// what becomes of rows on which the guest fails, if they are not lost
    pub dead_letters: Option<Box<DeadLetters>>,
    pub reach: Reach,
    /// what its state is called in checkpoints; none = it keeps none
    pub state: Option<StateName>,
    /// what the node is at, if it has not fired all that is due
    pub firing: Option<Firing>,
}

/// What the state of a node is called in checkpoints.
pub(super) struct StateName {
    /// what it is named after
    pub id: Arc<str>,
    /// what it is: only an operator of which the same is said can read it
    pub schema: Arc<str>,
    /// the schemas by which its states may have been written
    pub state_schemas: Arc<[String]>,
    /// the files of its database that are stored already, in what the job starts from
    pub stored: Arc<StoredFiles>,
}

/// A change of a node's time, all of which has not been fired yet.
pub(super) struct Firing {
    change: Change,
    /// what has come for the node meanwhile
    waiting: VecDeque<Signal>,
}

pub(super) enum Operator {
    Chain(ChainOperator),
    Sink { name: String, writer: Box<dyn Writer>, prepared: Prepared },
    Exchange(Outbox),
}

impl Node {
    /// The number under which the assigner knows rows that come by a feed, or those that the node makes of them.
    fn place(&self, split: Option<u32>, feed: usize) -> usize {
        if self.makes_rows { 0 } else { self.reach.place(split, feed) }
    }
}

impl Nodes {
    /// Opens the nodes of a subtask, which reads these splits.
    pub(super) async fn open(parts: &Parts, splits: &Splits) -> Result<Self, Box<Failure>> {
        let vertex = &parts.plan.vertices[parts.vertex];
        let mut nodes = vec![];
        let counters = &parts.metrics.nodes[parts.first_counter + 1..];
        for ((plan, reach), counters) in vertex.nodes.iter().zip(splits.reach(&vertex.nodes)).zip(counters) {
            let node = open_node(parts, plan, reach).await?;
            count_opening(counters, &node.operator);
            nodes.push(node);
        }
        Ok(Self {
            nodes,
            companions: companions(&vertex.nodes, &parts.plan.edges),
            routes: Routes::new(&vertex.nodes),
            queue: VecDeque::new(),
            emitted: vec![],
            now: parts.clock.now_ms(),
            waited: Duration::ZERO,
            elsewhere: Duration::ZERO,
            metrics: Arc::clone(&parts.metrics),
            first_counter: parts.first_counter,
            subtask: parts.subtask,
            names: Names::new(match vertex.root {
                Root::Source(source) => Some(&parts.plan.sources[source].name),
                Root::Gate(_) => None,
            }),
            groups: range_of(parts.subtask, vertex.parallelism, parts.plan.spec.max_parallelism),
            stores: parts.storage.is_some(),
            copies: false,
        })
    }

    /// Counts rows that came in at the root.
    pub(super) fn count_in(&self, batch: &Batch) {
        let root = &self.metrics.nodes[self.first_counter];
        root.records_out.fetch_add(batch.rows() as u64, Relaxed);
        root.bytes_out.fetch_add(batch.bytes() as u64, Relaxed);
    }

    /// Counts time in which the root has worked.
    pub(super) fn count_root(&self, busy: Duration) {
        self.metrics.nodes[self.first_counter].busy_ns.fetch_add(busy.as_nanos() as u64, Relaxed);
    }

    /// Tells how many events the source is behind; none = it is not known.
    pub(super) fn tell_lag(&self, events: Option<u64>) {
        self.metrics.nodes[self.first_counter].lag_records.store(events.unwrap_or(NO_LAG), Relaxed);
    }

    /// The time so far in which the root has not worked itself.
    pub(super) fn elsewhere(&self) -> Duration {
        self.elsewhere
    }

    /// Gives other tasks a turn: neither the root nor a node works meanwhile.
    pub(super) async fn give_way(&mut self) {
        let since = Instant::now();
        tokio::task::yield_now().await;
        self.elsewhere += since.elapsed();
    }

    /// A split of the source is about to be read.
    pub(super) fn name_split(&mut self, split: usize, id: &str) {
        self.names.add(split, id);
    }

    /// Passes rows of a split on.
    pub(super) async fn rows(&mut self, origin: Origin, batch: Batch, from: Provenance) -> Result<(), Box<Failure>> {
        self.route(origin, batch, Some(from));
        self.run().await
    }

    /// Passes malformed records of a split on, as dead letters of the source.
    pub(super) async fn malformed(&mut self, letters: &DeadRecords, rejects: &[Reject], split: u32) -> Result<(), Box<Failure>> {
        let root = &self.metrics.nodes[self.first_counter];
        root.dead_letters.fetch_add(rejects.len() as u64, Relaxed);
        for batch in letters.batches(rejects, self.now, self.names.split(split)) {
            self.count_in(&batch);
            let from = Provenance::of_source(split, letters.stream, batch.rows(), None);
            self.route(Origin::Stream(letters.stream), batch, Some(from));
        }
        self.run().await
    }

    /// Time has changed at the root.
    pub(super) async fn time(&mut self, origin: Origin, change: Change) -> Result<(), Box<Failure>> {
        if let Some(watermark) = change.watermark {
            self.metrics.nodes[self.first_counter].watermark.store(watermark.0, Relaxed);
        }
        for route in self.routes.of(origin) {
            signal_time(&mut self.queue, route.node, route.feed, change);
        }
        self.run().await
    }

    /// Time has changed at the source, of all its streams.
    pub(super) async fn source_time(&mut self, change: Change) -> Result<(), Box<Failure>> {
        for stream in 0..self.routes.streams() {
            self.time(Origin::Stream(stream), change).await?;
        }
        Ok(())
    }

    /// A split gives nothing for the moment.
    pub(super) async fn split_idle(&mut self, split: usize) -> Result<(), Box<Failure>> {
        self.split(|assigner| assigner.idle(split)).await
    }

    /// A split that gave nothing is about to give rows.
    pub(super) async fn split_active(&mut self, split: usize) -> Result<(), Box<Failure>> {
        self.split(|assigner| assigner.active(split)).await
    }

    /// A split has ended.
    pub(super) async fn split_ended(&mut self, split: usize) -> Result<(), Box<Failure>> {
        self.split(|assigner| assigner.ended(split)).await
    }

    /// The source has another split.
    pub(super) async fn split_added(&mut self) -> Result<(), Box<Failure>> {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            let (split, reaches) = node.reach.add();
            if let (Some(assigner), false) = (&mut node.assigner, node.makes_rows) {
                let change = assigner.add(split, reaches);
                self.pass_time(index, change);
            }
        }
        self.run().await
    }

    /// Tells assigners of a split. Those that see only what a node makes of its rows hear of time from the node.
    async fn split(&mut self, tell: impl Fn(&mut Assigner) -> Change) -> Result<(), Box<Failure>> {
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            if let (Some(assigner), false) = (&mut node.assigner, node.makes_rows) {
                let change = tell(assigner);
                self.pass_time(index, change);
            }
        }
        self.run().await
    }

    /// The time of a node's output has changed.
    fn pass_time(&mut self, index: usize, change: Change) {
        if let Some(watermark) = change.watermark {
            self.counters(index).watermark.store(watermark.0, Relaxed);
            let node = &mut self.nodes[index];
            if node.assigner.is_some() && !node.makes_rows {
                node.context.watermark = watermark;
            }
        }
        for route in self.routes.of_node(index) {
            signal_time(&mut self.queue, route.node, route.feed, change);
        }
    }

    fn counters(&self, node: usize) -> &NodeCounters {
        &self.metrics.nodes[self.first_counter + 1 + node]
    }

    /// Queues rows for everyone who reads them.
    fn route(&mut self, origin: Origin, batch: Batch, from: Option<Provenance>) {
        if batch.is_empty() {
            return;
        }
        if let Some((last, others)) = self.routes.of(origin).split_last() {
            for route in others {
                let signal = Signal::Rows { port: route.port, feed: route.feed, batch: batch.clone(), from: from.clone() };
                self.queue.push_back((route.node, signal));
            }
            self.queue.push_back((last.node, Signal::Rows { port: last.port, feed: last.feed, batch, from }));
        }
    }

    /// Works until the queue is empty.
    async fn run(&mut self) -> Result<(), Box<Failure>> {
        while let Some((node, signal)) = self.queue.pop_front() {
            let signal = match (signal, &mut self.nodes[node].firing) {
                (Signal::More, _) => Signal::More,
                (signal, Some(firing)) => {
                    firing.waiting.push_back(signal);
                    continue;
                }
                (signal, None) => signal,
            };
            if matches!(signal, Signal::More) {
                // Others get their turn, however much one watermark fires.
                self.give_way().await;
            }
            let begin = self.begin();
            let result = self.handle(node, signal).await;
            self.count_busy(node, &begin);
            result.map_err(|e| Box::new(self.failure(node, e)))?;
        }
        Ok(())
    }

    /// A node begins to work.
    fn begin(&self) -> Begin {
        Begin { at: Instant::now(), waited: self.waited }
    }

    /// A node has worked since then, but for the time in which it waited for room in channels.
    fn count_busy(&mut self, node: usize, begin: &Begin) {
        let passed = begin.at.elapsed();
        self.elsewhere += passed;
        let busy = passed.saturating_sub(self.waited - begin.waited);
        self.counters(node).busy_ns.fetch_add(busy.as_nanos() as u64, Relaxed);
    }

    async fn handle(&mut self, index: usize, signal: Signal) -> Result<(), NodeError> {
        let node = &mut self.nodes[index];
        node.context.now = self.now;
        match signal {
            Signal::Rows { port, feed, batch, from } => self.on_rows(index, port, feed, batch, from).await,
            Signal::Watermark { feed, watermark } => {
                if node.timeless[feed] && watermark != Watermark::END {
                    return Ok(());
                }
                let change = node.time.advance(feed, watermark);
                self.on_feed(index, feed, |assigner, split| match watermark {
                    Watermark::END => assigner.ended(split),
                    _ => assigner.active(split),
                });
                self.on_time(index, change).await
            }
            Signal::Idle { feed } => {
                if node.timeless[feed] {
                    return Ok(());
                }
                let change = node.time.idle(feed);
                self.on_feed(index, feed, Assigner::idle);
                self.on_time(index, change).await
            }
            Signal::More => self.fire_on(index).await,
        }
    }

    async fn on_rows(
        &mut self,
        index: usize,
        port: usize,
        feed: usize,
        batch: Batch,
        from: Option<Provenance>,
    ) -> Result<(), NodeError> {
        let counters = &self.metrics.nodes[self.first_counter + 1 + index];
        let (rows, bytes) = (batch.rows() as u64, batch.bytes() as u64);
        counters.records_in.fetch_add(rows, Relaxed);
        counters.bytes_in.fetch_add(bytes, Relaxed);
        let node = &mut self.nodes[index];
        let place = node.place(from.as_ref().map(|from| from.split), feed);
        match &mut node.operator {
            Operator::Chain(chain) => {
                node.context.split = if node.assigner.is_some() { place as u32 } else { 0 };
                let result = chain.on_batch(port, &batch, &mut node.context, &mut self.emitted).await;
                count_chain(counters, chain, &node.context);
                result?;
                let keeps_rows = chain.keeps_rows();
                self.take_given_up(index, from.as_ref());
                self.pass_on(index, if keeps_rows { from } else { from.map(Provenance::made) }, place);
                return Ok(());
            }
            Operator::Sink { writer, .. } => writer.write(&batch)?,
            Operator::Exchange(outbox) => {
                let carries = node.carries_places;
                outbox.send(if carries { attach(&batch, places(from.as_ref(), &self.names)) } else { batch }).await?;
                self.waited += outbox.take_waited();
                self.send_full(index).await?;
            }
        }
        let counters = &self.metrics.nodes[self.first_counter + 1 + index];
        counters.records_out.fetch_add(rows, Relaxed);
        counters.bytes_out.fetch_add(bytes, Relaxed);
        Ok(())
    }

    /// Puts the rows on which a node's guest has failed among those that it has made: as dead letters.
    fn take_given_up(&mut self, index: usize, from: Option<&Provenance>) {
        let node = &mut self.nodes[index];
        let Some(letters) = &node.dead_letters else { return };
        if node.context.given_up.is_empty() {
            return;
        }
        let given_up = std::mem::take(&mut node.context.given_up);
        let batches = letters.batches(&given_up, self.now, places(from, &self.names));
        self.emitted.extend(batches.into_iter().map(|batch| (letters.port, batch)));
    }

    /// Sends what an exchange holds back for those who have enough of it. What other exchanges hold back for them goes first: an operator with several inputs
    /// gets rows in about the order in which they came. A sparse stream would otherwise stay behind a dense one, and the operator would have to keep what
    /// it has no match for yet.
    async fn send_full(&mut self, index: usize) -> Result<(), NodeError> {
        let mut place = 0;
        while let Operator::Exchange(outbox) = &self.nodes[index].operator
            && let Some(&to) = outbox.full().get(place)
        {
            for &sender in self.companions[index].iter().chain([&index]) {
                if let Operator::Exchange(outbox) = &mut self.nodes[sender].operator {
                    outbox.release(to).await?;
                    self.waited += outbox.take_waited();
                }
            }
            place += 1;
        }
        Ok(())
    }

    /// A feed has told of time: where it brings rows that were made on the way, it counts as a split.
    fn on_feed(&mut self, index: usize, feed: usize, tell: impl Fn(&mut Assigner, usize) -> Change) {
        let node = &mut self.nodes[index];
        let place = node.place(None, feed);
        if let (Some(assigner), true, false) = (&mut node.assigner, node.reach.made[feed], node.makes_rows) {
            let change = tell(assigner, place);
            self.pass_time(index, change);
        }
    }

    /// A node's own time has changed. Rows that are due leave before the node tells of it.
    async fn on_time(&mut self, index: usize, change: Change) -> Result<(), NodeError> {
        if let Some(watermark) = change.watermark {
            let node = &mut self.nodes[index];
            let follows = node.assigner.is_none() || node.makes_rows;
            if follows && watermark > node.context.watermark {
                node.context.watermark = watermark;
                if self.fire(index).await? == Progress::More {
                    self.nodes[index].firing = Some(Firing { change, waiting: VecDeque::new() });
                    self.queue.push_back((index, Signal::More));
                    return Ok(());
                }
            }
        }
        self.tell_time(index, change).await
    }

    /// Fires what is due, about a batch of it.
    async fn fire(&mut self, index: usize) -> Result<Progress, NodeError> {
        let counters = &self.metrics.nodes[self.first_counter + 1 + index];
        let node = &mut self.nodes[index];
        let Operator::Chain(chain) = &mut node.operator else { return Ok(Progress::Done) };
        let progress = chain.on_watermark(&mut node.context, &mut self.emitted).await?;
        count_chain(counters, chain, &node.context);
        self.pass_on(index, None, 0);
        Ok(progress)
    }

    /// Goes on firing. When all has been, tells of the time, and takes what has come meanwhile.
    async fn fire_on(&mut self, index: usize) -> Result<(), NodeError> {
        if self.fire(index).await? == Progress::More {
            self.queue.push_back((index, Signal::More));
            return Ok(());
        }
        let Some(Firing { change, waiting }) = self.nodes[index].firing.take() else { return Ok(()) };
        self.tell_time(index, change).await?;
        // What has waited came before all that is in the queue for this node.
        for signal in waiting.into_iter().rev() {
            self.queue.push_front((index, signal));
        }
        Ok(())
    }

    /// Tells of the time of a node that has fired what was due.
    async fn tell_time(&mut self, index: usize, change: Change) -> Result<(), NodeError> {
        if let Some(watermark) = change.watermark {
            let node = &mut self.nodes[index];
            if let Operator::Exchange(outbox) = &mut node.operator {
                outbox.watermark(watermark).await?;
                self.waited += outbox.take_waited();
            }
            let output = match &mut node.assigner {
                None => Change { watermark: Some(watermark), idle: false },
                // The end of the input is that of the output; besides, the two have nothing to do with each other.
                Some(assigner) if watermark == Watermark::END => assigner.end(),
                Some(assigner) if node.makes_rows => assigner.active(0),
                Some(_) => Change::default(),
            };
            self.pass_time(index, output);
        }
        if change.idle {
            let node = &mut self.nodes[index];
            match &mut node.operator {
                // Nobody waits for an idle sender: what it keeps would be missed.
                Operator::Chain(chain) => chain.hand_on(&mut node.context, &mut self.emitted).await?,
                Operator::Sink { .. } => {}
                Operator::Exchange(outbox) => {
                    outbox.broadcast(Message::Idle).await?;
                    self.waited += outbox.take_waited();
                }
            }
            self.pass_on(index, None, 0);
            let node = &mut self.nodes[index];
            let output = match &mut node.assigner {
                None => Change { watermark: None, idle: true },
                Some(assigner) if node.makes_rows => assigner.idle(0),
                Some(_) => Change::default(),
            };
            self.pass_time(index, output);
        }
        Ok(())
    }

    /// Passes on the rows that a node has made of rows from there, and the watermark that follows from them. The node's assigner knows them as those of
    /// `place`.
    fn pass_on(&mut self, index: usize, from: Option<Provenance>, place: usize) {
        let from = from.filter(|_| !self.nodes[index].makes_rows);
        let mut emitted = std::mem::take(&mut self.emitted);
        for (port, batch) in emitted.drain(..) {
            let counters = self.counters(index);
            counters.records_out.fetch_add(batch.rows() as u64, Relaxed);
            counters.bytes_out.fetch_add(batch.bytes() as u64, Relaxed);
            self.route(Origin::Node { node: index, port }, batch, from.clone());
        }
        self.emitted = emitted;
        let node = &mut self.nodes[index];
        if let (Some(progress), Some(assigner)) = (node.context.progress.take(), &mut node.assigner) {
            let change = assigner.progress(place, progress);
            self.pass_time(index, change);
        }
    }

    /// When a node wants to look at processing time next.
    pub(super) fn next_clock(&mut self) -> Option<EventTime> {
        self.nodes
            .iter_mut()
            .filter_map(|node| match &mut node.operator {
                Operator::Chain(chain) => chain.next_clock(),
                Operator::Sink { .. } | Operator::Exchange(_) => None,
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
            while self.clock_step(index).await? == Progress::More {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Lets a node do a step of what processing time asks for, and passes on what it has made.
    async fn clock_step(&mut self, index: usize) -> Result<Progress, Box<Failure>> {
        let begin = self.begin();
        let node = &mut self.nodes[index];
        let Operator::Chain(chain) = &mut node.operator else { return Ok(Progress::Done) };
        let result = chain.on_clock(&mut node.context, &mut self.emitted).await;
        count_chain(&self.metrics.nodes[self.first_counter + 1 + index], chain, &node.context);
        self.count_busy(index, &begin);
        let progress = result.map_err(|e| Box::new(self.failure(index, e.into())))?;
        self.pass_on(index, None, 0);
        self.run().await?;
        Ok(progress)
    }

    /// Puts out what nodes hold back.
    pub(super) async fn flush(&mut self) -> Result<(), Box<Failure>> {
        for index in 0..self.nodes.len() {
            let begin = self.begin();
            let result: Result<(), NodeError> = match &mut self.nodes[index].operator {
                Operator::Chain(_) => continue,
                Operator::Sink { writer, .. } => writer.flush().map_err(NodeError::from),
                Operator::Exchange(outbox) => {
                    let result = outbox.flush().await;
                    self.waited += outbox.take_waited();
                    result.map_err(NodeError::from)
                }
            };
            self.count_busy(index, &begin);
            result.map_err(|e| Box::new(self.failure(index, e)))?;
        }
        Ok(())
    }

    /// A barrier has come on all inputs, and what came before it is through: captures what the nodes hold, and passes the barrier on. What belongs to
    /// checkpoints up to `stored` is in the hands of the coordinator. A barrier that overtakes rows does not wait for room, nor does what goes before it.
    ///
    /// What has changed of states is copied later: see [`copy_on`](Self::copy_on). Not if the barrier is the end, nor if it overtakes rows: then receivers
    /// are slow, and nobody knows when they take the next rows.
    pub(super) async fn barrier(&mut self, barrier: Barrier, stored: u64) -> Result<Captured, Box<Failure>> {
        self.set_forces(barrier.overtakes);
        let copy_time = if barrier.stops || barrier.overtakes { CopyTime::Barrier } else { CopyTime::Later };
        let mut captured = Captured::default();
        for index in 0..self.nodes.len() {
            self.hand_on(index).await?;
            let begin = self.begin();
            if barrier.stops
                && let Operator::Sink { writer, .. } = &mut self.nodes[index].operator
            {
                // No more rows come.
                let finished = calmly(|| writer.flush().and_then(|()| writer.finish()));
                finished.map_err(|e| Box::new(self.failure(index, e.into())))?;
            }
            let result = self.capture(index, barrier.checkpoint, stored, copy_time, &mut captured).await;
            result.map_err(|e| Box::new(self.failure(index, e)))?;
            if let Operator::Exchange(outbox) = &mut self.nodes[index].operator {
                let sent = outbox.broadcast(Message::Barrier(barrier)).await;
                self.waited += outbox.take_waited();
                sent.map_err(|e| Box::new(self.failure(index, e.into())))?;
            }
            self.count_busy(index, &begin);
        }
        self.set_forces(false);
        Ok(captured)
    }

    fn set_forces(&mut self, forces: bool) {
        for node in &mut self.nodes {
            if let Operator::Exchange(outbox) = &mut node.operator {
                outbox.set_forces(forces);
            }
        }
    }

    /// Whether a checkpoint waits for copies that nodes have to make.
    pub(super) fn are_copying(&self) -> bool {
        self.copies
    }

    /// Makes some of the copies that a checkpoint waits for.
    pub(super) async fn copy_on(&mut self) -> Result<(), Box<Failure>> {
        if !std::mem::take(&mut self.copies) {
            return Ok(());
        }
        for index in 0..self.nodes.len() {
            let begin = self.begin();
            let node = &mut self.nodes[index];
            let Operator::Chain(chain) = &mut node.operator else { continue };
            let result = chain.copy_on(&mut node.context).await;
            self.copies |= chain.is_copying();
            self.count_busy(index, &begin);
            result.map_err(|e| Box::new(self.failure(index, e.into())))?;
        }
        Ok(())
    }

    /// Captures what the nodes hold after the end of the input.
    pub(super) async fn last_capture(&mut self, stored: u64) -> Result<Captured, Box<Failure>> {
        let mut captured = Captured::default();
        for index in 0..self.nodes.len() {
            let begin = self.begin();
            let result = self.capture(index, u64::MAX, stored, CopyTime::Barrier, &mut captured).await;
            self.count_busy(index, &begin);
            result.map_err(|e| Box::new(self.failure(index, e)))?;
        }
        Ok(captured)
    }

    /// Has a node hand on what it keeps for others, to the end.
    async fn hand_on(&mut self, index: usize) -> Result<(), Box<Failure>> {
        let begin = self.begin();
        let node = &mut self.nodes[index];
        let Operator::Chain(chain) = &mut node.operator else { return Ok(()) };
        let result = chain.hand_on(&mut node.context, &mut self.emitted).await;
        self.count_busy(index, &begin);
        result.map_err(|e| Box::new(self.failure(index, e.into())))?;
        self.pass_on(index, None, 0);
        self.run().await
    }

    async fn capture(
        &mut self,
        index: usize,
        checkpoint: u64,
        stored: u64,
        copy_time: CopyTime,
        captured: &mut Captured,
    ) -> Result<(), NodeError> {
        let counters = &self.metrics.nodes[self.first_counter + 1 + index];
        let node = &mut self.nodes[index];
        match &mut node.operator {
            Operator::Chain(chain) => {
                let Some(name) = node.state.as_ref().filter(|_| self.stores) else { return Ok(()) };
                let Some(state) = chain.snapshot(&mut node.context, copy_time).await? else { return Ok(()) };
                self.copies |= chain.is_copying();
                count_backend(counters, chain);
                captured.chains.push(CapturedChain {
                    operator: Arc::clone(&name.id),
                    schema: Arc::clone(&name.schema),
                    state_schemas: Arc::clone(&name.state_schemas),
                    watermark: node.context.watermark.0,
                    groups: self.groups,
                    state: CapturedState::of(state, checkpoint),
                    stored: Arc::clone(&name.stored),
                });
            }
            Operator::Sink { name, writer, prepared } => {
                let transactions = prepared.add(checkpoint, calmly(|| writer.prepare())?, stored);
                captured.sinks.push(SinkSnapshot { name: name.clone(), transactions });
            }
            Operator::Exchange(_) => {}
        }
        Ok(())
    }

    /// All input has ended and all of it is through: closes sinks, and tells the receivers of exchanges.
    pub(super) async fn finish(&mut self) -> Result<(), Box<Failure>> {
        for index in 0..self.nodes.len() {
            let begin = self.begin();
            let result: Result<(), NodeError> = match &mut self.nodes[index].operator {
                Operator::Chain(_) => continue,
                Operator::Sink { writer, .. } => {
                    calmly(|| writer.flush().and_then(|()| writer.finish())).map_err(NodeError::from)
                }
                Operator::Exchange(outbox) => {
                    let result = outbox.broadcast(Message::End).await;
                    self.waited += outbox.take_waited();
                    result.map_err(NodeError::from)
                }
            };
            self.count_busy(index, &begin);
            result.map_err(|e| Box::new(self.failure(index, e)))?;
        }
        Ok(())
    }

    /// The time spent waiting for room in channels since the last call.
    pub(super) fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    fn failure(&self, node: usize, error: NodeError) -> Failure {
        let Node { id, context, operator, .. } = &self.nodes[node];
        let mut failure = match (operator, error) {
            (Operator::Sink { name, .. }, NodeError::Connector(error)) => connector_failure("sink", name, &error),
            (_, NodeError::Connector(error)) => Failure::new(FailureKind::Connector, error.to_string()),
            (_, NodeError::Exchange(error)) => {
                let is_consequence = matches!(error, weir_exchange::outbox::Error::Closed(_));
                Failure { is_consequence, ..Failure::new(FailureKind::Internal, error.to_string()) }
            }
            (_, NodeError::Operator(error)) => failure_at_work(&error, context.on_error),
        };
        failure.operator.get_or_insert_with(|| context.operator.clone());
        failure.subtask = Some(self.subtask);
        failure.culprit = context.culprit.as_ref().map(|culprit| {
            Arc::new(Culprit {
                operator: id.to_string(),
                port: culprit.port,
                row: culprit.row.clone(),
                error: culprit.error.clone(),
                on_error: context.on_error,
                failures: 1,
            })
        });
        failure
    }
}

/// By node: the other exchanges with the same receivers.
fn companions(nodes: &[NodePlan], edges: &[Edge]) -> Vec<Vec<usize>> {
    let receivers = |node: &NodePlan| match node.kind {
        NodeKind::Exchange(edge) => Some(edges[edge].to),
        NodeKind::Chain(_) | NodeKind::Sink(_) => None,
    };
    let of = |node: usize| {
        let same = |&other: &usize| other != node && receivers(&nodes[other]) == receivers(&nodes[node]);
        if receivers(&nodes[node]).is_some() { (0..nodes.len()).filter(same).collect() } else { vec![] }
    };
    (0..nodes.len()).map(of).collect()
}

/// Queues what is to be told of time.
fn signal_time(queue: &mut VecDeque<(usize, Signal)>, node: usize, feed: usize, change: Change) {
    if let Some(watermark) = change.watermark {
        queue.push_back((node, Signal::Watermark { feed, watermark }));
    }
    if change.idle {
        queue.push_back((node, Signal::Idle { feed }));
    }
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

/// What the guest of a node has done to start, and to take over state, is work of the node as its calls are, and counts with its time.
fn count_opening(counters: &NodeCounters, operator: &Operator) {
    if let Operator::Chain(chain) = operator
        && let Some(body) = chain.body()
    {
        counters.busy_ns.fetch_add(body.guest_time().as_nanos() as u64, Relaxed);
    }
}

fn count_chain(counters: &NodeCounters, chain: &ChainOperator, context: &Context) {
    if let Some(body) = chain.body() {
        counters.guest_ns.store(body.guest_time().as_nanos() as u64, Relaxed);
        counters.guest_memory_bytes.store(body.memory_bytes() as u64, Relaxed);
        counters.renewals.store(body.renewals(), Relaxed);
    }
    counters.slots.store(chain.slots() as u64, Relaxed);
    if counters.evictions.swap(chain.evictions(), Relaxed) != chain.evictions() {
        count_backend(counters, chain);
    }
    counters.late_records.store(chain.late_rows(), Relaxed);
    counters.errors.store(context.failures.errors, Relaxed);
    counters.retries.store(context.failures.retries, Relaxed);
    counters.skipped_records.store(context.failures.skipped, Relaxed);
    counters.dead_letters.store(context.failures.dead_letters, Relaxed);
}

fn count_backend(counters: &NodeCounters, chain: &ChainOperator) {
    let database = chain.database();
    let bytes = database.map_or_else(|| chain.backend_bytes(), |stats| stats.bytes());
    counters.backend_bytes.store(bytes, Relaxed);
    *counters.database.lock() = database;
}
