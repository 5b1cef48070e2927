//! Delays of flights, by carrier and day.
//!
//! Reads flights as they were scheduled, and says for each carrier and day (UTC) how many there were, how many were
//! cancelled, how late the others left on average, and which one was the latest.

use serde::{Deserialize, Serialize};
use weir::{Aggregate, EventTime, Job, Record, Str, Tumbling, Watermarks, days, hours, minutes};

/// A flight. These are columns of the file; what else is in it is not read.
#[derive(Record)]
struct Flight {
    carrier: Str,
    flight: u32,
    /// the minute of the scheduled departure, within `time_hour`
    minute: u32,
    time_hour: EventTime,
    /// when it left; nothing if it was cancelled
    dep_time: Option<i64>,
    /// how many minutes late it left; negative if it was early
    dep_delay: Option<i64>,
}

/// A day of a carrier.
#[derive(Clone, Debug, PartialEq, Record)]
struct Delays {
    carrier: Str,
    window_start: EventTime,
    flights: u64,
    cancelled: u64,
    mean_dep_delay: Option<f64>,
    max_dep_delay: Option<i64>,
    /// the number of the flight with the greatest delay; of several, the lowest
    worst_flight: Option<u32>,
}

/// Counts the flights of a window and adds up their delays.
struct ByDelay;

/// What is kept of the flights.
#[derive(Default, Serialize, Deserialize)]
struct Tally {
    flights: u64,
    cancelled: u64,
    delayed: u64,
    delay_sum: i64,
    worst: Option<Worst>,
}

/// The flight with the greatest delay.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Worst {
    delay: i64,
    flight: u32,
}

impl Tally {
    fn meet(&mut self, other: Worst) {
        let is_worse =
            |worst: Worst| (other.delay, std::cmp::Reverse(other.flight)) > (worst.delay, std::cmp::Reverse(worst.flight));
        if self.worst.is_none_or(is_worse) {
            self.worst = Some(other);
        }
    }
}

impl Aggregate<Flight> for ByDelay {
    type Row = Flight;
    type Accumulator = Tally;
    type Out = Tally;

    fn add(&self, tally: &mut Tally, flight: Flight) {
        tally.flights += 1;
        if flight.dep_time.is_none() {
            tally.cancelled += 1;
        } else if let Some(delay) = flight.dep_delay {
            tally.delayed += 1;
            tally.delay_sum += delay;
            tally.meet(Worst { delay, flight: flight.flight });
        }
    }

    fn merge(&self, tally: &mut Tally, other: &Tally) {
        tally.flights += other.flights;
        tally.cancelled += other.cancelled;
        tally.delayed += other.delayed;
        tally.delay_sum += other.delay_sum;
        if let Some(worst) = other.worst {
            tally.meet(worst);
        }
    }

    fn result(&self, tally: &Tally) -> Tally {
        Tally { ..*tally }
    }
}

/// The job: source `flights`, sink `delays`.
#[weir::job]
pub fn flights(job: &Job) {
    job.source::<Flight>("flights")
        .event_time(|f: &Flight| f.time_hour + minutes(f.minute.into()), Watermarks::bounded(hours(24)))
        .key_by(Flight::CARRIER)
        .window(Tumbling::new(days(1)))
        .aggregate(ByDelay)
        .uid("delays-by-day")
        .map(|(carrier, window, tally)| Delays {
            carrier,
            window_start: window.start,
            flights: tally.flights,
            cancelled: tally.cancelled,
            mean_dep_delay: (tally.delayed > 0).then(|| tally.delay_sum as f64 / tally.delayed as f64),
            max_dep_delay: tally.worst.map(|w| w.delay),
            worst_flight: tally.worst.map(|w| w.flight),
        })
        .sink("delays");
}

#[cfg(test)]
mod tests;
