//! The source `nexmark`: persons who auction and bid, made up as fast as possible or at a given rate.
//!
//! The events are those of the Nexmark benchmark. Event n is a pure function of the seed and n, so the source can be read from any
//! position, by any number of subtasks, and always gives the same rows. There are three streams: `person`, `auction` and `bid`.
//!
//! - [`draw`]: the random numbers;
//! - [`share`]: which events a split has;
//! - [`tables`]: the strings;
//! - [`clock`]: event times, and when events are due, where a rate is given;
//! - [`block`]: a block of events, and its loops (in [`lanes`]: how they use vector units);
//! - [`columns`]: what the columns of each stream are.
//!
//! Only the columns that a job asks for are generated; events of streams that it does not ask for cost nothing.

mod block;
mod clock;
mod columns;
mod draw;
mod lanes;
mod share;
mod tables;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

use arrow_schema::{DataType, SchemaRef, TimeUnit};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Notify;
use weir_types::Batch;

use self::block::{BLOCK_NUMBERS_MAX, Block, Cycle, EVENTS_MAX, Kind};
use self::clock::{Pace, Timeline};
use self::share::Share;
use crate::options;
use crate::registry::Stream;
use crate::{Connector, Context, Error, Fetch, Fetched, Positions, Reader, Sink, Source, Split};

/// The connector `nexmark`.
pub struct Nexmark;

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Options {
    /// how many events there are in all; none = without end
    events: Option<u64>,
    /// which events
    seed: u64,
    /// how many events there are in a millisecond of event time
    events_per_ms: u64,
    /// how many events a second there are of the real time, over all subtasks; none = as many as are read
    rate: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self { events: None, seed: 42, events_per_ms: 10, rate: None }
    }
}

impl Connector for Nexmark {
    fn name(&self) -> &'static str {
        "nexmark"
    }

    fn source(&self, options: &toml::Table, streams: &[Stream], context: &Context) -> Result<Box<dyn Source>, Error> {
        let options: Options = options::parse(options, context)?;
        let invalid = |message: String| Err(Error::options(format!("options of \"{}\": {message}", context.name)));
        if !(1..=Timeline::EVENTS_PER_MS_MAX).contains(&options.events_per_ms) {
            return invalid(format!(
                "events_per_ms must be from 1 to {}, not {}",
                Timeline::EVENTS_PER_MS_MAX,
                options.events_per_ms
            ));
        }
        if let Some(rate) = options.rate
            && !Pace::RATES.contains(&rate)
        {
            return invalid(format!(
                "rate must be from {:e} to {:e} events a second, not {rate:?}; leave it out to read events as fast as the job can",
                Pace::RATES.start(),
                Pace::RATES.end()
            ));
        }
        let projections = streams.iter().map(|s| Projection::new(s, options.rate.is_some())).collect::<Result<_, _>>()?;
        Ok(Box::new(Generator { options, projections, pace: Arc::new(OnceLock::new()) }))
    }

    fn sink(&self, _: &toml::Table, _: &SchemaRef, _: &Context) -> Result<Box<dyn Sink>, Error> {
        Err(options::not_a_sink(self.name()))
    }
}

/// The names and types of a stream's columns.
fn fields(kind: Kind, paced: bool) -> Vec<(&'static str, DataType)> {
    let number = || DataType::UInt64;
    let text = || DataType::Utf8;
    let time = || DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    match kind {
        Kind::Person => vec![
            ("id", number()),
            ("name", text()),
            ("email", text()),
            ("credit_card", text()),
            ("city", text()),
            ("state", text()),
            ("date_time", time()),
            ("extra", text()),
        ],
        Kind::Auction => vec![
            ("id", number()),
            ("item_name", text()),
            ("description", text()),
            ("initial_bid", number()),
            ("reserve", number()),
            ("date_time", time()),
            ("expires", time()),
            ("seller", number()),
            ("category", number()),
            ("extra", text()),
        ],
        Kind::Bid => {
            let mut columns = vec![
                ("auction", number()),
                ("bidder", number()),
                ("price", number()),
                ("channel", text()),
                ("url", text()),
                ("date_time", time()),
                ("extra", text()),
            ];
            if paced {
                columns.push(("due_us", number()));
            }
            columns
        }
    }
}

/// What a job wants of a stream.
#[derive(Clone)]
struct Projection {
    kind: Kind,
    /// for each of the stream's columns, whether it is wanted
    wanted: Vec<bool>,
    /// the wanted columns in the job's order
    columns: Vec<usize>,
}

impl Projection {
    fn new(stream: &Stream, paced: bool) -> Result<Self, Error> {
        let kind = match stream.name.as_str() {
            "person" => Kind::Person,
            "auction" => Kind::Auction,
            "bid" => Kind::Bid,
            other => {
                return Err(Error::options(format!("nexmark has no stream \"{other}\"; it has: person, auction, bid")));
            }
        };
        let known = fields(kind, paced);
        let mut chosen = Vec::new();
        for field in stream.schema.fields() {
            let Some(index) = known.iter().position(|(name, _)| name == field.name()) else {
                let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                let hint =
                    if kind == Kind::Bid && field.name() == "due_us" { " (due_us: only with the option rate)" } else { "" };
                return Err(Error::options(format!(
                    "nexmark's stream {} has no column \"{}\"{hint}; it has: {}",
                    stream.name,
                    field.name(),
                    names.join(", ")
                )));
            };
            if known[index].1 != *field.data_type() {
                return Err(Error::options(format!(
                    "nexmark's column {}.{} is of type {}, not {}",
                    stream.name,
                    field.name(),
                    known[index].1,
                    field.data_type()
                )));
            }
            chosen.push(index);
        }
        let wanted = (0..known.len()).map(|column| chosen.contains(&column)).collect();
        Ok(Self { kind, wanted, columns: chosen })
    }
}

