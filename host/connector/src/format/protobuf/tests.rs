use std::sync::Arc;

use arrow_array::Array as _;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::{Protobuf, ProtobufWriter};
use crate::format::cells::Cells;
use crate::format::columns::{Reason, Rows};
use crate::format::encoder::Encoder;

/// Made by others' programs: see `user.proto` beside them.
const DESCRIPTORS: &[u8] = include_bytes!("testdata/user.descriptors");
const USER: &[u8] = include_bytes!("testdata/user.message");

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

fn columns() -> SchemaRef {
    let home: Fields = vec![Field::new("open", DataType::Boolean, false), Field::new("floor", DataType::Int8, true)].into();
    let count: Fields = vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::UInt64, false)].into();
    let friend: Fields = vec![Field::new("name", DataType::Utf8, false), Field::new("age", DataType::Int64, true)].into();
    Arc::new(Schema::new(vec![
        Field::new("homes", list(DataType::Struct(home.clone())), false),
        Field::new("home", DataType::Struct(home), true),
        Field::new("name", DataType::Utf8, false),
        Field::new("age", DataType::UInt8, true),
        Field::new("kind", DataType::Utf8, false),
        Field::new("since", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
        Field::new("score", DataType::Float64, false),
        Field::new("tags", list(DataType::Utf8), false),
        Field::new("hash", DataType::Binary, false),
        Field::new("steps", list(DataType::Int16), false),
        Field::new("counts", list(DataType::Struct(count)), false),
        Field::new("word", DataType::Utf8, true),
        Field::new("number", DataType::Float32, true),
        Field::new("low", DataType::Int32, false),
        Field::new("friend", DataType::Struct(friend), true),
        Field::new("none", DataType::Int64, true),
    ]))
}

fn bound(message: &str, columns: &SchemaRef) -> Result<Protobuf, crate::Error> {
    Protobuf::new(DESCRIPTORS, message, columns)
}

fn read(bytes: &[u8]) -> Result<String, Reason> {
    let mut rows = Rows::new(&columns()).unwrap();
    let user = bound("org.example.User", &columns()).unwrap();
    if let Err(reason) = user.read(bytes, &mut rows).and_then(|()| rows.end_row(0)) {
        rows.drop_row();
        assert_eq!(rows.take().rows(), 0, "nothing is left of a malformed row");
        return Err(reason);
    }
    let mut text = Vec::new();
    Encoder::jsonl(&columns()).unwrap().encode(&rows.take(), &mut text);
    Ok(String::from_utf8(text).unwrap().trim_end().to_owned())
}

#[test]
fn messages_are_read_by_name() {
    // Goal: each type comes as others' programs write it, packed or not; what is missing has its default, or no value where that says something.
    let expected = "{\"homes\":[{\"open\":true,\"floor\":null},{\"open\":false,\"floor\":null}],\"home\":{\"open\":true,\"floor\":null},\
        \"name\":\"Ada\",\"age\":36,\"kind\":\"B\",\"since\":\"1969-12-31T23:59:59.500Z\",\"score\":0.5,\"tags\":[\"x\",\"y\"],\"hash\":\"Af8=\",\
        \"steps\":[-1,2,-300],\"counts\":[{\"key\":\"k\",\"value\":9223372036854775808}],\"number\":1.5,\"low\":-7,\
        \"friend\":{\"name\":\"Bob\",\"age\":null}}";
    assert_eq!(read(USER), Ok(expected.into()));
    let empty = "{\"homes\":[],\"name\":\"\",\"kind\":\"A\",\"score\":0.0,\"tags\":[],\"hash\":\"\",\"steps\":[],\"counts\":[],\"low\":0}";
    assert_eq!(read(b""), Ok(empty.into()));
    // A name that comes twice, an unpacked step, a field that nobody knows.
    assert_eq!(
        read(b"\x0a\x01x\x48\x03\x0a\x01y\xf8\x06\x05"),
        Ok(empty.replace("\"name\":\"\"", "\"name\":\"y\"").replace("\"steps\":[]", "\"steps\":[-2]"))
    );
}

#[test]
fn of_several_the_last_one_counts() {
    // Goal: of a `oneof`, only the field has a value that comes last, whether or not the others are columns.
    let (word, number) = (&b"\x62\x01x"[..], &b"\x6d\x00\x00\xc0\x3f"[..]);
    let (has_word, has_number) = ("\"word\":\"x\"", "\"number\":1.5");
    let both = |first: &[u8], last: &[u8]| read(&[first, last].concat()).unwrap();
    let number_last = both(word, number);
    assert!(number_last.contains(has_number) && !number_last.contains("\"word\""), "{number_last}");
    let word_last = both(number, word);
    assert!(word_last.contains(has_word) && !word_last.contains("\"number\""), "{word_last}");
    let twice = read(&[word, number, word].concat()).unwrap();
    assert!(twice.contains(has_word) && !twice.contains("\"number\""), "{twice}");
    let columns: SchemaRef = Arc::new(Schema::new(vec![Field::new("word", DataType::Utf8, true)]));
    let mut rows = Rows::new(&columns).unwrap();
    let user = bound("org.example.User", &columns).unwrap();
    user.read(&[word, number].concat(), &mut rows).and_then(|()| rows.end_row(0)).unwrap();
    assert_eq!(rows.take().column(0).null_count(), 1, "what is no column counts, too");
}

