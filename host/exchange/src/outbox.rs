//! Deals the rows of a node out to the subtasks of another vertex.

use std::sync::Arc;
use std::time::Duration;

use weir_types::graph::Partitioning;
use weir_types::{Batch, Watermark};

use crate::channel::{Closed, Sender};
use crate::dealer::Dealer;
use crate::held::Held;
use crate::{Message, Waits};

/// Rows below which a hash partition is held back to be joined with the next one: a bit less than the usual batch. What a batch costs a receiver
/// besides its rows, above all a guest call, is then no more than without an exchange.
const HELD_ROWS_MIN: usize = 3072;

/// The same where receivers have other inputs, too.
const HELD_ROWS_BESIDE_OTHERS_MIN: usize = 1024;

/// Bytes from which on rows for a receiver are sent, however few they are: large rows gain nothing by being joined, and fill the memory.
const HELD_BYTES_MAX: usize = 4 << 20;

/// The sending end of an exchange: the channels of one node of one subtask to all subtasks of the receiving vertex.
pub struct Outbox {
    senders: Vec<Sender>,
    partitioner: Partitioner,
    /// what each receiver has not been sent yet
    held: Vec<Held>,
    /// rows that are enough to be sent
    held_rows_min: usize,
    /// the last watermark; it reaches a receiver after what is held for it
    watermark: Watermark,
    /// whom the last batch brought enough for
    full: Vec<usize>,
    /// whether rows are sent at once, also beyond what channels hold
    forces: bool,
    /// time spent waiting for room, since it was last taken
    waited: Duration,
    /// where others see such time while it passes
    waits: Arc<Waits>,
}

enum Partitioner {
    One(usize),
    Rebalance { next: usize },
    Broadcast,
    Hash(Dealer),
}

