//! The options of a job spec, and librdkafka's settings that come of them.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_schema::SchemaRef;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use serde::{Deserialize, Deserializer};
use weir_plan::units::SpecDuration;
use weir_types::EventTime;

use super::security::{FILES, is_secret};
use crate::format::avro::Avro;
use crate::format::malformed::OnMalformed;
use crate::format::protobuf::Protobuf;
use crate::format::time;
use crate::{Context, Error};

/// A file of schemas is read this far.
const SCHEMA_BYTES_MAX: u64 = 16 << 20;

/// The options of a source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceOptions {
    /// the addresses of some brokers, with commas between them
    pub brokers: String,
    /// the topic
    topic: Option<String>,
    /// the topics, if there are several
    topics: Option<Vec<String>>,
    /// the consumer group that is told how far was read
    pub group: Option<String>,
    /// where partitions are read from
    #[serde(default)]
    pub start: Start,
    /// where they end; none: nowhere
    pub until: Option<Until>,
    /// what the value of a record is
    #[serde(default)]
    format: ReadFormat,
    /// avro: the schema of the values
    schema: Option<String>,
    /// avro: the file that has it
    schema_path: Option<PathBuf>,
    /// protobuf: the file with the descriptors of messages
    descriptors_path: Option<PathBuf>,
    /// protobuf: the message that a value is
    message: Option<String>,
    /// avro, protobuf: what comes before a value
    framing: Option<Framing>,
    /// what is done with malformed records
    #[serde(default)]
    pub on_malformed: OnMalformed,
    /// where malformed records are written to
    pub rejects_path: Option<PathBuf>,
    /// what is done where records are gone before they were read
    #[serde(default)]
    pub on_lost: OnLost,
    /// how often new partitions are looked for
    pub discover: Option<SpecDuration>,
    /// settings of librdkafka
    #[serde(default)]
    pub properties: toml::Table,
}

impl SourceOptions {
    /// The topics, at least one.
    pub fn topics(&self, context: &Context) -> Result<Vec<String>, Error> {
        match (&self.topic, &self.topics) {
            (Some(topic), None) => Ok(vec![topic.clone()]),
            (None, Some(topics)) if !topics.is_empty() => Ok(topics.clone()),
            _ => Err(Error::options(format!(
                "options of \"{}\": either the option topic names a topic, or topics at least one",
                context.name
            ))),
        }
    }
}

impl SourceOptions {
    /// How values are read into these columns.
    pub fn values(&self, columns: &SchemaRef, context: &Context) -> Result<Values, Error> {
        let wrong = |why: &str| Error::options(format!("options of \"{}\": {why}", context.name));
        let (is_avro, is_protobuf) = (self.format == ReadFormat::Avro, self.format == ReadFormat::Protobuf);
        if !is_avro && (self.schema.is_some() || self.schema_path.is_some()) {
            return Err(wrong("the options schema and schema_path are for the format avro only"));
        }
        if !is_protobuf && (self.descriptors_path.is_some() || self.message.is_some()) {
            return Err(wrong("the options descriptors_path and message are for the format protobuf only"));
        }
        if !is_avro && !is_protobuf && self.framing.is_some() {
            return Err(wrong("the option framing is for the formats avro and protobuf only"));
        }
        let framing = self.framing.unwrap_or_default();
        match self.format {
            ReadFormat::Json => Ok(Values::Json),
            ReadFormat::Raw => Ok(Values::Raw),
            ReadFormat::Avro => {
                let schema = avro_schema(self.schema.as_ref(), self.schema_path.as_deref(), context)?;
                Ok(Values::Avro(Arc::new(Avro::new(&schema, columns)?), framing))
            }
            ReadFormat::Protobuf => {
                let (Some(path), Some(message)) = (&self.descriptors_path, &self.message) else {
                    return Err(wrong("the format protobuf needs the options descriptors_path and message"));
                };
                let message = Protobuf::new(&schema_file(path, context)?, message, columns)?;
                Ok(Values::Protobuf(Arc::new(message), framing))
            }
        }
    }
}

/// The schema of Avro, or what is in the file that has it.
fn avro_schema(schema: Option<&String>, path: Option<&Path>, context: &Context) -> Result<String, Error> {
    match (schema, path) {
        (Some(schema), None) => Ok(schema.clone()),
        (None, Some(path)) => Ok(String::from_utf8_lossy(&schema_file(path, context)?).into_owned()),
        _ => Err(Error::options(format!(
            "options of \"{}\": the format avro needs either the option schema or schema_path",
            context.name
        ))),
    }
}

