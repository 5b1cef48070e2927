//! Which nodes stay with their source, so that time can be followed split by split.
//!
//! Each split of a source (a file, a partition) has an order of its own. Rows of several splits that were mixed in a channel have none: how far
//! time has come in each can no longer be told. So what lies between a source and the chain that assigns event times is in the source's task even if
//! chaining is off. Where the user asks for an exchange there, each channel counts as a split.

use weir_types::graph::{Head, Partitioning};

use super::logical::{From, Kind, Logical, Node};

/// By node: whether it lies on a path of rows from a source to a chain that assigns event times.
pub fn kept_together(logical: &Logical) -> Vec<bool> {
    let mut has_splits: Vec<bool> = vec![];
    for node in &logical.nodes {
        has_splits.push(keeps_splits(node) && origins(node).all(|from| is_split(from, &has_splits)));
    }
    let mut leads_to_assigner = vec![false; logical.nodes.len()];
    for (index, node) in logical.nodes.iter().enumerate().rev() {
        let assigns = matches!(&node.kind, Kind::Chain { chain, .. } if chain.event_time.is_some());
        leads_to_assigner[index] = has_splits[index] && (assigns || leads_to_assigner[index]);
        if leads_to_assigner[index] {
            for from in origins(node) {
                if let From::Node { node, .. } = from {
                    leads_to_assigner[node] = true;
                }
            }
        }
    }
    leads_to_assigner
}

fn origins(node: &Node) -> impl Iterator<Item = From> {
    node.inputs.iter().flat_map(|input| input.from.iter().copied())
}

/// Whether rows leave the node in the order of the splits that they came from.
fn keeps_splits(node: &Node) -> bool {
    matches!(&node.kind, Kind::Chain { chain, .. } if matches!(chain.head, Head::Transform | Head::Relay))
        && node.inputs.iter().all(|input| input.partitioning == Partitioning::Forward)
}

fn is_split(from: From, has_splits: &[bool]) -> bool {
    match from {
        From::Stream { .. } => true,
        From::Node { node, .. } => has_splits[node],
    }
}
