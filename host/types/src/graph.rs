//! The dataflow graph that a component describes. `wit/definition.wit` says what each part means; these are the same
//! parts with Arrow schemas, after they were checked.

use arrow_schema::SchemaRef;

/// What `describe` returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// the job's name as the component gives it
    pub name: String,
    /// the streams that the job reads
    pub sources: Vec<Source>,
    /// what the guest runs, each in one call
    pub chains: Vec<Chain>,
    /// the streams that the job writes
    pub sinks: Vec<Sink>,
}

/// A stream that the job reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// the name that the job spec binds
    pub name: String,
    /// the connector's stream; empty = its only one
    pub stream: String,
    /// the columns that the job wants, by name
    pub schema: SchemaRef,
}

/// A stream that the job writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Sink {
    /// the name that the job spec binds
    pub name: String,
    /// what flows into it (several: a union)
    pub from: Vec<Endpoint>,
}

/// Where rows come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// index into [`Graph::sources`]
    Source(u32),
    /// an output port of a chain
    Chain {
        /// index into [`Graph::chains`]
        chain: u32,
        /// index into [`Chain::outputs`]
        port: u32,
    },
}

/// How rows are dealt out to subtasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioning {
    /// subtask i to subtask i
    Forward,
    /// round robin, a batch at a time
    Rebalance,
    /// every row to every subtask
    Broadcast,
    /// by key group
    Hash,
}

/// An input of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// the endpoints that make the input (several: a union)
    pub from: Vec<Endpoint>,
    /// how rows get here
    pub partitioning: Partitioning,
    /// key columns of the incoming schema; empty = no key
    pub key: Vec<usize>,
    /// columns of the incoming schema that the guest reads
    pub columns: Vec<usize>,
    /// whether the guest reads event times
    pub times: bool,
}

/// Where a column of an output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnOrigin {
    /// from the guest
    Computed,
    /// from that column of input 0, at the row of origin
    Passed(usize),
}

/// An output port of a chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// empty = the main output
    pub name: String,
    /// its rows
    pub schema: SchemaRef,
    /// one for each field of `schema`
    pub columns: Vec<ColumnOrigin>,
}

/// An operator as the user wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorInfo {
    /// stable, unique in the graph
    pub id: String,
    /// `map`, `window`, …
    pub kind: String,
}

/// How watermarks follow from event times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watermarks {
    /// greatest event time - this many ms - 1
    Bounded(u64),
    /// the guest says
    Generated,
}

/// The chain assigns event times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventTimeAssigner {
    /// the column of output 0 with the event time; none = the guest returns times
    pub column: Option<usize>,
    /// how watermarks follow
    pub watermarks: Watermarks,
}

/// Which clock a window or a timer follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeDomain {
    /// watermarks
    Event,
    /// the clock
    Processing,
}

/// How rows are put into windows; times and sizes in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assigner {
    /// windows side by side
    Tumbling {
        /// length
        size_ms: i64,
        /// shift of the grid
        offset_ms: i64,
    },
    /// windows that overlap
    Sliding {
        /// length
        size_ms: i64,
        /// distance of the starts
        slide_ms: i64,
        /// shift of the grid
        offset_ms: i64,
    },
    /// until no row came for `gap_ms`
    Session {
        /// the gap
        gap_ms: i64,
    },
    /// one window without end
    Global,
}

/// When a window's result is emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// when time has passed the window's end
    pub on_time: bool,
    /// every so many ms of processing time, if it has changed
    pub early_every_ms: Option<u64>,
    /// each time a key's window has got this many rows
    pub every_count: Option<u64>,
    /// clear the state at each emission
    pub purging: bool,
}

/// A window operator at the head of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// how rows are put into windows
    pub assigner: Assigner,
    /// which clock
    pub domain: TimeDomain,
    /// when to emit
    pub trigger: Trigger,
    /// how long late rows still count
    pub allowed_lateness_ms: i64,
    /// where later rows go: the first output port of as many as there are inputs
    pub late_port: Option<usize>,
    /// whether slots can be merged
    pub mergeable: bool,
}

/// What starts a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// stateless guest code
    Transform,
    /// no guest code
    Relay,
    /// keyed state and timers
    Process,
    /// accumulators of windows
    Window(Window),
}

/// Operators that run in one guest call.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// in the order in which a row passes them
    pub operators: Vec<OperatorInfo>,
    /// what starts it
    pub head: Head,
    /// its inputs
    pub inputs: Vec<Input>,
    /// its output ports
    pub outputs: Vec<Output>,
    /// whether and how it assigns event times
    pub event_time: Option<EventTimeAssigner>,
    /// none = the job's
    pub parallelism: Option<u16>,
    /// what the bytes of its states are, in words that the component understands; none = it does not say
    pub state_schema: Option<String>,
}

impl Chain {
    /// The input whose late rows go to an output port, if any do.
    pub fn late_input(&self, port: usize) -> Option<usize> {
        let Head::Window(window) = self.head else { return None };
        port.checked_sub(window.late_port?).filter(|&input| input < self.inputs.len())
    }
}

impl Graph {
    /// The schema of an endpoint.
    ///
    /// # Panics
    /// If the endpoint is not of this graph; a checked graph has no such endpoint.
    pub fn schema(&self, endpoint: Endpoint) -> &SchemaRef {
        match endpoint {
            Endpoint::Source(s) => &self.sources[s as usize].schema,
            Endpoint::Chain { chain, port } => &self.chains[chain as usize].outputs[port as usize].schema,
        }
    }

    /// The schema of a chain's input.
    pub fn input_schema(&self, chain: usize, input: usize) -> &SchemaRef {
        self.schema(self.chains[chain].inputs[input].from[0])
    }
}
