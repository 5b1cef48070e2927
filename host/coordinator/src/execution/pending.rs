//! What sinks have prepared and nobody has committed: for the figures, which no decision depends on.
//!
//! Snapshots name a transaction again and again: those of a checkpoint that was given up are in the next one, too, and what a task left at its end is in all
//! that follow. So they are told apart by what they are.

use std::collections::BTreeSet;

use weir_connector::Transaction;

/// Transactions, by sink and content.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pending(BTreeSet<(String, String)>);

impl Pending {
    /// These.
    pub fn of(transactions: &[(String, Vec<Transaction>)]) -> Self {
        let mut pending = Self::default();
        pending.add(transactions);
        pending
    }

    /// These, too.
    pub fn add(&mut self, transactions: &[(String, Vec<Transaction>)]) {
        for (sink, transactions) in transactions {
            self.0.extend(transactions.iter().map(|transaction| (sink.clone(), transaction.to_string())));
        }
    }

    /// Not these any more.
    pub fn remove(&mut self, committed: &Self) {
        self.0.retain(|transaction| !committed.0.contains(transaction));
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: a transaction counts once, however often snapshots name it, until it is committed; those of two sinks are not the same.
    #[test]
    fn transactions_count_once() {
        let named = |sink: &str, ids: &[u64]| (sink.to_owned(), ids.iter().map(|id| json!({ "id": id })).collect::<Vec<_>>());
        let mut pending = Pending::of(&[named("a", &[1, 2]), named("b", &[1])]);
        assert_eq!(pending.count(), 3);
        pending.add(&[named("a", &[2, 3])]);
        assert_eq!(pending.count(), 4);
        pending.remove(&Pending::of(&[named("a", &[1, 2]), named("b", &[7])]));
        assert_eq!(pending, Pending::of(&[named("a", &[3]), named("b", &[1])]));
    }
}
