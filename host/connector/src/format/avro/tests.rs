use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::{Avro, AvroWriter};
use crate::format::cells::Cells;
use crate::format::columns::{Reason, Rows};
use crate::format::encoder::Encoder;

/// The user of the specification, with a bit of everything.
const USER: &str = r#"{ "type": "record", "name": "User", "namespace": "org.example", "fields": [
    {"name": "skipped", "type": {"type": "map", "values": {"type": "array", "items": "User"}}},
    {"name": "name", "type": "string"},
    {"name": "age", "type": ["null", "int"]},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
    {"name": "since", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "score", "type": "double"},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 2}},
    {"name": "home", "type": ["null", {"type": "record", "name": "Home", "fields": [
        {"name": "zip", "type": "int"}, {"name": "open", "type": "boolean"}]}]},
    {"name": "other", "type": ["null", "org.example.Kind"]}
] }"#;

fn columns() -> SchemaRef {
    let home = vec![Field::new("open", DataType::Boolean, false), Field::new("floor", DataType::Int8, true)];
    Arc::new(Schema::new(vec![
        Field::new("home", DataType::Struct(home.into()), true),
        Field::new("age", DataType::UInt8, true),
        Field::new("name", DataType::Utf8, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("since", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
        Field::new("score", DataType::Float64, false),
        Field::new("tags", DataType::List(Arc::new(Field::new("item", DataType::Utf8, false))), false),
        Field::new("hash", DataType::Binary, false),
        Field::new("none", DataType::Int64, true),
        Field::new("other", DataType::Utf8, true),
    ]))
}

/// A user, written down byte by byte.
fn user(age: &[u8]) -> Vec<u8> {
    [
        // skipped: a block of one entry, "k" → an empty array
        b"\x02\x02k\x00\x00",
        // name
        &b"\x06Ada"[..],
        age,
        // kind: B
        b"\x02",
        // since: 1500 µs before 1970
        b"\xb7\x17",
        // score: 0.5
        &0.5_f64.to_le_bytes(),
        // tags: a block of two items that tells its bytes, then one of one
        b"\x03\x08\x02x\x02y\x02\x02z\x00",
        // hash
        b"\x01\xff",
        // home: zip = 64, open
        b"\x02\x80\x01\x01",
        // other: null
        b"\x00",
    ]
    .concat()
}

fn read(bytes: &[u8]) -> Result<String, Reason> {
    let mut rows = Rows::new(&columns()).unwrap();
    let read = Avro::new(USER, &columns()).unwrap().read(bytes, &mut rows).and_then(|()| rows.end_row(0));
    if let Err(reason) = read {
        rows.drop_row();
        assert_eq!(rows.take().rows(), 0, "nothing is left of a malformed row");
        return Err(reason);
    }
    let mut text = Vec::new();
    Encoder::jsonl(&columns()).unwrap().encode(&rows.take(), &mut text);
    Ok(String::from_utf8(text).unwrap())
}

#[test]
fn values_are_read_by_name() {
    // Goal: each type comes as the specification encodes it, whatever is around it and in whatever order columns are wanted.
    let expected = "{\"home\":{\"open\":true,\"floor\":null},\"age\":36,\"name\":\"Ada\",\"kind\":\"B\",\"since\":\"1969-12-31T23:59:59.998Z\",\
        \"score\":0.5,\"tags\":[\"x\",\"y\",\"z\"],\"hash\":\"Af8=\"}\n";
    assert_eq!(read(&user(b"\x02\x48")), Ok(expected.into()));
    assert_eq!(read(&user(b"\x00")), Ok(expected.replace("\"age\":36,", "")));
}

#[test]
fn what_is_malformed_is_named() {
    // Goal: a value that does not fit is named, and a record that is cut anywhere is none.
    let whole = user(b"\x02\x48");
    for end in 0..whole.len() {
        assert!(read(&whole[..end]).is_err(), "{end} bytes");
    }
    let reason = |bytes: &[u8]| read(bytes).unwrap_err().0;
    assert_eq!(reason(&user(b"\x02\x01")), "\"age\": -1 is out of range");
    assert_eq!(reason(&user(b"\x04\x48")), "\"age\": a choice of 2 is number 2");
    assert_eq!(reason(&[&whole[..], b"\0"].concat()), "1 bytes follow the record");
    let dates = r#"{"type": "record", "name": "R", "fields": [{"name": "day", "type": {"type": "int", "logicalType": "date"}}]}"#;
    let day: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("day", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false)]));
    let date = Avro::new(dates, &day).unwrap().read(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", &mut Rows::new(&day).unwrap());
    assert_eq!(date, Err(Reason("\"day\": 9223372036854775807 days are no date".into())));
    // An array of more items than there is memory for, each of no bytes.
    let nulls = r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "array", "items": "null"}}]}"#;
    let read = Avro::new(nulls, &Arc::new(Schema::empty()))
        .unwrap()
        .read(b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01\x00", &mut Rows::new(&Arc::new(Schema::empty())).unwrap());
    assert_eq!(read, Err(Reason("arrays have more than 16777216 items".into())));
}

