//! Makes Kafka's records of rows.

use std::sync::Arc;

use arrow_schema::{DataType, Schema, SchemaRef};
use rdkafka::message::{Header, OwnedHeaders};
use weir_types::Batch;

use super::options::{Key, SinkOptions, Written};
use super::records;
use crate::format::avro::AvroWriter;
use crate::format::cells::{self, CellValues, Cells};
use crate::format::columns::Reason;
use crate::format::encoder::Encoder;
use crate::format::protobuf::ProtobufWriter;
use crate::{Context, Error};

/// Makes records of rows of one schema. What it needs of memory is kept from batch to batch.
pub(super) struct Encoding {
    key: KeyOf,
    value: ValueOf,
    /// the column of the headers
    headers: Option<usize>,
    keys: Pieces,
    values: Pieces,
}

/// What rows were encoded to, one after another.
#[derive(Default)]
struct Pieces {
    bytes: Vec<u8>,
    /// where each ends
    ends: Vec<usize>,
    /// so many of its last bytes are none of it
    gap: usize,
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
    /// these columns as JSON
    Json(Vec<usize>, Encoder),
    /// columns as a record of Avro, behind some bytes
    Avro(Arc<AvroWriter>, Vec<u8>),
    /// columns as a message of Protocol Buffers, behind some bytes
    Protobuf(Arc<ProtobufWriter>, Vec<u8>),
    /// a column as it is
    Raw(usize),
}

impl Clone for Encoding {
    fn clone(&self) -> Self {
        let (key, value, headers) = (self.key.clone(), self.value.clone(), self.headers);
        Self { key, value, headers, keys: Pieces::default(), values: Pieces::default() }
    }
}

