//! Reads files.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::SchemaRef;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::error::BRING_BACK;
use crate::format::compression::Compression;
use crate::format::decoder::{Decoder, TextFormat};
use crate::format::malformed::Policy;
use crate::format::parquet;
use crate::positions::Runs;
use crate::{Error, Fetch, Fetched, Files, Reader, Source, Split};

/// How much is read from a file at once.
const READ_BYTES: usize = 256 * 1024;

/// One file, or all that match a pattern.
pub(super) struct FileSet {
    pub files: Files,
    pub path: String,
    /// none = as the extension says
    pub compression: Option<Compression>,
    pub schema: SchemaRef,
    pub policy: Arc<Policy>,
    /// none = parquet
    pub text: Option<TextFormat>,
}

impl Source for FileSet {
    fn splits(&self, _parallelism: u16) -> Result<Vec<Split>, Error> {
        self.files.list(&self.path)?.iter().map(|path| split(path)).collect()
    }

    fn excludes(&self, split: &Split) -> Option<String> {
        let Some(path) = split.spec.get("path").and_then(|path| path.as_str()) else {
            return Some("it is no split of files".to_owned());
        };
        let is_named = self.files.names_file(&self.path, Path::new(path));
        (!is_named).then(|| format!("the option path = \"{}\" does not name it", self.path))
    }

    fn reader(&self, split: &Split, _: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
        let bad = || Error::options(format!("\"{}\" is not a split of files at a position of it", split.id));
        let path = Path::new(split.spec.get("path").and_then(|p| p.as_str()).ok_or_else(bad)?);
        match &self.text {
            Some(format) => {
                let position = split.position.as_ref().map(|p| Position::deserialize(p).map_err(|_| bad())).transpose()?;
                let compression = self.compression.unwrap_or_else(|| Compression::of(path));
                let decoder = Decoder::new(self.files.shown(path).to_string(), format, &self.schema, Arc::clone(&self.policy))?;
                Ok(Box::new(TextReader::open(&self.files, path, compression, decoder, position)?))
            }
            None => {
                let position = split.position.as_ref().map_or(Some(0), serde_json::Value::as_u64).ok_or_else(bad)?;
                let shown = self.files.shown(path).to_string();
                let file = self.files.open(path).map_err(|e| Error::io(format!("the file {shown} cannot be read"), e))?;
                Ok(Box::new(ParquetReader(parquet::Reader::new(file, &shown, &self.schema, position)?)))
            }
        }
    }
}

fn split(path: &Path) -> Result<Split, Error> {
    let Some(name) = path.to_str() else {
        return Err(Error::options(format!("the name of the file {} is not UTF-8", path.display())));
    };
    Ok(Split { id: name.into(), spec: serde_json::json!({ "path": name }), position: None })
}

/// How far a file of text was read: up to a line's end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Position {
    /// bytes of the text, without compression
    bytes: u64,
    /// lines, for messages
    lines: u64,
}

struct TextReader {
    /// what messages call the file
    path: String,
    input: Box<dyn Read + Send>,
    /// bytes that were read from the file itself
    file_bytes: Arc<AtomicU64>,
    /// those that a fetch has told of
    told_bytes: u64,
    buffer: Vec<u8>,
    /// what of the buffer was read and not yet decoded
    unread: std::ops::Range<usize>,
    at_end: bool,
    /// bytes of the text that were decoded
    decoded: u64,
    decoder: Decoder,
}

impl TextReader {
    fn open(
        files: &Files,
        path: &Path,
        compression: Compression,
        decoder: Decoder,
        position: Option<Position>,
    ) -> Result<Self, Error> {
        let file_bytes = Arc::new(AtomicU64::new(0));
        let shown = files.shown(path).to_string();
        let open = |skip| {
            let file = files.open(path).map_err(|e| Error::io(format!("the file {shown} cannot be read"), e))?;
            text_of(&shown, file, compression, skip, &file_bytes)
        };
        let mut reader = Self {
            path: shown.clone(),
            input: open(0)?,
            file_bytes: Arc::clone(&file_bytes),
            told_bytes: 0,
            buffer: vec![0; READ_BYTES],
            unread: 0..0,
            at_end: false,
            decoded: 0,
            decoder,
        };
        while reader.decoder.awaits_header() && !reader.at_end {
            reader.fill()?;
            reader.decode(0)?;
        }
        if let Some(Position { bytes, lines }) = position {
            reader.input = open(bytes)?;
            (reader.unread, reader.at_end, reader.decoded) = (0..0, false, bytes);
            reader.decoder.set_lines(lines);
        }
        reader.told_bytes = reader.file_bytes.load(Ordering::Relaxed);
        Ok(reader)
    }

