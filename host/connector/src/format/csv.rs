//! Reads CSV records into columns.
//!
//! A record is a line of fields with a delimiter between them. A field in double quotes may hold delimiters, line ends and (doubled)
//! quotes. Of the fields, only those of wanted columns are looked at. Where one of several lines does not end with its closing quote, a stray quote
//! has swallowed the lines up to the next quote: of such a record, only the first line is taken for malformed.

use std::borrow::Cow;

use super::columns::{Reason, Rows};
use crate::Error;

/// How CSV looks.
#[derive(Clone, Debug)]
pub(crate) struct Dialect {
    /// the byte between fields
    pub delimiter: u8,
    /// whether the first record names the columns
    pub header: bool,
    /// the names of the columns, where there is no header
    pub columns: Vec<String>,
    /// unquoted fields that are no value; none given = the empty one, but in text columns that need a value
    pub null_values: Option<Vec<String>>,
}

/// How far the end of a record has been looked for.
#[derive(Clone, Copy, Debug, Default)]
struct Search {
    /// where the field at hand begins
    field: usize,
    /// where to go on looking
    at: usize,
    within: Within,
    /// whether it began in another record, so that the fields are not all those of this one
    is_taken_over: bool,
    /// whether a field of the first line goes on behind its closing quote
    is_torn: bool,
}

/// What a search has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Found {
    /// a record, of so many bytes
    Record(usize),
    /// a record of several lines with a field that goes on behind its closing quote, as is known from so many bytes
    Torn(usize),
    /// no end yet
    Nothing,
}

impl Found {
    /// How many bytes it is known from; none if there is nothing.
    pub fn length(self) -> Option<usize> {
        match self {
            Self::Record(length) | Self::Torn(length) => Some(length),
            Self::Nothing => None,
        }
    }
}

/// What a search has met of the field at hand.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Within {
    /// nothing
    #[default]
    Nothing,
    /// its opening quote, and not the closing one
    Quotes,
    /// its closing quote, or that it has none
    Rest,
}

impl Search {
    /// The same, seen from a later beginning; none if nothing behind that was looked at.
    fn seen_from(self, beginning: usize) -> Option<Self> {
        let at = self.at.checked_sub(beginning).filter(|at| *at > 0)?;
        Some(Self { field: self.field.saturating_sub(beginning), at, ..self })
    }
}

/// A field of a record that was found in the input.
#[derive(Clone, Copy, Debug)]
struct Field {
    from: usize,
    to: usize,
    quoted: bool,
}

/// Reads records.
pub(crate) struct Csv {
    dialect: Dialect,
    awaits_header: bool,
    /// the number of columns that the header has
    width: usize,
    /// the fields of the record at hand; kept for its memory
    fields: Vec<Field>,
    /// for the end of the record at hand: input that comes in many blocks is looked at once
    search: Search,
    /// that of a record that was given up
    given_up: Option<Search>,
    /// for each column of the rows, which field it is
    sources: Vec<usize>,
}

impl Csv {
    /// Where there is no header, `rows` are bound to the dialect's columns; else to those of the header once it is there.
    pub fn new(dialect: Dialect, rows: &Rows) -> Result<Self, Error> {
        let (awaits_header, width) = (dialect.header, dialect.columns.len());
        let (fields, sources) = (Vec::new(), Vec::new());
        let mut csv = Self { dialect, awaits_header, width, fields, search: Search::default(), given_up: None, sources };
        if !awaits_header {
            let names: Vec<_> = csv.dialect.columns.iter().map(|n| Cow::Borrowed(n.as_str())).collect();
            csv.sources = bind(&names, rows).map_err(|Reason(why)| Error::options(format!("the option columns: {why}")))?;
        }
        Ok(csv)
    }

    /// Whether the next record has to be given to [`Self::read_header`].
    pub fn awaits_header(&self) -> bool {
        self.awaits_header
    }

    /// Whether a line without text is a record: the missing value of the only column.
    pub fn has_blank_records(&self) -> bool {
        self.width == 1
    }

