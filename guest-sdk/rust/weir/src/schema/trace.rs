//! Finds the shape of a type by what its `Deserialize` asks for.
//!
//! It is given samples of all that it wants, again and again until each variant of each enum was there once. Then each field of a struct is left out, to see
//! whether it may be missing. (The idea is that of the crate serde-reflection, which names types where this one spells them out.)

use std::fmt;

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{DEPTH_MAX, Field, Plain, Shape};

/// So often a type is given samples: more than it can have variants.
const RUNS_MAX: usize = 1024;

/// The shape of `T`. One that refuses the samples (a parsed text, for example), contains itself, or decides by what it sees is opaque.
pub(crate) fn trace<'de, T: Deserialize<'de>>() -> Shape {
    let mut shape = Shape::Unknown;
    for _ in 0..RUNS_MAX {
        match T::deserialize(Tracer { shape: &mut shape, depth: 0, omitted: None }) {
            Ok(_) if shape.is_complete() => {
                mark_optional::<T>(&mut shape);
                return shape;
            }
            Err(Error::Refused) => break,
            Ok(_) | Err(Error::Again) => {}
        }
    }
    Shape::Opaque(std::any::type_name::<T>().to_owned())
}

/// Finds out which fields may be missing.
fn mark_optional<'de, T: Deserialize<'de>>(shape: &mut Shape) {
    let mut fields = vec![];
    collect_fields(shape, &mut vec![], &mut fields);
    for path in fields {
        let optional = T::deserialize(Tracer { shape, depth: 0, omitted: Some(&path) }).is_ok();
        if let Some(field) = field_at(shape, &path) {
            field.optional = optional;
        }
    }
}

/// The paths to all fields: by which part one goes on at each step.
fn collect_fields(shape: &Shape, path: &mut Vec<usize>, fields: &mut Vec<Vec<usize>>) {
    let mut go_on = |part: usize, shape: &Shape, is_field: bool| {
        path.push(part);
        if is_field {
            fields.push(path.clone());
        }
        collect_fields(shape, path, fields);
        path.pop();
    };
    match shape {
        Shape::Unknown | Shape::Plain(_) | Shape::Opaque(_) => {}
        Shape::Option(inner) | Shape::List(inner) => go_on(0, inner, false),
        Shape::Map(parts) => parts.iter().enumerate().for_each(|(i, part)| go_on(i, part, false)),
        Shape::Tuple(parts) => parts.iter().enumerate().for_each(|(i, part)| go_on(i, part, false)),
        Shape::Struct(parts) => parts.iter().enumerate().for_each(|(i, part)| go_on(i, &part.shape, true)),
        Shape::Enum(variants) => variants.iter().enumerate().for_each(|(i, (_, part))| go_on(i, part, false)),
    }
}

fn field_at<'a>(shape: &'a mut Shape, path: &[usize]) -> Option<&'a mut Field> {
    let (&part, rest) = path.split_first()?;
    match shape {
        Shape::Unknown | Shape::Plain(_) | Shape::Opaque(_) => None,
        Shape::Option(inner) | Shape::List(inner) => field_at(inner, rest),
        Shape::Map(parts) => field_at(parts.get_mut(part)?, rest),
        Shape::Tuple(parts) => field_at(parts.get_mut(part)?, rest),
        Shape::Struct(fields) => {
            let field = fields.get_mut(part)?;
            if rest.is_empty() { Some(field) } else { field_at(&mut field.shape, rest) }
        }
        Shape::Enum(variants) => field_at(&mut variants.get_mut(part)?.1, rest),
    }
}

/// Why a type could not be made of samples.
#[derive(Debug)]
enum Error {
    /// it does not take them
    Refused,
    /// what was learnt has to be taken into account
    Again,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type cannot be traced")
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self::Refused
    }

    fn duplicate_field(_field: &'static str) -> Self {
        Self::Again
    }
}

/// Gives samples, and notes what for.
struct Tracer<'a> {
    /// what is known
    shape: &'a mut Shape,
    depth: usize,
    /// the path to the field that is left out
    omitted: Option<&'a [usize]>,
}

impl Tracer<'_> {
    /// Notes the shape, if it is new.
    fn note(&mut self, shape: impl FnOnce() -> Shape) -> Result<(), Error> {
        if *self.shape == Shape::Unknown {
            *self.shape = shape();
        }
        if self.depth < DEPTH_MAX { Ok(()) } else { Err(Error::Refused) }
    }
}

/// A part of what is traced.
fn part<'a>(shape: &'a mut Shape, index: usize, depth: usize, omitted: Option<&'a [usize]>) -> Tracer<'a> {
    Tracer { shape, depth: depth + 1, omitted: on_path(omitted, index) }
}

/// What is left of a path behind this part.
fn on_path(omitted: Option<&[usize]>, index: usize) -> Option<&[usize]> {
    omitted.and_then(<[usize]>::split_first).filter(|(next, _)| **next == index).map(|(_, rest)| rest)
}

