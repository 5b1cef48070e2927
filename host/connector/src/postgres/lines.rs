//! Rows as the text that COPY reads: a line each, tabs between the values.

use arrow_schema::{DataType, SchemaRef};
use weir_types::Batch;

use super::instants;
use super::table::Column;
use crate::Error;
use crate::format::cells::{self, CellValues, Cells};
use crate::format::encoder::write_json;

/// How the columns of a sink become text.
#[derive(Clone)]
pub(super) struct Lines {
    pub schema: SchemaRef,
    /// by column, whether its instants are milliseconds in the table
    in_millis: Vec<bool>,
}

impl Lines {
    /// For rows of a schema.
    pub fn new(schema: &SchemaRef) -> Result<Self, Error> {
        schema.fields().iter().try_for_each(|field| cells::check(field))?;
        Ok(Self { schema: SchemaRef::clone(schema), in_millis: vec![false; schema.fields().len()] })
    }

    /// For a table whose columns, in the order of the schema, are these.
    pub fn for_table(&self, columns: &[Column]) -> Self {
        let in_millis = columns.iter().map(|column| column.base == "int8").collect();
        Self { schema: SchemaRef::clone(&self.schema), in_millis }
    }

    /// Appends the rows of a batch. If `number` is given, each line begins with a number, from there on.
    pub fn encode(&self, batch: &Batch, mut number: Option<&mut u64>, out: &mut Vec<u8>) {
        let columns: Vec<_> = batch.columns().iter().map(Cells::new).collect();
        let mut json = Vec::new();
        for row in 0..batch.rows() {
            if let Some(number) = &mut number {
                out.extend_from_slice(itoa::Buffer::new().format(**number).as_bytes());
                out.push(b'\t');
                **number += 1;
            }
            for (index, cells) in columns.iter().enumerate() {
                if index > 0 {
                    out.push(b'\t');
                }
                self.encode_cell(index, cells, row, &mut json, out);
            }
            out.push(b'\n');
        }
    }

    fn encode_cell(&self, index: usize, cells: &Cells, row: usize, json: &mut Vec<u8>, out: &mut Vec<u8>) {
        if cells.is_null(row) {
            return out.extend_from_slice(b"\\N");
        }
        if let Some(text) = cells.text(row) {
            return escape(text.as_bytes(), out);
        }
        if let Some(bytes) = cells.bytes(row) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(b"\\\\x");
            return bytes.iter().for_each(|byte| out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]));
        }
        match &cells.values {
            CellValues::Time(times) if self.in_millis.get(index) == Some(&true) => {
                out.extend_from_slice(itoa::Buffer::new().format(times[row]).as_bytes());
            }
            CellValues::Time(times) => instants::write(times[row], out),
            CellValues::List { .. } | CellValues::Record(_) => {
                json.clear();
                write_json(cells, row, json);
                escape(json, out);
            }
            _ => {
                cells.write_plain(row, out);
            }
        }
    }
}

/// Appends text in which nothing ends a value or a line.
fn escape(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.push(byte),
        }
    }
}

/// Which types of a table take the values of a column, with the best one first. The names are those of `pg_type`.
pub(super) fn takers(data_type: &DataType) -> &'static [&'static str] {
    use DataType::*;
    match data_type {
        Boolean => &["bool"],
        Int8 | Int16 | UInt8 => &["int2", "int4", "int8", "numeric"],
        Int32 | UInt16 => &["int4", "int8", "numeric"],
        Int64 | UInt32 => &["int8", "numeric"],
        // Few numbers are so great that they do not fit into the first; the database refuses these.
        UInt64 => &["int8", "numeric"],
        Float32 => &["float4", "float8"],
        Float64 => &["float8"],
        Utf8 | LargeUtf8 | Utf8View => {
            &["text", "varchar", "bpchar", "citext", "name", "json", "jsonb", "uuid", "numeric", "date", "time", "inet", "enum"]
        }
        Binary | LargeBinary | BinaryView => &["bytea"],
        Timestamp(..) => &["timestamptz", "timestamp", "int8"],
        List(_) | Struct(_) => &["jsonb", "json"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, StringArray, TimestampMillisecondArray};
    use arrow_schema::{Field, Schema};

    use super::*;

    #[test]
    fn nothing_ends_a_value_but_its_end() {
        // Goal: values with tabs, line ends and backslashes, bytes, no values and the text of no value are told apart.
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(vec![Some("a\tb\\c\r\n"), None, Some("\\N"), Some("")])),
            Arc::new(BinaryArray::from(vec![Some(&[0, 255][..]), None, Some(b""), Some(b"\\")])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(0), None, Some(1), Some(2)])),
        ];
        let fields = columns.iter().map(|c| Field::new("c", c.data_type().clone(), true)).collect::<Vec<_>>();
        let lines = Lines::new(&Arc::new(Schema::new(fields))).unwrap();
        let (mut out, mut number) = (Vec::new(), 9);
        lines.encode(&Batch::new(4, columns, None), Some(&mut number), &mut out);
        let expected = [
            "9\ta\\tb\\\\c\\r\\n\t\\\\x00ff\t1970-01-01T00:00:00Z",
            "10\t\\N\t\\N\t\\N",
            "11\t\\\\N\t\\\\x\t1970-01-01T00:00:00.001Z",
            "12\t\t\\\\x5c\t1970-01-01T00:00:00.002Z",
        ];
        assert_eq!(String::from_utf8(out).unwrap().lines().collect::<Vec<_>>(), expected);
        assert_eq!(number, 13);
    }
}
