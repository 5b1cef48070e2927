//! The root of a task that reads a source.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use arrow_array::ArrayRef;
use tokio::sync::Notify;
use weir_checkpoint::{SourceSnapshot, SplitState};
use weir_connector::{Fetch, Fetched, Reader, Source, Split};
use weir_operator::emission::left_out;
use weir_plan::job::{Origin, Root};
use weir_protocol::watermark::Merge;
use weir_types::{Batch, Watermark};

use super::dead_letters::DeadRecords;
use super::discovery::Discovery;
use super::nodes::Nodes;
use super::provenance::Provenance;
use super::{Parts, SourceParts, Step, calmly};
use crate::deploy::connector_failure;
use crate::error::Failure;
use crate::metrics::JobMetrics;

/// Splits that a subtask reads at the same time. More wait, in the order of the source (files: by name), and hold the watermark back until they are open:
/// nobody knows yet what times they have. With more files than this, windows stay open until the last files are; files that are named in the order of
/// their times are closed again by then, and what windows hold meanwhile is bounded by `state.memory_limit`.
/// Splits that never end are all read at the same time: the others would wait for ever.
const OPEN_SPLITS_MAX: usize = 16;

/// How often a source tells how far it is behind, at most.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// The number of a source's first split. Where splits may come while the job runs, 0 stands for those: it is idle, so that it holds no time back, and without an
/// end, so that the input has none.
pub(super) fn first_split(source: &dyn Source) -> usize {
    usize::from(source.discovers_every().is_some())
}

/// Reads the splits of a subtask in turn, a batch of each.
pub(super) struct SourceRoot {
    name: String,
    source: Arc<dyn Source>,
    metrics: Arc<JobMetrics>,
    max_rows: usize,
    idle_after: Option<Duration>,
    wake: Arc<Notify>,
    waiting: VecDeque<(usize, Split)>,
    open: Vec<OpenSplit>,
    /// the ids of those that were read to their end
    done: Vec<String>,
    /// which splits are idle or have ended. Their watermarks come later, from event times; here they have none.
    activity: Merge,
    /// how many splits there are
    splits: usize,
    discovery: Option<Discovery>,
    has_begun: bool,
    /// by stream: for each column of the graph's schema, which of the connector's columns it is
    columns: Vec<Vec<Option<usize>>>,
    not_before: Option<Instant>,
    /// how many events it was behind when that was told last; none = it was not known
    lag: Option<u64>,
    /// when that was
    lag_told: Instant,
    /// what becomes of malformed records, if they are not lost: rows of one stream more
    dead_letters: Option<DeadRecords>,
}

/// A split that is being read.
struct OpenSplit {
    index: usize,
    split: Split,
    reader: Box<dyn Reader>,
    last_rows: Instant,
    is_idle: bool,
}

impl SourceRoot {
    pub(super) fn new(parts: &Parts, source: SourceParts) -> Self {
        let SourceParts { source, splits, done, known } = source;
        let vertex = &parts.plan.vertices[parts.vertex];
        let Root::Source(index) = vertex.root else { unreachable!("the vertex of a source root has a source") };
        let plan = &parts.plan.sources[index];
        let columns = plan
            .streams
            .iter()
            .map(|stream| {
                let mut given = 0..;
                stream.needed.iter().map(|&needed| if needed { given.next() } else { None }).collect()
            })
            .collect();
        let first = first_split(&*source);
        let count = first + splits.len();
        // A job that has finished reads nothing that comes, however it could.
        let is_over = parts.restore.as_ref().is_some_and(|restore| restore.is_over());
        let discovery = source
            .discovers_every()
            .filter(|_| !is_over)
            .map(|every| Discovery::new(every, (*known).clone(), parts.subtask, vertex.parallelism));
        Self {
            idle_after: parts.plan.spec.sources[&plan.name].idle_after.map(|d| d.0),
            name: plan.name.clone(),
            source,
            metrics: Arc::clone(&parts.metrics),
            max_rows: parts.plan.spec.batch.rows,
            wake: Arc::new(Notify::new()),
            activity: Merge::new(count),
            splits: count,
            discovery,
            has_begun: false,
            waiting: (first..).zip(splits).collect(),
            open: vec![],
            done,
            columns,
            not_before: None,
            lag: None,
            lag_told: Instant::now(),
            dead_letters: plan.has_dead_letters.then(|| DeadRecords::of(&parts.plan, plan)),
        }
    }

    pub(super) async fn step(&mut self, nodes: &mut Nodes, draining: bool) -> Result<Step, Box<Failure>> {
        self.discover(nodes).await?;
        let open_max = if self.source.ends() { OPEN_SPLITS_MAX } else { usize::MAX };
        while self.open.len() < open_max
            && !draining
            && let Some((index, split)) = self.waiting.pop_front()
        {
            let reader =
                calmly(|| self.source.reader(&split, &self.wake)).map_err(|e| connector_failure("source", &self.name, &e))?;
            nodes.name_split(index, &split.id);
            self.open.push(OpenSplit { index, split, reader, last_rows: Instant::now(), is_idle: false });
        }
        if self.open.is_empty() && self.discovery.is_none() || draining {
            self.cut_short();
            self.tell_lag(nodes);
            self.end_time(nodes).await?;
            return Ok(Step::End);
        }
        self.not_before = self.discovery.as_ref().and_then(Discovery::not_before);
        let mut worked = false;
        let mut at = 0;
        while at < self.open.len() {
            let split = &mut self.open[at];
            match split.reader.read(self.max_rows).map_err(|e| connector_failure("source", &self.name, &e))? {
                Fetched::Rows(fetch) => {
                    worked = true;
                    split.last_rows = Instant::now();
                    let index = split.index;
                    if std::mem::take(&mut split.is_idle) {
                        nodes.split_active(index).await?;
                        nodes.source_time(self.activity.active(index)).await?;
                    }
                    self.pass_on(fetch, index, nodes).await?;
                }
                Fetched::End => {
                    let ended = self.open.swap_remove(at);
                    self.done.push(ended.split.id);
                    nodes.split_ended(ended.index).await?;
                    nodes.source_time(self.activity.advance(ended.index, Watermark::END)).await?;
                    worked = true;
                    continue;
                }
                Fetched::NotBefore(instant) => {
                    self.not_before = Some(self.not_before.map_or(instant, |t| t.min(instant)));
                    self.look_at_idleness(at, nodes).await?;
                }
                Fetched::Waiting => self.look_at_idleness(at, nodes).await?,
            }
            at += 1;
        }
        if self.lag_told.elapsed() >= LAG_EVERY {
            self.tell_lag(nodes);
        }
        Ok(if worked { Step::Worked } else { Step::Nothing })
    }

