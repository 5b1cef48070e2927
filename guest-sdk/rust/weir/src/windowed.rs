//! Windowed streams: what is done with the rows of a window.

use std::marker::PhantomData;
use std::time::Duration;

use crate::aggregate::Aggregate;
use crate::bindings::exports::weir::dataflow::definition as wit;
use crate::job::Job;
use crate::key::Key;
use crate::keyed::KeyedStream;
use crate::migration::Migrations;
use crate::pipeline::Start;
use crate::projection::{Projection, own_columns};
use crate::record::Record;
use crate::side::{SideOutput, Tag};
use crate::state::{Stored, StoredRows, check_storable};
use crate::stream::Stream;
use crate::time::{Window, to_millis};
use crate::value::Column;
use crate::window::{Assigner, Trigger, WindowFunction, WindowHead};

/// How windows are made and when they are emitted.
pub(crate) struct WindowOptions {
    assigner: wit::Assigner,
    trigger: Trigger,
    /// that of the assigner
    own_trigger: Trigger,
    domain: wit::TimeDomain,
    allowed_lateness: Duration,
    /// where late rows of each input go; all of them or none
    late: Vec<Box<dyn SideOutput>>,
}

impl WindowOptions {
    pub fn new(assigner: &impl Assigner) -> Self {
        let (assigner, trigger, domain) = assigner.describe();
        Self { assigner, trigger, own_trigger: trigger, domain, allowed_lateness: Duration::ZERO, late: vec![] }
    }

    /// What is wrong with them that the graph does not show.
    fn fault(&self) -> Option<String> {
        let count = self.own_trigger.count().filter(|_| self.trigger != self.own_trigger)?;
        Some(format!(
            "`.trigger(…)` stands behind `CountWindow({count})`, of which it would replace the count and make one window without end: leave the \
             trigger out, or use `Global` with `.processing_time()` and a trigger that has `.every_count({count}).purging()` in it"
        ))
    }

    /// What the graph says, over streams that have event times (`timed`) or not, for the function `F`.
    fn describe<F: WindowFunction>(&self, job: &Job, timed: bool) -> wit::WindowHead {
        if self.domain == wit::TimeDomain::Event && !timed {
            job.fail(
                "the rows of a window have no event times: assign them by `.event_time(…)`, or use `.processing_time()`".into(),
            );
        }
        wit::WindowHead {
            assigner: self.assigner,
            domain: self.domain,
            trigger: self.trigger.describe(),
            allowed_lateness_ms: to_millis(self.allowed_lateness).unsigned_abs(),
            late_port: (!self.late.is_empty()).then_some(1),
            // Rows that are only kept are no fewer after they were aggregated before an exchange; only windows that cannot do without merge them.
            mergeable: !F::KEEPS_ROWS || matches!(self.assigner, wit::Assigner::Sliding(_) | wit::Assigner::Session(_)),
        }
    }
}

/// A stream whose chain begins with a window.
pub type Emitted<F> = Stream<<F as WindowFunction>::Item, Start<WindowHead<F>>>;

/// The options of windows over one stream and over two.
macro_rules! options {
    () => {
        /// Says when results are emitted, instead of once when the window's end has been passed. Count windows have a trigger already, and take no
        /// other.
        #[must_use]
        pub fn trigger(mut self, trigger: Trigger) -> Self {
            self.options.trigger = trigger;
            self
        }

        /// Keeps windows for so long after the watermark has passed their end: rows that come until then still count, and
        /// each makes the result be emitted again. In processing time no row is late.
        #[must_use]
        pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
            self.options.allowed_lateness = lateness;
            self
        }

        /// Puts rows into windows by the time at which they come, instead of their event time.
        #[must_use]
        pub fn processing_time(mut self) -> Self {
            self.options.domain = wit::TimeDomain::Processing;
            self
        }
    };
}

/// A keyed stream in windows.
pub struct Windowed<T, K> {
    keyed: KeyedStream<T, K>,
    options: WindowOptions,
}

impl<T: Record, K: Key> Windowed<T, K> {
    pub(crate) fn new(keyed: KeyedStream<T, K>, options: WindowOptions) -> Self {
        Self { keyed, options }
    }

    options!();

    /// Sends rows that are too late for their window to a side output, instead of counting and dropping them.
    #[must_use]
    pub fn late_output(mut self, tag: &Tag<T>) -> Self {
        self.options.late = vec![Box::new(tag.clone())];
        self
    }

    fn emit<F: WindowFunction<Key = K>>(self, function: F) -> Emitted<F> {
        let Self { keyed, options } = self;
        let job = keyed.job.clone();
        let wanted = function.columns().map(|[left, _]| left);
        let projection = job.expect(wanted.and_then(|wanted| Projection::new(&keyed.columns, &wanted)));
        let inputs = vec![keyed.input(projection.columns.clone(), false)];
        let window = options.describe::<F>(&job, keyed.upstream.timed);
        let head = WindowHead { function, window, inputs, projection };
        let fault = options.fault();
        let mut stream = Stream::begin(job, head, "window", vec![]);
        stream.draft.fault = fault;
        stream.draft.late = options.late.into_iter().map(|late| (late, keyed.columns.clone())).collect();
        stream
    }

