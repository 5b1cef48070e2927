//! How the replies of a chain become batches.
//!
//! A reply holds only what the guest computed. The columns that pass through, and the event times, are taken here from the rows that the reply names as
//! origins; columns that nobody downstream reads are left out.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{ArrayRef, NullArray, UInt32Array};
use arrow_buffer::ScalarBuffer;
use weir_sandbox::{GuestError, GuestErrorKind};
use weir_types::Batch;
use weir_types::batch::take_times;
use weir_types::call::{Origins, Output};
use weir_types::graph::{Chain, ColumnOrigin};
use weir_types::time::EventTime;

use crate::{Error, weight};

/// A way to weigh columns at the rows of origin.
type Weigh = fn(&[&ArrayRef], &UInt32Array) -> u64;

/// Rows for one output port of a node.
pub type Emitted = (usize, Batch);

/// How many bytes of passed columns and of event times may be taken for one reply: as many as the guest itself may return.
const TAKEN_BYTES_MAX: u64 = 128 << 20;

/// Puts the batches of a chain's outputs together.
#[derive(Clone, Debug)]
pub struct Emission {
    ports: Vec<Vec<Column>>,
    /// the column of port 0 that becomes the rows' event time
    time: Option<TimeColumn>,
}

/// The column that event times are taken from.
#[derive(Clone, Copy, Debug)]
struct TimeColumn {
    column: usize,
    /// whether somebody reads it after that
    is_needed: bool,
}

/// Where a column of an output comes from.
#[derive(Clone, Copy, Debug)]
enum Column {
    Computed,
    Passed(usize),
    /// nobody reads it, and the guest does not compute it
    LeftOut,
}

