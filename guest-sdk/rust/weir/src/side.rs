//! Side outputs: streams that an operator feeds beside its main one.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::rc::Rc;

use crate::bindings::exports::weir::dataflow::chains::Output;
use crate::bindings::exports::weir::dataflow::definition::Endpoint;
use crate::output::RowBuffer;
use crate::pipeline::Shape;
use crate::record::Record;
use crate::value::Column;

/// The name of a side output, and the type of its rows.
///
/// An operator is told to feed it (`late_output`, `divert`, `side_output`); the stream is had by
/// [`Job::side_output`](crate::Job::side_output) once that operator's own stream has been used up.
#[derive(Debug)]
pub struct Tag<T> {
    link: Rc<Link>,
    of: PhantomData<fn() -> T>,
}

/// What the clones of a tag share.
#[derive(Debug)]
struct Link {
    name: String,
    /// the ports that feed it, and whether their rows have event times
    from: RefCell<Vec<(Endpoint, bool)>>,
}

impl<T> Clone for Tag<T> {
    fn clone(&self) -> Self {
        Self { link: Rc::clone(&self.link), of: PhantomData }
    }
}

impl<T: Record> Tag<T> {
    /// A side output of this name, which metrics and plans show.
    pub fn new(name: impl Into<String>) -> Self {
        Self { link: Rc::new(Link { name: name.into(), from: RefCell::default() }), of: PhantomData }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.link.name
    }

    /// What tells it from other tags in this instance.
    pub(crate) fn id(&self) -> usize {
        Rc::as_ptr(&self.link).addr()
    }

    /// The operators' ports that feed it, and whether the rows of all of them have event times.
    pub(crate) fn fed_by(&self) -> (Vec<Endpoint>, bool) {
        let from = self.link.from.borrow();
        (from.iter().map(|(port, _)| *port).collect(), from.iter().all(|(_, timed)| *timed))
    }

    /// Adds a row to the port of an operator.
    pub(crate) fn write(&self, port: &mut Port<T>, row: &T, origin: u32, time: i64) {
        port.rows.write(row, origin, time, Shape::default());
    }
}

/// A side output that an operator under construction feeds.
pub(crate) trait SideOutput {
    fn name(&self) -> &str;
    fn columns(&self) -> Vec<Column>;
    /// Makes the port, of which the passed columns come from the input columns `sources`.
    fn port(&self, sources: Vec<u32>, timed: bool) -> Box<dyn SidePort>;
    /// The operator has become part of the graph.
    fn feed(&self, from: Endpoint, timed: bool);
}

impl<T: Record> SideOutput for Tag<T> {
    fn name(&self) -> &str {
        Self::name(self)
    }
    fn columns(&self) -> Vec<Column> {
        T::columns()
    }
    fn port(&self, sources: Vec<u32>, timed: bool) -> Box<dyn SidePort> {
        Box::new(Port::<T> { tag: self.id(), rows: RowBuffer::new(sources, timed) })
    }
    fn feed(&self, from: Endpoint, timed: bool) {
        self.link.from.borrow_mut().push((from, timed));
    }
}

/// A side output of a running chain, whatever the type of its rows.
pub(crate) trait SidePort {
    /// The port itself, if it is that of this tag.
    fn of(&mut self, tag: usize) -> Option<&mut dyn Any>;
    /// The rows that have been added since the last time, if there are any.
    fn finish(&mut self, port: u32) -> Result<Option<Output>, String>;
}

/// A side output of a running chain.
pub(crate) struct Port<T: Record> {
    tag: usize,
    rows: RowBuffer<T>,
}

impl<T: Record> SidePort for Port<T> {
    fn of(&mut self, tag: usize) -> Option<&mut dyn Any> {
        (self.tag == tag).then_some(self as &mut dyn Any)
    }
    fn finish(&mut self, port: u32) -> Result<Option<Output>, String> {
        // Rows of a side output may come in any number, so they always say where they come from.
        self.rows.finish(port, None, Shape::default())
    }
}
