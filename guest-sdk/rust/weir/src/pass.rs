//! Columns that the job moves on and never looks at.

use std::marker::PhantomData;

use serde::{Deserializer, Serializer};

use crate::stride::STRIDE;
use crate::value::{Buffers, Column, Value, Writer};

/// A field of type `T` that stays with the host: the job moves it on, but does not see it.
///
/// Its column is not copied into the component and back; the host takes it from the row that an output row came from. So
/// a `Pass` can only be put into an output of the same call, in the row that it belongs to, and only if the output's field
/// has the same name as the input's (or `#[weir(from = "…")]` names the input's).
///
/// ```
/// use weir::{Pass, Record, Str};
///
/// #[derive(Record)]
/// struct Bid { auction: u64, url: Pass<Str>, extra: Pass<Str> }
///
/// #[derive(Record)]
/// struct Link { auction: u64, url: Pass<Str> }
///
/// fn link(bid: Bid) -> Link {
///     Link { auction: bid.auction, url: bid.url }
/// }
/// ```
///
/// A key can be made of such a field: `key_by(Bid::URL)`.
#[derive(Debug)]
pub struct Pass<T> {
    token: Token,
    of: PhantomData<fn() -> T>,
}

/// Operators that keep rows look out for such fields before.
const NOT_KEPT: &str = "a `Pass` field cannot be kept in state";

/// An input column and a row of it, in one word, so that it moves as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Token(u64);

impl Token {
    #[inline(always)]
    const fn new(column: u32, row: u32) -> Self {
        Self((column as u64) << 32 | row as u64)
    }
}

impl<T> Clone for Pass<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Pass<T> {}

/// Sees that each token is put back into its own row.
#[derive(Debug)]
pub struct PassWriter {
    source: u32,
    misplaced: bool,
}

impl Writer for PassWriter {
    fn reserve(&mut self, _rows: usize) {}

    fn finish(&mut self, _buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        if std::mem::take(&mut self.misplaced) {
            return Err("a `Pass` field was put into another row or another field than it came from".into());
        }
        Ok(())
    }
}

impl<T: Value> Value for Pass<T> {
    type Reader = u32;
    type Writer = PassWriter;
    type Logical = T;
    const NARROW: bool = true;

    fn column(name: &str) -> Column {
        Column { passed: true, ..T::column(name) }
    }
    fn open(_buffers: &mut Buffers, index: u32) -> Result<u32, String> {
        Ok(index)
    }
    #[inline(always)]
    fn read(column: &u32, row: usize) -> Self {
        Self { token: Token::new(*column, row as u32), of: PhantomData }
    }
    fn writer(source: u32) -> PassWriter {
        PassWriter { source, misplaced: false }
    }
    #[inline(always)]
    fn write(&self, writer: &mut PassWriter, origin: u32) {
        // The usual row only compares, and writes nothing.
        if self.token != Token::new(writer.source, origin) {
            writer.misplaced = true;
        }
    }
    #[inline(always)]
    fn write_all<R>(rows: &[(u32, R)], field: impl Fn(&R) -> &Self, writer: &mut PassWriter) {
        let is_misplaced = |(origin, row): &(u32, R)| field(row).token != Token::new(writer.source, *origin);
        let (strides, rest) = rows.as_chunks::<STRIDE>();
        // Without a branch a row: nearly always it is none that is looked for.
        let misplaced = strides.iter().fold(false, |any, rows| rows.iter().fold(any, |any, row| any | is_misplaced(row)));
        writer.misplaced |= misplaced || rest.iter().any(is_misplaced);
    }
    fn write_missing(_writer: &mut PassWriter) {}
    fn encode<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom(NOT_KEPT))
    }
    fn decode<'de, D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom(NOT_KEPT))
    }
}
