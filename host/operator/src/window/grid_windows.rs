//! Windows on a grid: tumbling, sliding, global.
//!
//! Accumulators are kept by (key, *part*). Where windows do not overlap, a part is a window. Where they do, it is a cell of the grid, which all
//! windows over it share; a window is merged from its cells when it is emitted. Triggers that look at the rows of one window (its number of
//! rows, purging) cannot share cells: then a part is a window, and a row is accumulated once for each of its windows.

use std::collections::{BTreeSet, HashSet, VecDeque};

use arrow_array::ArrayRef;
use weir_plan::job::Stage;
use weir_state::{Created, Entries, Grouping, Namespaces, Slot, SlotTable};
use weir_types::call::States;
use weir_types::graph;
use weir_types::{EventTime, KeyGroupRange};

use super::feed::Feed;
use super::grid::{Grid, Span};
use super::partial::PartialList;
use super::policy::{Policy, Tally};
use super::reduction::Reduction;
use super::round::{Round, assign_slots, renew_slots};
use super::turn::{PANES_PER_CALL_MAX, PaneList, Turn};
use crate::Error;
use crate::body::Body;
use crate::eviction::{Eviction, Note, Place};
use crate::progress::Progress;
use crate::snapshot::{self, Kind, Writer, corrupt};

/// The state of all keys' windows.
pub(super) struct GridWindows {
    grid: Grid,
    /// whether parts are cells that overlapping windows share
    shares_cells: bool,
    stage: Stage,
    /// whether something has to be known of the rows in a slot
    tallied: bool,
    /// slots by key and start of the part
    table: SlotTable,
    /// by slot, if `tallied`
    tallies: Vec<Tally>,
    /// starts of the parts that have rows
    parts: BTreeSet<EventTime>,
    /// windows with rows that time has not passed, by end, then start
    coming: BTreeSet<(EventTime, EventTime)>,
    /// what is being emitted
    emission: Option<Emission>,
    /// windows that are to be emitted early, all together where they share cells
    early: VecDeque<Vec<Span>>,
    /// before an exchange: what it brings to aggregate
    reduction: Reduction,
    round: Round,
    placed: Placed,
    grouping: Grouping,
    /// empty between two calls, kept for its memory only
    list: PaneList,
    slots: Vec<Slot>,
    created: Vec<Created>,
}

/// Windows that are being emitted. Between two steps nothing else happens to the operator.
#[derive(Debug, Default)]
struct Emission {
    windows: Vec<Span>,
    /// whether only keys whose rows have changed are emitted
    early: bool,
    purges: bool,
    /// the parts that they are made of
    parts: Vec<EventTime>,
    /// key groups that are still to come; none = all of them, nothing is evicted
    steps: VecDeque<Option<KeyGroupRange>>,
    /// the panes of the current step
    panes: Panes,
}

/// Panes that are to be emitted.
#[derive(Debug, Default)]
struct Panes {
    /// up to which pane they are of which window
    windows: Vec<(usize, Span)>,
    /// pane i is made of `slots[ends[i - 1]..ends[i]]`
    ends: Vec<u32>,
    slots: Vec<Slot>,
    next: usize,
}

impl Panes {
    fn push(&mut self, slots: impl IntoIterator<Item = Slot>) {
        self.slots.extend(slots);
        self.ends.push(self.slots.len() as u32);
    }

    /// The panes pushed since the last call are of this window.
    fn are_of(&mut self, window: Span) {
        self.windows.push((self.ends.len(), window));
    }

    /// The next pane.
    fn pop(&mut self) -> Option<(Span, &[Slot])> {
        let end = *self.ends.get(self.next)? as usize;
        let start = self.next.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        let of = self.windows.partition_point(|(up_to, _)| *up_to <= self.next);
        self.next += 1;
        Some((self.windows[of].1, &self.slots[start..end]))
    }
}

