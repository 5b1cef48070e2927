//! A chain of the job, driven as the host drives it: one subtask, and a slot for every key (and window).

use std::collections::{BTreeMap, BTreeSet};

use super::cell::{Cell, decode, encode, top_level};
use super::window::Windows;
use crate::bindings::exports::weir::dataflow::chains::{DueTimers, Input, Origins, Output, Reply, States};
use crate::bindings::exports::weir::dataflow::definition::{
    Chain as Description, ColumnOrigin, Graph, Head, Partitioning, TimeDomain, Watermarks,
};
use crate::bindings::weir::dataflow::types::{Batch, Field};
use crate::chain::{Chain, slots_of, times_of};
use crate::process::OPERATOR_STATE;

/// A row on its way, with its event time if it has one.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub cells: Vec<Cell>,
    pub time: Option<i64>,
}

/// Rows for an output port.
pub(super) type Emitted = (u32, Vec<Row>);

/// The watermark and the processing time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    pub watermark: i64,
    pub now: i64,
}

/// A chain and what the host keeps for it.
pub(super) struct Node {
    pub chain: Chained,
    state: State,
    /// how far event times have come, where the chain assigns them
    pub assigned: Option<i64>,
}

/// A chain, its description, and the schemas of its inputs.
pub(super) struct Chained {
    pub description: Description,
    pub schemas: Vec<Vec<Field>>,
    /// the schemas of states that there may be
    state_schemas: Vec<String>,
    /// none for a relay
    pub running: Option<Box<dyn Chain>>,
}

/// What the host keeps for the head of a chain.
enum State {
    None,
    Process { slots: Slots, timers: Timers },
    Window(Windows),
}

/// Which key has which slot.
#[derive(Default)]
pub(super) struct Slots {
    by_key: BTreeMap<Vec<Cell>, u32>,
}

impl Node {
    pub fn new(graph: &Graph, index: usize, running: Option<Box<dyn Chain>>) -> Self {
        let description = graph.chains[index].clone();
        let schemas = description.inputs.iter().map(|i| graph.schema(i.from[0]).to_vec()).collect();
        let state = match description.head {
            Head::Transform | Head::Relay => State::None,
            Head::Process => State::Process { slots: Slots::default(), timers: Timers::default() },
            Head::Window(window) => State::Window(Windows::new(window)),
        };
        let state_schemas = description.state_schema.iter().cloned().collect();
        Self { chain: Chained { description, schemas, state_schemas, running }, state, assigned: None }
    }

    /// Rows for an input.
    pub fn rows(&mut self, port: usize, rows: &[Row], clocks: Clocks) -> Result<Vec<Emitted>, String> {
        let Self { chain, state, assigned } = self;
        let emitted = match state {
            State::Window(windows) => return windows.rows(chain, port, rows, clocks),
            State::None if chain.running.is_none() => {
                let identity = Output {
                    port: 0,
                    origins: Origins::Identity,
                    times: vec![],
                    rows: Batch { rows: rows.len() as u32, buffers: vec![] },
                };
                vec![chain.assemble(identity, rows)?]
            }
            State::None => {
                let input = chain.input(port, rows, vec![], clocks)?;
                let reply = chain.running()?.process(input)?;
                *assigned = reply.progress.max(*assigned);
                chain.assemble_all(reply.outputs, rows)?
            }
            State::Process { slots, timers } => {
                let keyed = chain.description.inputs[port].partitioning != Partitioning::Broadcast;
                let slots = if keyed { slots.of_rows(chain, port, rows)? } else { vec![] };
                let input = chain.input(port, rows, slots, clocks)?;
                let reply = chain.running()?.process(input)?;
                timers.take_in(&reply);
                chain.assemble_all(reply.outputs, rows)?
            }
        };
        if let Some(assigner) = chain.description.event_time
            && let Some(column) = assigner.column
        {
            let times = rows.iter().filter_map(|row| time_in(&row.cells[passed_index(&chain.description, column)]));
            *assigned = times.max().max(*assigned);
        }
        Ok(emitted)
    }