    fn decode(&mut self, max_rows: usize) -> Result<(), Error> {
        let used = self.decoder.decode(&self.buffer[self.unread.clone()], self.at_end, max_rows)?;
        self.unread.start += used;
        self.decoded += used as u64;
        Ok(())
    }

    /// Reads more behind what is unread.
    fn fill(&mut self) -> Result<(), Error> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.buffer.len() {
            // A record that is longer than the buffer.
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = loop {
            match self.input.read(&mut self.buffer[self.unread.end..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let read = read.map_err(|e| unreadable(&self.path, e))?;
        self.unread.end += read;
        self.at_end = read == 0;
        Ok(())
    }
}

impl Reader for TextReader {
    fn read(&mut self, max_rows: usize) -> Result<Fetched, Error> {
        let max_rows = max_rows.max(1);
        self.decode(max_rows)?;
        while !self.decoder.has_enough(max_rows) && !self.at_end {
            self.fill()?;
            self.decode(max_rows)?;
        }
        let Some(mut fetch) = self.decoder.take() else { return Ok(Fetched::End) };
        let file_bytes = self.file_bytes.load(Ordering::Relaxed);
        fetch.bytes = file_bytes - self.told_bytes;
        self.told_bytes = file_bytes;
        Ok(Fetched::Rows(fetch))
    }

    fn position(&self) -> serde_json::Value {
        serde_json::json!({ "bytes": self.decoded, "lines": self.decoder.lines() })
    }
}

fn unreadable(path: &str, error: io::Error) -> Error {
    Error::unreadable(format!("the file {path} cannot be read"), error)
}

/// The text of a file behind its first `skip` bytes. `path` is what messages call it.
fn text_of(
    path: &str,
    mut file: fs::File,
    compression: Compression,
    skip: u64,
    counter: &Arc<AtomicU64>,
) -> Result<Box<dyn Read + Send>, Error> {
    let unreadable = |e| unreadable(path, e);
    let shorter =
        || Error::malformed(format!("the file {path} is shorter than the {skip} bytes that were read before: {BRING_BACK}"));
    if compression == Compression::None {
        // A pipe has no length, and is read from where it is.
        if skip > 0 {
            if file.metadata().map_err(unreadable)?.len() < skip {
                return Err(shorter());
            }
            file.seek(SeekFrom::Start(skip)).map_err(unreadable)?;
        }
        return compression.reader(Counted { file, counter: Arc::clone(counter) }).map_err(unreadable);
    }
    let mut text = compression.reader(Counted { file, counter: Arc::clone(counter) }).map_err(unreadable)?;
    if io::copy(&mut text.by_ref().take(skip), &mut io::sink()).map_err(unreadable)? < skip {
        return Err(shorter());
    }
    Ok(text)
}

/// A file whose read bytes are counted.
struct Counted {
    file: fs::File,
    counter: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.counter.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

struct ParquetReader(parquet::Reader);

impl Reader for ParquetReader {
    fn read(&mut self, max_rows: usize) -> Result<Fetched, Error> {
        let first = self.0.position() + 1;
        let Some(batch) = self.0.read(max_rows)? else { return Ok(Fetched::End) };
        // How many bytes of a column's chunk a row took cannot be told; those of its decoded values come near.
        let (events, bytes) = (batch.rows() as u64, batch.bytes() as u64);
        let positions = Some(Runs::from(first));
        Ok(Fetched::Rows(Fetch { batches: vec![(0, batch)], events, bytes, positions, ..Fetch::default() }))
    }

    fn position(&self) -> serde_json::Value {
        self.0.position().into()
    }
}