/// Where the rows of a batch belong. Kept from batch to batch for its memory only.
#[derive(Debug, Default)]
struct Placed {
    /// rows of the batch, once for each part that they belong to; none if `complete`
    rows: Vec<u32>,
    /// the start of the part of each row
    parts: Vec<EventTime>,
    late: Vec<u32>,
    /// whether they are simply all rows of the batch
    complete: bool,
    /// the part of all rows, if there is only one
    only: Option<EventTime>,
    /// whether a row belongs to a window that time has passed
    passed: bool,
}

/// The parts that rows of one cell belong to.
#[derive(Debug)]
struct Cell {
    span: Span,
    parts: Vec<EventTime>,
    late: bool,
}

/// Rows that are looked at together, without a branch for each of them.
const ROWS_AT_ONCE: usize = 16;

/// How many of the first rows are in a cell, which the very first one is: also at the end of time, where no span says so.
fn run_in(cell: Span, times: &[EventTime]) -> usize {
    let mut chunks = times.chunks_exact(ROWS_AT_ONCE);
    let whole = chunks.by_ref().take_while(|chunk| chunk.iter().fold(true, |all, &time| all & cell.contains(time))).count();
    let run = whole * ROWS_AT_ONCE;
    (run + times[run..].iter().take_while(|&&time| cell.contains(time)).count()).max(1)
}

/// Whether parts are cells that overlapping windows share.
pub(super) fn shares_cells(grid: &Grid, window: &graph::Window) -> bool {
    let policy = Policy::of(window);
    grid.overlaps() && window.mergeable && (policy.emits_once() || !policy.purging && policy.every_count.is_none())
}

impl GridWindows {
    pub fn new(grid: Grid, window: &graph::Window, stage: Stage, table: SlotTable) -> Self {
        let policy = Policy::of(window);
        Self {
            grid,
            shares_cells: shares_cells(&grid, window),
            stage,
            tallied: !policy.emits_once() || stage == Stage::Local,
            table,
            tallies: vec![],
            parts: BTreeSet::new(),
            coming: BTreeSet::new(),
            emission: None,
            early: VecDeque::new(),
            reduction: Reduction::default(),
            round: Round::default(),
            placed: Placed::default(),
            grouping: Grouping::default(),
            list: PaneList::default(),
            slots: vec![],
            created: vec![],
        }
    }

    /// How many slots the guest holds.
    pub fn slots(&self) -> usize {
        self.table.len()
    }

    /// All slots, each with a slot of the table that has its key.
    pub fn live(&self) -> Vec<(Slot, Slot)> {
        self.parts.iter().flat_map(|&part| self.table.slots_of(part)).map(|slot| (slot, slot)).collect()
    }

    pub fn table(&self) -> &SlotTable {
        &self.table
    }

    /// The time at which there is something to do next.
    pub fn next_due(&self, policy: &Policy) -> Option<EventTime> {
        let emission = self.coming.first().map(|(end, _)| end.saturating_sub(1));
        let expiry = self.parts.first().map(|&part| policy.expiry(self.last_end(part)));
        [emission, expiry].into_iter().flatten().min()
    }

    /// Before an exchange: so many rows have come. Returns whether they pass as they are.
    pub fn passes(&mut self, rows: usize) -> bool {
        self.reduction.passes(rows)
    }

