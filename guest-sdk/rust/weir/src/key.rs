//! Keys: what partitions rows and state.

use crate::record::{Field, Record};
use crate::text::{Bytes, Str};
use crate::time::EventTime;
use crate::value::{Buffers, Column, NO_ORIGIN, Plain, Value, Writer};

/// One column of a key: integers, `bool`, text, bytes, [`EventTime`], and `Option` of these.
pub trait KeyPart: Value + Clone + Default {}

macro_rules! key_parts {
    ($($type:ty),*) => { $(impl KeyPart for $type {})* };
}

key_parts!(i8, i16, i32, i64, u8, u16, u32, u64, bool, Str, String, Bytes, EventTime);

impl<T: KeyPart + Plain> KeyPart for Option<T> {}

/// What a stream can be keyed by: one [`KeyPart`], a tuple of several, or `()` for all rows together.
pub trait Key: Clone + Default + 'static {
    /// keys in columns, ready to be read
    type Reader: 'static;
    /// keys that are being written
    type Writer: 'static;

    /// The columns that hold the key where it is computed.
    fn columns() -> Vec<Column>;
    /// Opens the key columns of a batch.
    fn open(buffers: &mut Buffers) -> Result<Self::Reader, String>;
    /// The key in a row, which shares nothing with the batch.
    fn read(reader: &Self::Reader, row: usize) -> Self;
    /// Makes a writer.
    fn writer() -> Self::Writer;
    /// Makes room for `rows` more keys.
    fn reserve(writer: &mut Self::Writer, rows: usize);
    /// Adds a key.
    fn write(&self, writer: &mut Self::Writer);
    /// Moves the columns' buffers out.
    fn finish(writer: &mut Self::Writer, buffers: &mut Vec<Vec<u8>>) -> Result<(), String>;
}

/// The part of a key in column `index`, copied out of its batch.
fn read_part<P: KeyPart>(reader: &P::Reader, row: usize) -> P {
    let mut part = P::read(reader, row);
    part.detach();
    part
}

impl<P: KeyPart> Key for P {
    type Reader = P::Reader;
    type Writer = P::Writer;

    fn columns() -> Vec<Column> {
        vec![P::column("__key0")]
    }
    fn open(buffers: &mut Buffers) -> Result<P::Reader, String> {
        P::open(buffers, 0)
    }
    fn read(reader: &P::Reader, row: usize) -> Self {
        read_part(reader, row)
    }
    fn writer() -> P::Writer {
        P::writer(NO_ORIGIN)
    }
    fn reserve(writer: &mut P::Writer, rows: usize) {
        writer.reserve(rows);
    }
    #[inline]
    fn write(&self, writer: &mut P::Writer) {
        Value::write(self, writer, NO_ORIGIN);
    }
    fn finish(writer: &mut P::Writer, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        writer.finish(buffers)
    }
}

macro_rules! key_tuples {
    ($(($($part:ident $index:tt $name:literal),*))*) => {$(
        impl<$($part: KeyPart),*> Key for ($($part,)*) {
            type Reader = ($($part::Reader,)*);
            type Writer = ($($part::Writer,)*);

            fn columns() -> Vec<Column> {
                vec![$($part::column($name)),*]
            }
            #[allow(unused_variables)]
            fn open(buffers: &mut Buffers) -> Result<Self::Reader, String> {
                Ok(($($part::open(buffers, 0)?,)*))
            }
            #[allow(unused_variables, clippy::unused_unit)]
            fn read(reader: &Self::Reader, row: usize) -> Self {
                ($(read_part::<$part>(&reader.$index, row),)*)
            }
            #[allow(clippy::unused_unit)]
            fn writer() -> Self::Writer {
                ($($part::writer(NO_ORIGIN),)*)
            }
            #[allow(unused_variables)]
            fn reserve(writer: &mut Self::Writer, rows: usize) {
                $(writer.$index.reserve(rows);)*
            }
            #[inline]
            #[allow(unused_variables)]
            fn write(&self, writer: &mut Self::Writer) {
                $(Value::write(&self.$index, &mut writer.$index, NO_ORIGIN);)*
            }
            #[allow(unused_variables)]
            fn finish(writer: &mut Self::Writer, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
                $(writer.$index.finish(buffers)?;)*
                Ok(())
            }
        }
    )*};
}

