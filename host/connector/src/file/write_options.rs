//! What a job spec says of a sink.

use std::collections::BTreeMap;
use std::path::PathBuf;

use arrow_schema::SchemaRef;
use serde::Deserialize;
use weir_plan::units::{SpecDuration, SpecSize};

use super::layout::{Layout, LayoutOptions};
use super::parts::store::{Bucket, Folder, Store};
use super::parts::{Limits, Partitioning, Parts};
use super::sink::OneFile;
use crate::format::FormatName;
use crate::format::compression::Compression;
use crate::{Context, Error, Sink};

/// How large a part becomes if nothing else is said.
const ROLL_BYTES: u64 = 128 << 20;
/// How many parts a writer has open at most if nothing else is said.
const OPEN_PARTS_MAX: usize = 100;

/// The options.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteOptions {
    /// the one file
    path: Option<PathBuf>,
    /// the folder of parts
    folder: Option<PathBuf>,
    /// the place in a bucket for parts
    url: Option<String>,
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
    /// how the bucket is reached
    s3: Option<BTreeMap<String, toml::Value>>,
    /// parts: what their names end with
    extension: Option<String>,
    /// parts: the size at which one is closed
    roll_bytes: Option<SpecSize>,
    /// parts: the age at which one is closed
    roll_after: Option<SpecDuration>,
    /// parts: how many a writer has open at most
    open_parts_max: Option<usize>,
    /// parts: folders by event time
    partition_time: Option<String>,
    /// parts: folders by the values of columns
    partition_by: Option<Vec<String>>,
}

impl WriteOptions {
    /// The sink that they describe.
    pub fn sink(self, schema: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error> {
        let targets = [self.path.is_some(), self.folder.is_some(), self.url.is_some()];
        if targets.iter().filter(|is_set| **is_set).count() != 1 {
            return Err(Error::options(format!(
                "options of \"{}\": exactly one of path (one file), folder and url (parts) is needed",
                context.name
            )));
        }
        let Some(path) = &self.path else { return Ok(Box::new(self.parts(schema, context)?)) };
        self.refuse_parts()?;
        let layout = Layout::new(self.layout(), path, schema)?;
        Ok(Box::new(OneFile::new(context, path.clone(), layout)))
    }

    fn layout(&self) -> LayoutOptions {
        LayoutOptions {
            format: self.format,
            compression: self.compression,
            delimiter: self.delimiter,
            header: self.header,
            null: self.null.clone(),
        }
    }

    /// Refuses what only parts have.
    fn refuse_parts(&self) -> Result<(), Error> {
        for (is_set, name) in [
            (self.s3.is_some(), "s3"),
            (self.extension.is_some(), "extension"),
            (self.roll_bytes.is_some(), "roll_bytes"),
            (self.roll_after.is_some(), "roll_after"),
            (self.open_parts_max.is_some(), "open_parts_max"),
            (self.partition_time.is_some(), "partition_time"),
            (self.partition_by.is_some(), "partition_by"),
        ] {
            if is_set {
                return Err(Error::options(format!("the option {name} is for parts only: give a folder instead of a path")));
            }
        }
        Ok(())
    }

    /// The sink of parts.
    fn parts(self, schema: &SchemaRef, context: &Context) -> Result<Parts, Error> {
        let (name, extension) = self.part_name()?;
        let layout = Layout::new(self.layout(), &name, schema)?;
        let limits = Limits {
            roll_bytes: self.roll_bytes.map_or(ROLL_BYTES, |size| size.0),
            roll_after: self.roll_after.map(|duration| duration.0),
            open_parts_max: self.open_parts_max.unwrap_or(OPEN_PARTS_MAX),
        };
        if limits.open_parts_max == 0 || limits.roll_bytes == 0 {
            return Err(Error::options("open_parts_max and roll_bytes must be at least 1"));
        }
        let partitioning = Partitioning::new(self.partition_time, &self.partition_by.unwrap_or_default(), schema)?;
        let store: Box<dyn Store> = match (self.folder, self.url) {
            (Some(_), _) if self.s3.is_some() => return Err(Error::options("the option s3 is for parts at a url only")),
            (Some(folder), _) => Box::new(Folder::new(&context.files, folder)),
            // It would reach what the server reaches, with the server's own credentials.
            (None, _) if context.files.is_confined() => {
                return Err(Error::options("a job on a server writes parts to a folder, not to a url"));
            }
            (None, url) => {
                let options = self.s3.unwrap_or_default().into_iter();
                let options = options.map(|(name, value)| match value {
                    toml::Value::String(text) => (name, text),
                    other => (name, other.to_string()),
                });
                Box::new(Bucket::new(&url.unwrap_or_default(), &options.collect())?)
            }
        };
        Parts::new(store, layout, extension, partitioning, limits, context)
    }

    /// A name like those of parts, and what these end with.
    fn part_name(&self) -> Result<(PathBuf, String), Error> {
        let extension = match (&self.extension, self.format) {
            (Some(extension), _) => {
                let is_plain =
                    |step: &str| !step.is_empty() && step.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
                if !extension.split('.').all(is_plain) {
                    return Err(Error::options(format!(
                        "extension = \"{extension}\": it has to be like \"jsonl\" or \"csv.gz\", without a dot before it"
                    )));
                }
                extension.clone()
            }
            (None, Some(format)) => {
                let end = match self.compression {
                    Some(Compression::Gzip) => ".gz",
                    Some(Compression::Zstd) => ".zst",
                    Some(Compression::None) | None => "",
                };
                format!("{}{end}", format.name())
            }
            (None, None) => {
                return Err(Error::options(
                    "the format of parts is not known; set format = \"jsonl\", \"csv\" or \"parquet\", or an extension",
                ));
            }
        };
        Ok((PathBuf::from(format!("part.{extension}")), extension))
    }
}
