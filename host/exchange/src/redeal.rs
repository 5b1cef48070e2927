//! Deals rows that were in flight out anew, where there are other subtasks now than when they were sent.
//!
//! What lay in the channels of an exchange is part of an unaligned checkpoint. A job that starts from it with as many subtasks of everything as before puts each
//! message back into its channel. With others, each row goes to who would get it now, once; rows that one subtask sent to one receiver keep their order, and so
//! do all rows of a key. (Apache Flink does the same with virtual channels; FLINK-19801.)
//!
//! A watermark holds for what its sender sends. Who reads a sender's splits and has its keys now, nobody knows here: so the least one of all senders takes the
//! place of theirs, behind all rows. A row that was late for its channel may be in time then; none becomes late.

use arrow_array::{ArrayRef, UInt32Array};
use arrow_schema::ArrowError;
use weir_types::Batch;
use weir_types::graph::Partitioning;
use weir_types::key::{group_of, hash_columns, owner};

use crate::Message;

/// What was in flight in one channel.
#[derive(Clone, Debug)]
pub struct Flow {
    /// the subtask that sent it
    pub sender: u16,
    /// the subtask that it was sent to
    pub receiver: u16,
    /// in the order in which it was sent
    pub messages: Vec<Message>,
}

/// How many subtasks an exchange connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// that send
    pub senders: u16,
    /// that receive
    pub receivers: u16,
}

/// An exchange whose rows are dealt out anew.
#[derive(Clone, Copy, Debug)]
pub struct Redeal<'a> {
    /// how it deals rows out now
    pub partitioning: Partitioning,
    /// the key columns, for hash
    pub key: &'a [usize],
    /// the number of key groups
    pub max_parallelism: u16,
    /// what it connected
    pub was: Ends,
    /// what it connects now
    pub is: Ends,
    /// whether every subtask of the job is what it was: then each message goes back into its channel
    pub is_same: bool,
}