/// Why rows could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// the receiver is gone
    #[error(transparent)]
    Closed(#[from] Closed),
    /// rows could not be put together
    #[error("cannot deal rows out: {0}")]
    Arrow(#[from] arrow_schema::ArrowError),
}

impl Outbox {
    /// Deals out to `senders` (one for each receiving subtask). `subtask` is the sender's own index, `key` the key columns for hash.
    pub fn new(partitioning: Partitioning, key: &[usize], subtask: u16, max_parallelism: u16, senders: Vec<Sender>) -> Self {
        let receivers = senders.len() as u16;
        let partitioner = match partitioning {
            _ if receivers == 1 => Partitioner::One(0),
            Partitioning::Forward => Partitioner::One(usize::from(subtask)),
            Partitioning::Rebalance => Partitioner::Rebalance { next: usize::from(subtask) },
            Partitioning::Broadcast => Partitioner::Broadcast,
            Partitioning::Hash => Partitioner::Hash(Dealer::new(key, receivers, max_parallelism)),
        };
        let held = senders.iter().map(|_| Held::default()).collect();
        Self {
            senders,
            partitioner,
            held,
            held_rows_min: HELD_ROWS_MIN,
            watermark: Watermark::NONE,
            full: vec![],
            forces: false,
            waited: Duration::ZERO,
            waits: Arc::default(),
        }
    }

    /// Counts the time spent waiting for room there, too, while it passes.
    #[must_use]
    pub fn counting(self, waits: Arc<Waits>) -> Self {
        Self { waits, ..self }
    }

    /// Holds fewer rows back: receivers have other inputs, and would have to keep what comes from those until what is behind has come from here.
    #[must_use]
    pub fn beside_others(self) -> Self {
        Self { held_rows_min: HELD_ROWS_BESIDE_OTHERS_MIN, ..self }
    }

    /// Sends rows. Those that go to several receivers by their key are held back: [`full`](Self::full) tells for whom there are enough to be
    /// [released](Self::release).
    ///
    /// # Errors
    /// If a receiver is gone, or rows cannot be put together.
    pub async fn send(&mut self, batch: Batch) -> Result<(), Error> {
        match &mut self.partitioner {
            Partitioner::One(to) => {
                self.waited += send(&self.senders[*to], Message::Batch(batch), self.forces, &self.waits).await?;
            }
            Partitioner::Rebalance { next } => {
                let to = *next % self.senders.len();
                *next = to + 1;
                self.waited += send(&self.senders[to], Message::Batch(batch), self.forces, &self.waits).await?;
            }
            Partitioner::Broadcast => {
                for sender in &self.senders {
                    self.waited += send(sender, Message::Batch(batch.clone()), self.forces, &self.waits).await?;
                }
            }
            Partitioner::Hash(dealer) => {
                let mut selections: Vec<_> = self.held.iter_mut().map(|held| &mut held.next).collect();
                dealer.deal(&batch, &mut selections);
                let row_bytes = batch.bytes() / batch.rows().max(1);
                self.full.clear();
                for to in 0..self.held.len() {
                    if !self.held[to].fits(&batch) {
                        self.release(to).await?;
                    }
                    self.held[to].add(&batch, row_bytes)?;
                    if self.held[to].rows() >= self.held_rows_min || self.held[to].bytes() >= HELD_BYTES_MAX {
                        self.full.push(to);
                    }
                }
            }
        }
        Ok(())
    }

    /// The receivers for which there are enough rows to be sent, since the last batch.
    pub fn full(&self) -> &[usize] {
        &self.full
    }

    /// Sends what is held for a receiver.
    ///
    /// # Errors
    /// As `send`.
    pub async fn release(&mut self, to: usize) -> Result<(), Error> {
        if self.held[to].rows() > 0 {
            let batch = self.held[to].take()?;
            self.waited += send(&self.senders[to], Message::Batch(batch), self.forces, &self.waits).await?;
        }
        if std::mem::take(&mut self.held[to].watermark) {
            self.waited += self.senders[to].send(Message::Watermark(self.watermark)).await?;
        }
        Ok(())
    }

    /// Tells all receivers that no row at or before `watermark` follows; where rows are held back, after those. The same watermark again tells that
    /// the sender is not idle any more.
    ///
    /// # Errors
    /// As `send`.
    pub async fn watermark(&mut self, watermark: Watermark) -> Result<(), Error> {
        self.watermark = watermark;
        for to in 0..self.senders.len() {
            self.held[to].watermark = true;
            if self.held[to].rows() == 0 {
                self.release(to).await?;
            }
        }
        Ok(())
    }

    /// Sends all that is held back. Called when the sender has nothing more to do for the moment, and before barriers.
    ///
    /// # Errors
    /// As `send`.
    pub async fn flush(&mut self) -> Result<(), Error> {
        for to in 0..self.senders.len() {
            self.release(to).await?;
        }
        Ok(())
    }

    /// From now on, sends rows at once, also beyond what channels hold: or no more. For what goes before a barrier that does not wait for room.
    pub fn set_forces(&mut self, forces: bool) {
        self.forces = forces;
    }

    /// The time spent waiting for room in channels since the last call.
    pub fn take_waited(&mut self) -> Duration {
        std::mem::take(&mut self.waited)
    }

    /// Sends a message to every receiver, after all that is held back.
    ///
    /// # Errors
    /// As `send`.
    pub async fn broadcast(&mut self, message: Message) -> Result<(), Error> {
        self.flush().await?;
        for sender in &self.senders {
            self.waited += sender.send(message.clone()).await?;
        }
        Ok(())
    }
}

/// Sends a message when there is room, or at once.
async fn send(sender: &Sender, message: Message, at_once: bool, waits: &Waits) -> Result<Duration, Closed> {
    match at_once {
        true => sender.force(message).map(|()| Duration::ZERO),
        false => sender.send_counted(message, waits).await,
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use arrow_array::cast::AsArray;
    use arrow_array::types::UInt64Type;
    use arrow_array::{ArrayRef, StringArray, StringViewArray, UInt64Array};
    use proptest::prelude::*;
    use weir_types::key::{group_of, hash_u64, owner};

    use super::*;
    use crate::{Capacity, gate};

    /// Every row reaches the owner of its key, and only it; a watermark comes after the rows that were before it.
    #[test]
    fn deals_out_by_key_group() {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
            let (mut gates, senders): (Vec<_>, Vec<_>) =
                (0..3).map(|_| gate(1, Capacity::of_batches(1000))).map(|(g, mut s)| (g, s.pop().expect("one channel"))).unzip();
            let mut outbox = Outbox::new(Partitioning::Hash, &[0], 0, 128, senders);
            for n in 0..50u64 {
                let keys: ArrayRef = Arc::new(UInt64Array::from_iter_values((n * 100)..(n * 100 + 100)));
                outbox.send(Batch::new(100, vec![keys], None)).await.expect("open");
                outbox.watermark(Watermark(n as i64)).await.expect("open");
            }
            outbox.broadcast(Message::End).await.expect("open");
            let mut total = 0;
            for (subtask, gate) in gates.iter_mut().enumerate() {
                let mut watermark = -1;
                while let Some((_, message)) = gate.try_receive() {
                    match message {
                        Message::Batch(batch) => {
                            for &key in batch.column(0).as_primitive::<UInt64Type>().values() {
                                assert_eq!(usize::from(owner(group_of(hash_u64(key), 128), 3, 128)), subtask);
                                assert!((key / 100) as i64 > watermark, "row {key} came after watermark {watermark}");
                                total += 1;
                            }
                        }
                        Message::Watermark(w) => watermark = w.0,
                        Message::End => assert_eq!(watermark, 49),
                        other => panic!("{other:?}"),
                    }
                }
            }
            assert_eq!(total, 5000);
        });
    }
    /// What a sender does.
    #[derive(Clone, Debug)]
    enum Step {
        Send(Vec<u64>),
        Watermark,
        Flush,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let rows = (0..1000u64, 1..3000usize).prop_map(|(first, rows)| (first..first + rows as u64).collect());
        proptest::collection::vec(prop_oneof![rows.prop_map(Step::Send), Just(Step::Watermark), Just(Step::Flush)], 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// After any steps, each receiver has its rows, each row before the watermark that was told after it; and once the sender has flushed, the last
        /// watermark.
        #[test]
        fn held_watermarks_arrive(steps in steps(), partitioning in prop_oneof![
            Just(Partitioning::Hash), Just(Partitioning::Rebalance), Just(Partitioning::Broadcast)
        ]) {
            tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
                let (mut gates, senders): (Vec<_>, Vec<_>) =
                    (0..3).map(|_| gate(1, Capacity::of_batches(1000))).map(|(g, mut s)| (g, s.pop().expect("one channel"))).unzip();
                let mut outbox = Outbox::new(partitioning, &[0], 0, 128, senders);
                let (mut told, mut sent, mut received) = (Watermark::NONE, 0, 0);
                let mut seen = [Watermark::NONE; 3];
                for step in steps {
                    let flushed = matches!(step, Step::Flush);
                    match step {
                        Step::Send(keys) => {
                            sent += keys.len();
                            // The time of the rows: the next watermark.
                            let time = told.0.max(0) + 1;
                            let rows = keys.len();
                            let columns: Vec<ArrayRef> = vec![Arc::new(UInt64Array::from(keys))];
                            outbox.send(Batch::new(rows, columns, Some(vec![time; rows].into()))).await.expect("open");
                            for to in outbox.full().to_vec() {
                                outbox.release(to).await.expect("open");
                            }
                        }
                        Step::Watermark => {
                            told = Watermark(told.0.max(0) + 1);
                            outbox.watermark(told).await.expect("open");
                        }
                        Step::Flush => outbox.flush().await.expect("open"),
                    }
                    for (gate, seen) in gates.iter_mut().zip(&mut seen) {
                        while let Some((_, message)) = gate.try_receive() {
                            match message {
                                Message::Batch(batch) => {
                                    let times = batch.times().expect("rows have times");
                                    assert!(times.iter().all(|&t| !seen.is_past(t)), "rows came after their watermark {seen:?}");
                                    received += batch.rows();
                                }
                                Message::Watermark(w) => {
                                    assert!(w >= *seen);
                                    *seen = w;
                                }
                                other => panic!("{other:?}"),
                            }
                        }
                        if flushed {
                            assert_eq!(*seen, told, "after a flush nothing is held back");
                        }
                    }
                    if flushed {
                        assert_eq!(received, if partitioning == Partitioning::Broadcast { 3 * sent } else { sent });
                    }
                }
            });
        }
    }

    /// Where receivers have other inputs, fewer rows are enough to be sent.
    #[test]
    fn holds_fewer_rows_beside_others() {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
            // For each of two receivers as many as lie between the two limits.
            let rows = (HELD_ROWS_BESIDE_OTHERS_MIN + HELD_ROWS_MIN) as u64;
            for is_beside_others in [false, true] {
                let (mut gate, senders) = gate(2, Capacity::of_batches(1000));
                let outbox = Outbox::new(Partitioning::Hash, &[0], 0, 128, senders);
                let mut outbox = if is_beside_others { outbox.beside_others() } else { outbox };
                let keys: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..rows));
                outbox.send(Batch::new(rows as usize, vec![keys], None)).await.expect("open");
                assert!(gate.try_receive().is_none(), "nothing goes by itself");
                assert_eq!(outbox.full(), if is_beside_others { &[0, 1][..] } else { &[] });
            }
        });
    }

    /// Large rows are enough to be sent when there are few of them, and what is held is counted anew when they have been.
    #[test]
    fn large_rows_are_not_held_for_long() {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
            const ROWS: usize = 64;
            let (_gate, senders) = gate(2, Capacity::of_batches(1000));
            let mut outbox = Outbox::new(Partitioning::Hash, &[0], 0, 128, senders);
            let batch = |bytes: usize| {
                let keys: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..ROWS as u64));
                let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(|_| "x".repeat(bytes))));
                Batch::new(ROWS, vec![keys, texts], None)
            };
            // Each receiver gets about half of the rows, and eight of them are enough.
            for (bytes, full) in [(10, &[][..]), (HELD_BYTES_MAX / 8, &[0, 1][..]), (10, &[][..])] {
                outbox.send(batch(bytes)).await.expect("open");
                assert_eq!(outbox.full(), full, "rows of {bytes} bytes");
                outbox.flush().await.expect("open");
            }
        });
    }

    /// Goal: who waits for room is seen to wait while it does, and no more once there is room, or once it has given up; who finds room never waits.
    #[test]
    fn waits_are_seen_while_they_last() {
        const A_WHILE: Duration = Duration::from_millis(5);
        let batch = || Batch::new(1, vec![], None);
        let (mut gate, senders) = gate(1, Capacity::of_batches(1));
        let waits = Arc::new(Waits::from(A_WHILE));
        let mut outbox = Outbox::new(Partitioning::Forward, &[], 0, 128, senders).counting(Arc::clone(&waits));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(pin!(outbox.send(batch())).poll(&mut cx), Poll::Ready(Ok(()))));
        assert_eq!((waits.total(), outbox.take_waited()), (A_WHILE, Duration::ZERO));
        for is_given_up in [false, true] {
            let before = waits.total();
            {
                let mut sending = pin!(outbox.send(batch()));
                assert!(sending.as_mut().poll(&mut cx).is_pending());
                std::thread::sleep(A_WHILE);
                assert!(waits.total() >= before + A_WHILE, "it waits");
                if !is_given_up {
                    assert!(gate.try_receive().is_some());
                    assert!(matches!(sending.as_mut().poll(&mut cx), Poll::Ready(Ok(()))));
                }
            }
            let after = waits.total();
            std::thread::sleep(A_WHILE);
            assert_eq!(waits.total(), after, "nobody waits");
            assert_eq!(outbox.take_waited() >= A_WHILE, !is_given_up);
        }
    }

    /// Text of one layout is not held back with text of another.
    #[test]
    fn layouts_are_kept_apart() {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
            let (mut gate, senders) = gate(2, Capacity::of_batches(1000));
            let mut outbox = Outbox::new(Partitioning::Hash, &[0], 0, 128, senders);
            let texts: Vec<_> = (0..100).map(|n| n.to_string()).collect();
            let (flat, views) = (StringArray::from(texts.clone()), StringViewArray::from_iter_values(&texts));
            for column in [Arc::new(flat) as ArrayRef, Arc::new(views)] {
                outbox.send(Batch::new(100, vec![column], None)).await.expect("open");
            }
            outbox.flush().await.expect("open");
            let batches = std::iter::from_fn(|| gate.try_receive());
            let rows = batches.map(|(_, message)| if let Message::Batch(batch) = message { batch.rows() } else { 0 });
            assert_eq!(rows.sum::<usize>(), 200);
        });
    }

    /// Rows that are released because there are enough of them take the watermark along that waited behind earlier ones.
    #[test]
    fn a_watermark_follows_what_it_waited_for() {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(async {
            let (mut gate, senders) = gate(2, Capacity::of_batches(1000));
            let mut outbox = Outbox::new(Partitioning::Hash, &[0], 0, 128, senders);
            let batch =
                |rows: u64| Batch::new(rows as usize, vec![Arc::new(UInt64Array::from_iter_values(0..rows)) as ArrayRef], None);
            outbox.send(batch(100)).await.expect("open");
            outbox.watermark(Watermark(7)).await.expect("open");
            assert!(gate.try_receive().is_none(), "few rows wait, and the watermark behind them");
            assert!(outbox.full().is_empty());
            outbox.send(batch(4 * HELD_ROWS_MIN as u64)).await.expect("open");
            assert_eq!(outbox.full(), [0, 1]);
            for to in [0, 1] {
                outbox.release(to).await.expect("open");
            }
            let mut last = [None, None];
            while let Some((channel, message)) = gate.try_receive() {
                last[channel] = Some(message);
            }
            for message in last {
                assert!(matches!(message, Some(Message::Watermark(Watermark(7)))), "{message:?}");
            }
        });
    }
}
