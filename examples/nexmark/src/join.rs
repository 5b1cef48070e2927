//! Queries that bring two streams together.

use serde::{Deserialize, Serialize};
use weir::{CoProcess, EventTime, Job, KeyedContext, Pass, Process, Record, Str, Timer, Tumbling, Watermarks, secs};

/// A person, of whom only the state is looked at.
#[derive(Record)]
struct Resident {
    id: Pass<u64>,
    name: Pass<Str>,
    city: Pass<Str>,
    state: Str,
}

/// Somebody who may sell.
#[derive(Record)]
struct Seller {
    id: Pass<u64>,
    name: String,
    city: String,
    state: String,
}

/// Something of a category.
#[derive(Record)]
struct Item {
    id: u64,
    seller: Pass<u64>,
    category: u64,
}

/// Somebody and what they sell.
#[derive(Record)]
struct LocalItem {
    name: String,
    city: String,
    state: String,
    id: u64,
}

/// A seller, and the auctions that came before them.
#[derive(Default, Serialize, Deserialize)]
struct Local {
    /// name, city and state
    seller: Option<(String, String, String)>,
    waiting: Vec<u64>,
}

/// Local item suggestion: who sells something of category 10 in Oregon, Idaho or California. There is no limit in time.
pub fn q3(job: &Job) {
    let sellers = job
        .source_stream::<Resident>("nexmark", "person")
        .filter(|person| matches!(&*person.state, "OR" | "ID" | "CA"))
        .select::<Seller>()
        .key_by(Seller::ID);
    job.source_stream::<Item>("nexmark", "auction")
        .filter(|auction| auction.category == 10)
        .key_by(Item::SELLER)
        .connect(sellers)
        .process_with(
            |local: &mut Local, auction: Item, cx| match local.seller.clone() {
                Some((name, city, state)) => cx.emit(LocalItem { name, city, state, id: auction.id }),
                None => local.waiting.push(auction.id),
            },
            |local: &mut Local, person: Seller, cx| {
                let Seller { name, city, state, .. } = person;
                for id in local.waiting.drain(..) {
                    cx.emit(LocalItem { name: name.clone(), city: city.clone(), state: state.clone(), id });
                }
                local.seller = Some((name, city, state));
            },
        )
        .uid("local-items")
        .sink("out");
}

/// Something of a category, and when it is for sale.
#[derive(Record)]
struct Auction {
    id: Pass<u64>,
    category: u64,
    date_time: EventTime,
    expires: EventTime,
}

/// An offer for it.
#[derive(Record)]
struct Offer {
    auction: Pass<u64>,
    price: u64,
    date_time: EventTime,
}

/// The price that something was sold for.
#[derive(Record)]
struct Sale {
    category: u64,
    price: u64,
}

/// Finds the highest offer for each auction.
struct Selling;

/// An auction that is open, or offers that came before it.
#[derive(Default, Serialize, Deserialize)]
struct Open {
    /// category, begin and end
    auction: Option<(u64, EventTime, EventTime)>,
    best: Option<u64>,
    early: Vec<(u64, EventTime)>,
}

impl Open {
    /// Takes an offer for the auction into account.
    fn offer(&mut self, price: u64, time: EventTime, (_, begin, end): (u64, EventTime, EventTime)) {
        if begin <= time && time <= end {
            self.best = self.best.max(Some(price));
        }
    }
}

impl CoProcess<Auction, Offer> for Selling {
    type Key = u64;
    type State = Open;
    type Out = Sale;

    fn left(&mut self, open: &mut Open, auction: Auction, cx: &mut KeyedContext<u64, Sale>) {
        let terms = (auction.category, auction.date_time, auction.expires);
        open.auction = Some(terms);
        for (price, time) in std::mem::take(&mut open.early) {
            open.offer(price, time, terms);
        }
        cx.set_event_timer(auction.expires);
    }

    fn right(&mut self, open: &mut Open, bid: Offer, cx: &mut KeyedContext<u64, Sale>) {
        match open.auction {
            Some(terms) => open.offer(bid.price, bid.date_time, terms),
            None => {
                open.early.push((bid.price, bid.date_time));
                cx.set_event_timer(bid.date_time);
            }
        }
    }

    fn timer(&mut self, open: &mut Open, timer: Timer, cx: &mut KeyedContext<u64, Sale>) {
        match open.auction {
            Some((category, _, end)) if end <= timer.time => {
                if let Some(price) = open.best {
                    cx.emit(Sale { category, price });
                }
                (open.auction, open.best) = (None, None);
            }
            Some(_) => {}
            // No auction that began by now can still come, so these offers are for none.
            None => open.early.retain(|(_, time)| *time > timer.time),
        }
    }
}

/// The sales of a category.
#[derive(Record)]
struct Sales {
    category: u64,
    price_sum: u64,
    count: u64,
}

/// Adds up the sales of each category, until the input ends.
struct Adding;

impl Process<Sale> for Adding {
    type Key = u64;
    /// the sum of the prices, and their number
    type State = (u64, u64);
    type Out = Sales;

    fn row(&mut self, (price_sum, count): &mut (u64, u64), sale: Sale, cx: &mut KeyedContext<u64, Sales>) {
        if *count == 0 {
            cx.set_event_timer(EventTime::MAX);
        }
        *price_sum += sale.price;
        *count += 1;
    }

    fn timer(&mut self, &mut (price_sum, count): &mut (u64, u64), _: Timer, cx: &mut KeyedContext<u64, Sales>) {
        cx.emit(Sales { category: *cx.key(), price_sum, count });
    }
}

/// Average price for a category: the highest offer within each auction's time, added up by category.
pub fn q4(job: &Job) {
    let bids = job
        .source_stream::<Offer>("nexmark", "bid")
        .event_time(Offer::DATE_TIME, Watermarks::bounded(secs(0)))
        .key_by(Offer::AUCTION);
    job.source_stream::<Auction>("nexmark", "auction")
        .event_time(Auction::DATE_TIME, Watermarks::bounded(secs(0)))
        .key_by(Auction::ID)
        .connect(bids)
        .process(Selling)
        .uid("highest-offer")
        .key_by(Sale::CATEGORY)
        .process(Adding)
        .uid("sales-by-category")
        .sink("out");
}

/// A person who is new.
#[derive(Clone, Record)]
struct Newcomer {
    id: u64,
    name: Str,
    date_time: EventTime,
}

/// An auction, by whom it was opened.
#[derive(Clone, Record)]
struct Opening {
    seller: u64,
    date_time: EventTime,
}

/// A new person who sells.
#[derive(Record)]
struct NewSeller {
    id: u64,
    name: Str,
    window_start: EventTime,
}

/// Monitor new users: who came and opened an auction in the same 10 s.
pub fn q8(job: &Job) {
    let auctions = job
        .source_stream::<Opening>("nexmark", "auction")
        .event_time(Opening::DATE_TIME, Watermarks::bounded(secs(0)))
        .key_by(Opening::SELLER);
    job.source_stream::<Newcomer>("nexmark", "person")
        .event_time(Newcomer::DATE_TIME, Watermarks::bounded(secs(0)))
        .key_by(Newcomer::ID)
        .connect(auctions)
        .window(Tumbling::new(secs(10)))
        .cogroup(|_, window, persons: &[Newcomer], auctions: &[Opening], out| {
            if !auctions.is_empty() {
                let window_start = window.start;
                out.extend(persons.iter().map(|p| NewSeller { id: p.id, name: p.name.clone(), window_start }));
            }
        })
        .uid("new-sellers")
        .sink("out");
}