/// A file that says how values are encoded.
fn schema_file(path: &Path, context: &Context) -> Result<Vec<u8>, Error> {
    let failed = |e| Error::io(format!("the file {} cannot be read", context.files.shown(path)), e);
    let mut bytes = vec![];
    context.files.open(path).and_then(|file| file.take(SCHEMA_BYTES_MAX).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}

/// How the values of records are read.
#[derive(Clone)]
pub(super) enum Values {
    Json,
    Raw,
    Avro(Arc<Avro>, Framing),
    Protobuf(Arc<Protobuf>, Framing),
}

/// What the value of a record is that is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ReadFormat {
    /// a JSON object
    #[default]
    Json,
    /// text or bytes, as they are
    Raw,
    /// a record in Avro's binary encoding
    Avro,
    /// a message of Protocol Buffers
    Protobuf,
}

/// What comes before a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Framing {
    /// nothing
    #[default]
    None,
    /// a zero, and the number of its schema in a registry; of Protocol Buffers also which of the schema's messages it is
    Confluent,
}

/// The options of a sink.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkOptions {
    /// the addresses of some brokers, with commas between them
    pub brokers: String,
    /// the topic
    pub topic: String,
    /// the columns that are the key of a record
    #[serde(default)]
    pub key: Key,
    /// what the value of a record is
    #[serde(default)]
    pub format: Format,
    /// avro: the schema of the values
    schema: Option<String>,
    /// avro: the file that has it
    schema_path: Option<PathBuf>,
    /// protobuf: the file with the descriptors of messages
    descriptors_path: Option<PathBuf>,
    /// protobuf: the message that a value is
    message: Option<String>,
    /// avro, protobuf: what comes before a value
    framing: Option<Framing>,
    /// the number of the schema in a registry
    schema_id: Option<u32>,
    /// the column that has the headers of a record
    pub headers: Option<String>,
    /// what becomes of rows when a job starts again
    #[serde(default)]
    pub delivery: Delivery,
    /// how long the broker keeps a transaction open
    pub transaction_timeout: Option<SpecDuration>,
    /// settings of librdkafka
    #[serde(default)]
    pub properties: toml::Table,
}

/// What the value of a record is that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// a JSON object
    #[default]
    Json,
    /// text or bytes, as they are
    Raw,
    /// a record in Avro's binary encoding
    Avro,
    /// a message of Protocol Buffers
    Protobuf,
}

/// What says how values are written.
pub(super) enum Written {
    Json,
    Raw,
    /// a schema
    Avro(String),
    /// descriptors, and the name of a message
    Protobuf(Vec<u8>, String),
}

impl SinkOptions {
    /// How values are written, and the number of the schema that comes before each, if one does.
    pub fn written(&self, context: &Context) -> Result<(Written, Option<u32>), Error> {
        let wrong = |why: &str| Error::options(format!("options of \"{}\": {why}", context.name));
        if self.format != Format::Avro && (self.schema.is_some() || self.schema_path.is_some()) {
            return Err(wrong("the options schema and schema_path are for the format avro only"));
        }
        if self.format != Format::Protobuf && (self.descriptors_path.is_some() || self.message.is_some()) {
            return Err(wrong("the options descriptors_path and message are for the format protobuf only"));
        }
        let written = match self.format {
            Format::Json => Written::Json,
            Format::Raw => Written::Raw,
            Format::Avro => Written::Avro(avro_schema(self.schema.as_ref(), self.schema_path.as_deref(), context)?),
            Format::Protobuf => {
                let (Some(path), Some(message)) = (&self.descriptors_path, &self.message) else {
                    return Err(wrong("the format protobuf needs the options descriptors_path and message"));
                };
                Written::Protobuf(schema_file(path, context)?, message.clone())
            }
        };
        match (&written, self.framing.unwrap_or_default(), self.schema_id) {
            (Written::Avro(_) | Written::Protobuf(..), Framing::Confluent, Some(id)) => Ok((written, Some(id))),
            (Written::Json | Written::Raw, _, _) if self.framing.is_some() || self.schema_id.is_some() => {
                Err(wrong("the options framing and schema_id are for the formats avro and protobuf only"))
            }
            (_, Framing::Confluent, None) => Err(wrong(
                "framing = \"confluent\" needs the option schema_id, the number that a registry has given to the schema",
            )),
            (_, Framing::None, Some(_)) => Err(wrong("the option schema_id is for framing = \"confluent\" only")),
            (_, _, _) => Ok((written, None)),
        }
    }
}

/// Which delivery is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Delivery {
    /// by transactions
    #[default]
    ExactlyOnce,
    /// by a producer that repeats what failed
    AtLeastOnce,
}