impl Column {
    /// The column that it is passed on from, if it is.
    fn passed_from(self, batch: &Batch) -> Option<&ArrayRef> {
        match self {
            Self::Passed(from) => Some(batch.column(from)),
            Self::Computed | Self::LeftOut => None,
        }
    }
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
        let is_needed = |port: usize, column: usize| needed.get(port).is_none_or(|needed| needed[column]);
        let time = chain.event_time.and_then(|e| e.column);
        let time = time.map(|column| TimeColumn { column, is_needed: is_needed(0, column) });
        let ports = chain
            .outputs
            .iter()
            .enumerate()
            .map(|(port, output)| {
                let gives_time = |c: usize| port == 0 && time.is_some_and(|time| time.column == c);
                let origin = |(c, origin): (usize, &ColumnOrigin)| match *origin {
                    ColumnOrigin::Computed => Column::Computed,
                    ColumnOrigin::Passed(from) if is_needed(port, c) || gives_time(c) => Column::Passed(from),
                    ColumnOrigin::Passed(_) => Column::LeftOut,
                };
                output.columns.iter().enumerate().map(origin).collect()
            })
            .collect();
        Self { ports, time }
    }

    /// The batches of a reply's outputs.
    ///
    /// # Errors
    /// If the guest wants more of the passed columns than a reply may have.
    pub fn assemble(&self, source: &Source<'_>, outputs: Vec<Output>, out: &mut Vec<Emitted>) -> Result<(), Error> {
        self.check_taken(source, &outputs)?;
        for output in outputs {
            out.push(self.assemble_one(source, output)?);
        }
        Ok(())
    }

    /// Refuses a reply for which more would have to be taken than it may have.
    fn check_taken(&self, source: &Source<'_>, outputs: &[Output]) -> Result<(), Error> {
        let total = |weigh: Weigh| outputs.iter().map(|output| self.taken(source, output, weigh)).sum::<u64>();
        if total(weight::at_most) <= TAKEN_BYTES_MAX {
            return Ok(());
        }
        // Rows that came in were there before: to keep them all, whatever they weigh, is no offence.
        let given = match source {
            Source::Rows(batch) => batch.columns().iter().map(weight::whole).sum(),
            Source::Times(_) => 0,
        };
        let taken = total(weight::exactly);
        if taken <= TAKEN_BYTES_MAX + given {
            return Ok(());
        }
        let message = format!(
            "the rows of origin that the guest names repeat passed columns until they have {taken} bytes, where {TAKEN_BYTES_MAX} besides the \
             input are allowed; return fewer rows for a batch, or make batches smaller (`batch.rows`)"
        );
        Err(Error::Guest(GuestError::new(GuestErrorKind::Contract, message)))
    }

    /// The bytes that it takes to put an output together, besides those that the guest returned.
    fn taken(&self, source: &Source<'_>, output: &Output, weigh: Weigh) -> u64 {
        let Origins::Picked(rows) = &output.origins else { return 0 };
        let columns: Vec<_> = match source {
            Source::Rows(batch) => self.ports[output.port as usize].iter().filter_map(|c| c.passed_from(batch)).collect(),
            Source::Times(_) => vec![],
        };
        weigh(&columns, rows) + 8 * rows.len() as u64
    }

    /// The batch of one output of a reply.
    fn assemble_one(&self, source: &Source<'_>, output: Output) -> Result<Emitted, Error> {
        let port = output.port as usize;
        let mut computed = output.columns.into_iter();
        let mut columns = self.ports[port]
            .iter()
            .map(|column| match (column, source) {
                (Column::Computed, _) => Ok(computed.next().expect("the sandbox checks the number of columns")),
                (Column::Passed(from), Source::Rows(batch)) => pass(batch.column(*from), &output.origins),
                (Column::Passed(_), Source::Times(_)) | (Column::LeftOut, _) => Ok(left_out(output.rows)),
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let times = match (port, self.time, output.times) {
            (0, Some(time), _) => {
                let column = &mut columns[time.column];
                let times = column.as_primitive::<TimestampMillisecondType>().values().clone();
                if !time.is_needed {
                    *column = left_out(output.rows);
                }
                Some(times)
            }
            (_, _, Some(times)) => Some(times),
            (_, _, None) => origin_times(source, &output.origins),
        };
        Ok((port, Batch::new(output.rows, columns, times)))
    }

    /// The batch that passes all rows of `batch` on through `port`, all of whose columns are passed.
    pub fn relay(&self, port: usize, batch: &Batch) -> Result<Emitted, Error> {
        let output = Output { port: port as u32, rows: batch.rows(), origins: Origins::Identity, times: None, columns: vec![] };
        self.assemble_one(&Source::Rows(batch), output)
    }

    /// Whether event times are taken from a column of the main output.
    pub fn assigns_times(&self) -> bool {
        self.time.is_some()
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

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;
    use arrow_schema::{DataType, Field, Schema};
    use weir_types::graph::{Head, Output as Port};

    use super::*;

    /// A chain that passes its only column on.
    fn emission() -> Emission {
        let schema = Arc::new(Schema::new(vec![Field::new("text", DataType::Utf8, false)]));
        let port = Port { name: String::new(), schema, columns: vec![ColumnOrigin::Passed(0)] };
        let chain = Chain {
            operators: vec![],
            head: Head::Transform,
            inputs: vec![],
            outputs: vec![port],
            event_time: None,
            parallelism: None,
            state_schema: None,
        };
        Emission::new(&chain, &[])
    }

    fn picked(rows: Vec<u32>) -> Output {
        Output { port: 0, rows: rows.len(), origins: Origins::Picked(rows.into()), times: None, columns: vec![] }
    }

    /// A guest that names one long text a thousand times is stopped before the text is copied, also by several outputs; one that names it
    /// a few times is not.
    #[test]
    fn repeated_rows_are_bounded() {
        let text = "x".repeat(1 << 20);
        let batch = Batch::new(2, vec![Arc::new(StringArray::from(vec!["short", &text]))], None);
        let assemble = |outputs| emission().assemble(&Source::Rows(&batch), outputs, &mut vec![]);
        assemble(vec![picked(vec![1; 4]), picked(vec![0; 1000])]).expect("little enough");
        assemble(vec![picked(vec![0]); 1000]).expect("little enough, though the long text is in the batch");
        for outputs in [vec![picked(vec![1; 1000])], vec![picked(vec![1; 2]); 100], vec![picked(vec![1]); 200]] {
            let Err(Error::Guest(error)) = assemble(outputs) else { panic!("too much") };
            assert_eq!(error.kind, GuestErrorKind::Contract);
            assert!(error.message.contains("where 134217728 besides the input are allowed"), "{error}");
        }
    }
}