key_tuples! {
    ()
    (A 0 "__key0", B 1 "__key1")
    (A 0 "__key0", B 1 "__key1", C 2 "__key2")
    (A 0 "__key0", B 1 "__key1", C 2 "__key2", D 3 "__key3")
}

/// Columns that are computed from the rows of an output and appended to it.
pub trait Appended<T>: 'static {
    /// The columns.
    fn columns(&self) -> Vec<Column>;
    /// Makes room for `rows` more rows.
    fn reserve(&mut self, rows: usize);
    /// Adds a row.
    fn write(&mut self, row: &T);
    /// Moves the columns' buffers out.
    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String>;
}

/// Nothing is appended.
#[derive(Debug, Default)]
pub struct Nothing;

impl<T> Appended<T> for Nothing {
    fn columns(&self) -> Vec<Column> {
        vec![]
    }
    fn reserve(&mut self, _rows: usize) {}
    #[inline]
    fn write(&mut self, _row: &T) {}
    fn finish(&mut self, _buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        Ok(())
    }
}

/// The key that a closure makes of a row.
#[derive(Debug)]
pub struct Computed<F, W> {
    key: F,
    writer: W,
}

impl<T: 'static, K: Key, F: FnMut(&T) -> K + 'static> Appended<T> for Computed<F, KeyWriter<K>> {
    fn columns(&self) -> Vec<Column> {
        K::columns()
    }
    fn reserve(&mut self, rows: usize) {
        K::reserve(&mut self.writer.0, rows);
    }
    #[inline]
    fn write(&mut self, row: &T) {
        (self.key)(row).write(&mut self.writer.0);
    }
    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        K::finish(&mut self.writer.0, buffers)
    }
}

/// Keys that are being written.
#[derive(Debug)]
pub struct KeyWriter<K: Key>(K::Writer);

/// How a key is had from a row: a field (`Bid::AUCTION`), several fields (`(Bid::AUCTION, Bid::BIDDER)`), or a closure
/// (`|bid: &Bid| bid.price / 100`).
///
/// Fields cost nothing: the column that is there already is the key. What a closure returns becomes a column of its own.
pub trait KeySelector<T: Record>: Sized + 'static {
    /// the key
    type Key: Key;
    /// the columns that it needs beside those of `T`
    type Appended: Appended<T>;
    /// whether the key's columns are computed
    const COMPUTED: bool;

    /// The key's columns, and what computes them.
    fn split(self) -> (Vec<u32>, Self::Appended);
}

impl<T: Record, V: KeyPart> KeySelector<T> for Field<T, V> {
    type Key = V;
    type Appended = Nothing;
    const COMPUTED: bool = false;

    fn split(self) -> (Vec<u32>, Nothing) {
        (vec![self.index()], Nothing)
    }
}

macro_rules! field_tuples {
    ($(($($part:ident $index:tt),*))*) => {$(
        impl<T: Record, $($part: KeyPart),*> KeySelector<T> for ($(Field<T, $part>,)*) {
            type Key = ($($part,)*);
            type Appended = Nothing;
            const COMPUTED: bool = false;

            fn split(self) -> (Vec<u32>, Nothing) {
                (vec![$(self.$index.index()),*], Nothing)
            }
        }
    )*};
}

field_tuples! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
}

impl<T: Record, K: Key, F: FnMut(&T) -> K + 'static> KeySelector<T> for F {
    type Key = K;
    type Appended = Computed<F, KeyWriter<K>>;
    const COMPUTED: bool = true;

    fn split(self) -> (Vec<u32>, Self::Appended) {
        let columns = (0..K::columns().len() as u32).map(|i| T::WIDTH as u32 + i).collect();
        (columns, Computed { key: self, writer: KeyWriter(K::writer()) })
    }
}