macro_rules! samples {
    ($($method:ident $plain:ident $visit:ident $sample:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
            self.note(|| Shape::Plain(Plain::$plain))?;
            visitor.$visit($sample)
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Error;

    samples! {
        deserialize_bool Bool visit_bool true;
        deserialize_u8 U8 visit_u8 1;
        deserialize_u16 U16 visit_u16 1;
        deserialize_u32 U32 visit_u32 1;
        deserialize_u64 U64 visit_u64 1;
        deserialize_u128 U128 visit_u128 1;
        deserialize_i8 I8 visit_i8 1;
        deserialize_i16 I16 visit_i16 1;
        deserialize_i32 I32 visit_i32 1;
        deserialize_i64 I64 visit_i64 1;
        deserialize_i128 I128 visit_i128 1;
        deserialize_f32 F32 visit_f32 1.0;
        deserialize_f64 F64 visit_f64 1.0;
        deserialize_char Char visit_char '1';
        deserialize_str String visit_borrowed_str "1";
        deserialize_string String visit_borrowed_str "1";
        // As many as a UUID has.
        deserialize_bytes Bytes visit_borrowed_bytes &[1; 16];
        deserialize_byte_buf Bytes visit_borrowed_bytes &[1; 16];
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note(|| Shape::Plain(Plain::Unit))?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _name: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(mut self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if let Some(stamp) = Plain::stamp_named(name) {
            self.note(|| Shape::Plain(stamp))?;
            return visitor.visit_i64(1);
        }
        visitor.visit_newtype_struct(Tracer { depth: self.depth + 1, ..self })
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note(|| Shape::Option(Shape::Unknown.into()))?;
        let Shape::Option(inner) = self.shape else { return Err(Error::Refused) };
        visitor.visit_some(part(inner, 0, self.depth, self.omitted))
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note(|| Shape::List(Shape::Unknown.into()))?;
        let Shape::List(inner) = self.shape else { return Err(Error::Refused) };
        visitor.visit_seq(Parts { parts: std::slice::from_mut(&mut **inner), next: 0, depth: self.depth, omitted: self.omitted })
    }

    fn deserialize_tuple<V: Visitor<'de>>(mut self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.note(|| Shape::Tuple(vec![Shape::Unknown; length]))?;
        let Shape::Tuple(parts) = self.shape else { return Err(Error::Refused) };
        visitor.visit_seq(Parts { parts, next: 0, depth: self.depth, omitted: self.omitted })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        self.note(|| Shape::Map([Shape::Unknown, Shape::Unknown].into()))?;
        let Shape::Map(parts) = self.shape else { return Err(Error::Refused) };
        visitor.visit_map(Parts { parts: &mut **parts, next: 0, depth: self.depth, omitted: self.omitted })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let field = |name: &&str| Field { name: (*name).to_owned(), aliases: vec![], optional: false, shape: Shape::Unknown };
        self.note(|| Shape::Struct(names.iter().map(field).collect()))?;
        let Shape::Struct(fields) = self.shape else { return Err(Error::Refused) };
        let mut alias = None;
        let access = Fields { fields, next: 0, depth: self.depth, omitted: self.omitted, alias: &mut alias };
        let made = visitor.visit_map(access);
        // The names are those of the fields, and each is followed by the others by which it is read, too.
        if let (Err(Error::Again), Some(alias)) = (&made, alias)
            && alias > 0
        {
            let name = fields.remove(alias).name;
            fields[alias - 1].aliases.push(name);
        }
        made
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.note(|| Shape::Enum(names.iter().map(|name| ((*name).to_owned(), Shape::Unknown)).collect()))?;
        let Shape::Enum(variants) = self.shape else { return Err(Error::Refused) };
        let unknown = variants.iter().position(|(_, content)| !content.is_complete());
        let index = self.omitted.and_then(<[usize]>::first).copied().or(unknown).unwrap_or(0);
        let (_, content) = variants.get_mut(index).ok_or(Error::Refused)?;
        visitor.visit_enum(Variant { index, content: part(content, index, self.depth, self.omitted) })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::Refused)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::Refused)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::Refused)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The parts of a list (one), a tuple or a map (one entry).
struct Parts<'a> {
    parts: &'a mut [Shape],
    next: usize,
    depth: usize,
    omitted: Option<&'a [usize]>,
}

impl Parts<'_> {
    fn take<'de, T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let index = self.next;
        self.next += 1;
        let Some(shape) = self.parts.get_mut(index) else { return Ok(None) };
        seed.deserialize(part(shape, index, self.depth, self.omitted)).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.take(seed)
    }
}

impl<'de> MapAccess<'de> for Parts<'_> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.take(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        self.take(seed)?.ok_or(Error::Refused)
    }
}

/// The fields of a struct.
struct Fields<'a> {
    fields: &'a mut [Field],
    next: usize,
    depth: usize,
    omitted: Option<&'a [usize]>,
    /// the field whose name was taken last: when that is refused as one that was there, it is another name of the one before
    alias: &'a mut Option<usize>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.omitted == Some(&[self.next]) {
            self.next += 1;
        }
        let Some(field) = self.fields.get(self.next) else { return Ok(None) };
        *self.alias = Some(self.next);
        let name: StrDeserializer<'_, Error> = field.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        *self.alias = None;
        let index = self.next;
        self.next += 1;
        let field = self.fields.get_mut(index).ok_or(Error::Refused)?;
        seed.deserialize(part(&mut field.shape, index, self.depth, self.omitted))
    }
}

/// A variant of an enum.
struct Variant<'a> {
    index: usize,
    content: Tracer<'a>,
}

impl<'a, 'de> EnumAccess<'de> for Variant<'a> {
    type Error = Error;
    type Variant = Tracer<'a>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Tracer<'a>), Error> {
        let index: U32Deserializer<Error> = (self.index as u32).into_deserializer();
        Ok((seed.deserialize(index)?, self.content))
    }
}

impl<'de> VariantAccess<'de> for Tracer<'_> {
    type Error = Error;

    fn unit_variant(mut self) -> Result<(), Error> {
        self.note(|| Shape::Plain(Plain::Unit))
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_tuple(length, visitor)
    }
    fn struct_variant<V: Visitor<'de>>(self, names: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.deserialize_struct("", names, visitor)
    }
}
