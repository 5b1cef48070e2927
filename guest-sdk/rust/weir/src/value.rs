//! Values: what a field of a row can be, and how it is read from and written to a column.
//!
//! A column crosses as the buffers that `wit/types.wit` describes: first the validity, then the type's own. [`Plain`] knows
//! the type's own buffers; [`Value`] adds the validity in front, which is empty for a plain type and a bit a row for `Option`.
//! Everything is resolved at compile time, so that reading a row is a handful of loads.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bindings::weir::dataflow::types::{DataType, Field};
use crate::stride::STRIDE;
use crate::time::EventTime;

/// The origin of a row that does not come from an input row.
pub const NO_ORIGIN: u32 = u32::MAX;

/// A column as `describe` declares it.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// the column, and what is nested in it, depth first
    pub fields: Vec<Field>,
    /// whether it stays with the host (`Pass`)
    pub passed: bool,
    /// of a passed column of an output: the input column that it is taken from
    pub from: String,
    /// what is wrong with it
    pub fault: Option<&'static str>,
}

impl Column {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.fields[0].name
    }

    /// The same column under the name `from` when it is passed on from an input.
    #[must_use]
    pub fn taken_from(mut self, from: &str) -> Self {
        self.from = from.to_owned();
        self
    }

    /// A column of the given parts.
    fn of(name: &str, data_type: DataType, nullable: bool, nested: Vec<Self>) -> Self {
        let children = nested.len() as u32;
        let mut column = Self {
            fields: vec![Field { name: name.to_owned(), data_type, nullable, children }],
            passed: false,
            from: name.to_owned(),
            fault: None,
        };
        for child in nested {
            column.fault = column.fault.or(child.fault);
            if child.passed {
                column.fault = Some("a `Pass` cannot be nested in a list or another record");
            }
            column.fields.extend(child.fields);
        }
        column
    }
}

/// The buffers of a batch, taken one after another.
#[derive(Debug)]
pub struct Buffers {
    rows: usize,
    buffers: std::vec::IntoIter<Vec<u8>>,
}

impl Buffers {
    /// The buffers of a batch of `rows` rows.
    #[inline(always)]
    pub fn new(rows: usize, buffers: Vec<Vec<u8>>) -> Self {
        Self { rows, buffers: buffers.into_iter() }
    }

    /// The number of rows of the column that comes next.
    #[inline(always)]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The next buffer, which is at least `bytes` long.
    #[inline(always)]
    pub fn take(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        let buffer = self.buffers.next().ok_or("a batch has too few buffers")?;
        if buffer.len() < bytes { Err("a buffer of a batch is too short".into()) } else { Ok(buffer) }
    }
}

/// Collects a column.
///
/// Room for the rows is made beforehand, for many at once, and a row for which there is none is a panic: so the loop that writes rows only compares
/// two numbers for each value, and does not have to be ready to move the column elsewhere.
pub trait Writer: 'static {
    /// Makes room for `rows` more rows.
    fn reserve(&mut self, rows: usize);

    /// Moves the buffers out, and is empty again.
    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String>;
}

/// A type that a field of a [`Record`](crate::Record) can have.
///
/// Integers, floats, `bool`, `String`, [`Str`](crate::Str), [`Bytes`](crate::Bytes), `Vec<u8>`, [`EventTime`], records, `Vec` of
/// any of them, `Option` of any of them, and [`Pass`](crate::Pass).
pub trait Value: Sized + 'static {
    /// a column of a batch, ready to be read
    type Reader: 'static;
    /// a column that is being written
    type Writer: Writer;
    /// what the column holds: the type itself, or what a `Pass` stands for
    type Logical;
    /// whether a list of it is `binary`
    const BYTE: bool = false;
    /// whether it is read and written by a few instructions
    const NARROW: bool = false;

    /// The column that a field of this name and type is.
    fn column(name: &str) -> Column;
    /// Opens the next column of a batch, the record's field number `index`.
    fn open(buffers: &mut Buffers, index: u32) -> Result<Self::Reader, String>;
    /// The value in a row.
    fn read(reader: &Self::Reader, row: usize) -> Self;
    /// Makes a writer; `source` is the input column that a passed column comes from.
    fn writer(source: u32) -> Self::Writer;
    /// Adds the value to a column; the row comes from input row `origin`.
    fn write(&self, writer: &mut Self::Writer, origin: u32);
    /// Adds the `field` of many rows, each of which comes with its origin.
    ///
    /// A loop over one column needs so few values that the compiler keeps them all in registers, which it does not of a loop over all columns.
    #[inline(always)]
    fn write_all<R>(rows: &[(u32, R)], field: impl Fn(&R) -> &Self, writer: &mut Self::Writer) {
        rows.iter().for_each(|(origin, row)| field(row).write(writer, *origin));
    }
    /// Adds a row without a value to a column (of a nested record that is not there itself).
    fn write_missing(writer: &mut Self::Writer);
    /// Encodes the value as a part of state.
    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    /// Decodes it.
    fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    /// Copies what the value shares with the batch that it came in, so that keeping it does not keep the batch.
    fn detach(&mut self) {}
}