    /// Takes a batch in.
    pub async fn add(&mut self, feed: &Feed<'_>, turn: &mut Turn<'_>) -> Result<(), Error> {
        self.place(feed, turn);
        turn.set_aside(feed, &self.placed.late)?;
        if self.placed.rows.is_empty() && !self.placed.complete {
            return Ok(());
        }
        let selected: Vec<ArrayRef>;
        let (rows, keys) = if self.placed.complete {
            (feed.len(), &feed.keys)
        } else {
            selected = feed.keys_of(&self.placed.rows)?;
            (self.placed.rows.len(), &selected)
        };
        let parts = match self.placed.only {
            Some(part) => Namespaces::Constant(part),
            None => Namespaces::PerRow(&self.placed.parts),
        };
        self.table.assign(rows, keys, parts, &mut self.slots, &mut self.created)?;
        self.open_slots(turn).await?;

        let emits_here = turn.policy.every_count.is_some() || self.placed.passed && turn.policy.emits_on_late_rows();
        if emits_here {
            self.add_row_by_row(feed, turn).await?;
        } else {
            let selection = (!self.placed.complete).then_some(&self.placed.rows[..]);
            feed.accumulate(selection, &self.slots, turn).await?;
            if self.tallied {
                for &slot in &self.slots {
                    turn.policy.add(&mut self.tallies[slot as usize], 1);
                }
            }
        }
        let table = &self.table;
        let host_bytes = |slots: &[Slot]| table.bytes_per_slot(slots.iter().copied());
        turn.eviction.sample(turn.body, table.len(), table.sample(Eviction::SAMPLE_SLOTS), host_bytes).await?;
        self.evict(turn).await
    }

    /// Finds the parts that the rows belong to, and the rows that are late.
    fn place(&mut self, feed: &Feed<'_>, turn: &Turn<'_>) {
        let mut placed = std::mem::take(&mut self.placed);
        placed.rows.clear();
        placed.parts.clear();
        placed.late.clear();
        placed.complete = true;
        placed.only = None;
        placed.passed = false;
        let times = &feed.times[..];
        let Some(&first) = times.first() else { return self.placed = placed };
        let mut cell = self.cell(first, turn, &mut placed);
        let mut run = run_in(cell.span, times);
        if run == times.len() && cell.parts.len() == 1 {
            // Many batches: all rows belong to one part.
            placed.only = Some(cell.parts[0]);
            self.placed = placed;
            return;
        }
        // Around a boundary rows go back and forth between two cells.
        let mut other: Option<Cell> = None;
        let mut row = 0;
        loop {
            // Elsewhere long runs of rows are in one cell.
            let rows = row as u32..(row + run) as u32;
            if cell.late {
                placed.late.extend(rows.clone());
            }
            if cell.parts.len() != 1 && std::mem::take(&mut placed.complete) {
                placed.rows.extend(0..rows.start);
            }
            if let [part] = cell.parts[..] {
                if !placed.complete {
                    placed.rows.extend(rows);
                }
                placed.parts.resize(placed.parts.len() + run, part);
            } else {
                for row in rows {
                    placed.rows.extend(cell.parts.iter().map(|_| row));
                    placed.parts.extend(&cell.parts);
                }
            }
            row += run;
            let Some(&time) = times.get(row) else { break };
            let next = match other.take() {
                Some(known) if known.span.contains(time) => known,
                _ => self.cell(time, turn, &mut placed),
            };
            other = Some(std::mem::replace(&mut cell, next));
            run = run_in(cell.span, &times[row..]);
        }
        self.placed = placed;
    }

    /// The cell of a time, as rows that come now see it. Opens its parts.
    fn cell(&mut self, time: EventTime, turn: &Turn<'_>, placed: &mut Placed) -> Cell {
        let span = self.grid.cell(time);
        let mut cell = Cell { span, parts: vec![], late: false };
        let mut any = false;
        for window in self.grid.windows(span.start) {
            any = true;
            // Before an exchange nothing is late: what is, is decided behind it.
            if self.stage != Stage::Local && turn.policy.is_expired(window.end, turn.time) {
                cell.late = true;
                continue;
            }
            let part = if self.shares_cells { span.start } else { window.start };
            if cell.parts.last() != Some(&part) {
                cell.parts.push(part);
            }
            self.parts.insert(part);
            if Policy::is_past(window.end, turn.time) {
                placed.passed = true;
            } else if self.stage != Stage::Local {
                self.coming.insert((window.end, window.start));
            }
        }
        cell.late &= any && cell.parts.is_empty();
        cell
    }

