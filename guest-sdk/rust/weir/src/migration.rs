//! Upgrades: state that an older version of the job has written, and what is made of it.

use crate::schema::{Shape, check, read, trace};
use crate::state::{State, decode, encode};

/// The types that a state was of in earlier versions of a job, and how today's is made of them.
///
/// Optional fields can come and go, numbers can get wider, and enums can have more variants without any of this: state is read by the names of its fields, and
/// serde's rules hold (`#[serde(default)]`, `#[serde(alias = "…")]`). For all else, keep the old type in the code, and say here what becomes of it.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use weir::{KeyedContext, Migrations, Process, Record};
///
/// #[derive(Record)]
/// struct Click { user: u64 }
///
/// /// What was kept until version 2: the number of clicks.
/// type V1 = u64;
///
/// #[derive(Default, Serialize, Deserialize)]
/// struct Visit { clicks: u64, is_old: bool }
///
/// struct Visits;
///
/// impl Process<Click> for Visits {
///     type Key = u64;
///     type State = Visit;
///     type Out = (u64, u64);
///
///     fn row(&mut self, visit: &mut Visit, _click: Click, cx: &mut KeyedContext<u64, (u64, u64)>) {
///         visit.clicks += 1;
///         cx.emit((*cx.key(), visit.clicks));
///     }
///
///     fn migrations() -> Migrations<Visit> {
///         Migrations::none().from(|clicks: V1| Visit { clicks, is_old: true })
///     }
/// }
/// ```
///
/// `weir job diff` says beforehand which operators can read what is there.
pub struct Migrations<S>(Vec<Migration<S>>);

/// The host opens a chain with the schema that it has described, among others.
pub(crate) const NOT_NAMED: &str = "the host opened a chain without naming the schema of its states";

/// From one older type.
struct Migration<S> {
    /// the older type
    shape: Shape,
    /// makes the state of bytes that were written with one shape, where the older type has another one; returns the bytes behind them, too
    make: Box<Make<S>>,
}

type Make<S> = dyn for<'a> Fn(&Shape, &Shape, &'a [u8]) -> Result<(S, &'a [u8]), String>;

impl<S: State> Migrations<S> {
    /// There is no older type.
    pub fn none() -> Self {
        Self(vec![])
    }

    /// What has become of the type `Old`, whose state `f` turns into today's.
    #[must_use]
    pub fn from<Old: State>(mut self, f: impl Fn(Old) -> S + 'static) -> Self {
        let make: Box<Make<S>> = Box::new(move |was, is, bytes| {
            let (old, rest) = decode_as::<Old>(was, is, bytes)?;
            Ok((f(old), rest))
        });
        self.0.push(Migration { shape: trace::<Old>(), make });
        self
    }
}

/// A state that was written with one shape, as a type of another one.
fn decode_as<'a, S: State>(was: &Shape, is: &Shape, bytes: &'a [u8]) -> Result<(S, &'a [u8]), String> {
    if was == is { decode(bytes) } else { read(was, bytes) }
}

/// How states of one type go to bytes and come back: each begins with the number of the schema by which it was written.
pub(crate) struct Codec<S> {
    own: u32,
    forms: Vec<Form>,
    migrations: Migrations<S>,
}

/// How the states of one schema are read.
enum Form {
    /// as they are
    Own,
    /// by the names of their fields
    Evolved(Shape),
    /// by the migration of this number
    Migrated(Shape, usize),
    /// there are none
    Absent,
}

impl<S: State> Codec<S> {
    /// The codec of a chain that has no past.
    pub fn new() -> Self {
        Self { own: 0, forms: vec![Form::Own], migrations: Migrations::none() }
    }

    /// The schema of `S`.
    pub fn schema() -> String {
        trace::<S>().to_string()
    }

    /// Gets ready for states of these schemas, of which number `own` is that of `S`. None = no state of this one has a part that is an `S`.
    pub fn open(&mut self, own: usize, schemas: &[Option<&str>], migrations: Migrations<S>) -> Result<(), String> {
        self.own = u32::try_from(own).map_err(|e| e.to_string())?;
        let is = trace::<S>();
        let text = schemas.get(own).copied().flatten();
        let form = |schema: &Option<&str>| match schema {
            None => Ok(Form::Absent),
            Some(_) if *schema == text => Ok(Form::Own),
            Some(schema) => {
                let was: Shape = schema.parse()?;
                let migration = |fits: &dyn Fn(&Shape) -> bool| migrations.0.iter().position(|migration| fits(&migration.shape));
                // What the job says in so many words goes before what could be read without it.
                if let Some(number) = migration(&|shape| shape.to_string() == *schema) {
                    return Ok(Form::Migrated(was, number));
                }
                let Err(misfit) = check(&was, &is) else { return Ok(Form::Evolved(was)) };
                let near = migration(&|shape| check(&was, shape).is_ok());
                near.map(|number| Form::Migrated(was, number)).ok_or(misfit)
            }
        };
        self.forms = schemas.iter().map(form).collect::<Result<_, _>>()?;
        self.migrations = migrations;
        Ok(())
    }

