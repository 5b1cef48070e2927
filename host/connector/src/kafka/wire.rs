//! Kafka's protocol: the requests about transactions that librdkafka does not offer, byte for byte.
//!
//! Each request is made in one version, which all brokers from 3.0 to 4.x speak; [`Api::is_spoken`] checks that against what a broker says. Requests from
//! 2020 on are *flexible*: lengths are variable, and tagged fields, of which there are none here, may follow.

use std::fmt;

/// A kind of request, in the version that is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Api {
    /// Kafka's name for it
    pub name: &'static str,
    key: i16,
    version: i16,
    is_flexible: bool,
}

pub(super) const API_VERSIONS: Api = Api { name: "ApiVersions", key: 18, version: 0, is_flexible: false };
pub(super) const METADATA: Api = Api { name: "Metadata", key: 3, version: 2, is_flexible: false };
pub(super) const FIND_COORDINATOR: Api = Api { name: "FindCoordinator", key: 10, version: 1, is_flexible: false };
pub(super) const INIT_PRODUCER_ID: Api = Api { name: "InitProducerId", key: 22, version: 1, is_flexible: false };
pub(super) const END_TXN: Api = Api { name: "EndTxn", key: 26, version: 1, is_flexible: false };
pub(super) const SASL_HANDSHAKE: Api = Api { name: "SaslHandshake", key: 17, version: 1, is_flexible: false };
pub(super) const SASL_AUTHENTICATE: Api = Api { name: "SaslAuthenticate", key: 36, version: 0, is_flexible: false };
pub(super) const DESCRIBE_TRANSACTIONS: Api = Api { name: "DescribeTransactions", key: 65, version: 0, is_flexible: true };
pub(super) const LIST_TRANSACTIONS: Api = Api { name: "ListTransactions", key: 66, version: 0, is_flexible: true };

/// All but the one that asks which of them a broker speaks, and those of a login.
pub(super) const USED: [Api; 6] =
    [METADATA, FIND_COORDINATOR, INIT_PRODUCER_ID, END_TXN, DESCRIBE_TRANSACTIONS, LIST_TRANSACTIONS];

impl Api {
    /// Whether a broker that speaks these versions, by the key of the request, speaks this one.
    pub fn is_spoken(&self, versions: &[(i16, i16, i16)]) -> bool {
        versions.iter().any(|&(key, least, greatest)| key == self.key && (least..=greatest).contains(&self.version))
    }

    /// The whole frame of a request, its length included.
    pub fn frame(&self, correlation: i32, body: &Body) -> Vec<u8> {
        let mut frame = Body::default();
        frame.i16(self.key).i16(self.version).i32(correlation).text("weir");
        if self.is_flexible {
            frame.no_tags();
        }
        let length = (frame.0.len() + body.0.len()) as i32;
        [&length.to_be_bytes()[..], &frame.0, &body.0].concat()
    }

    /// What an answer, without its length, says behind its header. None if it answers another request.
    pub fn answer<'a>(&self, correlation: i32, frame: &'a [u8]) -> Parsed<Answer<'a>> {
        let mut answer = Answer(frame);
        if answer.i32()? != correlation {
            return Err(Garbled);
        }
        if self.is_flexible {
            answer.skip_tags()?;
        }
        Ok(answer)
    }
}

/// The fields of a request.
#[derive(Default)]
pub(super) struct Body(Vec<u8>);

impl Body {
    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.bytes(&[u8::from(value)])
    }

    pub fn i8(&mut self, value: i8) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub fn i32(&mut self, value: i32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Text behind its length, which callers have bounded.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.i16(text.len() as i16).bytes(text.as_bytes())
    }

    /// Bytes behind their length, which callers have bounded.
    pub fn blob(&mut self, bytes: &[u8]) -> &mut Self {
        self.i32(bytes.len() as i32).bytes(bytes)
    }

    /// A length of a flexible request: 7 bits a byte, the lowest first.
    fn length(&mut self, length: usize) -> &mut Self {
        let mut rest = length + 1;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes(&[rest as u8])
    }

    pub fn compact_texts(&mut self, texts: &[&str]) -> &mut Self {
        self.length(texts.len());
        for text in texts {
            self.length(text.len()).bytes(text.as_bytes());
        }
        self
    }

    pub fn no_tags(&mut self) -> &mut Self {
        self.bytes(&[0])
    }
}

/// An answer that is not what Kafka's protocol says.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not one of Kafka's protocol")]
pub(super) struct Garbled;

type Parsed<T> = Result<T, Garbled>;

/// The fields of an answer that were not read yet.
#[derive(Debug)]
pub(super) struct Answer<'a>(&'a [u8]);

