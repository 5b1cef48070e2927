//! Owns components and jobs: stores the ones, schedules and ends the others.
//!
//! [`Options`] make a [`Service`] and its [`Handle`]. The service is one loop that owns every job's record; it decides by
//! [`weir_protocol::job`] and does nothing that takes long: what takes long (compiling, describing, opening tasks) runs in the
//! caller's task or in the job's own, and reports back by messages. Handles are cheap to clone.
//!
//! `weir run` needs no service, for it has one job: it [`prepare`]s the job and starts its [`execution`] itself.
//!
//! In reading order: [`prepare`], [`component`] (the store), `roster` (jobs that outlive the server's process), [`ring`] (a job's last lines), [`execution`] (a job's
//! attempts), [`savepoint`], [`diff`] (what becomes of state), [`job`], [`service`], [`handle`].

pub mod component;
pub mod diff;
pub mod error;
pub mod execution;
pub mod files;
pub mod handle;
pub mod job;
pub mod limits;
pub mod options;
pub mod prepare;
pub mod ring;
mod roster;
pub mod savepoint;
mod secrets;
pub mod service;
pub mod tenant;

pub use error::{Error, ErrorKind};
pub use execution::Execution;
pub use handle::Handle;
pub use job::{JobId, JobSummary, JobView};
pub use options::Options;
pub use prepare::{Prepared, prepare};
pub use service::Service;
pub use tenant::TenantId;
