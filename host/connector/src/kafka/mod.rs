//! The connector `kafka`: topics of Apache Kafka.
//!
//! A [`source`] reads each partition as a split: [`offsets`] says where it starts and ends, [`continuity`] whether a position is still what it was, a [`reader`]
//! takes what librdkafka's threads have fetched, and [`records`] makes rows of it. A [`sink`] sends what [`encoding`] makes of rows through a [`producer`] of librdkafka: at least once, or in a [`transaction`] for each checkpoint.
//! In both directions, [`native`] hands over many records at a time.
//! What librdkafka does not offer of transactions is asked of the brokers by [`cluster`], in the few requests of [`wire`]; [`security`] is how they are reached,
//! and [`scram`] one of the ways to log in.

mod cluster;
mod continuity;
mod encoding;
#[expect(unsafe_code, reason = "see each SAFETY")]
mod native;
mod offsets;
mod options;
mod producer;
mod reader;
mod records;
mod scram;
mod security;
mod sink;
mod source;
mod transaction;
mod wire;

#[cfg(any(test, feature = "test-util"))]
pub mod broker;
#[cfg(test)]
mod tests;

use arrow_schema::SchemaRef;

use self::options::{SinkOptions, SourceOptions};
use crate::options::{only_stream, parse};
use crate::registry::Stream;
use crate::{Connector, Context, Error, Sink, Source};

/// The connector `kafka`.
pub struct Kafka;

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn source(&self, options: &toml::Table, streams: &[Stream], context: &Context) -> Result<Box<dyn Source>, Error> {
        let options: SourceOptions = parse(options, context)?;
        let stream = only_stream(streams, context)?;
        Ok(Box::new(source::Topics::new(options, &stream.schema, context)?))
    }

    fn sink(&self, options: &toml::Table, schema: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error> {
        let options: SinkOptions = parse(options, context)?;
        Ok(Box::new(sink::Topic::new(&options, schema, context)?))
    }
}
