//! Descriptors of messages: a set of files, itself a message of Protocol Buffers (`google/protobuf/descriptor.proto`).

use std::collections::HashMap;

use super::wire::{Cursor, Value};
use crate::format::columns::Reason;

type Parsed<T> = Result<T, Reason>;

/// Types may be this deep within each other.
const DEPTH_MAX: usize = 64;

/// All messages and enums of a set, by their full names, without a dot before.
#[derive(Debug, Default)]
pub(crate) struct Descriptors {
    pub messages: HashMap<String, Vec<Field>>,
    pub enums: HashMap<String, HashMap<i32, String>>,
    /// by message: its number among those of its file, or of each message around it
    pub paths: HashMap<String, Vec<u64>>,
}

/// A field of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    pub name: String,
    pub number: u64,
    pub kind: u64,
    /// the message or the enum
    pub type_name: String,
    pub is_repeated: bool,
    /// whether the default value stands for a field that is missing
    pub has_default: bool,
    /// the number of the `oneof` that it is one of
    pub oneof: Option<u64>,
}

/// Kinds of fields, by their numbers.
pub(crate) mod kind {
    pub const DOUBLE: u64 = 1;
    pub const FLOAT: u64 = 2;
    pub const INT64: u64 = 3;
    pub const UINT64: u64 = 4;
    pub const INT32: u64 = 5;
    pub const FIXED64: u64 = 6;
    pub const FIXED32: u64 = 7;
    pub const BOOL: u64 = 8;
    pub const STRING: u64 = 9;
    pub const MESSAGE: u64 = 11;
    pub const BYTES: u64 = 12;
    pub const UINT32: u64 = 13;
    pub const ENUM: u64 = 14;
    pub const SFIXED32: u64 = 15;
    pub const SFIXED64: u64 = 16;
    pub const SINT32: u64 = 17;
    pub const SINT64: u64 = 18;
}

impl Descriptors {
    /// Reads a set of files.
    pub fn parse(bytes: &[u8]) -> Parsed<Self> {
        let mut descriptors = Self::default();
        each(bytes, |number, value| match (number, value) {
            (1, Value::Bytes(file)) => descriptors.file(file),
            _ => Ok(()),
        })?;
        Ok(descriptors)
    }

    fn file(&mut self, file: &[u8]) -> Parsed<()> {
        let (mut package, mut is_proto3) = (String::new(), false);
        each(file, |number, value| {
            match (number, value) {
                (2, Value::Bytes(name)) => package = text(name)?,
                (12, Value::Bytes(syntax)) => is_proto3 = syntax == b"proto3",
                _ => {}
            }
            Ok(())
        })?;
        let mut messages = 0..;
        each(file, |number, value| match (number, value) {
            (4, Value::Bytes(message)) => {
                let path = messages.next().into_iter().collect();
                self.message(message, &package, is_proto3, path)
            }
            (5, Value::Bytes(of)) => self.enumeration(of, &package),
            _ => Ok(()),
        })
    }

    fn message(&mut self, message: &[u8], scope: &str, is_proto3: bool, path: Vec<u64>) -> Parsed<()> {
        if path.len() > DEPTH_MAX {
            return Err(Reason(format!("messages are nested more than {DEPTH_MAX} deep")));
        }
        let name = name_in(message, scope)?;
        let mut fields = vec![];
        let mut messages = 0..;
        each(message, |number, value| {
            match (number, value) {
                (2, Value::Bytes(of)) => fields.push(field(of, is_proto3)?),
                (3, Value::Bytes(nested)) => {
                    let path = path.iter().copied().chain(messages.next()).collect();
                    self.message(nested, &name, is_proto3, path)?;
                }
                (4, Value::Bytes(of)) => self.enumeration(of, &name)?,
                _ => {}
            }
            Ok(())
        })?;
        self.paths.insert(name.clone(), path);
        self.messages.insert(name, fields);
        Ok(())
    }

    fn enumeration(&mut self, of: &[u8], scope: &str) -> Parsed<()> {
        let name = name_in(of, scope)?;
        let mut values = HashMap::new();
        each(of, |number, value| {
            if let (2, Value::Bytes(of)) = (number, value) {
                let (mut name, mut number) = (String::new(), 0);
                each(of, |field, value| {
                    match (field, value) {
                        (1, Value::Bytes(of)) => name = text(of)?,
                        (2, Value::Varint(of)) => number = of as i32,
                        _ => {}
                    }
                    Ok(())
                })?;
                // Of aliases, the first one is the name.
                values.entry(number).or_insert(name);
            }
            Ok(())
        })?;
        self.enums.insert(name, values);
        Ok(())
    }
}

fn field(bytes: &[u8], is_proto3: bool) -> Parsed<Field> {
    let mut field = Field { has_default: is_proto3, ..Field::default() };
    each(bytes, |number, value| {
        match (number, value) {
            (1, Value::Bytes(name)) => field.name = text(name)?,
            (3, Value::Varint(number)) => field.number = number,
            (4, Value::Varint(label)) => field.is_repeated = label == 3,
            (5, Value::Varint(kind)) => field.kind = kind,
            (6, Value::Bytes(name)) => field.type_name = text(name)?.trim_start_matches('.').to_owned(),
            // One of several, or marked as optional: that it is missing says something.
            (9, Value::Varint(oneof)) => (field.has_default, field.oneof) = (false, Some(oneof)),
            (9, _) | (17, _) => field.has_default = false,
            _ => {}
        }
        Ok(())
    })?;
    Ok(field)
}

fn each<'a>(bytes: &'a [u8], mut field: impl FnMut(u64, Value<'a>) -> Parsed<()>) -> Parsed<()> {
    let mut cursor = Cursor(bytes);
    while !cursor.is_empty() {
        let (number, value) = cursor.field()?;
        field(number, value)?;
    }
    Ok(())
}

/// The full name of a message or an enum, both of which have it in the first field.
fn name_in(bytes: &[u8], scope: &str) -> Parsed<String> {
    let mut name = String::new();
    each(bytes, |number, value| {
        if let (1, Value::Bytes(of)) = (number, value) {
            name = text(of)?;
        }
        Ok(())
    })?;
    Ok(if scope.is_empty() { name } else { format!("{scope}.{name}") })
}

fn text(bytes: &[u8]) -> Parsed<String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Reason("a name is not UTF-8".into()))
}
