//! From a job spec and the graphs of its components to the tasks that run.
//!
//! ```text
//! JobSpec  ─┐
//!           ├─ plan ─▶ JobPlan: vertices (tasks, times parallelism) and the edges (exchanges) between them
//! Graph(s) ─┘
//! ```
//!
//! Everything here is a pure function of its inputs: no files, no clock, no runtime. In reading order: [`spec`] and [`recovery`] (what the user writes),
//! [`job`] and [`dead_letters`] (what runs), [`planner`] (from one to the other), [`explain`] (the plan as text). [`table`] and [`wording`] are how what the user writes is read, and how mistakes are told.

pub mod dead_letters;
pub mod error;
pub mod explain;
pub mod job;
pub mod planner;
pub mod recovery;
pub mod spec;
pub mod table;
pub mod units;
pub mod wording;

pub use error::Error;
pub use job::JobPlan;
pub use planner::plan;
pub use spec::JobSpec;
