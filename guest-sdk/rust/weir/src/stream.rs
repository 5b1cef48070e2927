//! Streams: rows on their way, and what can be done to them.

use std::fmt::Display;

use crate::bindings::exports::weir::dataflow::definition::{
    Chain as WireChain, ChainOutput, ColumnOrigin, EventTimeAssigner, OperatorInfo, Partitioning,
};
use crate::context::Context;
use crate::event_time::{TimeSelector, WatermarkStrategy};
use crate::head::{Body, Head, Upstream};
use crate::job::{Job, all_passed, fields, port};
use crate::key::{Appended, KeySelector, Nothing};
use crate::keyed::KeyedStream;
use crate::output::{RowBuffer, sources};
use crate::pipeline::{Divert, Filter, FlatMap, Inspect, Map, Pipeline, Start, TryMap};
use crate::projection::Projection;
use crate::record::Record;
use crate::rows::Rows;
use crate::side::{SideOutput, Tag};
use crate::value::Column;
use crate::window::Assigner;
use crate::windowed::Windowed;

/// A stream of `T`, made by the pipeline `P` since the last boundary.
///
/// What follows one another without a boundary (`key_by`, `rebalance`, `broadcast`, `union`, `tee`, `break_chain`, `sink`)
/// runs fused, in one call for each batch. In signatures, `Stream<T>` is a stream right behind a boundary, and
/// `Stream<T, impl Pipeline<Out = T>>` is any.
///
/// What closures capture is no state: each subtask has its own, and it is as it was at first whenever the host replaces the instance, because its
/// memory has grown or after a failure. What has to last belongs into the state of a key.
pub struct Stream<T, P: Pipeline<Out = T> = Start<Rows<T>>> {
    pub(crate) job: Job,
    pub(crate) head: P::Head,
    pub(crate) pipeline: P,
    pub(crate) draft: Draft,
}

/// What the graph will say about a chain that is still being built.
#[derive(Default)]
pub(crate) struct Draft {
    pub operators: Vec<OperatorInfo>,
    pub event_time: Option<EventTimeAssigner>,
    pub parallelism: Option<u32>,
    /// side outputs that the chain's own code feeds, and whether it does so behind the operator that assigns event times
    pub sides: Vec<(Box<dyn SideOutput>, bool)>,
    /// the side outputs of late rows, one for each input, with the columns of the input
    pub late: Vec<(Box<dyn SideOutput>, Vec<Column>)>,
    /// what is wrong with the operator that begins the chain
    pub fault: Option<String>,
    /// the chain in the graph that the last operator belongs to, if it is not one of these
    pub registered: Option<u32>,
}

impl<T: Record> Clone for Stream<T> {
    fn clone(&self) -> Self {
        Self::start(self.job.clone(), self.head.clone())
    }
}

impl<T: 'static, H: Head<Item = T>> Stream<T, Start<H>> {
    pub(crate) fn start(job: Job, head: H) -> Self {
        Self { job, head, pipeline: Start::new(), draft: Draft::default() }
    }

    /// A stream that an operator begins.
    pub(crate) fn begin(job: Job, head: H, kind: &str, sides: Vec<Box<dyn SideOutput>>) -> Self {
        let sides = sides.into_iter().map(|side| (side, false)).collect();
        let draft = Draft { operators: vec![job.operator(kind)], sides, ..Draft::default() };
        Self { job, head, pipeline: Start::new(), draft }
    }
}

