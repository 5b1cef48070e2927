//! Reads JSON objects into columns: a parser that knows what it looks for.
//!
//! A row is one object. Only the values of wanted columns are made; the others are checked to be JSON and passed over. As the next
//! wanted key is nearly always the one that came next in the row before, a key costs one comparison.
//!
//! JSON | column
//! -----|-------
//! number | numbers in range, without a fraction for integers; an instant in ms
//! string | text; an instant as RFC 3339; bytes in base64
//! `true`, `false` | booleans
//! array, object | lists, records
//! `null`, key missing | no value, if the column may lack one

use std::str::FromStr;

use arrow_cast::base64::{BASE64_STANDARD, Engine};

use super::columns::{Column, Reason, Rows, Values, expected, float};
use super::time;

/// Arrays and objects may be this deep, so that hostile input cannot overflow the stack.
const DEPTH_MAX: usize = 64;

type Parsed<T> = Result<T, Reason>;

/// Reads the object that `text` is into a row. Keys that are missing leave their columns short.
pub(crate) fn read_object(text: &str, rows: &mut Rows) -> Parsed<()> {
    let mut cursor = Cursor { text, at: 0 };
    cursor.skip_space();
    let length = rows.len();
    cursor.object(&mut rows.columns, length, 0)?;
    cursor.skip_space();
    if cursor.at < text.len() { Err(cursor.unexpected("the end of the line")) } else { Ok(()) }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline(always)]
    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    #[inline(always)]
    fn eat(&mut self, byte: u8) -> bool {
        let eaten = self.peek() == Some(byte);
        self.at += usize::from(eaten);
        eaten
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let eaten = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if eaten { word.len() } else { 0 };
        eaten
    }

    #[cold]
    fn unexpected(&self, what: &str) -> Reason {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(c) => format!("'{c}'"),
            None => "the end".into(),
        };
        Reason(format!("expected {what}, found {found} at byte {} of the line", self.at + 1))
    }

    #[inline(always)]
    fn require(&mut self, byte: u8, what: &str) -> Parsed<()> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected(what)) }
    }

    fn object(&mut self, columns: &mut [Column], rows: usize, depth: usize) -> Parsed<()> {
        self.require(b'{', "an object")?;
        // The column that follows the one that was found last.
        let mut next = 0;
        self.members(|cursor, key| {
            let found = (next..columns.len()).chain(0..next).find(|&c| columns[c].name().as_bytes() == key.as_bytes());
            let Some(index) = found else { return cursor.skip_value(depth + 1) };
            next = index + 1;
            // Of a key that comes twice, the last value counts.
            if columns[index].len() > rows {
                columns[index].truncate(rows);
            }
            cursor
                .value(&mut columns[index], depth + 1)
                .map_err(|Reason(why)| Reason(format!("\"{}\": {why}", columns[index].name())))
        })
    }

    /// Calls `each` with the cursor before each value of an object whose `{` was read.
    #[inline(always)]
    fn members(&mut self, mut each: impl FnMut(&mut Self, &str) -> Parsed<()>) -> Parsed<()> {
        self.skip_space();
        if self.eat(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            self.require(b'"', "a key")?;
            let raw = self.raw_string()?;
            self.skip_space();
            self.require(b':', "':'")?;
            self.skip_space();
            if raw.escaped {
                let mut key = Vec::new();
                unescape(raw.text, &mut key)?;
                each(self, &String::from_utf8_lossy(&key))?;
            } else {
                each(self, raw.text)?;
            }
            self.skip_space();
            if !self.eat(b',') {
                return self.require(b'}', "',' or '}'");
            }
        }
    }

    /// Calls `each` with the cursor before each item of an array whose `[` was read.
    fn items(&mut self, mut each: impl FnMut(&mut Self) -> Parsed<()>) -> Parsed<()> {
        self.skip_space();
        if self.eat(b']') {
            return Ok(());
        }
        loop {
            self.skip_space();
            each(self)?;
            self.skip_space();
            if !self.eat(b',') {
                return self.require(b']', "',' or ']'");
            }
        }
    }

    /// Reads a value into a column.
    #[inline(always)]
    fn value(&mut self, column: &mut Column, depth: usize) -> Parsed<()> {
        if self.peek() == Some(b'n') && self.eat_word("null") {
            return column.push_null();
        }
        let length = column.len();
        match &mut column.values {
            Values::Int8(values) => values.push(self.integer("an integer from -128 to 127")?),
            Values::Int16(values) => values.push(self.integer("an integer of 16 bits")?),
            Values::Int32(values) => values.push(self.integer("an integer of 32 bits")?),
            Values::Int64(values) => values.push(self.integer("an integer of 64 bits")?),
            Values::UInt8(values) => values.push(self.integer("an integer from 0 to 255")?),
            Values::UInt16(values) => values.push(self.integer("an integer of 16 bits from 0 on")?),
            Values::UInt32(values) => values.push(self.integer("an integer of 32 bits from 0 on")?),
            Values::UInt64(values) => values.push(self.integer("an integer of 64 bits from 0 on")?),
            Values::Float32(values) => values.push(self.float()?),
            Values::Float64(values) => values.push(self.float()?),
            Values::Text(bytes) => {
                self.string("text", &mut bytes.data)?;
                bytes.end_value();
            }
            Values::Time(values) => values.push(self.time()?),
            Values::Boolean(values) => values.append(self.boolean()?),
            Values::Binary(bytes) => {
                let mut text = Vec::new();
                self.string("bytes in base64", &mut text)?;
                BASE64_STANDARD
                    .decode_vec(&text, &mut bytes.data)
                    .map_err(|_| expected("bytes in base64", &String::from_utf8_lossy(&text)))?;
                bytes.end_value();
            }
            Values::List { offsets, item } => self.list(offsets, item, depth)?,
            Values::Record { columns, .. } => self.record(columns, length, depth)?,
        }
        column.set();
        Ok(())
    }

    fn list(&mut self, offsets: &mut Vec<i32>, item: &mut Column, depth: usize) -> Parsed<()> {
        check_depth(depth)?;
        self.require(b'[', "an array")?;
        self.items(|cursor| cursor.value(item, depth + 1))?;
        offsets.push(i32::try_from(item.len()).map_err(|_| Reason("there are too many items".into()))?);
        Ok(())
    }

    fn record(&mut self, columns: &mut [Column], rows: usize, depth: usize) -> Parsed<()> {
        check_depth(depth)?;
        self.object(columns, rows, depth)?;
        for column in columns.iter_mut().filter(|c| c.len() == rows) {
            column.push_null().map_err(|_| Reason(format!("\"{}\" is missing", column.name())))?;
        }
        Ok(())
    }

    fn boolean(&mut self) -> Parsed<bool> {
        match self.peek() {
            Some(b't') if self.eat_word("true") => Ok(true),
            Some(b'f') if self.eat_word("false") => Ok(false),
            _ => Err(self.unexpected("true or false")),
        }
    }

    fn time(&mut self) -> Parsed<i64> {
        const WHAT: &str = "an instant like \"2013-01-01T06:00:00Z\" or milliseconds";
        if !self.eat(b'"') {
            return self.integer(WHAT);
        }
        let raw = self.raw_string()?;
        time::parse(raw.text.as_bytes()).or_else(|| raw.text.parse().ok()).ok_or_else(|| expected(WHAT, raw.text))
    }

    /// An integer in the range of `T`.
    #[inline(always)]
    fn integer<T: TryFrom<i128>>(&mut self, what: &str) -> Parsed<T> {
        let start = self.at;
        let negative = self.eat(b'-');
        let first = self.at;
        let mut value = 0_u64;
        while let Some(digit) = self.peek().map(|b| b.wrapping_sub(b'0')).filter(|d| *d <= 9) {
            // Beyond 19 digits the value may wrap; such numbers are read again below.
            value = value.wrapping_mul(10).wrapping_add(u64::from(digit));
            self.at += 1;
        }
        let digits = self.at - first;
        let fraction = matches!(self.peek(), Some(b'.' | b'e' | b'E'));
        let leading_zero = digits > 1 && self.text.as_bytes()[first] == b'0';
        if digits == 0 || fraction || leading_zero {
            self.at = start;
            return Err(self.mismatch(what));
        }
        let value = if digits <= 19 { i128::from(value) } else { self.text[first..self.at].parse().unwrap_or(i128::MAX) };
        T::try_from(if negative { -value } else { value }).map_err(|_| expected(what, &self.text[start..self.at]))
    }

    /// A number.
    fn float<T: FromStr + Into<f64> + Copy>(&mut self) -> Parsed<T> {
        let start = self.at;
        if !self.skip_number() {
            self.at = start;
            return Err(self.mismatch("a number"));
        }
        float(&self.text[start..self.at])
    }

    /// The reason that the value at the cursor is not `what`: shows the value, if it is one.
    #[cold]
    fn mismatch(&mut self, what: &str) -> Reason {
        let start = self.at;
        match self.skip_value(0) {
            Ok(()) => expected(what, &self.text[start..self.at]),
            Err(reason) => reason,
        }
    }

    /// Appends a string's text.
    #[inline(always)]
    fn string(&mut self, what: &str, out: &mut Vec<u8>) -> Parsed<()> {
        if !self.eat(b'"') {
            return Err(self.mismatch(what));
        }
        let raw = self.raw_string()?;
        if raw.escaped {
            return unescape(raw.text, out);
        }
        out.extend_from_slice(raw.text.as_bytes());
        Ok(())
    }

    /// Passes over the rest of a string whose opening quote was read.
    #[inline(always)]
    fn raw_string(&mut self) -> Parsed<Raw<'a>> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            self.at += plain_length(&bytes[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Raw { text: &self.text[start..self.at - 1], escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    // What is escaped is ASCII, or it will be refused; stay on a character's first byte.
                    self.at += if bytes.get(self.at + 1).is_some_and(u8::is_ascii) { 2 } else { 1 };
                }
                _ => return Err(self.unexpected("the rest of a string, in which control characters are escaped")),
            }
        }
    }

    /// Passes over a number; false if there is none.
    fn skip_number(&mut self) -> bool {
        let bytes = self.text.as_bytes();
        let digits = |at: usize| bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
        self.eat(b'-');
        let integer = digits(self.at);
        if integer == 0 || integer > 1 && bytes[self.at] == b'0' {
            return false;
        }
        self.at += integer;
        if self.eat(b'.') {
            let fraction = digits(self.at);
            self.at += fraction;
            if fraction == 0 {
                return false;
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            let exponent = digits(self.at);
            self.at += exponent;
            return exponent > 0;
        }
        true
    }

    /// Passes over a value, and checks that it is one.
    fn skip_value(&mut self, depth: usize) -> Parsed<()> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                let raw = self.raw_string()?;
                if raw.escaped { unescape(raw.text, &mut Vec::new()) } else { Ok(()) }
            }
            Some(b'-' | b'0'..=b'9') => {
                if self.skip_number() {
                    Ok(())
                } else {
                    Err(self.unexpected("the rest of a number"))
                }
            }
            Some(b'{') => {
                check_depth(depth)?;
                self.at += 1;
                self.members(|cursor, _| cursor.skip_value(depth + 1))
            }
            Some(b'[') => {
                check_depth(depth)?;
                self.at += 1;
                self.items(|cursor| cursor.skip_value(depth + 1))
            }
            _ if self.eat_word("true") || self.eat_word("false") || self.eat_word("null") => Ok(()),
            _ => Err(self.unexpected("a value")),
        }
    }
}

