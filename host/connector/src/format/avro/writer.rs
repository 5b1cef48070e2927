//! Writes rows in Avro's binary encoding: a schema, bound to the columns that its fields are.

use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};

use super::reader::resolved;
use super::schema::{self, Names, Schema};
use crate::Error;
use crate::format::cells::{CellValues, Cells};
use crate::format::columns::Reason;

const DEPTH_MAX: usize = 64;

/// A schema, bound to columns.
#[derive(Debug)]
pub(crate) struct AvroWriter {
    fields: Fields,
}

/// By field of a record: which of the columns it is, and how its value is written.
type Fields = Vec<(Option<usize>, Node)>;

/// How a value is written.
#[derive(Debug)]
enum Node {
    /// there is none: nothing, or this branch of a union
    Null(Option<i64>),
    /// one of two branches: the one for no value, and the other
    Optional {
        null: i64,
        value: i64,
        node: Box<Node>,
    },
    /// always this branch of a union
    Branch(i64, Box<Node>),
    /// a single value of this type
    Value(Schema),
    List(Box<Node>),
    Record(Fields),
}

impl AvroWriter {
    /// Binds a schema, as JSON, to columns. Fields are columns by name; one that is no column has to take no value. Each column has to be a field, except those
    /// that are `elsewhere` in the record as well.
    ///
    /// # Errors
    /// If it is no schema of a record, or a column cannot be written as its field.
    pub fn new(text: &str, columns: &SchemaRef, elsewhere: &[usize]) -> Result<Self, Error> {
        let wrong = |why: String| Error::options(format!("the Avro schema: {why}"));
        let (root, names) = schema::parse(text).map_err(wrong)?;
        let Schema::Record(fields) = resolved(&root, &names).map_err(wrong)? else {
            return Err(wrong("it is not one of a record".into()));
        };
        let columns: Vec<_> = columns.fields().iter().map(|field| &**field).collect();
        Ok(Self { fields: bind_fields(fields, &columns, elsewhere, &names, 0).map_err(wrong)? })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// If a value is none of its field's type.
    pub fn write(&self, columns: &[Cells], row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        write_fields(&self.fields, columns.iter(), row, out)
    }
}

fn bind_fields(
    fields: &[(String, Schema)],
    columns: &[&Field],
    elsewhere: &[usize],
    names: &Names,
    depth: usize,
) -> Result<Fields, String> {
    let is_missing =
        |&column: &usize| !elsewhere.contains(&column) && fields.iter().all(|(name, _)| name != columns[column].name());
    if let Some(column) = (0..columns.len()).find(is_missing) {
        return Err(format!("it has no field \"{}\"", columns[column].name()));
    }
    let bound = fields.iter().map(|(name, schema)| match columns.iter().position(|column| column.name() == name) {
        Some(index) => Ok((Some(index), bind(schema, columns[index], names, depth + 1)?)),
        None => match resolved(schema, names)? {
            Schema::Null => Ok((None, Node::Null(None))),
            Schema::Union(branches) if null_of(branches).is_some() => Ok((None, Node::Null(null_of(branches)))),
            _ => Err(format!("its field \"{name}\" needs a value, and there is no such column")),
        },
    });
    bound.collect()
}

/// The branch of a union for no value.
fn null_of(branches: &[Schema]) -> Option<i64> {
    branches.iter().position(|branch| *branch == Schema::Null).map(|branch| branch as i64)
}

fn bind(schema: &Schema, column: &Field, names: &Names, depth: usize) -> Result<Node, String> {
    if depth > DEPTH_MAX {
        return Err(format!("\"{}\" is nested too deep", column.name()));
    }
    let schema = resolved(schema, names)?;
    if let Schema::Union(branches) = schema {
        let other =
            |(at, branch): (usize, &Schema)| bind_value(branch, column, names, depth).map(|node| (at as i64, Box::new(node)));
        let others = branches.iter().enumerate().filter(|(_, branch)| **branch != Schema::Null);
        // Of several that fit, the first one.
        let (value, node) = others.map(other).find_map(Result::ok).ok_or_else(|| refused(column))?;
        return match null_of(branches) {
            Some(null) => Ok(Node::Optional { null, value, node }),
            None if column.is_nullable() => {
                Err(format!("its field \"{}\" needs a value, which the column may lack", column.name()))
            }
            None => Ok(Node::Branch(value, node)),
        };
    }
    if column.is_nullable() {
        return Err(format!("its field \"{}\" needs a value, which the column may lack", column.name()));
    }
    bind_value(schema, column, names, depth)
}

fn refused(column: &Field) -> String {
    format!("its field \"{}\" cannot be written from {}", column.name(), column.data_type())
}

/// How a value is written that is there.
fn bind_value(schema: &Schema, column: &Field, names: &Names, depth: usize) -> Result<Node, String> {
    use DataType::{Binary, Boolean, Float32, Float64, List, Struct, Timestamp, Utf8};
    let found = column.data_type();
    let schema = resolved(schema, names)?;
    let fits = match (schema, found) {
        (Schema::Array(items), List(item)) => return Ok(Node::List(Box::new(bind(items, item, names, depth + 1)?))),
        (Schema::Record(fields), Struct(columns)) => {
            let columns: Vec<_> = columns.iter().map(|field| &**field).collect();
            return bind_fields(fields, &columns, &[], names, depth).map(Node::Record);
        }
        (Schema::Boolean, Boolean) => true,
        (Schema::Int | Schema::Integer, found) if found.is_integer() => true,
        (Schema::Integer | Schema::Instant(_), Timestamp(TimeUnit::Millisecond, _)) => true,
        (Schema::Float, Float32) | (Schema::Double, Float32 | Float64) => true,
        (Schema::Bytes | Schema::Fixed(_), Binary) => true,
        (Schema::Text | Schema::Enum(_), Utf8) => true,
        _ => false,
    };
    if fits { Ok(Node::Value(schema.clone())) } else { Err(refused(column)) }
}

/// An integer: 7 bits a byte, the lowest first, and the sign in the lowest bit of all.
fn integer(value: i64, out: &mut Vec<u8>) {
    let mut rest = (value << 1 ^ value >> 63) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn write_fields<'a>(
    fields: &Fields,
    columns: impl Iterator<Item = &'a Cells<'a>> + Clone,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    for (column, node) in fields {
        match (column.and_then(|column| columns.clone().nth(column)), node) {
            (Some(cells), node) => node.write(cells, row, out)?,
            (None, Node::Null(branch)) => branch.iter().for_each(|branch| integer(*branch, out)),
            (None, _) => unreachable!("a field that is no column has no value"),
        }
    }
    Ok(())
}

impl Node {
    fn write(&self, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
        match (self, &cells.values) {
            (Self::Null(branch), _) => branch.iter().for_each(|branch| integer(*branch, out)),
            (Self::Optional { null, .. }, _) if cells.is_null(row) => integer(*null, out),
            (Self::Optional { value: branch, node, .. } | Self::Branch(branch, node), _) => {
                integer(*branch, out);
                node.write(cells, row, out)?;
            }
            (Self::List(node), CellValues::List { offsets, items }) => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                if from < to {
                    integer((to - from) as i64, out);
                    (from..to).try_for_each(|item| node.write(items, item, out))?;
                }
                integer(0, out);
            }
            (Self::Record(fields), CellValues::Record(columns)) => {
                write_fields(fields, columns.iter().map(|(_, cells)| cells), row, out)?;
            }
            (Self::Value(schema), _) => write_value(schema, cells, row, out)?,
            (Self::List(_) | Self::Record(_), _) => unreachable!("types were checked when the schema was bound"),
        }
        Ok(())
    }
}

