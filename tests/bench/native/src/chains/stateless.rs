//! Functions of one row at a time.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{Float64Array, UInt32Array};
use weir_operator::NativeChain;
use weir_sandbox::GuestError;
use weir_types::call::{Input, Origins, Reply};

use super::rows;

/// q0: each bid as it is, with all its columns passed.
#[derive(Debug)]
pub struct Same;

impl NativeChain for Same {
    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        Ok(rows(input.rows, Origins::Identity, vec![]))
    }
}

/// q1: the price in euros. All other columns are passed.
#[derive(Debug)]
pub struct Euros {
    price: usize,
}

impl Euros {
    /// Reads prices from this column.
    pub fn new(price: usize) -> Self {
        Self { price }
    }
}

impl NativeChain for Euros {
    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        let prices = input.columns[self.price].as_primitive::<UInt64Type>().values();
        let euros: Vec<f64> = prices.iter().map(|&price| price as i64 as f64 * 0.908).collect();
        Ok(rows(input.rows, Origins::Identity, vec![Arc::new(Float64Array::from(euros))]))
    }
}

/// q2: the bids for certain auctions, with all their columns passed.
#[derive(Debug)]
pub struct Selection {
    auction: usize,
}

impl Selection {
    /// Reads auctions from this column.
    pub fn new(auction: usize) -> Self {
        Self { auction }
    }
}

impl NativeChain for Selection {
    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        let auctions = input.columns[self.auction].as_primitive::<UInt64Type>().values();
        let chosen = auctions.iter().enumerate().filter(|(_, auction)| **auction % 123 == 0);
        let chosen: Vec<u32> = chosen.map(|(row, _)| row as u32).collect();
        if chosen.is_empty() {
            return Ok(Reply::default());
        }
        Ok(rows(chosen.len(), Origins::Picked(UInt32Array::from(chosen)), vec![]))
    }
}