    /// Tells the guest about the slots in `created`, and brings back the state that the backend has of them.
    async fn open_slots(&mut self, turn: &mut Turn<'_>) -> Result<(), Error> {
        if self.created.is_empty() {
            return Ok(());
        }
        self.tally_created();
        let slots: Vec<_> = self.created.iter().map(|c| (c.slot, c.slot)).collect();
        assign_slots(&slots, &self.table, turn).await?;
        let back: Vec<Slot> = self.created.iter().filter(|c| c.restore).map(|c| c.slot).collect();
        let (found, tallies) = turn.eviction.bring_back(turn.body, &mut self.table, &back).await?;
        self.put_back(&found, &tallies);
        Ok(())
    }

    fn tally_created(&mut self) {
        if self.tallied {
            self.tallies.resize(self.table.slot_bound(), Tally::default());
            for created in &self.created {
                self.tallies[created.slot as usize] = Tally::default();
            }
        }
    }

    /// Keeps the tallies of slots that have their state from the backend.
    fn put_back(&mut self, slots: &[Slot], tallies: &[Tally]) {
        if self.tallied {
            for (&slot, &tally) in slots.iter().zip(tallies) {
                self.tallies[slot as usize] = tally;
            }
        }
    }

    /// Adds rows of which each may emit its window.
    async fn add_row_by_row(&mut self, feed: &Feed<'_>, turn: &mut Turn<'_>) -> Result<(), Error> {
        if self.shares_cells {
            self.restore_siblings(turn).await?;
        }
        let late_emits = turn.policy.emits_on_late_rows();
        let mut pane: Vec<Slot> = vec![];
        let slots = std::mem::take(&mut self.slots);
        let mut purged: Vec<Slot> = vec![];
        for (i, &slot) in slots.iter().enumerate() {
            let row = if self.placed.complete { i as u32 } else { self.placed.rows[i] };
            if self.round.is_settled(slot) {
                self.round.finish(feed, &self.table, turn).await?;
            }
            self.round.add(row, slot);
            let full = self.tallied && turn.policy.add(&mut self.tallies[slot as usize], 1);
            let part = self.placed.only.unwrap_or_else(|| self.placed.parts[i]);
            if self.shares_cells {
                for window in self.grid.windows(part) {
                    if Policy::is_past(window.end, turn.time) && !turn.policy.is_expired(window.end, turn.time) {
                        pane.clear();
                        pane.extend(
                            self.parts.range(window.start..window.end).filter_map(|&part| self.table.sibling(slot, part)),
                        );
                        self.round.emit(window, &pane);
                    }
                }
            } else {
                let window = self.grid.window(part);
                if full || late_emits && Policy::is_past(window.end, turn.time) {
                    self.round.emit(window, &[slot]);
                    if self.tallied {
                        self.tallies[slot as usize].changed = false;
                        if turn.policy.purging {
                            self.tallies[slot as usize].filled = false;
                            self.round.purge(slot, slot);
                            purged.push(slot);
                        }
                    }
                }
            }
        }
        self.slots = slots;
        self.round.finish(feed, &self.table, turn).await?;
        self.release(purged, turn).await
    }

    /// Before late rows emit windows of shared cells: brings back the evicted cells of their keys.
    async fn restore_siblings(&mut self, turn: &mut Turn<'_>) -> Result<(), Error> {
        let (mut places, mut asked) = (vec![], HashSet::new());
        for &slot in &self.slots {
            for window in self.grid.windows(self.table.namespace(slot)) {
                if !Policy::is_past(window.end, turn.time) || turn.policy.is_expired(window.end, turn.time) {
                    continue;
                }
                for &cell in self.parts.range(window.start..window.end) {
                    // Rows of one key come in several cells, but the backend has its entry once.
                    let mut key = vec![];
                    self.table.key_bytes(slot, &mut key);
                    if self.table.evicted(cell) > 0 && self.table.sibling(slot, cell).is_none() && asked.insert((key, cell)) {
                        places.push(Place { key: slot, namespace: cell });
                    }
                }
            }
        }
        if places.is_empty() {
            return Ok(());
        }
        let taken = turn.eviction.take(&self.table, &places)?;
        let (of, cells): (Vec<Slot>, Vec<EventTime>) = taken.found.iter().map(|&i| (places[i].key, places[i].namespace)).unzip();
        let keys = self.table.key_columns(&of)?;
        self.bring_in(&keys, Namespaces::PerRow(&cells), &taken.notes, &taken.states, turn).await
    }

