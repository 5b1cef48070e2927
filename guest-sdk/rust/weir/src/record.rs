//! Rows: what a batch is read as, and what an output is written from.

use std::marker::PhantomData;

use serde::{Deserializer, Serializer};

use crate::bindings::weir::dataflow::types::DataType;
use crate::value::{Buffers, Column, NO_ORIGIN, Plain, Value, Writer};

/// What a row can be read as: a [`Record`], one column, nothing, or several of these side by side.
pub trait Row: Sized + 'static {
    /// a batch, ready to be read
    type Reader: 'static;

    /// The columns that are read, in order.
    fn columns() -> Vec<Column>;
    /// Opens a batch of these columns.
    fn open(buffers: &mut Buffers) -> Result<Self::Reader, String>;
    /// One row of it.
    fn read(reader: &Self::Reader, row: usize) -> Self;
}

/// A row with named fields. Derive it:
///
/// ```
/// use weir::{EventTime, Record, Str};
///
/// #[derive(Record)]
/// struct Bid {
///     auction: u64,
///     price: u64,
///     #[weir(name = "type")]
///     kind: Str,
///     tags: Vec<String>,
///     reserve: Option<f64>,
///     date_time: EventTime,
/// }
/// ```
///
/// The fields are the columns, by name: a source is asked for these columns and no others. For each field there is a
/// constant to name it by, as in `key_by(Bid::AUCTION)`.
pub trait Record: Row {
    /// rows that are being written
    type Writer: 'static;
    /// the number of fields
    const WIDTH: usize;
    /// whether all of them are read and written by a few instructions
    const NARROW: bool;

    /// Makes a writer; `sources` are the input columns that the passed fields come from, one for each field.
    fn writer(sources: &[u32]) -> Self::Writer;
    /// Makes room for `rows` more rows.
    fn reserve(writer: &mut Self::Writer, rows: usize);
    /// Adds the row, which comes from input row `origin`.
    fn write(&self, writer: &mut Self::Writer, origin: u32);
    /// Adds many rows, each of which comes with its origin, column by column.
    fn write_all(rows: &[(u32, Self)], writer: &mut Self::Writer);
    /// Adds a row without a value.
    fn write_empty(writer: &mut Self::Writer);
    /// Moves the columns' buffers out.
    fn finish(writer: &mut Self::Writer, buffers: &mut Vec<Vec<u8>>) -> Result<(), String>;
    /// Encodes the row as a part of state.
    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    /// Decodes it.
    fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    /// Copies what the row shares with its batch.
    fn detach(&mut self);
}

/// A field of the record `T` with values of type `V`.
#[derive(Debug)]
pub struct Field<T, V> {
    index: u32,
    name: &'static str,
    of: PhantomData<fn(T) -> V>,
}

impl<T, V> Field<T, V> {
    /// The field with this index and name; `#[derive(Record)]` makes them.
    #[doc(hidden)]
    pub const fn new(index: u32, name: &'static str) -> Self {
        Self { index, name, of: PhantomData }
    }

    /// Its place in the record.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T, V> Clone for Field<T, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, V> Copy for Field<T, V> {}

/// The columns of a nested record, one after another.
#[derive(Debug)]
pub struct RecordWriter<R: Record>(R::Writer);

impl<R: Record> Writer for RecordWriter<R> {
    fn reserve(&mut self, rows: usize) {
        R::reserve(&mut self.0, rows);
    }

    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        R::finish(&mut self.0, buffers)
    }
}

impl<R: Record> Plain for R {
    type Reader = R::Reader;
    type Writer = RecordWriter<R>;
    const TYPE: DataType = DataType::Structure;

    fn nested() -> Vec<Column> {
        R::columns()
    }
    fn open_plain(buffers: &mut Buffers) -> Result<R::Reader, String> {
        R::open(buffers)
    }
    #[inline(always)]
    fn read_plain(reader: &R::Reader, row: usize) -> Self {
        <R as Row>::read(reader, row)
    }
    fn plain_writer() -> Self::Writer {
        RecordWriter(<R as Record>::writer(&[]))
    }
    fn write_plain(&self, writer: &mut Self::Writer) {
        <R as Record>::write(self, &mut writer.0, NO_ORIGIN);
    }
    fn write_empty(writer: &mut Self::Writer) {
        <R as Record>::write_empty(&mut writer.0);
    }
    fn encode_plain<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        <R as Record>::encode(self, serializer)
    }
    fn decode_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <R as Record>::decode(deserializer)
    }
    fn detach_plain(&mut self) {
        <R as Record>::detach(self);
    }
}

/// One column, whatever its name.
#[derive(Clone, Debug)]
pub struct Only<V>(pub V);

impl<V: Value> Row for Only<V> {
    type Reader = V::Reader;

    fn columns() -> Vec<Column> {
        vec![V::column("")]
    }
    fn open(buffers: &mut Buffers) -> Result<V::Reader, String> {
        V::open(buffers, 0)
    }
    #[inline(always)]
    fn read(reader: &V::Reader, row: usize) -> Self {
        Self(V::read(reader, row))
    }
}

macro_rules! side_by_side {
    ($(($($name:ident $index:tt),*))*) => {$(
        impl<$($name: Row),*> Row for ($($name,)*) {
            type Reader = ($($name::Reader,)*);

            fn columns() -> Vec<Column> {
                let parts: Vec<Vec<Column>> = vec![$($name::columns()),*];
                parts.concat()
            }
            #[allow(unused_variables)]
            fn open(buffers: &mut Buffers) -> Result<Self::Reader, String> {
                Ok(($($name::open(buffers)?,)*))
            }
            #[inline(always)]
            #[allow(unused_variables, clippy::unused_unit)]
            fn read(reader: &Self::Reader, row: usize) -> Self {
                ($($name::read(&reader.$index, row),)*)
            }
        }
    )*};
}

side_by_side! {
    ()
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}
