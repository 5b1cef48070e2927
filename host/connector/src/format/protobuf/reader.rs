//! Reads messages into columns: a descriptor, bound to the columns that are wanted. The other fields are passed over.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use arrow_schema::{DataType, Field as ArrowField, SchemaRef, TimeUnit};

use super::descriptors::{Descriptors, Field, kind};
use super::wire::{Cursor, Value};
use crate::Error;
use crate::format::columns::{Column, Reason, Rows, Values};

const DEPTH_MAX: usize = 64;
pub(super) const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// From the first second of the year 1 to the last one of 9999.
const TIMESTAMP_SECONDS: RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

type Parsed<T> = Result<T, Reason>;

/// A message, bound to columns.
#[derive(Debug)]
pub(crate) struct Protobuf {
    message: Message,
}

/// A message: its fields that are columns.
#[derive(Clone, Debug)]
struct Message {
    fields: Vec<Bound>,
    /// the columns that are no fields
    missing: Vec<usize>,
    /// by the number of a field of a `oneof`: the columns of the others, which have no value once it has one
    choices: Vec<(u64, Vec<usize>)>,
}

/// A field that is a column.
#[derive(Clone, Debug)]
struct Bound {
    number: u64,
    /// among those around it
    column: usize,
    is_repeated: bool,
    has_default: bool,
    node: Node,
}

/// How a value is put into its column.
#[derive(Clone, Debug)]
enum Node {
    /// a single value of this kind
    Scalar(u64),
    /// the name of a number
    Enum(HashMap<i32, String>),
    /// an instant of Google's own type
    Timestamp,
    Message(Message),
}

impl Protobuf {
    /// Binds a message to columns. Columns are fields by name; one that is no field has no value.
    ///
    /// # Errors
    /// If `descriptors` is no set of them, there is no such message, or a column cannot be read from its field.
    pub fn new(descriptors: &[u8], message: &str, columns: &SchemaRef) -> Result<Self, Error> {
        let wrong = |why: String| Error::options(format!("the message {message}: {why}"));
        let descriptors = Descriptors::parse(descriptors)
            .map_err(|Reason(why)| Error::options(format!("the file of descriptors is none: {why}")))?;
        let columns: Vec<_> = columns.fields().iter().map(|field| &**field).collect();
        let bound = bind_message(message, &columns, &descriptors, 0).map_err(wrong)?;
        match bound.missing.iter().find(|&&column| !columns[column].is_nullable()) {
            Some(&column) => Err(wrong(format!("it has no field \"{}\"", columns[column].name()))),
            None => Ok(Self { message: bound }),
        }
    }

    /// Reads a message into a row.
    pub fn read(&self, bytes: &[u8], rows: &mut Rows) -> Parsed<()> {
        let row = rows.len();
        self.message.read(bytes, &mut rows.columns, row)
    }
}

fn bind_message(name: &str, columns: &[&ArrowField], descriptors: &Descriptors, depth: usize) -> Result<Message, String> {
    if depth > DEPTH_MAX {
        return Err(format!("columns are nested more than {DEPTH_MAX} deep"));
    }
    let fields = descriptors.messages.get(name).ok_or_else(|| format!("there is no descriptor of {name}"))?;
    let (mut bound, mut missing) = (vec![], vec![]);
    for (index, column) in columns.iter().enumerate() {
        let Some(field) = fields.iter().find(|field| field.name == *column.name()) else {
            missing.push(index);
            continue;
        };
        let refused = || format!("its field \"{}\" cannot be read as {}", column.name(), column.data_type());
        let item = match (field.is_repeated, column.data_type()) {
            (true, DataType::List(item)) => &**item,
            (true, _) => return Err(refused()),
            (false, _) => *column,
        };
        bound.push(Bound {
            number: field.number,
            column: index,
            is_repeated: field.is_repeated,
            has_default: field.has_default,
            node: bind(field, item, descriptors, depth)?.ok_or_else(refused)?,
        });
    }
    let choices = choices(fields, columns);
    Ok(Message { fields: bound, missing, choices })
}

/// Which columns have no value once a field has one, also a field that is no column.
fn choices(fields: &[Field], columns: &[&ArrowField]) -> Vec<(u64, Vec<usize>)> {
    let others = |field: &Field| {
        let of_same = fields.iter().filter(|other| other.oneof == field.oneof && other.number != field.number);
        of_same.filter_map(|other| columns.iter().position(|column| *column.name() == other.name)).collect::<Vec<_>>()
    };
    let of_oneofs = fields.iter().filter(|field| field.oneof.is_some());
    of_oneofs.map(|field| (field.number, others(field))).filter(|(_, others)| !others.is_empty()).collect()
}