impl<T: 'static, P: Pipeline<Out = T>> Stream<T, P> {
    /// Adds an operator to the pipeline.
    pub(crate) fn then<U, Q: Pipeline<Out = U, Head = P::Head>>(
        mut self,
        kind: &str,
        stage: impl FnOnce(P) -> Q,
    ) -> Stream<U, Q> {
        self.draft.operators.push(self.job.operator(kind));
        Stream { job: self.job, head: self.head, pipeline: stage(self.pipeline), draft: self.draft }
    }

    /// Makes one row of each row.
    pub fn map<U: 'static, F: FnMut(T) -> U + 'static>(self, f: F) -> Stream<U, Map<P, F>> {
        self.then("map", |before| Map { before, state: (f,) })
    }

    /// Makes one row of each row, or fails. An error is handled as the job's policy says: it fails the job, or the row is
    /// skipped or goes to the dead letters.
    pub fn try_map<U: 'static, E: Display, F: FnMut(T) -> Result<U, E> + 'static>(self, f: F) -> Stream<U, TryMap<P, F>> {
        self.then("try-map", |before| TryMap { before, state: (f,) })
    }

    /// Keeps the rows for which `f` is true.
    pub fn filter<F: FnMut(&T) -> bool + 'static>(self, f: F) -> Stream<T, Filter<P, F>> {
        self.then("filter", |before| Filter { before, state: (f,) })
    }

    /// Makes any number of rows of each row: `f` returns an iterator, a `Vec`, an `Option`…
    pub fn flat_map<I, F>(self, f: F) -> Stream<I::Item, FlatMap<P, F>>
    where
        I: IntoIterator<Item: 'static>,
        F: FnMut(T) -> I + 'static,
    {
        self.then("flat-map", |before| FlatMap { before, state: (f,) })
    }

    /// Looks at each row.
    pub fn inspect<F: FnMut(&T) + 'static>(self, f: F) -> Stream<T, Inspect<P, F>> {
        self.then("inspect", |before| Inspect { before, state: (f,) })
    }

    /// Parts the stream: what `f` returns as `Ok` goes on, and what it returns as `Err` goes to the side output `tag`.
    pub fn divert<U: 'static, S: Record, F>(mut self, tag: &Tag<S>, f: F) -> Stream<U, Divert<P, F, Tag<S>>>
    where
        F: FnMut(T) -> Result<U, S> + 'static,
    {
        self.draft.sides.push((Box::new(tag.clone()), P::ASSIGNS_TIMES));
        let tag = tag.clone();
        self.then("divert", |before| Divert { before, state: (f, tag) })
    }

    /// Assigns event times: from a field (`Bid::DATE_TIME`), which costs nothing, or by a closure
    /// (`|bid: &Bid| bid.date_time`). [`Watermarks`](crate::Watermarks) says how the watermark follows from them.
    pub fn event_time<S: TimeSelector<T, P, W>, W: WatermarkStrategy<T>>(self, time: S, watermarks: W) -> S::Stream {
        time.assign(self, watermarks)
    }

    /// Names the last operator. The name is what its state is found by when a changed job starts from a savepoint, and
    /// what metrics and errors show.
    #[must_use]
    pub fn uid(mut self, id: &str) -> Self {
        match (self.draft.operators.last_mut(), self.draft.registered) {
            (Some(operator), _) => operator.id = id.to_owned(),
            (None, Some(chain)) => self.job.rename(chain, id),
            (None, None) => self.job.fail(format!("there is no operator here that could be named `{id}`")),
        }
        self
    }

    /// Sets the parallelism of the operators since the last boundary, of which there must be at least one; without it they
    /// have the job's.
    #[must_use]
    pub fn parallelism(mut self, subtasks: u32) -> Self {
        self.draft.parallelism = Some(subtasks);
        self
    }
}

impl<T: Record, P: Pipeline<Out = T>> Stream<T, P> {
    /// Ends the chain: it becomes part of the graph. Returns where its rows come out.
    fn register<A: Appended<T>>(self, appended: A) -> Upstream {
        let Self { job, head, pipeline, draft } = self;
        if let (Some(first), Some(fault)) = (draft.operators.first(), draft.fault) {
            job.fail(format!("operator `{}`: {fault}", first.id));
        }
        let description = head.describe();
        let timed = description.timed || P::ASSIGNS_TIMES;
        let passable = description.passable.as_deref();
        let columns = T::columns();
        let extra = appended.columns();
        job.check(&columns);
        let (mut origins, main_sources) = job.expect(sources(&columns, passable, P::UNTOUCHED));
        origins.extend(extra.iter().map(|_| ColumnOrigin::Computed));
        let schema = fields(&[columns, extra].concat());
        let mut outputs = vec![ChainOutput { name: String::new(), schema, columns: origins }];
        // The host feeds those of late rows.
        for (side, columns) in &draft.late {
            let (schema, columns) = (fields(columns), all_passed(columns.len()));
            outputs.push(ChainOutput { name: side.name().to_owned(), schema, columns });
        }
        let first_side = outputs.len() as u32;
        let mut ports = vec![];
        for (side, assigned) in &draft.sides {
            let columns = side.columns();
            job.check(&columns);
            let (origins, side_sources) = job.expect(sources(&columns, passable, false));
            outputs.push(ChainOutput { name: side.name().to_owned(), schema: fields(&columns), columns: origins });
            ports.push(side.port(side_sources, *assigned));
        }
        let terminal = RowBuffer::with(main_sources, P::ASSIGNS_TIMES || P::Head::COMPUTES_TIMES, appended);
        let running = head.start(Body::new(pipeline, terminal, Context::new(ports, first_side)));
        let chain = WireChain {
            operators: draft.operators,
            head: description.head,
            inputs: description.inputs,
            outputs,
            event_time: draft.event_time,
            parallelism: draft.parallelism,
            state_schema: description.state_schema,
        };
        let chain = job.add(chain, Some(running));
        // What goes to a side output before event times are assigned has those that came in, if any.
        let mut fed: Vec<_> = draft.late.iter().map(|(side, _)| (side, timed)).collect();
        fed.extend(draft.sides.iter().map(|(side, assigned)| (side, description.timed || *assigned)));
        for (i, (side, timed)) in fed.into_iter().enumerate() {
            side.feed(port(chain, i as u32 + 1), timed);
        }
        Upstream { from: vec![port(chain, 0)], partitioning: Partitioning::Forward, timed }
    }

