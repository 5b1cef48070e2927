use weir::TestHarness;

use super::*;

/// 2013-01-01T00:00:00Z
const NEW_YEAR: i64 = 1_356_998_400_000;

fn flight(carrier: &str, number: u32, hour: u64, minute: u32, delay: Option<i64>) -> Flight {
    Flight {
        carrier: carrier.into(),
        flight: number,
        minute,
        time_hour: EventTime::from_millis(NEW_YEAR) + hours(hour),
        dep_time: delay.map(|d| hour as i64 * 100 + d),
        dep_delay: delay,
    }
}

/// Each carrier has a row for each day; cancelled flights count, but not for the delays; the worst flight is the lowest of several.
#[test]
fn delays_by_carrier_and_day() {
    let mut harness = TestHarness::new(flights);
    harness.push(
        "flights",
        [
            flight("UA", 30, 10, 15, Some(4)),
            flight("UA", 20, 22, 0, Some(8)),
            flight("AA", 5, 11, 0, None),
            flight("UA", 10, 23, 59, Some(8)),
            flight("UA", 40, 24, 0, Some(-2)),
            // Hours earlier than the rows before it, but not late.
            flight("UA", 50, 6, 0, None),
        ],
    );
    assert!(harness.take::<Delays>("delays").is_empty(), "flights may still come");
    harness.restart();
    harness.finish();

    let delays = |carrier: &str, day, flights, cancelled, mean_dep_delay, max_dep_delay, worst_flight| Delays {
        carrier: carrier.into(),
        window_start: EventTime::from_millis(NEW_YEAR) + days(day),
        flights,
        cancelled,
        mean_dep_delay,
        max_dep_delay,
        worst_flight,
    };
    let expected = [
        delays("AA", 0, 1, 1, None, None, None),
        delays("UA", 0, 4, 1, Some(20.0 / 3.0), Some(8), Some(10)),
        delays("UA", 1, 1, 0, Some(-2.0), Some(-2), Some(40)),
    ];
    let mut found = harness.take::<Delays>("delays");
    found.sort_by_key(|d| (d.carrier.clone(), d.window_start));
    assert_eq!(found, expected);
}
