//! Schemas of state: what the bytes of a state are, in words, so that a later version of the job can read them.
//!
//! A state is encoded by position, without names, which is small and fast. What is where is told once, by the type's [`Shape`]: it is traced out of serde's
//! `Deserialize` ([`trace`]), said in the graph as text ([`text`]), and stored with checkpoints. A job whose type is another one compares the two
//! ([`evolve`]) and reads the old bytes by the old shape ([`read`]), field by field and by name, as serde reads JSON.

mod evolve;
mod read;
mod text;
mod trace;

pub(crate) use evolve::check;
pub(crate) use read::read;
pub(crate) use trace::trace;

use crate::stamp;
use crate::time::TimeDomain;

/// What is encoded, as postcard does it: `{count: u64, last?: option<i64>}`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// not known: only while it is traced
    Unknown,
    /// a value without parts
    Plain(Plain),
    Option(Box<Self>),
    List(Box<Self>),
    Map(Box<[Self; 2]>),
    /// so many values, one after another
    Tuple(Vec<Self>),
    Struct(Vec<Field>),
    /// the variants with what is in each
    Enum(Vec<(String, Self)>),
    /// a type that cannot be traced, by its name: only itself can read it
    Opaque(String),
}

/// A field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub name: String,
    /// by what other names it is read; not part of the text
    pub aliases: Vec<String>,
    /// whether it may be missing: it is an `Option`, or has `#[serde(default)]`
    pub optional: bool,
    pub shape: Shape,
}

/// How deep shapes may be nested.
const DEPTH_MAX: usize = 64;

macro_rules! plain {
    ($($(#[$doc:meta])* $plain:ident $name:literal),* $(,)?) => {
        /// A value without parts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Plain { $($(#[$doc])* $plain),* }

        impl Plain {
            const ALL: &[Self] = &[$(Self::$plain),*];

            fn name(self) -> &'static str {
                match self { $(Self::$plain => $name),* }
            }
        }
    };
}

plain! {
    Unit "()",
    Bool "bool",
    U8 "u8", U16 "u16", U32 "u32", U64 "u64", U128 "u128",
    I8 "i8", I16 "i16", I32 "i32", I64 "i64", I128 "i128",
    F32 "f32", F64 "f64",
    Char "char",
    String "string",
    Bytes "bytes",
    /// when something with a time to live was last touched, by the one clock and the other
    EventTimeStamp "event_time_stamp", ProcessingTimeStamp "processing_time_stamp",
}

impl Plain {
    /// A stamp of a clock.
    pub(crate) fn stamp(domain: TimeDomain) -> Self {
        match domain {
            TimeDomain::Event => Self::EventTimeStamp,
            TimeDomain::Processing => Self::ProcessingTimeStamp,
        }
    }

    /// The stamp that serde is asked for by this name, if it is the name of one. Of which clock one is may be for others to say.
    fn stamp_named(name: &str) -> Option<Self> {
        let clocks = [None, Some(TimeDomain::Event), Some(TimeDomain::Processing)];
        let clock = clocks.into_iter().find(|clock| stamp::name(*clock) == name)?;
        Some(clock.map_or(Self::I64, Self::stamp))
    }

    /// Whether it may be a stamp.
    fn may_be_stamp(self) -> bool {
        matches!(self, Self::I64 | Self::EventTimeStamp | Self::ProcessingTimeStamp)
    }
}

impl Shape {
    /// Whether all of it is known.
    fn is_complete(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Plain(_) | Self::Opaque(_) => true,
            Self::Option(inner) | Self::List(inner) => inner.is_complete(),
            Self::Map(parts) => parts.iter().all(Self::is_complete),
            Self::Tuple(parts) => parts.iter().all(Self::is_complete),
            Self::Struct(fields) => fields.iter().all(|field| field.shape.is_complete()),
            Self::Enum(variants) => variants.iter().all(|(_, content)| content.is_complete()),
        }
    }
}