    /// Gives slots to entries that were taken from the backend.
    async fn bring_in(
        &mut self,
        keys: &[ArrayRef],
        parts: Namespaces<'_>,
        tallies: &[Tally],
        states: &weir_types::call::States,
        turn: &mut Turn<'_>,
    ) -> Result<(), Error> {
        if tallies.is_empty() {
            return Ok(());
        }
        let mut slots = vec![];
        self.table.assign(tallies.len(), keys, parts, &mut slots, &mut self.created)?;
        self.tally_created();
        turn.eviction.note_back(&mut self.table, &slots);
        self.put_back(&slots, tallies);
        let assigned: Vec<_> = slots.iter().map(|&slot| (slot, slot)).collect();
        assign_slots(&assigned, &self.table, turn).await?;
        turn.eviction.import(turn.body, &slots, states).await
    }

    /// Frees those of some purged slots that got no rows since, and of which nothing else has to be known.
    async fn release(&mut self, mut slots: Vec<Slot>, turn: &mut Turn<'_>) -> Result<(), Error> {
        slots.sort_unstable();
        slots.dedup();
        slots.retain(|&slot| self.tallies[slot as usize] == Tally::default());
        self.free(&slots, turn).await
    }

    async fn free(&mut self, slots: &[Slot], turn: &mut Turn<'_>) -> Result<(), Error> {
        if slots.is_empty() {
            return Ok(());
        }
        turn.body.clear_slots(slots).await?;
        turn.eviction.drop_copies(&self.table, slots)?;
        self.table.remove(slots);
        Ok(())
    }

    /// Emits windows that time has passed and drops those that have expired.
    pub async fn advance(&mut self, turn: &mut Turn<'_>) -> Result<Progress, Error> {
        if self.stage == Stage::Local {
            return self.export(turn.time, turn).await;
        }
        loop {
            if self.emit(turn).await? == Progress::More {
                return Ok(Progress::More);
            }
            let Some(&(end, start)) = self.coming.first().filter(|(end, _)| Policy::is_past(*end, turn.time)) else { break };
            self.coming.pop_first();
            if turn.policy.on_time {
                let purges = turn.policy.purging && !turn.policy.is_expired(end, turn.time);
                self.begin(vec![Span { start, end }], false, purges, turn);
            }
        }
        while let Some(&part) = self.parts.first()
            && turn.policy.is_expired(self.last_end(part), turn.time)
        {
            self.parts.pop_first();
            let slots: Vec<Slot> = self.table.slots_of(part).collect();
            if self.table.evicted(part) > 0 {
                turn.eviction.drop_namespace(part)?;
                self.table.forget_evicted(part);
                turn.body.clear_slots(&slots).await?;
                self.table.remove(&slots);
            } else {
                self.free(&slots, turn).await?;
            }
        }
        self.evict(turn).await?;
        Ok(Progress::Done)
    }

    /// The end of the last window that a part belongs to.
    fn last_end(&self, part: EventTime) -> EventTime {
        match self.shares_cells {
            true => self.grid.windows(part).next_back().map_or(part, |window| window.end),
            false => self.grid.window(part).end,
        }
    }

    /// It is time to emit those of the windows to come that have changed.
    pub fn begin_early(&mut self) {
        let windows = self.coming.iter().map(|&(end, start)| Span { start, end });
        // That cells have changed is forgotten once all windows over them are emitted.
        self.early = match self.shares_cells {
            true => VecDeque::from([windows.collect()]),
            false => windows.map(|window| vec![window]).collect(),
        };
    }

