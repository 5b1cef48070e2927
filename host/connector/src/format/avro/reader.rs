//! Reads Avro's binary encoding into columns: the schema of the writer, bound to the columns that are wanted. The other fields are passed over.

use arrow_schema::{DataType, Field, SchemaRef, TimeUnit};

use super::schema::{self, Names, Schema};
use crate::Error;
use crate::format::columns::{Column, Reason, Rows, Values};

/// Values may be this deep within each other, and columns too.
const DEPTH_MAX: usize = 64;
/// A record whose arrays have more items than this is malformed: items may be of no bytes at all.
const ITEMS_MAX: usize = 16 << 20;
const DAY_MS: i64 = 86_400_000;

type Parsed<T> = Result<T, Reason>;

/// A schema, bound to columns.
#[derive(Debug)]
pub(crate) struct Avro {
    names: Names,
    fields: Vec<(Schema, Target)>,
}

/// What becomes of a value.
#[derive(Clone, Debug)]
enum Target {
    /// it is passed over
    Skip,
    /// it goes to this column, of those around it
    Column(usize, Node),
}

/// How a value is put into its column.
#[derive(Clone, Debug)]
enum Node {
    /// no value
    Null,
    /// a single value of this type
    Value(Schema),
    /// one of these
    Union(Vec<Node>),
    /// a list
    List(Box<Node>),
    /// a record; these of its columns are no fields
    Record(Vec<(Schema, Target)>, Vec<usize>),
}

impl Avro {
    /// Binds a schema, as JSON, to columns. Columns are fields by name; one that is no field has no value.
    ///
    /// # Errors
    /// If it is no schema of a record, or a column cannot be read from its field.
    pub fn new(text: &str, columns: &SchemaRef) -> Result<Self, Error> {
        let wrong = |why: String| Error::options(format!("the Avro schema: {why}"));
        let (root, names) = schema::parse(text).map_err(wrong)?;
        let Schema::Record(fields) = resolved(&root, &names).map_err(wrong)? else {
            return Err(wrong("it is not one of a record".into()));
        };
        let columns: Vec<_> = columns.fields().iter().map(|field| &**field).collect();
        let (fields, missing) = bind_fields(fields, &columns, &names, 0).map_err(wrong)?;
        if let Some(&column) = missing.iter().find(|&&column| !columns[column].is_nullable()) {
            return Err(wrong(format!("it has no field \"{}\"", columns[column].name())));
        }
        Ok(Self { fields, names })
    }

    /// Reads a record into a row. Columns that are no fields are left short.
    pub fn read(&self, bytes: &[u8], rows: &mut Rows) -> Parsed<()> {
        let mut cursor = Cursor { rest: bytes, items: ITEMS_MAX, names: &self.names };
        for (schema, target) in &self.fields {
            cursor.field(schema, target, &mut rows.columns, 0)?;
        }
        if cursor.rest.is_empty() { Ok(()) } else { Err(Reason(format!("{} bytes follow the record", cursor.rest.len()))) }
    }
}

/// The type behind a name.
pub(super) fn resolved<'a>(schema: &'a Schema, names: &'a Names) -> Result<&'a Schema, String> {
    match schema {
        Schema::Named(name) => names.get(name).ok_or_else(|| format!("there is no type \"{name}\"")),
        other => Ok(other),
    }
}

/// What becomes of each field, and which columns are none.
fn bind_fields(
    fields: &[(String, Schema)],
    columns: &[&Field],
    names: &Names,
    depth: usize,
) -> Result<(Vec<(Schema, Target)>, Vec<usize>), String> {
    let bound = fields.iter().map(|(name, schema)| {
        let target = match columns.iter().position(|column| column.name() == name) {
            Some(index) => Target::Column(index, bind(schema, columns[index], names, depth + 1)?),
            None => Target::Skip,
        };
        Ok((schema.clone(), target))
    });
    let bound = bound.collect::<Result<_, String>>()?;
    let is_field = |column: &Field| fields.iter().any(|(name, _)| column.name() == name);
    Ok((bound, (0..columns.len()).filter(|&column| !is_field(columns[column])).collect()))
}

