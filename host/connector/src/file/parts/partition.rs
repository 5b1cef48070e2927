//! Which folder a row goes to: by its event time, by its values, or by both.

use std::collections::HashMap;
use std::fmt::Write;

use arrow_array::UInt32Array;
use arrow_schema::{DataType, Schema};
use jiff::Timestamp;
use openssl::sha::sha256;
use weir_types::{Batch, EventTime};

use crate::Error;
use crate::format::cells::Cells;

/// What Hive writes for no value.
const NO_VALUE: &str = "__HIVE_DEFAULT_PARTITION__";

/// How long the name of a folder may be: what file systems take.
const NAME_BYTES_MAX: usize = 255;

/// How long the end of a name is that tells what was cut off: a dash, and 16 digits of a hash.
const MARK_BYTES: usize = 17;

/// How rows are divided among folders.
#[derive(Debug, Default)]
pub(in crate::file) struct Partitioning {
    time: Option<TimePattern>,
    /// the columns: index, and `NAME=`
    columns: Vec<(usize, String)>,
}

/// Folders by event time.
#[derive(Debug)]
struct TimePattern {
    pattern: String,
    /// instants with the same number of these, in ms, have the same folder
    unit_ms: i64,
}

impl Partitioning {
    /// What the options `partition_time` and `partition_by` say.
    pub fn new(time: Option<String>, by: &[String], schema: &Schema) -> Result<Self, Error> {
        let mut columns = Vec::new();
        for (place, name) in by.iter().enumerate() {
            if by[..place].contains(name) {
                return Err(Error::options(format!("partition_by names the column \"{name}\" twice; once is enough")));
            }
            let Some((index, field)) = schema.column_with_name(name) else {
                let names: Vec<_> = schema.fields().iter().map(|f| f.name().as_str()).collect();
                return Err(Error::options(format!(
                    "partition_by: there is no column \"{name}\"; there are: {}",
                    names.join(", ")
                )));
            };
            let is_plain = match field.data_type() {
                DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Timestamp(..) => true,
                other => other.is_integer(),
            };
            if !is_plain {
                return Err(Error::options(format!(
                    "partition_by: the column \"{name}\" is of type {}; folders are named after text, whole numbers, booleans and instants",
                    field.data_type()
                )));
            }
            let mut label = String::new();
            escape(name, usize::MAX, &mut label);
            label.push('=');
            if label.len() + NO_VALUE.len() > NAME_BYTES_MAX {
                return Err(Error::options(format!(
                    "partition_by: folders cannot be named after the column \"{name}\", whose name is longer than {} bytes; give it a shorter one",
                    NAME_BYTES_MAX - NO_VALUE.len() - 1
                )));
            }
            columns.push((index, label));
        }
        Ok(Self { time: time.map(TimePattern::new).transpose()?, columns })
    }

    /// Gives the rows of each folder. Folders are paths with a slash at the end; the empty one is the sink's own.
    pub fn split(&self, batch: &Batch, each: &mut dyn FnMut(&str, &Batch) -> Result<(), Error>) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        if self.time.is_none() && self.columns.is_empty() {
            return each("", batch);
        }
        // Folders in the order in which they come, so that parts are numbered in an order that can be understood.
        let mut folders: Vec<(String, Vec<u32>)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        self.name_folders(batch, &mut |row, folder| {
            let place = match places.get(folder) {
                Some(place) => *place,
                None => {
                    places.insert(folder.to_owned(), folders.len());
                    folders.push((folder.to_owned(), Vec::new()));
                    folders.len() - 1
                }
            };
            folders[place].1.push(row);
        })?;
        if let [(folder, _)] = &*folders {
            return each(folder, batch);
        }
        for (folder, rows) in folders {
            let rows = batch.take(&UInt32Array::from(rows)).map_err(|e| Error::io("rows cannot be divided among folders", e))?;
            each(&folder, &rows)?;
        }
        Ok(())
    }

    /// Names the folder of each row.
    fn name_folders(&self, batch: &Batch, each: &mut dyn FnMut(u32, &str)) -> Result<(), Error> {
        let times = match (&self.time, batch.times()) {
            (None, _) => None,
            (Some(pattern), Some(times)) => Some((pattern, times)),
            (Some(_), None) => {
                return Err(Error::options(
                    "partition_time needs the event times of rows, and these have none; assign event times before the sink",
                ));
            }
        };
        let cells: Vec<_> = self.columns.iter().map(|(index, label)| (Cells::new(batch.column(*index)), label)).collect();
        let mut of_unit: HashMap<i64, String> = HashMap::new();
        let mut folder = String::new();
        let mut plain = Vec::new();
        for row in 0..batch.rows() {
            folder.clear();
            if let Some((pattern, times)) = times {
                let unit = times[row].div_euclid(pattern.unit_ms);
                let name = match of_unit.entry(unit) {
                    std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::hash_map::Entry::Vacant(entry) => entry.insert(pattern.folder(times[row])?),
                };
                folder.push_str(name);
            }
            for (cells, label) in &cells {
                let end_max = folder.len() + NAME_BYTES_MAX;
                folder.push_str(label);
                push_value(cells, row, end_max, &mut plain, &mut folder);
                folder.push('/');
            }
            each(row as u32, &folder);
        }
        Ok(())
    }
}

