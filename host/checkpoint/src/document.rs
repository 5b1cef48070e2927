//! A stored document: a line that says what follows, then one JSON value on a line.
//!
//! ```text
//! {"weir":"log","format":1,"bytes":75,"crc32":"1c291ca3","writer":"01K0…"}
//! {"claim":{"generation":3,"at_ms":1760000000000}}
//! ```
//!
//! The first line makes a torn or altered document known: length and checksum of the second one must fit, and nothing may follow.
//! `writer` differs from writer to writer, so that each can tell its own document from an equal one of another. Both lines are
//! JSON, so that `jq` shows them.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::checksum::{Checksum, Summing};
use crate::error::Corrupt;

/// The newest format of documents, and the only one so far.
pub const FORMAT: u32 = 1;

/// The first line is not longer than this.
const HEADER_BYTES_MAX: usize = 512;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    weir: String,
    format: u32,
    bytes: u64,
    crc32: Checksum,
    writer: String,
}

/// What is read before the header: a newer format may have a header of other fields.
#[derive(Deserialize)]
struct Preface {
    weir: String,
    format: u32,
}

fn checksum(writer: &str, body: &[u8]) -> Checksum {
    let mut sum = Summing::default();
    sum.update(writer.as_bytes());
    sum.update(b"\n");
    sum.update(body);
    sum.finish()
}

/// Encodes a document of kind `weir`.
pub(crate) fn encode<T: Serialize>(weir: &str, value: &T, writer: &str) -> Bytes {
    let body = serde_json::to_vec(value).expect("documents have string keys and finite numbers");
    let header = Header {
        weir: weir.into(),
        format: FORMAT,
        bytes: body.len() as u64,
        crc32: checksum(writer, &body),
        writer: writer.into(),
    };
    let mut document = serde_json::to_vec(&header).expect("a header is plain");
    assert!(document.len() <= HEADER_BYTES_MAX, "names of writers are short");
    document.push(b'\n');
    document.extend_from_slice(&body);
    document.push(b'\n');
    document.into()
}

/// Decodes a document of kind `weir`.
pub(crate) fn decode<T: DeserializeOwned>(weir: &str, document: &[u8]) -> Result<T, Corrupt> {
    if document.is_empty() {
        return Err(Corrupt::damaged("it is empty"));
    }
    let head = &document[..document.len().min(HEADER_BYTES_MAX + 1)];
    let end = head.iter().position(|b| *b == b'\n').ok_or_else(|| Corrupt::damaged("its first line has no end"))?;
    let preface: Preface =
        serde_json::from_slice(&head[..end]).map_err(|e| Corrupt::damaged(format!("its first line cannot be read: {e}")))?;
    if preface.weir != weir {
        return Err(Corrupt::damaged(format!("it is no {weir} document")));
    }
    if preface.format > FORMAT {
        return Err(Corrupt::Newer { found: preface.format, known: FORMAT });
    }
    let header: Header =
        serde_json::from_slice(&head[..end]).map_err(|e| Corrupt::damaged(format!("its first line cannot be read: {e}")))?;
    let body = &document[end + 1..];
    let body = match body.split_last() {
        Some((b'\n', body)) if body.len() as u64 == header.bytes => body,
        _ => {
            return Err(Corrupt::damaged(format!(
                "it has {} bytes after its first line instead of {}",
                body.len(),
                header.bytes.saturating_add(1)
            )));
        }
    };
    let found = checksum(&header.writer, body);
    if found != header.crc32 {
        return Err(Corrupt::damaged(format!("its checksum is {found} instead of {}", header.crc32)));
    }
    if header.format == 0 {
        return Err(Corrupt::damaged("it has format 0, which never was"));
    }
    serde_json::from_slice(body).map_err(|e| Corrupt::damaged(format!("it cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document that is cut anywhere is damaged; one with a flipped bit anywhere is damaged, newer, or still what it was.
    #[test]
    fn torn_and_altered_documents_are_known() {
        let value = serde_json::json!({"a": [1, 2, 3], "b": "text"});
        let document = encode("test", &value, "01K0W0000000000000000000AB");
        assert_eq!(decode::<serde_json::Value>("test", &document).unwrap(), value);
        for cut in 0..document.len() {
            assert!(matches!(decode::<serde_json::Value>("test", &document[..cut]), Err(Corrupt::Damaged(_))), "cut at {cut}");
        }
        for at in 0..document.len() {
            for bit in 0..8 {
                let mut altered = document.to_vec();
                altered[at] ^= 1 << bit;
                if let Ok(read) = decode::<serde_json::Value>("test", &altered) {
                    assert_eq!(read, value, "bit {bit} of byte {at}");
                }
            }
        }
        let longer = [&document[..], b"\n"].concat();
        assert!(decode::<serde_json::Value>("test", &longer).is_err());
        assert!(decode::<serde_json::Value>("other", &document).is_err(), "a document of another kind");
    }

    /// A newer format is told from damage, whatever else its header holds.
    #[test]
    fn newer_formats_are_named() {
        let document = b"{\"weir\":\"test\",\"format\":2,\"sha512\":\"\"}\n???";
        assert_eq!(decode::<()>("test", document), Err(Corrupt::Newer { found: 2, known: 1 }));
    }
}
