//! Writes a file that all subtasks share.
//!
//! A subtask encodes (and compresses) a block of whole rows by itself, and appends it under a lock. A file of text is complete at any
//! time, a parquet file when the last subtask has finished.
//!
//! A job that goes on from a checkpoint appends to the text that is there, without the line that a crash may have cut off: that one is written again.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_types::Batch;

use super::layout::Layout;
use crate::format::compression::Compression;
use crate::format::encoder::Encoder;
use crate::format::parquet::{Output, RowGroup};
use crate::totals::Totals;
use crate::{Context, Error, Files, Report, Sink, Writer};

/// A block of text is appended once it is this long.
const BLOCK_BYTES: usize = 256 * 1024;

pub(super) struct OneFile {
    files: Files,
    path: PathBuf,
    layout: Layout,
    /// whether what is there stays
    continues: bool,
    totals: Arc<Totals>,
    /// made by the first writer
    shared: Mutex<Option<Shared>>,
}

/// The file, as all writers hold it.
#[derive(Clone)]
enum Shared {
    Text(Arc<TextFile>),
    Parquet(Arc<Output>),
}

struct TextFile {
    /// what messages call it
    path: String,
    file: Mutex<fs::File>,
}

impl OneFile {
    pub fn new(context: &Context, path: PathBuf, layout: Layout) -> Self {
        let (files, continues) = (context.files.clone(), context.attempt.continues);
        Self { files, path, layout, continues, totals: Arc::default(), shared: Mutex::new(None) }
    }

    /// The file that an older attempt has written to; none if it is not there any more.
    fn reopen(&self) -> Result<Option<Shared>, Error> {
        let path = self.files.shown(&self.path).to_string();
        let failed = |e| Error::io(format!("the file {path} cannot be written"), e);
        let mut file = match self.files.reopen(&self.path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        if !matches!(self.layout, Layout::Text { compression: Compression::None, .. }) {
            return Err(Error::options(format!(
                "the job goes on from a checkpoint, and its rows before that are in {path}, which can be appended to only if it is text without compression; \
                 write parts with the option folder, or move the file away"
            )));
        }
        cut_last_line(&mut file).map_err(failed)?;
        Ok(Some(Shared::Text(Arc::new(TextFile { path, file: Mutex::new(file) }))))
    }

    /// Begins the file.
    fn create(&self) -> Result<Shared, Error> {
        let path = self.files.shown(&self.path).to_string();
        let failed = |e| Error::io(format!("the file {path} cannot be written"), e);
        let mut file = self.files.create(&self.path).map_err(failed)?;
        let (encoder, compression) = match &self.layout {
            Layout::Text { encoder, compression } => (encoder, compression),
            Layout::Parquet { schema } => return Ok(Shared::Parquet(Arc::new(Output::new(file, &path, schema)?))),
        };
        // Also without a header: the block of no bytes makes a compressed file one even if no row follows.
        let header = compression.block(encoder.header()).map_err(failed)?;
        file.write_all(&header).map_err(failed)?;
        self.totals.add_bytes(header.len() as u64);
        Ok(Shared::Text(Arc::new(TextFile { path, file: Mutex::new(file) })))
    }
}

impl Sink for OneFile {
    fn writer(&self, _: u16, parallelism: u16) -> Result<Box<dyn Writer>, Error> {
        let mut shared = self.shared.lock();
        let file = match &*shared {
            Some(file) => file.clone(),
            None => {
                let there = if self.continues { self.reopen()? } else { None };
                shared.insert(there.map_or_else(|| self.create(), Ok)?).clone()
            }
        };
        let totals = Arc::clone(&self.totals);
        Ok(match (file, &self.layout) {
            (Shared::Text(file), Layout::Text { encoder, compression }) => {
                Box::new(TextWriter { file, encoder: encoder.clone(), compression: *compression, block: Vec::new(), totals })
            }
            (Shared::Parquet(output), _) => Box::new(ParquetWriter { output, group: RowGroup::default(), totals, parallelism }),
            (Shared::Text(_), Layout::Parquet { .. }) => unreachable!("a file of text has a layout of text"),
        })
    }

    fn report(&self) -> Report {
        self.totals.report()
    }
}

/// Goes to the end of a file, without the line there that does not end.
fn cut_last_line(file: &mut fs::File) -> std::io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut block = vec![];
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES as u64);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        Read::by_ref(file).take(end - start).read_to_end(&mut block)?;
        end = start + block.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last as u64 + 1);
        if end > start {
            break;
        }
    }
    file.set_len(end)?;
    file.seek(SeekFrom::Start(end)).map(drop)
}

struct TextWriter {
    file: Arc<TextFile>,
    encoder: Encoder,
    compression: Compression,
    block: Vec<u8>,
    totals: Arc<Totals>,
}

impl Writer for TextWriter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.encoder.encode(batch, &mut self.block);
        self.totals.add_rows(batch.rows());
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.block.is_empty() {
            return Ok(());
        }
        let failed = |e| Error::io(format!("the file {} cannot be written", self.file.path), e);
        let bytes = self.compression.block(&self.block).map_err(failed)?;
        self.file.file.lock().write_all(&bytes).map_err(failed)?;
        self.totals.add_bytes(bytes.len() as u64);
        self.block.clear();
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.flush()
    }
}

struct ParquetWriter {
    output: Arc<Output>,
    group: RowGroup,
    totals: Arc<Totals>,
    parallelism: u16,
}

impl Writer for ParquetWriter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.totals.add_rows(batch.rows());
        self.totals.add_bytes(self.group.add(batch, &self.output)?);
        Ok(())
    }

    /// A parquet file cannot be read before its footer is there, so nothing is gained by putting out a small row group.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.totals.add_bytes(self.group.end(&self.output)?);
        if self.totals.is_last(self.parallelism) {
            let file_bytes = self.output.complete()?;
            self.totals.add_bytes(file_bytes.saturating_sub(self.totals.bytes()));
        }
        Ok(())
    }
}