#[test]
fn wrong_schemas_are_refused() {
    // Goal: a schema that is none, or does not have the columns, is refused before anything is read.
    let name = || Arc::new(Schema::new(vec![Field::new("name", DataType::Int64, false)]));
    for (schema, expected) in [
        ("{", "the Avro schema: it is no JSON"),
        ("\"int\"", "the Avro schema: it is not one of a record"),
        ("\"integer\"", "there is no type \"integer\""),
        (USER, "its field \"name\" cannot be read as Int64"),
        (r#"{"type": "record", "name": "R", "fields": []}"#, "it has no field \"name\""),
        (
            r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "a", "type": "int"}]}"#,
            "two fields \"a\"",
        ),
    ] {
        let message = Avro::new(schema, &name()).unwrap_err().message;
        assert!(message.contains(expected), "{message}");
    }
}

/// What is written, besides what `USER` has, as far as columns say it.
const WRITTEN: &str = r#"{ "type": "record", "name": "User", "fields": [
    {"name": "nothing", "type": "null"},
    {"name": "other", "type": ["string", "null"]},
    {"name": "missing", "type": ["string", "null"]},
    {"name": "age", "type": ["null", "int"]},
    {"name": "name", "type": ["string"]},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
    {"name": "since", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "score", "type": "double"},
    {"name": "tags", "type": {"type": "array", "items": "string"}},
    {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 2}},
    {"name": "home", "type": [{"type": "record", "name": "Home", "fields": [
        {"name": "floor", "type": ["null", "int"]}, {"name": "open", "type": "boolean"}]}, "null"]},
    {"name": "none", "type": ["null", "long"]}
] }"#;

#[test]
fn what_is_written_is_read_again() {
    // Goal: rows come back as they were, also those without values; a value that does not fit the schema is named, and so is a schema that does not fit.
    let schema = columns();
    let text = concat!(
        r#"{"home":{"open":true,"floor":-3},"age":36,"name":"Ada","kind":"B","since":"1969-12-31T23:59:59.999Z","score":0.5,"#,
        r#""tags":["x","","z"],"hash":"Af8=","none":-9223372036854775808,"other":"o"}"#,
        "\n",
        r#"{"name":"","kind":"A","since":"2015-07-15T00:00:00Z","score":-1.0,"tags":[],"hash":"AAA="}"#,
        "\n"
    );
    let rows = |text: &str| {
        let mut rows = Rows::new(&schema).unwrap();
        for line in text.lines() {
            crate::format::json::read_object(line, &mut rows).and_then(|()| rows.end_row(0)).unwrap();
        }
        rows.take()
    };
    let write = |text: &str| {
        let batch = rows(text);
        let cells: Vec<_> = batch.columns().iter().map(Cells::new).collect();
        let writer = AvroWriter::new(WRITTEN, &schema, &[]).unwrap();
        let write = |row| {
            let mut out = vec![];
            writer.write(&cells, row, &mut out).map(|()| out)
        };
        (0..batch.rows()).map(write).collect::<Result<Vec<_>, _>>()
    };
    let reader = Avro::new(WRITTEN, &schema).unwrap();
    let mut again = Rows::new(&schema).unwrap();
    for record in write(text).unwrap() {
        reader.read(&record, &mut again).and_then(|()| again.end_row(0)).unwrap();
    }
    let mut found = Vec::new();
    Encoder::jsonl(&schema).unwrap().encode(&again.take(), &mut found);
    assert_eq!(String::from_utf8(found).unwrap(), text);

    let reason = |from: &str, to: &str| write(&text.replace(from, to)).unwrap_err().0;
    assert_eq!(reason("\"kind\":\"B\"", "\"kind\":\"C\""), "\"C\" is none of: A, B");
    assert_eq!(reason("\"Af8=\"", "\"AA==\""), "a value has 1 bytes instead of 2");
    let wrong = |from: &str, to: &str, part: &str| {
        let error = AvroWriter::new(&WRITTEN.replace(from, to), &schema, &[]).unwrap_err().message;
        assert!(error.contains(part), "{error}");
    };
    wrong("\"score\", \"type\": \"double\"", "\"score\", \"type\": \"int\"", "\"score\" cannot be written from Float64");
    wrong("\"score\", \"type\": \"double\"", "\"points\", \"type\": \"double\"", "it has no field \"score\"");
    wrong("\"nothing\", \"type\": \"null\"", "\"must\", \"type\": \"int\"", "\"must\" needs a value");
    wrong(
        "\"age\", \"type\": [\"null\", \"int\"]",
        "\"age\", \"type\": \"int\"",
        "\"age\" needs a value, which the column may lack",
    );
    let number = Arc::new(Schema::new(vec![Field::new("n", DataType::UInt64, false)]));
    for (of, value, why) in
        [("int", i64::from(i32::MAX) as u64 + 1, "2147483648 is out of range"), ("long", 1 << 63, "out of range")]
    {
        let of = format!(r#"{{"type": "record", "name": "N", "fields": [{{"name": "n", "type": "{of}"}}]}}"#);
        let column: arrow_array::ArrayRef = Arc::new(arrow_array::UInt64Array::from(vec![value]));
        let written = AvroWriter::new(&of, &number, &[]).unwrap().write(&[Cells::new(&column)], 0, &mut vec![]);
        assert!(written.unwrap_err().0.contains(why));
    }
}

proptest! {
    #[test]
    fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64), at in 0..60_usize) {
        // Goal: whatever a record is, reading it ends in a row or a reason, and leaves no half of a row.
        let _ = read(&bytes);
        let mut spoilt = user(b"\x02\x48");
        let at = at.min(spoilt.len());
        spoilt.splice(at.., bytes);
        let _ = read(&spoilt);
    }
}
