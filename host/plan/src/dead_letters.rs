//! What a dead letter is: a row on which a guest has failed, or a record that could not be read as a row, with the error, as a row for a sink.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// What the output of a chain, or the stream of a source, for its dead letters is called.
pub const OUTPUT: &str = "dead-letters";

/// The columns of all dead letters, whatever the rows were.
pub fn schema() -> SchemaRef {
    let instant = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("job", DataType::Utf8, false),
        // None where no operator was given the row, for it was malformed.
        Field::new("operator", DataType::Utf8, true),
        // When the guest failed or the record was read, in processing time.
        Field::new("time", instant(), false),
        Field::new("source", DataType::Utf8, false),
        // Known as long as rows are in the task of their source.
        Field::new("split", DataType::Utf8, true),
        // Which of the split's events it may come from: if both are the same, it is that one.
        Field::new("first_position", DataType::Int64, true),
        Field::new("last_position", DataType::Int64, true),
        Field::new("event_time", instant(), true),
        // A JSON object, as the format of JSON lines has it; a malformed record as it is.
        Field::new("record", DataType::Utf8, false),
        Field::new("error", DataType::Utf8, false),
        Field::new("message", DataType::Utf8, false),
        Field::new("backtrace", DataType::Utf8, true),
    ]))
}