/// A string as it stands in the input.
struct Raw<'a> {
    text: &'a str,
    escaped: bool,
}

fn check_depth(depth: usize) -> Parsed<()> {
    if depth > DEPTH_MAX { Err(Reason(format!("arrays and objects are nested more than {DEPTH_MAX} deep"))) } else { Ok(()) }
}

/// How many bytes there are before a quote, a backslash or a control character; 8 at a time.
#[inline(always)]
fn plain_length(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let mut at = 0;
    while let Some(word) = bytes.get(at..at + 8) {
        let word = u64::from_le_bytes(word.try_into().expect("8 bytes are 8 bytes"));
        // The high bit of a byte tells whether it is zero; a borrow can only spoil bytes behind the first hit.
        let is_zero = |w: u64| w.wrapping_sub(ONES) & !w & HIGHS;
        let quote = is_zero(word ^ (ONES * u64::from(b'"')));
        let backslash = is_zero(word ^ (ONES * u64::from(b'\\')));
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let hits = quote | backslash | control;
        if hits != 0 {
            return at + hits.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|&&b| b != b'"' && b != b'\\' && b >= 0x20).count()
}

/// Appends a string's text to `out`, without its escapes.
fn unescape(raw: &str, out: &mut Vec<u8>) -> Parsed<()> {
    let bad = |at: usize| Reason(format!("the string \"{raw}\" has a wrong escape at byte {}", at + 1));
    let bytes = raw.as_bytes();
    let unit = |at: usize| {
        let digits = bytes.get(at..at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let mut at = 0;
    while at < bytes.len() {
        let plain = memchr::memchr(b'\\', &bytes[at..]).unwrap_or(bytes.len() - at);
        out.extend_from_slice(&bytes[at..at + plain]);
        at += plain;
        if at == bytes.len() {
            break;
        }
        let escape = at;
        let character = match bytes.get(at + 1) {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(*c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let mut code = unit(at + 2).ok_or_else(|| bad(escape))?;
                at += 4;
                // A character beyond the first plane is a pair of units, each in an escape of its own.
                if (0xD800..0xDC00).contains(&code) {
                    let low = bytes.get(at + 2..at + 4).filter(|s| s == b"\\u").and_then(|_| unit(at + 4));
                    let low = low.filter(|low| (0xDC00..0xE000).contains(low)).ok_or_else(|| bad(escape))?;
                    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                    at += 6;
                }
                char::from_u32(code).ok_or_else(|| bad(escape))?
            }
            _ => return Err(bad(escape)),
        };
        at += 2;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(())
}
