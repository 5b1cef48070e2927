//! What the files of a sink look like inside.

use std::path::Path;

use arrow_schema::SchemaRef;

use crate::Error;
use crate::format::compression::Compression;
use crate::format::encoder::Encoder;
use crate::format::{FormatName, delimiter, parquet};

/// The options that say it.
pub(super) struct LayoutOptions {
    /// the format; none = as the extension says
    pub format: Option<FormatName>,
    /// the compression; none = as the extension says
    pub compression: Option<Compression>,
    /// csv: the character between fields
    pub delimiter: Option<char>,
    /// csv: whether the first line names the columns
    pub header: Option<bool>,
    /// csv: what stands for no value
    pub null: Option<String>,
}

/// What the files of a sink look like inside, bound to the columns of its rows.
#[derive(Clone)]
pub(super) enum Layout {
    /// lines
    Text {
        /// makes them
        encoder: Encoder,
        /// compresses blocks of them
        compression: Compression,
    },
    /// Apache Parquet
    Parquet {
        /// the columns
        schema: SchemaRef,
    },
}

impl Layout {
    /// What the options and, where they are silent, the name of a file say.
    pub fn new(options: LayoutOptions, name: &Path, schema: &SchemaRef) -> Result<Self, Error> {
        let format = super::format_of(options.format, name)?;
        if format != FormatName::Csv && (options.delimiter.is_some() || options.header.is_some() || options.null.is_some()) {
            return Err(Error::options("the options delimiter, header and null are for the format csv only"));
        }
        let encoder = match format {
            FormatName::Jsonl => Encoder::jsonl(schema)?,
            FormatName::Csv => {
                let null = options.null.unwrap_or_default();
                Encoder::csv(schema, delimiter(options.delimiter)?, null, options.header.unwrap_or(true))?
            }
            FormatName::Parquet if options.compression.is_some() => {
                return Err(Error::options("parquet files compress their own columns; they have no option compression"));
            }
            FormatName::Parquet if Compression::of(name) != Compression::None => {
                return Err(Error::options(format!(
                    "the name {} is one of a compressed file, and parquet files compress their own columns; let it end in .parquet",
                    name.display()
                )));
            }
            FormatName::Parquet => {
                parquet::check(schema)?;
                return Ok(Self::Parquet { schema: SchemaRef::clone(schema) });
            }
        };
        Ok(Self::Text { encoder, compression: options.compression.unwrap_or_else(|| Compression::of(name)) })
    }
}