fn bind(schema: &Schema, column: &Field, names: &Names, depth: usize) -> Result<Node, String> {
    use DataType::{Binary, Boolean, Float32, Float64, List, Struct, Timestamp, Utf8};
    let found = column.data_type();
    if depth > DEPTH_MAX {
        return Err(format!("\"{}\" is nested too deep", column.name()));
    }
    let is_instant = matches!(found, Timestamp(TimeUnit::Millisecond, _));
    let fits = match (resolved(schema, names)?, found) {
        (Schema::Null, _) => return Ok(Node::Null),
        (Schema::Union(branches), _) => {
            return branches
                .iter()
                .map(|branch| bind(branch, column, names, depth + 1))
                .collect::<Result<_, _>>()
                .map(Node::Union);
        }
        (Schema::Array(items), List(item)) => return Ok(Node::List(Box::new(bind(items, item, names, depth + 1)?))),
        (Schema::Record(fields), Struct(columns)) => {
            let columns: Vec<_> = columns.iter().map(|field| &**field).collect();
            let (fields, missing) = bind_fields(fields, &columns, names, depth)?;
            return Ok(Node::Record(fields, missing));
        }
        (Schema::Boolean, Boolean) => true,
        (Schema::Int | Schema::Integer | Schema::Date | Schema::Instant(_), found) if found.is_integer() || is_instant => true,
        (Schema::Float | Schema::Double, Float32 | Float64) => true,
        (Schema::Bytes | Schema::Fixed(_), Binary) => true,
        (Schema::Text | Schema::Enum(_), Utf8) => true,
        _ => false,
    };
    if fits {
        return resolved(schema, names).cloned().map(Node::Value);
    }
    Err(format!("its field \"{}\" cannot be read as {found}", column.name()))
}

/// What is left of a record.
struct Cursor<'a> {
    rest: &'a [u8],
    /// how many more items arrays may have
    items: usize,
    names: &'a Names,
}

