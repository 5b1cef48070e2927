//! The connector `file`: files of JSON lines, CSV or Parquet, compressed or not.
//!
//! As a source it reads one file or all files that a pattern matches, each as a split of its own. As a sink it writes one file, which
//! all subtasks share.

mod sink;
mod source;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use arrow_schema::SchemaRef;
use serde::Deserialize;

use crate::format::compression::Compression;
use crate::format::encoder::Encoder;
use crate::format::{FormatName, ReadOptions, delimiter, parquet};
use crate::options;
use crate::registry::Stream;
use crate::{Connector, Context, Error, Sink, Source};

/// The connector `file`.
pub struct File;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteOptions {
    /// the file
    path: PathBuf,
    /// the format; none = as the extension says
    format: Option<FormatName>,
    /// the compression; none = as the extension says
    compression: Option<Compression>,
    /// csv: the character between fields
    delimiter: Option<char>,
    /// csv: whether the first line names the columns
    header: Option<bool>,
    /// csv: what stands for no value
    null: Option<String>,
}

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
        let format = format_of(options.format, &options.path)?;
        if format != FormatName::Csv && (options.delimiter.is_some() || options.header.is_some() || options.null.is_some()) {
            return Err(Error::options("the options delimiter, header and null are for the format csv only"));
        }
        let encoder = match format {
            FormatName::Jsonl => Some(Encoder::jsonl(schema)?),
            FormatName::Csv => {
                let null = options.null.clone().unwrap_or_default();
                Some(Encoder::csv(schema, delimiter(options.delimiter)?, null, options.header.unwrap_or(true))?)
            }
            FormatName::Parquet if options.compression.is_some() => {
                return Err(Error::options("parquet files compress their own columns; they have no option compression"));
            }
            FormatName::Parquet => {
                parquet::check(schema)?;
                None
            }
        };
        let compression = options.compression.unwrap_or_else(|| Compression::of(&options.path));
        Ok(Box::new(sink::OneFile::new(&context.files, options.path, schema.clone(), encoder, compression)))
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