/// The columns that are the key of a record.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Key {
    /// records have no key
    #[default]
    None,
    /// the key is the value of this column
    Column(String),
    /// the key is a JSON object of these columns
    Columns(Vec<String>),
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let key = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(column) => Some(Self::Column(column)),
            toml::Value::Array(columns) if !columns.is_empty() => {
                columns.iter().map(|column| column.as_str().map(str::to_owned)).collect::<Option<_>>().map(Self::Columns)
            }
            _ => None,
        };
        key.ok_or_else(|| serde::de::Error::custom("key is the name of a column, or a list of such names"))
    }
}

/// Where partitions are read from.
#[derive(Debug, Default, PartialEq)]
pub(super) enum Start {
    /// the oldest records
    #[default]
    Earliest,
    /// those that come from now on
    Latest,
    /// behind what the group has committed
    Group,
    /// the first record of this time or a later one
    Timestamp(EventTime),
    /// these offsets, by partition or `topic/partition`
    Offsets(BTreeMap<String, i64>),
}

/// What a key of `start.offsets` names: a topic, if it is only one that is meant, and the number of a partition.
pub(super) fn topic_and_partition(key: &str) -> (Option<&str>, &str) {
    key.rsplit_once('/').map_or((None, key), |(topic, partition)| (Some(topic), partition))
}

