//! A row as text, for people.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, FieldRef, SchemaRef};
use weir_types::Batch;

/// The longest description of a row, in bytes.
const BYTES_MAX: usize = 500;

/// A row for people: `{auction: 5, channel: "Google", tags: ["new", null]}`; columns that were left out are not shown.
pub fn describe_row(batch: &Batch, schema: &SchemaRef, row: usize) -> String {
    let mut text = String::new();
    let shown = schema.fields().iter().zip(batch.columns()).filter(|(_, column)| !column.data_type().is_null());
    write_fields(shown, row, &mut text);
    if text.len() > BYTES_MAX {
        text.truncate(text.floor_char_boundary(BYTES_MAX));
        text.push('…');
    }
    text
}

/// A record. Nobody sees what comes behind the limit, so it is not written.
fn write_fields<'a>(fields: impl Iterator<Item = (&'a FieldRef, &'a ArrayRef)>, row: usize, text: &mut String) {
    text.push('{');
    for (i, (field, column)) in fields.enumerate() {
        if text.len() > BYTES_MAX {
            return;
        }
        let separator = if i > 0 { ", " } else { "" };
        let _ = write!(text, "{separator}{}: ", field.name());
        write_value(column, row, text);
    }
    text.push('}');
}

/// The items of a list, likewise.
fn write_items(items: &ArrayRef, text: &mut String) {
    text.push('[');
    for item in 0..items.len() {
        if text.len() > BYTES_MAX {
            return;
        }
        if item > 0 {
            text.push_str(", ");
        }
        write_value(items, item, text);
    }
    text.push(']');
}

/// A value; text is in quotes, so that `null` is none.
fn write_value(column: &ArrayRef, row: usize, text: &mut String) {
    if column.is_null(row) {
        return text.push_str("null");
    }
    match column.data_type() {
        DataType::List(_) => write_items(&column.as_list::<i32>().value(row), text),
        DataType::Struct(fields) => write_fields(fields.iter().zip(column.as_struct().columns()), row, text),
        data_type => {
            let options = FormatOptions::default();
            let Ok(formatter) = ArrayFormatter::try_new(column, &options) else { return text.push('?') };
            let quote = if data_type.is_string() { "\"" } else { "" };
            let _ = write!(text, "{quote}{}{quote}", formatter.value(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::{Int16Array, Int64Array, NullArray, StringArray, StringViewArray, StructArray};
    use arrow_schema::{Field, Fields, Schema};

    use super::*;

    fn describe(columns: Vec<(&str, ArrayRef)>, row: usize) -> String {
        let fields: Vec<_> = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
        let (rows, columns) = (columns[0].1.len(), columns.into_iter().map(|(_, column)| column).collect());
        describe_row(&Batch::new(rows, columns, None), &Arc::new(Schema::new(fields)), row)
    }

    /// Goal: a value that is missing is told from the text `null`, in a column and in what is nested in one; columns that were left out are not shown.
    #[test]
    fn missing_values_are_no_text() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![None, Some("null")]));
        let views: ArrayRef = Arc::new(StringViewArray::from(vec![Some("ü"), None]));
        let mut tags = ListBuilder::new(StringBuilder::new());
        tags.append_value([Some(""), None, Some("www")]);
        tags.append_null();
        let fields = Fields::from(vec![Field::new("a", DataType::Int16, true), Field::new("b", DataType::Utf8, true)]);
        let numbers: ArrayRef = Arc::new(Int16Array::from(vec![None, Some(-7)]));
        let info = StructArray::new(fields, vec![numbers, Arc::clone(&texts)], None);
        let columns = || -> Vec<(&str, ArrayRef)> {
            vec![
                ("id", Arc::new(Int64Array::from(vec![1, 2]))),
                ("unread", Arc::new(NullArray::new(2))),
                ("key", Arc::clone(&texts)),
                ("view", Arc::clone(&views)),
                ("tags", Arc::new(tags.finish_cloned())),
                ("info", Arc::new(info.clone())),
            ]
        };
        assert_eq!(describe(columns(), 0), r#"{id: 1, key: null, view: "ü", tags: ["", null, "www"], info: {a: null, b: null}}"#);
        assert_eq!(describe(columns(), 1), r#"{id: 2, key: "null", view: null, tags: null, info: {a: -7, b: "null"}}"#);
    }

    /// Goal: a row that is longer than people read is cut between two characters, wherever in it the limit is.
    #[test]
    fn long_rows_are_cut() {
        let mut tags = ListBuilder::new(StringBuilder::new());
        tags.append_value((0..100_000).map(|_| Some("ü")));
        let long = describe(vec![("tags", Arc::new(tags.finish())), ("id", Arc::new(Int64Array::from(vec![1])))], 0);
        assert!(long.starts_with(r#"{tags: ["ü", "ü", "#) && long.ends_with('…') && !long.contains("id"), "{long}");
        let text: ArrayRef = Arc::new(StringArray::from(vec!["ü".repeat(BYTES_MAX)]));
        for long in [long, describe(vec![("text", text)], 0)] {
            assert!((BYTES_MAX - 1..=BYTES_MAX).contains(&(long.len() - '…'.len_utf8())), "{long}");
        }
    }
}
