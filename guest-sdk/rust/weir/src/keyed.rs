//! Keyed streams: rows of the same key go to the same subtask, where their key has state.

use std::marker::PhantomData;

use crate::bindings::exports::weir::dataflow::definition::{ChainInput, Partitioning};
use crate::head::Upstream;
use crate::interval_join::IntervalJoin;
use crate::job::Job;
use crate::join::Join;
use crate::key::Key;
use crate::pipeline::{Pipeline, Start};
use crate::process::{
    BroadcastProcess, CoProcess, CoProcessClosures, KeyedContext, KeyedFunction, Pair, Process, ProcessClosure, ProcessHead,
    Single, WithBroadcast,
};
use crate::projection::own_columns;
use crate::record::Record;
use crate::side::{SideOutput, Tag};
use crate::state::{State, Stored, check_storable};
use crate::stream::Stream;
use crate::value::Column;
use crate::window::Assigner;
use crate::windowed::{CoWindowed, WindowOptions, Windowed};

/// A stream of `T`, partitioned by a key of type `K`.
pub struct KeyedStream<T, K> {
    pub(crate) job: Job,
    pub(crate) upstream: Upstream,
    /// the columns that make the key
    key: Vec<u32>,
    /// the columns of `T`, and those of a computed key
    pub(crate) columns: Vec<Column>,
    sides: Vec<Box<dyn SideOutput>>,
    of: PhantomData<fn() -> (T, K)>,
}

/// A stream that begins with a keyed function.
pub type Processed<F> = Stream<<F as KeyedFunction>::Out, Start<ProcessHead<F>>>;

impl<T: Record, K: Key> KeyedStream<T, K> {
    pub(crate) fn new(job: Job, upstream: Upstream, key: Vec<u32>, columns: Vec<Column>) -> Self {
        Self { job, upstream, key, columns, sides: vec![], of: PhantomData }
    }

    /// The input of a chain that reads these columns of the stream.
    pub(crate) fn input(&self, columns: Vec<u32>, times: bool) -> ChainInput {
        ChainInput { key: self.key.clone(), times, ..self.upstream.input(columns) }
    }

    /// Lets the keyed function that follows feed this side output.
    #[must_use]
    pub fn side_output<S: Record>(mut self, tag: &Tag<S>) -> Self {
        self.sides.push(Box::new(tag.clone()));
        self
    }

    fn start<F: KeyedFunction>(self, function: F, kind: &str, second: Option<(ChainInput, bool)>) -> Processed<F> {
        let mut inputs = vec![self.input(own_columns::<T>(), self.upstream.timed)];
        let mut timed = self.upstream.timed;
        if let Some((input, second_timed)) = second {
            inputs.push(input);
            timed &= second_timed;
        }
        Stream::begin(self.job, ProcessHead { function, inputs, columns: self.columns, timed }, kind, self.sides)
    }

    /// Runs a keyed function with state and timers.
    pub fn process<P: Process<T, Key = K>>(self, process: P) -> Processed<Single<P, T>> {
        self.start(Single(process, PhantomData), "process", None)
    }

    /// Runs a closure on each row and the state of its key:
    /// `.process_with(|count: &mut u64, bid: Bid, cx| { *count += 1; cx.emit(…) })`.
    pub fn process_with<S, O, F>(self, f: F) -> Processed<Single<ProcessClosure<F, K, S, O>, T>>
    where
        S: State,
        O: 'static,
        F: FnMut(&mut S, T, &mut KeyedContext<'_, K, O>) + 'static,
    {
        self.process(ProcessClosure(f, PhantomData))
    }

    /// Combines the rows of each key, one after another, and emits each result.
    pub fn reduce<F>(self, mut f: F) -> Processed<impl KeyedFunction<Out = T>>
    where
        T: Clone,
        F: FnMut(T, T) -> T + 'static,
    {
        self.job.expect(check_storable::<T>());
        self.process_with(move |state: &mut Stored<T>, row: T, cx: &mut KeyedContext<'_, K, T>| {
            let row = match state.take() {
                Some(last) => f(last, row),
                None => row,
            };
            state.set(row.clone());
            cx.emit(row);
        })
    }

    /// Puts the rows of each key into windows.
    pub fn window(self, assigner: impl Assigner) -> Windowed<T, K> {
        Windowed::new(self, WindowOptions::new(&assigner))
    }

