//! The queries on a few rows, without a host.

use nexmark::nexmark;
use weir::{EventTime, Record, TestHarness};

const START: i64 = 1_436_918_400_000;

#[derive(Clone, Record)]
struct Bid {
    auction: u64,
    bidder: u64,
    price: u64,
    date_time: EventTime,
    extra: String,
}

#[derive(Clone, Record)]
struct Auction {
    id: u64,
    seller: u64,
    category: u64,
    date_time: EventTime,
    expires: EventTime,
}

#[derive(Clone, Record)]
struct Person {
    id: u64,
    name: String,
    city: String,
    state: String,
    date_time: EventTime,
}

fn at(second: i64) -> EventTime {
    EventTime::from_millis(START + second * 1000)
}

fn bid(auction: u64, bidder: u64, price: u64, second: i64) -> Bid {
    Bid { auction, bidder, price, date_time: at(second), extra: format!("bid of {bidder}") }
}

fn auction(id: u64, seller: u64, category: u64, from: i64, to: i64) -> Auction {
    Auction { id, seller, category, date_time: at(from), expires: at(to) }
}

fn person(id: u64, name: &str, state: &str, second: i64) -> Person {
    Person { id, name: name.into(), city: "Portland".into(), state: state.into(), date_time: at(second) }
}

/// A query that has been given these rows, all of them.
fn run(query: &str, persons: &[Person], auctions: &[Auction], bids: &[Bid]) -> TestHarness {
    let mut harness = TestHarness::with_arguments(nexmark, &[("query", query)]);
    if !persons.is_empty() {
        harness.push_stream("nexmark", "person", persons.iter().cloned());
    }
    if !auctions.is_empty() {
        harness.push_stream("nexmark", "auction", auctions.iter().cloned());
    }
    for bid in bids {
        harness.push_stream("nexmark", "bid", [bid.clone()]);
    }
    harness.finish();
    harness
}

/// The stateless queries: prices are converted, bids are selected, and what passes is that of the right row.
#[test]
fn stateless() {
    #[derive(Debug, PartialEq, Record)]
    struct Euros {
        auction: u64,
        price: f64,
        extra: String,
    }

    #[derive(Debug, PartialEq, Record)]
    struct Selected {
        auction: u64,
        price: u64,
    }

    let bids = [bid(1, 7, 1000, 0), bid(246, 8, 10, 1)];
    let euros = |auction, price, extra: &str| Euros { auction, price, extra: extra.into() };
    let converted: Vec<Euros> = run("q1", &[], &[], &bids).take("out");
    assert_eq!(converted, [euros(1, 908.0, "bid of 7"), euros(246, 9.08, "bid of 8")]);
    let selected: Vec<Selected> = run("q2", &[], &[], &bids).take("out");
    assert_eq!(selected, [Selected { auction: 246, price: 10 }]);
}

/// Auctions of category 10 meet their sellers, whoever comes first, if the seller lives in the right state.
#[test]
fn q3() {
    #[derive(Debug, PartialEq, Record)]
    struct Local {
        name: String,
        id: u64,
    }

    let persons = [person(1, "Ada", "OR", 0), person(2, "Bob", "WA", 0)];
    let auctions = [auction(10, 1, 10, 0, 9), auction(11, 1, 11, 0, 9), auction(12, 2, 10, 0, 9)];
    for persons_first in [true, false] {
        let mut harness = TestHarness::with_arguments(nexmark, &[("query", "q3")]);
        if persons_first {
            harness.push_stream("nexmark", "person", persons.clone());
        }
        harness.push_stream("nexmark", "auction", auctions.clone());
        if !persons_first {
            harness.restart();
            harness.push_stream("nexmark", "person", persons.clone());
        }
        assert_eq!(harness.take::<Local>("out"), [Local { name: "Ada".into(), id: 10 }]);
    }
}

/// Only bids within an auction's time count, and the sums come at the end.
#[test]
fn q4() {
    #[derive(Debug, PartialEq, Record)]
    struct Sales {
        category: u64,
        price_sum: u64,
        count: u64,
    }

    let auctions = [auction(1, 9, 10, 0, 5), auction(2, 9, 10, 0, 5), auction(3, 9, 11, 0, 5)];
    let bids = [bid(1, 7, 30, 1), bid(1, 7, 20, 2), bid(2, 7, 4, 5), bid(2, 7, 999, 6)];
    let sales: Vec<Sales> = run("q4", &[], &auctions, &bids).take("out");
    assert_eq!(sales, [Sales { category: 10, price_sum: 34, count: 2 }]);
}