/// A value that is always there: every [`Value`] but `Option` and `Pass`.
pub trait Plain: Sized + 'static {
    /// the type's own buffers, ready to be read
    type Reader: 'static;
    /// the type's own buffers, being written
    type Writer: Writer;
    /// the type of the column
    const TYPE: DataType;
    /// whether a list of it is `binary`
    const BYTE: bool = false;
    /// whether it is read and written by a few instructions
    const NARROW: bool = false;

    /// The columns nested in it.
    fn nested() -> Vec<Column> {
        vec![]
    }
    /// Opens the type's own buffers.
    fn open_plain(buffers: &mut Buffers) -> Result<Self::Reader, String>;
    /// The value in a row.
    fn read_plain(reader: &Self::Reader, row: usize) -> Self;
    /// Makes a writer.
    fn plain_writer() -> Self::Writer;
    /// Adds the value.
    fn write_plain(&self, writer: &mut Self::Writer);
    /// Adds the `field` of many rows, each of which comes with its origin.
    #[inline(always)]
    fn write_all_plain<R>(rows: &[(u32, R)], field: impl Fn(&R) -> &Self, writer: &mut Self::Writer) {
        rows.iter().for_each(|(_, row)| field(row).write_plain(writer));
    }
    /// Adds a row without a value.
    fn write_empty(writer: &mut Self::Writer);
    /// Encodes the value as a part of state.
    fn encode_plain<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
    /// Decodes it.
    fn decode_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
    /// Copies what the value shares with its batch.
    fn detach_plain(&mut self) {}
}

/// A value (or a reference to one) as serde sees it in state: rows need no serde of their own.
#[derive(Debug)]
pub struct InState<V>(pub V);

impl<V: Value> Serialize for InState<&V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.encode(serializer)
    }
}

impl<'de, V: Value> Deserialize<'de> for InState<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        V::decode(deserializer).map(Self)
    }
}

/// One bit a row.
#[derive(Debug, Default)]
pub struct BitWriter {
    bytes: FixedWriter<1>,
    rows: usize,
}

impl BitWriter {
    /// Adds a bit.
    #[inline(always)]
    pub fn push(&mut self, bit: bool) {
        if self.rows.is_multiple_of(8) {
            self.bytes.push([0]);
        }
        let last = self.rows / 8;
        self.bytes.0[last][0] |= u8::from(bit) << (self.rows % 8);
        self.rows += 1;
    }
}

impl Writer for BitWriter {
    fn reserve(&mut self, rows: usize) {
        self.bytes.reserve(rows.div_ceil(8));
    }

    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        self.rows = 0;
        self.bytes.finish(buffers)
    }
}

#[inline(always)]
fn bit(bytes: &[u8], row: usize) -> bool {
    bytes[row / 8] >> (row % 8) & 1 == 1
}

impl Plain for bool {
    type Reader = Vec<u8>;
    type Writer = BitWriter;
    const TYPE: DataType = DataType::Boolean;

    fn open_plain(buffers: &mut Buffers) -> Result<Vec<u8>, String> {
        buffers.take(buffers.rows.div_ceil(8))
    }
    #[inline(always)]
    fn read_plain(reader: &Vec<u8>, row: usize) -> Self {
        bit(reader, row)
    }
    fn plain_writer() -> BitWriter {
        BitWriter::default()
    }
    #[inline(always)]
    fn write_plain(&self, writer: &mut BitWriter) {
        writer.push(*self);
    }
    fn write_empty(writer: &mut BitWriter) {
        writer.push(false);
    }
    fn encode_plain<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self)
    }
    fn decode_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Deserialize::deserialize(deserializer)
    }
}

/// Values of a fixed width, ready to be read: at least one a row.
///
/// What a loop over all rows reads is compared with the number of rows, which is the same for all columns, and not with the length of each
/// buffer: so the compiler sees that no row of the loop is out of bounds.
#[derive(Debug)]
pub struct FixedColumn<const WIDTH: usize> {
    bytes: Vec<u8>,
    rows: usize,
}

