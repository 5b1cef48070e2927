//! Writes a file that all subtasks share.
//!
//! A subtask encodes (and compresses) a block of whole rows by itself, and appends it under a lock. A file of text is complete at any
//! time, a parquet file when the last subtask has finished.
//!
//! What is there from before stays until the job has something to put in its place: its first rows, its first checkpoint, or its end without any. So a job
//! that fails before does no harm; but it opens the file when it starts, so as not to find out later that it cannot.
//!
//! A job that goes on from a checkpoint appends to the text that is there, without the line that a crash may have cut off: that one is written again.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use parking_lot::Mutex;
use weir_types::Batch;

use super::layout::Layout;
use crate::files::clear;
use crate::format::compression::Compression;
use crate::format::encoder::Encoder;
use crate::format::parquet::{Output, RowGroup};
use crate::totals::Totals;
use crate::{Context, Error, Files, Report, Sink, Transaction, Writer};

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
    Parquet(Arc<ParquetFile>),
}

struct TextFile {
    /// what messages call it
    path: String,
    state: Mutex<TextState>,
    totals: Arc<Totals>,
}

struct TextState {
    file: fs::File,
    /// what it is to begin with, as long as it has not begun
    beginning: Option<Vec<u8>>,
}

impl TextFile {
    /// Begins the file, if that is not done, and appends what is whole.
    fn append(&self, bytes: &[u8]) -> Result<(), Error> {
        self.try_append(bytes).map_err(|e| Error::io(format!("the file {} cannot be written", self.path), e))
    }

    fn try_append(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(beginning) = state.beginning.take() {
            clear(&state.file)?;
            state.file.write_all(&beginning)?;
            self.totals.add_bytes(beginning.len() as u64);
        }
        state.file.write_all(bytes)?;
        self.totals.add_bytes(bytes.len() as u64);
        Ok(())
    }
}

struct ParquetFile {
    /// what messages call it
    path: String,
    schema: SchemaRef,
    state: Mutex<ParquetState>,
}

enum ParquetState {
    /// what is there from before is still in it
    Open(fs::File),
    /// it has rows, or the job has ended without any
    Begun(Arc<Output>),
}

impl ParquetFile {
    /// Begins the file, if that is not done.
    fn output(&self) -> Result<Arc<Output>, Error> {
        let mut state = self.state.lock();
        let output = match &*state {
            ParquetState::Begun(output) => return Ok(Arc::clone(output)),
            ParquetState::Open(file) => {
                let emptied = clear(file).and_then(|()| file.try_clone());
                let file = emptied.map_err(|e| Error::io(format!("the file {} cannot be written", self.path), e))?;
                Arc::new(Output::new(file, &self.path, &self.schema)?)
            }
        };
        *state = ParquetState::Begun(Arc::clone(&output));
        Ok(output)
    }
}

impl OneFile {
    pub fn new(context: &Context, path: PathBuf, layout: Layout) -> Self {
        let (files, continues) = (context.files.clone(), context.attempt.continues);
        Self { files, path, layout, continues, totals: Arc::default(), shared: Mutex::new(None) }
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::io(format!("the file {} cannot be written", self.files.shown(&self.path)), error)
    }

    /// The file that an older attempt has written to; none if it is not there any more.
    fn reopen(&self) -> Result<Option<Shared>, Error> {
        let can_go_on = matches!(self.layout, Layout::Text { compression: Compression::None, .. });
        if !can_go_on && self.files.is_file(&self.path).map_err(|e| self.failed(e))? {
            return Err(Error::options(format!(
                "the job goes on from a checkpoint, and its rows before that are in {}, which can be appended to only if it is text without compression; \
                 write parts with the option folder, or move the file away",
                self.files.shown(&self.path)
            )));
        }
        let there = self.files.append(&self.path).map_err(|e| self.failed(e))?;
        Ok(there.map(|file| self.text(file, None)))
    }

    /// Opens the file, which begins later.
    fn open(&self) -> Result<Shared, Error> {
        let file = self.files.open_to_write(&self.path).map_err(|e| self.failed(e))?;
        match &self.layout {
            Layout::Text { encoder, compression } => {
                // Also without a header: the block of no bytes makes a compressed file one even if no row follows.
                let header = compression.block(encoder.header()).map_err(|e| self.failed(e))?;
                Ok(self.text(file, Some(header.into_owned())))
            }
            Layout::Parquet { schema } => {
                let path = self.files.shown(&self.path).to_string();
                let state = Mutex::new(ParquetState::Open(file));
                Ok(Shared::Parquet(Arc::new(ParquetFile { path, schema: Arc::clone(schema), state })))
            }
        }
    }

    fn text(&self, file: fs::File, beginning: Option<Vec<u8>>) -> Shared {
        let path = self.files.shown(&self.path).to_string();
        let (state, totals) = (Mutex::new(TextState { file, beginning }), Arc::clone(&self.totals));
        Shared::Text(Arc::new(TextFile { path, state, totals }))
    }
}

impl Sink for OneFile {
    fn writer(&self, _: u16, parallelism: u16) -> Result<Box<dyn Writer>, Error> {
        let mut shared = self.shared.lock();
        let file = match &*shared {
            Some(file) => file.clone(),
            None => {
                let there = if self.continues { self.reopen()? } else { None };
                shared.insert(there.map_or_else(|| self.open(), Ok)?).clone()
            }
        };
        let totals = Arc::clone(&self.totals);
        Ok(match (file, &self.layout) {
            (Shared::Text(file), Layout::Text { encoder, compression }) => {
                Box::new(TextWriter { file, encoder: encoder.clone(), compression: *compression, block: Vec::new(), totals })
            }
            (Shared::Parquet(file), _) => Box::new(ParquetWriter { file, group: RowGroup::default(), totals, parallelism }),
            (Shared::Text(_), Layout::Parquet { .. }) => unreachable!("a file of text has a layout of text"),
        })
    }

    fn report(&self) -> Report {
        self.totals.report()
    }
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
        let bytes = self.compression.block(&self.block);
        self.file.append(&bytes.map_err(|e| Error::io(format!("the file {} cannot be written", self.file.path), e))?)?;
        self.block.clear();
        Ok(())
    }

    /// Whoever goes on from here appends, so that the file has begun by then.
    fn prepare(&mut self) -> Result<Vec<Transaction>, Error> {
        self.file.append(&[])?;
        self.flush()?;
        Ok(vec![])
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.prepare().map(drop)
    }
}

struct ParquetWriter {
    file: Arc<ParquetFile>,
    group: RowGroup,
    totals: Arc<Totals>,
    parallelism: u16,
}

impl Writer for ParquetWriter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.totals.add_rows(batch.rows());
        let output = self.file.output()?;
        self.totals.add_bytes(self.group.add(batch, &output)?);
        Ok(())
    }

    /// A parquet file cannot be read before its footer is there, so nothing is gained by putting out a small row group.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn finish(&mut self) -> Result<(), Error> {
        let output = self.file.output()?;
        self.totals.add_bytes(self.group.end(&output)?);
        if self.totals.is_last(self.parallelism) {
            let file_bytes = output.complete()?;
            self.totals.add_bytes(file_bytes.saturating_sub(self.totals.bytes()));
        }
        Ok(())
    }
}