impl<'a> Answer<'a> {
    fn bytes(&mut self, length: usize) -> Parsed<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Garbled)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        self.bytes(N)?.try_into().map_err(|_| Garbled)
    }

    pub fn i16(&mut self) -> Parsed<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Parsed<i32> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn i64(&mut self) -> Parsed<i64> {
        self.array().map(i64::from_be_bytes)
    }

    pub fn code(&mut self) -> Parsed<Code> {
        self.i16().map(Code)
    }

    /// Text, empty where there is none.
    pub fn text(&mut self) -> Parsed<String> {
        let length = self.i16()?.max(0);
        self.text_of(length as usize)
    }

    /// Bytes, empty where there are none.
    pub fn blob(&mut self) -> Parsed<&'a [u8]> {
        let length = self.i32()?.max(0);
        self.bytes(length as usize)
    }

    pub fn compact_text(&mut self) -> Parsed<String> {
        let length = self.length()?;
        self.text_of(length)
    }

    fn text_of(&mut self, length: usize) -> Parsed<String> {
        String::from_utf8(self.bytes(length)?.to_vec()).map_err(|_| Garbled)
    }

    /// Items behind their number.
    pub fn items<T>(&mut self, item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let count = self.i32()?.max(0);
        self.items_of(count as usize, item)
    }

    pub fn compact_items<T>(&mut self, item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let count = self.length()?;
        self.items_of(count, item)
    }

    /// No room is made ahead: the number is the other side's word.
    fn items_of<T>(&mut self, count: usize, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = vec![];
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn varint(&mut self) -> Parsed<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Garbled)
    }

    /// A length of a flexible answer; nothing is as long as what is empty.
    fn length(&mut self) -> Parsed<usize> {
        self.varint().map(|length| length.saturating_sub(1))
    }

    pub fn skip_tags(&mut self) -> Parsed<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.bytes(length)?;
        }
        Ok(())
    }
}

/// What a broker says of how it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub i16);

impl Code {
    pub const NONE: Self = Self(0);
    pub const TRANSACTIONAL_ID_NOT_FOUND: Self = Self(105);

    /// Whether the same request to the coordinator, which may have moved, can succeed a little later.
    pub fn is_passing(self) -> bool {
        // A request timed out, the coordinator loads, is not available, or is another one; the transaction is being ended.
        matches!(self.0, 7 | 14 | 15 | 16 | 51)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            7 => "REQUEST_TIMED_OUT",
            14 => "COORDINATOR_LOAD_IN_PROGRESS",
            15 => "COORDINATOR_NOT_AVAILABLE",
            16 => "NOT_COORDINATOR",
            33 => "UNSUPPORTED_SASL_MECHANISM",
            34 => "ILLEGAL_SASL_STATE",
            58 => "SASL_AUTHENTICATION_FAILED",
            31 => "CLUSTER_AUTHORIZATION_FAILED",
            35 => "UNSUPPORTED_VERSION",
            47 => "INVALID_PRODUCER_EPOCH",
            48 => "INVALID_TXN_STATE",
            49 => "INVALID_PRODUCER_ID_MAPPING",
            50 => "INVALID_TRANSACTION_TIMEOUT",
            51 => "CONCURRENT_TRANSACTIONS",
            53 => "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
            90 => "PRODUCER_FENCED",
            105 => "TRANSACTIONAL_ID_NOT_FOUND",
            other => return write!(f, "error {other}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_the_protocol_says() {
        // Goal: the bytes of an old and of a flexible request, written down from the protocol's guide.
        let mut body = Body::default();
        body.text("id").i64(7).i16(1).bool(true);
        let expected =
            b"\x00\x00\x00\x1d\x00\x1a\x00\x01\x00\x00\x00\x05\x00\x04weir\x00\x02id\x00\x00\x00\x00\x00\x00\x00\x07\x00\x01\x01";
        assert_eq!(END_TXN.frame(5, &body), expected);
        let mut body = Body::default();
        body.compact_texts(&["id"]).no_tags();
        let expected = b"\x00\x00\x00\x14\x00\x41\x00\x00\x00\x00\x00\x05\x00\x04weir\x00\x02\x03id\x00";
        assert_eq!(DESCRIBE_TRANSACTIONS.frame(5, &body), expected);
    }

    #[test]
    fn answers_that_are_cut_or_garbled_are_refused() {
        // Goal: whatever a broker answers, reading it ends, and without making room for what is not there.
        let frame = b"\x00\x00\x00\x05\x00\x03\x03ab\x03cd";
        let texts = |bytes: &[u8]| DESCRIBE_TRANSACTIONS.answer(5, bytes).and_then(|mut a| a.compact_items(Answer::compact_text));
        assert_eq!(texts(frame), Ok(vec!["ab".to_owned(), "cd".to_owned()]));
        for end in 0..frame.len() {
            assert_eq!(texts(&frame[..end]), Err(Garbled));
        }
        assert_eq!(texts(b"\x00\x00\x00\x05\x00\xff\xff\xff\xff\x0f"), Err(Garbled));
        assert_eq!(texts(b"\x00\x00\x00\x06\x00\x01").unwrap_err(), Garbled);
    }
}
