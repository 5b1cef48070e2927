//! The records of `wit/*.wit` as they cross the boundary.
//!
//! These are written by hand instead of generated, so that what goes in is borrowed: a call copies Arrow's buffers straight
//! into the guest's memory. What comes out is owned, and nothing of it is trusted before [`crate::graph`] or
//! [`crate::reply`] has looked at it.

use wasmtime::component::{ComponentType, Lift, Lower};

/// The world that components are made for.
pub const WORLD: &str = "weir:dataflow/job@0.1.0";
/// The interface that the host offers.
pub(crate) const HOST: &str = "weir:dataflow/host@0.1.0";
/// The interface with the types that the others use; it has no functions.
pub(crate) const TYPES: &str = "weir:dataflow/types@0.1.0";
/// The interface with `describe`.
pub(crate) const DEFINITION: &str = "weir:dataflow/definition@0.1.0";
/// The interface with the calls that carry rows.
pub(crate) const CHAINS: &str = "weir:dataflow/chains@0.1.0";

// ---- types.wit ----

#[derive(ComponentType, Lift, Clone, Copy, Debug, PartialEq, Eq)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them")]
pub(crate) enum DataType {
    #[component(name = "boolean")]
    Boolean,
    #[component(name = "int8")]
    Int8,
    #[component(name = "int16")]
    Int16,
    #[component(name = "int32")]
    Int32,
    #[component(name = "int64")]
    Int64,
    #[component(name = "uint8")]
    Uint8,
    #[component(name = "uint16")]
    Uint16,
    #[component(name = "uint32")]
    Uint32,
    #[component(name = "uint64")]
    Uint64,
    #[component(name = "float32")]
    Float32,
    #[component(name = "float64")]
    Float64,
    #[component(name = "utf8")]
    Utf8,
    #[component(name = "binary")]
    Binary,
    #[component(name = "event-time")]
    EventTime,
    #[component(name = "sequence")]
    Sequence,
    #[component(name = "structure")]
    Structure,
}

#[derive(ComponentType, Lift, Clone, Debug, PartialEq, Eq)]
#[component(record)]
pub(crate) struct Field {
    pub name: String,
    #[component(name = "data-type")]
    pub data_type: DataType,
    pub nullable: bool,
    pub children: u32,
}

/// A batch on its way in.
#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct BatchIn<'a> {
    pub rows: u32,
    pub buffers: &'a [&'a [u8]],
}

/// A batch on its way out.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct BatchOut {
    pub rows: u32,
    pub buffers: Vec<Vec<u8>>,
}

// ---- definition.wit ----

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Argument<'a> {
    pub name: &'a str,
    pub value: &'a str,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Source {
    pub name: String,
    pub stream: String,
    pub schema: Vec<Field>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Sink {
    pub name: String,
    pub from: Vec<Endpoint>,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(record)]
pub(crate) struct ChainPort {
    pub chain: u32,
    pub port: u32,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(variant)]
