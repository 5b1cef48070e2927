//! Makes dead letters of the rows on which a chain's guest has failed: rows of a fixed schema, which flow to their sink from an output of the chain.

use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use weir_connector::JsonLines;
use weir_operator::GivenUp;
use weir_plan::JobPlan;
use weir_plan::job::ChainNode;
use weir_sandbox::GuestErrorKind;
use weir_types::{Batch, EventTime};

use super::provenance::Provenance;
use crate::restore::state_id;

/// The text from which on dead letters are cut into another batch. Columns of text hold 2 GiB, and rows on which a guest fails may come by the million.
const BATCH_BYTES: usize = 16 << 20;

/// What the dead letters of a chain are made with.
pub(super) struct DeadLetters {
    /// the chain's output for them
    pub port: usize,
    job: String,
    operator: String,
    sources: String,
    /// by input
    records: Vec<JsonLines>,
}

/// What of a dead letter is its own, besides the failure.
struct Letter {
    positions: Option<RangeInclusive<u64>>,
    record: String,
    backtrace: Option<String>,
}

impl DeadLetters {
    /// Those of a chain; none if it has none.
    ///
    /// # Errors
    /// If its rows cannot be written as text.
    pub(super) fn of(plan: &JobPlan, chain: &ChainNode) -> Result<Option<Box<Self>>, weir_connector::Error> {
        let Some(letters) = &chain.dead_letters else { return Ok(None) };
        Ok(Some(Box::new(Self {
            port: letters.port,
            job: plan.name.clone(),
            operator: state_id(plan, chain),
            sources: letters.sources.join(", "),
            records: chain.inputs.iter().map(JsonLines::new).collect::<Result<_, _>>()?,
        })))
    }

    /// The dead letters of rows that were given up now. Those of the batch that they were in came from there, and from the split of this id, if that is known.
    pub(super) fn batches(
        &self,
        rows: &[GivenUp],
        now: EventTime,
        split: Option<&str>,
        from: Option<&Provenance>,
    ) -> Vec<Batch> {
        let letters: Vec<_> = rows.iter().map(|row| self.letter(row, from)).collect();
        let mut batches = vec![];
        let (mut from, mut bytes) = (0, 0);
        for (at, (row, letter)) in rows.iter().zip(&letters).enumerate() {
            bytes += letter.record.len() + letter.backtrace.as_ref().map_or(0, String::len) + row.error.message.len();
            if bytes >= BATCH_BYTES || at + 1 == rows.len() {
                batches.push(self.batch(&rows[from..=at], &letters[from..=at], now, split));
                (from, bytes) = (at + 1, 0);
            }
        }
        batches
    }

    fn letter(&self, row: &GivenUp, from: Option<&Provenance>) -> Letter {
        let mut record = vec![];
        self.records[row.port].append(&row.row, &mut record);
        let backtrace = &row.error.backtrace;
        Letter {
            positions: from.and_then(|from| from.positions(row.at)),
            record: String::from_utf8_lossy(&record).trim_end().to_owned(),
            backtrace: (!backtrace.is_empty()).then(|| backtrace.join("\n")),
        }
    }

    /// The columns are those of [`weir_plan::dead_letters::schema`].
    fn batch(&self, rows: &[GivenUp], letters: &[Letter], now: EventTime, split: Option<&str>) -> Batch {
        let same = |text: &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(|_| text))) };
        let instants = |times: TimestampMillisecondArray| -> ArrayRef { Arc::new(times.with_timezone("UTC")) };
        let positions = |of: fn(&RangeInclusive<u64>) -> &u64| -> ArrayRef {
            let position = |letter: &Letter| letter.positions.as_ref().and_then(|positions| i64::try_from(*of(positions)).ok());
            Arc::new(letters.iter().map(position).collect::<Int64Array>())
        };
        let event_time = |row: &GivenUp| row.row.times().and_then(|times| times.first().copied());
        let columns = vec![
            same(&self.job),
            same(&self.operator),
            instants(rows.iter().map(|_| Some(now)).collect()),
            same(&self.sources),
            Arc::new(rows.iter().map(|_| split).collect::<StringArray>()),
            positions(RangeInclusive::start),
            positions(RangeInclusive::end),
            instants(rows.iter().map(event_time).collect()),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| &letter.record))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| kind_name(row.error.kind)))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.error.message))),
            Arc::new(letters.iter().map(|letter| letter.backtrace.as_deref()).collect::<StringArray>()),
        ];
        Batch::new(rows.len(), columns, None)
    }
}