    /// Goes on with what [`begin_early`](Self::begin_early) has begun.
    pub async fn emit_early(&mut self, turn: &mut Turn<'_>) -> Result<Progress, Error> {
        loop {
            if self.emit(turn).await? == Progress::More {
                return Ok(Progress::More);
            }
            let Some(windows) = self.early.pop_front() else { break };
            self.begin(windows, true, turn.policy.purging, turn);
        }
        self.evict(turn).await?;
        Ok(Progress::Done)
    }

    /// Begins to emit windows. Where much of them was evicted, it is brought back some key groups at a time.
    fn begin(&mut self, windows: Vec<Span>, early: bool, purges: bool, turn: &Turn<'_>) {
        let mut parts = BTreeSet::new();
        for window in &windows {
            match self.shares_cells {
                true => parts.extend(self.parts.range(window.start..window.end)),
                false => _ = parts.insert(window.start),
            }
        }
        let evicted = parts.iter().map(|&part| self.table.evicted(part)).sum();
        let mut steps: VecDeque<_> = turn.eviction.steps(evicted).into_iter().map(Some).collect();
        if steps.is_empty() {
            steps.push_back(None);
        }
        let parts = parts.into_iter().collect();
        self.emission = Some(Emission { windows, early, purges, parts, steps, panes: Panes::default() });
    }

    /// Goes on with what is being emitted, until a batch's worth of panes is out.
    async fn emit(&mut self, turn: &mut Turn<'_>) -> Result<Progress, Error> {
        let Some(mut emission) = self.emission.take() else { return Ok(Progress::Done) };
        loop {
            while self.emit_panes(&mut emission, turn).await? {
                if turn.is_full() {
                    self.emission = Some(emission);
                    return Ok(Progress::More);
                }
            }
            let Some(groups) = emission.steps.pop_front() else { return Ok(Progress::Done) };
            if let Some(groups) = groups {
                // What the last step brought back may go.
                self.evict(turn).await?;
                self.restore(&emission.parts, groups, turn).await?;
            }
            emission.panes = self.panes(&emission, groups, turn);
        }
    }

    /// The panes of windows, of the keys in some key groups or in all.
    fn panes(&mut self, emission: &Emission, key_groups: Option<KeyGroupRange>, turn: &Turn<'_>) -> Panes {
        let max_parallelism = turn.eviction.max_parallelism();
        let table = &self.table;
        let group_of = |slot: Slot| table.key_group(slot, max_parallelism);
        let is_here = |slot: Slot| key_groups.is_none_or(|wanted| wanted.contains(group_of(slot)));
        let was_emitted = |window: Span, slot: Slot| turn.clock.was_past(window.end, || group_of(slot));
        let mut panes = Panes::default();
        if emission.early && self.shares_cells {
            let changed = |&slot: &Slot| self.tallies[slot as usize].changed && is_here(slot);
            let changed: Vec<(EventTime, Vec<Slot>)> =
                emission.parts.iter().map(|&part| (part, table.slots_of(part).filter(changed).collect())).collect();
            for &window in &emission.windows {
                let cells = &changed[changed.partition_point(|(cell, _)| *cell < window.start)..];
                let cells = &cells[..cells.partition_point(|(cell, _)| *cell < window.end)];
                let mut seen = HashSet::new();
                for &slot in cells.iter().flat_map(|(_, slots)| slots) {
                    // A key with several changed cells is known by its first cell.
                    let pane: Vec<Slot> = cells.iter().filter_map(|(cell, _)| table.sibling(slot, *cell)).collect();
                    if !was_emitted(window, slot) && seen.insert(pane[0]) {
                        panes.push(pane);
                    }
                }
                panes.are_of(window);
            }
            let emitted: Vec<Slot> = changed.into_iter().flat_map(|(_, slots)| slots).collect();
            for slot in emitted {
                self.tallies[slot as usize].changed = false;
                self.table.mark_changed(slot);
            }
            return panes;
        }
        for &window in &emission.windows {
            table.group_by_key(&emission.parts, &mut self.grouping);
            let panes_of_keys = self.grouping.groups();
            panes.ends.reserve(panes_of_keys.len());
            panes.slots.reserve(self.grouping.slots().len());
            for pane in panes_of_keys {
                if is_here(pane[0]) && !was_emitted(window, pane[0]) {
                    panes.push(pane.iter().copied());
                }
            }
            panes.are_of(window);
        }
        panes
    }

