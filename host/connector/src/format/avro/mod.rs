//! Avro's binary encoding, as records of message brokers have it: values without names, one after another, in the order of a [`schema`] that both sides
//! know. A [`reader`] is that schema bound to columns, and so is a [`writer`].

pub(crate) mod reader;
pub(crate) mod schema;
pub(crate) mod writer;

#[cfg(test)]
mod tests;

pub(crate) use reader::Avro;
pub(crate) use writer::AvroWriter;
