//! Avro's binary encoding, as records of message brokers have it: values without names, one after another, in the order of a [`schema`] that both sides
//! know. A [`reader`] is that schema bound to columns.

pub(crate) mod reader;
pub(crate) mod schema;

#[cfg(test)]
mod tests;

pub(crate) use reader::Avro;