impl<const WIDTH: usize> FixedColumn<WIDTH> {
    /// Opens the next buffer, of as many rows as its column has.
    #[inline(always)]
    pub fn open(buffers: &mut Buffers) -> Result<Self, String> {
        let rows = buffers.rows;
        let bytes = buffers.take(rows * WIDTH)?;
        // Unlike the product, which may be too large for a number, the quotient is right for any number of rows.
        if bytes.len() / WIDTH < rows { Err("a buffer of a batch is too short".into()) } else { Ok(Self { bytes, rows }) }
    }

    /// The value in a row.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn get(&self, row: usize) -> [u8; WIDTH] {
        assert!(row < self.rows, "a row lies outside of its batch");
        // SAFETY: `open` saw to it that there are `rows` values, and nothing changes them.
        unsafe { *self.bytes.as_chunks().0.get_unchecked(row) }
    }
}

/// The offsets of a column whose rows vary in length, ready to be read: one more than there are rows.
#[derive(Debug)]
pub struct Offsets {
    bytes: Vec<u8>,
    rows: usize,
}

impl Offsets {
    /// Opens the next buffer, of a column of `rows` rows, and says where the last row ends.
    #[inline(always)]
    pub fn open(buffers: &mut Buffers, rows: usize) -> Result<(Self, usize), String> {
        let bytes = buffers.take((rows + 1) * 4)?;
        // As for `FixedColumn`.
        if bytes.len() / 4 <= rows {
            return Err("a buffer of a batch is too short".into());
        }
        let offsets = Self { bytes, rows };
        let end = if rows == 0 { 0 } else { offsets.bounds(rows - 1).1 };
        Ok((offsets, end))
    }

    /// Where a row begins and ends.
    #[inline(always)]
    #[allow(unsafe_code)]
    pub fn bounds(&self, row: usize) -> (usize, usize) {
        assert!(row < self.rows, "a row lies outside of its batch");
        let offsets = self.bytes.as_chunks().0;
        // SAFETY: `open` saw to it that there is one offset more than there are rows, and nothing changes them.
        let [start, end] = unsafe { [*offsets.get_unchecked(row), *offsets.get_unchecked(row + 1)] };
        (u32::from_le_bytes(start) as usize, u32::from_le_bytes(end) as usize)
    }
}

/// Values of a fixed width, appended row by row.
#[derive(Debug, Default)]
pub struct FixedWriter<const WIDTH: usize>(Vec<[u8; WIDTH]>);

impl<const WIDTH: usize> FixedWriter<WIDTH> {
    /// Adds a row.
    #[inline(always)]
    pub fn push(&mut self, bytes: [u8; WIDTH]) {
        // After this, `push` has nothing to do but to store: a call that may come back, even one that never happens, would have the loop keep what it
        // works with in memory instead of registers.
        assert!(self.0.len() < self.0.capacity(), "a row was written that no room was made for");
        self.0.push(bytes);
    }

    /// Adds what `value` makes of many rows.
    #[inline(always)]
    pub fn extend<R>(&mut self, rows: &[R], value: impl Fn(&R) -> [u8; WIDTH]) {
        let (strides, rest) = rows.as_chunks::<STRIDE>();
        self.0.extend(strides.iter().flat_map(|rows| rows.each_ref().map(&value)));
        self.0.extend(rest.iter().map(value));
    }

    /// The rows.
    pub fn rows(&self) -> &[[u8; WIDTH]] {
        &self.0
    }

    /// Moves the rows out.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).into_flattened()
    }

    /// Drops the rows, but keeps their room.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<const WIDTH: usize> Writer for FixedWriter<WIDTH> {
    fn reserve(&mut self, rows: usize) {
        self.0.reserve(rows);
    }

    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        buffers.push(self.take());
        Ok(())
    }
}

