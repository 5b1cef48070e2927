//! Compressed files.

use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::path::Path;

use serde::Deserialize;

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    /// not at all
    None,
    /// gzip
    Gzip,
    /// Zstandard
    Zstd,
}

const GZIP_LEVEL: u32 = 5;
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// What the extension of a file says.
    pub fn of(path: &Path) -> Self {
        match path.extension().and_then(|e| e.to_str()) {
            Some("gz" | "gzip") => Self::Gzip,
            Some("zst" | "zstd") => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Reads what is compressed in `input`; several compressed blocks, one after another, are one text.
    pub fn reader<R: Read + Send + 'static>(self, input: R) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::None => Box::new(input),
            Self::Gzip => Box::new(super::gzip::Members::new(input)),
            Self::Zstd => Box::new(super::frames::Frames::new(input)?),
        })
    }

    /// Compresses a block that can be read on its own, or behind others. So writers of one file compress beside each other, and only
    /// take turns to append.
    pub fn block(self, bytes: &[u8]) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::None => Ok(Cow::Borrowed(bytes)),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(bytes)?;
                Ok(Cow::Owned(encoder.finish()?))
            }
            Self::Zstd => Ok(Cow::Owned(zstd::bulk::compress(bytes, ZSTD_LEVEL)?)),
        }
    }
}