    /// Aggregates the rows of each window: `Count`, `Sum::of(Bid::PRICE)`, a tuple of several, or one of the job's own.
    pub fn aggregate<A: Aggregate<T>>(self, aggregate: A) -> Emitted<Aggregating<A, T, K>> {
        self.emit(Aggregating(aggregate, PhantomData))
    }

    /// Combines the rows of each window two by two, in any grouping.
    pub fn reduce<F: FnMut(T, T) -> T + 'static>(self, f: F) -> Emitted<Reducing<F, T, K>>
    where
        T: Clone,
    {
        self.emit(Reducing(f, PhantomData))
    }

    /// Runs a closure on all rows of each window; it emits any number of results:
    /// `.process(|key, window, rows, out| …)`. The rows are kept until then, so an aggregate is cheaper where it will do.
    pub fn process<O: 'static, F>(self, f: F) -> Emitted<Processing<F, T, K, O>>
    where
        T: Clone,
        F: FnMut(&K, Window, &[T], &mut Vec<O>) + 'static,
    {
        self.emit(Processing { f, out: vec![], of: PhantomData })
    }
}

/// Two keyed streams in the same windows.
pub struct CoWindowed<L, R, K> {
    left: KeyedStream<L, K>,
    right: KeyedStream<R, K>,
    options: WindowOptions,
    late: (Option<Tag<L>>, Option<Tag<R>>),
}

impl<L: Record + Clone, R: Record + Clone, K: Key> CoWindowed<L, R, K> {
    pub(crate) fn new(left: KeyedStream<L, K>, right: KeyedStream<R, K>, options: WindowOptions) -> Self {
        Self { left, right, options, late: (None, None) }
    }

    options!();

    /// Sends rows of the left stream that are too late for their window to a side output, instead of counting and dropping them.
    #[must_use]
    pub fn late_left(mut self, tag: &Tag<L>) -> Self {
        self.late.0 = Some(tag.clone());
        self
    }

    /// Sends rows of the right stream that are too late for their window to a side output, instead of counting and dropping them.
    #[must_use]
    pub fn late_right(mut self, tag: &Tag<R>) -> Self {
        self.late.1 = Some(tag.clone());
        self
    }

    /// Runs a closure on the rows of both streams in each window: `.cogroup(|key, window, left, right, out| …)`.
    pub fn cogroup<O: 'static, F>(self, f: F) -> Emitted<CoGrouping<F, L, R, K, O>>
    where
        F: FnMut(&K, Window, &[L], &[R], &mut Vec<O>) + 'static,
    {
        let Self { left, right, mut options, late } = self;
        if let (Some(_), _) | (_, Some(_)) = late {
            // Each input has a port then, whether or not anybody reads it.
            let left_tag = late.0.unwrap_or_else(|| Tag::new("late-left"));
            let right_tag = late.1.unwrap_or_else(|| Tag::new("late-right"));
            options.late = vec![Box::new(left_tag), Box::new(right_tag)];
        }
        let inputs = vec![left.input(own_columns::<L>(), false), right.input(own_columns::<R>(), false)];
        let function = CoGrouping { f, out: vec![], of: PhantomData };
        left.job.expect(function.columns().map(drop));
        let timed = left.upstream.timed && right.upstream.timed;
        let window = options.describe::<CoGrouping<F, L, R, K, O>>(&left.job, timed);
        let head = WindowHead { function, window, inputs, projection: Projection::default() };
        let fault = options.fault();
        let mut stream = Stream::begin(left.job, head, "co-window", vec![]);
        stream.draft.fault = fault;
        stream.draft.late = options.late.into_iter().zip([left.columns, right.columns]).collect();
        stream
    }

    /// Joins: makes one result of each pair of rows with the same key in the same window.
    pub fn join<O: 'static, F>(self, mut f: F) -> Emitted<impl WindowFunction<Item = O>>
    where
        F: FnMut(&L, &R) -> O + 'static,
    {
        self.cogroup(move |_: &K, _, left: &[L], right: &[R], out: &mut Vec<O>| {
            for l in left {
                out.extend(right.iter().map(|r| f(l, r)));
            }
        })
    }
}

/// An aggregate as a window function: emits the key, the window and the result.
pub struct Aggregating<A, T, K>(A, PhantomData<fn() -> (T, K)>);

impl<T: Record, K: Key, A: Aggregate<T>> WindowFunction for Aggregating<A, T, K> {
    type Key = K;
    type Left = A::Row;
    type Right = ();
    type Accumulator = A::Accumulator;
    type Item = (K, Window, A::Out);
    const AT_MOST_ONE: bool = true;