    /// Emits so many panes as one call takes; returns whether there were any.
    async fn emit_panes(&mut self, emission: &mut Emission, turn: &mut Turn<'_>) -> Result<bool, Error> {
        let (mut list, mut purged) = (std::mem::take(&mut self.list), vec![]);
        let mut any = false;
        while !list.is_full()
            && let Some((window, pane)) = emission.panes.pop()
        {
            any = true;
            if !self.tallied || self.note_emission(pane, emission.early, emission.purges, &mut purged) {
                list.push(window, pane.iter().copied());
            }
        }
        list.emit(turn).await?;
        self.list = list;
        renew_slots(&purged, &self.table, turn).await?;
        self.release(purged.into_iter().map(|(slot, _)| slot).collect(), turn).await?;
        Ok(any)
    }

    /// Whether there is something to emit of a pane; if so, notes that it is.
    fn note_emission(&mut self, pane: &[Slot], only_changed: bool, purges: bool, purged: &mut Vec<(Slot, Slot)>) -> bool {
        let any = |what: fn(&Tally) -> bool| pane.iter().any(|&slot| what(&self.tallies[slot as usize]));
        // Of cells that windows share only those that have changed come here (see `panes`). They are never purged.
        if !any(|tally| tally.filled) || only_changed && !self.shares_cells && !any(|tally| tally.changed) {
            return false;
        }
        if let (false, &[slot]) = (self.shares_cells, pane) {
            self.table.mark_changed(slot);
            let tally = &mut self.tallies[slot as usize];
            tally.changed = false;
            if purges {
                tally.filled = false;
                purged.push((slot, slot));
            }
        }
        true
    }

    /// Brings back the evicted entries of these parts in these key groups.
    async fn restore(&mut self, parts: &[EventTime], groups: KeyGroupRange, turn: &mut Turn<'_>) -> Result<(), Error> {
        for &part in parts {
            if self.table.evicted(part) == 0 {
                continue;
            }
            for groups in turn.eviction.pieces(self.table.evicted(part), groups) {
                let (keys, taken) = turn.eviction.take_namespace(&mut self.table, part, groups)?;
                let keys = self.table.decode_keys(keys.iter().map(|k| &k[..]))?;
                self.bring_in(&keys, Namespaces::Constant(part), &taken.notes, &taken.states, turn).await?;
            }
        }
        Ok(())
    }

    /// Evicts cold slots if there are too many.
    pub async fn evict(&mut self, turn: &mut Turn<'_>) -> Result<(), Error> {
        let surplus = turn.eviction.surplus(self.table.len());
        if surplus == 0 {
            return Ok(());
        }
        if self.stage == Stage::Local {
            while self.export(EventTime::MAX, turn).await? == Progress::More {}
            return Ok(());
        }
        let mut cold = vec![];
        self.table.coldest(surplus, &mut cold);
        let places: Vec<_> = cold.iter().map(|&slot| Place::of(&self.table, slot)).collect();
        let tally = |i: usize, _| self.tally(cold[i]);
        let is_current = |slot| self.table.has_current_copy(slot);
        turn.eviction.put_away(turn.body, &self.table, &cold, &places, tally, is_current, false).await?;
        self.table.evict(&cold);
        turn.eviction.note_filters(&self.table);
        Ok(())
    }

    fn tally(&self, slot: Slot) -> Tally {
        if self.tallied { self.tallies[slot as usize] } else { Tally::UNKNOWN }
    }

