//! Sources, sinks, and the outside system that sinks write to.

use super::*;

impl World {
    pub(super) fn emit(&mut self, settings: &Settings, attempt: usize, index: usize) {
        let running = self.running(attempt);
        let source = &mut running.sources[index];
        if source.position < settings.inputs[index] {
            let row = (index as u8, source.position);
            source.position += 1;
            running.sinks[sink_of(row, settings.sinks)].channels[index].items.push_back(Item::Row(row));
        } else {
            running.end_source(index);
        }
    }

    pub(super) fn barrier(&mut self, attempt: usize, index: usize, declines: bool) {
        self.faults -= u8::from(declines);
        let running = self.running(attempt);
        let generation = running.claim.generation();
        let source = &mut running.sources[index];
        let (checkpoint, kind) = source.triggers.pop_front().expect("a trigger");
        let (task, snapshot) = (source_id(index), Snapshot::Source { position: source.position });
        running.messages[index].push_back(match declines {
            true => Event::Declined { generation, checkpoint, task, reason: String::new() },
            false => Event::Acked { generation, checkpoint, task, snapshot },
        });
        running.broadcast(index, Item::Barrier(checkpoint, kind));
        match kind {
            // What has drained ends by itself; what has stopped says nothing more.
            Kind::StopWithSavepoint { drain: true } => running.end_source(index),
            Kind::StopWithSavepoint { drain: false } => running.sources[index].is_reading = false,
            Kind::Checkpoint | Kind::Savepoint => {}
        }
    }

    pub(super) fn take(&mut self, attempt: usize, index: usize, source: usize) {
        let sink = &mut self.running(attempt).sinks[index];
        match sink.channels[source].items.pop_front().expect("an item") {
            Item::Row(row) => sink.open.push(row),
            Item::Barrier(checkpoint, kind) => {
                sink.channels.iter_mut().skip(source + 1).for_each(|c| c.pass(checkpoint));
                sink.is_done = kind == Kind::StopWithSavepoint { drain: false };
                self.pass(attempt, index, Some(checkpoint));
            }
            Item::End => {
                sink.channels[source].has_ended = true;
                sink.is_done = sink.channels.iter().all(|c| c.has_ended);
                if sink.is_done {
                    self.pass(attempt, index, None);
                }
            }
        }
    }

    /// A sink ends its transaction and sends its snapshot, at a barrier or at the end.
    fn pass(&mut self, attempt: usize, index: usize, barrier: Option<CheckpointId>) {
        let Attempt::Running(running) = &mut self.attempts[attempt] else { return };
        let generation = running.claim.generation();
        let (task, queue) = (sink_id(index), running.sources.len() + index);
        let sink = &mut running.sinks[index];
        sink.barrier = barrier.unwrap_or(CheckpointId(sink.barrier.0 + 1));
        if !sink.open.is_empty() {
            let transaction = Transaction { generation: generation.0, sink: index as u8, checkpoint: sink.barrier.0 };
            self.prepared.insert(transaction, std::mem::take(&mut sink.open));
            sink.pending.push(transaction);
        }
        let snapshot = Snapshot::Sink { pending: sink.pending.clone() };
        running.messages[queue].push_back(match barrier {
            Some(checkpoint) => Event::Acked { generation, checkpoint, task, snapshot },
            None => Event::Ended { generation, task, snapshot },
        });
    }

    pub(super) fn order(&mut self, attempt: usize, index: usize) {
        let sink = &mut self.running(attempt).sinks[index];
        let checkpoint = sink.orders.pop_front().expect("an order");
        let (transactions, pending) = sink.pending.iter().partition(|t| t.checkpoint <= checkpoint.0);
        sink.pending = pending;
        self.commits.push(Commit { attempt, sink: index as u8, checkpoint, transactions });
        if self.commits.last().is_some_and(|c| c.transactions.is_empty()) {
            self.commit(self.commits.len() - 1);
        }
    }

    pub(super) fn commit(&mut self, index: usize) {
        let Commit { attempt, sink, checkpoint, transactions } = self.commits.remove(index);
        for transaction in transactions {
            if let Some(rows) = self.prepared.remove(&transaction) {
                if !self.newest_manifest().is_some_and(|(_, snapshots)| {
                    snapshots.values().any(|snapshot| pending(Some(snapshot)).contains(&transaction))
                }) {
                    self.violate("a commit of what the newest manifest does not list");
                }
                self.committed.insert(transaction, rows);
            } else if !self.committed.contains_key(&transaction) {
                self.violate("a commit of what was aborted");
            }
        }
        if let Attempt::Running(running) = &mut self.attempts[attempt]
            && let Some((_, left)) = running.committing.as_mut().filter(|(id, _)| *id == checkpoint)
        {
            left.remove(&sink);
            if left.is_empty() {
                running.committing = None;
                self.driver_says(attempt, Event::Committed { checkpoint });
            }
        }
    }
}

impl Running {
    fn broadcast(&mut self, source: usize, item: Item) {
        self.sinks.iter_mut().for_each(|s| s.channels[source].items.push_back(item));
    }

    fn end_source(&mut self, index: usize) {
        let generation = self.claim.generation();
        let source = &mut self.sources[index];
        source.is_reading = false;
        source.triggers.clear();
        let snapshot = Snapshot::Source { position: source.position };
        self.messages[index].push_back(Event::Ended { generation, task: source_id(index), snapshot });
        self.broadcast(index, Item::End);
    }

    pub(super) fn next_take(&self) -> Option<(usize, usize)> {
        let all = self.sinks.iter().enumerate().flat_map(|(k, sink)| (0..sink.channels.len()).map(move |s| (k, s)));
        all.into_iter().find(|(sink, source)| self.sinks[*sink].can_take(*source))
    }
}

impl Sink {
    /// Whether there is something to take from a source. A barrier is taken together with those of all sources that have not ended.
    pub(super) fn can_take(&self, source: usize) -> bool {
        let is_at_barrier = |c: &Channel| c.has_ended || matches!(c.items.front(), Some(Item::Barrier(..)));
        match self.channels[source].items.front() {
            None => false,
            Some(Item::Row(_) | Item::End) => true,
            Some(Item::Barrier(..)) => {
                self.channels[..source].iter().all(|c| c.has_ended) && self.channels.iter().all(is_at_barrier)
            }
        }
    }
}

impl Channel {
    fn pass(&mut self, checkpoint: CheckpointId) {
        if !self.has_ended {
            let item = self.items.pop_front();
            assert!(matches!(item, Some(Item::Barrier(id, _)) if id == checkpoint), "barriers of {checkpoint:?}, but {item:?}");
        }
    }
}