/// How a value goes into a column; none if it cannot.
fn bind(field: &Field, column: &ArrowField, descriptors: &Descriptors, depth: usize) -> Result<Option<Node>, String> {
    use DataType::{Binary, Boolean, Float32, Float64, Struct, Timestamp, Utf8};
    let found = column.data_type();
    let is_instant = matches!(found, Timestamp(TimeUnit::Millisecond, _));
    let fits = match (field.kind, found) {
        (kind::MESSAGE, Struct(columns)) => {
            let columns: Vec<_> = columns.iter().map(|field| &**field).collect();
            return bind_message(&field.type_name, &columns, descriptors, depth + 1).map(|message| Some(Node::Message(message)));
        }
        (kind::MESSAGE, _) => return Ok((is_instant && field.type_name == TIMESTAMP).then_some(Node::Timestamp)),
        (kind::ENUM, Utf8) => return Ok(descriptors.enums.get(&field.type_name).cloned().map(Node::Enum)),
        (kind::DOUBLE | kind::FLOAT, found) => matches!(found, Float32 | Float64),
        (kind::BOOL, found) => *found == Boolean,
        (kind::STRING, found) => *found == Utf8,
        (kind::BYTES, found) => *found == Binary,
        (
            kind::INT64
            | kind::UINT64
            | kind::INT32
            | kind::FIXED64
            | kind::FIXED32
            | kind::UINT32
            | kind::ENUM
            | kind::SFIXED32
            | kind::SFIXED64
            | kind::SINT32
            | kind::SINT64,
            found,
        ) => found.is_integer() || is_instant,
        _ => false,
    };
    Ok(fits.then_some(Node::Scalar(field.kind)))
}

impl Message {
    /// Reads the fields of a message into the columns around them, each of which has `row` values before.
    fn read(&self, bytes: &[u8], columns: &mut [Column], row: usize) -> Parsed<()> {
        let mut cursor = Cursor(bytes);
        while !cursor.is_empty() {
            let (number, value) = cursor.field()?;
            // Of a `oneof`, the last field counts.
            if let Some((_, others)) = self.choices.iter().find(|(of, _)| *of == number) {
                for &other in others {
                    if columns[other].len() > row {
                        columns[other].truncate(row);
                    }
                }
            }
            let Some(bound) = self.fields.iter().find(|bound| bound.number == number) else { continue };
            let column = &mut columns[bound.column];
            bound.read(value, column, row).map_err(|Reason(why)| Reason(format!("\"{}\": {why}", column.name())))?;
        }
        for bound in &self.fields {
            bound.end(&mut columns[bound.column], row)?;
        }
        for &column in &self.missing {
            columns[column].push_null().map_err(|_| Reason(format!("\"{}\" is missing", columns[column].name())))?;
        }
        Ok(())
    }
}

impl Bound {
    /// Takes a value as it comes.
    fn read(&self, value: Value, column: &mut Column, row: usize) -> Parsed<()> {
        if !self.is_repeated {
            // Of a field that comes twice, the last one counts.
            if column.len() > row {
                column.truncate(row);
            }
            return self.node.put(value, column);
        }
        let Values::List { item, .. } = &mut column.values else { unreachable!("types were checked when the message was bound") };
        match (&self.node, value) {
            // Numbers of a list may be packed into one value.
            (Node::Scalar(kind), Value::Bytes(packed)) if !matches!(*kind, kind::STRING | kind::BYTES) => {
                unpack(*kind, packed, |value| self.node.put(value, item))
            }
            (Node::Enum(_), Value::Bytes(packed)) => unpack(kind::ENUM, packed, |value| self.node.put(value, item)),
            (node, value) => node.put(value, item),
        }
    }

    /// There are no more values of the field.
    fn end(&self, column: &mut Column, row: usize) -> Parsed<()> {
        if let (true, Values::List { offsets, item }) = (self.is_repeated, &mut column.values) {
            offsets.push(i32::try_from(item.len()).map_err(|_| Reason("a batch has too many items".into()))?);
            column.set();
            return Ok(());
        }
        if column.len() > row {
            return Ok(());
        }
        let default = match &self.node {
            Node::Scalar(kind::STRING | kind::BYTES) => Some(Value::Bytes(&[])),
            Node::Scalar(kind::DOUBLE | kind::FIXED64 | kind::SFIXED64) => Some(Value::Fixed64(0)),
            Node::Scalar(kind::FLOAT | kind::FIXED32 | kind::SFIXED32) => Some(Value::Fixed32(0)),
            Node::Scalar(_) | Node::Enum(_) => Some(Value::Varint(0)),
            Node::Timestamp | Node::Message(_) => None,
        };
        match default.filter(|_| self.has_default) {
            Some(default) => self.node.put(default, column),
            None => column.push_null().map_err(|_| Reason(format!("\"{}\" is missing", column.name()))),
        }
    }
}

