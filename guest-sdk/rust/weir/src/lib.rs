//! The Rust SDK of Weir: streaming jobs as WebAssembly components.

#[cfg(test)]
extern crate self as weir;

pub mod bindings;
mod chain;
mod context;
mod head;
mod job;
mod log;
mod output;
mod pass;
mod text;
mod time;
pub mod value;

mod aggregate;
mod distinct;
mod event_time;
mod key;
mod keyed;
mod pipeline;
mod process;
mod projection;
mod record;
mod rows;
mod side;
mod state;
mod stream;
mod window;
mod windowed;

#[doc(hidden)]
#[cfg(target_arch = "wasm32")]
pub mod guest;

pub use weir_macros::{Record, job};

pub use aggregate::{Aggregate, Avg, Count, Distinct, First, Last, Max, Min, Number, Select, Sum};
pub use event_time::{WatermarkGenerator, Watermarks};
pub use job::Job;
pub use key::{Key, KeyPart, KeySelector};
pub use keyed::{Connected, KeyedStream};
pub use log::{Level, log};
pub use pass::Pass;
pub use pipeline::Pipeline;
pub use process::{BroadcastProcess, CoProcess, KeyedContext, Process, Timer};
pub use record::{Field, Record, Row};
pub use side::Tag;
pub use state::{State, Stored, StoredRows};
pub use stream::Stream;
pub use text::{Bytes, Str};
pub use time::{EventTime, TimeDomain, Window, days, hours, millis, minutes, secs};
pub use window::{Assigner, CountWindow, Global, Session, Sliding, Trigger, Tumbling};
pub use windowed::{CoWindowed, Windowed};
