//! How the replies of a chain become batches.
//!
//! A reply holds only what the guest computed. The columns that pass through, and the event times, are taken here from the rows that the reply names as
//! origins; columns that nobody downstream reads are left out.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, NullArray, UInt32Array};
use arrow_buffer::ScalarBuffer;
use weir_types::Batch;
use weir_types::batch::take_times;
use weir_types::call::{Origins, Output};
use weir_types::graph::{Chain, ColumnOrigin};
use weir_types::time::EventTime;

use crate::Error;

/// Rows for one output port of a node.
pub type Emitted = (usize, Batch);

/// Puts the batches of a chain's outputs together.
#[derive(Clone, Debug)]
pub struct Emission {
    ports: Vec<Vec<Column>>,
    /// the column of port 0 that becomes the rows' event time
    time_column: Option<usize>,
}

/// Where a column of an output comes from.
#[derive(Clone, Copy, Debug)]
enum Column {
    Computed,
    Passed(usize),
    /// nobody reads it, and the guest does not compute it
    LeftOut,
}

/// Where the rows of a reply come from.
pub enum Source<'a> {
    /// rows of this batch
    Rows(&'a Batch),
    /// panes or timers with these event times
    Times(&'a [EventTime]),
}

impl Emission {
    /// For the outputs of `chain`, of which the columns in `needed` (by port) are read.
    pub fn new(chain: &Chain, needed: &[Vec<bool>]) -> Self {
        let ports = chain
            .outputs
            .iter()
            .enumerate()
            .map(|(port, output)| {
                let is_needed = |c: usize| needed.get(port).is_none_or(|n| n[c]);
                let origin = |(c, origin): (usize, &ColumnOrigin)| match *origin {
                    ColumnOrigin::Computed => Column::Computed,
                    ColumnOrigin::Passed(from) if is_needed(c) => Column::Passed(from),
                    ColumnOrigin::Passed(_) => Column::LeftOut,
                };
                output.columns.iter().enumerate().map(origin).collect()
            })
            .collect();
        let time_column = chain.event_time.and_then(|e| e.column);
        Self { ports, time_column }
    }

    /// The batch of one output of a reply.
    ///
    /// # Errors
    /// If passed columns cannot be taken (more than 2 GiB of text in one batch), or the guest owes event times.
    pub fn assemble(&self, source: &Source<'_>, output: Output) -> Result<Emitted, Error> {
        let port = output.port as usize;
        let mut computed = output.columns.into_iter();
        let columns = self.ports[port]
            .iter()
            .map(|column| match (column, source) {
                (Column::Computed, _) => Ok(computed.next().expect("the sandbox checks the number of columns")),
                (Column::Passed(from), Source::Rows(batch)) => pass(batch.column(*from), &output.origins),
                (Column::Passed(_), Source::Times(_)) | (Column::LeftOut, _) => Ok(left_out(output.rows)),
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let times = match (port, self.time_column, output.times) {
            (0, Some(column), _) => Some(columns[column].as_primitive::<TimestampMillisecondType>().values().clone()),
            (_, _, Some(times)) => Some(times),
            (_, _, None) => origin_times(source, &output.origins),
        };
        Ok((port, Batch::new(output.rows, columns, times)))
    }

    /// The batch that passes all rows of `batch` on through `port`, all of whose columns are passed.
    pub fn relay(&self, port: usize, batch: &Batch) -> Result<Emitted, Error> {
        let output = Output { port: port as u32, rows: batch.rows(), origins: Origins::Identity, times: None, columns: vec![] };
        self.assemble(&Source::Rows(batch), output)
    }

    /// Whether event times are taken from a column of the main output.
    pub fn assigns_times(&self) -> bool {
        self.time_column.is_some()
    }
}

/// What stands in the place of a column that nobody reads.
pub fn left_out(rows: usize) -> ArrayRef {
    Arc::new(NullArray::new(rows))
}

fn pass(column: &ArrayRef, origins: &Origins) -> Result<ArrayRef, Error> {
    Ok(match origins {
        Origins::Identity => Arc::clone(column),
        Origins::Picked(rows) => arrow_select::take::take(column, rows, None)?,
    })
}

fn origin_times(source: &Source<'_>, origins: &Origins) -> Option<ScalarBuffer<EventTime>> {
    match (source, origins) {
        (Source::Rows(batch), Origins::Identity) => batch.times().cloned(),
        (Source::Rows(batch), Origins::Picked(rows)) => batch.times().map(|times| take_times(times, rows)),
        (Source::Times(times), Origins::Identity) => Some(times.to_vec().into()),
        (Source::Times(times), Origins::Picked(rows)) => Some(pick(times, rows)),
    }
}

fn pick(times: &[EventTime], rows: &UInt32Array) -> ScalarBuffer<EventTime> {
    rows.values().iter().map(|&i| times[i as usize]).collect::<Vec<_>>().into()
}
