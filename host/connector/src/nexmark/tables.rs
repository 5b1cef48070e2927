//! The constant strings of the generator.
//!
//! They are made once per process. A column of them holds 16-byte views into their buffers, so that a string costs the generator no
//! copy and a batch no memory of its own.

use std::sync::LazyLock;

use arrow_array::{Array, ArrayRef, StringViewArray, UInt32Array};

use super::draw::Draws;

/// The strings that events are made of.
pub(super) struct Tables {
    /// words of 7 letters
    pub words: Table,
    /// the same, as bytes
    word_bytes: Vec<[u8; 7]>,
    /// 20 to 40 letters
    pub extras: Table,
    /// links
    pub urls: Table,
    /// the four hot channels, then the others
    pub channels: Table,
    /// states of persons
    pub states: Table,
    /// cities of persons
    pub cities: Table,
    /// "first last": every first name with every last name
    pub names: Table,
}

const WORDS: u64 = 1024;
const EXTRAS: u64 = 1024;
const URLS: u64 = 4096;
/// The hot channels come first in their table.
pub(super) const HOT_CHANNELS: u64 = 4;
pub(super) const COLD_CHANNELS: u64 = 10_000;
/// The name of first name f and last name l is number f * LAST_NAMES + l of its table.
pub(super) const FIRST_NAMES: u64 = FIRST.len() as u64;
pub(super) const LAST_NAMES: u64 = LAST.len() as u64;

const FIRST: [&str; 11] = ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

/// The tables of all generators.
pub(super) static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let words: Vec<String> = (0..WORDS).map(|k| letters(&mut Draws::init(101, k), 7)).collect();
    let extra = |k| {
        let mut draws = Draws::init(102, k);
        let length = 20 + draws.next(21);
        letters(&mut draws, length)
    };
    let hot = ["Google", "Facebook", "Baidu", "Apple"].map(String::from);
    Tables {
        word_bytes: words.iter().map(|w| w.as_bytes().try_into().expect("words are of 7 letters")).collect(),
        words: Table::new(words),
        extras: Table::new((0..EXTRAS).map(extra)),
        urls: Table::new((0..URLS).map(|k| format!("https://nexmark.com/item/{}", letters(&mut Draws::init(103, k), 5)))),
        channels: Table::new(hot.into_iter().chain((0..COLD_CHANNELS).map(|k| format!("channel-{k}")))),
        states: Table::new(["AZ", "CA", "ID", "OR", "WA", "WY"]),
        cities: Table::new([
            "Phoenix",
            "Los Angeles",
            "San Francisco",
            "Boise",
            "Portland",
            "Bend",
            "Redmond",
            "Seattle",
            "Kent",
            "Cheyenne",
        ]),
        names: Table::new(FIRST.iter().flat_map(|first| LAST.iter().map(move |last| format!("{first} {last}")))),
    }
});

impl Tables {
    /// The letters of a word.
    pub fn word(&self, index: u64) -> &[u8; 7] {
        &self.word_bytes[index as usize]
    }
}

fn letters(draws: &mut Draws, length: u64) -> String {
    (0..length).map(|_| char::from(b'a' + draws.next(26) as u8)).collect()
}

/// Strings that columns point into.
pub(super) struct Table(StringViewArray);

impl Table {
    fn new<S: AsRef<str>>(strings: impl IntoIterator<Item = S>) -> Self {
        Self(strings.into_iter().map(Some).collect())
    }

    /// The number of strings.
    pub fn len(&self) -> u64 {
        self.0.len() as u64
    }

    /// A column of the strings at these indexes.
    pub fn column(&self, indexes: Vec<u32>) -> ArrayRef {
        arrow_select::take::take(&self.0, &UInt32Array::from(indexes), None).expect("draws are bounded by the table's length")
    }
}