    /// Tells how many events the subtask is behind, if all of its readers know.
    fn tell_lag(&mut self, nodes: &Nodes) {
        self.lag = if !self.waiting.is_empty() {
            None
        } else if self.open.is_empty() {
            // All that was read was read to its end.
            self.lag.map(|_| 0)
        } else {
            self.open.iter().map(|split| split.reader.lag()).sum()
        };
        nodes.tell_lag(self.lag);
        self.lag_told = Instant::now();
    }

    /// Takes splits that have come while the job runs.
    async fn discover(&mut self, nodes: &mut Nodes) -> Result<(), Box<Failure>> {
        let Some(discovery) = &mut self.discovery else { return Ok(()) };
        let found = discovery.look(&self.source, &self.wake).map_err(|e| connector_failure("source", &self.name, &e))?;
        if !std::mem::replace(&mut self.has_begun, true) {
            nodes.split_idle(0).await?;
            nodes.source_time(self.activity.idle(0)).await?;
        }
        for split in found {
            let index = self.splits;
            self.splits += 1;
            nodes.split_added().await?;
            nodes.source_time(self.activity.insert(index, true)).await?;
            self.waiting.push_back((index, split));
        }
        Ok(())
    }

    /// Nothing is read any more. Tells if there was more to read.
    pub(super) fn cut_short(&self) {
        if !self.open.is_empty() || !self.waiting.is_empty() || self.discovery.is_some() {
            self.metrics.cut_short.store(true, Relaxed);
        }
    }

    /// Nothing follows: passes on the end of time.
    pub(super) async fn end_time(&mut self, nodes: &mut Nodes) -> Result<(), Box<Failure>> {
        nodes.source_time(self.activity.end()).await
    }

    /// How far each split has been read.
    pub(super) fn snapshot(&self) -> SourceSnapshot {
        let at = |split: &Split, position| (split.id.clone(), SplitState::At { spec: split.spec.clone(), position });
        let done = self.done.iter().map(|id| (id.clone(), SplitState::Done));
        let waiting = self.waiting.iter().map(|(_, split)| at(split, split.position.clone()));
        let open = self.open.iter().map(|open| at(&open.split, Some(open.reader.position())));
        let splits: BTreeMap<_, _> = done.chain(waiting).chain(open).collect();
        SourceSnapshot { name: self.name.clone(), splits }
    }

    /// Counts and passes on what a split gave.
    async fn pass_on(&mut self, fetch: Fetch, split: usize, nodes: &mut Nodes) -> Result<(), Box<Failure>> {
        self.metrics.events_in.fetch_add(fetch.events, Relaxed);
        self.metrics.bytes_in.fetch_add(fetch.bytes, Relaxed);
        self.metrics.malformed.fetch_add(fetch.malformed, Relaxed);
        if let Some(letters) = self.dead_letters.as_ref().filter(|_| !fetch.rejects.is_empty()) {
            nodes.malformed(letters, &fetch.rejects, split as u32).await?;
        }
        for (stream, batch) in fetch.batches {
            nodes.count_in(&batch);
            let provenance = Provenance::of_source(split as u32, stream, batch.rows(), fetch.positions.as_ref());
            nodes.rows(Origin::Stream(stream), self.widen(stream, &batch), provenance).await?;
        }
        Ok(())
    }

    /// Puts the connector's columns where the graph's schema has them.
    fn widen(&self, stream: usize, batch: &Batch) -> Batch {
        let places = &self.columns[stream];
        let columns: Vec<ArrayRef> = places
            .iter()
            .map(|place| place.map_or_else(|| left_out(batch.rows()), |column| batch.column(column).clone()))
            .collect();
        Batch::new(batch.rows(), columns, batch.times().cloned())
    }

    /// A split has given nothing: if it has for long, it no longer holds the watermark back.
    async fn look_at_idleness(&mut self, at: usize, nodes: &mut Nodes) -> Result<(), Box<Failure>> {
        let Some(after) = self.idle_after else { return Ok(()) };
        let split = &mut self.open[at];
        if split.is_idle {
            return Ok(());
        }
        let idle_at = split.last_rows + after;
        if Instant::now() >= idle_at {
            split.is_idle = true;
            let index = split.index;
            nodes.split_idle(index).await?;
            nodes.source_time(self.activity.idle(index)).await
        } else {
            self.not_before = Some(self.not_before.map_or(idle_at, |t| t.min(idle_at)));
            Ok(())
        }
    }

    pub(super) async fn ready(&mut self) {
        self.wake.notified().await;
    }

    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }
}
