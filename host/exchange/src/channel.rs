//! Bounded channels, and the gate in which those of one subtask end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use weir_types::Watermark;

use crate::{Barrier, Message, Waits};

/// How many messages in a row a channel may have when it is not its turn, because it is behind the others in time.
const OVERTAKES_MAX: usize = 8;

/// The receiver is gone: the job is being taken down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver of a channel is gone")]
pub struct Closed;

/// What a channel holds before its sender has to wait.
///
/// It takes a batch as long as it has less than either: so one that is larger than the limit goes through as well, and an empty channel is never full, however
/// small its limits are. What it holds is at most `bytes` and one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// batches, at least 1
    pub batches: usize,
    /// bytes of their rows, at least 1
    pub bytes: usize,
}

impl Capacity {
    /// So many batches, however large they are.
    pub fn of_batches(batches: usize) -> Self {
        Self { batches, bytes: usize::MAX }
    }

    /// The same, but of the bytes no more than an equal part of those that so many channels share.
    #[must_use]
    pub fn sharing(self, bytes: usize, channels: usize) -> Self {
        Self { bytes: self.bytes.min(bytes / channels.max(1)).max(1), ..self }
    }
}

/// Makes a gate with `channels` channels, each of which holds so much.
pub fn gate(channels: usize, capacity: Capacity) -> (Gate, Vec<Sender>) {
    let shared = Arc::new(Shared {
        queues: Mutex::new(Queues {
            queues: (0..channels).map(|_| Queue::default()).collect(),
            ready: VecDeque::with_capacity(channels),
            overtakes: 0,
            barriers: 0,
            closed: false,
        }),
        capacity,
        readable: Notify::new(),
        writable: (0..channels).map(|_| Notify::new()).collect(),
    });
    let senders = (0..channels).map(|channel| Sender { shared: Arc::clone(&shared), channel }).collect();
    (Gate { shared }, senders)
}

struct Shared {
    queues: Mutex<Queues>,
    capacity: Capacity,
    readable: Notify,
    /// one for each channel
    writable: Vec<Notify>,
}

struct Queues {
    queues: Vec<Queue>,
    /// channels with messages, in turn
    ready: VecDeque<usize>,
    /// how often in a row a channel was taken whose turn it was not
    overtakes: usize,
    /// barriers in all queues
    barriers: usize,
    closed: bool,
}

impl Queues {
    /// The channel to take the next message of: of those whose time is known the one that is behind, since what others bring can only be kept until
    /// time has come to it. All get their turn nevertheless.
    fn next(&mut self) -> Option<usize> {
        let place = self.next_place()?;
        self.overtakes = if place == 0 { 0 } else { self.overtakes + 1 };
        self.ready.remove(place)
    }

    /// Its place among those that are ready.
    ///
    /// A batch has rows of a stretch of time, and so have others that begin within it: they are of about the same time. Of these the smallest goes first. A
    /// stream that is sparse is often what rows of a dense one look for (auctions, and the bids on them), and where it is not, few rows wait and not many.
    fn next_place(&self) -> Option<usize> {
        let time = |channel: usize| self.queues[channel].time;
        if time(*self.ready.front()?) == Watermark::NONE || self.overtakes >= OVERTAKES_MAX {
            return Some(0);
        }
        let known = || self.ready.iter().copied().enumerate().filter(|(_, channel)| time(*channel) > Watermark::NONE);
        let (_, behind) = known().min_by_key(|(_, channel)| time(*channel))?;
        let until = self.queues[behind].next_time().unwrap_or_else(|| time(behind));
        let alike = known().filter(|(_, channel)| *channel == behind || time(*channel) < until);
        alike.min_by_key(|(_, channel)| self.queues[*channel].next_size()).map(|(place, _)| place)
    }
}

struct Queue {
    messages: VecDeque<Message>,
    /// how large the batches among them are, bytes, in their order
    sizes: VecDeque<usize>,
    /// how large all of them are
    bytes: usize,
    /// whether the gate takes nothing from here for the time being
    held: bool,
    /// the last watermark that was taken; none while the sender is idle, and after its end
    time: Watermark,
}

