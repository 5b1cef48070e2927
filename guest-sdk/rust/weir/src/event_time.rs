//! Event time: where it comes from, and how the watermark follows from it.

use std::time::Duration;

use crate::bindings::exports::weir::dataflow::definition::{self as wit, EventTimeAssigner};
use crate::context::Context;
use crate::head::Head;
use crate::job::all_passed;
use crate::pipeline::Pipeline;
use crate::record::{Field, Record};
use crate::stream::Stream;
use crate::time::{EventTime, to_millis};

/// How watermarks follow from event times.
#[derive(Debug)]
pub struct Watermarks;

impl Watermarks {
    /// Rows come at most `delay` out of order, in each split of the source: the watermark is so far behind the greatest
    /// event time. With a delay of zero, event times never go back. Behind an exchange splits are mixed, and each of its channels counts as
    /// one: assign event times first.
    pub const fn bounded(delay: Duration) -> Bounded {
        Bounded { delay, greatest: None }
    }

    /// A generator of the job's own says what the watermark is; `make` makes one for each split of the source, and another one when the host
    /// replaces the instance. What a generator says never sets the watermark back. Since it looks at the rows, event times have to come from a
    /// closure, too, and not from a field.
    pub const fn generated<G, F: Fn() -> G + 'static>(make: F) -> Generated<G, F> {
        Generated { make, splits: vec![] }
    }
}

/// Watches the rows of one split, and says what its watermark is: it may follow from event times, or from marks in the rows.
pub trait WatermarkGenerator<T>: 'static {
    /// A row has come, as the closure that has returned its event time sees it.
    fn row(&mut self, row: &T, time: EventTime);

    /// The watermark after the rows of a batch; `None` if it stays what it was.
    fn watermark(&mut self) -> Option<EventTime>;
}

/// A way to have watermarks in a stream of `T`: see [`Watermarks`].
pub trait WatermarkStrategy<T>: 'static {
    /// What the graph says about it.
    fn describe(&self) -> wit::Watermarks;
    /// A row of a split has come.
    fn row(&mut self, split: u32, row: &T, time: EventTime);
    /// What is reported about the rows of a call.
    fn progress(&mut self, split: u32) -> Option<EventTime>;
}

/// See [`Watermarks::bounded`].
#[derive(Debug)]
pub struct Bounded {
    delay: Duration,
    greatest: Option<EventTime>,
}

impl<T> WatermarkStrategy<T> for Bounded {
    fn describe(&self) -> wit::Watermarks {
        wit::Watermarks::Bounded(to_millis(self.delay).unsigned_abs())
    }
    #[inline]
    fn row(&mut self, _split: u32, _row: &T, time: EventTime) {
        self.greatest = self.greatest.max(Some(time));
    }
    fn progress(&mut self, _split: u32) -> Option<EventTime> {
        self.greatest.take()
    }
}

/// See [`Watermarks::generated`].
#[derive(Debug)]
pub struct Generated<G, F> {
    make: F,
    splits: Vec<(u32, G)>,
}

impl<G, F: Fn() -> G> Generated<G, F> {
    fn of(&mut self, split: u32) -> &mut G {
        let place = self.splits.iter().position(|(s, _)| *s == split).unwrap_or_else(|| {
            self.splits.push((split, (self.make)()));
            self.splits.len() - 1
        });
        &mut self.splits[place].1
    }
}

impl<T, G: WatermarkGenerator<T>, F: Fn() -> G + 'static> WatermarkStrategy<T> for Generated<G, F> {
    fn describe(&self) -> wit::Watermarks {
        wit::Watermarks::Generated
    }
    #[inline]
    fn row(&mut self, split: u32, row: &T, time: EventTime) {
        self.of(split).row(row, time);
    }
    fn progress(&mut self, split: u32) -> Option<EventTime> {
        self.of(split).watermark()
    }
}

/// Where event times come from: a field, or a closure.
pub trait TimeSelector<T, P: Pipeline<Out = T>, W> {
    /// the stream with event times
    type Stream;

    /// Assigns event times to the rows of `stream`.
    fn assign(self, stream: Stream<T, P>, watermarks: W) -> Self::Stream;
}

/// The host reads the field's column: no guest code runs, and the column need not even be one that the job looks at.
impl<T: Record, P: Pipeline<Out = T>, W: WatermarkStrategy<T>> TimeSelector<T, P, W> for Field<T, EventTime> {
    type Stream = Stream<T>;

    fn assign(self, stream: Stream<T, P>, watermarks: W) -> Stream<T> {
        let (job, upstream) = stream.settle();
        let watermarks = watermarks.describe();
        if watermarks == wit::Watermarks::Generated {
            job.fail(format!("generated watermarks need a closure that returns the event time, not the field `{}`", self.name()));
        }
        let assigner = EventTimeAssigner { column: Some(self.index()), watermarks };
        let (upstream, chain) = job.relay(&upstream, &T::columns(), all_passed(T::WIDTH), "event-time", Some(assigner));
        let mut stream = job.stream(upstream);
        stream.draft.registered = Some(chain);
        stream
    }
}

impl<T, P, W, F> TimeSelector<T, P, W> for F
where
    T: 'static,
    P: Pipeline<Out = T>,
    W: WatermarkStrategy<T>,
    F: FnMut(&T) -> EventTime + 'static,
{
    type Stream = Stream<T, AssignTime<P, F, W>>;

    fn assign(self, mut stream: Stream<T, P>, watermarks: W) -> Self::Stream {
        let assigner = EventTimeAssigner { column: None, watermarks: watermarks.describe() };
        if stream.draft.event_time.replace(assigner).is_some() {
            stream.job.fail("event times are assigned twice in a chain: put `.break_chain()` between".into());
        }
        stream.then("event-time", |before| AssignTime { before, time: self, watermarks })
    }
}

/// A stage that assigns event times.
#[derive(Debug)]
pub struct AssignTime<P, F, W> {
    before: P,
    time: F,
    watermarks: W,
}

impl<P, F, W> Pipeline for AssignTime<P, F, W>
where
    P: Pipeline,
    F: FnMut(&P::Out) -> EventTime + 'static,
    W: WatermarkStrategy<P::Out>,
{
    type Head = P::Head;
    type Out = P::Out;
    const UNTOUCHED: bool = P::UNTOUCHED;
    const ONE_TO_ONE: bool = P::ONE_TO_ONE;
    const AT_MOST_ONE: bool = P::AT_MOST_ONE;
    const ASSIGNS_TIMES: bool = true;

    #[inline]
    fn push(&mut self, item: <P::Head as Head>::Item, cx: &mut Context, next: &mut impl FnMut(P::Out, &mut Context)) {
        let Self { before, time, watermarks } = self;
        before.push(item, cx, &mut |row, cx| {
            let time = time(&row);
            cx.time = time.millis();
            watermarks.row(cx.split, &row, time);
            next(row, cx);
        });
    }

    fn finish(&mut self, cx: &mut Context) {
        self.before.finish(cx);
        cx.progress = self.watermarks.progress(cx.split).map(EventTime::millis);
    }
}
