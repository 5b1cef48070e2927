//! Outputs: rows become columns again.

use crate::bindings::exports::weir::dataflow::chains::{Origins, Output};
use crate::bindings::exports::weir::dataflow::definition::ColumnOrigin;
use crate::bindings::weir::dataflow::types::Batch;
use crate::key::{Appended, Nothing};
use crate::origins::OriginList;
use crate::pipeline::Shape;
use crate::record::Record;
use crate::value::{Column, FixedWriter, NO_ORIGIN, Writer as _};

/// The least room that is made where it is not known how many rows will come.
const ROOM_MIN: usize = 16;

/// Collects the rows of one output port of a chain.
pub(crate) struct RowBuffer<T: Record, A = Nothing> {
    origins: OriginList,
    writer: T::Writer,
    appended: A,
    /// i64 a row, where the chain assigns event times
    times: FixedWriter<8>,
    timed: bool,
    /// for how many more rows there is room
    room: usize,
    /// the input columns of the passed columns
    sources: Vec<u32>,
}

impl<T: Record> RowBuffer<T> {
    /// A buffer of which the passed columns come from the input columns `sources`.
    pub(crate) fn new(sources: Vec<u32>, timed: bool) -> Self {
        Self::with(sources, timed, Nothing)
    }
}

impl<T: Record, A: Appended<T>> RowBuffer<T, A> {
    /// The same, with columns that are appended to those of `T`.
    pub(crate) fn with(sources: Vec<u32>, timed: bool, appended: A) -> Self {
        let writer = <T as Record>::writer(&sources);
        Self { origins: OriginList::default(), writer, appended, times: FixedWriter::default(), timed, room: 0, sources }
    }

    /// Makes room for `rows` more rows.
    pub(crate) fn reserve(&mut self, rows: usize, shape: Shape) {
        if !shape.untouched {
            <T as Record>::reserve(&mut self.writer, rows);
        }
        self.appended.reserve(rows);
        if !shape.one_to_one {
            self.origins.reserve(rows);
        }
        if self.timed {
            self.times.reserve(rows);
        }
        self.room = rows;
    }

    /// Makes room for as many rows again, where more come than were expected.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, shape: Shape) {
        self.reserve(self.origins.rows().max(ROOM_MIN), shape);
    }

    /// Adds a row. Of an untouched one all columns are passed, so that nothing has to be written.
    #[inline(always)]
    pub(crate) fn write(&mut self, row: &T, origin: u32, time: i64, shape: Shape) {
        if !shape.at_most_one {
            if self.room == 0 {
                self.make_room(shape);
            }
            self.room -= 1;
        }
        if !shape.one_to_one {
            self.origins.push(origin);
        }
        if !shape.timeless && self.timed {
            self.times.push(time.to_le_bytes());
        }
        if !shape.untouched {
            <T as Record>::write(row, &mut self.writer, origin);
        }
        self.appended.write(row);
    }

    /// Adds many rows whose times the host knows, each of which comes with its origin.
    pub(crate) fn write_all(&mut self, rows: &[(u32, T)], shape: Shape) {
        if !shape.one_to_one {
            self.origins.extend(rows);
        }
        if !shape.untouched {
            <T as Record>::reserve(&mut self.writer, rows.len());
            <T as Record>::write_all(rows, &mut self.writer);
        }
        self.appended.reserve(rows.len());
        rows.iter().for_each(|(_, row)| self.appended.write(row));
    }

    /// The rows since the last time, if there are any; `input` is how many rows came in, where all may have survived.
    pub(crate) fn finish(&mut self, port: u32, input: Option<usize>, shape: Shape) -> Result<Option<Output>, String> {
        let (rows, origins) = match input {
            Some(rows) if shape.one_to_one => (rows as u32, Origins::Identity),
            _ => self.origins.finish(input),
        };
        let times = self.times.take();
        self.room = 0;
        if rows == 0 {
            return Ok(None);
        }
        let mut buffers = vec![];
        let mut appended = vec![];
        self.appended.finish(&mut appended)?;
        if !shape.untouched
            && let Err(fault) = <T as Record>::finish(&mut self.writer, &mut buffers)
        {
            // The host may send a part of these rows again: nothing of them may be left.
            self.writer = <T as Record>::writer(&self.sources);
            return Err(fault);
        }
        buffers.append(&mut appended);
        Ok(Some(Output { port, origins, times, rows: Batch { rows, buffers } }))
    }
}

/// What becomes of the rows that reach the end of a pipeline.
pub trait Terminal<T>: 'static {
    /// whether a row is written by a few instructions
    const NARROW: bool;

    /// Makes room for `rows` rows.
    fn reserve(&mut self, rows: usize, shape: Shape);
    /// Takes a row.
    fn write(&mut self, row: T, origin: u32, time: i64, shape: Shape);
    /// Takes many rows whose times the host knows, each of which comes with its origin.
    fn write_all(&mut self, rows: &[(u32, T)], shape: Shape);
    /// The rows since the last time.
    fn finish(&mut self, input: Option<usize>, shape: Shape) -> Result<Option<Output>, String>;
}

impl<T: Record, A: Appended<T>> Terminal<T> for RowBuffer<T, A> {
    const NARROW: bool = <T as Record>::NARROW;

    fn reserve(&mut self, rows: usize, shape: Shape) {
        Self::reserve(self, rows, shape);
    }
    #[inline(always)]
    fn write(&mut self, row: T, origin: u32, time: i64, shape: Shape) {
        Self::write(self, &row, origin, time, shape);
    }
    fn write_all(&mut self, rows: &[(u32, T)], shape: Shape) {
        Self::write_all(self, rows, shape);
    }
    fn finish(&mut self, input: Option<usize>, shape: Shape) -> Result<Option<Output>, String> {
        Self::finish(self, 0, input, shape)
    }
}

/// Where the columns of an output come from: as the graph says it, and as the writer of its rows needs it.
///
/// `input` are the columns that the output's passed columns can be taken from, `None` if the head of the chain allows none.
pub(crate) fn sources(
    output: &[Column],
    input: Option<&[Column]>,
    untouched: bool,
) -> Result<(Vec<ColumnOrigin>, Vec<u32>), String> {
    if untouched {
        return Ok(((0..output.len() as u32).map(ColumnOrigin::Passed).collect(), vec![NO_ORIGIN; output.len()]));
    }
    let mut origins = vec![];
    let mut sources = vec![];
    for column in output {
        if !column.passed {
            origins.push(ColumnOrigin::Computed);
            sources.push(NO_ORIGIN);
            continue;
        }
        let source = passed_from(column, input)?;
        origins.push(ColumnOrigin::Passed(source));
        sources.push(source);
    }
    Ok((origins, sources))
}

/// The input column that a passed column is taken from.
fn passed_from(column: &Column, input: Option<&[Column]>) -> Result<u32, String> {
    let input = input.ok_or_else(|| {
        format!("the output field `{}` is a `Pass`, which only a chain with one input and no window can pass on", column.name())
    })?;
    let same_type = |a: &Column| {
        let (mut a, b) = (a.fields.clone(), &column.fields);
        a[0].name.clone_from(&b[0].name);
        a == *b
    };
    match input.iter().position(|i| i.name() == column.from) {
        Some(index) if input[index].passed && same_type(&input[index]) => Ok(index as u32),
        _ => Err(format!(
            "the output field `{}` is a `Pass`, but the input has no `Pass` field `{}` of the same type",
            column.name(),
            column.from
        )),
    }
}
