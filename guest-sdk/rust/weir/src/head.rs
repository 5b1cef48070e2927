//! Heads: what starts a chain and feeds its pipeline.

use crate::bindings::exports::weir::dataflow::chains::Reply;
use crate::bindings::exports::weir::dataflow::definition::{self as wit, ChainInput, Endpoint, Partitioning};
use crate::chain::Chain;
use crate::context::Context;
use crate::output::Terminal;
use crate::pipeline::Pipeline;
use crate::value::Column;

/// What starts a chain: rows of a stream, a keyed function, or a window.
pub trait Head: Sized + 'static {
    /// what it pushes into the pipeline
    type Item: 'static;
    /// whether the items are the rows of the input
    const ROWS: bool = false;
    /// whether it makes room for its items before it pushes them, so that no more come than there is room for
    const COUNTED: bool = false;
    /// whether it computes the event times of its items, instead of leaving them those of the rows, panes or timers that they come from
    const COMPUTES_TIMES: bool = false;

    /// The stream itself, where the head only reads one.
    #[doc(hidden)]
    fn stream(&self) -> Option<&Upstream> {
        None
    }

    /// What the graph says about it.
    fn describe(&self) -> Description;

    /// Makes the running chain.
    fn start<P: Pipeline<Head = Self>, W: Terminal<P::Out>>(self, body: Body<P, W>) -> Box<dyn Chain>;
}

/// What the graph says about a head.
pub struct Description {
    pub(crate) head: wit::Head,
    pub(crate) inputs: Vec<ChainInput>,
    /// the columns of the input that can be passed on to outputs, if the head allows it
    pub(crate) passable: Option<Vec<Column>>,
    /// whether what it pushes has event times
    pub(crate) timed: bool,
    /// what its states are
    pub(crate) state_schema: Option<String>,
}

/// Where the rows of an input come from.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub(crate) from: Vec<Endpoint>,
    pub(crate) partitioning: Partitioning,
    /// whether the rows have event times
    pub(crate) timed: bool,
}

impl Upstream {
    /// The input of a chain that reads these columns.
    pub(crate) fn input(&self, columns: Vec<u32>) -> ChainInput {
        ChainInput { from: self.from.clone(), partitioning: self.partitioning, key: vec![], columns, times: false }
    }
}

/// What follows the head of a chain: the pipeline, what becomes of its rows, and the state of the call.
pub struct Body<P: Pipeline, W> {
    pipeline: P,
    terminal: W,
    pub(crate) cx: Context,
}

impl<P: Pipeline, W: Terminal<P::Out>> Body<P, W> {
    pub(crate) fn new(pipeline: P, terminal: W, cx: Context) -> Self {
        Self { pipeline, terminal, cx }
    }

    /// A call with about `rows` rows begins.
    pub(crate) fn begin(&mut self, rows: usize, watermark: i64, now: i64) {
        self.terminal.reserve(rows, P::SHAPE);
        self.cx.watermark = watermark;
        self.cx.now = now;
        self.cx.progress = None;
        self.cx.by_clock = false;
        self.cx.late = 0;
    }

    /// Makes room for what comes of `items` more items.
    pub(crate) fn reserve(&mut self, items: usize) {
        self.terminal.reserve(items, P::SHAPE);
    }

    /// Pushes an item of the head through the pipeline.
    #[inline(always)]
    pub(crate) fn push(&mut self, item: <P::Head as Head>::Item) {
        let Self { pipeline, terminal, cx } = self;
        pipeline.push(item, cx, &mut |row, cx| terminal.write(row, cx.origin, cx.time, P::SHAPE));
    }

    /// Pushes items on together, each of which comes with its origin; `false` = they have to be pushed one by one.
    pub(crate) fn push_all(&mut self, items: &[(u32, <P::Head as Head>::Item)]) -> bool {
        let rows = if P::SHAPE.timeless { P::unchanged(items) } else { None };
        rows.inspect(|rows| self.terminal.write_all(rows, P::SHAPE)).is_some()
    }

    /// What the call has brought forth; `input` is the number of rows, where they came in as rows.
    pub(crate) fn finish(&mut self, input: Option<usize>) -> Result<Reply, String> {
        self.pipeline.finish(&mut self.cx);
        let mut outputs: Vec<_> = self.terminal.finish(input, P::SHAPE)?.into_iter().collect();
        self.cx.finish_sides(&mut outputs)?;
        match self.cx.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(Reply { outputs, timers: vec![], progress: self.cx.progress, late: self.cx.late }),
        }
    }
}