/// Numbers and times: one little-endian value a row.
macro_rules! fixed {
    ($($type:ty as $raw:ty, $data_type:ident, $value:ident => $to:expr, $from:expr $(, $byte:literal)?;)*) => {$(
        impl Plain for $type {
            type Reader = FixedColumn<{ size_of::<$raw>() }>;
            type Writer = FixedWriter<{ size_of::<$raw>() }>;
            const TYPE: DataType = DataType::$data_type;
            const NARROW: bool = true;
            $(const BYTE: bool = $byte;)?

            #[inline(always)]
            fn open_plain(buffers: &mut Buffers) -> Result<Self::Reader, String> {
                FixedColumn::open(buffers)
            }
            #[inline(always)]
            fn read_plain(reader: &Self::Reader, row: usize) -> Self {
                $from(<$raw>::from_le_bytes(reader.get(row)))
            }
            fn plain_writer() -> Self::Writer {
                FixedWriter::default()
            }
            #[inline(always)]
            fn write_plain(&self, writer: &mut Self::Writer) {
                let $value = *self;
                writer.push($to.to_le_bytes());
            }
            #[inline(always)]
            fn write_all_plain<R>(rows: &[(u32, R)], field: impl Fn(&R) -> &Self, writer: &mut Self::Writer) {
                writer.extend(rows, |(_, row)| {
                    let $value = *field(row);
                    $to.to_le_bytes()
                });
            }
            fn write_empty(writer: &mut Self::Writer) {
                writer.push([0; _]);
            }
            fn encode_plain<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let $value = *self;
                Serialize::serialize(&$to, serializer)
            }
            fn decode_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <$raw>::deserialize(deserializer).map($from)
            }
        }
    )*};
}

fixed! {
    i8 as i8, Int8, v => v, |v| v;
    i16 as i16, Int16, v => v, |v| v;
    i32 as i32, Int32, v => v, |v| v;
    i64 as i64, Int64, v => v, |v| v;
    u8 as u8, Uint8, v => v, |v| v, true;
    u16 as u16, Uint16, v => v, |v| v;
    u32 as u32, Uint32, v => v, |v| v;
    u64 as u64, Uint64, v => v, |v| v;
    f32 as f32, Float32, v => v, |v| v;
    f64 as f64, Float64, v => v, |v| v;
    EventTime as i64, EventTime, v => v.millis(), EventTime::from_millis;
}

/// A column whose rows all have a value: an empty validity, then the type's own buffers.
#[derive(Debug)]
pub struct Required<W>(W);

impl<W: Writer> Writer for Required<W> {
    fn reserve(&mut self, rows: usize) {
        self.0.reserve(rows);
    }

    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        buffers.push(vec![]);
        self.0.finish(buffers)
    }
}

impl<T: Plain> Value for T {
    type Reader = T::Reader;
    type Writer = Required<T::Writer>;
    type Logical = T;
    const BYTE: bool = T::BYTE;
    const NARROW: bool = T::NARROW;

    fn column(name: &str) -> Column {
        Column::of(name, T::TYPE, false, T::nested())
    }
    #[inline(always)]
    fn open(buffers: &mut Buffers, _index: u32) -> Result<T::Reader, String> {
        buffers.take(0)?;
        T::open_plain(buffers)
    }
    #[inline(always)]
    fn read(reader: &T::Reader, row: usize) -> Self {
        T::read_plain(reader, row)
    }
    fn writer(_source: u32) -> Self::Writer {
        Required(T::plain_writer())
    }
    #[inline(always)]
    fn write(&self, writer: &mut Self::Writer, _origin: u32) {
        self.write_plain(&mut writer.0);
    }
    #[inline(always)]
    fn write_all<R>(rows: &[(u32, R)], field: impl Fn(&R) -> &Self, writer: &mut Self::Writer) {
        T::write_all_plain(rows, field, &mut writer.0);
    }
    fn write_missing(writer: &mut Self::Writer) {
        T::write_empty(&mut writer.0);
    }
    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.encode_plain(serializer)
    }
    fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::decode_plain(deserializer)
    }
    fn detach(&mut self) {
        self.detach_plain();
    }
}

/// A column whose rows may lack a value: a bit a row, then the type's own buffers.
#[derive(Debug)]
pub struct Optional<W> {
    validity: BitWriter,
    values: W,
}

impl<W: Writer> Writer for Optional<W> {
    fn reserve(&mut self, rows: usize) {
        self.validity.reserve(rows);
        self.values.reserve(rows);
    }

    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        self.validity.finish(buffers)?;
        self.values.finish(buffers)
    }
}

impl<T: Plain> Value for Option<T> {
    type Reader = (Vec<u8>, T::Reader);
    type Writer = Optional<T::Writer>;
    type Logical = Self;