/// Appends a value as part of a folder's name, which may reach to `end_max`.
fn push_value(cells: &Cells, row: usize, end_max: usize, plain: &mut Vec<u8>, folder: &mut String) {
    if cells.is_null(row) {
        return folder.push_str(NO_VALUE);
    }
    if let Some(text) = cells.text(row) {
        return if text.is_empty() { folder.push_str(NO_VALUE) } else { push_text(text, end_max, folder) };
    }
    plain.clear();
    cells.write_plain(row, plain);
    push_text(&String::from_utf8_lossy(plain), end_max, folder);
}

/// Appends text that may reach to `end_max`. If it is too long, its beginning, and a hash of all of it, which other texts with this beginning do not have.
fn push_text(text: &str, end_max: usize, folder: &mut String) {
    let start = folder.len();
    if escape(text, end_max, folder) {
        return;
    }
    folder.truncate(start);
    escape(text, end_max - MARK_BYTES, folder);
    folder.push('-');
    sha256(text.as_bytes())[..8].iter().for_each(|byte| push_hex(*byte, folder));
}

/// Appends text in which what paths, URLs and Hive reserve is escaped as in URLs: as many whole characters as there is room for up to `end_max`. Whether that
/// is all of it.
fn escape(text: &str, end_max: usize, out: &mut String) -> bool {
    for c in text.chars() {
        let end = out.len();
        if c.is_control() || matches!(c, '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^') {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push('%');
                push_hex(byte, out);
            }
        } else {
            out.push(c);
        }
        if out.len() > end_max {
            out.truncate(end);
            return false;
        }
    }
    true
}

fn push_hex(byte: u8, out: &mut String) {
    write!(out, "{byte:02X}").expect("text takes text");
}

impl TimePattern {
    fn new(pattern: String) -> Result<Self, Error> {
        let refuse =
            |why: String| Error::options(format!("partition_time = \"{pattern}\": {why}; write it like \"dt=%Y-%m-%d/hour=%H\""));
        let sample = |ms| format_time(&pattern, ms).map_err(&refuse);
        let midnight = sample(0)?;
        // No folder may lead elsewhere, or be hidden.
        if let Some(step) = midnight.split('/').find(|step| step.is_empty() || step.starts_with('.')) {
            return Err(refuse(format!("a folder cannot be named \"{step}\"")));
        }
        // Whether the last millisecond of a unit is where its first one is, with the longest unit first.
        let mut unit_ms = 1;
        for unit in [1000, 60_000, 3_600_000, 86_400_000] {
            if sample(unit - 1)? != midnight {
                break;
            }
            unit_ms = unit;
        }
        Ok(Self { pattern, unit_ms })
    }

    /// The folder of an instant, with a slash at the end.
    fn folder(&self, time: EventTime) -> Result<String, Error> {
        let folder = format_time(&self.pattern, time)
            .map_err(|why| Error::malformed(format!("partition_time: there is no folder for the event time {time} ms: {why}")))?;
        Ok(folder + "/")
    }
}

