//! How fields lie one after another: each begins with its number, and with how it is encoded.

use crate::format::columns::Reason;

type Parsed<T> = Result<T, Reason>;

/// What is left of a message.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a>(pub &'a [u8]);

/// A value, as far as its encoding tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// text, bytes, a message, or packed values
    Bytes(&'a [u8]),
}

impl<'a> Cursor<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn bytes(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or_else(|| Reason("the message ends too early".into()))?;
        self.0 = rest;
        Ok(bytes)
    }

    /// An integer: 7 bits a byte, the lowest first.
    #[inline]
    pub fn varint(&mut self) -> Parsed<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.bytes(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Reason("an integer is longer than 10 bytes".into()))
    }

    pub fn fixed64(&mut self) -> Parsed<u64> {
        Ok(self.bytes(8)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    pub fn fixed32(&mut self) -> Parsed<u32> {
        Ok(self.bytes(4)?.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte)))
    }

    /// The next field: its number and its value.
    #[inline]
    pub fn field(&mut self) -> Parsed<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.fixed64()?),
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.bytes(usize::try_from(length).unwrap_or(usize::MAX))?)
            }
            5 => Value::Fixed32(self.fixed32()?),
            3 | 4 => return Err(Reason(format!("field {} is a group, which is not supported", tag >> 3))),
            _ => return Err(Reason("it is no message".into())),
        };
        Ok((tag >> 3, value))
    }
}
