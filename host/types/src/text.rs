//! Texts of others, where people read them.

use std::borrow::Cow;

/// A text with all written out that would act on what shows it, like `\u{1b}`: it moves no cursor, changes no colour, and reads in the order in which it is
/// written. Line ends and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if acts(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Whether a character acts on what shows it: controls on terminals, and those that turn the direction of text on whoever reads it.
fn acts(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || c.is_control() && c != '\n' && c != '\t'
}

#[cfg(test)]
mod tests {
    use super::shown;

    /// Controls and turns of direction are written out, the first and the last of each; all else stays, in whatever script.
    #[test]
    fn texts_do_not_act() {
        assert_eq!(shown("a\0b\x1b[2J\r\x7f\u{80}\u{9b}1m\x07"), "a\\u{0}b\\u{1b}[2J\\r\\u{7f}\\u{80}\\u{9b}1m\\u{7}");
        assert_eq!(shown("\u{202a}\u{202e}\u{2066}\u{2069}"), "\\u{202a}\\u{202e}\\u{2066}\\u{2069}");
        let harmless = "größer – 𝒳 שלום\u{2029}\u{2065}\u{206a}\ta \\ b\n";
        assert_eq!(shown(harmless), harmless);
    }
}