struct Generator {
    options: Options,
    projections: Vec<Projection>,
    /// one schedule for all readers: it begins when the first one is made
    pace: Arc<OnceLock<Pace>>,
}

impl Source for Generator {
    fn splits(&self, parallelism: u16) -> Result<Vec<Split>, Error> {
        let split = |i| Split { id: format!("{i}-of-{parallelism}"), spec: json!(Share::of(i, parallelism)), position: None };
        Ok((0..parallelism).map(split).collect())
    }

    /// How the events are dealt out depends on how many splits there were to be: once they are dealt out, there are no others.
    fn new_splits(&self, known: &HashSet<String>) -> Result<Vec<Split>, Error> {
        if known.is_empty() { self.splits(1) } else { Ok(vec![]) }
    }

    fn excludes(&self, split: &Split) -> Option<String> {
        share_of(split).is_none().then(|| "it is no split of nexmark".to_owned())
    }

    fn ends(&self) -> bool {
        self.options.events.is_some()
    }

    fn reader(&self, split: &Split, _: &Arc<Notify>) -> Result<Box<dyn Reader>, Error> {
        let bad = || Error::options(format!("\"{}\" is not a split of nexmark at a position of it", split.id));
        let share = share_of(split).ok_or_else(bad)?;
        let next = split.position.as_ref().map_or(Some(share.number(0)), serde_json::Value::as_u64).ok_or_else(bad)?;
        if !share.has(next) {
            return Err(bad());
        }
        if let Some(rate) = self.options.rate {
            self.pace.get_or_init(|| Pace::new(rate, next));
        }
        Ok(Box::new(Events {
            seed: self.options.seed,
            timeline: Timeline::new(self.options.events_per_ms),
            pace: Arc::clone(&self.pace),
            projections: self.projections.clone(),
            kinds: self.projections.iter().map(|projection| projection.kind).collect(),
            cycles: Kind::ALL.map(|kind| Cycle::new(kind, &share)),
            block: Block::default(),
            next,
            end: self.options.events.unwrap_or(EVENTS_MAX).min(EVENTS_MAX),
            share,
        }))
    }
}

/// The share that a split has, if it is one of nexmark.
fn share_of(split: &Split) -> Option<Share> {
    Share::deserialize(&split.spec).ok().filter(Share::is_valid)
}

/// Reads one split.
struct Events {
    seed: u64,
    timeline: Timeline,
    pace: Arc<OnceLock<Pace>>,
    projections: Vec<Projection>,
    /// by stream
    kinds: Arc<[Kind]>,
    cycles: [Cycle; 3],
    block: Block,
    next: u64,
    end: u64,
    share: Share,
}

impl Reader for Events {
    fn read(&mut self, max_rows: usize) -> Result<Fetched, Error> {
        if self.next >= self.end {
            return Ok(Fetched::End);
        }
        let due = self.pace.get().map_or(self.end, |pace| pace.due().min(self.end));
        if self.next >= due {
            return Ok(self.pace.get().map_or(Fetched::End, |pace| Fetched::NotBefore(pace.pause(self.next))));
        }
        let place = self.share.before(self.next);
        let most = self.share.within(self.next, BLOCK_NUMBERS_MAX).min(max_rows.max(1) as u64);
        let events = (self.share.before(due) - place).min(most);
        let to = self.share.number(place + events);
        let numbers = Numbers { place, share: self.share, kinds: Arc::clone(&self.kinds) };
        let mut fetch = Fetch { events, positions: Some(Arc::new(numbers)), ..Fetch::default() };
        for kind in Kind::ALL {
            for index in 0..self.projections.len() {
                if self.projections[index].kind == kind {
                    let batch = self.batch(index, to);
                    if !batch.is_empty() {
                        fetch.batches.push((index, batch));
                    }
                }
            }
        }
        self.next = to;
        Ok(Fetched::Rows(fetch))
    }

    fn position(&self) -> serde_json::Value {
        self.next.into()
    }
}

/// The numbers of the events that rows are.
#[derive(Debug)]
struct Numbers {
    /// the place of the first event that was read, of whatever kind
    place: u64,
    share: Share,
    /// by stream
    kinds: Arc<[Kind]>,
}

impl Positions for Numbers {
    fn of(&self, stream: usize, row: usize) -> u64 {
        let all = (self.place..).map(|place| self.share.number(place));
        all.filter(|&number| Kind::of(number) == self.kinds[stream]).nth(row).unwrap_or_default()
    }
}

impl Events {
    /// The rows of a projection that come before event `to`.
    fn batch(&mut self, projection: usize, to: u64) -> Batch {
        let Projection { kind, wanted, columns } = &self.projections[projection];
        let block = &mut self.block;
        block.fill(&self.cycles[*kind as usize], self.seed, self.next, to);
        let made = match kind {
            Kind::Person => columns::persons(block, wanted, self.timeline),
            Kind::Auction => columns::auctions(block, wanted, self.timeline),
            Kind::Bid => columns::bids(block, wanted, self.timeline, self.pace.get()),
        };
        let chosen = columns.iter().map(|&c| Arc::clone(made[c].as_ref().expect("a wanted column is made")));
        Batch::new(block.len(), chosen.collect(), None)
    }
}