    /// The watermark of what comes out, when that of what comes in is `incoming`.
    pub fn watermark(&self, incoming: i64) -> i64 {
        let Some(assigner) = self.chain.description.event_time else { return incoming };
        let own = match (assigner.watermarks, self.assigned) {
            (_, None) => i64::MIN,
            (Watermarks::Bounded(delay), Some(greatest)) => greatest.saturating_sub_unsigned(delay).saturating_sub(1),
            (Watermarks::Generated, Some(watermark)) => watermark,
        };
        own.max(incoming)
    }

    /// The watermark or the clock has advanced: fires what is due.
    pub fn advance(&mut self, clocks: Clocks) -> Result<Vec<Emitted>, String> {
        let Self { chain, state, .. } = self;
        match state {
            State::None => Ok(vec![]),
            State::Window(windows) => windows.advance(chain, clocks),
            State::Process { timers, .. } => {
                let mut emitted = vec![];
                // A timer may set another one that is due, too.
                while let Some((domain, cleanup, due)) = timers.take_due(clocks) {
                    let call = DueTimers {
                        slots: due.iter().flat_map(|(_, slot)| slot.to_le_bytes()).collect(),
                        times: due.iter().flat_map(|(time, _)| time.to_le_bytes()).collect(),
                        domain,
                        cleanup,
                        watermark: clocks.watermark,
                        now: clocks.now,
                    };
                    let reply = chain.running()?.timers_fired(&call)?;
                    timers.take_in(&reply);
                    let origins: Vec<_> = due.iter().map(|(time, _)| Row { cells: vec![], time: Some(*time) }).collect();
                    emitted.extend(chain.assemble_all(reply.outputs, &origins)?);
                }
                Ok(emitted)
            }
        }
    }

    /// How many keys (with windows) have state, as the host sees it: those that there are bytes of.
    pub fn keys(&mut self) -> Result<usize, String> {
        let slots: Vec<u32> = match &self.state {
            State::None => return Ok(0),
            State::Process { slots, .. } => slots.by_key.values().copied().collect(),
            State::Window(windows) => windows.slots().map(|(_, slot)| slot).collect(),
        };
        let packed: Vec<u8> = slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
        let states = self.export(&packed)?;
        let ends: Vec<u32> = slots_of(&states.offsets).collect();
        Ok(ends.windows(2).filter(|bounds| bounds[0] < bounds[1]).count())
    }

    /// The state of slots. What is said of when it expires has to be what the host goes by.
    fn export(&mut self, slots: &[u8]) -> Result<States, String> {
        let states = self.chain.running()?.export_slots(slots)?;
        let (State::Process { timers, .. }, Some(expiries)) = (&self.state, &states.expiries) else { return Ok(states) };
        let times = times_of(&expiries.cleanups).zip(times_of(&expiries.ends));
        for ((slot, clock), (cleanup, end)) in slots_of(slots).zip(&expiries.clocks).zip(times) {
            let is_set = timers.sorts[1][usize::from(*clock)].contains(&(cleanup, slot));
            if end < i64::MAX && (end < cleanup || !is_set) {
                return Err(format!("state that ends at {end} is to be cleaned up at {cleanup}, for which no timer is set"));
            }
        }
        Ok(states)
    }

    /// Moves all state to another version of the chain.
    pub fn upgrade(&mut self, new: Self) -> Result<(), String> {
        let schemas = &mut self.chain.state_schemas;
        schemas.extend(new.chain.description.state_schema.clone().filter(|schema| !schemas.contains(schema)));
        self.chain.description = new.chain.description;
        self.restart(new.chain.running)
    }