impl Queue {
    /// Whether there is no room for another batch.
    fn is_full(&self, capacity: Capacity) -> bool {
        self.sizes.len() >= capacity.batches || self.bytes >= capacity.bytes
    }

    /// The first watermark that waits in it: how far its next rows go.
    fn next_time(&self) -> Option<Watermark> {
        self.messages.iter().find_map(|message| match message {
            Message::Watermark(watermark) => Some(*watermark),
            _ => None,
        })
    }

    /// How large its next message is, bytes of rows.
    fn next_size(&self) -> usize {
        match self.messages.front() {
            Some(Message::Batch(_)) => self.sizes.front().copied().unwrap_or_default(),
            _ => 0,
        }
    }

    /// A batch of this size has come.
    fn add(&mut self, size: usize) {
        self.sizes.push_back(size);
        self.bytes += size;
    }

    /// The first batch has gone.
    fn remove(&mut self) {
        self.bytes -= self.sizes.pop_front().unwrap_or_default();
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { messages: VecDeque::new(), sizes: VecDeque::new(), bytes: 0, held: false, time: Watermark::NONE }
    }
}

/// The sending end of one channel.
pub struct Sender {
    shared: Arc<Shared>,
    channel: usize,
}

impl Sender {
    /// Sends a message; waits while the channel is full, and returns for how long it did. Only batches take up room, and a watermark takes the
    /// place of one just before it.
    ///
    /// # Errors
    /// If the gate is gone.
    pub async fn send(&self, message: Message) -> Result<Duration, Closed> {
        self.send_counted(message, &Waits::default()).await
    }

    /// The same; while it waits, `waits` grows.
    ///
    /// # Errors
    /// If the gate is gone.
    pub async fn send_counted(&self, message: Message, waits: &Waits) -> Result<Duration, Closed> {
        let mut message = Some(message);
        if self.offer(&mut message, false)? {
            return Ok(Duration::ZERO);
        }
        let wait = waits.begin();
        loop {
            // A batch taken in between has left a permit: this does not wait.
            self.shared.writable[self.channel].notified().await;
            if self.offer(&mut message, false)? {
                return Ok(wait.elapsed());
            }
        }
    }

    /// Sends a message at once, also beyond what the channel holds.
    ///
    /// # Errors
    /// If the gate is gone.
    pub fn force(&self, message: Message) -> Result<(), Closed> {
        self.offer(&mut Some(message), true).map(|_| ())
    }

    /// Puts the message into the queue, if there is room, or at once.
    fn offer(&self, message: &mut Option<Message>, at_once: bool) -> Result<bool, Closed> {
        // Counted before the others are kept from the queue.
        let size = match message {
            Some(Message::Batch(batch)) => Some(batch.bytes()),
            _ => None,
        };
        let mut queues = self.shared.queues.lock();
        if queues.closed {
            return Err(Closed);
        }
        let queue = &mut queues.queues[self.channel];
        if size.is_some() && !at_once && queue.is_full(self.shared.capacity) {
            return Ok(false);
        }
        let Some(message) = message.take() else { return Ok(true) };
        let is_barrier = matches!(message, Message::Barrier(_));
        let becomes_ready = queue.messages.is_empty() && !queue.held;
        if let Some(size) = size {
            queue.add(size);
        }
        match (queue.messages.back_mut(), message) {
            (Some(Message::Watermark(last)), Message::Watermark(next)) => *last = next,
            (_, message) => queue.messages.push_back(message),
        }
        queues.barriers += usize::from(is_barrier);
        if becomes_ready {
            queues.ready.push_back(self.channel);
        }
        drop(queues);
        // A gate that lets barriers overtake rows wants to see one wherever it is.
        if becomes_ready || is_barrier {
            self.shared.readable.notify_one();
        }
        Ok(true)
    }
}

/// The receiving end of all channels of one subtask.
pub struct Gate {
    shared: Arc<Shared>,
}

