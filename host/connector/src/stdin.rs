//! The source `stdin`: lines of JSON or CSV from the standard input.
//!
//! A thread of its own reads the input into a bounded queue, since reading from a pipe may block for as long as the other side likes.
//! The input cannot be read a second time, so a job that reads it cannot go back to a position of it.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use arrow_schema::SchemaRef;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::format::decoder::{Decoder, TextFormat};
use crate::format::malformed::Policy;
use crate::format::{FormatName, ReadOptions};
use crate::options;
use crate::registry::Stream;
use crate::{Connector, Context, Error, Fetched, Reader, Sink, Source, Split};

/// The connector `stdin`.
pub struct Stdin;

/// The id of its only split.
const ID: &str = "stdin";

/// How much is read at once, and how many such blocks wait to be decoded.
const BLOCK_BYTES: usize = 64 * 1024;
const BLOCKS_MAX: usize = 16;

impl Connector for Stdin {
    fn name(&self) -> &'static str {
        "stdin"
    }

    fn source(&self, options: &toml::Table, streams: &[Stream], context: &Context) -> Result<Box<dyn Source>, Error> {
        let options: ReadOptions = options::parse(options, context)?;
        let stream = options::only_stream(streams, context)?;
        if options.path.is_some() || options.compression.is_some() {
            return Err(Error::options(format!("options of \"{}\": stdin has no options path and compression", context.name)));
        }
        let Some(format) = options.text_format(options.format.unwrap_or(FormatName::Jsonl))? else {
            return Err(Error::options("stdin is read as jsonl or csv; parquet is for files only"));
        };
        format.check(&stream.schema)?;
        let policy = options.policy(context)?;
        Ok(Box::new(Pipe { input: Mutex::new(Some(Box::new(io::stdin()))), format, schema: stream.schema.clone(), policy }))
    }

    fn sink(&self, _: &toml::Table, _: &SchemaRef, _: &Context) -> Result<Box<dyn Sink>, Error> {
        Err(options::not_a_sink(self.name()))
    }
}

/// An input that can be read once.
struct Pipe {
    input: Mutex<Option<Box<dyn Read + Send>>>,
    format: TextFormat,
    schema: SchemaRef,
    policy: Arc<Policy>,
}

impl Source for Pipe {
    fn splits(&self, _parallelism: u16) -> Result<Vec<Split>, Error> {
        Ok(vec![Split { id: ID.into(), spec: serde_json::Value::Null, position: None }])
    }

    fn excludes(&self, split: &Split) -> Option<String> {
        (split.id != ID).then(|| "it is not the standard input".to_owned())
    }

    fn reader(&self, split: &Split, wake: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
        let again = || Error::options("the standard input can be read only once, and from its beginning");
        let is_beginning = split.position.as_ref().and_then(serde_json::Value::as_u64).unwrap_or(0) == 0;
        let input = self.input.lock().take().filter(|_| is_beginning).ok_or_else(again)?;
        let decoder = Decoder::new("stdin".into(), &self.format, &self.schema, Arc::clone(&self.policy))?;
        let (sender, blocks) = sync_channel(BLOCKS_MAX);
        let wake = Arc::clone(wake);
        std::thread::Builder::new()
            .name("weir-stdin".into())
            .spawn(move || {
                pump(input, &sender, &wake);
                // The reader sees the end only once the sender is gone.
                drop(sender);
                wake.notify_one();
            })
            .map_err(|e| Error::io("a thread that reads the standard input cannot be started", e))?;
        Ok(Box::new(PipeReader { blocks, unread: Vec::new(), at_end: false, decoder }))
    }
}

/// Reads the input into the queue until it ends, fails, or nobody wants it any more.
fn pump(mut input: Box<dyn Read + Send>, sender: &SyncSender<io::Result<Vec<u8>>>, wake: &Notify) {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let read = match input.read(&mut block) {
            Ok(0) => return,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            read => read,
        };
        let failed = read.is_err();
        let gone = sender.send(read.map(|length| block[..length].to_vec())).is_err();
        wake.notify_one();
        if failed || gone {
            return;
        }
    }
}

struct PipeReader {
    blocks: Receiver<io::Result<Vec<u8>>>,
    unread: Vec<u8>,
    at_end: bool,
    decoder: Decoder,
}

impl Reader for PipeReader {
    fn read(&mut self, max_rows: usize) -> Result<Fetched, Error> {
        let max_rows = max_rows.max(1);
        let mut bytes = 0;
        loop {
            let used = self.decoder.decode(&self.unread, self.at_end, max_rows)?;
            self.unread.drain(..used);
            bytes += used as u64;
            if self.at_end || self.decoder.has_enough(max_rows) {
                break;
            }
            match self.blocks.try_recv() {
                Ok(Ok(block)) => self.unread.extend_from_slice(&block),
                Ok(Err(e)) => return Err(Error::io("the standard input cannot be read", e)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.at_end = true,
            }
        }
        Ok(match self.decoder.take() {
            Some(mut fetch) => {
                fetch.bytes = bytes;
                Fetched::Rows(fetch)
            }
            None if self.at_end => Fetched::End,
            None => Fetched::Waiting,
        })
    }

    fn position(&self) -> serde_json::Value {
        self.decoder.lines().into()
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::format::malformed::OnMalformed;

    #[test]
    fn lines_come_as_they_arrive_and_the_end_is_the_end() {
        // Goal: all lines of a pipe are read, one cut in two by the pipe and the last one without a line end included; a reader that
        // waits is woken. The test waits as a task would, for the wake-up alone.
        let (mut near, far) = std::io::pipe().map(|(r, w)| (w, r)).unwrap();
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let policy = Arc::new(Policy::new(OnMalformed::Fail, None, &Context::new("in", crate::Files::free("."))).unwrap());
        let pipe = Pipe { input: Mutex::new(Some(Box::new(far))), format: TextFormat::Jsonl, schema, policy };
        let wake = Arc::new(Notify::new());
        let split = &pipe.splits(1).unwrap()[0];
        let mut reader = pipe.reader(split, &wake).unwrap();
        let writer = std::thread::spawn(move || {
            for part in ["{\"n\":1}\n{\"n\"", ":2}\n", "{\"n\":3}"] {
                io::Write::write_all(&mut near, part.as_bytes()).unwrap();
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut numbers = Vec::new();
        loop {
            match reader.read(2).unwrap() {
                Fetched::Rows(fetch) => {
                    fetch
                        .batches
                        .iter()
                        .for_each(|(_, b)| numbers.extend_from_slice(b.column(0).as_primitive::<Int64Type>().values()));
                }
                Fetched::Waiting => runtime.block_on(wake.notified()),
                Fetched::End => break,
                Fetched::NotBefore(_) => panic!("a pipe has no schedule"),
            }
        }
        writer.join().unwrap();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(pipe.reader(split, &wake).is_err(), "a pipe cannot be read twice");
    }
}
