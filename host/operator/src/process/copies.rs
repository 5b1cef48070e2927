//! Copies of slots for a checkpoint, each made before its slot changes next: copy on write, as of the heap state of Apache Flink.
//!
//! At the barrier it is only noted which slots have changed since the last one. The operator goes on with its rows. Before it lets the guest change a slot of
//! which a copy is due, it makes that; the others are copied little by little, a piece after each batch. So what a barrier costs in one go does
//! not grow with the state. The longer it takes, the larger the pieces: a task that seldom gets its turn is not what a checkpoint waits for in the end.
//!
//! Timers that are near are not in slots; they are named in the same way (see [`frozen`](super::frozen)), before slots are copied.
//!
//! The backend's checkpoint waits for the copies, and what is written to the backend meanwhile waits for its checkpoint. So what has to go through all
//! that makes all copies first: see [`Copies::finish`].

use std::ops::RangeInclusive;
use std::sync::mpsc::{self, SyncSender};
use std::time::{Duration, Instant};

use weir_state::{Clocks, Slot, SlotTable};
use weir_types::call::States;

use super::frozen::Frozen;
use super::owners::Owners;
use crate::Error;
use crate::body::Body;
use crate::eviction::{Eviction, expiry_of};
use crate::snapshot::Changes;

/// Slots of a piece, at least and at most: about one and eight milliseconds.
const PIECE_SLOTS: RangeInclusive<usize> = 2 << 10..=16 << 10;

/// Slots for each millisecond since the last piece. That is twice what a millisecond is enough for: as long as pieces are not at their bounds, two thirds of the
/// time is spent on them, since a checkpoint waits.
const SLOTS_PER_MS: usize = 4 << 10;

/// The time in which pieces double.
const DOUBLING: Duration = Duration::from_secs(1);

/// How often they double at most: then a piece is all that there can be.
const DOUBLINGS_MAX: u32 = 20;

/// The copies that a checkpoint waits for, if there are any.
#[derive(Debug, Default)]
pub(crate) struct Copies(Option<Due>);

#[derive(Debug)]
struct Due {
    changes: Changes,
    tell: SyncSender<Changes>,
    timers: Frozen,
    /// all slots that had changed; of those before `next` no copy is due any more
    slots: Vec<Slot>,
    next: usize,
    /// how many copies are due
    left: usize,
    since: Instant,
    /// when the last piece was made
    last: Instant,
    /// kept for its memory only
    piece: Vec<Slot>,
}

/// Whose slots they are: what is needed to copy one.
pub(crate) struct Owner<'a> {
    pub table: &'a mut SlotTable,
    pub eviction: &'a mut Eviction,
    pub body: &'a mut Body,
    pub owners: &'a mut Owners,
    /// the namespace of all of them
    pub namespace: i64,
    /// by which clocks their states expire
    pub clocks: Clocks,
}

impl Copies {
    /// At a barrier: copies of these slots are due, and of these timers, for these changes. Returns where they come from once all are made. None may be due.
    pub fn begin(&mut self, changes: Changes, slots: Vec<Slot>, timers: Frozen, of: Owner<'_>) -> mpsc::Receiver<Changes> {
        debug_assert!(self.0.is_none(), "one checkpoint is made after the other");
        of.table.mark_due(&slots);
        of.owners.keep_gone();
        let (tell, told) = mpsc::sync_channel(1);
        let now = Instant::now();
        self.0 = Some(Due { changes, tell, timers, left: slots.len(), slots, next: 0, since: now, last: now, piece: vec![] });
        self.end(of.owners);
        told
    }

    /// Whether copies are due.
    pub fn are_due(&self) -> bool {
        self.0.is_some()
    }

    /// These slots are about to change: makes those copies of them that are due.
    pub async fn before_change(&mut self, slots: &[Slot], mut of: Owner<'_>) -> Result<(), Error> {
        let Some(due) = &mut self.0 else { return Ok(()) };
        let start = Instant::now();
        due.piece.clear();
        of.table.take_due(slots, &mut due.piece);
        due.copy(&mut of).await?;
        due.changes.note_copying(start.elapsed());
        self.end(of.owners);
        Ok(())
    }