/// Gives the values of a packed list, one by one.
fn unpack(kind: u64, packed: &[u8], mut each: impl FnMut(Value) -> Parsed<()>) -> Parsed<()> {
    let mut cursor = Cursor(packed);
    while !cursor.is_empty() {
        each(match kind {
            kind::DOUBLE | kind::FIXED64 | kind::SFIXED64 => Value::Fixed64(cursor.fixed64()?),
            kind::FLOAT | kind::FIXED32 | kind::SFIXED32 => Value::Fixed32(cursor.fixed32()?),
            _ => Value::Varint(cursor.varint()?),
        })?;
    }
    Ok(())
}

impl Node {
    fn put(&self, value: Value, column: &mut Column) -> Parsed<()> {
        let row = column.len();
        match (self, value, &mut column.values) {
            (Self::Message(message), Value::Bytes(bytes), Values::Record { columns, .. }) => message.read(bytes, columns, row)?,
            (Self::Timestamp, Value::Bytes(bytes), Values::Time(values)) => values.push(timestamp(bytes)?),
            (Self::Enum(names), Value::Varint(number), Values::Text(values)) => {
                // A number without a name is one that the writer's descriptors have, and these have not.
                match names.get(&(number as i32)) {
                    Some(name) => values.data.extend_from_slice(name.as_bytes()),
                    None => values.data.extend_from_slice((number as i32).to_string().as_bytes()),
                }
                values.end_value();
            }
            (Self::Scalar(kind), value, values) => scalar(*kind, value, values)?,
            _ => return Err(Reason("it is encoded as another type".into())),
        }
        column.set();
        Ok(())
    }
}

fn scalar(kind: u64, value: Value, values: &mut Values) -> Parsed<()> {
    let sign = |value: u64| (value >> 1) as i64 ^ -((value & 1) as i64);
    let integer = match (kind, value, &mut *values) {
        (kind::STRING, Value::Bytes(bytes), Values::Text(values)) => {
            std::str::from_utf8(bytes).map_err(|_| Reason("it is not UTF-8".into()))?;
            values.data.extend_from_slice(bytes);
            values.end_value();
            return Ok(());
        }
        (kind::BYTES, Value::Bytes(bytes), Values::Binary(values)) => {
            values.data.extend_from_slice(bytes);
            values.end_value();
            return Ok(());
        }
        (kind::BOOL, Value::Varint(value), Values::Boolean(values)) => {
            values.append(value != 0);
            return Ok(());
        }
        (kind::DOUBLE, Value::Fixed64(value), values) => return float(values, f64::from_bits(value)),
        (kind::FLOAT, Value::Fixed32(value), values) => return float(values, f32::from_bits(value).into()),
        (kind::INT64, Value::Varint(value), _) | (kind::SFIXED64, Value::Fixed64(value), _) => i128::from(value as i64),
        (kind::UINT64, Value::Varint(value), _) | (kind::FIXED64, Value::Fixed64(value), _) => i128::from(value),
        (kind::INT32 | kind::ENUM, Value::Varint(value), _) => i128::from(value as i32),
        (kind::UINT32, Value::Varint(value), _) => i128::from(value as u32),
        (kind::SFIXED32, Value::Fixed32(value), _) => i128::from(value as i32),
        (kind::FIXED32, Value::Fixed32(value), _) => i128::from(value),
        (kind::SINT32 | kind::SINT64, Value::Varint(value), _) => i128::from(sign(value)),
        _ => return Err(Reason("it is encoded as another type".into())),
    };
    values.push_integer(integer)
}

fn float(values: &mut Values, value: f64) -> Parsed<()> {
    match values {
        Values::Float32(values) => values.push(value as f32),
        Values::Float64(values) => values.push(value),
        _ => unreachable!("types were checked when the message was bound"),
    }
    Ok(())
}

/// Google's instant in milliseconds: seconds since 1970, of the years 1 to 9999, and nanoseconds, which go on from there.
fn timestamp(bytes: &[u8]) -> Parsed<i64> {
    let (mut seconds, mut nanos) = (0_i64, 0_i64);
    let mut cursor = Cursor(bytes);
    while !cursor.is_empty() {
        match cursor.field()? {
            (1, Value::Varint(value)) => seconds = value as i64,
            (2, Value::Varint(value)) => nanos = i64::from(value as i32),
            _ => {}
        }
    }
    match TIMESTAMP_SECONDS.contains(&seconds) && (0..1_000_000_000).contains(&nanos) {
        true => Ok(seconds * 1000 + nanos / 1_000_000),
        false => Err(Reason(format!("{seconds} seconds and {nanos} nanoseconds are no instant of {TIMESTAMP}"))),
    }
}