    /// Moves all state to a new instance of the chain, by way of bytes.
    pub fn restart(&mut self, mut running: Option<Box<dyn Chain>>) -> Result<(), String> {
        if let Some(running) = &mut running {
            running.open(&self.chain.state_schemas)?;
        }
        let keys: Vec<(Vec<Cell>, u32)> = match &self.state {
            State::None => vec![],
            State::Process { slots, .. } => slots.by_key.iter().map(|(key, slot)| (key.clone(), *slot)).collect(),
            State::Window(windows) => windows.slots().collect(),
        };
        let slots: Vec<u8> = keys.iter().flat_map(|(_, slot)| slot.to_le_bytes()).collect();
        let exported = if keys.is_empty() { None } else { Some(self.export(&slots)?) };
        let is_process = matches!(self.state, State::Process { .. });
        let own = if is_process { Some(self.chain.running()?.export_slots(&OPERATOR_STATE)?) } else { None };
        self.chain.running = running;
        if let Some(states) = own {
            self.chain.running()?.import_slots(&OPERATOR_STATE, &states)?;
        }
        if let Some(states) = exported {
            for (key, slot) in &keys {
                self.chain.assign(*slot, key)?;
            }
            self.chain.running()?.import_slots(&slots, &states)?;
        }
        Ok(())
    }
}

/// Timers that are set: time and slot of each.
#[derive(Default)]
struct Timers {
    /// by whether they are for a cleanup, then whether they are in processing time
    sorts: [[BTreeSet<(i64, u32)>; 2]; 2],
}

impl Timers {
    fn take_in(&mut self, reply: &Reply) {
        for timer in &reply.timers {
            let timers = &mut self.sorts[usize::from(timer.cleanup)][usize::from(timer.domain == TimeDomain::Processing)];
            if timer.delete {
                timers.remove(&(timer.time, timer.slot));
            } else {
                timers.insert((timer.time, timer.slot));
            }
        }
    }

    /// Takes what is due of one sort, if anything is; cleanups come last.
    fn take_due(&mut self, clocks: Clocks) -> Option<(TimeDomain, bool, Vec<(i64, u32)>)> {
        for (cleanup, sorts) in [false, true].into_iter().zip(&mut self.sorts) {
            let clocks = [(TimeDomain::Event, clocks.watermark), (TimeDomain::Processing, clocks.now)];
            for (timers, (domain, until)) in sorts.iter_mut().zip(clocks) {
                let due: Vec<_> = timers.iter().copied().take_while(|(time, _)| *time <= until).collect();
                due.iter().for_each(|timer| _ = timers.remove(timer));
                if !due.is_empty() {
                    return Some((domain, cleanup, due));
                }
            }
        }
        None
    }
}

/// The input column that column `column` of output 0 is passed from.
fn passed_index(description: &Description, column: u32) -> usize {
    match description.outputs[0].columns[column as usize] {
        ColumnOrigin::Passed(from) => from as usize,
        ColumnOrigin::Computed => column as usize,
    }
}

fn time_in(cell: &Cell) -> Option<i64> {
    match cell {
        Cell::Number(bytes) => times_of(bytes).next(),
        _ => None,
    }
}

impl Slots {
    /// The packed slots of the keys of rows; new keys get new slots.
    fn of_rows(&mut self, chain: &mut Chained, port: usize, rows: &[Row]) -> Result<Vec<u8>, String> {
        let mut slots = vec![];
        for row in rows {
            let key = chain.key(port, row);
            let next = self.by_key.len() as u32;
            let slot = match self.by_key.get(&key) {
                Some(&slot) => slot,
                None => {
                    chain.assign(next, &key)?;
                    self.by_key.insert(key, next);
                    next
                }
            };
            slots.extend(slot.to_le_bytes());
        }
        Ok(slots)
    }
}

impl Chained {
    pub fn running(&mut self) -> Result<&mut Box<dyn Chain>, String> {
        self.running.as_mut().ok_or_else(|| "a relay has no code".to_owned())
    }

