//! Durations and sizes as users write them: `"250ms"`, `"10s"`, `"5m"`; `"64KB"`, `"512MB"`, `"2GB"`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration in a spec: a number with a unit (`ms`, `s`, `m`, `h`, `d`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecDuration(pub Duration);

/// A size in a spec: a number of bytes, or a number with a unit (`KB`, `MB`, `GB`; powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecSize(pub u64);

/// Splits `"250ms"` into 250 and `"ms"`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    Some((text[..digits].parse().ok()?, text[digits..].trim()))
}

impl std::str::FromStr for SpecDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let millis = number_and_unit(text).and_then(|(n, unit)| {
            let scale = match unit {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return None,
            };
            n.checked_mul(scale)
        });
        millis
            .map(|ms| Self(Duration::from_millis(ms)))
            .ok_or_else(|| format!("\"{text}\" is no duration; write a number and ms, s, m, h or d, like \"10s\""))
    }
}

impl std::str::FromStr for SpecSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = number_and_unit(text).and_then(|(n, unit)| {
            let scale = match unit {
                "" | "B" => 1,
                "KB" | "KiB" => 1 << 10,
                "MB" | "MiB" => 1 << 20,
                "GB" | "GiB" => 1 << 30,
                _ => return None,
            };
            n.checked_mul(scale)
        });
        bytes.map(Self).ok_or_else(|| format!("\"{text}\" is no size; write a number and KB, MB or GB, like \"64MB\""))
    }
}

impl<'de> Deserialize<'de> for SpecDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(DurationVisitor)
    }
}

struct DurationVisitor;

impl Visitor<'_> for DurationVisitor {
    type Value = SpecDuration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, like \"10s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SpecDuration, E> {
        text.parse().map_err(E::custom)
    }
}

impl Serialize for SpecDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}ms", self.0.as_millis()))
    }
}

impl<'de> Deserialize<'de> for SpecSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = SpecSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size, like \"64MB\" or a number of bytes")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<SpecSize, E> {
        Ok(SpecSize(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<SpecSize, E> {
        u64::try_from(bytes).map(SpecSize).map_err(|_| E::invalid_value(Unexpected::Signed(bytes), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<SpecSize, E> {
        text.parse().map_err(E::custom)
    }
}

impl Serialize for SpecSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Units scale; nonsense is refused with a hint.
    #[test]
    fn parses_units() {
        assert_eq!("250ms".parse(), Ok(SpecDuration(Duration::from_millis(250))));
        assert_eq!("2h".parse(), Ok(SpecDuration(Duration::from_secs(7200))));
        assert_eq!("64MB".parse(), Ok(SpecSize(64 << 20)));
        assert_eq!("17".parse(), Ok(SpecSize(17)));
        for bad in ["", "s", "10", "10 parsecs", "-1s", "99999999999999999999s"] {
            assert!(bad.parse::<SpecDuration>().is_err(), "{bad}");
        }
        assert!("64XB".parse::<SpecSize>().is_err());
    }
}