pub(crate) enum Endpoint {
    #[component(name = "source")]
    Source(u32),
    #[component(name = "chain")]
    Chain(ChainPort),
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them")]
pub(crate) enum Partitioning {
    #[component(name = "forward")]
    Forward,
    #[component(name = "rebalance")]
    Rebalance,
    #[component(name = "broadcast")]
    Broadcast,
    #[component(name = "hash")]
    Hash,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct ChainInput {
    pub from: Vec<Endpoint>,
    pub partitioning: Partitioning,
    pub key: Vec<u32>,
    pub columns: Vec<u32>,
    pub times: bool,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(variant)]
pub(crate) enum ColumnOrigin {
    #[component(name = "computed")]
    Computed,
    #[component(name = "passed")]
    Passed(u32),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct ChainOutput {
    pub name: String,
    pub schema: Vec<Field>,
    pub columns: Vec<ColumnOrigin>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct OperatorInfo {
    pub id: String,
    pub kind: String,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(variant)]
pub(crate) enum Watermarks {
    #[component(name = "bounded")]
    Bounded(u64),
    #[component(name = "generated")]
    Generated,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(record)]
pub(crate) struct EventTimeAssigner {
    pub column: Option<u32>,
    pub watermarks: Watermarks,
}

#[derive(ComponentType, Lift, Lower, Clone, Copy)]
#[component(enum)]
#[repr(u8)]
pub(crate) enum TimeDomain {
    #[component(name = "event")]
    Event,
    #[component(name = "processing")]
    Processing,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(record)]
pub(crate) struct Sliding {
    #[component(name = "size-ms")]
    pub size_ms: u64,
    #[component(name = "slide-ms")]
    pub slide_ms: u64,
    #[component(name = "offset-ms")]
    pub offset_ms: i64,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(record)]
pub(crate) struct Tumbling {
    #[component(name = "size-ms")]
    pub size_ms: u64,
    #[component(name = "offset-ms")]
    pub offset_ms: i64,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(variant)]
pub(crate) enum Assigner {
    #[component(name = "tumbling")]
    Tumbling(Tumbling),
    #[component(name = "sliding")]
    Sliding(Sliding),
    #[component(name = "session")]
    Session(u64),
    #[component(name = "global")]
    Global,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(record)]
pub(crate) struct Trigger {
    #[component(name = "on-time")]
    pub on_time: bool,
    #[component(name = "early-every-ms")]
    pub early_every_ms: Option<u64>,
    #[component(name = "every-count")]
    pub every_count: Option<u64>,
    pub purging: bool,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(record)]
pub(crate) struct WindowHead {
    pub assigner: Assigner,
    pub domain: TimeDomain,
    pub trigger: Trigger,
    #[component(name = "allowed-lateness-ms")]
    pub allowed_lateness_ms: u64,
    #[component(name = "late-port")]
    pub late_port: Option<u32>,
    pub mergeable: bool,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(variant)]
pub(crate) enum Head {
    #[component(name = "transform")]
    Transform,
    #[component(name = "relay")]
    Relay,
    #[component(name = "process")]
    Process,
    #[component(name = "window")]
    Window(WindowHead),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Chain {
    pub operators: Vec<OperatorInfo>,
    pub head: Head,
    pub inputs: Vec<ChainInput>,
    pub outputs: Vec<ChainOutput>,
    #[component(name = "event-time")]
    pub event_time: Option<EventTimeAssigner>,
    pub parallelism: Option<u32>,
    #[component(name = "state-schema")]
    pub state_schema: Option<String>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Graph {
    pub name: String,
    pub sources: Vec<Source>,
    pub chains: Vec<Chain>,
    pub sinks: Vec<Sink>,
}

// ---- chains.wit ----

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Subtask {
    pub index: u32,
    pub parallelism: u32,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Input<'a> {
    pub port: u32,
    pub split: u32,
    pub rows: BatchIn<'a>,
    pub times: &'a [u8],
    pub slots: &'a [u8],
    pub watermark: i64,
    pub now: i64,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Origins {
    #[component(name = "identity")]
    Identity,
    #[component(name = "picked")]
    Picked(Vec<u8>),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Output {
    pub port: u32,
    pub origins: Origins,
    pub times: Vec<u8>,
    pub rows: BatchOut,
}

#[derive(ComponentType, Lift, Clone, Copy)]
#[component(record)]
pub(crate) struct Timer {
    pub slot: u32,
    pub domain: TimeDomain,
    pub time: i64,
    pub delete: bool,
    pub cleanup: bool,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct Reply {
    pub outputs: Vec<Output>,
    pub timers: Vec<Timer>,
    pub progress: Option<i64>,
    pub late: u32,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct Panes<'a> {
    pub groups: &'a [u8],
    pub slots: &'a [u8],
    pub starts: &'a [u8],
    pub ends: &'a [u8],
    pub watermark: i64,
    pub now: i64,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct DueTimers<'a> {
    pub slots: &'a [u8],
    pub times: &'a [u8],
    pub domain: TimeDomain,
    pub cleanup: bool,
    pub watermark: i64,
    pub now: i64,
}

/// Exported state on its way out.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct StatesOut {
    pub offsets: Vec<u8>,
    pub bytes: Vec<u8>,
    pub expiries: Option<ExpiriesOut>,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct ExpiriesOut {
    pub clocks: Vec<u8>,
    pub cleanups: Vec<u8>,
    pub ends: Vec<u8>,
}

/// Exported state on its way back in.
#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct StatesIn<'a> {
    pub offsets: &'a [u8],
    pub bytes: &'a [u8],
    /// of states that go in there are none
    pub expiries: Option<ExpiriesIn<'a>>,
}

#[derive(ComponentType, Lower, Clone, Copy)]
#[component(record)]
pub(crate) struct ExpiriesIn<'a> {
    pub clocks: &'a [u8],
    pub cleanups: &'a [u8],
    pub ends: &'a [u8],
}