impl Redeal<'_> {
    /// Whether the receiver `now` gets any of what was sent to the receiver `then`.
    pub fn takes(&self, now: u16, then: u16) -> bool {
        if self.is_same {
            return now == then;
        }
        match self.partitioning {
            Partitioning::Hash => true,
            Partitioning::Forward | Partitioning::Rebalance => then % self.is.receivers == now,
            // All got the same, each as fast as it could: what is new goes on as the first one.
            Partitioning::Broadcast => then == if now < self.was.receivers { now } else { 0 },
        }
    }

    /// What comes first to the receiver `now`, and from whom, of the flows that it [takes](Self::takes) from.
    ///
    /// # Errors
    /// If rows cannot be taken out of their batch.
    pub fn deal(&self, now: u16, flows: Vec<Flow>) -> Result<Vec<(u16, Message)>, ArrowError> {
        if self.is_same {
            let with_sender = |Flow { sender, messages, .. }| messages.into_iter().map(move |message| (sender, message));
            return Ok(flows.into_iter().flat_map(with_sender).collect());
        }
        let sender = |then: u16| if self.partitioning == Partitioning::Forward { now } else { then % self.is.senders };
        let channels = (0..self.was.receivers).filter(|then| self.takes(now, *then)).count() * usize::from(self.was.senders);
        let (mut dealt, mut watermarks) = (vec![], vec![]);
        for flow in flows {
            let mut watermark = None;
            for message in flow.messages {
                match message {
                    Message::Batch(batch) => {
                        let rows = self.rows_of(now, batch)?;
                        if !rows.is_empty() {
                            dealt.push((sender(flow.sender), Message::Batch(rows)));
                        }
                    }
                    Message::Watermark(latest) => watermark = Some(latest),
                    // An idle sender holds nothing back, but whoever has its splits now may not be idle.
                    Message::Idle => watermark = None,
                    Message::Barrier(_) | Message::End => {}
                }
            }
            watermarks.extend(watermark);
        }
        // Of a channel that had none in flight, it is not known.
        if let (Some(&least), true) = (watermarks.iter().min(), watermarks.len() == channels) {
            dealt.extend(self.senders_to(now).map(|sender| (sender, Message::Watermark(least))));
        }
        Ok(dealt)
    }

    /// The subtasks that the receiver `now` has channels from.
    fn senders_to(&self, now: u16) -> std::ops::Range<u16> {
        match self.partitioning {
            Partitioning::Forward => now..now + 1,
            _ => 0..self.is.senders,
        }
    }

    /// The rows of a batch that a receiver gets.
    fn rows_of(&self, now: u16, batch: Batch) -> Result<Batch, ArrowError> {
        if self.partitioning != Partitioning::Hash || self.is.receivers == 1 {
            return Ok(batch);
        }
        let columns: Vec<ArrayRef> = self.key.iter().map(|&column| batch.column(column).clone()).collect();
        let mut hashes = vec![];
        hash_columns(batch.rows(), &columns, &mut hashes);
        let is_own = |hash: u64| owner(group_of(hash, self.max_parallelism), self.is.receivers, self.max_parallelism) == now;
        let own: UInt32Array =
            (0..).zip(hashes).filter(|(_, hash)| is_own(*hash)).map(|(row, _)| row).collect::<Vec<u32>>().into();
        if own.len() == batch.rows() { Ok(batch) } else { batch.take(&own) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow_array::UInt64Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::UInt64Type;
    use proptest::prelude::*;
    use weir_types::Watermark;
    use weir_types::key::range_of;

    use super::*;
    use crate::{Capacity, Outbox, gate};

    const GROUPS: u16 = 16;

    /// Rows of a key and a number, with the number as event time.
    fn rows(rows: &[(u64, u64)]) -> Batch {
        let column = |of: fn(&(u64, u64)) -> u64| Arc::new(UInt64Array::from_iter_values(rows.iter().map(of))) as ArrayRef;
        let times: Vec<_> = rows.iter().map(|(_, number)| *number as i64).collect();
        Batch::new(rows.len(), vec![column(|row| row.0), column(|row| row.1)], Some(times.into()))
    }

    fn pairs(batch: &Batch) -> Vec<(u64, u64)> {
        let column = |index: usize| batch.column(index).as_primitive::<UInt64Type>();
        (0..batch.rows()).map(|row| (column(0).value(row), column(1).value(row))).collect()
    }

    /// What a sender sends, as its receivers have it in flight.
    fn sent(partitioning: Partitioning, sender: u16, receivers: u16, batches: &[Vec<(u64, u64)>]) -> Vec<Flow> {
        let (gates, senders): (Vec<_>, Vec<_>) = (0..receivers).map(|_| gate(1, Capacity::of_batches(10_000))).unzip();
        let senders = senders.into_iter().map(|mut senders| senders.remove(0)).collect();
        let mut outbox = Outbox::new(partitioning, &[0], sender, GROUPS, senders);
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            for batch in batches {
                outbox.send(rows(batch)).await.expect("there is room");
                let last = batch.last().map_or(0, |(_, number)| *number as i64);
                outbox.watermark(Watermark(last)).await.expect("there is room");
            }
            outbox.flush().await.expect("there is room");
        });
        let flow = |(receiver, mut gate): (usize, crate::Gate)| {
            let messages = std::iter::from_fn(|| gate.try_receive()).map(|(_, message)| message);
            Flow { sender, receiver: receiver as u16, messages: messages.collect() }
        };
        gates.into_iter().enumerate().map(flow).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        /// Goal: whatever the parallelism was and is, each row comes to who owns its key, once (to each of them, if it is broadcast); rows of a key that
        /// one subtask sent come in their order; and no watermark is beyond a row that comes after it, or that a sender has still to send.
        #[test]
        fn each_row_comes_once(
            batches in proptest::collection::vec(proptest::collection::vec(proptest::collection::vec(0..40u64, 1..20), 0..6), 1..4),
            partitioning in prop_oneof![Just(Partitioning::Hash), Just(Partitioning::Rebalance), Just(Partitioning::Broadcast)],
            receivers in 1..5u16,
            senders_now in 1..5u16,
            receivers_now in 1..5u16,
            stays in any::<bool>(),
        ) {
            let was = Ends { senders: batches.len() as u16, receivers };
            let is = Ends { senders: senders_now, receivers: receivers_now };
            let is_same = was == is && stays;
            let redeal = Redeal { partitioning, key: &[0], max_parallelism: GROUPS, was, is, is_same };
            let mut number = 0;
            let mut numbered = |keys: &Vec<u64>| keys.iter().map(|key| { number += 1; (*key, number) }).collect::<Vec<_>>();
            let batches: Vec<Vec<Vec<(u64, u64)>>> = batches.iter().map(|of| of.iter().map(&mut numbered).collect()).collect();
            let flows: Vec<Flow> =
                (0..).zip(&batches).flat_map(|(sender, batches)| sent(partitioning, sender, receivers, batches)).collect();
            // The last watermark of each sender: it may send anything that is later.
            let floor = batches.iter().map(|of| of.last().and_then(|batch| batch.last()).map_or(i64::MIN, |(_, n)| *n as i64)).min();
            let mut found: BTreeMap<(u64, u64), u32> = BTreeMap::new();
            for now in 0..receivers_now {
                let taken = flows.iter().filter(|flow| redeal.takes(now, flow.receiver)).cloned().collect();
                let dealt = redeal.deal(now, taken).expect("rows can be taken");
                let mut last: BTreeMap<(u16, u64), u64> = BTreeMap::new();
                let mut watermark = i64::MIN;
                for (sender, message) in dealt {
                    prop_assert!(sender < senders_now);
                    match message {
                        Message::Batch(batch) => for (key, number) in pairs(&batch) {
                            prop_assert!(is_same || watermark == i64::MIN, "rows are before watermarks");
                            let from = batches.iter().position(|of| of.iter().flatten().any(|row| row.1 == number)).expect("it was sent");
                            let before = last.insert((from as u16, key), number);
                            prop_assert!(partitioning != Partitioning::Hash || before.is_none_or(|before| before < number));
                            *found.entry((key, number)).or_default() += 1;
                            if partitioning == Partitioning::Hash && receivers_now > 1 {
                                let mut hashes = vec![];
                                hash_columns(1, &[Arc::new(UInt64Array::from(vec![key])) as ArrayRef], &mut hashes);
                                let groups = range_of(now, receivers_now, GROUPS);
                                let group = group_of(hashes[0], GROUPS).0;
                                prop_assert!(groups.start <= group && group < groups.end);
                            }
                        },
                        Message::Watermark(Watermark(time)) => {
                            watermark = watermark.max(time);
                            prop_assert!(is_same || Some(time) <= floor);
                        }
                        Message::Idle | Message::Barrier(_) | Message::End => prop_assert!(false, "nothing else was sent"),
                    }
                }
            }
            let copies = if partitioning == Partitioning::Broadcast { u32::from(receivers_now) } else { 1 };
            let expected: BTreeMap<_, _> = batches.iter().flatten().flatten().map(|row| (*row, copies)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    /// Goal: time goes on at another parallelism if it was in flight everywhere, and else when senders say so again.
    #[test]
    fn watermarks_are_known_or_not() {
        let was = Ends { senders: 2, receivers: 1 };
        let is = Ends { senders: 3, receivers: 2 };
        let redeal = Redeal { partitioning: Partitioning::Hash, key: &[0], max_parallelism: GROUPS, was, is, is_same: false };
        let flow = |sender, messages| Flow { sender, receiver: 0, messages };
        let time = |time| Message::Watermark(Watermark(time));
        let dealt = |flows| {
            let dealt = redeal.deal(1, flows).expect("there are no rows");
            dealt.into_iter().map(|(sender, message)| (sender, format!("{message:?}"))).collect::<Vec<_>>()
        };
        let five = format!("{:?}", time(5));
        let all = dealt(vec![flow(0, vec![time(3), time(5)]), flow(1, vec![Message::Idle, time(9)])]);
        assert_eq!(all, [(0, five.clone()), (1, five.clone()), (2, five)]);
        assert_eq!(dealt(vec![flow(0, vec![time(5)]), flow(1, vec![time(9), Message::Idle])]), []);
        assert_eq!(dealt(vec![flow(0, vec![time(5)])]), []);
    }
}
