//! What drives an attempt: its claim, its puts, its restoration, and the commands of its coordinator.

use weir_protocol::checkpoint::Command;
use weir_protocol::claim::{self, Nonce, Seen, Settled};

use super::*;

impl World {
    /// An attempt reads the log and puts its claim.
    pub(super) fn claim(&mut self, attempt: usize) {
        let entries: Vec<_> = (0..).zip(self.log.iter().map(|logged| Seen::from(logged.read()))).collect();
        let decision = claim::resolve(&entries);
        let entry = decision.entry(Nonce(attempt as u128));
        let put = Put { attempt, number: decision.number, entry, snapshots: Snapshots::new(), is_adrift: false };
        self.puts.push(put);
        self.attempts[attempt] = Attempt::Claiming(decision);
    }

    pub(super) fn put(&mut self, index: usize, fate: Fate) {
        let put = self.puts.remove(index);
        self.faults -= u8::from(fate != Fate::Answered);
        let arrives = matches!(fate, Fate::Answered | Fate::Unanswered | Fate::Torn) && put.number == self.log.len() as u64;
        if arrives {
            let logged = Logged { entry: put.entry, snapshots: put.snapshots.clone(), is_torn: fate == Fate::Torn };
            if let Some(Entry::Manifest { checkpoint, .. }) = logged.read()
                && self.entries().any(|e| matches!(e, Entry::Manifest { checkpoint: before, .. } if before >= checkpoint))
            {
                self.violate("the id of a checkpoint was used before");
            }
            self.log.push(logged);
        }
        if put.is_adrift {
            return;
        }
        if let (Fate::Refused, Entry::Manifest { checkpoint, .. }) = (fate, put.entry) {
            return self.driver_says(put.attempt, Event::StoreFailed { checkpoint, reason: String::new() });
        }
        if fate == Fate::Late {
            self.puts.push(Put { is_adrift: true, ..put.clone() });
        }
        let settled = if fate == Fate::Answered && arrives {
            Settled::Written
        } else {
            claim::settle(&put.entry, self.log.get(put.number as usize).map(Logged::read).as_ref())
        };
        let attempt = put.attempt;
        match (settled, put.entry) {
            (Settled::Again, _) => self.puts.push(put),
            (Settled::Written, Entry::Claim { .. }) => {
                if let Attempt::Claiming(decision) = &self.attempts[attempt] {
                    self.attempts[attempt] = Attempt::Claimed(decision.clone());
                }
            }
            (Settled::Lost, Entry::Claim { .. }) => self.claim(attempt),
            (Settled::Written, Entry::Manifest { checkpoint, .. }) => {
                self.running(attempt).claim.advance();
                self.driver_says(attempt, Event::Stored { checkpoint });
            }
            (Settled::Lost, Entry::Manifest { .. }) => self.driver_says(attempt, Event::Fenced),
        }
    }

