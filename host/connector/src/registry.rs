//! The table of connectors.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_schema::{Schema, SchemaRef};
use parking_lot::Mutex;
use weir_plan::JobSpec;
use weir_plan::job::StreamPlan;
use weir_plan::spec::Binding;

use crate::error::ErrorKind;
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

impl Context {
    /// A context with these files, and nothing else: what is put out goes nowhere, and it is of no attempt to run a job.
    pub fn new(name: impl Into<String>, files: Files) -> Self {
        Self { files, stdout: Arc::new(Mutex::new(std::io::sink())), name: name.into(), attempt: Attempt::default() }
    }

    /// The same, without any file at hand.
    fn out_of_reach(&self) -> Self {
        Self { files: self.files.out_of_reach(), ..self.clone() }
    }
}

/// One attempt to run a job. What a sink prepares bears its name, so that a later attempt knows what an older one left.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempt {
    /// the job
    pub job: String,
    /// What tells the log that numbers its attempts from all others: another job of the name, or the same one with another storage, has its own numbers. Empty
    /// where there is none, since the job has no checkpoints.
    pub log: String,
    /// greater than that of any attempt before of the same log. Without one, it is the time in milliseconds.
    pub generation: u64,
    /// whether it goes on from a checkpoint, so that what older attempts have written before that is not written again
    pub continues: bool,
}

impl Attempt {
    /// Who owns what a sink leaves outside of the job, `JOB-LOG`: attempts that give the same owner know what they left by their generations, and touch nothing of
    /// others.
    pub fn owner(&self) -> String {
        if self.log.is_empty() { self.job.clone() } else { format!("{}-{}", self.job, self.log) }
    }
}

/// A stream that a job wants of a source.
#[derive(Clone, Debug)]
pub struct Stream {
    /// the connector's name for it; empty = its only one
    pub name: String,
    /// the columns, matched by name
    pub schema: SchemaRef,
}

/// What a plan wants of a stream: the columns that somebody reads.
impl From<&StreamPlan> for Stream {
    fn from(plan: &StreamPlan) -> Self {
        let columns = plan.schema.fields().iter().zip(&plan.needed);
        let needed: Vec<_> = columns.filter(|(_, needed)| **needed).map(|(column, _)| Arc::clone(column)).collect();
        Self { name: plan.name.clone(), schema: Arc::new(Schema::new(needed)) }
    }
}

/// One system to read from or write to.
pub trait Connector: Send + Sync {
    /// What job specs call it: `connector = "file"`.
    fn name(&self) -> &'static str;

    /// Binds a source. That looks at options and columns, and connects to nothing; it may read files that options name, by the context's.
    ///
    /// # Errors
    /// If it cannot be a source, an option is unknown, missing or wrong, or a column cannot be read as its type; of kind `Io` if a file cannot be read.
    fn source(&self, options: &toml::Table, streams: &[Stream], context: &Context) -> Result<Box<dyn Source>, Error>;

