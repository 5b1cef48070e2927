//! What is encoded and decoded again is what it was: for each type, with nulls, sliced at all places, in view layout, nested.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::{
    ArrayRef, BinaryArray, BinaryViewArray, BooleanArray, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, ListArray, StringArray, StringViewArray, StructArray, TimestampMillisecondArray, UInt8Array, UInt16Array,
    UInt64Array,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields};

use super::*;
use crate::decode::decode;
use crate::schema::event_time;

/// Sends a column in and takes it out again, as a guest that copies its input would.
fn through(data_type: &DataType, column: &ArrayRef) -> ArrayRef {
    let fields = [Arc::new(Field::new("c", data_type.clone(), true))];
    let columns = prepare(std::slice::from_ref(column)).expect("it can be prepared");
    let mut scratch = vec![0xee; 5];
    let encoded = encode(&fields, &columns, column.len(), &mut scratch).expect("it can be encoded");
    let buffers: Vec<Vec<u8>> = encoded.buffers(&scratch).into_iter().map(<[u8]>::to_vec).collect();
    assert_eq!(buffers.len(), schema::buffer_count(data_type));
    decode(&fields, column.len(), buffers).expect("it can be decoded").remove(0)
}

/// All slices of a column survive, and so does the column in the layout that guests know.
fn survives(column: ArrayRef, expected: ArrayRef) {
    let data_type = expected.data_type().clone();
    for start in 0..=column.len() {
        for len in 0..=column.len() - start {
            let out = through(&data_type, &column.slice(start, len));
            assert_eq!(&out, &expected.slice(start, len), "{data_type}, {len} rows from {start} on");
        }
    }
}

/// Columns of numbers, booleans and event times, with and without nulls.
#[test]
fn flat_columns() {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(BooleanArray::from((0..20).map(|i| (i % 5 > 0).then_some(i % 3 == 0)).collect::<Vec<_>>())),
        Arc::new(BooleanArray::from((0..20).map(|i| i % 3 == 0).collect::<Vec<_>>())),
        Arc::new(Int8Array::from(vec![1, -2, 3])),
        Arc::new(Int16Array::from(vec![Some(1), None, Some(-3)])),
        Arc::new(Int32Array::from((0..20).map(|i| (i % 4 > 0).then_some(i)).collect::<Vec<_>>())),
        Arc::new(Int64Array::from(vec![i64::MIN, 0, i64::MAX])),
        Arc::new(UInt8Array::from(vec![1, 2, 3])),
        Arc::new(UInt16Array::from(vec![1, 2, 3])),
        Arc::new(UInt32Array::from(vec![1, 2, 3])),
        Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])),
        Arc::new(Float32Array::from(vec![0.5, f32::INFINITY])),
        Arc::new(Float64Array::from(vec![Some(0.5), None])),
    ];
    for column in columns {
        survives(column.clone(), column);
    }
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![Some(1), None, Some(3)]).with_timezone("UTC"));
    assert_eq!(times.data_type(), &event_time());
    survives(times.clone(), times);
}

/// Text and bytes, in both of Arrow's layouts.
#[test]
fn text() {
    let words = [Some("a"), None, Some(""), Some("thirteen bytes and more"), Some("üß"), None, Some("z")];
    let flat: ArrayRef = Arc::new(StringArray::from(words.to_vec()));
    survives(flat.clone(), flat.clone());
    survives(Arc::new(StringViewArray::from(words.to_vec())), flat);
    let bytes = words.map(|w| w.map(str::as_bytes));
    let flat: ArrayRef = Arc::new(BinaryArray::from(bytes.to_vec()));
    survives(flat.clone(), flat.clone());
    survives(Arc::new(BinaryViewArray::from(bytes.to_vec())), flat);
    let full = ["one", "two", "a third that is long enough for a view"];
    survives(Arc::new(StringViewArray::from(full.to_vec())), Arc::new(StringArray::from(full.to_vec())));
}

/// Lists of text, and records with a list in them.
#[test]
fn nested_columns() {
    let mut builder = ListBuilder::new(StringBuilder::new());
    for row in [Some(vec!["a", "b"]), None, Some(vec![]), Some(vec!["c"]), Some(vec!["d", "e", "f"])] {
        match row {
            Some(items) => {
                items.iter().for_each(|item| builder.values().append_value(item));
                builder.append(true);
            }
            None => builder.append(false),
        }
    }
    let list: ArrayRef = Arc::new(builder.finish());
    survives(list.clone(), list.clone());
    let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, Some(3), Some(4), Some(5)]));
    let fields = Fields::from(vec![Field::new("n", DataType::Int32, true), Field::new("l", list.data_type().clone(), true)]);
    let nulls = NullBuffer::from(vec![true, true, false, true, true]);
    let record: ArrayRef = Arc::new(StructArray::new(fields, vec![numbers, list], Some(nulls)));
    survives(record.clone(), record);
}

/// A null row has no bytes and no items, even if Arrow keeps some under it.
#[test]
fn nothing_hides_under_nulls() {
    let nulls = NullBuffer::from(vec![true, false, true]);
    let offsets = || OffsetBuffer::new(vec![0, 1, 3, 4].into());
    let text: ArrayRef = Arc::new(StringArray::new(offsets(), b"abcd".to_vec().into(), Some(nulls.clone())));
    let out = through(&DataType::Utf8, &text);
    assert_eq!(out.as_string::<i32>().value_data(), b"ad");
    let item = Arc::new(Field::new("item", DataType::Int32, true));
    let items: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
    let list: ArrayRef = Arc::new(ListArray::new(Arc::clone(&item), offsets(), items, Some(nulls)));
    let out = through(&DataType::List(item), &list);
    assert_eq!(out.as_list::<i32>().values().as_primitive::<Int32Type>().values(), &[1, 4]);
    assert_eq!(&out, &list);
}

/// Whole buffers are lent, not copied.
#[test]
fn whole_buffers_are_lent() {
    let columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["a", "b"])), Arc::new(Int64Array::from(vec![1, 2]))];
    let fields = [Arc::new(Field::new("s", DataType::Utf8, false)), Arc::new(Field::new("n", DataType::Int64, false))];
    let mut scratch = vec![];
    encode(&fields, &columns, 2, &mut scratch).expect("it can be encoded");
    assert!(scratch.is_empty());
}

/// A column that must not lack values is refused if it does.
#[test]
fn unexpected_nulls() {
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![Some(1), None]))];
    let fields = [Arc::new(Field::new("n", DataType::Int64, false))];
    let error = encode(&fields, &columns, 2, &mut vec![]).err().expect("a null");
    assert_eq!(error, "column `n` is not nullable, but lacks values in 1 of 2 rows");
}
