//! Makes dead letters: rows of a fixed schema. Of the rows on which a chain's guest has failed, they flow to their sink from an output of the chain; of
//! records that could not be read as rows, from a stream of their source.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray};
use weir_connector::{JsonLines, Reject};
use weir_operator::GivenUp;
use weir_plan::JobPlan;
use weir_plan::job::{ChainNode, SourcePlan};
use weir_sandbox::GuestErrorKind;
use weir_types::{Batch, EventTime};

use super::places::Place;
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

/// What the dead letters of a source are made with: of records that could not be read as rows.
pub(super) struct DeadRecords {
    /// the source's stream for them
    pub stream: usize,
    job: String,
    source: String,
}

/// What dead letters that are made together have in common.
struct Common<'a> {
    job: &'a str,
    operator: Option<&'a str>,
    now: EventTime,
    /// where rows may come from of which it is not known
    sources: &'a str,
}

/// What a dead letter has besides.
struct Letter<'a> {
    place: Place<'a>,
    event_time: Option<EventTime>,
    record: Cow<'a, str>,
    error: &'static str,
    message: &'a str,
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

    /// The dead letters of rows of a batch that were given up now; `place` tells where a row of the batch comes from.
    pub(super) fn batches<'a>(&self, rows: &'a [GivenUp], now: EventTime, place: impl Fn(usize) -> Place<'a>) -> Vec<Batch> {
        let common = Common { job: &self.job, operator: Some(&self.operator), now, sources: &self.sources };
        let letters: Vec<_> = rows.iter().map(|row| self.letter(row, place(row.at))).collect();
        common.batches(&letters)
    }

    fn letter<'a>(&self, row: &'a GivenUp, place: Place<'a>) -> Letter<'a> {
        let mut record = vec![];
        self.records[row.port].append(&row.row, &mut record);
        let backtrace = &row.error.backtrace;
        Letter {
            place,
            event_time: row.row.times().and_then(|times| times.first().copied()),
            record: String::from_utf8_lossy(&record).trim_end().to_owned().into(),
            error: kind_name(row.error.kind),
            message: &row.error.message,
            backtrace: (!backtrace.is_empty()).then(|| backtrace.join("\n")),
        }
    }
}

impl DeadRecords {
    /// Those of a source.
    pub(super) fn of(plan: &JobPlan, source: &SourcePlan) -> Self {
        Self { stream: source.streams.len(), job: plan.name.clone(), source: source.name.clone() }
    }

    /// The dead letters of records that were found malformed now, in the split of this id.
    pub(super) fn batches(&self, rejects: &[Reject], now: EventTime, split: Option<&str>) -> Vec<Batch> {
        let common = Common { job: &self.job, operator: None, now, sources: &self.source };
        let letters = rejects.iter().map(|reject| Letter {
            place: Place { source: None, split, positions: Some(reject.position..=reject.position) },
            event_time: None,
            record: Cow::Borrowed(&reject.record),
            error: if reject.is_base64 { "malformed-binary" } else { "malformed" },
            message: &reject.reason,
            backtrace: None,
        });
        common.batches(&letters.collect::<Vec<_>>())
    }
}

impl Common<'_> {
    /// The letters as rows; much text is cut into several batches.
    fn batches(&self, letters: &[Letter]) -> Vec<Batch> {
        let mut batches = vec![];
        let (mut from, mut bytes) = (0, 0);
        for (at, letter) in letters.iter().enumerate() {
            bytes += letter.record.len() + letter.backtrace.as_ref().map_or(0, String::len) + letter.message.len();
            if bytes >= BATCH_BYTES || at + 1 == letters.len() {
                batches.push(self.batch(&letters[from..=at]));
                (from, bytes) = (at + 1, 0);
            }
        }
        batches
    }

    /// The columns are those of [`weir_plan::dead_letters::schema`].
    fn batch(&self, letters: &[Letter]) -> Batch {
        let same = |text: Option<&str>| -> ArrayRef { Arc::new(letters.iter().map(|_| text).collect::<StringArray>()) };
        let instants = |times: TimestampMillisecondArray| -> ArrayRef { Arc::new(times.with_timezone("UTC")) };
        let positions = |of: fn(&RangeInclusive<u64>) -> &u64| -> ArrayRef {
            let position = |letter: &Letter| i64::try_from(*of(letter.place.positions.as_ref()?)).ok();
            Arc::new(letters.iter().map(position).collect::<Int64Array>())
        };
        let columns = vec![
            same(Some(self.job)),
            same(self.operator),
            instants(letters.iter().map(|_| Some(self.now)).collect()),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| letter.place.source.unwrap_or(self.sources)))),
            Arc::new(letters.iter().map(|letter| letter.place.split).collect::<StringArray>()),
            positions(RangeInclusive::start),
            positions(RangeInclusive::end),
            instants(letters.iter().map(|letter| letter.event_time).collect()),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| &letter.record))),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| letter.error))),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|letter| letter.message))),
            Arc::new(letters.iter().map(|letter| letter.backtrace.as_deref()).collect::<StringArray>()),
        ];
        Batch::new(letters.len(), columns, None)
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

    fn given_up(n: Option<i64>, text: &str, times: Option<i64>, backtrace: Vec<String>) -> GivenUp {
        let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(vec![n])), Arc::new(StringArray::from(vec![text]))];
        let row = Batch::new(1, columns, times.map(|time| vec![time].into()));
        GivenUp { port: 0, at: 2, row, error: GuestError { kind: GuestErrorKind::Trap, message: "ouch".into(), backtrace } }
    }

    /// Goal: a dead letter fits its schema, and says what is known: the record as it could be read again, and no value for what is not known.
    #[test]
    fn letters_fit_their_schema() {
        let place = |at| Place { source: None, split: Some("topic/3"), positions: Some(at as u64 + 10..=at as u64 + 10) };
        let rows = [given_up(Some(7), "a\n\"b\"", Some(5), vec!["f".into(), "g".into()]), given_up(None, "", None, vec![])];
        let batches = letters().batches(&rows, 99, place);
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
        let batches = letters().batches(&rows, 0, |_| Place::default());
        assert_eq!(batches.iter().map(Batch::rows).collect::<Vec<_>>(), [2, 2, 1]);
        let records = batches.iter().flat_map(|batch| batch.column(8).as_string::<i32>().iter().flatten());
        assert!((0..5).zip(records).all(|(n, record)| record.starts_with(&format!("{{\"n\":{n},"))));
    }
}
