//! Schemas of Avro, read from their JSON.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

/// Types may be this deep within each other.
const DEPTH_MAX: usize = 64;

/// A type: how a value is encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Schema {
    Null,
    Boolean,
    /// an `int`, of 32 bits
    Int,
    /// a `long`, which is encoded alike
    Integer,
    /// an integer that counts days since 1970
    Date,
    /// an integer that counts since 1970, so many in a millisecond
    Instant(i64),
    Float,
    Double,
    Bytes,
    Text,
    /// so many bytes
    Fixed(usize),
    /// one of these texts
    Enum(Vec<String>),
    Array(Box<Schema>),
    Map(Box<Schema>),
    Union(Vec<Schema>),
    Record(Vec<(String, Schema)>),
    /// the type that has this name
    Named(String),
}

/// Types by their full names.
pub(crate) type Names = HashMap<String, Schema>;

/// Reads a schema, and the types that it names.
pub(crate) fn parse(text: &str) -> Result<(Schema, Names), String> {
    let json: Value = serde_json::from_str(text).map_err(|e| format!("it is no JSON: {e}"))?;
    let mut parser = Parser { names: Names::new() };
    let schema = parser.schema(&json, "", 0)?;
    Ok((schema, parser.names))
}

struct Parser {
    names: Names,
}

impl Parser {
    fn schema(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<Schema, String> {
        if depth > DEPTH_MAX {
            return Err(format!("its types are nested more than {DEPTH_MAX} deep"));
        }
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.schema(branch, namespace, depth + 1));
                branches.collect::<Result<_, _>>().map(Schema::Union)
            }
            Value::Object(object) => self.complex(object, namespace, depth),
            other => Err(format!("{other} is no type")),
        }
    }

    /// A type that is written as its name alone.
    fn named(&self, name: &str, namespace: &str) -> Result<Schema, String> {
        Ok(match name {
            "null" => Schema::Null,
            "boolean" => Schema::Boolean,
            "int" => Schema::Int,
            "long" => Schema::Integer,
            "float" => Schema::Float,
            "double" => Schema::Double,
            "bytes" => Schema::Bytes,
            "string" => Schema::Text,
            name => {
                let full = full_name(name, namespace);
                let known = [full.as_str(), name].into_iter().find(|name| self.names.contains_key(*name));
                Schema::Named(known.ok_or_else(|| format!("there is no type \"{name}\""))?.to_owned())
            }
        })
    }

    fn complex(&mut self, object: &Map<String, Value>, namespace: &str, depth: usize) -> Result<Schema, String> {
        let get = |key: &str| object.get(key).ok_or_else(|| format!("a type lacks \"{key}\""));
        let type_of = get("type")?;
        let Value::String(kind) = type_of else { return self.schema(type_of, namespace, depth + 1) };
        match kind.as_str() {
            "array" => Ok(Schema::Array(Box::new(self.schema(get("items")?, namespace, depth + 1)?))),
            "map" => Ok(Schema::Map(Box::new(self.schema(get("values")?, namespace, depth + 1)?))),
            "record" | "error" | "enum" | "fixed" => {
                let name = get("name")?.as_str().ok_or("a name is no text")?;
                let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
                let full = full_name(name, namespace);
                // A record may hold itself.
                self.names.insert(full.clone(), Schema::Null);
                let namespace = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                let schema = match kind.as_str() {
                    "enum" => {
                        let symbols = get("symbols")?.as_array().ok_or("\"symbols\" is no list")?;
                        let symbols = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned));
                        Schema::Enum(symbols.collect::<Option<_>>().ok_or("a symbol is no text")?)
                    }
                    "fixed" => {
                        let size = get("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                        Schema::Fixed(size.ok_or("\"size\" is no size")?)
                    }
                    _ => self.record(get("fields")?, namespace, depth)?,
                };
                self.names.insert(full.clone(), schema);
                Ok(Schema::Named(full))
            }
            kind => {
                let plain = self.named(kind, namespace)?;
                let logical = object.get("logicalType").and_then(Value::as_str);
                Ok(match (plain, logical) {
                    (Schema::Int | Schema::Integer, Some("date")) => Schema::Date,
                    (Schema::Int | Schema::Integer, Some("timestamp-millis")) => Schema::Instant(1),
                    (Schema::Int | Schema::Integer, Some("timestamp-micros")) => Schema::Instant(1_000),
                    (Schema::Int | Schema::Integer, Some("timestamp-nanos")) => Schema::Instant(1_000_000),
                    (plain, _) => plain,
                })
            }
        }
    }

    fn record(&mut self, fields: &Value, namespace: &str, depth: usize) -> Result<Schema, String> {
        let fields = fields.as_array().ok_or("\"fields\" is no list")?.iter().map(|field| {
            let name = field.get("name").and_then(Value::as_str).ok_or("a field has no name")?;
            let schema = field.get("type").ok_or_else(|| format!("the field \"{name}\" has no type"))?;
            Ok((name.to_owned(), self.schema(schema, namespace, depth + 1)?))
        });
        let fields = fields.collect::<Result<Vec<_>, String>>()?;
        let mut names = HashSet::new();
        match fields.iter().find(|(name, _)| !names.insert(name)) {
            Some((name, _)) => Err(format!("it has two fields \"{name}\"")),
            None => Ok(Schema::Record(fields)),
        }
    }
}

/// A name with dots is a full one.
fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}
