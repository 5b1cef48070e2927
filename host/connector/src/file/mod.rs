//! The connector `file`: files of JSON lines, CSV or Parquet, compressed or not.
//!
//! As a source it reads one file or all files that a pattern matches, each as a split of its own. As a sink it writes either one file, which
//! all subtasks share, or a folder of parts, which appear when they are committed.

mod layout;
mod parts;
mod sink;
mod source;
mod write_options;

#[cfg(test)]
mod tests;

use std::path::Path;

use arrow_schema::SchemaRef;

use self::write_options::WriteOptions;
use crate::format::{FormatName, ReadOptions};
use crate::options;
use crate::registry::Stream;
use crate::{Connector, Context, Error, Sink, Source};

/// The connector `file`.
pub struct File;

impl Connector for File {
    fn name(&self) -> &'static str {
        "file"
    }

    fn source(&self, options: &toml::Table, streams: &[Stream], context: &Context) -> Result<Box<dyn Source>, Error> {
        let options: ReadOptions = options::parse(options, context)?;
        let stream = options::only_stream(streams, context)?;
        let Some(path) = &options.path else {
            return Err(Error::options(format!("options of \"{}\": the option path is missing", context.name)));
        };
        let format = format_of(options.format, Path::new(path))?;
        let text = options.text_format(format)?;
        text.iter().try_for_each(|text| text.check(&stream.schema))?;
        Ok(Box::new(source::FileSet {
            files: context.files.clone(),
            path: path.clone(),
            compression: options.compression,
            schema: stream.schema.clone(),
            policy: options.policy(context)?,
            text,
        }))
    }

    fn sink(&self, options: &toml::Table, schema: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error> {
        let options: WriteOptions = options::parse(options, context)?;
        options.sink(schema, context)
    }
}

fn format_of(option: Option<FormatName>, path: &Path) -> Result<FormatName, Error> {
    option.or_else(|| FormatName::of(path)).ok_or_else(|| {
        Error::options(format!(
            "the format of {} is not known by its name; set format = \"jsonl\", \"csv\" or \"parquet\"",
            path.display()
        ))
    })
}