    /// Makes a piece of the copies that are due.
    pub async fn go_on(&mut self, mut of: Owner<'_>) -> Result<(), Error> {
        let Some(due) = &mut self.0 else { return Ok(()) };
        due.copy_next(piece_slots(due.last.elapsed(), due.since.elapsed(), of.eviction.holds_much()), &mut of).await?;
        due.last = Instant::now();
        self.end(of.owners);
        Ok(())
    }

    /// Makes all copies that are due.
    pub async fn finish(&mut self, mut of: Owner<'_>) -> Result<(), Error> {
        let Some(due) = &mut self.0 else { return Ok(()) };
        due.copy_next(usize::MAX, &mut of).await?;
        self.end(of.owners);
        Ok(())
    }

    /// Hands over the changes if all copies are made.
    fn end(&mut self, owners: &mut Owners) {
        if let Some(Due { changes, tell, .. }) = self.0.take_if(|due| due.left == 0 && due.timers.len() == 0) {
            owners.drop_gone();
            // If nobody takes them any more, the backend's checkpoint is given up with them.
            let _ = tell.send(changes);
        }
    }
}

/// How many slots to copy now: so long after the last piece, and after the barrier. Where much is held back for them, many: so that more slots are copied than
/// leave for the backend.
fn piece_slots(last: Duration, barrier: Duration, holds_much: bool) -> usize {
    let (least, most) = PIECE_SLOTS.into_inner();
    let piece = match holds_much {
        false => (last.as_millis() as usize).saturating_mul(SLOTS_PER_MS).clamp(least, most),
        true => most,
    };
    let doublings = (barrier.as_millis() / DOUBLING.as_millis()).min(DOUBLINGS_MAX.into());
    piece << doublings
}

impl Due {
    /// Copies so many timers and slots, as far as there are that many.
    async fn copy_next(&mut self, count: usize, of: &mut Owner<'_>) -> Result<(), Error> {
        let start = Instant::now();
        let timers = self.timers.len().min(count);
        self.timers.name(timers, of.owners, of.table, of.eviction.max_parallelism(), self.changes.beside_mut())?;
        self.piece.clear();
        let count = (count - timers).min(self.left);
        while self.piece.len() < count && self.next < self.slots.len() {
            let end = self.slots.len().min(self.next + count - self.piece.len());
            of.table.take_due(&self.slots[self.next..end], &mut self.piece);
            self.next = end;
        }
        self.copy(of).await?;
        self.changes.note_copying(start.elapsed());
        Ok(())
    }

    /// Copies the slots of the piece.
    async fn copy(&mut self, of: &mut Owner<'_>) -> Result<(), Error> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let Owner { table, eviction, body, namespace, clocks, .. } = of;
        let (table, namespace, max_parallelism) = (&**table, *namespace, eviction.max_parallelism());
        let changes = &mut self.changes;
        let push = |slots: &[Slot], states: &States| {
            let expiry = |i| expiry_of(states, i).filter(|expiry| clocks.are_before(*expiry));
            changes.push_states(table, slots, states, max_parallelism, |i| (namespace, expiry(i)));
        };
        eviction.export_each(body, &self.piece, push).await?;
        self.left -= self.piece.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: pieces follow the time since the last one, within their bounds; they are large where much is held back, and grow the longer a checkpoint waits.
    #[test]
    fn pieces_follow_the_time() {
        let ms = Duration::from_millis;
        let (least, most) = PIECE_SLOTS.into_inner();
        assert_eq!(piece_slots(ms(0), ms(0), false), least);
        assert_eq!(piece_slots(ms(1), ms(500), false), SLOTS_PER_MS);
        assert_eq!(piece_slots(ms(900), ms(900), false), most);
        assert_eq!(piece_slots(ms(0), ms(10), true), most);
        assert_eq!(piece_slots(ms(0), ms(3500), false), 8 * least);
        assert!(piece_slots(ms(u64::MAX), ms(u64::MAX), true) > u32::MAX as usize, "then it is all that there can be");
    }
}