impl Encoding {
    /// Binds the format to the columns.
    ///
    /// # Errors
    /// If there is no such column, or it cannot be written.
    pub fn new(options: &SinkOptions, schema: &SchemaRef, context: &Context) -> Result<Self, Error> {
        let find = |what: &str, name: &String| {
            schema.index_of(name).map_err(|_| {
                let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Error::options(format!("the {what} of kafka is \"{name}\", but the columns are: {}", names.join(", ")))
            })
        };
        let column = |name: &String| find("key", name);
        let headers = options.headers.as_ref().map(|name| find("column of headers", name)).transpose()?;
        if let Some(field) = headers.map(|column| schema.field(column))
            && !records::is_list_of_headers(field)
        {
            let (name, found) = (field.name(), field.data_type());
            return Err(Error::options(format!(
                "the column \"{name}\" is {found}; headers are a list of records of key (utf8) and value (utf8 or binary)"
            )));
        }
        let (key, key_columns) = match &options.key {
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
        let elsewhere: Vec<_> = key_columns.iter().copied().chain(headers).collect();
        let (written, schema_id) = options.written(context)?;
        let mut prefix = schema_id.map_or_else(Vec::new, |id| [&[0], &id.to_be_bytes()[..]].concat());
        let value = match written {
            Written::Json => {
                let columns: Vec<_> = (0..schema.fields().len()).filter(|column| Some(*column) != headers).collect();
                let fields: Vec<_> = columns.iter().map(|&column| Arc::clone(&schema.fields()[column])).collect();
                ValueOf::Json(columns, Encoder::jsonl(&Arc::new(Schema::new(fields)))?)
            }
            Written::Avro(text) => ValueOf::Avro(Arc::new(AvroWriter::new(&text, schema, &elsewhere)?), prefix),
            Written::Protobuf(descriptors, message) => {
                let writer = ProtobufWriter::new(&descriptors, &message, schema, &elsewhere)?;
                if schema_id.is_some() {
                    prefix.extend(indexed(&writer.path));
                }
                ValueOf::Protobuf(Arc::new(writer), prefix)
            }
            Written::Raw => {
                let others: Vec<_> = (0..schema.fields().len()).filter(|column| !elsewhere.contains(column)).collect();
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
        Ok(Self { key, value, headers, keys: Pieces::default(), values: Pieces::default() })
    }

    /// Gives the key, the value and the headers of each row. Returns how many bytes the key and the value are.
    ///
    /// # Errors
    /// If a value does not fit its format, or as `send` says.
    pub fn each<'a>(
        &'a mut self,
        batch: &'a Batch,
        mut send: impl FnMut(Option<&'a [u8]>, Option<&'a [u8]>, Option<OwnedHeaders>) -> Result<(), Error>,
    ) -> Result<u64, Error> {
        self.spell_keys(batch);
        self.encode_values(batch)?;
        let column = |column: usize| Cells::new(batch.column(column));
        let key_cells = if let KeyOf::Column(key) = self.key { Some(column(key)) } else { None };
        let value_cells = if let ValueOf::Raw(value) = self.value { Some(column(value)) } else { None };
        let header_cells = self.headers.map(column);
        let (mut keys, mut values) = (self.keys.iter(), self.values.iter());
        let mut bytes = 0;
        for row in 0..batch.rows() {
            let key = match &key_cells {
                Some(cells) if cells.is_null(row) => None,
                Some(cells) => bytes_of(cells, row).or_else(|| keys.next()),
                None => keys.next(),
            };
            let value = match &value_cells {
                Some(cells) => bytes_of(cells, row),
                None => values.next(),
            };
            bytes += (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
            send(key, value, header_cells.as_ref().map(|cells| headers_of(cells, row)))?;
        }
        Ok(bytes)
    }

    /// Spells the keys that no column has as they are.
    fn spell_keys(&mut self, batch: &Batch) {
        self.keys.clear();
        match &self.key {
            KeyOf::None => {}
            KeyOf::Column(column) => {
                let cells = Cells::new(batch.column(*column));
                for row in (0..batch.rows()).filter(|&row| !cells.is_null(row) && bytes_of(&cells, row).is_none()) {
                    cells.write_plain(row, &mut self.keys.bytes);
                    self.keys.end();
                }
            }
            KeyOf::Columns(columns, encoder) => self.keys.fill(&batch.project(columns), encoder),
        }
    }

    /// Encodes the values that no column has as they are.
    fn encode_values(&mut self, batch: &Batch) -> Result<(), Error> {
        self.values.clear();
        let cells = || batch.columns().iter().map(Cells::new).collect::<Vec<_>>();
        match &self.value {
            ValueOf::Json(columns, encoder) => self.values.fill(&batch.project(columns), encoder),
            ValueOf::Raw(_) => {}
            ValueOf::Avro(writer, prefix) => {
                let cells = cells();
                self.values.fill_each(batch.rows(), prefix, |row, out| writer.write(&cells, row, out))?;
            }
            ValueOf::Protobuf(writer, prefix) => {
                let cells = cells();
                self.values.fill_each(batch.rows(), prefix, |row, out| writer.write(&cells, row, out))?;
            }
        }
        Ok(())
    }
}

impl Pieces {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Ends the piece whose bytes were appended.
    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    /// Appends rows, a JSON object each.
    fn fill(&mut self, batch: &Batch, encoder: &Encoder) {
        encoder.encode(batch, &mut self.bytes);
        // No other line feeds are in JSON than those behind the rows.
        self.ends.extend(memchr::memchr_iter(b'\n', &self.bytes).map(|at| at + 1));
        self.gap = 1;
    }

    /// Appends rows that `write` writes, each behind the prefix.
    fn fill_each(
        &mut self,
        rows: usize,
        prefix: &[u8],
        write: impl Fn(usize, &mut Vec<u8>) -> Result<(), Reason>,
    ) -> Result<(), Error> {
        for row in 0..rows {
            self.bytes.extend_from_slice(prefix);
            write(row, &mut self.bytes).map_err(|reason| malformed(&reason, row))?;
            self.end();
        }
        Ok(())
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.bytes[std::mem::replace(&mut start, end)..end - self.gap])
    }
}

fn malformed(Reason(why): &Reason, row: usize) -> Error {
    Error::malformed(format!("row {row} of a batch cannot be written as the format has it: {why}"))
}

/// The path to a message's descriptor: a number of numbers, or a single zero for the first.
fn indexed(path: &[u64]) -> Vec<u8> {
    let mut out = vec![];
    // The numbers have a sign, in their lowest bit, and 7 bits a byte.
    let mut number = |value: u64| {
        let mut rest = value << 1;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    };
    number(if path == [0] { 0 } else { path.len() as u64 });
    path.iter().filter(|_| path != [0]).for_each(|index| number(*index));
    out
}

/// The headers of a row.
fn headers_of(cells: &Cells, row: usize) -> OwnedHeaders {
    let mut headers = OwnedHeaders::new();
    if let (false, CellValues::List { offsets, items }) = (cells.is_null(row), &cells.values)
        && let CellValues::Record(columns) = &items.values
        && let [(_, keys), (_, values)] = &columns[..]
    {
        for item in offsets[row] as usize..offsets[row + 1] as usize {
            headers = headers.insert(Header { key: keys.text(item).unwrap_or_default(), value: bytes_of(values, item) });
        }
    }
    headers
}

/// A value of text or bytes, as it is; none if there is none.
fn bytes_of<'a>(cells: &Cells<'a>, row: usize) -> Option<&'a [u8]> {
    if cells.is_null(row) { None } else { cells.text(row).map(str::as_bytes).or_else(|| cells.bytes(row)) }
}
