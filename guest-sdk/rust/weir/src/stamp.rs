//! Stamps: when what has a time to live was last written (or read), as it is kept.
//!
//! A stamp is a number, and which clock it is of stands in the schema of the state. So a version of a job whose lifetime is by another clock sees that, and does not
//! take one clock's time for the other's. What has no stamp of the clock that it needs counts as written when it is first *met*: when a row or timer of its key comes.
//! Until then it is there.
//!
//! Schemas of before clocks stood in them say "i64". Then the clock is the one that has a timer for a cleanup of the state: all that expires has one.

use std::cell::Cell;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::cleanup::{Deadlines, place};
use crate::state::{State, encode};
use crate::time::TimeDomain;

/// There is none yet: what has it does not expire.
pub(crate) const MISSING: i64 = i64::MAX;

/// By which clock a stamp is that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// the one that the job says now: the state is of its own schema
    Own,
    /// the schema does not say
    Unsaid,
    /// the one that the schema says
    Of(TimeDomain),
}

/// By what name serde is asked for a stamp of this clock, or of one that only the schema knows.
pub(crate) fn name(clock: Option<TimeDomain>) -> &'static str {
    match clock {
        None => "weir::Stamp",
        Some(TimeDomain::Event) => "weir::EventTimeStamp",
        Some(TimeDomain::Processing) => "weir::ProcessingTimeStamp",
    }
}

/// Reads a stamp that [is asked for](name) by the name of this clock.
pub(crate) fn read<'de, D: Deserializer<'de>>(clock: Option<TimeDomain>, deserializer: D) -> Result<(i64, Clock), D::Error> {
    deserializer.deserialize_newtype_struct(name(clock), StampVisitor)
}

/// What states of other schemas are read by gives a stamp as what the schema says of it: a number, or the place of its clock and a number.
struct StampVisitor;

impl<'de> Visitor<'de> for StampVisitor {
    type Value = (i64, Clock);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a stamp")
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        Ok((i64::deserialize(deserializer)?, Clock::Own))
    }
    fn visit_i64<E: Error>(self, time: i64) -> Result<Self::Value, E> {
        Ok((time, Clock::Unsaid))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Self::Value, A::Error> {
        let mut part = || parts.next_element::<i64>()?.ok_or_else(|| Error::custom("a stamp is cut short"));
        let domain = if part()? == 0 { TimeDomain::Event } else { TimeDomain::Processing };
        Ok((part()?, Clock::Of(domain)))
    }
}

/// The stamp that something gets which is met while its clock shows this; none while that is not known, or at the end of time.
pub(crate) fn met_at(clock: i64) -> Option<i64> {
    Some(clock).filter(|clock| (i64::MIN + 1..i64::MAX).contains(clock))
}

/// What there was among the stamps of a state.
#[derive(Clone, Copy, Default)]
struct Seen {
    /// whether one is missing
    missing: bool,
    /// by the place of the clock that the job says: whether the schema did not say one
    unsaid: [bool; 2],
}

/// What is done to the stamps of a state while it is encoded.
#[derive(Clone, Copy)]
enum Pass {
    /// those that are missing are set to what the clocks show
    Meet([i64; 2]),
    /// those of clocks are taken away
    Strip([bool; 2]),
}

thread_local! {
    // Serde hands nothing to those that it encodes and decodes, and a component has one thread.
    static SEEN: Cell<Seen> = const { Cell::new(Seen { missing: false, unsaid: [false; 2] }) };
    static PASS: Cell<Option<Pass>> = const { Cell::new(None) };
}

/// A state is to be read: forgets what there was among the stamps of others.
pub(crate) fn begin_reading() {
    SEEN.take();
}

fn note(f: impl FnOnce(&mut Seen)) {
    let mut seen = SEEN.get();
    f(&mut seen);
    SEEN.set(seen);
}

/// A stamp is missing.
pub(crate) fn missing() -> i64 {
    note(|seen| seen.missing = true);
    MISSING
}

/// What becomes of a stamp that was read, for the clock that the job says now.
pub(crate) fn settle((time, clock): (i64, Clock), domain: TimeDomain) -> i64 {
    match clock {
        Clock::Of(other) if other != domain => return missing(),
        Clock::Unsaid => note(|seen| seen.unsaid[place(domain)] = true),
        Clock::Own | Clock::Of(_) => {}
    }
    if time == MISSING { missing() } else { time }
}

