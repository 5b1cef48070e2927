//! What is wrong with a value, in the words of who wrote it: of texts, tables and whole numbers, not of the types that they are read into.

use std::borrow::Cow;

/// What a value of TOML cannot be read as, and under which key, where that is known.
pub fn of_toml(error: &toml::de::Error) -> String {
    // Only the whole text has the key, in a line of its own.
    match error.to_string().trim_end().rsplit_once("\nin ") {
        Some((what, key)) => format!("{} (in {key})", plain(what)),
        None => plain(error.message()),
    }
}

/// The same of JSON; the line and column are in the message.
pub fn of_json(error: &serde_json::Error) -> String {
    plain(&error.to_string())
}

/// What serde says of a value of another type, or out of the range of its type, said plainly. Anything else is left as it is.
fn plain(message: &str) -> String {
    let mismatch = ["invalid type: ", "invalid value: "].iter().find_map(|begin| message.strip_prefix(begin));
    // What is given may be a text with any words.
    let Some((unexpected, expected)) = mismatch.and_then(|mismatch| mismatch.rsplit_once(", expected ")) else {
        return message.to_owned();
    };
    let (expected, place) = expected.find(" at line ").map_or((expected, ""), |at| expected.split_at(at));
    let wanted = wanted(expected);
    match given(unexpected) {
        Some(given) => format!("expected {wanted}, but {given} is given{place}"),
        None => format!("expected {wanted}{place}"),
    }
}

/// What stands in the place of something else; none if its words would help nobody.
fn given(unexpected: &str) -> Option<Cow<'_, str>> {
    let (kind, value) = unexpected.split_once(['`', '"']).unwrap_or((unexpected, ""));
    Some(match kind.trim_end() {
        "sequence" => "a list".into(),
        "map" => "a table".into(),
        "null" | "unit value" => "nothing".into(),
        "string" => format!("the text \"{value}").into(),
        "integer" | "floating point" => format!("the number {}", value.trim_end_matches('`')).into(),
        "boolean" => value.trim_end_matches('`').into(),
        _ => return None,
    })
}

/// What is to stand there, with an example. Types that say it themselves are left to do so.
fn wanted(expected: &str) -> Cow<'_, str> {
    // TOML has no greater ones.
    const MOST: u64 = i64::MAX as u64;
    let whole = |least: u64, most: u64| format!("a whole number from {least} to {most}, like 4").into();
    match expected {
        "u8" => whole(0, u8::MAX.into()),
        "u16" => whole(0, u16::MAX.into()),
        "u32" => whole(0, u32::MAX.into()),
        "u64" | "usize" => whole(0, MOST),
        "a nonzero u16" => whole(1, u16::MAX.into()),
        "a nonzero u32" => whole(1, u32::MAX.into()),
        "a nonzero u64" | "a nonzero usize" => whole(1, MOST),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number, like 4".into(),
        "f32" | "f64" => "a number, like 0.5".into(),
        "a boolean" => "true or false".into(),
        "a string" | "string only" | "string or map" => "a text, like \"name\"".into(),
        "a character" => "a text of one character, like \";\"".into(),
        "a sequence" => "a list, like [\"a\", \"b\"]".into(),
        "a map" => "a table, like { key = \"value\" }".into(),
        "any valid TOML value" => "a text, a number, true or false, a list or a table".into(),
        other if other.starts_with("struct ") => "a table, like { key = \"value\" }".into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::plain;

    /// Types have plain names, whatever the words of a text that is given; what is no mismatch stays as it is.
    #[test]
    fn mismatches_are_said_plainly() {
        for (message, says) in [
            (
                "invalid type: string \"a, expected u8\", expected u16",
                "expected a whole number from 0 to 65535, like 4, but the text \"a, expected u8\" is given",
            ),
            (
                "invalid value: integer `-1`, expected a nonzero u16 at line 1 column 9",
                "expected a whole number from 1 to 65535, like 4, but the number -1 is given at line 1 column 9",
            ),
            ("invalid type: floating point `0.5`, expected a boolean", "expected true or false, but the number 0.5 is given"),
            ("invalid type: boolean `true`, expected a duration", "expected a duration, but true is given"),
            ("invalid type: sequence, expected struct Limits", "expected a table, like { key = \"value\" }, but a list is given"),
            ("invalid type: unit variant, expected string only", "expected a text, like \"name\""),
            ("unknown field `a`, expected `b`", "unknown field `a`, expected `b`"),
        ] {
            assert_eq!(plain(message), says);
        }
    }
}
