//! The table of connectors.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use parking_lot::Mutex;
use weir_plan::JobSpec;
use weir_plan::spec::Binding;

use crate::files::Identity;
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

/// Refuses a job that would destroy data by itself: where two of its options name one file to write to, or one names a file that the job reads, which would be
/// empty before it is read. It counts what paths lead to, so that neither another spelling nor a link hides it. (Sinks may share a folder: their parts have
/// their names.) To be asked before anything is opened for writing.
///
/// # Errors
/// If there are two such options; the message names both, and the path.
pub fn keep_apart(spec: &JobSpec, files: &Files) -> Result<(), Error> {
    let rejects =
        spec.sources.iter().filter_map(|(name, binding)| Some(("sources", name, "rejects_path", text(binding, "rejects_path")?)));
    let sinks = spec.sinks.iter().filter(|(_, binding)| is_file(binding));
    let sinks = sinks.filter_map(|(name, binding)| Some(("sinks", name, "path", text(binding, "path")?)));
    let mut written: Vec<(String, &str, Identity)> = vec![];
    for (table, name, option, path) in rejects.chain(sinks) {
        let key = format!("{table}.{name}.{option}");
        let Some(identity) = files.identity(Path::new(path)) else { continue };
        if let Some((other, ..)) = written.iter().find(|(.., other)| other.is(&identity)) {
            return Err(Error::options(format!(
                "{other} and {key} would both write to {}; give each of them a place of its own",
                files.shown(Path::new(path))
            )));
        }
        written.push((key, path, identity));
    }
    for (name, binding) in spec.sources.iter().filter(|(_, binding)| is_file(binding) && !written.is_empty()) {
        // What cannot be listed, the source says better.
        let read = text(binding, "path").map_or_else(Vec::new, |path| files.list(path).unwrap_or_default());
        for identity in read.iter().filter_map(|path| files.identity(path)) {
            if let Some((key, path, _)) = written.iter().find(|(.., written)| written.is(&identity)) {
                return Err(Error::options(format!(
                    "{key} would overwrite {}, which sources.{name}.path reads; write to a file that the job does not read",
                    files.shown(Path::new(path))
                )));
            }
        }
    }
    Ok(())
}

/// Whether a binding's `path` is one of files: other connectors may mean something else by these.
fn is_file(binding: &Binding) -> bool {
    binding.connector == file::File.name()
}

/// An option that is text. One that is not is for its connector to refuse.
fn text<'a>(binding: &'a Binding, option: &str) -> Option<&'a str> {
    binding.options.get(option)?.as_str()
}