impl Start {
    /// Checks that offsets are of partitions that these topics can have.
    ///
    /// # Errors
    /// If one is of another topic, or of no partition.
    pub fn check(&self, topics: &[String], context: &Context) -> Result<(), Error> {
        let Self::Offsets(offsets) = self else { return Ok(()) };
        let can_be = |key: &str| {
            let (topic, partition) = topic_and_partition(key);
            let is_number = partition.parse::<i32>().is_ok_and(|number| number >= 0 && number.to_string() == partition);
            is_number && topic.is_none_or(|topic| topics.iter().any(|of| of == topic))
        };
        match offsets.keys().find(|key| !can_be(key)) {
            None => Ok(()),
            Some(key) => Err(Error::options(format!(
                "options of \"{}\": start.offsets.\"{key}\" is no partition of {}; it takes numbers of partitions, or \"TOPIC/PARTITION\"",
                context.name,
                topics.join(", ")
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Start {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const WHAT: &str = "start is \"earliest\", \"latest\", \"group\", { timestamp = … } or { offsets = { … } }";
        let wrong = || serde::de::Error::custom(WHAT);
        let table = match toml::Value::deserialize(deserializer)? {
            toml::Value::String(name) => {
                return match name.as_str() {
                    "earliest" => Ok(Self::Earliest),
                    "latest" => Ok(Self::Latest),
                    "group" => Ok(Self::Group),
                    _ => Err(wrong()),
                };
            }
            toml::Value::Table(table) if table.len() == 1 => table,
            _ => return Err(wrong()),
        };
        match table.into_iter().next() {
            Some((key, value)) if key == "timestamp" => match &value {
                toml::Value::Integer(ms) => Ok(Self::Timestamp(*ms)),
                other => {
                    let text = other.as_str().map(str::to_owned).or_else(|| other.as_datetime().map(ToString::to_string));
                    let instant = text.and_then(|text| time::parse(text.as_bytes()));
                    instant.map(Self::Timestamp).ok_or_else(|| {
                        serde::de::Error::custom("start.timestamp is an instant like \"2013-01-01T06:00:00Z\", or milliseconds")
                    })
                }
            },
            Some((key, toml::Value::Table(offsets))) if key == "offsets" => {
                let offsets = offsets.into_iter().map(|(partition, offset)| match offset.as_integer() {
                    Some(offset) if offset >= 0 => Ok((partition, offset)),
                    _ => Err(serde::de::Error::custom(format!("start.offsets.{partition} is no offset"))),
                });
                offsets.collect::<Result<_, _>>().map(Self::Offsets)
            }
            _ => Err(wrong()),
        }
    }
}

/// What is done where records are gone before they were read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum OnLost {
    /// the job fails
    #[default]
    Fail,
    /// it goes on at the oldest record that is there
    Skip,
}

/// Where a source ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Until {
    /// where the partitions end when the job starts
    Latest,
}

/// Settings that Weir makes itself, for sources and sinks: by which the option that stands for it, or the reason, is named.
const OURS: [(&str, &str); 3] = [
    ("bootstrap.servers", "the option brokers stands for it"),
    ("metadata.broker.list", "the option brokers stands for it"),
    ("plugin.library.paths", "a job does not load code into the process"),
];

/// Settings that are the source's own.
pub(super) const OURS_READING: &[(&str, &str)] = &[
    ("group.id", "the option group stands for it"),
    ("group.instance.id", "Weir deals out partitions itself"),
    ("auto.offset.reset", "the option start stands for it"),
    ("enable.auto.commit", "Weir commits what was read, if the option group is set"),
    ("auto.commit.enable", "Weir commits what was read, if the option group is set"),
    ("enable.auto.offset.store", "Weir commits what was read, if the option group is set"),
    ("enable.partition.eof", "the option until stands for it"),
];

/// Settings that are the sink's own.
pub(super) const OURS_WRITING: &[(&str, &str)] = &[
    ("transactional.id", "the option delivery stands for it"),
    ("transaction.timeout.ms", "the option transaction_timeout stands for it"),
    ("enable.idempotence", "Weir never writes without it"),
    ("acks", "Weir waits for all replicas"),
    ("request.required.acks", "Weir waits for all replicas"),
    ("delivery.report.only.error", "Weir needs the reports of errors, and no others"),
];

/// Settings that a job on a server may have: how brokers are reached and who logs in, and how patient and eager the client is. Others may open files, run
/// commands, send signals, or take memory (`queued.min.messages`), a core and the log (`reconnect.backoff.ms` = 0) without end; which ones do, changes with
/// librdkafka.
const ON_A_SERVER: [&str; 39] = [
    "broker.address.family",
    "broker.address.ttl",
    "check.crcs",
    "client.dns.lookup",
    "client.id",
    "client.rack",
    "compression.codec",
    "compression.level",
    "compression.type",
    "connections.max.idle.ms",
    "delivery.timeout.ms",
    "enable.ssl.certificate.verification",
    "fetch.error.backoff.ms",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "isolation.level",
    "linger.ms",
    "message.timeout.ms",
    "metadata.max.age.ms",
    "partitioner",
    "request.timeout.ms",
    "retry.backoff.max.ms",
    "retry.backoff.ms",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "socket.connection.setup.timeout.ms",
    "socket.keepalive.enable",
    "socket.timeout.ms",
    "ssl.ca.pem",
    "ssl.certificate.pem",
    "ssl.cipher.suites",
    "ssl.endpoint.identification.algorithm",
    "ssl.key.password",
    "ssl.key.pem",
    "topic.metadata.refresh.interval.ms",
];

/// librdkafka's settings: `defaults`, then what the job's `properties` say, then `fixed`.
///
/// # Errors
/// If a property is unknown, has a wrong value, or is one that Weir sets itself, or that a job on a server may not have.
pub(super) fn client(
    context: &Context,
    properties: &toml::Table,
    ours: &[(&str, &str)],
    defaults: &[(&str, &str)],
    fixed: &[(&str, String)],
) -> Result<ClientConfig, Error> {
    let wrong = |why: String| Error::options(format!("options of \"{}\": {why}", context.name));
    let mut config = ClientConfig::new();
    config.set("client.id", "weir");
    for (name, value) in defaults {
        config.set(*name, *value);
    }
    for (name, value) in properties {
        if let Some((_, why)) = OURS.iter().chain(ours).find(|(known, _)| known == name) {
            return Err(wrong(format!("properties cannot have \"{name}\": {why}")));
        }
        if context.files.is_confined() && !ON_A_SERVER.contains(&name.as_str()) {
            let known = ON_A_SERVER.join(", ");
            return Err(wrong(format!("properties of a job on a server cannot have \"{name}\", only these: {known}")));
        }
        let text = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(_) | toml::Value::Boolean(_) | toml::Value::Float(_) => value.to_string(),
            _ => return Err(wrong(format!("the property \"{name}\" is no text, number or boolean"))),
        };
        let text = match FILES.contains(&name.as_str()) {
            true => {
                let path = context.files.outside(Path::new(&text));
                let path = path.ok_or_else(|| wrong(format!("properties cannot have \"{name}\" on a server")))?;
                path.to_str().ok_or_else(|| wrong(format!("the property \"{name}\" is no UTF-8")))?.to_owned()
            }
            false => text,
        };
        config.set(name, text);
    }
    for (name, value) in fixed {
        config.set(*name, value);
    }
    match config.create_native_config() {
        Ok(_) => Ok(config),
        Err(KafkaError::ClientConfig(_, _, name, _)) if is_secret(&name) => {
            Err(wrong(format!("the property \"{name}\" has a value that it cannot have")))
        }
        Err(KafkaError::ClientConfig(_, why, name, _)) => Err(wrong(format!("the property \"{name}\": {why}"))),
        Err(e) => Err(wrong(format!("properties: {e}"))),
    }
}