    /// Finds the end of the record that `bytes` begins with. If it is not there yet, whoever asks again gives the same bytes, and more. A record that is torn
    /// has to be [given up](Self::give_up). `at_end`: nothing follows `bytes`.
    ///
    /// Behind a record that was given up, each line is the beginning of a record in its turn, and could be quoted as far as that one was. Nevertheless all of it
    /// is looked at once more only: where a line ends within quotes, it is where the search that was given up has been, in the same state, and goes on where that
    /// has ended.
    pub fn next_record(&mut self, bytes: &[u8], at_end: bool) -> Found {
        if self.search.at == 0
            && let Some(given_up) = self.given_up.take()
            && let Some(line) = memchr::memchr(b'\n', &bytes[..given_up.at])
        {
            let found = self.look(&bytes[..=line], false);
            if matches!(found, Found::Record(_)) {
                self.given_up = Some(given_up);
                return found;
            }
            self.search = Search { is_taken_over: true, ..given_up };
            if matches!(found, Found::Torn(_)) {
                return found;
            }
        }
        let is_taken_over = self.search.is_taken_over;
        match self.look(bytes, at_end) {
            // The fields at the beginning are not known yet.
            Found::Record(_) if is_taken_over => self.look(bytes, at_end),
            found => found,
        }
    }

    /// The record at hand is torn, or has no end that is waited for: what it begins with is [passed over](Self::pass), and records are looked for behind that.
    pub fn give_up(&mut self) {
        let search = std::mem::take(&mut self.search);
        self.given_up = (search.at > 0).then_some(search);
    }

    /// So many bytes at the beginning are dealt with.
    pub fn pass(&mut self, length: usize) {
        self.given_up = self.given_up.and_then(|search| search.seen_from(length));
    }

    /// Goes on with the search for the end of a record, and begins anew once that is found.
    fn look(&mut self, bytes: &[u8], at_end: bool) -> Found {
        let mut search = std::mem::take(&mut self.search);
        if search.at == 0 {
            self.fields.clear();
        }
        loop {
            let quoted = bytes.get(search.field) == Some(&b'"');
            if search.within == Within::Nothing && search.field < bytes.len() {
                search.within = if quoted { Within::Quotes } else { Within::Rest };
                search.at += usize::from(quoted);
            }
            if search.within == Within::Quotes {
                let closing = closing_quote(bytes, search.at, at_end);
                if search.is_torn || closing.is_ok_and(|end| self.goes_on(bytes, end)) {
                    if let Some(length) = torn_at(bytes, &search, closing) {
                        // Whoever takes over meets the closing quote itself: whether that tears a record depends on where the record begins.
                        let at = closing.map_or_else(|at| at, |end| end - 1);
                        self.search = Search { at, is_torn: false, ..search };
                        return Found::Torn(length);
                    }
                    search.is_torn = true;
                }
                match closing {
                    Ok(end) => (search.at, search.within) = (end, Within::Rest),
                    Err(at) => {
                        self.search = Search { at, ..search };
                        return Found::Nothing;
                    }
                }
            }
            // In a record of one line, what follows a closing quote up to the delimiter is refused when the field is read.
            match memchr::memchr2(self.dialect.delimiter, b'\n', &bytes[search.at..]) {
                Some(length) if bytes[search.at + length] == self.dialect.delimiter => {
                    let to = search.at + length;
                    self.fields.push(Field { from: search.field, to, quoted });
                    search = Search { field: to + 1, at: to + 1, within: Within::Nothing, ..search };
                }
                Some(length) => {
                    let stop = search.at + length;
                    let to = if stop > search.field && bytes[stop - 1] == b'\r' { stop - 1 } else { stop };
                    self.fields.push(Field { from: search.field, to, quoted });
                    return Found::Record(stop + 1);
                }
                None if at_end => {
                    self.fields.push(Field { from: search.field, to: bytes.len(), quoted });
                    return Found::Record(bytes.len());
                }
                None => {
                    self.search = Search { at: bytes.len(), ..search };
                    return Found::Nothing;
                }
            }
        }
    }

    /// Whether there is more of a field behind its closing quote, which ends at `end`.
    fn goes_on(&self, bytes: &[u8], end: usize) -> bool {
        match bytes.get(end) {
            None | Some(b'\n') => false,
            Some(b'\r') => bytes.get(end + 1) != Some(&b'\n'),
            Some(&byte) => byte != self.dialect.delimiter,
        }
    }

    /// Binds the rows to the columns that the record at hand names.
    pub fn read_header(&mut self, record: &str, rows: &Rows) -> Result<(), Reason> {
        let names = self.fields.iter().map(|&f| text(record, f)).collect::<Result<Vec<_>, _>>()?;
        self.width = names.len();
        self.sources = bind(&names, rows)?;
        self.awaits_header = false;
        Ok(())
    }

