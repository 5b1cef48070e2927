//! Whether a type can read what another one has written.

use super::{Field, Plain, Shape};

/// Checks that what was written as `was` can be read as `is`. The error says where they differ.
///
/// Fields that may be missing can come and go, and variants can come; numbers can get wider, and what was always there can become an `Option`. Stamps can be of
/// another clock: they are not read as if they were of their own.
pub(crate) fn check(was: &Shape, is: &Shape) -> Result<(), String> {
    check_at(was, is, &mut vec![])
}

fn check_at<'a>(was: &'a Shape, is: &Shape, path: &mut Vec<&'a str>) -> Result<(), String> {
    match (was, is) {
        _ if was == is => Ok(()),
        (Shape::Plain(was), Shape::Plain(is)) if widens(*was, *is) || was.may_be_stamp() && is.may_be_stamp() => Ok(()),
        (Shape::Option(was), Shape::Option(is)) | (Shape::List(was), Shape::List(is)) => check_at(was, is, path),
        (_, Shape::Option(is)) => check_at(was, is, path),
        (Shape::Map(was), Shape::Map(is)) => was.iter().zip(&**is).try_for_each(|(was, is)| check_at(was, is, path)),
        (Shape::Tuple(was), Shape::Tuple(is)) if was.len() == is.len() => {
            was.iter().zip(is).try_for_each(|(was, is)| check_at(was, is, path))
        }
        (Shape::Struct(was), Shape::Struct(is)) => check_fields(was, is, path),
        (Shape::Enum(was), Shape::Enum(is)) => was.iter().try_for_each(|(name, was)| {
            let is = is.iter().find(|(other, _)| other == name);
            let (_, is) = is.ok_or_else(|| format!("{}the variant `{name}` is gone", place(path)))?;
            path.push(name);
            check_at(was, is, path)?;
            path.pop();
            Ok(())
        }),
        _ => Err(format!("{}{was} cannot be read as {is}", place(path))),
    }
}

fn check_fields<'a>(was: &'a [Field], is: &[Field], path: &mut Vec<&'a str>) -> Result<(), String> {
    let mut kept = vec![];
    for field in was {
        let reads = |now: &&Field| now.name == field.name || now.aliases.contains(&field.name);
        match is.iter().find(reads) {
            Some(now) => {
                kept.push(now.name.as_str());
                path.push(&field.name);
                check_at(&field.shape, &now.shape, path)?;
                path.pop();
            }
            None if field.optional => {}
            None => return Err(format!("{}the field `{}` is gone, and it was not optional", place(path), field.name)),
        }
    }
    match is.iter().find(|field| !field.optional && !kept.contains(&field.name.as_str())) {
        Some(Field { name, .. }) => Err(format!(
            "{}the field `{name}` is new, and not optional: make it an `Option`, or give it `#[serde(default)]`",
            place(path)
        )),
        None => Ok(()),
    }
}

/// Where it is, for messages.
fn place(path: &[&str]) -> String {
    if path.is_empty() { String::new() } else { format!("`{}`: ", path.join(".")) }
}