    /// Ends the chain, if there is anything in it.
    fn end(self) -> (Job, Upstream) {
        let job = self.job.clone();
        let upstream = match self.head.stream() {
            Some(upstream) if self.draft.operators.is_empty() => {
                if let Some(subtasks) = self.draft.parallelism {
                    job.fail(format!(
                        "`.parallelism({subtasks})` stands where there is no operator since the last boundary: put it behind the operators that it is for"
                    ));
                }
                upstream.clone()
            }
            _ => self.register(Nothing),
        };
        (job, upstream)
    }

    /// Ends the chain; the rows are dealt out as was asked.
    pub(crate) fn settle(self) -> (Job, Upstream) {
        let (job, upstream) = self.end();
        let kind = match upstream.partitioning {
            Partitioning::Rebalance => "rebalance",
            Partitioning::Broadcast => "broadcast",
            Partitioning::Forward | Partitioning::Hash => return (job, upstream),
        };
        let upstream = job.relay(&upstream, &T::columns(), all_passed(T::WIDTH), kind, None).0;
        (job, upstream)
    }

    /// Ends the chain; the next one reads its rows by this partitioning.
    fn dealt(self, partitioning: Partitioning) -> Stream<T> {
        let (job, upstream) = self.settle();
        job.stream(Upstream { partitioning, ..upstream })
    }

    /// Partitions the stream by a key: a field (`Bid::AUCTION`), several (`(Bid::AUCTION, Bid::BIDDER)`), or a closure
    /// (`|bid: &Bid| bid.price / 100`).
    pub fn key_by<S: KeySelector<T>>(mut self, key: S) -> KeyedStream<T, S::Key> {
        let (key, appended) = key.split();
        let columns = [T::columns(), appended.columns()].concat();
        let (job, upstream) = if S::COMPUTED {
            self.draft.operators.push(self.job.operator("key-by"));
            let job = self.job.clone();
            let upstream = self.register(appended);
            (job, upstream)
        } else {
            self.settle()
        };
        KeyedStream::new(job, Upstream { partitioning: Partitioning::Hash, ..upstream }, key, columns)
    }

    /// Puts all rows together into windows, without a key. This runs in one subtask.
    pub fn window_all(self, assigner: impl Assigner) -> Windowed<T, ()> {
        let (job, upstream) = self.settle();
        KeyedStream::new(job, Upstream { partitioning: Partitioning::Hash, ..upstream }, vec![], T::columns()).window(assigner)
    }

    /// Deals the rows out evenly, a batch at a time.
    pub fn rebalance(self) -> Stream<T> {
        self.dealt(Partitioning::Rebalance)
    }

    /// Sends every row to every subtask of what follows.
    pub fn broadcast(self) -> Stream<T> {
        self.dealt(Partitioning::Broadcast)
    }

    /// Ends the chain here: what follows runs in a call of its own.
    pub fn break_chain(self) -> Stream<T> {
        self.dealt(Partitioning::Forward)
    }

    /// The same stream in a form that can be cloned, to be used several times.
    pub fn tee(self) -> Stream<T> {
        self.dealt(Partitioning::Forward)
    }

    /// The same rows, read as `U`: a record with some of the columns, found by name, in any order. Nothing is copied, and a
    /// field that is a `Pass` in one of the records need not be one in the other.
    pub fn select<U: Record>(self) -> Stream<U> {
        let (job, upstream) = self.settle();
        let (offered, wanted) = (T::columns(), U::columns());
        let readable: Vec<_> = wanted.iter().map(|c| Column { passed: false, ..c.clone() }).collect();
        let projection = job.expect(Projection::new(&offered, &readable));
        let origins = projection.columns.into_iter().map(ColumnOrigin::Passed).collect();
        let upstream = job.relay(&upstream, &wanted, origins, "select", None).0;
        job.stream(upstream)
    }

    /// This stream and another one, mixed. A stream cannot be mixed with itself as it is: put an operator between, such as `.map(|row| row)`.
    pub fn union<Q: Pipeline<Out = T>>(self, other: Stream<T, Q>) -> Stream<T> {
        let (job, mut upstream) = self.settle();
        let (_, other) = other.settle();
        upstream.from.extend(other.from);
        upstream.timed &= other.timed;
        job.stream(upstream)
    }

    /// Writes the rows to the sink `name`, which the job spec binds to a connector. Several streams can have the same sink, each of them once.
    pub fn sink(self, name: &str) {
        let (job, upstream) = self.settle();
        job.sink(name, upstream.from);
    }
}
