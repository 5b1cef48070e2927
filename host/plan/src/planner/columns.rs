//! Which columns somebody reads.
//!
//! A column that nobody downstream reads is not generated, parsed, copied or sent. Computed from the sinks back to the sources.

use weir_types::graph::{Chain, ColumnOrigin, Head};

use super::logical::{From, Kind, Logical};
use crate::dead_letters::schema;

/// The columns that are read, of each stream and of each output port of each node.
#[derive(Debug)]
pub struct Needed {
    /// `[source][stream][column]`
    pub streams: Vec<Vec<Vec<bool>>>,
    /// `[node][port][column]`
    pub nodes: Vec<Vec<Vec<bool>>>,
}

/// Computes what is needed.
pub fn needed(logical: &Logical) -> Needed {
    let mut needed = Needed {
        streams: logical
            .sources
            .iter()
            .map(|source| {
                let letters = source.has_dead_letters.then(schema);
                source
                    .streams
                    .iter()
                    .map(|stream| &stream.schema)
                    .chain(&letters)
                    .map(|s| vec![false; s.fields().len()])
                    .collect()
            })
            .collect(),
        nodes: logical
            .nodes
            .iter()
            .map(|n| match &n.kind {
                Kind::Chain { chain, .. } => chain.outputs.iter().map(|o| vec![false; o.schema.fields().len()]).collect(),
                Kind::Sink(_) => vec![],
            })
            .collect(),
    };
    for (i, node) in logical.nodes.iter().enumerate().rev() {
        for (port, input) in node.inputs.iter().enumerate() {
            let columns: Vec<usize> = match &node.kind {
                Kind::Sink(_) => (0..input.schema.fields().len()).collect(),
                // A dead letter has the whole record.
                Kind::Chain { dead_letters: Some(_), .. } => (0..input.schema.fields().len()).collect(),
                Kind::Chain { chain, .. } => read_by(chain, port, &needed.nodes[i]),
            };
            for from in &input.from {
                let marks = match *from {
                    From::Stream { source, stream } => &mut needed.streams[source][stream],
                    From::Node { node, port } => &mut needed.nodes[node][port],
                };
                columns.iter().for_each(|&c| marks[c] = true);
            }
        }
    }
    needed
}

/// The columns of input `port` that a chain needs, if these columns of its outputs are needed.
fn read_by(chain: &Chain, port: usize, outputs: &[Vec<bool>]) -> Vec<usize> {
    let input = &chain.inputs[port];
    let mut columns = input.key.clone();
    if chain.head != Head::Relay {
        columns.extend(&input.columns);
    }
    let passed_from = |output: usize| chain.late_input(output).unwrap_or(0);
    for (i, needed) in outputs.iter().enumerate().filter(|&(i, _)| passed_from(i) == port) {
        for (origin, &needed) in chain.outputs[i].columns.iter().zip(needed) {
            if let (ColumnOrigin::Passed(column), true) = (origin, needed) {
                columns.push(*column);
            }
        }
        // Event times are taken from a column of the main output, whether or not somebody reads it after that.
        if let Some(time) = chain.event_time.and_then(|e| e.column)
            && let ColumnOrigin::Passed(column) = chain.outputs[0].columns[time]
        {
            columns.push(column);
        }
    }
    columns
}
