//! What the command prints: data on standard output, talk on standard error.
//!
//! A reader that goes away (`weir explain … | head -1`) is no error, and what comes from guests, rows and servers moves no terminal: where a
//! person reads it, control characters and those that turn the direction of text are shown instead of sent.

use std::borrow::Cow;
use std::io::{self, ErrorKind, IsTerminal, Write};

use indicatif::{DecimalBytes, ProgressStyle};
use weir_types::text;

use crate::exit::Failure;

/// What went wrong, where the system says only why.
pub const UNWRITABLE: &str = "the standard output cannot be written";

/// Prints data. If its reader has gone there is nobody to miss it.
///
/// # Errors
/// If standard output cannot be written for another reason.
pub fn print(text: &str) -> io::Result<()> {
    match try_print(text) {
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Prints data, and says if its reader has gone ([`ErrorKind::BrokenPipe`]).
///
/// # Errors
/// If standard output cannot be written.
pub fn try_print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let is_terminal = stdout.is_terminal();
    let written = stdout.write_all(shown(text, is_terminal).as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|e| io::Error::new(e.kind(), format!("{UNWRITABLE}: {e}")))
}

/// Prints data for programs.
///
/// # Errors
/// If standard output cannot be written.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    Ok(print(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

/// Rows as lines, columns as wide as they have to be. A row that is shorter than others has its last cell across.
pub fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| column + 1 < row.len()).map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            // By hand, since a width in a format string is at most 65,535.
            let spaces = width(column).saturating_sub(cell.chars().count()) + 2;
            line += cell;
            line += &" ".repeat(spaces);
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// A time without its fractions: to the second is enough for people.
pub fn to_the_second(time: &str) -> String {
    format!("{}Z", time.split('.').next().unwrap_or_default().trim_end_matches('Z'))
}

/// How much is done of what is to be done, bytes: `1.20 GB of 3.40 GB`.
pub fn far(done: u64, all: u64) -> String {
    format!("{} of {}", DecimalBytes(done), DecimalBytes(all))
}

/// How a line is drawn that shows how far something is.
pub fn spinner(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// Says something. Whether somebody listens does not matter.
pub fn tell(text: &str) {
    let mut stderr = io::stderr().lock();
    let is_terminal = stderr.is_terminal();
    // One write, so that lines of several threads do not mix.
    let _ = stderr.write_all(format!("{}\n", shown(text, is_terminal)).as_bytes());
}

/// Text for one line of a terminal: it moves no cursor and ends no line.
pub fn in_line(text: &str) -> String {
    shown(text, true).replace(['\n', '\t'], " ")
}

/// Text as it is printed: on a terminal, only line ends and tabs are left of what moves its cursor.
pub fn shown(text: &str, is_terminal: bool) -> Cow<'_, str> {
    if is_terminal { text::shown(text) } else { Cow::Borrowed(text) }
}

#[cfg(test)]
mod tests {
    use super::{far, in_line, shown, table};

    /// On a terminal, sequences that clear it, colour it or go back are shown; a pipe gets what there is.
    #[test]
    fn terminals_are_not_moved() {
        let text = "a\x1b[2J\r\u{9b}1m\x07\tb\n";
        assert_eq!(shown(text, false), text);
        assert_eq!(shown(text, true), "a\\u{1b}[2J\\r\\u{9b}1m\\u{7}\tb\n");
        assert_eq!(shown("größer\n", true), "größer\n");
        assert_eq!(shown("a\u{202e}b", true), "a\\u{202e}b");
        assert_eq!(in_line("a\x07\nb"), "a\\u{7} b");
    }

    /// Bytes are said in short, and each with its unit.
    #[test]
    fn bytes_are_short() {
        assert_eq!(far(17, 1_234_000), "17 B of 1.23 MB");
        assert_eq!(far(1_200_000_000, 3_400_000_000), "1.20 GB of 3.40 GB");
    }

    /// Columns are as wide as their longest cell, also where that is wider than a format string can say.
    #[test]
    fn long_cells_widen_their_columns() {
        let long = "ß".repeat(70_000);
        let rows = [["JOB", "NAME", "STATE"], ["j", long.as_str(), "running"]].map(|row| row.map(str::to_owned).to_vec());
        let expected = format!("JOB  NAME{}  STATE\nj    {long}  running\n", " ".repeat(69_996));
        // Without the lines themselves: they are too long to be read.
        assert!(table(&rows) == expected, "the table has other lines");
    }
}
