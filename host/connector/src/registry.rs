//! The table of connectors.

use std::io::Write;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use parking_lot::Mutex;

use crate::{Error, Files, Sink, Source, blackhole, file, kafka, nexmark, postgres, stdin, stdout};

/// What a job gives to all its connectors.
#[derive(Clone)]
pub struct Context {
    /// the files that the job may touch: whatever path an option names is opened through them, and in no other way
    pub files: Files,
    /// where the job's standard output goes (a terminal, a pipe, a server's ring buffer)
    pub stdout: Arc<Mutex<dyn Write + Send>>,
    /// the name that the job spec binds, for messages
    pub name: String,
    /// which attempt to run which job it is
    pub attempt: Attempt,
}

/// One attempt to run a job. What a sink prepares bears its name, so that a later attempt knows what an older one left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// the job
    pub job: String,
    /// greater than that of any attempt before. A job without checkpoints has no log that numbers its attempts: there it is the time in milliseconds.
    pub generation: u64,
    /// whether it goes on from a checkpoint, so that what older attempts have written before that is not written again
    pub continues: bool,
}

/// A stream that a job wants of a source.
#[derive(Clone, Debug)]
pub struct Stream {
    /// the connector's name for it; empty = its only one
    pub name: String,
    /// the columns, matched by name
    pub schema: SchemaRef,
}

/// One system to read from or write to.
pub trait Connector: Send + Sync {
    /// What job specs call it: `connector = "file"`.
    fn name(&self) -> &'static str;

    /// Binds a source.
    ///
    /// # Errors
    /// If it cannot be a source, an option is unknown, missing or wrong, or a column cannot be read as its type.
    fn source(&self, options: &toml::Table, streams: &[Stream], context: &Context) -> Result<Box<dyn Source>, Error>;

    /// Binds a sink.
    ///
    /// # Errors
    /// If it cannot be a sink, an option is unknown, missing or wrong, or a column cannot be written.
    fn sink(&self, options: &toml::Table, schema: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error>;
}

/// All connectors, by name.
pub fn connectors() -> &'static [&'static dyn Connector] {
    &[&file::File, &kafka::Kafka, &postgres::Postgres, &stdin::Stdin, &stdout::Stdout, &nexmark::Nexmark, &blackhole::Blackhole]
}

/// The connector of this name.
///
/// # Errors
/// If there is none; the message names those that there are.
pub fn find(name: &str) -> Result<&'static dyn Connector, Error> {
    connectors().iter().copied().find(|c| c.name() == name).ok_or_else(|| {
        let names: Vec<_> = connectors().iter().map(|c| c.name()).collect();
        Error::options(format!("there is no connector \"{name}\"; there are: {}", names.join(", ")))
    })
}