impl Gate {
    /// The next message and its channel; waits for one. Channels that have messages take turns, but for those that are ahead of others in time.
    pub async fn receive(&mut self) -> (usize, Message) {
        loop {
            if let Some(next) = self.try_receive() {
                return next;
            }
            // A message that came in between has left a permit: this does not wait.
            self.shared.readable.notified().await;
        }
    }

    /// Whether the next message is of a channel that is ahead in time of one that has none.
    pub fn is_ahead(&self) -> bool {
        let queues = self.shared.queues.lock();
        let Some(place) = queues.next_place() else { return false };
        let next = queues.queues[queues.ready[place]].time;
        let is_behind =
            |queue: &Queue| Watermark::NONE < queue.time && queue.time < next && queue.messages.is_empty() && !queue.held;
        queues.queues.iter().any(is_behind)
    }

    /// The next message, if there is one.
    pub fn try_receive(&mut self) -> Option<(usize, Message)> {
        let mut queues = self.shared.queues.lock();
        let channel = queues.next()?;
        let queue = &mut queues.queues[channel];
        let message = queue.messages.pop_front().expect("a ready channel has a message");
        match message {
            Message::Watermark(watermark) => queue.time = watermark,
            Message::Idle | Message::End => queue.time = Watermark::NONE,
            Message::Batch(_) | Message::Barrier { .. } => {}
        }
        let was_full = queue.is_full(self.shared.capacity);
        if matches!(message, Message::Batch(_)) {
            queue.remove();
        }
        let makes_room = was_full && !queue.is_full(self.shared.capacity);
        if !queue.messages.is_empty() {
            queues.ready.push_back(channel);
        }
        queues.barriers -= usize::from(matches!(message, Message::Barrier(_)));
        drop(queues);
        if makes_room {
            self.shared.writable[channel].notify_one();
        }
        Some((channel, message))
    }

    /// Takes nothing more from a channel until [`release`](Self::release). What is sent there waits, and so will its sender.
    pub fn hold(&mut self, channel: usize) {
        let mut queues = self.shared.queues.lock();
        queues.queues[channel].held = true;
        queues.ready.retain(|ready| *ready != channel);
    }

    /// A barrier that waits behind other messages, or in a channel that is held; of several checkpoints that of the newest, since the others have been
    /// given up.
    pub fn waiting_barrier(&self) -> Option<Barrier> {
        let queues = self.shared.queues.lock();
        if queues.barriers == 0 {
            return None;
        }
        let barriers = queues.queues.iter().flat_map(|queue| &queue.messages).filter_map(|message| match message {
            Message::Barrier(barrier) => Some(*barrier),
            _ => None,
        });
        barriers.max_by_key(|barrier| barrier.checkpoint)
    }

    /// Lets a checkpoint's barrier overtake what is before it, wherever it waits: it is taken out, and what it overtakes stays. Returns the channels where it
    /// was, with copies of what it has overtaken.
    pub fn overtake(&mut self, checkpoint: u64) -> Vec<(usize, Vec<Message>)> {
        let mut queues = self.shared.queues.lock();
        if queues.barriers == 0 {
            return vec![];
        }
        let Queues { queues, ready, barriers, .. } = &mut *queues;
        let mut overtaken = vec![];
        for (channel, queue) in queues.iter_mut().enumerate() {
            let is_wanted = |message: &Message| matches!(message, Message::Barrier(barrier) if barrier.checkpoint == checkpoint);
            let Some(place) = queue.messages.iter().position(is_wanted) else { continue };
            queue.messages.remove(place);
            *barriers -= 1;
            overtaken.push((channel, queue.messages.iter().take(place).cloned().collect()));
            if queue.messages.is_empty() {
                ready.retain(|ready| *ready != channel);
            }
        }
        overtaken
    }

