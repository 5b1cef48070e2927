//! How rows look in files and pipes.
//!
//! Reading text: a [`decoder`] cuts bytes into records, and [`json`] or [`csv`] reads a record into [`columns`]. Writing text: an
//! [`encoder`] writes the [`cells`] of a batch. [`time`] is how both spell instants, [`compression`] how files are compressed;
//! [`gzip`] reads the one kind that has its ways.
//! [`parquet`] is columns on both sides, and [`casting`] makes those that a job wants of those that a file has. [`avro`]
//! and [`protobuf`] read the records of message brokers. [`malformed`] says what becomes of records that cannot be read.

pub(crate) mod avro;
mod casting;
pub(crate) mod cells;
pub(crate) mod columns;
pub(crate) mod compression;
pub(crate) mod csv;
pub(crate) mod decoder;
pub(crate) mod encoder;
mod frames;
mod gzip;
pub(crate) mod json;
pub(crate) mod malformed;
pub(crate) mod parquet;
pub(crate) mod protobuf;
pub(crate) mod time;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use self::compression::Compression;
use self::csv::Dialect;
use self::decoder::TextFormat;
use self::malformed::{OnMalformed, Policy};
use crate::{Context, Error};

/// The name of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FormatName {
    /// a JSON object a line
    Jsonl,
    /// comma-separated values
    Csv,
    /// Apache Parquet
    Parquet,
}

impl FormatName {
    /// As options and extensions write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }

    /// What the extension of a file says; that of a compressed file is the one before.
    pub fn of(path: &Path) -> Option<Self> {
        let inner = path.file_stem().map(Path::new).filter(|_| Compression::of(path) != Compression::None).unwrap_or(path);
        match inner.extension()?.to_str()? {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// The options of sources that read files or pipes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReadOptions {
    /// the file, or a pattern of files
    pub path: Option<String>,
    /// the format; for files none = as the extension says
    pub format: Option<FormatName>,
    /// the compression; none = as the extension says
    pub compression: Option<Compression>,
    /// csv: the character between fields
    delimiter: Option<char>,
    /// csv: whether the first line names the columns
    header: Option<bool>,
    /// csv: the names of the columns, where there is no header
    columns: Option<Vec<String>>,
    /// csv: what stands for no value
    null_values: Option<Vec<String>>,
    /// what is done with malformed lines
    on_malformed: Option<OnMalformed>,
    /// where malformed lines are written to
    rejects_path: Option<PathBuf>,
}

impl ReadOptions {
    /// The format of text that the options describe; none for `parquet`.
    pub fn text_format(&self, format: FormatName) -> Result<Option<TextFormat>, Error> {
        let foreign = |is_set: bool, name: &str, of: &str| match is_set {
            true => Err(Error::options(format!("the option {name} is for the format {of} only"))),
            false => Ok(()),
        };
        if format != FormatName::Csv {
            foreign(self.delimiter.is_some(), "delimiter", "csv")?;
            foreign(self.header.is_some(), "header", "csv")?;
            foreign(self.columns.is_some(), "columns", "csv")?;
            foreign(self.null_values.is_some(), "null_values", "csv")?;
        }
        match format {
            FormatName::Jsonl => Ok(Some(TextFormat::Jsonl)),
            FormatName::Parquet => {
                foreign(self.on_malformed.is_some(), "on_malformed", "jsonl or csv")?;
                foreign(self.rejects_path.is_some(), "rejects_path", "jsonl or csv")?;
                Ok(None)
            }
            FormatName::Csv => {
                let header = self.header.unwrap_or(self.columns.is_none());
                let columns = self.columns.clone().unwrap_or_default();
                if header != columns.is_empty() {
                    return Err(Error::options("csv has either a header or the option columns, which names the columns"));
                }
                let delimiter = delimiter(self.delimiter)?;
                Ok(Some(TextFormat::Csv(Dialect { delimiter, header, columns, null_values: self.null_values.clone() })))
            }
        }
    }

    /// What is done with malformed lines.
    pub fn policy(&self, context: &Context) -> Result<Arc<Policy>, Error> {
        let policy = Policy::new(self.on_malformed.unwrap_or_default(), self.rejects_path.clone(), context)?;
        Ok(Arc::new(policy))
    }
}

/// The byte between the fields of CSV.
pub(crate) fn delimiter(option: Option<char>) -> Result<u8, Error> {
    let delimiter = option.unwrap_or(',');
    match u8::try_from(delimiter) {
        Ok(byte) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(byte),
        _ => Err(Error::options(format!(
            "the delimiter must be an ASCII character other than a quote or a line end, not {delimiter:?}"
        ))),
    }
}
