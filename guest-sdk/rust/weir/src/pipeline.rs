//! Pipelines: the closures between two boundaries, fused into one loop.
//!
//! A pipeline is a type: `Filter<Map<Start<…>, F>, G>`. A row is pushed in at the front and comes out at the back by calls
//! that the compiler inlines, so a chain of closures costs what the same code in one loop would.

use std::marker::PhantomData;

use crate::context::Context;
use crate::head::Head;
use crate::record::Record;
use crate::side::Tag;

/// Closures, one after another, behind the head of a chain.
pub trait Pipeline: Sized + 'static {
    /// what feeds it
    type Head: Head;
    /// what comes out
    type Out: 'static;
    /// whether rows come out as they went in (some may be missing), so that the host can take them from the input
    const UNTOUCHED: bool;
    /// whether each row that goes in comes out as one row: then nobody has to note where the rows that come out are from
    const ONE_TO_ONE: bool;
    /// whether no item comes out as several rows, and the head makes room for all its items: then nobody has to look whether there is room for a row
    const AT_MOST_ONE: bool;
    /// whether it assigns event times
    const ASSIGNS_TIMES: bool;
    /// what is known about its rows
    const SHAPE: Shape = Shape {
        untouched: Self::UNTOUCHED,
        one_to_one: Self::ONE_TO_ONE,
        at_most_one: Self::AT_MOST_ONE,
        timeless: !Self::ASSIGNS_TIMES && !<Self::Head as Head>::COMPUTES_TIMES,
    };

    /// Pushes an item through; `next` gets what comes out.
    fn push(&mut self, item: <Self::Head as Head>::Item, cx: &mut Context, next: &mut impl FnMut(Self::Out, &mut Context));

    /// What comes out for these items, each of which comes with its origin, where nothing is done to them and they can go on together.
    fn unchanged(_items: &[(u32, <Self::Head as Head>::Item)]) -> Option<&[(u32, Self::Out)]> {
        None
    }

    /// The rows of a call have all been pushed.
    fn finish(&mut self, cx: &mut Context);
}

/// What is known at compile time about the rows that come out of a pipeline: [`Pipeline::UNTOUCHED`], [`Pipeline::ONE_TO_ONE`],
/// [`Pipeline::AT_MOST_ONE`], and whether nobody computes their event times.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shape {
    pub(crate) untouched: bool,
    pub(crate) one_to_one: bool,
    pub(crate) at_most_one: bool,
    pub(crate) timeless: bool,
}

/// The empty pipeline.
#[derive(Debug)]
pub struct Start<H>(PhantomData<fn() -> H>);

impl<H> Start<H> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<H> Clone for Start<H> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<H: Head> Pipeline for Start<H> {
    type Head = H;
    type Out = H::Item;
    const UNTOUCHED: bool = H::ROWS;
    const ONE_TO_ONE: bool = H::ROWS;
    const AT_MOST_ONE: bool = H::COUNTED;
    const ASSIGNS_TIMES: bool = false;

    #[inline(always)]
    fn push(&mut self, item: H::Item, cx: &mut Context, next: &mut impl FnMut(H::Item, &mut Context)) {
        next(item, cx);
    }

    fn unchanged(items: &[(u32, H::Item)]) -> Option<&[(u32, H::Item)]> {
        Some(items)
    }

    fn finish(&mut self, _cx: &mut Context) {}
}

/// Stages: each is the pipeline before it and what is done to the rows that come out of that one. After the type that comes out: whether rows stay
/// untouched, whether each becomes exactly one, and whether none becomes several.
macro_rules! stages {
    ($(
        $(#[$doc:meta])*
        $stage:ident<$before:ident, $($param:ident),*> where ($($bounds:tt)*) => $out:ty, $untouched:expr, $one_to_one:expr, $at_most_one:expr;
        |$state:ident, $row:ident, $cx:ident, $next:ident| $body:expr
    )*) => {$(
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $stage<$before, $($param),*> {
            pub(crate) before: $before,
            pub(crate) state: ($($param,)*),
        }

        impl<$before: Pipeline, $($bounds)*> Pipeline for $stage<$before, $($param),*> {
            type Head = $before::Head;
            type Out = $out;
            const UNTOUCHED: bool = $untouched && $before::UNTOUCHED;
            const ONE_TO_ONE: bool = $one_to_one && $before::ONE_TO_ONE;
            const AT_MOST_ONE: bool = $at_most_one && $before::AT_MOST_ONE;
            const ASSIGNS_TIMES: bool = $before::ASSIGNS_TIMES;

            #[inline(always)]
            fn push(&mut self, item: <$before::Head as Head>::Item, cx: &mut Context, $next: &mut impl FnMut($out, &mut Context)) {
                let $state = &mut self.state;
                self.before.push(item, cx, &mut |$row, $cx| $body);
            }

            fn finish(&mut self, cx: &mut Context) {
                self.before.finish(cx);
            }
        }
    )*};
}

stages! {
    /// See [`Stream::map`](crate::Stream::map).
    Map<P, F> where (U: 'static, F: FnMut(P::Out) -> U + 'static) => U, false, true, true;
    |state, row, cx, next| next((state.0)(row), cx)

    /// See [`Stream::try_map`](crate::Stream::try_map).
    TryMap<P, F> where (U: 'static, E: std::fmt::Display, F: FnMut(P::Out) -> Result<U, E> + 'static) => U, false, false, true;
    |state, row, cx, next| match (state.0)(row) {
        Ok(row) => next(row, cx),
        Err(error) => cx.fail(error.to_string()),
    }

    /// See [`Stream::filter`](crate::Stream::filter).
    Filter<P, F> where (F: FnMut(&P::Out) -> bool + 'static) => P::Out, true, false, true;
    |state, row, cx, next| if (state.0)(&row) { next(row, cx) }

    /// See [`Stream::inspect`](crate::Stream::inspect).
    Inspect<P, F> where (F: FnMut(&P::Out) + 'static) => P::Out, true, true, true;
    |state, row, cx, next| {
        (state.0)(&row);
        next(row, cx)
    }

    /// See [`Stream::flat_map`](crate::Stream::flat_map).
    FlatMap<P, F> where (I: IntoIterator<Item: 'static>, F: FnMut(P::Out) -> I + 'static) => I::Item, false, false, false;
    |state, row, cx, next| for row in (state.0)(row) {
        next(row, cx);
    }

    /// See [`Stream::divert`](crate::Stream::divert).
    Divert<P, F, S> where (U: 'static, S: SideOf, F: FnMut(P::Out) -> Result<U, S::Row> + 'static) => U, false, false, true;
    |state, row, cx, next| match (state.0)(row) {
        Ok(row) => next(row, cx),
        Err(row) => cx.side(state.1.tag(), &row),
    }
}

/// A tag, as a stage holds it.
pub trait SideOf: 'static {
    /// the rows of the side output
    type Row: Record;

    /// The tag itself.
    fn tag(&self) -> &Tag<Self::Row>;
}

impl<S: Record> SideOf for Tag<S> {
    type Row = S;

    fn tag(&self) -> &Tag<S> {
        self
    }
}
