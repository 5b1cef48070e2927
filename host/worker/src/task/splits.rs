//! Which splits reach which node of a task.
//!
//! An assigner follows event times split by split: the splits of the task's source, or, behind an exchange, the channels of its gate. Rows that a
//! process function or a window made are of no split any more: they are in an order that the operator gave them, and count as one split.

use weir_operator::ChainOperator;
use weir_plan::job::{Node, NodeKind, Origin};

/// The splits of a task: for each the edge of which it is a channel; none = the task reads a source.
pub(super) struct Splits(Vec<Option<usize>>);

/// What reaches a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// by split: whether rows of it come here
    pub splits: Vec<bool>,
    /// by feed: whether rows come by it that were made on the way
    pub made: Vec<bool>,
}

impl Splits {
    /// Those of a source.
    pub(super) fn of_source(splits: usize) -> Self {
        Self(vec![None; splits])
    }

    /// The channels of a gate.
    pub(super) fn of_gate(edge_of_channel: &[usize]) -> Self {
        Self(edge_of_channel.iter().copied().map(Some).collect())
    }

    /// What reaches each node.
    pub(super) fn reach(&self, nodes: &[Node]) -> Vec<Reach> {
        let mut all: Vec<Reach> = vec![];
        for node in nodes {
            let mut reach = Reach { splits: vec![false; self.0.len()], made: vec![] };
            for feed in &node.feeds {
                let (splits, made) = match feed.from {
                    Origin::Stream(_) => (vec![true; self.0.len()], false),
                    Origin::Edge(edge) => (self.0.iter().map(|e| *e == Some(edge)).collect(), false),
                    Origin::Node { node, .. } if makes_rows(&nodes[node]) => (vec![], true),
                    Origin::Node { node, .. } => (all[node].splits.clone(), all[node].made.contains(&true)),
                };
                reach.splits.iter_mut().zip(splits).for_each(|(reaches, new)| *reaches |= new);
                reach.made.push(made);
            }
            all.push(reach);
        }
        all
    }
}

impl Reach {
    /// A source has another split, which reaches what its first one does. Returns its number, and whether that is the node.
    pub(super) fn add(&mut self) -> (usize, bool) {
        let reaches = self.splits[0];
        self.splits.push(reaches);
        (self.splits.len() - 1, reaches)
    }

    /// What the node's assigner counts as splits: the task's, then its feeds.
    pub(super) fn to_assigner(&self) -> Vec<bool> {
        self.splits.iter().chain(&self.made).copied().collect()
    }

    /// The number under which the node's assigner knows rows of a split, or, if they are of none, of a feed.
    pub(super) fn place(&self, split: Option<u32>, feed: usize) -> usize {
        split.map_or(self.splits.len() + feed, |split| split as usize)
    }
}

fn makes_rows(node: &Node) -> bool {
    matches!(&node.kind, NodeKind::Chain(chain) if ChainOperator::makes_rows(chain.chain.head))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a split that comes later has the number behind those of the others, and the feeds move up.
    #[test]
    fn splits_may_come_later() {
        let mut reach = Reach { splits: vec![true, true], made: vec![false, true] };
        assert_eq!(reach.place(None, 1), 3);
        assert_eq!(reach.add(), (2, true));
        assert_eq!((reach.place(Some(2), 0), reach.place(None, 1)), (2, 4));
        assert_eq!(reach.to_assigner(), [true, true, true, false, true]);
        assert_eq!(Reach { splits: vec![false], made: vec![true] }.add(), (1, false));
    }
}