    /// Reads the record at hand into a row.
    pub fn read_record(&self, record: &str, rows: &mut Rows) -> Result<(), Reason> {
        for (column, &source) in rows.columns.iter_mut().zip(&self.sources) {
            let Some(&field) = self.fields.get(source) else {
                return Err(Reason(format!(
                    "there are {} fields, and \"{}\" is number {}",
                    self.fields.len(),
                    column.name(),
                    source + 1
                )));
            };
            let value = text(record, field)?;
            let is_null = !field.quoted
                && match &self.dialect.null_values {
                    Some(nulls) => nulls.iter().any(|null| *null == value),
                    None => value.is_empty() && (column.is_nullable() || !column.is_text()),
                };
            let pushed = if is_null { column.push_null() } else { column.push_text(&value) };
            pushed.map_err(|Reason(why)| Reason(format!("\"{}\": {why}", column.name())))?;
        }
        Ok(())
    }
}

/// Where the names of the rows' columns are.
fn bind(names: &[Cow<str>], rows: &Rows) -> Result<Vec<usize>, Reason> {
    let index = |column: &super::columns::Column| {
        names
            .iter()
            .position(|name| name == column.name())
            .ok_or_else(|| Reason(format!("there is no column \"{}\"; there are: {}", column.name(), names.join(", "))))
    };
    rows.columns.iter().map(index).collect()
}

/// The bytes from which it is known that a record is torn: it has a field that goes on behind its closing quote, and one that has a line end in it, be it
/// the same or not. None if the latter is not met up to the end of the field at hand, which is `closing`.
#[cold]
fn torn_at(bytes: &[u8], search: &Search, closing: Result<usize, usize>) -> Option<usize> {
    let (Ok(to) | Err(to)) = closing;
    if search.is_torn {
        // There is no line end before this field.
        memchr::memchr(b'\n', &bytes[search.at..to]).map(|length| search.at + length + 1)
    } else {
        memchr::memchr(b'\n', &bytes[..to]).map(|_| to)
    }
}

/// The index behind the quote that closes a field, looked for from `at` on. If it is not there, or what follows it cannot be told yet, the error says where
/// to go on once there is more.
fn closing_quote(bytes: &[u8], mut at: usize, at_end: bool) -> Result<usize, usize> {
    loop {
        let quote = at + memchr::memchr(b'"', &bytes[at..]).ok_or(bytes.len())?;
        match bytes.get(quote + 1) {
            Some(b'"') => at = quote + 2,
            // It may be the first of two.
            None if !at_end => return Err(quote),
            // It may be half of a line end.
            Some(b'\r') if !at_end && quote + 2 == bytes.len() => return Err(quote),
            Some(_) | None => return Ok(quote + 1),
        }
    }
}