#[test]
fn what_is_written_is_read_again() {
    // Goal: rows come back as they were; what has no value is left out, so that it comes back as the default where the message has one; a value that does not fit
    // is named, and a column that is no field is refused.
    let schema: SchemaRef = {
        // Columns of which the message has nothing cannot be written.
        let home = DataType::Struct(vec![Field::new("open", DataType::Boolean, false)].into());
        let written = |field: &Arc<Field>| match field.name().as_str() {
            "none" => None,
            "home" => Some(Arc::new(Field::new("home", home.clone(), true))),
            "homes" => Some(Arc::new(Field::new("homes", list(home.clone()), false))),
            _ => Some(Arc::clone(field)),
        };
        Arc::new(Schema::new(columns().fields().iter().filter_map(written).collect::<Vec<_>>()))
    };
    let mut rows = Rows::new(&schema).unwrap();
    let user = bound("org.example.User", &schema).unwrap();
    user.read(USER, &mut rows).and_then(|()| rows.end_row(0)).unwrap();
    user.read(b"", &mut rows).and_then(|()| rows.end_row(0)).unwrap();
    let batch = rows.take();
    let writer = ProtobufWriter::new(DESCRIPTORS, "org.example.User", &schema, &[]).unwrap();
    let write = |batch: &weir_types::Batch, row| {
        let cells: Vec<_> = batch.columns().iter().map(Cells::new).collect();
        let mut out = vec![];
        writer.write(&cells, row, &mut out).map(|()| out)
    };
    for row in 0..2 {
        let written = write(&batch, row).unwrap();
        user.read(&written, &mut rows).and_then(|()| rows.end_row(0)).unwrap();
    }
    assert_eq!(rows.take().columns(), batch.columns());

    let kind = schema.index_of("kind").unwrap();
    let mut spoilt = batch.columns().to_vec();
    spoilt[kind] = Arc::new(arrow_array::StringArray::from(vec!["Z", "A"]));
    let reason = write(&weir_types::Batch::new(2, spoilt, None), 0).unwrap_err();
    assert_eq!(reason.0, "\"Z\" is no name of the enum");
    let refused =
        |columns: &SchemaRef, elsewhere: &[usize]| ProtobufWriter::new(DESCRIPTORS, "org.example.User", columns, elsewhere);
    let more = [&schema.fields()[..], &[Arc::new(Field::new("none", DataType::Int64, true))]].concat();
    let (more, none): (SchemaRef, _) = (Arc::new(Schema::new(more)), schema.fields().len());
    assert!(refused(&more, &[]).unwrap_err().message.contains("it has no field \"none\""));
    assert!(refused(&more, &[none]).is_ok(), "it is elsewhere in the record");
}

#[test]
fn what_is_malformed_is_named() {
    // Goal: a value that does not fit is named.
    let reason = |bytes: &[u8]| read(bytes).unwrap_err().0;
    assert_eq!(reason(b"\x0a\x05x"), "the message ends too early");
    assert_eq!(reason(b"\x0a\x01\xff"), "\"name\": it is not UTF-8");
    assert_eq!(reason(b"\x10\xff\x7f"), "\"age\": 16383 is out of range");
    assert_eq!(reason(b"\x08\x01"), "\"name\": it is encoded as another type");
    // An instant of -2^63 seconds, and one of 2,000,000,000 nanoseconds.
    let out_of_range = reason(b"\x22\x0b\x08\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01");
    assert!(out_of_range.contains("\"since\": -9223372036854775808 seconds and 0 nanoseconds are no instant"), "{out_of_range}");
    let out_of_range = reason(b"\x22\x06\x10\x80\xa8\xd6\xb9\x07");
    assert!(out_of_range.contains("0 seconds and 2000000000 nanoseconds are no instant"), "{out_of_range}");
    assert_eq!(reason(b"\x0b"), "field 1 is a group, which is not supported");
    assert_eq!(reason(b"\x42\x02\x10\xff"), "\"home\": an integer ends too early".replace("an integer", "the message"));
}

#[test]
fn wrong_descriptors_are_refused() {
    // Goal: descriptors that are none, or do not have the message or the columns, are refused before anything is read.
    let column = |name: &str, data_type, nullable| Arc::new(Schema::new(vec![Field::new(name, data_type, nullable)]));
    let name = column("name", DataType::Utf8, false);
    assert!(bound("org.example.User", &name).is_ok());
    let message = |bound: Result<Protobuf, crate::Error>| bound.unwrap_err().message;
    assert!(message(Protobuf::new(b"\x0a\x09no", "org.example.User", &name)).starts_with("the file of descriptors is none"));
    assert!(message(bound("User", &name)).contains("there is no descriptor of User"));
    let of_user = |column: SchemaRef| message(bound("org.example.User", &column));
    assert!(of_user(column("name", DataType::Int64, false)).contains("its field \"name\" cannot be read as Int64"));
    assert!(of_user(column("tags", DataType::Utf8, false)).contains("its field \"tags\" cannot be read as Utf8"));
    assert!(of_user(column("nick", DataType::Utf8, false)).contains("it has no field \"nick\""));
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), at in 0..USER.len()) {
        // Goal: whatever a message is, reading it ends in a row or a reason, and leaves no half of a row.
        let _ = read(&bytes);
        let mut spoilt = USER.to_vec();
        spoilt.splice(at.., bytes);
        let _ = read(&spoilt);
    }

    #[test]
    fn any_descriptors_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..16), at in 0..DESCRIPTORS.len()) {
        // Goal: whatever a file of descriptors is, reading it ends.
        let mut spoilt = DESCRIPTORS.to_vec();
        spoilt.splice(at..(at + bytes.len()).min(DESCRIPTORS.len()), bytes);
        let _ = Protobuf::new(&spoilt, "org.example.User", &columns());
    }
}