    /// Appends the bytes of a state.
    pub fn encode(&self, state: &S, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
        encode(state, encode(&self.own, bytes)?)
    }

    /// A state from its bytes, and the bytes behind it.
    pub fn decode<'a>(&self, bytes: &'a [u8]) -> Result<(S, &'a [u8]), String> {
        let (number, bytes): (u32, _) = decode(bytes)?;
        match self.forms.get(number as usize) {
            Some(Form::Own) => decode(bytes),
            Some(Form::Evolved(was)) => read(was, bytes),
            Some(Form::Migrated(was, number)) => {
                let Migration { shape, make } = &self.migrations.0[*number];
                make(was, shape, bytes)
            }
            Some(Form::Absent) | None => {
                Err(format!("the stored state is of the schema number {number}, which the host has not named"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Old {
        clicks: u64,
        last: Option<i64>,
    }

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct New {
        clicks: u64,
        name: Option<String>,
    }

    fn migrations() -> Migrations<New> {
        Migrations::none()
            .from(|clicks: u32| New { clicks: clicks.into(), name: Some("was a number".into()) })
            .from(|(clicks, name): (u64, String)| New { clicks, name: Some(name) })
    }

    /// One codec reads what itself and older versions have written, each state by the number that it begins with.
    #[test]
    fn states_of_all_versions() {
        let number = Codec::<u32>::schema();
        let pair = Codec::<(u64, String)>::schema();
        let old = Codec::<Old>::schema();
        let own = Codec::<New>::schema();
        let schemas = [&number, &old, &own, &pair].map(|schema| Some(schema.as_str()));

        let mut codec = Codec::<New>::new();
        codec.open(2, &schemas, migrations()).expect("it reads all of them");
        let written = |number: usize, state: &dyn Fn(Vec<u8>) -> Vec<u8>| {
            let mut bytes = state(vec![number as u8]);
            bytes.push(77);
            bytes
        };
        let new = |clicks, name: Option<&str>| New { clicks, name: name.map(str::to_owned) };
        for (bytes, state) in [
            (written(0, &|bytes| encode(&5u32, bytes).expect("encoded")), new(5, Some("was a number"))),
            (written(1, &|bytes| encode(&Old { clicks: 6, last: Some(1) }, bytes).expect("encoded")), new(6, None)),
            (written(2, &|bytes| encode(&new(7, Some("n")), bytes).expect("encoded")), new(7, Some("n"))),
            (written(3, &|bytes| encode(&(8u64, "p".to_owned()), bytes).expect("encoded")), new(8, Some("p"))),
        ] {
            assert_eq!(codec.decode(&bytes), Ok((state, &[77][..])));
        }
        let own = codec.encode(&new(9, None), vec![]).expect("encoded");
        assert_eq!((own[0], codec.decode(&own)), (2, Ok((new(9, None), &[][..]))));
        codec.decode(&[4, 0]).expect_err("there is no such schema");
    }

    /// A migration from the very type goes before reading by names; nothing reads what has no way.
    #[test]
    fn the_way_from_a_schema() {
        let old = Codec::<Old>::schema();
        let own = Codec::<New>::schema();
        let schemas = [Some(old.as_str()), Some(own.as_str())];
        let mut codec = Codec::<New>::new();
        let explicit = migrations().from(|old: Old| New { clicks: old.clicks + 100, name: None });
        codec.open(1, &schemas, explicit).expect("there is a way");
        let mut bytes = vec![0];
        bytes.extend(encode(&Old { clicks: 1, last: None }, vec![]).expect("encoded"));
        assert_eq!(codec.decode(&bytes), Ok((New { clicks: 101, name: None }, &[][..])));

        let refusal = codec.open(1, &[Some("list<u8>"), Some(&own)], migrations()).expect_err("there is no way");
        assert_eq!(refusal, "list<u8> cannot be read as {clicks: u64, name?: option<string>}");
        codec.open(1, &[Some("nonsense"), Some(&own)], migrations()).expect_err("it is no schema");
    }
}
