//! Writes batches as text: JSON lines or CSV.

use arrow_schema::SchemaRef;
use weir_types::Batch;

use super::cells::{self, CellValues, Cells};
use crate::Error;

/// A format of text for writing, bound to the columns of its rows.
#[derive(Clone)]
pub(crate) enum Encoder {
    /// a JSON object a line; fields without a value are left out
    Jsonl {
        /// before each value: `,"key":`, of which the first value of a row leaves out the comma
        keys: Vec<Vec<u8>>,
    },
    /// CSV
    Csv {
        /// between fields
        delimiter: u8,
        /// for a field without a value
        null: String,
        /// the first line
        header: Vec<u8>,
    },
}

impl Encoder {
    /// JSON lines.
    pub fn jsonl(schema: &SchemaRef) -> Result<Self, Error> {
        schema.fields().iter().try_for_each(|f| cells::check(f))?;
        let key = |field: &arrow_schema::FieldRef| {
            let mut key = vec![b','];
            write_json_text(field.name(), &mut key);
            key.push(b':');
            key
        };
        Ok(Self::Jsonl { keys: schema.fields().iter().map(key).collect() })
    }

    /// CSV.
    pub fn csv(schema: &SchemaRef, delimiter: u8, null: String, with_header: bool) -> Result<Self, Error> {
        let mut header = Vec::new();
        for (i, field) in schema.fields().iter().enumerate() {
            cells::check(field)?;
            if field.data_type().is_nested() {
                return Err(Error::options(format!("csv has no lists and records, as the column \"{}\" is", field.name())));
            }
            if i > 0 {
                header.push(delimiter);
            }
            write_csv_text(field.name(), delimiter, "", &mut header);
        }
        header.push(b'\n');
        Ok(Self::Csv { delimiter, null, header: if with_header { header } else { Vec::new() } })
    }

    /// What comes before all rows.
    pub fn header(&self) -> &[u8] {
        match self {
            Self::Jsonl { .. } => &[],
            Self::Csv { header, .. } => header,
        }
    }

    /// Appends the rows of a batch, a line each (in CSV, a text may hold line ends of its own).
    pub fn encode(&self, batch: &Batch, out: &mut Vec<u8>) {
        let columns: Vec<_> = batch.columns().iter().map(Cells::new).collect();
        match self {
            Self::Jsonl { keys } => {
                for row in 0..batch.rows() {
                    out.push(b'{');
                    let mut comma = 1;
                    for (key, cells) in keys.iter().zip(&columns) {
                        if !cells.is_null(row) {
                            out.extend_from_slice(&key[comma..]);
                            comma = 0;
                            write_json(cells, row, out);
                        }
                    }
                    out.extend_from_slice(b"}\n");
                }
            }
            Self::Csv { delimiter, null, .. } => {
                for row in 0..batch.rows() {
                    for (i, cells) in columns.iter().enumerate() {
                        if i > 0 {
                            out.push(*delimiter);
                        }
                        if cells.is_null(row) {
                            out.extend_from_slice(null.as_bytes());
                        } else if let Some(text) = cells.text(row) {
                            write_csv_text(text, *delimiter, null, out);
                        } else {
                            cells.write_plain(row, out);
                        }
                    }
                    out.push(b'\n');
                }
            }
        }
    }
}

/// Appends a value as JSON.
pub(crate) fn write_json(cells: &Cells, row: usize, out: &mut Vec<u8>) {
    if cells.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    if let Some(text) = cells.text(row) {
        return write_json_text(text, out);
    }
    match &cells.values {
        // JSON has no infinities.
        CellValues::Float64(values) if !values[row].is_finite() => out.extend_from_slice(b"null"),
        CellValues::Float32(values) if !values[row].is_finite() => out.extend_from_slice(b"null"),
        CellValues::List { offsets, items } => {
            out.push(b'[');
            for item in offsets[row] as usize..offsets[row + 1] as usize {
                if item > offsets[row] as usize {
                    out.push(b',');
                }
                write_json(items, item, out);
            }
            out.push(b']');
        }
        CellValues::Record(fields) => {
            out.push(b'{');
            for (i, (name, cells)) in fields.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_json_text(name, out);
                out.push(b':');
                write_json(cells, row, out);
            }
            out.push(b'}');
        }
        CellValues::Time(_) | CellValues::Binary(_) | CellValues::LargeBinary(_) | CellValues::BinaryView(_) => {
            out.push(b'"');
            cells.write_plain(row, out);
            out.push(b'"');
        }
        _ => {
            cells.write_plain(row, out);
        }
    }
}

/// Appends a JSON string.
#[inline(always)]
fn write_json_text(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    // Without an early exit, this loop is a few vector instructions.
    if text.bytes().fold(false, |found, b| found | (b < 0x20) | (b == b'"') | (b == b'\\')) {
        write_json_escaped(text, out);
    } else {
        out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
}

#[cold]
fn write_json_escaped(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
}

/// Appends a CSV field: in quotes if it would be taken for something else.
#[inline(always)]
fn write_csv_text(text: &str, delimiter: u8, null: &str, out: &mut Vec<u8>) {
    let special = |b: u8| (b == delimiter) | (b == b'"') | (b == b'\n') | (b == b'\r');
    if text != null && !text.is_empty() && !text.bytes().fold(false, |found, b| found | special(b)) {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for part in text.split_inclusive('"') {
        out.extend_from_slice(part.as_bytes());
        if part.ends_with('"') {
            out.push(b'"');
        }
    }
    out.push(b'"');
}
