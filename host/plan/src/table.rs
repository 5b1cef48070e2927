//! Where a spec has a table, and nothing else will do.
//!
//! What serde derives for a struct takes a list as well: its values are the fields in the order in which the code has them. Nobody means that, and a field
//! more would change what such a spec says.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

/// A struct that is read from a table alone.
#[derive(Debug)]
pub struct Table<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(TablesOnly(deserializer)).map(Self)
    }
}

/// Reads a field that is a struct from a table.
///
/// # Errors
/// If there is something else, or a struct of this type cannot be read from the table.
pub(crate) fn one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Table::deserialize(deserializer).map(|Table(value)| value)
}

/// Reads a field that has structs by name, each from a table.
///
/// # Errors
/// As [`one`].
pub(crate) fn each<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<BTreeMap<String, T>, D::Error> {
    let tables = BTreeMap::<String, Table<T>>::deserialize(deserializer)?;
    Ok(tables.into_iter().map(|(name, Table(value))| (name, value)).collect())
}

/// A deserializer that gives structs nothing but tables.
struct TablesOnly<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for TablesOnly<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_struct(name, fields, OfTable(visitor))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map enum identifier ignored_any
    }
}

/// A visitor that knows no lists, in the words of the one that it takes them from.
struct OfTable<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for OfTable<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(table)
    }
}