fn write_value(schema: &Schema, cells: &Cells, row: usize, out: &mut Vec<u8>) -> Result<(), Reason> {
    let bytes = |bytes: &[u8], out: &mut Vec<u8>| {
        integer(bytes.len() as i64, out);
        out.extend_from_slice(bytes);
    };
    match (schema, &cells.values) {
        (Schema::Boolean, CellValues::Boolean(values)) => out.push(u8::from(values.value(row))),
        (Schema::Float, CellValues::Float32(values)) => out.extend_from_slice(&values[row].to_le_bytes()),
        (Schema::Double, CellValues::Float32(values)) => out.extend_from_slice(&f64::from(values[row]).to_le_bytes()),
        (Schema::Double, CellValues::Float64(values)) => out.extend_from_slice(&values[row].to_le_bytes()),
        (Schema::Instant(per_ms), CellValues::Time(values)) => {
            let value = values[row].checked_mul(*per_ms);
            integer(value.ok_or_else(|| Reason(format!("the instant {} ms is out of range", values[row])))?, out);
        }
        (Schema::Text, _) => bytes(cells.text(row).unwrap_or_default().as_bytes(), out),
        (Schema::Bytes, _) => bytes(cells.bytes(row).unwrap_or_default(), out),
        (Schema::Fixed(size), _) => match cells.bytes(row).unwrap_or_default() {
            value if value.len() == *size => out.extend_from_slice(value),
            value => return Err(Reason(format!("a value has {} bytes instead of {size}", value.len()))),
        },
        (Schema::Enum(symbols), _) => {
            let text = cells.text(row).unwrap_or_default();
            let symbol = symbols.iter().position(|symbol| symbol == text);
            let unknown = || Reason(format!("\"{text}\" is none of: {}", symbols.join(", ")));
            integer(symbol.ok_or_else(unknown)? as i64, out);
        }
        (schema, _) => {
            let value = cells.integer(row).unwrap_or_default();
            let (least, greatest) =
                if *schema == Schema::Int { (i64::from(i32::MIN), i64::from(i32::MAX)) } else { (i64::MIN, i64::MAX) };
            let fits = i64::try_from(value).ok().filter(|value| (least..=greatest).contains(value));
            integer(fits.ok_or_else(|| Reason(format!("{value} is out of range")))?, out);
        }
    }
    Ok(())
}