    /// The key of a row.
    pub fn key(&self, port: usize, row: &Row) -> Vec<Cell> {
        self.description.inputs[port].key.iter().map(|&column| row.cells[column as usize].clone()).collect()
    }

    /// Gives a slot to a key.
    pub fn assign(&mut self, slot: u32, key: &[Cell]) -> Result<(), String> {
        let schema = &self.schemas[0];
        let fields: Vec<Field> = self.description.inputs[0].key.iter().flat_map(|&c| column(schema, c)).cloned().collect();
        let keys = encode(&fields, std::iter::once(key.iter().collect()));
        self.running()?.assign_slots(&slot.to_le_bytes(), keys)
    }

    /// Rows as the chain reads them.
    pub fn input(&self, port: usize, rows: &[Row], slots: Vec<u8>, clocks: Clocks) -> Result<Input, String> {
        let input = &self.description.inputs[port];
        let fields: Vec<Field> = input.columns.iter().flat_map(|&c| column(&self.schemas[port], c)).cloned().collect();
        let read = |row: &'_ Row| -> Vec<Cell> { input.columns.iter().map(|&c| row.cells[c as usize].clone()).collect() };
        let cells: Vec<Vec<Cell>> = rows.iter().map(read).collect();
        let times = if input.times {
            let times: Option<Vec<i64>> = rows.iter().map(|row| row.time).collect();
            times.ok_or("a row has no event time")?.iter().flat_map(|t| t.to_le_bytes()).collect()
        } else {
            vec![]
        };
        let rows = encode(&fields, cells.iter().map(|row| row.iter().collect()));
        Ok(Input { port: port as u32, split: 0, rows, times, slots, watermark: clocks.watermark, now: clocks.now })
    }

    pub fn assemble_all(&self, outputs: Vec<Output>, origins: &[Row]) -> Result<Vec<Emitted>, String> {
        outputs.into_iter().map(|output| self.assemble(output, origins)).collect()
    }

    /// The rows of an output: computed columns from the chain, passed ones and event times from the rows of origin.
    fn assemble(&self, output: Output, rows: &[Row]) -> Result<Emitted, String> {
        let port = &self.description.outputs[output.port as usize];
        let is_computed = |origin: &ColumnOrigin| *origin == ColumnOrigin::Computed;
        let computed: Vec<Field> = top_level(&port.schema)
            .zip(&port.columns)
            .filter(|(_, origin)| is_computed(origin))
            .flat_map(|(fields, _)| fields.to_vec())
            .collect();
        let origins: Vec<u32> = match &output.origins {
            Origins::Identity => (0..rows.len() as u32).collect(),
            Origins::Picked(picked) => slots_of(picked).collect(),
        };
        if origins.len() != output.rows.rows as usize {
            return Err(format!("{} rows come from {} rows", output.rows.rows, origins.len()));
        }
        let mut times = times_of(&output.times);
        let time_column = self.description.event_time.filter(|_| output.port == 0).and_then(|assigner| assigner.column);
        let mut emitted = vec![];
        for (own, origin) in decode(&computed, output.rows)?.into_iter().zip(origins) {
            let origin = rows.get(origin as usize).ok_or("a row comes from a row that is not there")?;
            let mut own = own.into_iter();
            let mut cells = vec![];
            for column in &port.columns {
                let cell = match column {
                    ColumnOrigin::Computed => own.next(),
                    ColumnOrigin::Passed(from) => origin.cells.get(*from as usize).cloned(),
                };
                cells.push(cell.ok_or("a column is passed on that is not there")?);
            }
            let time = times.next().or_else(|| time_column.map_or(origin.time, |column| time_in(&cells[column as usize])));
            emitted.push(Row { cells, time });
        }
        Ok((output.port, emitted))
    }
}

/// A column of a schema, with what is nested in it.
fn column(schema: &[Field], index: u32) -> &[Field] {
    top_level(schema).nth(index as usize).unwrap_or_default()
}
