//! Aggregates: what is kept of the rows of a window instead of the rows.

use std::hash::Hash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::distinct::{Sketch, stable_hash};
use crate::migration::Migrations;
use crate::record::{Field, Only, Record, Row};
use crate::state::{State, Stored, check_storable};
use crate::value::{Column, Plain, Value};

/// Makes one result of many rows of type `T`, of which it keeps an accumulator only.
///
/// Rows may be accumulated apart and merged later, in any grouping (windows that slide share slices, and rows are
/// accumulated before they are sent to other machines): `merge` must give what adding all rows to one accumulator gives.
///
/// ```
/// use weir::{Aggregate, Record};
///
/// #[derive(Record)]
/// struct Bid { bidder: u64, price: u64 }
///
/// /// The spread of the prices.
/// struct Spread;
///
/// impl Aggregate<Bid> for Spread {
///     type Row = Bid;
///     type Accumulator = Option<(u64, u64)>;
///     type Out = u64;
///
///     fn add(&self, spread: &mut Option<(u64, u64)>, bid: Bid) {
///         self.merge(spread, &Some((bid.price, bid.price)));
///     }
///     fn merge(&self, spread: &mut Option<(u64, u64)>, other: &Option<(u64, u64)>) {
///         *spread = match (*spread, *other) {
///             (Some(a), Some(b)) => Some((a.0.min(b.0), a.1.max(b.1))),
///             (a, b) => a.or(b),
///         };
///     }
///     fn result(&self, spread: &Option<(u64, u64)>) -> u64 {
///         spread.map_or(0, |(least, greatest)| greatest - least)
///     }
/// }
/// ```
pub trait Aggregate<T>: 'static {
    /// what it reads of a row: `T`, a record with some of the columns of `T` (they are found by name), or `()`. Only these
    /// columns are given to the component.
    type Row: Row;
    /// what it keeps; the default is that of no rows
    type Accumulator: State;
    /// the result
    type Out: 'static;

    /// The columns that it reads, where `Row` does not name them.
    fn columns(&self) -> Result<Vec<Column>, String> {
        Ok(Self::Row::columns())
    }
    /// Adds a row.
    fn add(&self, accumulator: &mut Self::Accumulator, row: Self::Row);
    /// Adds what another accumulator holds.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator);
    /// The result.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Out;
    /// What the accumulator was in earlier versions of the job, and how today's is made of it.
    fn migrations() -> Migrations<Self::Accumulator> {
        Migrations::none()
    }
}

/// What an aggregate is of: a field (`Bid::PRICE`), or a closure (`|bid: &Bid| bid.price / 100`). With a field, only its
/// column is read.
pub trait Select<T>: 'static {
    /// what is read of a row
    type Row: Row;
    /// what comes of it
    type Value: 'static;

    /// The columns that are read.
    fn columns(&self) -> Vec<Column>;
    /// The value in a row.
    fn get(&self, row: Self::Row) -> Self::Value;
}

impl<T: Record, V: Value> Select<T> for Field<T, V> {
    type Row = Only<V>;
    type Value = V;

    fn columns(&self) -> Vec<Column> {
        vec![V::column(self.name())]
    }
    #[inline]
    fn get(&self, row: Only<V>) -> V {
        row.0
    }
}

impl<T: Record, V: 'static, F: Fn(&T) -> V + 'static> Select<T> for F {
    type Row = T;
    type Value = V;

    fn columns(&self) -> Vec<Column> {
        T::columns()
    }
    #[inline]
    fn get(&self, row: T) -> V {
        self(&row)
    }
}

/// A value that may be missing: `T` or `Option<T>`. Aggregates pass over missing values.
pub trait Nullable: 'static {
    /// the value, when it is there
    type Present: 'static;

    /// The value, if it is there.
    fn present(self) -> Option<Self::Present>;
}

impl<T: Plain> Nullable for T {
    type Present = T;

    #[inline]
    fn present(self) -> Option<T> {
        Some(self)
    }
}

impl<T: Plain> Nullable for Option<T> {
    type Present = T;

    #[inline]
    fn present(self) -> Option<T> {
        self
    }
}

