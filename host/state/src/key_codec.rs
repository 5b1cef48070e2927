//! Keys as bytes, and back as columns.
//!
//! Keys of one column are taken apart directly: an integer is its 64 bits and text is its own bytes. Keys of several columns, and of
//! floats and booleans, go through Arrow's row format. The bytes name keys in a [`StateBackend`](crate::StateBackend).

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrayRef, ArrowPrimitiveType, PrimitiveArray};
use arrow_array::{BinaryArray, BinaryViewArray, StringArray, StringViewArray};
use arrow_row::{RowConverter, Rows, SortField};
use arrow_schema::{ArrowError, DataType};
use weir_types::key::can_be_key;

use crate::Error;
use crate::row_format::is_row;

/// How the keys of a table are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyShape {
    /// no columns: all rows are one key
    Unit,
    /// one column of integers or times
    Integer,
    /// one column of text or bytes
    Text,
    /// anything else
    Rows,
}

/// Encodes and decodes the keys of one table.
#[derive(Debug)]
pub struct KeyCodec {
    types: Vec<DataType>,
    shape: KeyShape,
    /// for [`KeyShape::Rows`]: a converter for each layout seen (text comes flat or as views), the table's own first; their bytes agree
    converters: Vec<(Vec<DataType>, RowConverter)>,
}

impl KeyCodec {
    /// A codec for keys of columns of these types.
    ///
    /// # Errors
    /// If a type cannot be part of a key.
    pub fn new(types: &[DataType]) -> Result<Self, Error> {
        if let Some(bad) = types.iter().find(|t| !can_be_key(t)) {
            return Err(Error::KeyType(bad.clone()));
        }
        let shape = match types {
            [] => KeyShape::Unit,
            [t] if t.is_integer() || matches!(t, DataType::Timestamp(_, _)) => KeyShape::Integer,
            [t] if is_text(t) => KeyShape::Text,
            _ => KeyShape::Rows,
        };
        let converters = if shape == KeyShape::Rows { vec![(types.to_vec(), converter(types.iter().cloned())?)] } else { vec![] };
        Ok(Self { types: types.to_vec(), shape, converters })
    }

    /// Another one for the same keys.
    ///
    /// # Errors
    /// As [`new`](Self::new): none, since there is this one.
    pub(crate) fn again(&self) -> Result<Self, Error> {
        Self::new(&self.types)
    }

    pub(crate) fn shape(&self) -> KeyShape {
        self.shape
    }

    /// Refuses columns that differ from the table's in number or type; text and bytes may come in either layout.
    pub(crate) fn check(&self, columns: &[ArrayRef]) -> Result<(), Error> {
        let fits = columns.len() == self.types.len()
            && columns.iter().zip(&self.types).all(|(c, t)| c.data_type() == t || differ_in_layout(c.data_type(), t));
        if fits {
            return Ok(());
        }
        let got: Vec<_> = columns.iter().map(|c| c.data_type().to_string()).collect();
        let message = format!("the keys have the types {got:?}, but the table is for {:?}", self.types);
        Err(ArrowError::InvalidArgumentError(message).into())
    }

    /// The keys of `columns` in Arrow's row format.
    pub(crate) fn rows(&mut self, columns: &[ArrayRef]) -> Result<Rows, Error> {
        let known = self.converters.iter().position(|(types, _)| types.iter().zip(columns).all(|(t, c)| t == c.data_type()));
        let index = match known {
            Some(index) => index,
            None => {
                let types: Vec<_> = columns.iter().map(|c| c.data_type().clone()).collect();
                self.converters.push((types.clone(), converter(types)?));
                self.converters.len() - 1
            }
        };
        Ok(self.converters[index].1.convert_columns(columns)?)
    }

    /// The columns of these keys, in the table's types. `None` is the key of one column whose value is null.
    pub(crate) fn integers(&self, keys: impl Iterator<Item = Option<u64>>) -> ArrayRef {
        fn of<T: ArrowPrimitiveType>(
            data_type: &DataType,
            keys: impl Iterator<Item = Option<u64>>,
            native: impl Fn(u64) -> T::Native,
        ) -> ArrayRef {
            let array: PrimitiveArray<T> = keys.map(|k| k.map(&native)).collect();
            Arc::new(array.with_data_type(data_type.clone()))
        }
        let data_type = &self.types[0];
        match data_type {
            DataType::Int8 => of::<Int8Type>(data_type, keys, |k| k as i8),
            DataType::Int16 => of::<Int16Type>(data_type, keys, |k| k as i16),
            DataType::Int32 => of::<Int32Type>(data_type, keys, |k| k as i32),
            DataType::Int64 => of::<Int64Type>(data_type, keys, |k| k as i64),
            DataType::UInt8 => of::<UInt8Type>(data_type, keys, |k| k as u8),
            DataType::UInt16 => of::<UInt16Type>(data_type, keys, |k| k as u16),
            DataType::UInt32 => of::<UInt32Type>(data_type, keys, |k| k as u32),
            DataType::UInt64 => of::<UInt64Type>(data_type, keys, |k| k),
            _ => of::<TimestampMillisecondType>(data_type, keys, |k| k as i64),
        }
    }

