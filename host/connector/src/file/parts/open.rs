//! A part that rows are added to.

use std::io::{self, Write};
use std::time::Instant;

use weir_types::Batch;

use super::Prepared;
use super::store::{Hidden, Store};
use crate::Error;
use crate::file::layout::Layout;
use crate::format::compression::Compression;
use crate::format::encoder::Encoder;
use crate::format::parquet::Alone;

/// A block of text is put out once it is this long.
const BLOCK_BYTES: usize = 256 * 1024;

/// A part that rows are added to.
pub(super) struct OpenPart {
    /// the path of the file below the sink's folder
    part: String,
    /// what messages call it
    shown: String,
    body: Body,
    /// when it was begun
    pub since: Instant,
    /// when rows were last added, as the writer counts
    pub used: u64,
}

enum Body {
    Text { file: Counted, encoder: Encoder, compression: Compression, block: Vec<u8> },
    Parquet(Box<Alone<Counted>>),
}

impl OpenPart {
    /// Begins a part.
    pub fn new(store: &dyn Store, part: String, layout: &Layout) -> Result<Self, Error> {
        let file = Counted { hidden: store.begin(&part)?, bytes: 0 };
        let shown = store.shown(&part);
        let body = match layout {
            Layout::Text { encoder, compression } => {
                let (encoder, block) = (encoder.clone(), encoder.header().to_vec());
                Body::Text { file, encoder, compression: *compression, block }
            }
            Layout::Parquet { schema } => Body::Parquet(Box::new(Alone::new(file, shown.clone(), schema)?)),
        };
        Ok(Self { part, shown, body, since: Instant::now(), used: 0 })
    }

    /// Adds rows.
    pub fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        match &mut self.body {
            Body::Parquet(file) => file.write(batch),
            Body::Text { encoder, block, .. } => {
                encoder.encode(batch, block);
                if block.len() >= BLOCK_BYTES { self.put_out() } else { Ok(()) }
            }
        }
    }

    /// About how many bytes the part has.
    pub fn bytes(&self) -> u64 {
        match &self.body {
            Body::Text { file, block, .. } => file.bytes + block.len() as u64,
            Body::Parquet(file) => file.bytes(),
        }
    }

    /// Completes the part and makes it durable. Returns its transaction and its bytes.
    pub fn close(mut self) -> Result<(Prepared, u64), Error> {
        self.put_out()?;
        let file = match self.body {
            Body::Text { file, .. } => file,
            Body::Parquet(file) => file.complete()?,
        };
        let upload = file.hidden.seal().map_err(|e| cannot_write(&self.shown, e))?;
        Ok((Prepared { part: self.part, upload }, file.bytes))
    }

    /// Puts out the block of text.
    fn put_out(&mut self) -> Result<(), Error> {
        if let Body::Text { file, compression, block, .. } = &mut self.body
            && !block.is_empty()
        {
            let written = compression.block(block).and_then(|bytes| file.write_all(&bytes));
            written.map_err(|e| cannot_write(&self.shown, e))?;
            block.clear();
        }
        Ok(())
    }
}

fn cannot_write(shown: &str, error: io::Error) -> Error {
    Error::io(format!("the part {shown} cannot be written"), error)
}

/// Counts what is written to a hidden part.
struct Counted {
    hidden: Box<dyn Hidden>,
    bytes: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.hidden.write(bytes)?;
        self.bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hidden.flush()
    }
}