    /// The entries of the log that can be read.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = Entry> {
        self.log.iter().filter_map(Logged::read)
    }

    pub(super) fn manifest(&self, checkpoint: CheckpointId) -> Option<Entry> {
        let is_it = |e: &Entry| matches!(e, Entry::Manifest { checkpoint: id, .. } if *id == checkpoint);
        self.entries().rev().find(is_it)
    }

    pub(super) fn newest_manifest(&self) -> Option<(Kind, &Snapshots)> {
        self.log.iter().rev().find_map(|logged| match logged.read() {
            Some(Entry::Manifest { kind, .. }) => Some((kind, &logged.snapshots)),
            Some(Entry::Claim { .. }) | None => None,
        })
    }

    pub(super) fn restore(&mut self, settings: &Settings, attempt: usize) {
        let Attempt::Claimed(decision) = self.attempts[attempt].clone() else { panic!("no claim") };
        let none = Snapshots::new();
        let snapshots = decision.base.map_or(&none, |base| &self.log[base.number as usize].snapshots);
        let stops = decision.base.is_some_and(|base| base.kind.stops());
        let sources = (0..settings.inputs.len()).map(|source| {
            let position = match snapshots.get(&source_id(source)) {
                Some(Snapshot::Source { position }) => *position,
                _ => 0,
            };
            Source { position, is_reading: !stops, triggers: VecDeque::new() }
        });
        let sinks = (0..usize::from(settings.sinks)).map(|sink| Sink {
            channels: vec![Channel::default(); settings.inputs.len()],
            open: vec![],
            pending: pending(snapshots.get(&sink_id(sink))).to_vec(),
            barrier: decision.base.map_or(CheckpointId(0), |base| base.checkpoint),
            orders: VecDeque::new(),
            is_done: false,
        });
        let (sources, sinks): (Vec<_>, Vec<_>) = (sources.collect(), sinks.collect());
        let tasks = (0..sources.len()).map(source_id).chain((0..sinks.len()).map(sink_id));
        let claim = decision.won();
        let (coordinator, commands) = Coordinator::new(settings.config.clone(), claim.generation(), tasks, decision.base, 0);
        let listed: BTreeSet<_> = sinks.iter().flat_map(|s| s.pending.clone()).collect();
        self.prepared.retain(|t, _| listed.contains(t) || t.generation >= claim.generation().0);
        self.attempts[attempt] = Attempt::Running(Box::new(Running {
            claim,
            base: decision.base.map(|base| base.checkpoint),
            coordinator,
            messages: vec![VecDeque::new(); sources.len() + sinks.len() + 1],
            sources,
            sinks,
            committing: None,
            requests: BTreeSet::new(),
            ticks: 0,
        }));
        self.execute(attempt, commands);
    }

    pub(super) fn deliver(&mut self, attempt: usize, channel: usize, again: bool) {
        self.duplicates -= u8::from(again);
        let running = self.running(attempt);
        let event = running.messages[channel].pop_front().expect("a message");
        if again {
            running.messages[channel].push_back(event.clone());
        }
        let is_driver = channel == running.messages.len() - 1;
        self.tell(attempt, event.clone());
        for other in (0..self.attempts.len()).filter(|other| *other != attempt && !is_driver) {
            self.tell(other, event.clone());
        }
    }

    /// A coordinator is told of an event, if there is one.
    pub(super) fn tell(&mut self, attempt: usize, event: Event<Snapshot>) {
        if let Attempt::Running(running) = &mut self.attempts[attempt] {
            let commands = running.coordinator.on(event);
            self.execute(attempt, commands);
        }
    }

    pub(super) fn driver_says(&mut self, attempt: usize, event: Event<Snapshot>) {
        self.running(attempt).messages.last_mut().expect("the driver's queue").push_back(event);
    }

    fn execute(&mut self, attempt: usize, commands: Vec<Command<Snapshot>>) {
        for command in commands {
            let running = self.running(attempt);
            match command {
                Command::Trigger { checkpoint, kind } => {
                    for source in running.sources.iter_mut().filter(|s| s.is_reading) {
                        source.triggers.push_back((checkpoint, kind));
                    }
                }
                Command::Store { checkpoint, kind, snapshots } => {
                    let is_complete = snapshots.len() == running.sources.len() + running.sinks.len();
                    let (number, entry) = (running.claim.number(), running.claim.manifest(checkpoint, kind));
                    self.puts.push(Put { attempt, number, entry, snapshots, is_adrift: false });
                    if !is_complete {
                        self.violate("a manifest lacks a task");
                    }
                }
                Command::Commit { checkpoint } => {
                    running.committing = Some((checkpoint, (0..running.sinks.len() as u8).collect()));
                    running.sinks.iter_mut().for_each(|s| s.orders.push_back(checkpoint));
                    let (generation, is_base) = (running.claim.generation(), running.base == Some(checkpoint));
                    if !self.manifest(checkpoint).is_some_and(|m| m.generation() == generation || is_base) {
                        self.violate("a commit of what is not in the log");
                    }
                }
                Command::Abandon { checkpoint, .. } => {
                    let generation = running.claim.generation();
                    let is_it = |e: &Entry| matches!(e, Entry::Manifest { generation: g, checkpoint: c, .. } if (*g, *c) == (generation, checkpoint));
                    if self.log.iter().any(|logged| is_it(&logged.entry)) || self.puts.iter().any(|p| is_it(&p.entry)) {
                        self.violate("what was abandoned is stored, or may be");
                    }
                }
                Command::Answer { request, outcome } => {
                    running.requests.remove(&request);
                    let is_stored = outcome.is_err() || outcome.is_ok_and(|checkpoint| self.manifest(checkpoint).is_some());
                    if !self.answered.insert(request) || !is_stored {
                        self.violate("a wrong answer");
                    }
                }
                Command::Finish => self.close(attempt, Attempt::Finished),
                Command::Fail { reason } => self.close(attempt, Attempt::Failed(reason)),
            }
        }
    }

    fn close(&mut self, attempt: usize, end: Attempt) {
        let running = self.running(attempt);
        let (generation, number) = (running.claim.generation(), running.claim.number());
        if !running.requests.is_empty() {
            self.violate("a request without an answer");
        }
        // What is torn at its number may have been of a newer attempt.
        let fences = |logged: &Logged| logged.read().is_none_or(|entry| entry.generation() > generation);
        if end == Attempt::Failed(Failure::Fenced) && !self.log.iter().skip(number as usize).any(fences) {
            self.violate("an attempt is fenced by nobody");
        }
        self.end(attempt, end);
    }
}
