//! Writes rows as messages: a descriptor, bound to the columns that its fields are.

use std::collections::HashMap;

use arrow_schema::{DataType, Field as ArrowField, SchemaRef, TimeUnit};

use super::descriptors::{Descriptors, Field, kind};
use super::reader::TIMESTAMP;
use crate::Error;
use crate::format::cells::{CellValues, Cells};
use crate::format::columns::Reason;

const DEPTH_MAX: usize = 64;

/// A message, bound to columns.
#[derive(Debug)]
pub(crate) struct ProtobufWriter {
    fields: Vec<Bound>,
    /// which of its file's messages it is: the path of its number in each message around it
    pub path: Vec<u64>,
}

/// A field that is a column.
#[derive(Debug)]
struct Bound {
    number: u64,
    /// among those around it
    column: usize,
    is_repeated: bool,
    node: Node,
}

/// How a value is written.
#[derive(Debug)]
enum Node {
    /// a single value of this kind
    Scalar(u64),
    /// the number of a name
    Enum(HashMap<String, i32>),
    /// an instant of Google's own type
    Timestamp,
    Message(Vec<Bound>),
}

impl ProtobufWriter {
    /// Binds a message to columns, which are fields by name. Each has to be one, except those that are `elsewhere` in the record as well.
    ///
    /// # Errors
    /// If `descriptors` is no set of them, there is no such message, or a column cannot be written as its field.
    pub fn new(descriptors: &[u8], message: &str, columns: &SchemaRef, elsewhere: &[usize]) -> Result<Self, Error> {
        let wrong = |why: String| Error::options(format!("the message {message}: {why}"));
        let descriptors = Descriptors::parse(descriptors)
            .map_err(|Reason(why)| Error::options(format!("the file of descriptors is none: {why}")))?;
        let columns: Vec<_> = columns.fields().iter().map(|field| &**field).collect();
        let fields = bind_message(message, &columns, elsewhere, &descriptors, 0).map_err(wrong)?;
        Ok(Self { fields, path: descriptors.paths.get(message).cloned().unwrap_or_default() })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// If a value is none of its field's type.
    pub fn write(&self, columns: &[Cells], row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        self.fields.iter().try_for_each(|field| field.write(&columns[field.column], row, out))
    }
}

fn bind_message(
    name: &str,
    columns: &[&ArrowField],
    elsewhere: &[usize],
    descriptors: &Descriptors,
    depth: usize,
) -> Result<Vec<Bound>, String> {
    if depth > DEPTH_MAX {
        return Err(format!("columns are nested more than {DEPTH_MAX} deep"));
    }
    let fields = descriptors.messages.get(name).ok_or_else(|| format!("there is no descriptor of {name}"))?;
    let mut bound = vec![];
    for (index, column) in columns.iter().enumerate() {
        let Some(field) = fields.iter().find(|field| field.name == *column.name()) else {
            if elsewhere.contains(&index) {
                continue;
            }
            return Err(format!("it has no field \"{}\"", column.name()));
        };
        let refused = || format!("its field \"{}\" cannot be written from {}", column.name(), column.data_type());
        let item = match (field.is_repeated, column.data_type()) {
            (true, DataType::List(item)) if !item.is_nullable() => &**item,
            (true, _) => return Err(refused()),
            (false, _) => *column,
        };
        let node = bind(field, item, descriptors, depth)?.ok_or_else(refused)?;
        bound.push(Bound { number: field.number, column: index, is_repeated: field.is_repeated, node });
    }
    Ok(bound)
}

/// How the values of a column are written; none if they cannot be.
fn bind(field: &Field, column: &ArrowField, descriptors: &Descriptors, depth: usize) -> Result<Option<Node>, String> {
    use DataType::{Binary, Boolean, Float32, Float64, Struct, Timestamp, Utf8};
    let found = column.data_type();
    let is_instant = matches!(found, Timestamp(TimeUnit::Millisecond, _));
    let fits = match (field.kind, found) {
        (kind::MESSAGE, Struct(columns)) => {
            let columns: Vec<_> = columns.iter().map(|field| &**field).collect();
            return bind_message(&field.type_name, &columns, &[], descriptors, depth + 1)
                .map(|fields| Some(Node::Message(fields)));
        }
        (kind::MESSAGE, _) => return Ok((is_instant && field.type_name == TIMESTAMP).then_some(Node::Timestamp)),
        (kind::ENUM, Utf8) => {
            let names = descriptors.enums.get(&field.type_name);
            return Ok(names.map(|names| Node::Enum(names.iter().map(|(number, name)| (name.clone(), *number)).collect())));
        }
        (kind::DOUBLE, found) => matches!(found, Float32 | Float64),
        (kind::FLOAT, found) => *found == Float32,
        (kind::BOOL, found) => *found == Boolean,
        (kind::STRING, found) => *found == Utf8,
        (kind::BYTES, found) => *found == Binary,
        (kind::INT64 | kind::SINT64 | kind::SFIXED64, found) => found.is_integer() || is_instant,
        (kind::UINT64 | kind::FIXED64, found) => found.is_integer() || is_instant,
        (kind::INT32 | kind::UINT32 | kind::SINT32 | kind::FIXED32 | kind::SFIXED32 | kind::ENUM, found) => found.is_integer(),
        _ => false,
    };
    Ok(fits.then_some(Node::Scalar(field.kind)))
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn blob(bytes: &[u8], out: &mut Vec<u8>) {
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

impl Bound {
    /// A field without a value is left out.
    fn write(&self, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        if cells.is_null(row) {
            return Ok(());
        }
        match &cells.values {
            CellValues::List { offsets, items } if self.is_repeated => {
                // Each item has the field's number before it: whoever reads that also takes it for lists that could be packed.
                (offsets[row] as usize..offsets[row + 1] as usize).try_for_each(|item| self.value(items, item, out))
            }
            _ => self.value(cells, row, out),
        }
    }

    fn value(&self, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        let tag = |encoding: u64, out: &mut Vec<u8>| varint(self.number << 3 | encoding, out);
        match &self.node {
            Node::Scalar(kind) => match *kind {
                kind::DOUBLE | kind::FIXED64 | kind::SFIXED64 => tag(1, out),
                kind::FLOAT | kind::FIXED32 | kind::SFIXED32 => tag(5, out),
                kind::STRING | kind::BYTES => tag(2, out),
                _ => tag(0, out),
            },
            Node::Enum(_) => tag(0, out),
            Node::Timestamp | Node::Message(_) => tag(2, out),
        }
        match (&self.node, &cells.values) {
            (Node::Scalar(kind), _) => scalar(*kind, cells, row, out)?,
            (Node::Enum(names), _) => {
                let name = cells.text(row).unwrap_or_default();
                // A number without a name was read as such.
                let number = names.get(name).copied().or_else(|| name.parse().ok());
                let unknown = || Reason(format!("\"{name}\" is no name of the enum"));
                varint(i64::from(number.ok_or_else(unknown)?) as u64, out);
            }
            (Node::Timestamp, CellValues::Time(values)) => {
                let mut inside = vec![];
                let (seconds, nanos) = (values[row].div_euclid(1000), values[row].rem_euclid(1000) * 1_000_000);
                for (number, value) in [(1, seconds), (2, nanos)].into_iter().filter(|(_, value)| *value != 0) {
                    varint(number << 3, &mut inside);
                    varint(value as u64, &mut inside);
                }
                blob(&inside, out);
            }
            (Node::Message(fields), CellValues::Record(columns)) => {
                let mut inside = vec![];
                fields.iter().try_for_each(|field| field.write(&columns[field.column].1, row, &mut inside))?;
                blob(&inside, out);
            }
            _ => unreachable!("types were checked when the message was bound"),
        }
        Ok(())
    }
}

fn scalar(of: u64, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    match (of, &cells.values) {
        (kind::STRING, _) => blob(cells.text(row).unwrap_or_default().as_bytes(), out),
        (kind::BYTES, _) => blob(cells.bytes(row).unwrap_or_default(), out),
        (kind::DOUBLE, CellValues::Float64(values)) => out.extend_from_slice(&values[row].to_le_bytes()),
        (kind::DOUBLE, CellValues::Float32(values)) => out.extend_from_slice(&f64::from(values[row]).to_le_bytes()),
        (kind::FLOAT, CellValues::Float32(values)) => out.extend_from_slice(&values[row].to_le_bytes()),
        (kind::BOOL, CellValues::Boolean(values)) => out.push(u8::from(values.value(row))),
        _ => return integer(of, cells.integer(row).unwrap_or_default(), out),
    }
    Ok(())
}

fn integer(of: u64, value: i128, out: &mut Vec<u8>) -> Result<(), Reason> {
    let range = || Reason(format!("{value} is out of range"));
    let signed =
        |bits: u32| i64::try_from(value).ok().filter(|value| bits == 64 || i32::try_from(*value).is_ok()).ok_or_else(range);
    let unsigned =
        |bits: u32| u64::try_from(value).ok().filter(|value| bits == 64 || u32::try_from(*value).is_ok()).ok_or_else(range);
    match of {
        kind::INT64 => varint(signed(64)? as u64, out),
        kind::INT32 | kind::ENUM => varint(signed(32)? as u64, out),
        kind::UINT64 => varint(unsigned(64)?, out),
        kind::UINT32 => varint(unsigned(32)?, out),
        kind::SINT64 | kind::SINT32 => {
            let value = signed(if of == kind::SINT64 { 64 } else { 32 })?;
            varint((value << 1 ^ value >> 63) as u64, out);
        }
        kind::FIXED64 => out.extend_from_slice(&unsigned(64)?.to_le_bytes()),
        kind::SFIXED64 => out.extend_from_slice(&signed(64)?.to_le_bytes()),
        kind::FIXED32 => out.extend_from_slice(&(unsigned(32)? as u32).to_le_bytes()),
        _ => out.extend_from_slice(&(signed(32)? as i32).to_le_bytes()),
    }
    Ok(())
}