/// A field's text, without its quotes.
fn text(record: &str, field: Field) -> Result<Cow<'_, str>, Reason> {
    let raw = &record[field.from..field.to];
    if !field.quoted {
        return Ok(Cow::Borrowed(raw));
    }
    let inner = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"')).filter(|_| raw.len() >= 2);
    match inner {
        Some(inner) if !inner.contains('"') => Ok(Cow::Borrowed(inner)),
        Some(inner) if inner.replace("\"\"", "").contains('"') => Err(Reason(format!("a quote in {raw} is not doubled"))),
        Some(inner) => Ok(Cow::Owned(inner.replace("\"\"", "\""))),
        None => Err(Reason(format!("a quoted field does not end with its quote: {raw}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_schema::Schema;

    use super::*;

    fn csv() -> Csv {
        let dialect = Dialect { delimiter: b',', header: false, columns: vec!["a".into(), "b".into()], null_values: None };
        Csv::new(dialect, &Rows::new(&Arc::new(Schema::empty())).unwrap()).unwrap()
    }

    /// The fields of the record at hand.
    fn fields<'a>(csv: &Csv, record: &'a str) -> Vec<Cow<'a, str>> {
        csv.fields.iter().map(|&field| text(record, field).unwrap()).collect()
    }

    #[test]
    fn records_that_come_in_blocks_are_looked_at_once() {
        // Goal: where the end of a record is not there yet, the search goes on where it was: what it has been behind could have any end in it by now.
        // Wherever the record is cut, it has its fields.
        for (record, expected) in
            [("1,\"a\"\"\n\"\r\n", ["1", "a\"\n"]), ("\"\",x\r\n", ["", "x"]), ("12,\"\"\"\"\n", ["12", "\""])]
        {
            for cut in 0..record.len() {
                let mut csv = csv();
                assert_eq!(csv.next_record(&record.as_bytes()[..cut], false), Found::Nothing, "{record}, {cut}");
                assert_eq!(csv.next_record(record.as_bytes(), false), Found::Record(record.len()), "{record}, {cut}");
                assert_eq!(fields(&csv, record), expected, "{cut}");
            }
        }
        let mut csv = csv();
        assert_eq!(csv.next_record(b"1,\"ab", false), Found::Nothing);
        assert_eq!(csv.next_record(b"\n\n\n\n\nc\"\n", false), Found::Record(8));
    }

    #[test]
    fn torn_records_are_known_where_they_tear() {
        // Goal: a record is torn as soon as it has a line end in quotes, and a field that goes on behind its closing quote, wherever the input is cut. What is
        // on a single line is not, whatever its quotes, and neither is what ends well.
        for (input, length) in [
            ("1,\"a\n2,\"b", 8),
            ("1,\"a\n2,\"\rb", 8),
            ("1,\"a\r\n\"\"\n2,\" ", 12),
            ("1,\"a\"b,\"c\n", 10),
            ("\"a\"b\"c\",\"\"\"\n", 12),
            ("1,\"a\n\",\"b\"c", 10),
        ] {
            for cut in 0..input.len() {
                let mut csv = csv();
                assert_eq!(csv.next_record(&input.as_bytes()[..cut], false), Found::Nothing, "{input:?}, {cut}");
                assert_eq!(csv.next_record(input.as_bytes(), false), Found::Torn(length), "{input:?}, {cut}");
            }
        }
        for input in ["1,\"a\"b\"c,\"d\",\"e\" \r\n", "1,\"a\n\"\n", "1,\"a\n\"\r\n", "1,\"a\n\",b\n", "1,b\"\n"] {
            assert_eq!(csv().next_record(input.as_bytes(), false), Found::Record(input.len()), "{input:?}");
        }
        assert_eq!(csv().next_record(b"1,\"a\n\"", true), Found::Record(6));
    }

    #[test]
    fn what_is_torn_is_not_looked_through_again() {
        // Goal: each line of a chain of quotes that tears begins a record that is torn, and that is known by the line and by where the chain tears: the
        // lines between them could have any end by now. Behind the line that the chain tears in, records are looked for anew.
        let (chain, tear) = ("a\",\"b\n", "c\"d\n");
        let mut csv = csv();
        for (input, length) in [
            (format!("{}{tear}", chain.repeat(4)), 26),
            (format!("{chain}\"\n\n\n\n\n\n\n\n\n\n\n{tear}"), 20),
            // A line that is torn itself does not make that forgotten.
            (format!("\"\"x,\"\n\"\n\n\n\n\n{tear}"), 6),
            (format!("{chain}\"\"d\n"), 8),
        ] {
            assert_eq!(csv.next_record(input.as_bytes(), false), Found::Torn(length), "{input:?}");
            csv.give_up();
            csv.pass(chain.len());
        }
        assert_eq!(csv.next_record(tear.as_bytes(), false), Found::Record(tear.len()));
    }

    #[test]
    fn what_was_given_up_is_not_looked_through_again() {
        // Goal: each line of a chain of quotes that does not end begins a record that does not either, and that is known by the line alone: the lines
        // behind it could have any end by now. A line that does end is a record; and where the chain ends in what has come meanwhile, so does the record.
        let chain = "a\",\"b\n";
        let mut csv = csv();
        assert_eq!(csv.next_record(chain.repeat(3).as_bytes(), false), Found::Nothing);
        csv.give_up();
        csv.pass(chain.len());
        assert_eq!(csv.next_record(format!("{chain}\"\n\n\n\n\n").as_bytes(), false), Found::Nothing);
        csv.give_up();
        csv.pass(chain.len());
        assert_eq!(csv.next_record(b"a,b,c\n", false), Found::Record(6));
        csv.pass(6);
        assert_eq!(csv.next_record(format!("{chain}c\"\n").as_bytes(), false), Found::Record(9));

        let mut csv = self::csv();
        assert_eq!(csv.next_record(chain.repeat(2).as_bytes(), false), Found::Nothing);
        csv.give_up();
        csv.pass(chain.len());
        let rest = format!("{chain}c\"\n");
        assert_eq!(csv.next_record(rest.as_bytes(), false), Found::Record(rest.len()));
        assert_eq!(fields(&csv, &rest), ["a\"", "b\nc"]);
    }
}