/// A number that can be summed up.
pub trait Number: 'static {
    /// The type of the sum: the widest of its kind (`u64`, `i64` or `f64`). Sums of integers wrap around when they overflow.
    type Sum: State + Copy;

    /// Adds `self` to `sum`.
    fn add_to(self, sum: &mut Self::Sum);
    /// Adds two sums.
    fn merge(sum: &mut Self::Sum, other: Self::Sum);
    /// The number as a float.
    fn float(self) -> f64;
}

macro_rules! numbers {
    ($($type:ty => $sum:ty, $a:ident + $b:ident = $add:expr;)*) => {$(
        impl Number for $type {
            type Sum = $sum;

            #[inline]
            fn add_to(self, sum: &mut $sum) {
                <Self as Number>::merge(sum, <$sum>::from(self));
            }
            #[inline]
            fn merge(sum: &mut $sum, other: $sum) {
                let ($a, $b) = (*sum, other);
                *sum = $add;
            }
            #[inline]
            fn float(self) -> f64 {
                self as f64
            }
        }
    )*};
}

numbers! {
    u8 => u64, a + b = a.wrapping_add(b);
    u16 => u64, a + b = a.wrapping_add(b);
    u32 => u64, a + b = a.wrapping_add(b);
    u64 => u64, a + b = a.wrapping_add(b);
    i8 => i64, a + b = a.wrapping_add(b);
    i16 => i64, a + b = a.wrapping_add(b);
    i32 => i64, a + b = a.wrapping_add(b);
    i64 => i64, a + b = a.wrapping_add(b);
    f32 => f64, a + b = a + b;
    f64 => f64, a + b = a + b;
}

/// Counts the rows. Reads none of their columns.
#[derive(Clone, Copy, Debug)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    type Row = ();
    type Accumulator = u64;
    type Out = u64;

    #[inline]
    fn add(&self, count: &mut u64, (): ()) {
        *count += 1;
    }
    fn merge(&self, count: &mut u64, other: &u64) {
        *count += other;
    }
    fn result(&self, count: &u64) -> u64 {
        *count
    }
}

/// Aggregates of a selected value.
macro_rules! selecting {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name<S>(S);

        impl<S> $name<S> {
            /// The aggregate of a field (`Bid::PRICE`) or of what a closure returns (`|bid: &Bid| bid.price / 100`).
            pub const fn of(select: S) -> Self {
                Self(select)
            }
        }
    )*};
}

selecting! {
    /// The sum of a number; 0 if no row has one.
    Sum
    /// The least value; `None` if no row has one.
    Min
    /// The greatest value; `None` if no row has one.
    Max
    /// The mean of a number; `None` if no row has one.
    Avg
    /// About how many different values there are: exact up to 256, then within 2 % or so (HyperLogLog with 4096 registers).
    Distinct
}

impl<T, S, V> Aggregate<T> for Sum<S>
where
    T: 'static,
    S: Select<T, Value: Nullable<Present = V>>,
    V: Number,
{
    type Row = S::Row;
    type Accumulator = V::Sum;
    type Out = V::Sum;

    fn columns(&self) -> Result<Vec<Column>, String> {
        Ok(self.0.columns())
    }
    #[inline]
    fn add(&self, sum: &mut V::Sum, row: S::Row) {
        if let Some(value) = self.0.get(row).present() {
            value.add_to(sum);
        }
    }
    fn merge(&self, sum: &mut V::Sum, other: &V::Sum) {
        V::merge(sum, *other);
    }
    fn result(&self, sum: &V::Sum) -> V::Sum {
        *sum
    }
}

impl<T, S, V> Aggregate<T> for Avg<S>
where
    T: 'static,
    S: Select<T, Value: Nullable<Present = V>>,
    V: Number,
{
    type Row = S::Row;
    type Accumulator = (f64, u64);
    type Out = Option<f64>;

    fn columns(&self) -> Result<Vec<Column>, String> {
        Ok(self.0.columns())
    }
    #[inline]
    fn add(&self, (sum, count): &mut (f64, u64), row: S::Row) {
        if let Some(value) = self.0.get(row).present() {
            *sum += value.float();
            *count += 1;
        }
    }
    fn merge(&self, (sum, count): &mut (f64, u64), other: &(f64, u64)) {
        *sum += other.0;
        *count += other.1;
    }
    fn result(&self, (sum, count): &(f64, u64)) -> Option<f64> {
        (*count > 0).then(|| sum / *count as f64)
    }
}