/// Whether each number of the one kind is one of the other, too.
fn widens(from: Plain, to: Plain) -> bool {
    use Plain::{F32, F64, I8, I16, I32, I64, I128, U8, U16, U32, U64, U128};
    let unsigned = [U8, U16, U32, U64, U128];
    let signed = [I8, I16, I32, I64, I128];
    let rank = |kinds: [Plain; 5], kind| kinds.iter().position(|other| *other == kind);
    match (rank(unsigned, from), rank(unsigned, to), rank(signed, from), rank(signed, to)) {
        (Some(from), Some(to), ..) | (Some(from), _, _, Some(to)) | (_, _, Some(from), Some(to)) => from < to,
        _ => (from, to) == (F32, F64),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::fmt::Debug;
    use std::num::NonZeroU64;
    use std::time::Duration;

    use serde::de::DeserializeOwned;
    use serde::{Deserialize, Serialize};

    use super::super::{read, trace};
    use super::*;

    fn traced<T: DeserializeOwned>() -> String {
        trace::<T>().to_string()
    }

    /// What `A` has written is read as `B`, by way of the texts of their schemas.
    fn carried<A: Serialize + DeserializeOwned, B: DeserializeOwned>(value: &A) -> Result<B, String> {
        let was: Shape = traced::<A>().parse()?;
        check(&was, &trace::<B>())?;
        let mut bytes = postcard::to_allocvec(value).map_err(|e| e.to_string())?;
        bytes.extend_from_slice(b"rest");
        let (read, rest) = read(&was, &bytes)?;
        assert_eq!(rest, b"rest");
        Ok(read)
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    enum Mode {
        #[default]
        Idle,
        Busy(u32),
        Moved {
            to: String,
            by: Option<u8>,
        },
        Pair(i8, f32),
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Unit;

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Newtype(u16);

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Everything {
        flag: bool,
        numbers: (u8, u16, u32, u64, i8, i16, i32, i64),
        wide: (u128, i128),
        floats: [f32; 3],
        float: f64,
        letter: char,
        text: String,
        unit: Unit,
        newtype: Newtype,
        modes: Vec<Mode>,
        by_name: BTreeMap<String, Vec<Option<i64>>>,
        outcome: Option<Result<u8, String>>,
        length: Duration,
    }

    fn everything() -> Everything {
        Everything {
            flag: true,
            numbers: (255, 65535, 1 << 31, u64::MAX, -128, -5, i32::MIN, i64::MIN),
            wide: (u128::MAX, i128::MIN),
            floats: [0.5, -1.5, f32::MAX],
            float: -0.25,
            letter: 'ß',
            text: "straße".into(),
            unit: Unit,
            newtype: Newtype(300),
            modes: vec![Mode::Pair(-1, 2.0), Mode::Idle, Mode::Moved { to: "x".into(), by: Some(3) }, Mode::Busy(9)],
            by_name: [("a".to_owned(), vec![None, Some(-4)]), ("b".to_owned(), vec![])].into(),
            outcome: Some(Err("no".into())),
            length: Duration::new(5, 7),
        }
    }

    #[test]
    fn what_serde_can_encode_can_be_traced_and_read() {
        assert_eq!(
            traced::<Everything>(),
            "{flag: bool, numbers: tuple<u8, u16, u32, u64, i8, i16, i32, i64>, wide: tuple<u128, i128>, floats: tuple<f32 * 3>, float: f64, letter: char, \
             text: string, unit: (), newtype: u16, modes: list<enum{Idle, Busy: u32, Moved: {to: string, by?: option<u8>}, Pair: tuple<i8, f32>}>, \
             by_name: map<string, list<option<i64>>>, outcome?: option<enum{Ok: u8, Err: string}>, length: {secs: u64, nanos: u32}}"
        );
        assert_eq!(carried::<_, Everything>(&everything()), Ok(everything()));
        assert_eq!(carried::<_, Everything>(&Everything::default()), Ok(Everything::default()));
        assert_eq!(traced::<NonZeroU64>(), "u64");
        assert_eq!(traced::<HashMap<u8, ()>>(), "map<u8, ()>");
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct First {
        count: u32,
        last: Option<i64>,
        name: String,
        mode: Mode,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Second {
        #[serde(default)]
        sum: f64,
        count: u64,
        name: Option<String>,
        #[serde(alias = "mode", alias = "state")]
        condition: Mode,
        note: Option<String>,
    }

    #[test]
    fn optional_fields_come_and_go() {
        let first = First { count: 7, last: Some(9), name: "n".into(), mode: Mode::Busy(1) };
        let second = carried::<_, Second>(&first);
        assert_eq!(
            second,
            Ok(Second { sum: 0.0, count: 7, name: Some("n".into()), condition: Mode::Busy(1), note: None }),
            "a field that was optional is left out, a number is wider, a field has another name"
        );
    }

    fn refusal<A: Serialize + DeserializeOwned, B: DeserializeOwned + Debug>() -> String {
        check(&trace::<A>(), &trace::<B>()).expect_err("they do not fit")
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Mandatory {
            count: u64,
            last: Option<i64>,
            name: String,
            mode: Mode,
            more: u8,
        }
        #[derive(Debug, Serialize, Deserialize)]
        struct Fewer {
            count: u64,
            mode: Mode,
        }
        #[derive(Debug, Serialize, Deserialize)]
        struct Other {
            count: u64,
            name: u64,
            mode: Mode,
        }
        #[derive(Debug, Serialize, Deserialize)]
        enum Worded {
            Idle,
            Busy(String),
            Moved { to: String },
            Pair(i8, f32),
        }
        #[derive(Debug, Serialize, Deserialize)]
        enum Quiet {
            Idle,
        }
        assert_eq!(
            refusal::<First, Mandatory>(),
            "the field `more` is new, and not optional: make it an `Option`, or give it `#[serde(default)]`"
        );
        assert_eq!(refusal::<First, Fewer>(), "the field `name` is gone, and it was not optional");
        assert_eq!(refusal::<Vec<First>, Vec<Other>>(), "`name`: string cannot be read as u64");
        assert_eq!(refusal::<Option<Mode>, Option<Worded>>(), "`Busy`: u32 cannot be read as string");
        assert_eq!(refusal::<Mode, Quiet>(), "the variant `Busy` is gone");
        assert_eq!(refusal::<(u8, u64), (u8, u32)>(), "u64 cannot be read as u32");
        assert_eq!(refusal::<(u8, u8), (u8, u8, u8)>(), "tuple<u8 * 2> cannot be read as tuple<u8 * 3>");
        assert_eq!(refusal::<Option<u8>, u8>(), "option<u8> cannot be read as u8");
        assert_eq!(refusal::<u8, i8>(), "u8 cannot be read as i8");
    }

    #[test]
    fn numbers_get_wider() {
        assert_eq!(carried::<u8, i16>(&200), Ok(200));
        assert_eq!(carried::<u32, u64>(&u32::MAX), Ok(u32::MAX.into()));
        assert_eq!(carried::<i8, i128>(&-3), Ok(-3));
        assert_eq!(carried::<f32, f64>(&0.5), Ok(0.5));
        assert_eq!(carried::<u64, Option<i128>>(&9), Ok(Some(9)));
    }

    /// A type that contains itself, or that refuses samples, is known by its name.
    #[test]
    fn opaque_types() {
        #[derive(Debug, Serialize, Deserialize)]
        struct Tree {
            children: Vec<Tree>,
        }
        #[derive(Debug, Serialize)]
        struct Even(u64);
        impl<'de> Deserialize<'de> for Even {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = u64::deserialize(deserializer)?;
                let error = || serde::de::Error::custom("it is odd");
                (number % 2 == 0).then_some(Self(number)).ok_or_else(error)
            }
        }
        assert!(traced::<Tree>().starts_with("opaque<\"weir::schema::evolve::tests::"), "{}", traced::<Tree>());
        check(&trace::<Tree>(), &trace::<Tree>()).expect("it is the same");
        check(&trace::<Even>(), &trace::<Tree>()).expect_err("these are two");
    }

    /// Bytes that are not of their schema give errors, and nothing else.
    #[test]
    fn garbled_bytes() {
        let was = trace::<Everything>();
        let bytes = postcard::to_allocvec(&everything()).expect("it can be encoded");
        for end in 0..bytes.len() {
            read::<Everything>(&was, &bytes[..end]).expect_err("it ends too early");
        }
        for place in 0..bytes.len() {
            let mut garbled = bytes.clone();
            garbled[place] ^= 0x55;
            let _ = read::<Everything>(&was, &garbled);
        }
    }
}
