//! Rows as JSON, for those who show rows elsewhere than in a sink.

use arrow_schema::SchemaRef;
use weir_types::Batch;

use crate::Error;
use crate::format::encoder::Encoder;

/// Writes rows as the format of JSON lines has them.
pub struct JsonLines(Encoder);

impl JsonLines {
    /// For rows of this schema.
    ///
    /// # Errors
    /// If a column cannot be written as text.
    pub fn new(schema: &SchemaRef) -> Result<Self, Error> {
        Encoder::jsonl(schema).map(Self)
    }

    /// Appends the rows of a batch, an object and a line feed each.
    pub fn append(&self, batch: &Batch, out: &mut Vec<u8>) {
        self.0.encode(batch, out);
    }
}
