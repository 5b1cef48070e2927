//! The head of a chain without state: the rows of a stream.

use std::marker::PhantomData;

use crate::bindings::exports::weir::dataflow::chains::{Input, Reply};
use crate::bindings::exports::weir::dataflow::definition as wit;
use crate::bindings::weir::dataflow::types::Batch;
use crate::chain::Chain;
use crate::head::{Body, Description, Head, Upstream};
use crate::output::Terminal;
use crate::pipeline::Pipeline;
use crate::projection::own_columns;
use crate::record::{Record, Row};
use crate::stride::STRIDE;
use crate::value::Buffers;

/// The rows of a stream, read as `T`.
#[derive(Debug)]
pub struct Rows<T> {
    pub(crate) upstream: Upstream,
    of: PhantomData<fn() -> T>,
}

impl<T> Rows<T> {
    pub(crate) fn new(upstream: Upstream) -> Self {
        Self { upstream, of: PhantomData }
    }
}

impl<T> Clone for Rows<T> {
    fn clone(&self) -> Self {
        Self::new(self.upstream.clone())
    }
}

impl<T: Record> Head for Rows<T> {
    type Item = T;
    const ROWS: bool = true;
    const COUNTED: bool = true;

    fn stream(&self) -> Option<&Upstream> {
        Some(&self.upstream)
    }

    fn describe(&self) -> Description {
        Description {
            head: wit::Head::Transform,
            inputs: vec![self.upstream.input(own_columns::<T>())],
            passable: Some(T::columns()),
            timed: self.upstream.timed,
            state_schema: None,
        }
    }

    fn start<P: Pipeline<Head = Self>, W: Terminal<P::Out>>(self, body: Body<P, W>) -> Box<dyn Chain> {
        Box::new(Transform { body })
    }
}

/// A running chain without state.
struct Transform<P: Pipeline, W> {
    body: Body<P, W>,
}

impl<T: Record, P: Pipeline<Head = Rows<T>>, W: Terminal<P::Out>> Transform<P, W> {
    /// Pushes the rows of a batch through the pipeline.
    ///
    /// A function of its own: Weir's compiler keeps values that are needed behind a call in memory, also in a loop before it, and what follows the loop
    /// consists of calls.
    #[inline(never)]
    fn push(&mut self, batch: Batch) -> Result<(), String> {
        let rows = batch.rows as usize;
        let reader = <T as Row>::open(&mut Buffers::new(rows, batch.buffers))?;
        let mut push = |row: usize| {
            // SAFETY: below, rows are counted from 0 to `rows`. Readers look at each row that is asked of them, and here the compiler need not be told by a
            // comparison a row that this is one.
            #[allow(unsafe_code)]
            unsafe {
                std::hint::assert_unchecked(row < rows);
            }
            self.body.cx.origin = row as u32;
            self.body.push(<T as Row>::read(&reader, row));
        };
        let mut start = 0usize;
        if <T as Record>::NARROW && W::NARROW {
            while let Some(end) = start.checked_add(STRIDE).filter(|end| *end <= rows) {
                (start..end).for_each(&mut push);
                start = end;
            }
        }
        (start..rows).for_each(push);
        Ok(())
    }
}

impl<T: Record, P: Pipeline<Head = Rows<T>>, W: Terminal<P::Out>> Chain for Transform<P, W> {
    fn process(&mut self, input: Input) -> Result<Reply, String> {
        let rows = input.rows.rows as usize;
        self.body.begin(rows, input.watermark, input.now);
        self.body.cx.split = input.split;
        self.push(input.rows)?;
        self.body.finish(Some(rows))
    }
}
