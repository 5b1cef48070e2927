//! The three streams with all their columns. Queries that need fewer have records of their own.

use weir::{EventTime, Pass, Record, Str};

/// Somebody who sells and bids.
#[derive(Record)]
pub struct Person {
    pub id: Pass<u64>,
    pub name: Pass<Str>,
    pub email: Pass<Str>,
    pub credit_card: Pass<Str>,
    pub city: Pass<Str>,
    pub state: Pass<Str>,
    pub date_time: Pass<EventTime>,
    pub extra: Pass<Str>,
}

/// Something that is for sale.
#[derive(Record)]
pub struct Auction {
    pub id: Pass<u64>,
    pub item_name: Pass<Str>,
    pub description: Pass<Str>,
    pub initial_bid: Pass<u64>,
    pub reserve: Pass<u64>,
    pub date_time: Pass<EventTime>,
    pub expires: Pass<EventTime>,
    pub seller: Pass<u64>,
    pub category: Pass<u64>,
    pub extra: Pass<Str>,
}

/// An offer for it.
#[derive(Record)]
pub struct Bid {
    pub auction: Pass<u64>,
    pub bidder: Pass<u64>,
    pub price: Pass<u64>,
    pub channel: Pass<Str>,
    pub url: Pass<Str>,
    pub date_time: Pass<EventTime>,
    pub extra: Pass<Str>,
}
