//! Instants as text: RFC 3339, in UTC when written.

use weir_types::EventTime;

const DAY_MS: i64 = 86_400_000;
/// The instants that RFC 3339 can write: the years 0 to 9999.
const WRITABLE: std::ops::Range<EventTime> = -62_167_219_200_000..253_402_300_800_000;

/// Reads `2013-01-01T06:00:00Z`: with a `T` or a space, with or without fractions of a second (cut to ms), with `Z` or an offset.
pub(crate) fn parse(text: &[u8]) -> Option<EventTime> {
    let (head, mut rest) = text.split_at_checked(19)?;
    let digit = |i: usize| Some(i64::from(head[i].wrapping_sub(b'0'))).filter(|d| *d <= 9);
    let pair = |i: usize| Some(digit(i)? * 10 + digit(i + 1)?);
    let separators = [head[4], head[7], head[13], head[16]] == *b"--::" && matches!(head[10], b'T' | b't' | b' ');
    let (year, month, day) = (pair(0)? * 100 + pair(2)?, pair(5)?, pair(8)?);
    let (hour, minute, second) = (pair(11)?, pair(14)?, pair(17)?);
    // A leap second is read as the second after it.
    if !separators
        || !(1..=12).contains(&month)
        || !(1..=days_in(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        millis = (0..3).fold(0, |ms, i| ms * 10 + if i < digits { i64::from(fraction[i] - b'0') } else { 0 });
        rest = &fraction[digits..];
    }
    let offset_minutes = match rest {
        b"Z" | b"z" => 0,
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] if [h1, h2, m1, m2].iter().all(|b| b.is_ascii_digit()) => {
            let number = |a: u8, b: u8| i64::from(a - b'0') * 10 + i64::from(b - b'0');
            let (hours, minutes) = (number(*h1, *h2), number(*m1, *m2));
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 60 + minutes;
            if *sign == b'-' { -offset } else { offset }
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day);
    Some(days * DAY_MS + ((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + millis)
}

/// Writes an instant, with milliseconds only if it has some. An instant in a year of five digits is written as its number.
pub(crate) fn write(time: EventTime, out: &mut Vec<u8>) {
    if !WRITABLE.contains(&time) {
        out.extend_from_slice(itoa::Buffer::new().format(time).as_bytes());
        return;
    }
    let (year, month, day) = civil_from_days(time.div_euclid(DAY_MS));
    let ms = time.rem_euclid(DAY_MS);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut pair = |i: usize, value: i64| {
        text[i] = b'0' + (value / 10) as u8;
        text[i + 1] = b'0' + (value % 10) as u8;
    };
    pair(0, year / 100);
    pair(2, year % 100);
    pair(5, month);
    pair(8, day);
    pair(11, ms / 3_600_000);
    pair(14, ms / 60_000 % 60);
    pair(17, ms / 1000 % 60);
    pair(20, ms % 1000 / 10);
    text[22] = b'0' + (ms % 10) as u8;
    if ms % 1000 == 0 {
        out.extend_from_slice(&text[..19]);
        out.push(b'Z');
    } else {
        out.extend_from_slice(&text);
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01, in the calendar whose years begin in March (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let (day, month) = (day_of_year - (153 * shifted + 2) / 5 + 1, (shifted + 2) % 12 + 1);
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read() {
        // Goal: what RFC 3339 allows is read to the millisecond, and what it forbids is refused.
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2015-07-15T00:00:00.5Z", Some(1_436_918_400_500)),
            ("2015-07-15 02:00:00.123456789+02:00", Some(1_436_918_400_123)),
            ("2015-07-14T19:00:00-05:00", Some(1_436_918_400_000)),
            ("2000-02-29t00:00:00z", Some(951_782_400_000)),
            ("0000-01-01T00:00:00Z", Some(WRITABLE.start)),
            ("1900-02-29T00:00:00Z", None),
            ("2015-07-15T00:00:00", None),
            ("2015-07-15T24:00:00Z", None),
            ("2015-07-15T00:00:00.Z", None),
            ("2015-07-15T23:59:00+23:59", Some(1_436_918_400_000)),
            ("2015-07-14T00:01:00-23:59", Some(1_436_918_400_000)),
            ("2015-07-15T00:00:00+24:00", None),
            ("2015-07-15T00:00:00-02:60", None),
            ("2015-07-15T00:00:00+99:99", None),
            ("2015-07-15T00:00:00+2:00", None),
            ("2015-07-15", None),
            ("", None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        // Goal: an instant survives the way through text, over four hundred years in odd steps and at the ends.
        let check = |time: EventTime, expected: Option<&str>| {
            let mut out = Vec::new();
            write(time, &mut out);
            assert_eq!(parse(&out), Some(time), "{}", String::from_utf8_lossy(&out));
            assert!(expected.is_none_or(|e| e.as_bytes() == out));
        };
        (-5_000_000_000_000..8_000_000_000_000).step_by(1_234_567_891).for_each(|time| check(time, None));
        check(1_436_918_400_007, Some("2015-07-15T00:00:00.007Z"));
        check(WRITABLE.start, None);
        check(WRITABLE.end - 1, Some("9999-12-31T23:59:59.999Z"));
    }
}
