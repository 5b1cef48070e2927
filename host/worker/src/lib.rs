//! Slots and tasks: deploys, runs and closes the subtasks of jobs.
//!
//! A [`Worker`] has slots. A slot holds one subtask of each vertex of a job, so a job needs as many slots as its parallelism. Each subtask is one
//! [`task`]: an asynchronous loop that takes batches from a source or a gate, passes them through its nodes, and sends the results on. Tasks and the
//! coordinator talk by messages: [`deploy::Deployment`] and [`Command`](job::Command) in, [`Event`](job::Event) out.

pub mod bindings;
mod database;
pub mod deploy;
pub mod disk;
pub mod error;
mod fnv;
pub mod in_flight;
pub mod job;
pub mod limits;
pub mod metrics;
pub mod restore;
pub mod snapshot;
pub mod task;
pub mod uploads;

pub use deploy::{Deployment, Worker, panicked};
pub use disk::{StateMemory, StateOptions};
pub use error::{Failure, FailureKind};
pub use job::{Command, Event, JobHandle, Outcome};
pub use limits::limits;
pub use restore::Restore;
pub use snapshot::Effort;
pub use uploads::{Begun, UnderWay, Uploads};
pub use weir_operator::Culprit;
