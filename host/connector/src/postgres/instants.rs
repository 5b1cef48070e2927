//! Instants as PostgreSQL reads them: RFC 3339, and beyond its years with more digits, or with `BC` behind.

use std::ops::Range;

use weir_types::EventTime;

use crate::format::time;

/// The years 1 to 9999, which both write alike. RFC 3339 has a year 0, which is 1 BC here.
const ALIKE: Range<EventTime> = -62_135_596_800_000..253_402_300_800_000;

const CYCLE_YEARS: i64 = 400;
/// After so long the calendar repeats itself.
const CYCLE_MS: i64 = 146_097 * 86_400_000;

/// Appends an instant. The database refuses those that it has no room for: it goes from 4713 BC to the year 294276.
pub(super) fn write(instant: EventTime, out: &mut Vec<u8>) {
    if ALIKE.contains(&instant) { time::write(instant, out) } else { write_far(instant, out) }
}

#[cold]
fn write_far(instant: EventTime, out: &mut Vec<u8>) {
    // The same day of the same year of a cycle, near 1970, where years have four digits.
    let mut near = Vec::new();
    time::write(instant.rem_euclid(CYCLE_MS), &mut near);
    let (year, rest) = near.split_at(4);
    let year = year.iter().fold(0, |year, digit| year * 10 + i64::from(digit - b'0'));
    let year = year + instant.div_euclid(CYCLE_MS) * CYCLE_YEARS;
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    out.extend_from_slice(format!("{year:04}").as_bytes());
    out.extend_from_slice(rest);
    out.extend_from_slice(era.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_of_all_years_are_written() {
        // Goal: what RFC 3339 has is written as it is, and all else, whatever the number, as PostgreSQL spells it.
        for (instant, expected) in [
            (1_436_918_400_007, "2015-07-15T00:00:00.007Z"),
            (ALIKE.start, "0001-01-01T00:00:00Z"),
            (ALIKE.start - 1, "0001-12-31T23:59:59.999Z BC"),
            (-63_517_820_276_996, "0044-03-15T01:02:03.004Z BC"),
            (-210_866_803_200_000, "4714-11-24T00:00:00Z BC"),
            (ALIKE.end - 1, "9999-12-31T23:59:59.999Z"),
            (ALIKE.end, "10000-01-01T00:00:00Z"),
            (9_224_318_015_999_999, "294276-12-31T23:59:59.999Z"),
            (i64::MAX, "292278994-08-17T07:12:55.807Z"),
            (i64::MIN, "292275056-05-16T16:47:04.192Z BC"),
        ] {
            let mut out = Vec::new();
            write(instant, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{instant}");
        }
    }
}
