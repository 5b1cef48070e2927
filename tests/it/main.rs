//! Tests of Weir as its users meet it: the built command in processes of its own, jobs of the examples and of `tests/guests`.
//!
//! The command and the guests have to be built before (`make test` does); [`run`] has what the tests share.
#![allow(missing_docs, clippy::unwrap_used)]

mod api;
mod bench;
mod cli;
mod errors;
mod file;
mod flights;
mod hostile;
mod mixed;
mod nexmark;
mod operators;
mod recovery;
mod resume;
mod run;
mod savepoints;
mod server;
mod tidy;
mod upgrades;
mod wasi;