    /// Writes what is known of all keys.
    pub async fn snapshot(&mut self, body: &mut Body, eviction: &mut Eviction, out: &mut Writer) -> Result<(), Error> {
        let slots = match out.takes_changes() {
            true => self.table.take_changed(),
            false => self.parts.iter().flat_map(|&part| self.table.slots_of(part)).collect(),
        };
        let push = |slots: &[Slot], states: &States| {
            out.push_states(&self.table, slots, states, |i| (self.table.namespace(slots[i]), self.tally(slots[i])));
        };
        eviction.export_each(body, &slots, push).await?;
        if !out.takes_changes() {
            eviction.scan(&mut |at, value| out.push_key(Kind::State, at.group, at.namespace, at.key, value))?;
        }
        Ok(())
    }

    /// How many entries there are in each part, in slots or in the backend.
    pub fn counts(&self) -> impl Iterator<Item = (i64, u64)> {
        self.parts.iter().map(|&part| (part, self.table.count_of(part) as u64 + self.table.evicted(part)))
    }

    /// Takes in how many entries there are in each part, all of them in the backend.
    pub fn restore_counts(&mut self, counts: &[(i64, u64)], time: EventTime) -> Result<(), Error> {
        for &(part, count) in counts {
            self.reopen(part, time)?;
            self.table.add_evicted(part, count, true);
        }
        Ok(())
    }

    /// Takes in entries of a snapshot; returns whether there are some that have changed since their windows were emitted.
    pub fn restore_entries(&mut self, entries: &Entries, time: EventTime, eviction: &mut Eviction) -> Result<bool, Error> {
        let entries = snapshot::read(entries, &self.table, eviction.max_parallelism())?;
        let mut any_changed = false;
        for entry in &entries {
            let (Kind::State, Some((tally, _))) = (entry.kind, Tally::decode(entry.value)) else {
                return Err(corrupt("an entry is not one of a window"));
            };
            any_changed |= tally.changed && tally.filled;
            self.reopen(entry.namespace, time)?;
            self.table.add_evicted(entry.namespace, 1, true);
        }
        eviction.put_restored(entries.iter().map(|entry| (entry.group, entry.namespace, entry.key, entry.value)))?;
        Ok(any_changed)
    }

    /// Opens a part of a snapshot, as its rows once did.
    fn reopen(&mut self, part: EventTime, time: EventTime) -> Result<(), Error> {
        if !self.parts.insert(part) {
            return Ok(());
        }
        let cell = self.grid.cell(part);
        let windows = self.grid.windows(cell.start);
        let of_part: Vec<Span> = windows.filter(|window| self.shares_cells || window.start == part).collect();
        if of_part.is_empty() || self.shares_cells && cell.start != part {
            return Err(corrupt("the state of a key is in a window that is not on the grid"));
        }
        self.coming.extend(of_part.iter().filter(|w| !Policy::is_past(w.end, time)).map(|w| (w.end, w.start)));
        Ok(())
    }

    /// Before an exchange: hands on accumulators of the parts that time is about to pass.
    pub async fn export(&mut self, time: EventTime, turn: &mut Turn<'_>) -> Result<Progress, Error> {
        let most = turn.eviction.slots_per_call().min(PANES_PER_CALL_MAX);
        loop {
            let mut partials = PartialList::default();
            while let Some(&part) = self.parts.first() {
                let span = if self.shares_cells { self.grid.cell(part) } else { self.grid.window(part) };
                let room = most - partials.slots.len();
                if room == 0 || !Policy::is_past(span.end, time) {
                    break;
                }
                for slot in self.table.slots_of(part).take(room) {
                    let rows = self.tallies[slot as usize].rows;
                    self.reduction.hand_on(rows);
                    partials.push(slot, span.start, rows);
                }
                if self.table.count_of(part) > room {
                    break;
                }
                self.reduction.end_part();
                self.parts.pop_first();
            }
            if partials.slots.is_empty() {
                return Ok(Progress::Done);
            }
            let slots = partials.slots.clone();
            partials.export(&self.table, turn).await?;
            self.table.remove(&slots);
            if turn.is_full() {
                return Ok(Progress::More);
            }
        }
    }
}
