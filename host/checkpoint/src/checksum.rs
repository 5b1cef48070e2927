//! The checksum of stored bytes: CRC-32, written as eight hexadecimal digits.
//!
//! It finds what breaks by itself: torn writes, flipped bits, mixed-up files. It is no protection against somebody who wants to
//! deceive.

use serde::{Deserialize, Serialize};

/// The CRC-32 (IEEE) of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(pub u32);

impl Checksum {
    /// The checksum of bytes that are all at hand.
    pub fn of(bytes: &[u8]) -> Self {
        Self(crc32fast::hash(bytes))
    }
}

impl std::fmt::Display for Checksum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.len() == 8 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let value = digits.then(|| u32::from_str_radix(&text, 16).ok()).flatten();
        value.map(Self).ok_or_else(|| format!("{text:?} is no checksum of eight hexadecimal digits"))
    }
}

/// Makes the checksum of bytes that come piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Summing(crc32fast::Hasher);

impl Summing {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces.
    pub fn finish(self) -> Checksum {
        Checksum(self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A checksum is read back from its text, and pieces sum up to the whole.
    #[test]
    fn text_and_pieces() {
        let whole = Checksum::of(b"123456789");
        assert_eq!(whole, Checksum(0xcbf4_3926), "the check value of CRC-32");
        assert_eq!(serde_json::to_string(&whole).unwrap(), "\"cbf43926\"");
        assert_eq!(serde_json::from_str::<Checksum>("\"cbf43926\"").unwrap(), whole);
        for bad in ["\"cbf4392\"", "\"+bf43926\"", "\"cbf43926 \"", "7"] {
            assert!(serde_json::from_str::<Checksum>(bad).is_err(), "{bad}");
        }
        let mut pieces = Summing::default();
        pieces.update(b"1234");
        pieces.update(b"");
        pieces.update(b"56789");
        assert_eq!(pieces.finish(), whole);
    }
}