/// What dead letters call the sorts of errors.
fn kind_name(kind: GuestErrorKind) -> &'static str {
    match kind {
        GuestErrorKind::Trap => "trap",
        GuestErrorKind::Deadline => "deadline",
        GuestErrorKind::Memory => "memory",
        GuestErrorKind::Contract => "contract",
        GuestErrorKind::Returned => "returned",
        GuestErrorKind::Start => "start",
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray;
    use arrow_schema::{DataType, Field, Schema};
    use weir_sandbox::GuestError;

    use super::*;

    fn letters() -> DeadLetters {
        let schema =
            Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true), Field::new("text", DataType::Utf8, false)]));
        DeadLetters {
            port: 1,
            job: "job".into(),
            operator: "map-1".into(),
            sources: "a, b".into(),
            records: vec![JsonLines::new(&schema).expect("numbers and text can be written")],
        }
    }

    /// The third row of a batch is at 12.
    fn positions() -> Arc<dyn weir_connector::Positions> {
        #[derive(Debug)]
        struct Behind(u64);
        impl weir_connector::Positions for Behind {
            fn of(&self, _stream: usize, row: usize) -> u64 {
                self.0 + row as u64
            }
        }
        Arc::new(Behind(10))
    }

    fn given_up(n: Option<i64>, text: &str, times: Option<i64>, backtrace: Vec<String>) -> GivenUp {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![n])), Arc::new(StringArray::from(vec![text]))];
        let row = Batch::new(1, columns, times.map(|time| vec![time].into()));
        GivenUp { port: 0, at: 2, row, error: GuestError { kind: GuestErrorKind::Trap, message: "ouch".into(), backtrace } }
    }

    /// Goal: a dead letter fits its schema, and says what is known: the record as it could be read again, and no value for what is not known.
    #[test]
    fn letters_fit_their_schema() {
        let from = Provenance::of_source(0, 0, 5, Some(&positions()));
        let rows = [given_up(Some(7), "a\n\"b\"", Some(5), vec!["f".into(), "g".into()]), given_up(None, "", None, vec![])];
        let batches = letters().batches(&rows, 99, Some("topic/3"), Some(&from));
        let [batch] = batches.as_slice() else { panic!("one batch") };
        let schema = weir_plan::dead_letters::schema();
        arrow_array::RecordBatch::try_new(schema.clone(), batch.columns().to_vec()).expect("it is of the schema");
        let mut lines = vec![];
        JsonLines::new(&schema).expect("text and instants can be written").append(batch, &mut lines);
        let line = |event_time: &str, record: &str, backtrace: &str| {
            format!(
                "{{\"job\":\"job\",\"operator\":\"map-1\",\"time\":\"1970-01-01T00:00:00.099Z\",\"source\":\"a, b\",\"split\":\"topic/3\",\
                 \"first_position\":12,\"last_position\":12,{event_time}\"record\":\"{record}\",\"error\":\"trap\",\"message\":\"ouch\"{backtrace}}}\n"
            )
        };
        let first = line(
            "\"event_time\":\"1970-01-01T00:00:00.005Z\",",
            r#"{\"n\":7,\"text\":\"a\\n\\\"b\\\"\"}"#,
            r#","backtrace":"f\ng""#,
        );
        let second = line("", r#"{\"text\":\"\"}"#, "");
        assert_eq!(String::from_utf8(lines).expect("it is text"), first + &second);
    }

    /// Goal: much text comes in several batches, and none of it is lost.
    #[test]
    fn much_text_is_cut() {
        let text = "x".repeat(BATCH_BYTES / 2);
        let rows: Vec<_> = (0..5).map(|n| given_up(Some(n), &text, None, vec![])).collect();
        let batches = letters().batches(&rows, 0, None, None);
        assert_eq!(batches.iter().map(Batch::rows).collect::<Vec<_>>(), [2, 2, 1]);
        let records = batches.iter().flat_map(|batch| batch.column(8).as_string::<i32>().iter().flatten());
        assert!((0..5).zip(records).all(|(n, record)| record.starts_with(&format!("{{\"n\":{n},"))));
    }
}