/// Minimum and maximum differ in one comparison.
macro_rules! extremes {
    ($($name:ident, $better:tt;)*) => {$(
        impl<T, S, V> Aggregate<T> for $name<S>
        where
            T: 'static,
            S: Select<T, Value: Nullable<Present = V>>,
            V: Plain + PartialOrd + Clone + Serialize + DeserializeOwned,
        {
            type Row = S::Row;
            type Accumulator = Option<V>;
            type Out = Option<V>;

            fn columns(&self) -> Result<Vec<Column>, String> {
                Ok(self.0.columns())
            }
            #[inline]
            fn add(&self, best: &mut Option<V>, row: S::Row) {
                if let Some(mut value) = self.0.get(row).present()
                    && best.as_ref().is_none_or(|best| value $better *best)
                {
                    value.detach_plain();
                    *best = Some(value);
                }
            }
            fn merge(&self, best: &mut Option<V>, other: &Option<V>) {
                if let Some(value) = other
                    && best.as_ref().is_none_or(|best| value $better best)
                {
                    *best = Some(value.clone());
                }
            }
            fn result(&self, best: &Option<V>) -> Option<V> {
                best.clone()
            }
        }
    )*};
}

extremes! {
    Min, <;
    Max, >;
}

impl<T, S, V> Aggregate<T> for Distinct<S>
where
    T: 'static,
    S: Select<T, Value: Nullable<Present = V>>,
    V: Hash,
{
    type Row = S::Row;
    type Accumulator = Sketch;
    type Out = u64;

    fn columns(&self) -> Result<Vec<Column>, String> {
        Ok(self.0.columns())
    }
    #[inline]
    fn add(&self, sketch: &mut Sketch, row: S::Row) {
        if let Some(value) = self.0.get(row).present() {
            sketch.add(stable_hash(&value));
        }
    }
    fn merge(&self, sketch: &mut Sketch, other: &Sketch) {
        sketch.merge(other);
    }
    fn result(&self, sketch: &Sketch) -> u64 {
        sketch.estimate()
    }
}

/// The row that came first, and the one that came last; `None` if there is none.
macro_rules! positions {
    ($($(#[$doc:meta])* $name:ident, $replaces:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl<T: Record + Clone> Aggregate<T> for $name {
            type Row = T;
            type Accumulator = Stored<T>;
            type Out = Option<T>;

            fn columns(&self) -> Result<Vec<Column>, String> {
                check_storable::<T>()?;
                Ok(T::columns())
            }
            fn add(&self, kept: &mut Stored<T>, row: T) {
                if $replaces || kept.get().is_none() {
                    kept.set(row);
                }
            }
            fn merge(&self, kept: &mut Stored<T>, other: &Stored<T>) {
                if let Some(row) = other.get() {
                    self.add(kept, row.clone());
                }
            }
            fn result(&self, kept: &Stored<T>) -> Option<T> {
                kept.get().cloned()
            }
        }
    )*};
}

positions! {
    /// The row of a window that came first.
    First, false;
    /// The row of a window that came last. Where a row makes sessions one, the rows of the later session count as those that came later.
    Last, true;
}

/// Several aggregates of the same rows: the result is a tuple.
macro_rules! together {
    ($(($($name:ident $index:tt),*))*) => {$(
        impl<T: 'static, $($name: Aggregate<T>),*> Aggregate<T> for ($($name,)*) {
            type Row = ($($name::Row,)*);
            type Accumulator = ($($name::Accumulator,)*);
            type Out = ($($name::Out,)*);

            fn columns(&self) -> Result<Vec<Column>, String> {
                Ok([$(self.$index.columns()?),*].concat())
            }
            #[inline]
            fn add(&self, accumulator: &mut Self::Accumulator, row: Self::Row) {
                $(self.$index.add(&mut accumulator.$index, row.$index);)*
            }
            fn merge(&self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator) {
                $(self.$index.merge(&mut accumulator.$index, &other.$index);)*
            }
            fn result(&self, accumulator: &Self::Accumulator) -> Self::Out {
                ($(self.$index.result(&accumulator.$index),)*)
            }
        }
    )*};
}

together! {
    (A 0, B 1)
    (A 0, B 1, C 2)
    (A 0, B 1, C 2, D 3)
    (A 0, B 1, C 2, D 3, E 4)
    (A 0, B 1, C 2, D 3, E 4, F 5)
}