fn format_time(pattern: &str, ms: EventTime) -> Result<String, String> {
    let time = Timestamp::from_millisecond(ms).map_err(|e| e.to_string())?;
    jiff::fmt::strtime::format(pattern, &time.to_zoned(jiff::tz::TimeZone::UTC)).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int32Array, StringArray, TimestampMillisecondArray};
    use arrow_schema::Field;

    use super::*;

    /// The folder of each row.
    fn folders(time: Option<&str>, by: &[&str], columns: Vec<(&str, ArrayRef)>, times: Option<Vec<EventTime>>) -> Vec<String> {
        let schema = Schema::new(columns.iter().map(|(n, c)| Field::new(*n, c.data_type().clone(), true)).collect::<Vec<_>>());
        let by: Vec<_> = by.iter().map(|n| (*n).to_string()).collect();
        let partitioning = Partitioning::new(time.map(str::to_owned), &by, &schema).unwrap();
        let rows = columns.first().map_or_else(|| times.as_ref().map_or(0, Vec::len), |(_, c)| c.len());
        let batch = Batch::new(rows, columns.into_iter().map(|(_, c)| c).collect(), times.map(Into::into));
        let mut found = vec![String::new(); rows];
        partitioning.name_folders(&batch, &mut |row, folder| found[row as usize] = folder.to_owned()).unwrap();
        found
    }

    #[test]
    fn values_name_folders() {
        // Goal: each kind of value is a name that file systems and Hive take, and no value has a name of its own.
        let texts: ArrayRef =
            Arc::new(StringArray::from(vec![Some("AA"), Some("a/b=c%"), Some(".."), Some(""), None, Some("ü\n\u{85}")]));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), Some(-2), None, Some(0), Some(0), Some(0)]));
        let found = folders(None, &["n", "t x"], vec![("t x", texts), ("n", numbers)], None);
        assert_eq!(
            found,
            [
                "n=1/t x=AA/",
                "n=-2/t x=a%2Fb%3Dc%25/",
                "n=__HIVE_DEFAULT_PARTITION__/t x=../",
                "n=0/t x=__HIVE_DEFAULT_PARTITION__/",
                "n=0/t x=__HIVE_DEFAULT_PARTITION__/",
                "n=0/t x=ü%0A%C2%85/"
            ]
        );
        let at: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![0]).with_timezone("UTC"));
        assert_eq!(folders(None, &["at"], vec![("at", at)], None), ["at=1970-01-01T00%3A00%3A00Z/"]);
    }

    #[test]
    fn long_values_have_folders_of_their_own() {
        // Goal: a value that is too long for a name is cut between two characters, of which an escaped one is whole, too, and is told by a hash from others with
        // its beginning; the same value has the same folder everywhere, and one that just fits stays as it is.
        let long = "x".repeat(300);
        let (fits, longer) = (&long[..253], &long[..254]);
        let other = format!("{longer}y");
        let umlauts = format!("{}ü{long}", &long[..235]);
        let breaks = format!("{}\u{85}{long}", &long[..231]);
        let texts = [fits, longer, other.as_str(), umlauts.as_str(), breaks.as_str(), longer];
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![7; 6]));
        let found = folders(None, &["t", "u"], vec![("t", texts), ("u", numbers)], None);
        let names: Vec<_> = found.iter().map(|folder| folder.strip_suffix("/u=7/").unwrap()).collect();
        assert_eq!(names[0], format!("t={fits}"));
        let hash = "AF97A1A6CA66DF0B";
        assert_eq!(names[1], format!("t={}-{hash}", &long[..236]));
        let (cut, other) = names[2].rsplit_once('-').unwrap();
        assert!(names[1].starts_with(cut) && cut.len() == 238 && other != hash && other.len() == 16, "{}", names[2]);
        assert_eq!(names[3].rsplit_once('-').unwrap().0, format!("t={}", &long[..235]));
        assert_eq!(names[4].rsplit_once('-').unwrap().0, format!("t={}", &long[..231]));
        assert_eq!(names[5], names[1]);
        assert!(names.iter().all(|name| name.len() <= NAME_BYTES_MAX));
    }

    #[test]
    fn times_name_folders() {
        // Goal: instants of every unit, before 1970, too, are in the folder that their text says.
        let times = vec![-1, 0, 3_599_999, 3_600_000, 86_400_000, 1_436_918_400_123];
        let found = |pattern| folders(Some(pattern), &[], vec![], Some(times.clone()));
        assert_eq!(
            found("dt=%Y-%m-%d/hour=%H")[..4],
            ["dt=1969-12-31/hour=23/", "dt=1970-01-01/hour=00/", "dt=1970-01-01/hour=00/", "dt=1970-01-01/hour=01/"]
        );
        assert_eq!(found("%Y")[4..], ["1970/", "2015/"]);
        assert_eq!(found("m=%H%M%S")[2..], ["m=005959/", "m=010000/", "m=000000/", "m=000000/"]);
        for (pattern, unit_ms) in
            [("%Y", 86_400_000), ("%H", 3_600_000), ("%p", 3_600_000), ("%M", 60_000), ("%T", 1000), ("%3f", 1)]
        {
            assert_eq!(TimePattern::new(pattern.into()).unwrap().unit_ms, unit_ms, "{pattern}");
        }
    }

    #[test]
    fn rows_stay_together_and_in_order() {
        // Goal: every folder gets its rows once, in their order; a batch of one folder is not copied.
        let numbers: ArrayRef = Arc::new(Int32Array::from(vec![1, 2, 1, 2, 1]));
        let schema = Schema::new(vec![Field::new("n", DataType::Int32, true)]);
        let partitioning = Partitioning::new(None, &["n".to_owned()], &schema).unwrap();
        let mut found = Vec::new();
        let batch = Batch::new(5, vec![numbers], Some(vec![10, 20, 30, 40, 50].into()));
        partitioning
            .split(&batch, &mut |folder, rows| {
                found.push((folder.to_owned(), rows.times().unwrap().to_vec()));
                Ok(())
            })
            .unwrap();
        assert_eq!(found, [("n=1/".to_owned(), vec![10, 30, 50]), ("n=2/".to_owned(), vec![20, 40])]);
    }

    #[test]
    fn what_cannot_name_a_folder_is_refused() {
        // Goal: wrong options and rows without what is needed are errors that say what to do.
        let long = "c".repeat(229);
        let fields = vec![
            Field::new("f", DataType::Float64, true),
            Field::new("t", DataType::Utf8, true),
            Field::new(&long, DataType::Utf8, true),
            Field::new(&long[1..], DataType::Utf8, true),
        ];
        let schema = Schema::new(fields);
        let refused = |time: Option<&str>, by: &str| {
            let by: Vec<_> = by.split(',').filter(|n| !n.is_empty()).map(str::to_owned).collect();
            Partitioning::new(time.map(str::to_owned), &by, &schema).unwrap_err().message
        };
        assert!(refused(None, "g").contains("there are: f, t, c"));
        assert!(refused(None, "t,t").contains("\"t\" twice"));
        assert!(refused(None, &long).contains("longer than 228 bytes"));
        Partitioning::new(None, &[long[1..].to_owned()], &schema).unwrap();
        assert!(refused(None, "f").contains("Float64"));
        for bad in ["../%Y", "/%Y", "%Y/", ".%Y", "%Y//%m", "%!", ""] {
            assert!(refused(Some(bad), "").contains("dt=%Y"), "{bad}");
        }
        let partitioning = Partitioning::new(Some("%Y".into()), &[], &schema).unwrap();
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
        let batch = |times: Option<Vec<EventTime>>| Batch::new(1, vec![text.clone(), text.clone()], times.map(Into::into));
        let split =
            |partitioning: &Partitioning, batch: &Batch| partitioning.split(batch, &mut |_, _| Ok(())).unwrap_err().message;
        assert!(split(&partitioning, &batch(None)).contains("assign event times"));
        assert!(split(&partitioning, &batch(Some(vec![i64::MAX]))).contains("9223372036854775807"));
    }
}