/// A stamp of a state that is being encoded.
pub(crate) fn pass(stamp: &Cell<i64>, domain: TimeDomain) {
    match PASS.get() {
        Some(Pass::Meet(clocks)) if stamp.get() == MISSING => stamp.set(met_at(clocks[place(domain)]).unwrap_or_else(missing)),
        Some(Pass::Strip(clocks)) if clocks[place(domain)] => stamp.set(missing()),
        Some(_) | None => {}
    }
}

/// Has all stamps of a state pass; returns whether one is missing then.
fn pass_all<S: State>(state: &S, pass: Pass) -> Result<bool, String> {
    begin_reading();
    PASS.set(Some(pass));
    let encoded = encode(state, vec![]);
    PASS.take();
    encoded.map(|_| SEEN.take().missing)
}

/// The state was just read, and has these timers for cleanups; returns whether a stamp is missing.
pub(crate) fn adopt<S: State>(state: &S, timers: Deadlines) -> Result<bool, String> {
    let Seen { missing, unsaid } = SEEN.take();
    let strip = [0, 1].map(|place| unsaid[place] && timers[place] == i64::MAX);
    if strip.contains(&true) { pass_all(state, Pass::Strip(strip)).map(|stripped| missing | stripped) } else { Ok(missing) }
}

/// The state is met while the clocks show this; returns whether a stamp is still missing.
pub(crate) fn meet<S: State>(state: &S, clocks: [i64; 2]) -> Result<bool, String> {
    pass_all(state, Pass::Meet(clocks))
}

#[cfg(test)]
mod tests {
    use crate::cleanup::place;
    use crate::migration::{Codec, Migrations};
    use crate::state::encode;
    use crate::time::TimeDomain;
    use crate::{ExpiringValue, Expiry, Ttl, secs};

    use super::{MISSING, adopt, begin_reading, meet};

    struct ByEvent;

    impl Expiry for ByEvent {
        const TTL: Ttl = Ttl::new(secs(1)).event_time();
    }

    type Value<E> = ExpiringValue<u64, E>;

    /// The schema of a value that expires, of before clocks stood in it.
    const UNSAID: &str = "option<tuple<i64, u64>>";

    /// What the stamp of a state of this schema is, with these timers, to a value that expires by event time: at first, and once it is met at 70.
    fn stamps(schema: &str, timers: [i64; 2]) -> (i64, i64) {
        let own = Codec::<Value<ByEvent>>::schema();
        let mut codec = Codec::<Value<ByEvent>>::new();
        codec.open(1, &[Some(schema), Some(&own)], Migrations::none()).expect("it can be read");
        let bytes = encode(&(0u32, Some((50i64, 7u64))), vec![]).expect("it is encoded");
        begin_reading();
        let (value, _) = codec.decode(&bytes).expect("it can be read");
        let stamp = |value: &Value<ByEvent>| {
            let bytes = encode(value, vec![]).expect("it is encoded");
            let (stamped, _) = crate::state::decode::<Option<(i64, u64)>>(&bytes).expect("it is a stamp and a value");
            stamped.expect("it is there").0
        };
        let is_missing = adopt(&value, timers).expect("it is encoded");
        let adopted = stamp(&value);
        assert_eq!(is_missing, adopted == MISSING);
        assert_eq!(meet(&value, [i64::MIN, 60]), Ok(is_missing), "event time has not begun");
        assert_eq!(meet(&value, [70, 60]), Ok(false));
        (adopted, stamp(&value))
    }

    /// A stamp is one of the clock that its schema says; where it says none, of the clock by which the state is to be cleaned up.
    #[test]
    fn are_of_a_clock() {
        let mut only_by = [[i64::MAX; 2]; 2];
        for domain in [TimeDomain::Event, TimeDomain::Processing] {
            only_by[place(domain)][place(domain)] = 1050;
        }
        let [by_event, by_processing] = only_by;
        assert_eq!(stamps("option<tuple<event_time_stamp, u64>>", by_event), (50, 50));
        assert_eq!(stamps("option<tuple<processing_time_stamp, u64>>", by_processing), (MISSING, 70));
        assert_eq!(stamps(UNSAID, by_event), (50, 50));
        assert_eq!(stamps(UNSAID, by_processing), (MISSING, 70));
        assert_eq!(Codec::<Value<ByEvent>>::schema(), "option<tuple<event_time_stamp, u64>>");
    }
}
