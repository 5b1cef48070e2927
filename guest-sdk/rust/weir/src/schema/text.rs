//! Shapes as text, and back.
//!
//! ```text
//! shape   = "()" | "bool" | "u8" … "i128" | "f32" | "f64" | "char" | "string" | "bytes"
//!         | "option<" shape ">" | "list<" shape ">" | "map<" shape ", " shape ">"
//!         | "tuple<" shape [" * " count] {", " shape [" * " count]} ">"
//!         | "{" [name ["?"] ": " shape {", " …}] "}"
//!         | "enum{" [name [": " shape] {", " …}] "}"
//!         | "opaque<" name ">"
//! name    = letters, digits and "_", or such and other characters in quotes, those as \u{…}
//! ```

use std::fmt;
use std::str::FromStr;

use super::{DEPTH_MAX, Field, Plain, Shape};

/// So many values a tuple may have.
const TUPLE_MAX: usize = 1 << 16;

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Plain(plain) => f.write_str(plain.name()),
            Self::Option(inner) => write!(f, "option<{inner}>"),
            Self::List(inner) => write!(f, "list<{inner}>"),
            Self::Map(parts) => write!(f, "map<{}, {}>", parts[0], parts[1]),
            Self::Tuple(parts) => {
                f.write_str("tuple<")?;
                for (i, run) in parts.chunk_by(PartialEq::eq).enumerate() {
                    write!(f, "{}{}", separator(i), run[0])?;
                    if run.len() > 1 {
                        write!(f, " * {}", run.len())?;
                    }
                }
                f.write_str(">")
            }
            Self::Struct(fields) => {
                f.write_str("{")?;
                for (i, field) in fields.iter().enumerate() {
                    let mark = if field.optional { "?" } else { "" };
                    write!(f, "{}{}{mark}: {}", separator(i), Name(&field.name), field.shape)?;
                }
                f.write_str("}")
            }
            Self::Enum(variants) => {
                f.write_str("enum{")?;
                for (i, (name, content)) in variants.iter().enumerate() {
                    write!(f, "{}{}", separator(i), Name(name))?;
                    if *content != Self::Plain(Plain::Unit) {
                        write!(f, ": {content}")?;
                    }
                }
                f.write_str("}")
            }
            Self::Opaque(name) => write!(f, "opaque<{}>", Name(name)),
        }
    }
}

fn separator(place: usize) -> &'static str {
    if place == 0 { "" } else { ", " }
}

/// A name, in quotes if it has to be.
struct Name<'a>(&'a str);

fn is_bare(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.chars().all(is_bare) {
            return f.write_str(self.0);
        }
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                c if is_bare(c) || matches!(c, ' ' | '-' | '.' | ':') => write!(f, "{c}")?,
                c => write!(f, "\\u{{{:x}}}", u32::from(c))?,
            }
        }
        f.write_str("\"")
    }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parser = Parser { rest: text, depth: 0 };
        let shape = parser.shape();
        match shape {
            Some(shape) if parser.rest.is_empty() => Ok(shape),
            _ => Err(format!("the schema of a state ends with what is none: `{}`", parser.rest)),
        }
    }
}

/// What of the text is still to be parsed.
struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn eat(&mut self, token: &str) -> Option<()> {
        self.rest = self.rest.strip_prefix(token)?;
        Some(())
    }

    fn word(&mut self) -> &str {
        let end = self.rest.find(|c| !is_bare(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn name(&mut self) -> Option<String> {
        if self.eat("\"").is_none() {
            return Some(self.word().to_owned()).filter(|word| !word.is_empty());
        }
        let (quoted, rest) = self.rest.split_once('"')?;
        self.rest = rest;
        let mut parts = quoted.split("\\u{");
        let mut name = parts.next()?.to_owned();
        for part in parts {
            let (code, tail) = part.split_once('}')?;
            name.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
            name.push_str(tail);
        }
        Some(name)
    }

    /// Parts up to `end`, with commas between them.
    fn parts(&mut self, end: &str, mut part: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        if self.eat(end).is_some() {
            return Some(());
        }
        loop {
            part(self)?;
            if self.eat(end).is_some() {
                return Some(());
            }
            self.eat(", ")?;
        }
    }

    fn shape(&mut self) -> Option<Shape> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return None;
        }
        let shape = self.nested();
        self.depth -= 1;
        shape
    }

    fn nested(&mut self) -> Option<Shape> {
        if self.eat("{").is_some() {
            let mut fields = vec![];
            self.parts("}", |parser| {
                let name = parser.name()?;
                let optional = parser.eat("?").is_some();
                parser.eat(": ")?;
                fields.push(Field { name, aliases: vec![], optional, shape: parser.shape()? });
                Some(())
            })?;
            return Some(Shape::Struct(fields));
        }
        if self.eat("()").is_some() {
            return Some(Shape::Plain(Plain::Unit));
        }
        let word = self.word().to_owned();
        if let Some(plain) = Plain::ALL.iter().find(|plain| plain.name() == word) {
            return Some(Shape::Plain(*plain));
        }
        if word == "enum" {
            self.eat("{")?;
            let mut variants = vec![];
            self.parts("}", |parser| {
                let name = parser.name()?;
                let content = if parser.eat(": ").is_some() { parser.shape()? } else { Shape::Plain(Plain::Unit) };
                variants.push((name, content));
                Some(())
            })?;
            return Some(Shape::Enum(variants));
        }
        self.eat("<")?;
        if word == "tuple" {
            let mut parts = vec![];
            self.parts(">", |parser| {
                let part = parser.shape()?;
                let count = if parser.eat(" * ").is_some() { parser.word().parse().ok()? } else { 1 };
                if parts.len() + count > TUPLE_MAX {
                    return None;
                }
                parts.resize(parts.len() + count, part);
                Some(())
            })?;
            return Some(Shape::Tuple(parts));
        }
        let shape = match word.as_str() {
            "option" => Shape::Option(self.shape()?.into()),
            "list" => Shape::List(self.shape()?.into()),
            "map" => {
                let key = self.shape()?;
                self.eat(", ")?;
                Shape::Map([key, self.shape()?].into())
            }
            "opaque" => Shape::Opaque(self.name()?),
            _ => return None,
        };
        self.eat(">")?;
        Some(shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for text in [
            "()",
            "u64",
            "{}",
            "enum{}",
            "{count: u64, last?: option<i64>, names: list<string>}",
            "map<string, tuple<bool, u8 * 32, f64>>",
            "tuple<>",
            "enum{Idle, Busy: {since: i64}, Done: tuple<u8 * 2>, \"it\\u{27}s odd\": bytes}",
            "opaque<\"shop::Cart\\u{3c}u8\\u{3e}\">",
        ] {
            let shape: Shape = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(shape.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_shape() {
        let deep = "list<".repeat(DEPTH_MAX) + "u8" + &">".repeat(DEPTH_MAX);
        for text in ["", "u65", "{a u64}", "{a: u64", "list<u8", "list<u8>>", "tuple<u8 * 99999999>", "\"a", "unknown", &deep] {
            text.parse::<Shape>().expect_err(text);
        }
    }
}
