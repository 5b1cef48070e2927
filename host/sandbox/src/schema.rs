//! Schemas at the boundary: the WIT's depth-first `list<field>` and Arrow's.

use std::collections::HashSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

use crate::wit;

/// The most fields that a schema can have, nested ones included.
pub const FIELDS_MAX: usize = 4096;
/// How deep fields can be nested.
pub const DEPTH_MAX: usize = 16;
/// The longest name of a field, a source, an operator, …, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// The type of columns with event times.
pub fn event_time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some(Arc::from("UTC")))
}

/// The Arrow schema of a guest's fields, after checking them.
pub(crate) fn from_fields(fields: &[wit::Field]) -> Result<SchemaRef, String> {
    if fields.len() > FIELDS_MAX {
        return Err(format!("the schema has {} fields; {FIELDS_MAX} are allowed", fields.len()));
    }
    let mut rest = fields.iter();
    let mut columns = vec![];
    while !rest.as_slice().is_empty() {
        columns.push(take_field(&mut rest, 0)?);
    }
    check_unique(&columns)?;
    Ok(Arc::new(Schema::new(columns)))
}

/// Takes a field and its children off the depth-first list.
fn take_field(rest: &mut std::slice::Iter<'_, wit::Field>, depth: usize) -> Result<FieldRef, String> {
    use wit::DataType as W;
    let field = rest.next().ok_or("the schema ends where a nested field's children should follow")?;
    let name = &field.name;
    check_name("a field", name)?;
    if depth >= DEPTH_MAX {
        return Err(format!("field `{name}` is nested deeper than {DEPTH_MAX} levels"));
    }
    let expected = match field.data_type {
        W::Sequence => field.children == 1,
        W::Structure => field.children > 0,
        _ => field.children == 0,
    };
    if !expected {
        return Err(format!(
            "field `{name}` has {} children; a `sequence` has 1, a `structure` at least 1, all others none",
            field.children
        ));
    }
    let data_type = match field.data_type {
        W::Boolean => DataType::Boolean,
        W::Int8 => DataType::Int8,
        W::Int16 => DataType::Int16,
        W::Int32 => DataType::Int32,
        W::Int64 => DataType::Int64,
        W::Uint8 => DataType::UInt8,
        W::Uint16 => DataType::UInt16,
        W::Uint32 => DataType::UInt32,
        W::Uint64 => DataType::UInt64,
        W::Float32 => DataType::Float32,
        W::Float64 => DataType::Float64,
        W::Utf8 => DataType::Utf8,
        W::Binary => DataType::Binary,
        W::EventTime => event_time(),
        W::Sequence => DataType::List(take_field(rest, depth + 1)?),
        W::Structure => {
            let children = (0..field.children).map(|_| take_field(rest, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            check_unique(&children).map_err(|e| format!("in `{name}`: {e}"))?;
            DataType::Struct(Fields::from(children))
        }
    };
    Ok(Arc::new(Field::new(name, data_type, field.nullable)))
}

fn check_unique(fields: &[FieldRef]) -> Result<(), String> {
    let mut names = HashSet::new();
    match fields.iter().find(|f| !names.insert(f.name())) {
        Some(twice) => Err(format!("there are two fields `{}`", twice.name())),
        None => Ok(()),
    }
}

/// Checks a name that a guest chose.
pub(crate) fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err(format!("{what} has an empty name"));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("{what} has a name of {} bytes; {NAME_BYTES_MAX} are allowed", name.len()));
    }
    if name.chars().any(char::is_control) {
        return Err(format!("{what} has a control character in its name {name:?}"));
    }
    Ok(())
}

/// Checks that rows of an Arrow schema can cross the boundary.
///
/// # Errors
/// Names the column and its type if they cannot.
pub fn check(schema: &Schema) -> Result<(), String> {
    let fields = schema.flattened_fields().len();
    if fields > FIELDS_MAX {
        return Err(format!("the schema has {fields} fields; {FIELDS_MAX} are allowed"));
    }
    schema.fields().iter().try_for_each(|field| check_field(field, 0))
}

fn check_field(field: &Field, depth: usize) -> Result<(), String> {
    use DataType::*;
    if depth >= DEPTH_MAX {
        return Err(format!("field `{}` is nested deeper than {DEPTH_MAX} levels", field.name()));
    }
    match field.data_type() {
        Boolean | Float32 | Float64 | Utf8 | Binary | Timestamp(TimeUnit::Millisecond, _) => Ok(()),
        t if t.is_integer() => Ok(()),
        List(item) => check_field(item, depth + 1),
        Struct(children) if !children.is_empty() => children.iter().try_for_each(|c| check_field(c, depth + 1)),
        other => Err(format!("column `{}` is of type {other}, which guests do not know", field.name())),
    }
}

/// Whether an array of type `actual` can stand for a column of type `expected`: the same layout, or the view layout of it.
pub(crate) fn fits(expected: &DataType, actual: &DataType) -> bool {
    use DataType::*;
    match (expected, actual) {
        (Utf8, Utf8View) | (Binary, BinaryView) => true,
        (Timestamp(a, _), Timestamp(b, _)) => a == b,
        (List(a), List(b)) => fits(a.data_type(), b.data_type()),
        (Struct(a), Struct(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| fits(a.data_type(), b.data_type())),
        (a, b) => a == b,
    }
}

/// How many buffers a column of this type has.
pub(crate) fn buffer_count(data_type: &DataType) -> usize {
    match data_type {
        DataType::Utf8 | DataType::Binary => 3,
        DataType::List(item) => 2 + buffer_count(item.data_type()),
        DataType::Struct(children) => 1 + children.iter().map(|c| buffer_count(c.data_type())).sum::<usize>(),
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, data_type: wit::DataType, children: u32) -> wit::Field {
        wit::Field { name: name.into(), data_type, nullable: false, children }
    }

    /// Nested fields come out of the depth-first list as they went in.
    #[test]
    fn nested_fields() {
        use wit::DataType as W;
        let schema = from_fields(&[
            field("id", W::Uint64, 0),
            field("tags", W::Sequence, 1),
            field("tag", W::Structure, 2),
            field("name", W::Utf8, 0),
            field("at", W::EventTime, 0),
            field("price", W::Float64, 0),
        ])
        .expect("a good schema");
        assert_eq!(schema.fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(), ["id", "tags", "price"]);
        assert_eq!(schema.fields().iter().map(|f| buffer_count(f.data_type())).collect::<Vec<_>>(), [2, 2 + 1 + 3 + 2, 2]);
        check(&schema).expect("what came from a guest can go to one");
    }

    /// Wrong counts of children, missing children, equal names, empty names and deep nests are refused, by name.
    #[test]
    fn bad_fields_are_named() {
        use wit::DataType as W;
        let deep: Vec<_> = (0..=DEPTH_MAX).map(|i| field(&format!("f{i}"), W::Sequence, 1)).collect();
        for (fields, expected) in [
            (vec![field("a", W::Int8, 1)], "`a` has 1 children"),
            (vec![field("a", W::Structure, 0)], "`a` has 0 children"),
            (vec![field("a", W::Sequence, 1)], "ends where"),
            (vec![field("a", W::Int8, 0), field("a", W::Utf8, 0)], "two fields `a`"),
            (vec![field("", W::Int8, 0)], "empty name"),
            (deep, "nested deeper"),
        ] {
            let error = from_fields(&fields).expect_err("a bad schema");
            assert!(error.contains(expected), "{error}");
        }
    }
}