    /// Takes from all channels again.
    pub fn release(&mut self) {
        let mut queues = self.shared.queues.lock();
        let Queues { queues, ready, .. } = &mut *queues;
        for (channel, queue) in queues.iter_mut().enumerate() {
            if std::mem::take(&mut queue.held) && !queue.messages.is_empty() {
                ready.push_back(channel);
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let mut queues = self.shared.queues.lock();
        queues.closed = true;
        queues.queues.clear();
        queues.ready.clear();
        drop(queues);
        self.shared.writable.iter().for_each(Notify::notify_one);
    }
}

#[cfg(test)]
mod tests {
    use weir_types::Batch;

    use super::*;

    fn rows(n: usize) -> Message {
        Message::Batch(Batch::new(n, vec![], None))
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    /// Order is kept in each channel, watermarks are folded together, and channels take turns.
    #[test]
    fn keeps_order_and_takes_turns() {
        block_on(async {
            let (mut gate, senders) = gate(2, Capacity::of_batches(4));
            for n in 1..=2 {
                senders[0].send(rows(n)).await.expect("open");
                senders[0].send(Message::Watermark(Watermark(n as i64 * 10))).await.expect("open");
                senders[0].send(Message::Watermark(Watermark(n as i64 * 10 + 1))).await.expect("open");
            }
            senders[1].send(rows(3)).await.expect("open");
            let mut seen = vec![];
            while let Some((channel, message)) = gate.try_receive() {
                seen.push(match message {
                    Message::Batch(b) => format!("{channel}:{}", b.rows()),
                    Message::Watermark(w) => format!("{channel}:w{}", w.0),
                    other => panic!("{other:?}"),
                });
            }
            assert_eq!(seen, ["0:1", "1:3", "0:w11", "0:2", "0:w21"]);
        });
    }

    /// Of channels whose time is known the one that is behind goes first; but none waits for ever, least of all one without time.
    #[test]
    fn those_behind_in_time_go_first() {
        block_on(async {
            let (mut gate, senders) = gate(3, Capacity::of_batches(1000));
            for (channel, start) in [(0, 1000), (1, 0)] {
                for n in 0..30 {
                    senders[channel].send(Message::Watermark(Watermark(start + n))).await.expect("open");
                    senders[channel].send(rows(1)).await.expect("open");
                }
            }
            assert!(!gate.is_ahead());
            let mut order: Vec<usize> = std::iter::from_fn(|| gate.try_receive()).map(|(channel, _)| channel).collect();
            assert_eq!(order.len(), 120);
            let behind = order[..60].iter().filter(|channel| **channel == 1).count();
            assert!(behind > 50, "{behind} of the first 60 messages are of the channel that is behind");
            assert!(order[..60].contains(&0), "the other one has its turn");

            senders[0].send(rows(1)).await.expect("open");
            assert!(gate.is_ahead(), "the other channel may have rows that are earlier");
            senders[1].send(Message::Idle).await.expect("open");
            while gate.try_receive().is_some() {}
            senders[0].send(rows(1)).await.expect("open");
            assert!(!gate.is_ahead(), "nothing is to be expected of an idle sender");
            senders[1].send(Message::Watermark(Watermark(29))).await.expect("open");
            while gate.try_receive().is_some() {}

            for channel in [2, 0, 1] {
                for _ in 0..20 {
                    senders[channel].send(rows(1)).await.expect("open");
                }
            }
            order = std::iter::from_fn(|| gate.try_receive()).map(|(channel, _)| channel).collect();
            assert!(order[..20].iter().filter(|channel| **channel == 2).count() >= 2, "{order:?}");
        });
    }

    /// Rows of about the same time: of those that begin within the stretch of the one that is behind, the fewest come first. What begins after it waits.
    #[test]
    fn few_rows_go_before_many_of_their_time() {
        let taken = |dense: [i64; 2], sparse: [i64; 2]| {
            block_on(async {
                let (mut gate, senders) = gate(2, Capacity::of_batches(4));
                for (sender, [from, _]) in senders.iter().zip([dense, sparse]) {
                    sender.send(Message::Watermark(Watermark(from))).await.expect("open");
                }
                while gate.try_receive().is_some() {}
                for (sender, [_, to], rows) in [(&senders[0], dense, 100), (&senders[1], sparse, 1)] {
                    sender.send(Message::Batch(Batch::new(rows, vec![], Some(vec![to; rows].into())))).await.expect("open");
                    sender.send(Message::Watermark(Watermark(to))).await.expect("open");
                }
                std::iter::from_fn(|| gate.try_receive()).map(|(channel, _)| channel).collect::<Vec<_>>()
            })
        };
        assert_eq!(taken([10, 20], [12, 22]), [1, 1, 0, 0], "they begin within 10 to 20");
        assert_eq!(taken([10, 20], [9, 22]), [1, 1, 0, 0], "they are behind");
        assert_eq!(taken([10, 20], [20, 22]), [0, 0, 1, 1], "they begin after it");
        assert_eq!(taken([12, 22], [10, 11]), [1, 1, 0, 0], "they end before it begins");
    }

    /// A full channel makes its sender wait until a batch is taken; control messages pass; a gate that is gone is told.
    #[test]
    fn waits_when_full() {
        block_on(async {
            let (mut gate, senders) = gate(1, Capacity::of_batches(1));
            senders[0].send(rows(1)).await.expect("open");
            let waited = senders[0].send(Message::Watermark(Watermark(1))).await.expect("control messages take no room");
            assert!(waited.is_zero());
            let mut second = std::pin::pin!(senders[0].send(rows(2)));
            assert!(futures_poll(second.as_mut()).await.is_none(), "full");
            assert!(matches!(gate.receive().await, (0, Message::Batch(_))));
            assert!(matches!(futures_poll(second.as_mut()).await, Some(Ok(waited)) if !waited.is_zero()), "the wait is told");
            drop(gate);
            assert_eq!(senders[0].send(rows(3)).await, Err(Closed));
        });
    }

    /// A channel whose batches are large is full before it has as many as it may: its sender waits until less is left than it holds. One batch is taken by an
    /// empty channel, however large it is; and what overtakes its limits takes up room, too.
    #[test]
    fn large_batches_fill_a_channel() {
        const SIZE: usize = 800;
        let batch = || Batch::new(SIZE / 8, vec![], Some(vec![0; SIZE / 8].into()));
        assert_eq!(batch().bytes(), SIZE);
        let large = || Message::Batch(batch());
        block_on(async {
            for (bytes, held) in [(1, 1), (SIZE, 1), (SIZE + 1, 2), (2 * SIZE, 2), (usize::MAX, 4)] {
                let (mut gate, senders) = gate(1, Capacity { batches: 4, bytes });
                for n in 0..held {
                    assert_eq!(
                        senders[0].send(large()).await,
                        Ok(Duration::ZERO),
                        "batch {n} of {held} finds room in {bytes} bytes"
                    );
                }
                senders[0].force(large()).expect("open");
                let mut next = std::pin::pin!(senders[0].send(large()));
                assert!(futures_poll(next.as_mut()).await.is_none(), "{held} batches fill {bytes} bytes");
                assert!(gate.try_receive().is_some());
                assert!(futures_poll(next.as_mut()).await.is_none(), "as many are left");
                assert!(gate.try_receive().is_some());
                assert!(matches!(futures_poll(next.as_mut()).await, Some(Ok(_))), "there is room again");
                let left = std::iter::from_fn(|| gate.try_receive()).count();
                assert_eq!(left, held);
                assert_eq!(senders[0].send(large()).await, Ok(Duration::ZERO), "nothing is left");
            }
        });
    }

    /// A barrier overtakes large batches, and these take up their room until they are taken.
    #[test]
    fn overtaken_batches_take_up_room() {
        block_on(async {
            let barrier = Barrier { checkpoint: 7, stops: false, overtakes: true };
            let large = || Message::Batch(Batch::new(100, vec![], Some(vec![0; 100].into())));
            let (mut gate, senders) = gate(1, Capacity { batches: 4, bytes: 1 });
            senders[0].send(large()).await.expect("open");
            assert_eq!(senders[0].send(Message::Barrier(barrier)).await, Ok(Duration::ZERO), "barriers take no room");
            let mut next = std::pin::pin!(senders[0].send(large()));
            assert!(futures_poll(next.as_mut()).await.is_none());
            assert_eq!(gate.overtake(7).len(), 1);
            assert!(futures_poll(next.as_mut()).await.is_none(), "what was overtaken is still there");
            assert!(matches!(gate.try_receive(), Some((0, Message::Batch(_)))));
            assert!(matches!(futures_poll(next.as_mut()).await, Some(Ok(_))));
        });
    }

    /// Channels that share memory have equal parts of it, none of them nothing, and none more than it may have by itself.
    #[test]
    fn channels_share_memory() {
        let capacity = Capacity { batches: 8, bytes: 1000 };
        for (bytes, channels, part) in [(0, 3, 1), (100, 3, 33), (100, 200, 1), (9000, 3, 1000), (7, 0, 7)] {
            assert_eq!(capacity.sharing(bytes, channels), Capacity { batches: 8, bytes: part });
        }
    }

    /// Of a channel that is held nothing is taken, whenever it was sent, and all of it is when it is released.
    #[test]
    fn holds_channels() {
        block_on(async {
            let (mut gate, senders) = gate(2, Capacity::of_batches(4));
            senders[0].send(rows(1)).await.expect("open");
            gate.hold(0);
            senders[0].send(Message::Idle).await.expect("open");
            senders[1].send(rows(2)).await.expect("open");
            assert!(matches!(gate.try_receive(), Some((1, _))));
            assert!(gate.try_receive().is_none());
            gate.release();
            assert!(matches!(gate.receive().await, (0, Message::Batch(_))));
            assert!(matches!(gate.receive().await, (0, Message::Idle)));
            gate.hold(1);
            gate.release();
            assert!(gate.try_receive().is_none(), "an empty channel is not ready");
        });
    }

    /// A barrier is seen behind rows and overtakes them, in a full channel, too; the rows stay where they were, and are told.
    #[test]
    fn barriers_overtake() {
        block_on(async {
            let barrier = |checkpoint| Message::Barrier(Barrier { checkpoint, stops: false, overtakes: false });
            let (mut gate, senders) = gate(3, Capacity::of_batches(1));
            senders[0].send(rows(1)).await.expect("open");
            senders[0].force(rows(2)).expect("open");
            senders[0].send(barrier(7)).await.expect("barriers take no room");
            senders[0].send(Message::Idle).await.expect("open");
            senders[1].send(barrier(7)).await.expect("open");
            senders[2].send(rows(3)).await.expect("open");
            assert_eq!(gate.waiting_barrier().map(|b| b.checkpoint), Some(7));
            let overtaken = gate.overtake(7);
            let counts: Vec<_> = overtaken.iter().map(|(channel, messages)| (*channel, messages.len())).collect();
            assert_eq!(counts, [(0, 2), (1, 0)]);
            assert!(gate.waiting_barrier().is_none() && gate.overtake(7).is_empty());
            for (channel, checkpoint) in [(2, 8), (2, 9), (1, 8)] {
                senders[channel].send(barrier(checkpoint)).await.expect("open");
            }
            assert_eq!(gate.waiting_barrier().map(|b| b.checkpoint), Some(9), "older ones have been given up");
            let places: Vec<_> =
                [9, 8].into_iter().flat_map(|checkpoint| gate.overtake(checkpoint)).map(|(channel, _)| channel).collect();
            assert_eq!(places, [2, 1, 2]);
            let left: Vec<_> = std::iter::from_fn(|| gate.try_receive()).map(|(channel, _)| channel).collect();
            assert_eq!(left, [0, 2, 0, 0]);
        });
    }

    /// Polls once.
    async fn futures_poll<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|cx| {
            std::task::Poll::Ready(match future.as_mut().poll(cx) {
                std::task::Poll::Ready(out) => Some(out),
                std::task::Poll::Pending => None,
            })
        })
        .await
    }
}
