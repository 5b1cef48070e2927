//! Columns of a file as the types that a job wants: the fields of records go by their names, and what has no fields is converted as Arrow does.
//!
//! Arrow by itself takes the fields of a record in their order where a name is missing, so that one would be read as another.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType};
use arrow_array::{Array, ArrayRef, ListArray, PrimitiveArray, StructArray, new_null_array};
use arrow_buffer::NullBuffer;
use arrow_cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, TimeUnit};

/// Why a column of a type cannot be read as one of another, for people; none if it can. `path` is its name, behind those of the records that it is in.
pub(crate) fn misfit(path: &str, found: &DataType, wanted: &DataType) -> Option<String> {
    if let (DataType::Struct(found), DataType::Struct(wanted)) = (found, wanted) {
        return wanted.iter().find_map(|field| misfit_of_field(path, found, field));
    }
    if let (Some(found), DataType::List(wanted)) = (item_of(found), wanted) {
        return misfit(path, found.data_type(), wanted.data_type());
    }
    let fits = can_cast_types(found, wanted) && (*found == DataType::Null || !has_records(wanted));
    (!fits).then(|| format!("\"{path}\" is of type {found}, which cannot be read as {wanted}"))
}

/// Why a field of the record at `path` cannot be read. One that may lack values may be missing.
fn misfit_of_field(path: &str, found: &Fields, wanted: &Field) -> Option<String> {
    let field = format!("{path}.{}", wanted.name());
    match found.find(wanted.name()) {
        Some((_, found)) => misfit(&field, found.data_type(), wanted.data_type()),
        None if wanted.is_nullable() => None,
        None => {
            let names: Vec<_> = found.iter().map(|f| f.name().as_str()).collect();
            Some(format!("\"{field}\" is missing; \"{path}\" has: {}", names.join(", ")))
        }
    }
}

/// A column as a field wants it, of which it is no [`misfit`]. `hidden` has nulls for the rows that nobody sees, since a record around them is null.
///
/// # Errors
/// If a value cannot be converted, or is missing where one is needed: which and why, for people.
pub(crate) fn read_as(path: &str, column: &ArrayRef, field: &Field, hidden: Option<&NullBuffer>) -> Result<ArrayRef, String> {
    let column = convert(path, column, field.data_type(), hidden)?;
    if !field.is_nullable() && shows_nulls(&column, hidden) {
        return Err(format!("\"{path}\" lacks a value, and one is required"));
    }
    Ok(column)
}

fn convert(path: &str, column: &ArrayRef, wanted: &DataType, hidden: Option<&NullBuffer>) -> Result<ArrayRef, String> {
    if column.data_type() == wanted {
        return Ok(Arc::clone(column));
    }
    let unreadable = |e: ArrowError| format!("\"{path}\" cannot be read as {wanted}: {e}");
    match (wanted, item_of(column.data_type())) {
        (DataType::Struct(fields), _) if matches!(column.data_type(), DataType::Struct(_)) => {
            let records = column.as_struct();
            let nulls = NullBuffer::union(records.nulls(), hidden);
            let read = |field: &FieldRef| field_of(path, records, field, nulls.as_ref());
            let columns = fields.iter().map(read).collect::<Result<_, _>>()?;
            let records = StructArray::try_new_with_length(fields.clone(), columns, nulls, records.len());
            Ok(Arc::new(records.map_err(unreadable)?))
        }
        (DataType::List(item), Some(found)) => {
            // Whatever its layout: the items come after.
            let lists = strict(column, &DataType::List(Arc::clone(found))).map_err(unreadable)?;
            let lists = lists.as_list::<i32>();
            let items = read_as(path, lists.values(), item, None)?;
            let lists = ListArray::try_new(Arc::clone(item), lists.offsets().clone(), items, lists.nulls().cloned());
            Ok(Arc::new(lists.map_err(unreadable)?))
        }
        _ => strict(&floored(column, wanted), wanted).map_err(unreadable),
    }
}

/// A field of the records at `path`: nulls if they have it not.
fn field_of(path: &str, records: &StructArray, field: &Field, hidden: Option<&NullBuffer>) -> Result<ArrayRef, String> {
    match records.column_by_name(field.name()) {
        Some(column) => read_as(&format!("{path}.{}", field.name()), column, field, hidden),
        None => Ok(new_null_array(field.data_type(), records.len())),
    }
}

/// Converts values as Arrow does; one that cannot be is an error, and not null.
fn strict(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(column, wanted, &CastOptions { safe: false, ..CastOptions::default() })
}

/// Instants of finer units as the milliseconds in which they are, if such are wanted: Arrow would take the next one for those before 1970.
fn floored(column: &ArrayRef, wanted: &DataType) -> ArrayRef {
    let DataType::Timestamp(TimeUnit::Millisecond, _) = wanted else { return Arc::clone(column) };
    let (zone, millis): (_, PrimitiveArray<TimestampMillisecondType>) = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            (zone, column.as_primitive::<TimestampMicrosecondType>().unary(|micros| micros.div_euclid(1_000)))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            (zone, column.as_primitive::<TimestampNanosecondType>().unary(|nanos| nanos.div_euclid(1_000_000)))
        }
        _ => return Arc::clone(column),
    };
    Arc::new(millis.with_timezone_opt(zone.clone()))
}

/// Whether there are nulls in rows that are not hidden.
fn shows_nulls(column: &ArrayRef, hidden: Option<&NullBuffer>) -> bool {
    let Some(nulls) = column.logical_nulls().filter(|nulls| nulls.null_count() > 0) else { return false };
    !hidden.is_some_and(|hidden| hidden.contains(&nulls))
}

/// What the items of a list are, whatever its layout.
fn item_of(list: &DataType) -> Option<&FieldRef> {
    match list {
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => Some(item),
        _ => None,
    }
}

/// Whether values of a type are records, or have some in them.
fn has_records(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(_) => true,
        DataType::List(item) => has_records(item.data_type()),
        _ => false,
    }
}