impl<'a> Cursor<'a> {
    fn bytes(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(|| Reason("the record ends too early".into()))?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| Reason("the record ends too early".into()))
    }

    /// An integer: 7 bits a byte, the lowest first, and the sign in the lowest bit of all.
    #[inline]
    fn integer(&mut self) -> Parsed<i64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(Reason("an integer is longer than 10 bytes".into()))
    }

    fn length(&mut self) -> Parsed<usize> {
        let length = self.integer()?;
        usize::try_from(length).map_err(|_| Reason(format!("a length is {length}")))
    }

    /// Which of so many branches or symbols it is.
    fn index(&mut self, of: usize) -> Parsed<usize> {
        let index = self.integer()?;
        let valid = usize::try_from(index).ok().filter(|&index| index < of);
        valid.ok_or_else(|| Reason(format!("a choice of {of} is number {index}")))
    }

    /// The number of items in the next block of an array or a map; none = there are no more.
    fn block(&mut self) -> Parsed<Option<usize>> {
        let count = self.integer()?;
        if count < 0 {
            // How many bytes the block is, for those who pass over it.
            self.integer()?;
        }
        let count = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
        let more = || Reason(format!("arrays have more than {ITEMS_MAX} items"));
        self.items = self.items.checked_sub(count).ok_or_else(more)?;
        Ok((count > 0).then_some(count))
    }

    /// Passes over a value.
    fn skip(&mut self, schema: &Schema, depth: usize) -> Parsed<()> {
        if depth > DEPTH_MAX {
            return Err(Reason(format!("values are nested more than {DEPTH_MAX} deep")));
        }
        match schema {
            Schema::Null => {}
            Schema::Boolean => drop(self.array::<1>()?),
            Schema::Int | Schema::Integer | Schema::Date | Schema::Instant(_) | Schema::Enum(_) => drop(self.integer()?),
            Schema::Float => drop(self.array::<4>()?),
            Schema::Double => drop(self.array::<8>()?),
            Schema::Bytes | Schema::Text => {
                let length = self.length()?;
                self.bytes(length)?;
            }
            Schema::Fixed(size) => drop(self.bytes(*size)?),
            Schema::Array(items) => {
                while let Some(count) = self.block()? {
                    (0..count).try_for_each(|_| self.skip(items, depth + 1))?;
                }
            }
            Schema::Map(values) => {
                while let Some(count) = self.block()? {
                    for _ in 0..count {
                        self.skip(&Schema::Text, depth + 1)?;
                        self.skip(values, depth + 1)?;
                    }
                }
            }
            Schema::Union(branches) => {
                let branch = self.index(branches.len())?;
                self.skip(&branches[branch], depth + 1)?;
            }
            Schema::Record(fields) => fields.iter().try_for_each(|(_, field)| self.skip(field, depth + 1))?,
            Schema::Named(name) => match self.names.get(name) {
                Some(schema) => self.skip(schema, depth + 1)?,
                None => return Err(Reason(format!("there is no type \"{name}\""))),
            },
        }
        Ok(())
    }

    fn field(&mut self, schema: &Schema, target: &Target, columns: &mut [Column], depth: usize) -> Parsed<()> {
        match target {
            Target::Skip => self.skip(schema, depth),
            Target::Column(index, node) => {
                let column = &mut columns[*index];
                self.put(node, column).map_err(|Reason(why)| Reason(format!("\"{}\": {why}", column.name())))
            }
        }
    }

    fn put(&mut self, node: &Node, column: &mut Column) -> Parsed<()> {
        match (node, &mut column.values) {
            (Node::Null, _) => return column.push_null(),
            (Node::Union(branches), _) => {
                let branch = self.index(branches.len())?;
                return self.put(&branches[branch], column);
            }
            (Node::List(items), Values::List { offsets, item }) => {
                while let Some(count) = self.block()? {
                    (0..count).try_for_each(|_| self.put(items, item))?;
                }
                offsets.push(i32::try_from(item.len()).map_err(|_| Reason("a batch has too many items".into()))?);
            }
            (Node::Record(fields, missing), Values::Record { columns, .. }) => {
                for (schema, target) in fields {
                    self.field(schema, target, columns, 0)?;
                }
                for &column in missing {
                    let column = &mut columns[column];
                    column.push_null().map_err(|_| Reason(format!("\"{}\" is missing", column.name())))?;
                }
            }
            (Node::Value(schema), _) => self.value(schema, column)?,
            (Node::List(_) | Node::Record(..), _) => unreachable!("types were checked when the schema was bound"),
        }
        column.set();
        Ok(())
    }

    fn value(&mut self, schema: &Schema, column: &mut Column) -> Parsed<()> {
        match (schema, &mut column.values) {
            (Schema::Boolean, Values::Boolean(values)) => values.append(self.array::<1>()? != [0]),
            (Schema::Date, Values::Time(values)) => {
                let days = self.integer()?;
                let days = i32::try_from(days).map_err(|_| Reason(format!("{days} days are no date")))?;
                values.push(i64::from(days) * DAY_MS);
            }
            (Schema::Instant(per_ms), Values::Time(values)) => values.push(self.integer()?.div_euclid(*per_ms)),
            (Schema::Float, Values::Float32(values)) => values.push(f32::from_le_bytes(self.array()?)),
            (Schema::Float, Values::Float64(values)) => values.push(f32::from_le_bytes(self.array()?).into()),
            (Schema::Double, Values::Float32(values)) => values.push(f64::from_le_bytes(self.array()?) as f32),
            (Schema::Double, Values::Float64(values)) => values.push(f64::from_le_bytes(self.array()?)),
            (Schema::Fixed(size), Values::Binary(values)) => {
                values.data.extend_from_slice(self.bytes(*size)?);
                values.end_value();
            }
            (Schema::Bytes, Values::Binary(values)) => {
                let length = self.length()?;
                values.data.extend_from_slice(self.bytes(length)?);
                values.end_value();
            }
            (Schema::Text, Values::Text(values)) => {
                let length = self.length()?;
                let text = std::str::from_utf8(self.bytes(length)?).map_err(|_| Reason("it is not UTF-8".into()))?;
                values.data.extend_from_slice(text.as_bytes());
                values.end_value();
            }
            (Schema::Enum(symbols), Values::Text(values)) => {
                let symbol = self.index(symbols.len())?;
                values.data.extend_from_slice(symbols[symbol].as_bytes());
                values.end_value();
            }
            (_, values) => return values.push_integer(self.integer()?.into()),
        }
        Ok(())
    }
}
