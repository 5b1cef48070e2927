//! Messages of a channel as bytes: what an unaligned barrier has overtaken becomes part of the checkpoint.
//!
//! ```text
//! messages = message …
//! message  = kind u8 | length of the payload u64 | payload
//! payload  = a stream of Arrow IPC with one batch | a watermark i64 | nothing
//! ```
//!
//! Numbers are little-endian. In a batch's stream, event times are a last column, `time`. Checksums are those of the file.

use std::io::Cursor;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::{ArrowError, Field, Schema};
use weir_types::{Batch, Watermark};

use crate::Message;

const BATCH: u8 = 0;
const WATERMARK: u8 = 1;
const IDLE: u8 = 2;
/// What the column of event times is called.
const TIME: &str = "time";

/// Messages as bytes. Barriers are left out, and so is the end: neither is ever overtaken.
///
/// # Errors
/// If a column cannot be written.
pub fn encode(messages: &[Message]) -> Result<Vec<u8>, ArrowError> {
    let mut out = vec![];
    for message in messages {
        let (kind, payload) = match message {
            Message::Batch(batch) => (BATCH, encode_batch(batch)?),
            Message::Watermark(watermark) => (WATERMARK, watermark.0.to_le_bytes().to_vec()),
            Message::Idle => (IDLE, vec![]),
            Message::Barrier(_) | Message::End => continue,
        };
        out.push(kind);
        out.extend((payload.len() as u64).to_le_bytes());
        out.extend(payload);
    }
    Ok(out)
}

/// The messages in bytes that [`encode`] has made.
///
/// # Errors
/// If they are not such bytes.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<Message>, ArrowError> {
    let broken = || ArrowError::ParseError("rows in flight are cut short, or no rows".into());
    let mut messages = vec![];
    while let Some((&kind, rest)) = bytes.split_first() {
        let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| broken())?;
        let (payload, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
        messages.push(match kind {
            BATCH => Message::Batch(decode_batch(payload)?),
            WATERMARK => Message::Watermark(Watermark(i64::from_le_bytes(payload.try_into().map_err(|_| broken())?))),
            IDLE => Message::Idle,
            _ => return Err(broken()),
        });
        bytes = rest;
    }
    Ok(messages)
}

fn encode_batch(batch: &Batch) -> Result<Vec<u8>, ArrowError> {
    let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
    let mut fields: Vec<Field> =
        columns.iter().enumerate().map(|(i, c)| Field::new(format!("{i}"), c.data_type().clone(), true)).collect();
    if let Some(times) = batch.times() {
        columns.push(Arc::new(Int64Array::new(times.clone(), None)));
        fields.push(Field::new(TIME, arrow_schema::DataType::Int64, false));
    }
    let schema = Arc::new(Schema::new(fields));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.rows()));
    let record = RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?;
    let mut writer = StreamWriter::try_new(vec![], &schema)?;
    writer.write(&record)?;
    writer.into_inner()
}

fn decode_batch(payload: &[u8]) -> Result<Batch, ArrowError> {
    let mut reader = StreamReader::try_new(Cursor::new(payload), None)?;
    let record = reader.next().ok_or_else(|| ArrowError::ParseError("a batch in flight has no rows".into()))??;
    let mut columns = record.columns().to_vec();
    let has_times = record.schema().fields().last().is_some_and(|field| field.name() == TIME);
    let times = if has_times { columns.pop() } else { None };
    let times = times.map(|times| {
        let times = times.as_primitive_opt::<Int64Type>();
        times
            .map(|times| times.values().clone())
            .ok_or_else(|| ArrowError::ParseError("event times in flight are no times".into()))
    });
    Ok(Batch::new(record.num_rows(), columns, times.transpose()?))
}

#[cfg(test)]
mod tests {
    use arrow_array::{NullArray, StringArray, StringViewArray, StructArray, UInt64Array};
    use arrow_schema::DataType;

    use super::*;

    /// What was written is read: rows with and without event times, without columns, with columns that were left out or have parts; watermarks; idleness.
    #[test]
    fn comes_back() {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from(vec![1, 2])),
            Arc::new(StringArray::from(vec![Some("a"), None])),
            Arc::new(NullArray::new(2)),
            Arc::new(StructArray::from(vec![(
                Arc::new(Field::new("split", DataType::Utf8View, true)),
                Arc::new(StringViewArray::from(vec![None, Some("a path that is longer than a view")])) as ArrayRef,
            )])),
        ];
        let timed = Batch::new(2, columns.clone(), Some(vec![7, 8].into()));
        let messages = [
            Message::Batch(timed.slice(1, 1)),
            Message::Watermark(Watermark(-5)),
            Message::Idle,
            Message::Batch(Batch::new(2, columns, None)),
            Message::Batch(Batch::new(3, vec![], None)),
        ];
        let bytes = encode(&messages).expect("columns of known types");
        let decoded = decode(&bytes).expect("whole bytes");
        assert_eq!(format!("{decoded:?}"), format!("{messages:?}"));
        for end in 1..bytes.len() {
            // It may be whole messages by chance, and is never more than that.
            assert!(decode(&bytes[..end]).is_err() || decode(&bytes[..end]).is_ok_and(|some| some.len() < messages.len()));
        }
    }
}