    /// As [`integers`](Self::integers), of text and bytes.
    pub(crate) fn texts<'a>(&self, keys: impl Iterator<Item = Option<&'a [u8]>>) -> Result<ArrayRef, Error> {
        let text = |k: Option<&'a [u8]>| {
            k.map(std::str::from_utf8).transpose().map_err(|_| Error::Corrupt("a text key is not UTF-8".into()))
        };
        Ok(match self.types[0] {
            DataType::Utf8 => Arc::new(keys.map(text).collect::<Result<StringArray, _>>()?),
            DataType::Utf8View => Arc::new(keys.map(text).collect::<Result<StringViewArray, _>>()?),
            DataType::Binary => Arc::new(keys.collect::<BinaryArray>()),
            _ => Arc::new(keys.collect::<BinaryViewArray>()),
        })
    }

    /// The columns of keys in Arrow's row format.
    pub(crate) fn columns_of_rows<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        let converter = &self.converters[0].1;
        let parser = converter.parser();
        let parsed: Vec<_> = keys.map(|k| parser.parse(k)).collect();
        Ok(converter.convert_rows(parsed)?)
    }

    /// Refuses bytes that are no row of the table's types.
    fn checked_row<'a>(&self, key: &'a [u8]) -> Result<&'a [u8], Error> {
        match is_row(&self.types, key) {
            true => Ok(key),
            false => Err(Error::Corrupt("a key is not one of its columns".into())),
        }
    }

    /// Refuses keys that are decoded to these columns but are not what these are encoded to: a key has one name.
    pub(crate) fn check_names(&self, keys: &[&[u8]], columns: &[ArrayRef]) -> Result<(), Error> {
        let agree = match self.shape {
            KeyShape::Unit => keys.iter().all(|key| key.is_empty()),
            KeyShape::Integer => {
                let mut values = vec![];
                widen(&columns[0], &mut values);
                keys.iter().zip(values).all(|(key, value)| key.is_empty() || **key == value.to_be_bytes())
            }
            KeyShape::Text => keys.iter().all(|key| matches!(key.first(), None | Some(1))),
            KeyShape::Rows => {
                let rows = self.converters[0].1.convert_columns(columns)?;
                keys.iter().zip(rows.iter()).all(|(key, row)| *key == row.data())
            }
        };
        if agree { Ok(()) } else { Err(Error::Corrupt("a key is not written as keys are".into())) }
    }

    /// The columns of keys as [`SlotTable::key_bytes`](crate::SlotTable::key_bytes) wrote them.
    ///
    /// # Errors
    /// If bytes are not those of a key.
    pub fn decode<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        match self.shape {
            KeyShape::Unit => Ok(vec![]),
            KeyShape::Integer => {
                let values: Result<Vec<_>, Error> = keys
                    .map(|k| match k {
                        [] => Ok(None),
                        k => Ok(Some(u64::from_be_bytes(
                            k.try_into().map_err(|_| Error::Corrupt("an integer key is not 8 bytes".into()))?,
                        ))),
                    })
                    .collect();
                Ok(vec![self.integers(values?.into_iter())])
            }
            KeyShape::Text => Ok(vec![self.texts(keys.map(|k| k.split_first().map(|(_, text)| text)))?]),
            KeyShape::Rows => {
                let keys = keys.map(|k| self.checked_row(k)).collect::<Result<Vec<_>, _>>()?;
                self.columns_of_rows(keys.into_iter())
            }
        }
    }
}

/// Writes the values of an integer or time column as 64 bits, as [`weir_types::key`] hashes them. What a null leaves is any value.
pub(crate) fn widen(column: &ArrayRef, values: &mut Vec<u64>) {
    fn of<T: ArrowPrimitiveType>(column: &ArrayRef, values: &mut Vec<u64>, bits: impl Fn(T::Native) -> u64) {
        values.extend(column.as_primitive::<T>().values().iter().map(|&v| bits(v)));
    }
    values.clear();
    match column.data_type() {
        DataType::Int8 => of::<Int8Type>(column, values, |v| v as u64),
        DataType::Int16 => of::<Int16Type>(column, values, |v| v as u64),
        DataType::Int32 => of::<Int32Type>(column, values, |v| v as u64),
        DataType::Int64 => of::<Int64Type>(column, values, |v| v as u64),
        DataType::UInt8 => of::<UInt8Type>(column, values, u64::from),
        DataType::UInt16 => of::<UInt16Type>(column, values, u64::from),
        DataType::UInt32 => of::<UInt32Type>(column, values, u64::from),
        DataType::UInt64 => of::<UInt64Type>(column, values, |v| v),
        _ => of::<TimestampMillisecondType>(column, values, |v| v as u64),
    }
}

/// The bytes of each value of a column of text or bytes; those of a null are empty.
pub(crate) fn for_each_text<'a>(column: &'a ArrayRef, each: impl FnMut(&'a [u8])) {
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().map(|v| v.unwrap_or_default().as_bytes()).for_each(each),
        DataType::Utf8View => column.as_string_view().iter().map(|v| v.unwrap_or_default().as_bytes()).for_each(each),
        DataType::Binary => column.as_binary::<i32>().iter().map(Option::unwrap_or_default).for_each(each),
        _ => column.as_binary_view().iter().map(Option::unwrap_or_default).for_each(each),
    }
}

fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::Utf8View | DataType::Binary | DataType::BinaryView)
}

/// Whether both types are text, or both bytes: in Arrow's flat layout or its views.
fn differ_in_layout(a: &DataType, b: &DataType) -> bool {
    use DataType::*;
    let text = |t: &DataType| matches!(t, Utf8 | Utf8View);
    let bytes = |t: &DataType| matches!(t, Binary | BinaryView);
    (text(a) && text(b)) || (bytes(a) && bytes(b))
}

fn converter(types: impl IntoIterator<Item = DataType>) -> Result<RowConverter, Error> {
    Ok(RowConverter::new(types.into_iter().map(SortField::new).collect())?)
}