    fn columns(&self) -> Result<[Vec<Column>; 2], String> {
        Ok([self.0.columns()?, vec![]])
    }
    #[inline]
    fn left(&mut self, accumulator: &mut A::Accumulator, row: A::Row) {
        self.0.add(accumulator, row);
    }
    fn merge(&mut self, accumulator: &mut A::Accumulator, other: &A::Accumulator) {
        self.0.merge(accumulator, other);
    }
    fn migrations() -> Migrations<A::Accumulator> {
        A::migrations()
    }
    #[inline]
    fn emit(&mut self, key: &K, window: Window, accumulator: &A::Accumulator, out: &mut impl FnMut(Self::Item)) {
        out((key.clone(), window, self.0.result(accumulator)));
    }
}

/// A reduction as a window function: emits the key, the window and the row that is left.
pub struct Reducing<F, T, K>(F, PhantomData<fn() -> (T, K)>);

impl<T: Record + Clone, K: Key, F: FnMut(T, T) -> T + 'static> Reducing<F, T, K> {
    #[inline]
    fn add(&mut self, accumulator: &mut Stored<T>, row: T) {
        let row = match accumulator.take() {
            Some(last) => (self.0)(last, row),
            None => row,
        };
        accumulator.set(row);
    }
}

impl<T: Record + Clone, K: Key, F: FnMut(T, T) -> T + 'static> WindowFunction for Reducing<F, T, K> {
    type Key = K;
    type Left = T;
    type Right = ();
    type Accumulator = Stored<T>;
    type Item = (K, Window, T);
    const AT_MOST_ONE: bool = true;

    fn columns(&self) -> Result<[Vec<Column>; 2], String> {
        check_storable::<T>()?;
        Ok([T::columns(), vec![]])
    }
    #[inline]
    fn left(&mut self, accumulator: &mut Stored<T>, row: T) {
        self.add(accumulator, row);
    }
    fn merge(&mut self, accumulator: &mut Stored<T>, other: &Stored<T>) {
        if let Some(row) = other.get() {
            self.add(accumulator, row.clone());
        }
    }
    fn emit(&mut self, key: &K, window: Window, accumulator: &Stored<T>, out: &mut impl FnMut(Self::Item)) {
        if let Some(row) = accumulator.get() {
            out((key.clone(), window, row.clone()));
        }
    }
}

/// A closure over all rows of a window.
pub struct Processing<F, T, K, O> {
    f: F,
    out: Vec<O>,
    of: PhantomData<fn() -> (T, K)>,
}

impl<T: Record + Clone, K: Key, O: 'static, F> WindowFunction for Processing<F, T, K, O>
where
    F: FnMut(&K, Window, &[T], &mut Vec<O>) + 'static,
{
    type Key = K;
    type Left = T;
    type Right = ();
    type Accumulator = StoredRows<T>;
    type Item = O;
    const KEEPS_ROWS: bool = true;

    fn columns(&self) -> Result<[Vec<Column>; 2], String> {
        check_storable::<T>()?;
        Ok([T::columns(), vec![]])
    }
    fn left(&mut self, accumulator: &mut StoredRows<T>, row: T) {
        accumulator.push(row);
    }
    fn merge(&mut self, accumulator: &mut StoredRows<T>, other: &StoredRows<T>) {
        accumulator.extend(other);
    }
    fn emit(&mut self, key: &K, window: Window, accumulator: &StoredRows<T>, out: &mut impl FnMut(O)) {
        (self.f)(key, window, accumulator.rows(), &mut self.out);
        self.out.drain(..).for_each(out);
    }
}

/// A closure over the rows of two streams in a window.
pub struct CoGrouping<F, L, R, K, O> {
    f: F,
    out: Vec<O>,
    of: PhantomData<fn() -> (L, R, K)>,
}

impl<L, R, K: Key, O: 'static, F> WindowFunction for CoGrouping<F, L, R, K, O>
where
    L: Record + Clone,
    R: Record + Clone,
    F: FnMut(&K, Window, &[L], &[R], &mut Vec<O>) + 'static,
{
    type Key = K;
    type Left = L;
    type Right = R;
    type Accumulator = (StoredRows<L>, StoredRows<R>);
    type Item = O;
    const KEEPS_ROWS: bool = true;

    fn columns(&self) -> Result<[Vec<Column>; 2], String> {
        check_storable::<L>()?;
        check_storable::<R>()?;
        Ok([L::columns(), R::columns()])
    }
    fn left(&mut self, (left, _): &mut Self::Accumulator, row: L) {
        left.push(row);
    }
    fn right(&mut self, (_, right): &mut Self::Accumulator, row: R) {
        right.push(row);
    }
    fn merge(&mut self, (left, right): &mut Self::Accumulator, other: &Self::Accumulator) {
        left.extend(&other.0);
        right.extend(&other.1);
    }
    fn emit(&mut self, key: &K, window: Window, (left, right): &Self::Accumulator, out: &mut impl FnMut(O)) {
        (self.f)(key, window, left.rows(), right.rows(), &mut self.out);
        self.out.drain(..).for_each(out);
    }
}