/// Each window has all auctions with the most bids.
#[test]
fn q5() {
    #[derive(Debug, PartialEq, PartialOrd, Record)]
    struct Hot {
        window_end: EventTime,
        auction: u64,
        bids: u64,
    }

    let bids = [bid(1, 7, 1, 1), bid(2, 7, 1, 1), bid(2, 7, 1, 3)];
    let mut hot: Vec<Hot> = run("q5", &[], &[], &bids).take("out");
    hot.sort_by(|a, b| a.partial_cmp(b).expect("the fields are in an order"));
    let row = |end, auction, bids| Hot { window_end: at(end), auction, bids };
    let expected = [row(2, 1, 1), row(2, 2, 1), row(4, 2, 2), row(6, 2, 2), row(8, 2, 2), row(10, 2, 2), row(12, 2, 1)];
    assert_eq!(hot, expected);
}

/// The highest bid of each window; of equal ones the first.
#[test]
fn q7() {
    #[derive(Debug, PartialEq, Record)]
    struct Highest {
        bidder: u64,
        price: u64,
    }

    let bids = [bid(1, 7, 5, 0), bid(1, 8, 9, 1), bid(1, 6, 9, 2), bid(1, 9, 3, 11)];
    let highest: Vec<Highest> = run("q7", &[], &[], &bids).take("out");
    assert_eq!(highest, [Highest { bidder: 8, price: 9 }, Highest { bidder: 9, price: 3 }]);
}

/// New persons with an auction in the same window come once.
#[test]
fn q8() {
    #[derive(Debug, PartialEq, Record)]
    struct NewSeller {
        id: u64,
        name: String,
        window_start: EventTime,
    }

    let persons = [person(1, "Ada", "OR", 11), person(2, "Bob", "OR", 3)];
    let auctions = [auction(10, 1, 10, 12, 20), auction(11, 1, 10, 13, 20), auction(12, 2, 10, 14, 20)];
    let sellers: Vec<NewSeller> = run("q8", &persons, &auctions, &[]).take("out");
    assert_eq!(sellers, [NewSeller { id: 1, name: "Ada".into(), window_start: at(10) }]);
}

/// Bids less than 10 s apart are one session.
#[test]
fn q11() {
    #[derive(Debug, PartialEq, Record)]
    struct Visit {
        bidder: u64,
        bids: u64,
        first: EventTime,
        end: EventTime,
    }

    let bids = [bid(1, 7, 1, 0), bid(2, 7, 1, 9), bid(1, 8, 1, 12), bid(1, 7, 1, 30)];
    let visits: Vec<Visit> = run("q11", &[], &[], &bids).take("out");
    let visit = |bidder, bids, first, end| Visit { bidder, bids, first: at(first), end: at(end) };
    assert_eq!(visits, [visit(7, 2, 0, 19), visit(8, 1, 12, 22), visit(7, 1, 30, 40)]);
}

/// Older bids than the last of a bidder for an auction are left out, and bids are counted as they come.
#[test]
fn keyed() {
    #[derive(Debug, PartialEq, Record)]
    struct Last {
        auction: u64,
        price: u64,
    }

    #[derive(Debug, PartialEq, Record)]
    struct Counted {
        auction: u64,
        bids: u64,
    }

    let bids = [bid(1, 7, 1, 5), bid(1, 7, 2, 4), bid(1, 7, 3, 5), bid(2, 7, 4, 0)];
    let last: Vec<Last> = run("q18", &[], &[], &bids).take("out");
    assert_eq!(last, [(1, 1), (1, 3), (2, 4)].map(|(auction, price)| Last { auction, price }));
    let counted: Vec<Counted> = run("keyed_count", &[], &[], &bids).take("out");
    assert_eq!(counted, [(1, 1), (1, 2), (1, 3), (2, 1)].map(|(auction, bids)| Counted { auction, bids }));
}

/// Every query that is offered can be described; others are refused.
#[test]
fn queries_are_known() {
    for query in ["gen", "q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q11", "q18", "keyed_count"] {
        TestHarness::with_arguments(nexmark, &[("query", query)]);
    }
    assert!(TestHarness::try_new(nexmark, &[("query", "q99")]).is_err_and(|error| error.contains("q99")));
    assert!(TestHarness::try_new(nexmark, &[]).is_err_and(|error| error.contains("query")));
}