    /// Joins rows of two streams with the same key, and event times that are near each other:
    /// `.interval_join(other).between(lower, upper).join(|left, right| …)`.
    pub fn interval_join<R: Record>(self, other: KeyedStream<R, K>) -> IntervalJoin<T, R, K> {
        IntervalJoin::new(self, other)
    }

    /// Joins rows of two streams with the same key, whenever they come: `.join(other).inner(|left, right| …)`, or one of the outer joins.
    pub fn join<R: Record>(self, other: KeyedStream<R, K>) -> Join<T, R, K> {
        Join::new(self, other)
    }

    /// Brings rows of two streams with the same key together.
    pub fn connect<R: Record>(self, other: KeyedStream<R, K>) -> Connected<T, R, K> {
        Connected { left: self, right: other }
    }

    /// Brings every row of another stream to every subtask of this one. Those rows need no event times, and have no say in how far time has come: that
    /// is for the keyed rows alone to tell. Only the end of time waits until both streams have ended.
    pub fn connect_broadcast<B: Record, P: Pipeline<Out = B>>(self, other: Stream<B, P>) -> BroadcastConnected<T, B, K> {
        let (_, upstream) = other.settle();
        let upstream = Upstream { partitioning: Partitioning::Broadcast, ..upstream };
        BroadcastConnected { keyed: self, upstream, of: PhantomData }
    }
}

/// Runs a keyed function on the rows of two keyed streams.
pub(crate) fn start_pair<L, R, K, F>(left: KeyedStream<L, K>, right: KeyedStream<R, K>, function: F, kind: &str) -> Processed<F>
where
    L: Record,
    R: Record,
    K: Key,
    F: KeyedFunction<Left = L, Right = R>,
{
    let timed = right.upstream.timed;
    let second = right.input(own_columns::<R>(), timed);
    left.start(function, kind, Some((second, timed)))
}

/// Two keyed streams that meet in a function or in windows.
pub struct Connected<L, R, K> {
    left: KeyedStream<L, K>,
    right: KeyedStream<R, K>,
}

impl<L: Record, R: Record, K: Key> Connected<L, R, K> {
    /// Lets the keyed function that follows feed this side output.
    #[must_use]
    pub fn side_output<S: Record>(self, tag: &Tag<S>) -> Self {
        Self { left: self.left.side_output(tag), ..self }
    }

    /// Runs a function with common state and timers on the rows of both.
    pub fn process<P: CoProcess<L, R, Key = K>>(self, process: P) -> Processed<Pair<P, L, R>> {
        start_pair(self.left, self.right, Pair(process, PhantomData), "co-process")
    }

    /// Runs a closure on the rows of each stream, and the common state of their key.
    pub fn process_with<S, O, F, G>(self, left: F, right: G) -> Processed<Pair<CoProcessClosures<F, G, K, S, O>, L, R>>
    where
        S: State,
        O: 'static,
        F: FnMut(&mut S, L, &mut KeyedContext<'_, K, O>) + 'static,
        G: FnMut(&mut S, R, &mut KeyedContext<'_, K, O>) + 'static,
    {
        self.process(CoProcessClosures(left, right, PhantomData))
    }

    /// Puts the rows of both into the same windows, to join or co-group them.
    pub fn window(self, assigner: impl Assigner) -> CoWindowed<L, R, K>
    where
        L: Clone,
        R: Clone,
    {
        CoWindowed::new(self.left, self.right, WindowOptions::new(&assigner))
    }
}

/// A keyed stream and a broadcast one.
pub struct BroadcastConnected<T, B, K> {
    keyed: KeyedStream<T, K>,
    upstream: Upstream,
    of: PhantomData<fn() -> B>,
}

impl<T: Record, B: Record, K: Key> BroadcastConnected<T, B, K> {
    /// Lets the keyed function that follows feed this side output.
    #[must_use]
    pub fn side_output<S: Record>(self, tag: &Tag<S>) -> Self {
        Self { keyed: self.keyed.side_output(tag), ..self }
    }

    /// Runs a function on the rows of the keyed stream that also sees the rows of the broadcast one.
    pub fn process<P: BroadcastProcess<T, B, Key = K>>(self, process: P) -> Processed<WithBroadcast<P, T, B>> {
        let second = self.upstream.input(own_columns::<B>());
        // The broadcast stream's event times do not matter to what comes out.
        self.keyed.start(WithBroadcast::new(process), "broadcast-process", Some((second, true)))
    }
}