    fn column(name: &str) -> Column {
        Column::of(name, T::TYPE, true, T::nested())
    }
    fn open(buffers: &mut Buffers, _index: u32) -> Result<Self::Reader, String> {
        let validity = buffers.take(0)?;
        if !validity.is_empty() && validity.len() < buffers.rows.div_ceil(8) {
            return Err("a validity buffer is too short".into());
        }
        Ok((validity, T::open_plain(buffers)?))
    }
    #[inline(always)]
    fn read((validity, values): &Self::Reader, row: usize) -> Self {
        (validity.is_empty() || bit(validity, row)).then(|| T::read_plain(values, row))
    }
    fn writer(_source: u32) -> Self::Writer {
        Optional { validity: BitWriter::default(), values: T::plain_writer() }
    }
    #[inline(always)]
    fn write(&self, writer: &mut Self::Writer, _origin: u32) {
        writer.validity.push(self.is_some());
        match self {
            Some(value) => value.write_plain(&mut writer.values),
            None => T::write_empty(&mut writer.values),
        }
    }
    fn write_missing(writer: &mut Self::Writer) {
        Self::write(&None, writer, NO_ORIGIN);
    }
    fn encode<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.as_ref().map(InState).serialize(serializer)
    }
    fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map(|InState(value)| value))
    }
    fn detach(&mut self) {
        if let Some(value) = self {
            value.detach_plain();
        }
    }
}

/// Offsets of rows of varying length.
#[derive(Debug, Default)]
pub struct OffsetWriter(FixedWriter<4>);

impl OffsetWriter {
    /// Begins a row at `start`.
    #[inline(always)]
    pub fn push(&mut self, start: usize) {
        self.0.push((start as u32).to_le_bytes());
    }

    /// Makes room for `rows` more rows, and for the end of the last.
    pub fn reserve(&mut self, rows: usize) {
        self.0.reserve(rows + 1);
    }

    /// Moves the buffer out; `end` is where the last row ends.
    pub fn finish(&mut self, end: usize, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        self.0.reserve(1);
        self.push(end);
        self.0.finish(buffers)?;
        if end > i32::MAX as usize { Err("a column of an output has more than 2 GiB".into()) } else { Ok(()) }
    }
}

/// A list.
#[derive(Debug)]
pub struct ListWriter<W> {
    offsets: OffsetWriter,
    items: W,
    count: usize,
    binary: bool,
}

impl<W: Writer> Writer for ListWriter<W> {
    fn reserve(&mut self, rows: usize) {
        self.offsets.reserve(rows);
    }

    fn finish(&mut self, buffers: &mut Vec<Vec<u8>>) -> Result<(), String> {
        self.offsets.finish(std::mem::take(&mut self.count), buffers)?;
        let validity = buffers.len();
        self.items.finish(buffers)?;
        if self.binary {
            buffers.remove(validity);
        }
        Ok(())
    }
}

impl<T: Value> Plain for Vec<T> {
    type Reader = (Offsets, T::Reader);
    type Writer = ListWriter<T::Writer>;
    const TYPE: DataType = if T::BYTE { DataType::Binary } else { DataType::Sequence };

    fn nested() -> Vec<Column> {
        if T::BYTE { vec![] } else { vec![T::column("item")] }
    }
    fn open_plain(buffers: &mut Buffers) -> Result<Self::Reader, String> {
        let (offsets, items) = Offsets::open(buffers, buffers.rows)?;
        let items = if T::BYTE {
            // The bytes of a binary column have no validity of their own.
            let bytes = buffers.take(items)?;
            T::open(&mut Buffers::new(items, vec![vec![], bytes]), 0)?
        } else {
            let rows = std::mem::replace(&mut buffers.rows, items);
            let items = T::open(buffers, 0)?;
            buffers.rows = rows;
            items
        };
        Ok((offsets, items))
    }
    fn read_plain((offsets, items): &Self::Reader, row: usize) -> Self {
        let (start, end) = offsets.bounds(row);
        (start..end).map(|i| T::read(items, i)).collect()
    }
    fn plain_writer() -> Self::Writer {
        ListWriter { offsets: OffsetWriter::default(), items: T::writer(NO_ORIGIN), count: 0, binary: T::BYTE }
    }
    fn write_plain(&self, writer: &mut Self::Writer) {
        writer.offsets.push(writer.count);
        writer.count += self.len();
        writer.items.reserve(self.len());
        self.iter().for_each(|item| item.write(&mut writer.items, NO_ORIGIN));
    }
    fn write_empty(writer: &mut Self::Writer) {
        writer.offsets.push(writer.count);
    }
    fn encode_plain<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(InState))
    }
    fn decode_plain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().map(|InState(item)| item).collect())
    }
    fn detach_plain(&mut self) {
        self.iter_mut().for_each(T::detach);
    }
}
