//! The functions of some Nexmark queries as plain loops over Arrow's columns: what one would write without a sandbox.
//!
//! `examples/nexmark/src` has the same functions as guests.

mod counts;
mod highest;
mod hottest;
mod running;
mod stateless;

use std::sync::Arc;

use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, PrimitiveArray};
use weir_operator::NativeChain;
use weir_plan::job::ChainNode;
use weir_types::call::{Origins, Output, Reply, States};

/// The native code for a chain of a query, where there is some.
pub fn native(query: &str, node: &ChainNode) -> Option<Box<dyn NativeChain>> {
    Some(match (query, node.operator_id()) {
        ("q0", _) => Box::new(stateless::Same),
        ("q1", _) => Box::new(stateless::Euros::new(input_column(node, "price")?)),
        ("q2", _) => Box::new(stateless::Selection::new(input_column(node, "auction")?)),
        ("keyed_count", "bids") => Box::new(running::RunningCount::default()),
        ("q5", "bids-by-auction") => Box::new(counts::Counts::new(counts::demand)),
        ("q5", "hottest") => Box::new(hottest::Hottest::new(input_column(node, "auction")?, input_column(node, "bids")?)),
        ("q7", "highest-bid") => {
            let [auction, bidder, price, date_time] =
                ["auction", "bidder", "price", "date_time"].map(|name| input_column(node, name));
            Box::new(highest::Highest::new([auction?, bidder?, price?, date_time?]))
        }
        ("q11", "bids-by-session") => Box::new(counts::Counts::new(counts::visit)),
        _ => return None,
    })
}

/// The numbers that each state consists of.
fn numbers(states: &States) -> impl Iterator<Item = Vec<u64>> + '_ {
    states.offsets.windows(2).map(|range| {
        let numbers = states.bytes[range[0] as usize..range[1] as usize].as_chunks::<8>().0;
        numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
    })
}

/// The place of a column among those that a call passes.
fn input_column(node: &ChainNode, name: &str) -> Option<usize> {
    let (input, schema) = (node.chain.inputs.first()?, node.inputs.first()?);
    input.columns.iter().position(|&column| schema.field(column).name() == name)
}

/// A reply with rows for the main output.
fn rows(rows: usize, origins: Origins, columns: Vec<ArrayRef>) -> Reply {
    Reply { outputs: vec![Output { port: 0, rows, origins, times: None, columns }], ..Reply::default() }
}

/// A column of points in time.
fn times(values: Vec<i64>) -> ArrayRef {
    Arc::new(PrimitiveArray::<TimestampMillisecondType>::from(values).with_timezone("UTC"))
}
