//! Makes Kafka's records of rows.

use std::sync::Arc;

use arrow_schema::{DataType, Schema, SchemaRef};
use weir_types::Batch;

use super::options::{Format, Key};
use crate::Error;
use crate::format::cells::{self, Cells};
use crate::format::encoder::Encoder;

/// Makes records of rows of one schema. What it needs of memory is kept from batch to batch.
pub(super) struct Encoding {
    key: KeyOf,
    value: ValueOf,
    keys: Vec<u8>,
    values: Vec<u8>,
}

#[derive(Clone)]
enum KeyOf {
    None,
    /// a column as it is
    Column(usize),
    /// columns as JSON
    Columns(Vec<usize>, Encoder),
}

#[derive(Clone)]
enum ValueOf {
    /// all columns as JSON
    Json(Encoder),
    /// a column as it is
    Raw(usize),
}

impl Clone for Encoding {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), value: self.value.clone(), keys: vec![], values: vec![] }
    }
}

impl Encoding {
    /// Binds the format to the columns.
    ///
    /// # Errors
    /// If there is no such column, or it cannot be written.
    pub fn new(format: Format, key: &Key, schema: &SchemaRef) -> Result<Self, Error> {
        let column = |name: &String| {
            schema.index_of(name).map_err(|_| {
                let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Error::options(format!("the key of kafka is \"{name}\", but the columns are: {}", names.join(", ")))
            })
        };
        let (key, key_columns) = match key {
            Key::None => (KeyOf::None, vec![]),
            Key::Column(name) => {
                let column = column(name)?;
                let field = schema.field(column);
                cells::check(field)?;
                if field.data_type().is_nested() {
                    return Err(Error::options(format!("the column \"{name}\" is a list or a record, which cannot be a key")));
                }
                (KeyOf::Column(column), vec![column])
            }
            Key::Columns(names) => {
                let columns = names.iter().map(column).collect::<Result<Vec<_>, _>>()?;
                let fields: Vec<_> = columns.iter().map(|&column| Arc::clone(&schema.fields()[column])).collect();
                (KeyOf::Columns(columns.clone(), Encoder::jsonl(&Arc::new(Schema::new(fields)))?), columns)
            }
        };
        let value = match format {
            Format::Json => ValueOf::Json(Encoder::jsonl(schema)?),
            Format::Raw => {
                let others: Vec<_> = (0..schema.fields().len()).filter(|column| !key_columns.contains(column)).collect();
                match others[..] {
                    [column] if matches!(schema.field(column).data_type(), DataType::Utf8 | DataType::Binary) => {
                        ValueOf::Raw(column)
                    }
                    _ => {
                        return Err(Error::options("a raw value is one column besides those of the key, of type utf8 or binary"));
                    }
                }
            }
        };
        Ok(Self { key, value, keys: vec![], values: vec![] })
    }

    /// Gives the key and the value of each row. Returns how many bytes they are.
    pub fn each(
        &mut self,
        batch: &Batch,
        mut send: impl FnMut(Option<&[u8]>, Option<&[u8]>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        self.keys.clear();
        self.values.clear();
        let column = |column: usize| Cells::new(batch.column(column));
        let key_cells = if let KeyOf::Column(key) = self.key { Some(column(key)) } else { None };
        let value_cells = if let ValueOf::Raw(value) = self.value { Some(column(value)) } else { None };
        if let KeyOf::Columns(columns, encoder) = &self.key {
            encoder.encode(&batch.project(columns), &mut self.keys);
        }
        if let ValueOf::Json(encoder) = &self.value {
            encoder.encode(batch, &mut self.values);
        }
        let (mut keys, mut values) = (lines(&self.keys), lines(&self.values));
        let (mut plain, mut bytes) = (vec![], 0);
        for row in 0..batch.rows() {
            let key = match &key_cells {
                Some(cells) => bytes_of(cells, row).or_else(|| spelled(cells, row, &mut plain)),
                None => keys.next(),
            };
            let value = match &value_cells {
                Some(cells) => bytes_of(cells, row),
                None => values.next(),
            };
            bytes += (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
            send(key, value)?;
        }
        Ok(bytes)
    }
}

/// The lines of JSON, in which no other line ends are, without their ends.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', text).map(move |end| &text[std::mem::replace(&mut start, end + 1)..end])
}

/// A value of text or bytes, as it is; none if there is none.
fn bytes_of<'a>(cells: &Cells<'a>, row: usize) -> Option<&'a [u8]> {
    if cells.is_null(row) { None } else { cells.text(row).map(str::as_bytes).or_else(|| cells.bytes(row)) }
}

/// Any other value, as text, for which there is room in `out`.
fn spelled<'a>(cells: &Cells, row: usize, out: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    out.clear();
    (!cells.is_null(row) && cells.write_plain(row, out)).then_some(out)
}
