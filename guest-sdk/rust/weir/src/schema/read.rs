//! Reads bytes by the shape that they were written with, into a type that may have another one.
//!
//! To serde, this is a format that describes itself: fields and variants go by their names, so that serde's own rules say what becomes of fields that are
//! missing (`Option`, `#[serde(default)]`) or not known any more.

use serde::de::value::{Error, SeqDeserializer, StrDeserializer};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Field, Plain, Shape};

/// A value out of what was written with this shape, and the bytes behind it.
pub(crate) fn read<'de, T: Deserialize<'de>>(shape: &Shape, mut bytes: &'de [u8]) -> Result<(T, &'de [u8]), String> {
    let value = T::deserialize(Reader { shape, bytes: &mut bytes });
    value.map(|value| (value, bytes)).map_err(|e| e.to_string())
}

/// Bytes of which the first ones are of this shape.
struct Reader<'a, 'de> {
    shape: &'a Shape,
    bytes: &'a mut &'de [u8],
}

fn take<'de, T: Deserialize<'de>>(bytes: &mut &'de [u8]) -> Result<T, Error> {
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(Error::custom)?;
    *bytes = rest;
    Ok(value)
}

impl<'de> Deserializer<'de> for Reader<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Self { shape, bytes } = self;
        match shape {
            Shape::Plain(plain) => match plain {
                Plain::Unit => visitor.visit_unit(),
                Plain::Bool => visitor.visit_bool(take(bytes)?),
                Plain::U8 => visitor.visit_u8(take(bytes)?),
                Plain::U16 => visitor.visit_u16(take(bytes)?),
                Plain::U32 => visitor.visit_u32(take(bytes)?),
                Plain::U64 => visitor.visit_u64(take(bytes)?),
                Plain::U128 => visitor.visit_u128(take(bytes)?),
                Plain::I8 => visitor.visit_i8(take(bytes)?),
                Plain::I16 => visitor.visit_i16(take(bytes)?),
                Plain::I32 => visitor.visit_i32(take(bytes)?),
                Plain::I64 | Plain::EventTimeStamp | Plain::ProcessingTimeStamp => visitor.visit_i64(take(bytes)?),
                Plain::I128 => visitor.visit_i128(take(bytes)?),
                Plain::F32 => visitor.visit_f32(take(bytes)?),
                Plain::F64 => visitor.visit_f64(take(bytes)?),
                Plain::Char => visitor.visit_char(take(bytes)?),
                Plain::String => visitor.visit_borrowed_str(take(bytes)?),
                Plain::Bytes => visitor.visit_borrowed_bytes(take(bytes)?),
            },
            // As a bool, an option says whether it is there.
            Shape::Option(inner) => match take(bytes)? {
                true => visitor.visit_some(Reader { shape: inner, bytes }),
                false => visitor.visit_none(),
            },
            Shape::List(inner) => {
                let length = take(bytes)?;
                visitor.visit_seq(Items { shapes: std::iter::repeat_n(&**inner, length), bytes })
            }
            Shape::Tuple(parts) => visitor.visit_seq(Items { shapes: parts.iter(), bytes }),
            Shape::Map(parts) => {
                let length = take(bytes)?;
                visitor.visit_map(Entries { parts, length, bytes })
            }
            Shape::Struct(fields) => visitor.visit_map(Fields { fields: fields.iter(), shape: None, bytes }),
            Shape::Enum(variants) => visitor.visit_enum(Variant { variants, bytes }),
            Shape::Opaque(_) | Shape::Unknown => Err(Error::custom("only its own type can read it")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.shape {
            Shape::Option(_) => self.deserialize_any(visitor),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if Plain::stamp_named(name).is_some() {
            let clock = match self.shape {
                Shape::Plain(Plain::EventTimeStamp) => 0,
                Shape::Plain(Plain::ProcessingTimeStamp) => 1,
                _ => return self.deserialize_any(visitor),
            };
            let parts: [i64; 2] = [clock, take(self.bytes)?];
            return visitor.visit_seq(SeqDeserializer::new(parts.into_iter()));
        }
        visitor.visit_newtype_struct(self)
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct enum
        identifier ignored_any
    }
}

/// The items of a list or tuple.
struct Items<'a, 'de, I> {
    shapes: I,
    bytes: &'a mut &'de [u8],
}

impl<'a, 'de, I: Iterator<Item = &'a Shape>> SeqAccess<'de> for Items<'a, 'de, I> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.shapes.next().map(|shape| seed.deserialize(Reader { shape, bytes: self.bytes })).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.shapes.size_hint().0.min(self.bytes.len()))
    }
}

/// The entries of a map.
struct Entries<'a, 'de> {
    parts: &'a [Shape; 2],
    length: usize,
    bytes: &'a mut &'de [u8],
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(rest) = self.length.checked_sub(1) else { return Ok(None) };
        self.length = rest;
        seed.deserialize(Reader { shape: &self.parts[0], bytes: self.bytes }).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(Reader { shape: &self.parts[1], bytes: self.bytes })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.length.min(self.bytes.len()))
    }
}

/// The fields of a struct, by their names.
struct Fields<'a, 'de> {
    fields: std::slice::Iter<'a, Field>,
    /// of the field whose name was asked for
    shape: Option<&'a Shape>,
    bytes: &'a mut &'de [u8],
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(field) = self.fields.next() else { return Ok(None) };
        self.shape = Some(&field.shape);
        let name: StrDeserializer<'_, Error> = field.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        let shape = self.shape.take().ok_or_else(|| Error::custom("a value was asked for before its name"))?;
        seed.deserialize(Reader { shape, bytes: self.bytes })
    }
}

/// A variant of an enum.
struct Variant<'a, 'de> {
    variants: &'a [(String, Shape)],
    bytes: &'a mut &'de [u8],
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a, 'de> {
    type Error = Error;
    type Variant = Reader<'a, 'de>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Reader<'a, 'de>), Error> {
        let index: u32 = take(self.bytes)?;
        let variant = self.variants.get(index as usize);
        let (name, shape) = variant.ok_or_else(|| Error::custom(format_args!("there is no variant {index}")))?;
        let name: StrDeserializer<'_, Error> = name.as_str().into_deserializer();
        Ok((seed.deserialize(name)?, Reader { shape, bytes: self.bytes }))
    }
}

impl<'de> VariantAccess<'de> for Reader<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        <()>::deserialize(self)
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _length: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, _fields: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}