    /// Binds a sink, which does no more than to bind a source.
    ///
    /// # Errors
    /// If it cannot be a sink, an option is unknown, missing or wrong, or a column cannot be written; of kind `Io` if a file cannot be read.
    fn sink(&self, options: &toml::Table, schema: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error>;

    /// Checks what a source would be bound to, as far as that goes without any file.
    ///
    /// # Errors
    /// As `source`, but for those of files.
    fn check_source(&self, options: &toml::Table, streams: &[Stream], context: &Context) -> Result<(), Error> {
        as_far_as_it_goes(self.source(options, streams, &context.out_of_reach()))
    }

    /// Checks what a sink would be bound to, as far as that goes without any file.
    ///
    /// # Errors
    /// As `sink`, but for those of files.
    fn check_sink(&self, options: &toml::Table, schema: &SchemaRef, context: &Context) -> Result<(), Error> {
        as_far_as_it_goes(self.sink(options, schema, &context.out_of_reach()))
    }
}

/// What a binding without files says: one that wants to read a file has come as far as it can.
fn as_far_as_it_goes<T: ?Sized>(bound: Result<Box<T>, Error>) -> Result<(), Error> {
    match bound {
        Err(error) if error.kind != ErrorKind::Io => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
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

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field};

    use super::*;
    use crate::conformance;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("id", DataType::UInt64, false)]))
    }

    #[test]
    fn options_conform() {
        // Goal: every connector that can be read from, or written to, has its options checked; what they name need not be there, and is not touched.
        let folder = tempfile::tempdir().unwrap();
        let attempt = Attempt { job: "job".into(), ..Attempt::default() };
        let context = Context { attempt, ..Context::new("bound", Files::free(folder.path())) };
        let brokers = "brokers = \"127.0.0.1:1\"\ntopic = \"t\"";
        let tls = "properties = { \"security.protocol\" = \"ssl\", \"ssl.ca.location\" = \"none.pem\" }";
        for (connector, options) in [
            ("file", "path = \"none/*.jsonl\"\non_malformed = \"rejects\"\nrejects_path = \"none/rejects.jsonl\"".to_owned()),
            ("stdin", String::new()),
            ("nexmark", "rate = 10".to_owned()),
            ("kafka", brokers.to_owned()),
            ("kafka", format!("{brokers}\nformat = \"avro\"\nschema_path = \"none.avsc\"\n{tls}")),
        ] {
            let stream = Stream { name: "bid".into(), schema: Arc::new(Schema::empty()) };
            let streams = [stream];
            conformance::options(&|options| find(connector)?.check_source(options, &streams, &context), &options);
        }
        for (connector, options) in [
            ("file", "path = \"none/rows.csv\"".to_owned()),
            ("file", "folder = \"none\"\nformat = \"parquet\"".to_owned()),
            ("file", "url = \"s3://bucket/none\"\nformat = \"jsonl\"\ns3 = { region = \"eu-west-1\" }".to_owned()),
            ("stdout", String::new()),
            ("blackhole", String::new()),
            ("kafka", brokers.to_owned()),
            ("kafka", format!("{brokers}\nformat = \"avro\"\nschema_path = \"none.avsc\"\n{tls}")),
            ("postgres", "url = \"postgres://weir@127.0.0.1:1/x\"\ntable = \"t\"\nsslrootcert = \"none.pem\"".to_owned()),
        ] {
            conformance::options(&|options| find(connector)?.check_sink(options, &schema(), &context), &options);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn wrong_sides_are_refused() {
        // Goal: a sink that is read from, and a source that is written to, are refused by a check, too; so is a column that cannot be.
        let context = Context::new("bound", Files::free("."));
        let (none, streams) = (toml::Table::new(), [Stream { name: "bid".into(), schema: schema() }]);
        let error = stdout::Stdout.check_source(&none, &streams, &context).unwrap_err();
        assert!(error.message.contains("not read from"), "{error}");
        let error = nexmark::Nexmark.check_sink(&none, &schema(), &context).unwrap_err();
        assert!(error.message.contains("not written to"), "{error}");
        let error = nexmark::Nexmark.check_source(&none, &streams, &context).unwrap_err();
        assert!(error.message.contains("no column \"id\""), "{error}");
    }

    #[test]
    fn unreadable_columns_are_refused() {
        // Goal: a check refuses a column that text cannot be read as, and one that csv without a header does not have; neither needs an input.
        let context = Context::new("bound", Files::free("."));
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
        for (data_type, options, says) in [
            (list.clone(), "format = \"csv\"", "csv has no lists and records, as the column \"id\" is"),
            (DataType::Date32, "format = \"jsonl\"", "the column \"id\" is of type Date32, which text has not"),
            (DataType::UInt64, "format = \"csv\"\ncolumns = [\"number\"]", "there is no column \"id\"; there are: number"),
        ] {
            let schema = Arc::new(Schema::new(vec![Field::new("id", data_type, false)]));
            let streams = [Stream { name: String::new(), schema }];
            let of_file = format!("path = \"none\"\n{options}");
            let connectors: [(&dyn Connector, &str); 2] = [(&file::File, &of_file), (&stdin::Stdin, options)];
            for (connector, options) in connectors {
                let error = connector.check_source(&options.parse().unwrap(), &streams, &context).unwrap_err();
                assert!(error.message.contains(says), "{}: {error}", connector.name());
            }
        }
        let schema = Arc::new(Schema::new(vec![Field::new("id", list, false)]));
        let streams = [Stream { name: String::new(), schema }];
        file::File.check_source(&"path = \"none.jsonl\"".parse().unwrap(), &streams, &context).unwrap();
    }
}
