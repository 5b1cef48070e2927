use std::fs;
use std::io::Read;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, ListArray, StructArray, TimestampMicrosecondArray, TimestampNanosecondArray};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::base64::{BASE64_STANDARD, Engine};
use arrow_schema::{DataType, Field, Fields, Schema};
use tokio::sync::Notify;

use super::*;
use crate::error::ErrorKind;
use crate::format::encoder::Encoder;
use crate::{Fetched, Split, conformance};

/// A folder of its own, and what connects to it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn context(&self) -> Context {
        Context::new("files", crate::Files::free(self.0.path()))
    }

    fn source(&self, options: &str, schema: &SchemaRef) -> Result<Box<dyn Source>, Error> {
        File.source(&options.parse().unwrap(), &[Stream { name: String::new(), schema: schema.clone() }], &self.context())
    }

    fn sink(&self, options: &str, schema: &SchemaRef) -> Result<Box<dyn Sink>, Error> {
        File.sink(&options.parse().unwrap(), schema, &self.context())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// All rows of a source as JSON lines, in the order of splits, and how many events were malformed.
    fn rows(&self, options: &str, schema: &SchemaRef) -> Result<(Vec<String>, u64), Error> {
        let source = self.source(options, schema)?;
        let (mut rows, mut malformed) = (Vec::new(), 0);
        for split in source.splits(1)? {
            let mut reader = source.reader(&split, &Arc::new(Notify::new()))?;
            while let Fetched::Rows(fetch) = reader.read(1000)? {
                malformed += fetch.malformed;
                for (_, batch) in fetch.batches {
                    let mut text = Vec::new();
                    Encoder::jsonl(schema)?.encode(&batch, &mut text);
                    rows.extend(String::from_utf8(text).unwrap().lines().map(String::from));
                }
            }
        }
        Ok((rows, malformed))
    }
}

fn numbers() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

/// Every kind of file that there is, with whether it takes lists and records.
const KINDS: [(&str, bool); 7] = [
    ("rows.jsonl", true),
    ("deep/er/rows.jsonl.gz", true),
    ("rows.jsonl.zst", true),
    ("rows.csv", false),
    ("rows.csv.gz", false),
    ("rows.csv.zst", false),
    ("rows.parquet", true),
];

#[test]
fn sinks_conform() {
    // Goal: what several subtasks write into a file of each kind is in it once.
    for (path, nested) in KINDS {
        let folder = Folder::new();
        let options = format!("path = \"{path}\"");
        conformance::sink(&|schema| folder.sink(&options, schema), nested, &|schema| folder.rows(&options, schema).unwrap().0);
    }
}

#[test]
fn attempts_that_continue_append() {
    // Goal: what was written before a checkpoint stays, but for a line that a crash has cut off; what cannot be appended to is not overwritten.
    let folder = Folder::new();
    let continued = |path: &str| {
        let context = Context { attempt: crate::Attempt { continues: true, ..crate::Attempt::default() }, ..folder.context() };
        File.sink(&format!("path = \"{path}\"").parse().unwrap(), &numbers(), &context).unwrap().writer(0, 1).map(drop)
    };
    let long = "x".repeat(600_000);
    for (before, after) in [("1\n2\n", "1\n2\n"), ("1\n2", "1\n"), ("12", ""), ("", "")] {
        folder.write("a.jsonl", before);
        continued("a.jsonl").unwrap();
        assert_eq!(folder.read("a.jsonl"), after, "{before}");
    }
    folder.write("a.jsonl", &format!("1\n{long}"));
    continued("a.jsonl").unwrap();
    assert_eq!(folder.read("a.jsonl"), "1\n");
    continued("new.jsonl").unwrap();
    for path in ["b.parquet", "b.jsonl.gz"] {
        folder.write(path, "rows");
        let error = continued(path).unwrap_err();
        assert!(error.message.contains("move the file away"), "{error}");
        assert_eq!(folder.read(path), "rows");
    }
}

#[test]
fn old_files_stay_until_there_is_something_to_write() {
    // Goal: what an older job has left is there as long as this one has no rows, and has not ended. A checkpoint ends it, too: whoever goes on from there
    // appends.
    let folder = Folder::new();
    let old = "old\n".repeat(10_000);
    for path in ["a.jsonl", "a.csv.gz", "a.parquet"] {
        let options = format!("path = \"{path}\"");
        let writers = || {
            let sink = folder.sink(&options, &numbers()).unwrap();
            [0, 1].map(|subtask| sink.writer(subtask, 2).unwrap())
        };
        folder.write(path, &old);
        writers().iter_mut().for_each(|writer| writer.flush().unwrap());
        assert_eq!(folder.read(path), old, "{path}");
        let [mut busy, mut idle] = writers();
        let column = Arc::new(arrow_array::Int64Array::from(vec![1]));
        busy.write(&weir_types::Batch::new(1, vec![column], None)).unwrap();
        busy.finish().unwrap();
        idle.finish().unwrap();
        assert_eq!(folder.rows(&options, &numbers()).unwrap().0, ["{\"n\":1}"], "{path}");
        folder.write(path, &old);
        writers().iter_mut().for_each(|writer| writer.finish().unwrap());
        assert_eq!(folder.rows(&options, &numbers()).unwrap().0, [""; 0], "{path}");
    }
    folder.write("a.csv", &old);
    let mut writer = folder.sink("path = \"a.csv\"", &numbers()).unwrap().writer(0, 1).unwrap();
    writer.prepare().unwrap();
    assert_eq!(folder.read("a.csv"), "n\n");
    writer.prepare().unwrap();
    writer.finish().unwrap();
    assert_eq!(folder.read("a.csv"), "n\n");
}

#[test]
fn names_of_compressed_files_are_not_for_parquet() {
    // Goal: no file is called compressed that is not, whether it is one or a part.
    let folder = Folder::new();
    for options in [
        "path = \"rows.parquet.gz\"",
        "path = \"rows.parquet.zst\"",
        "path = \"rows.gz\"\nformat = \"parquet\"",
        "folder = \"rows\"\nextension = \"parquet.gz\"",
    ] {
        let error = folder.sink(options, &numbers()).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Options, "{options}");
        assert!(error.message.contains("let it end in .parquet"), "{error}");
    }
}

#[test]
fn sources_conform() {
    // Goal: a file of each kind gives the same rows in every way of reading it.
    for (path, nested) in KINDS {
        let folder = Folder::new();
        let options = format!("path = \"{path}\"");
        let (schema, batch) = conformance::sample(nested);
        let sink = folder.sink(&options, &schema).unwrap();
        let mut writer = sink.writer(0, 1).unwrap();
        for _ in 0..20 {
            writer.write(&batch).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
        let bind = |streams: &[Stream]| File.source(&options.parse().unwrap(), streams, &folder.context());
        conformance::source(&bind, &[Stream { name: String::new(), schema }]);
    }
}

#[test]
fn options_name_their_files() {
    // Goal: what a path or pattern names it names also where the file is gone, and however the pattern is spelt; what it does not name is told, with the option. No
    // file has to be at hand for that.
    let folder = Folder::new();
    fs::create_dir_all(folder.0.path().join("in/deep")).unwrap();
    for name in ["in/a1.jsonl", "in/a2.jsonl", "in/b1.jsonl", "in/deep/a1.jsonl", "in/[a].jsonl"] {
        folder.write(name, "{\"n\":1}\n");
    }
    let absolute = folder.0.path().join("in/a*.jsonl").display().to_string();
    let up = format!("../{}/in/a?.jsonl", folder.0.path().file_name().unwrap().to_str().unwrap());
    let listed = |path: &str| {
        let options = format!("path = \"{path}\"");
        folder.source(&options, &numbers()).unwrap().splits(1).unwrap()
    };
    let patterns =
        ["in/a1.jsonl", "./in/a1.jsonl", "in/a*.jsonl", "./in/./a?.jsonl", "in/**/a[12].jsonl", "in/[a].jsonl", &absolute, &up];
    let splits: Vec<_> = patterns.iter().map(|path| listed(path)).collect();
    assert!(splits.iter().all(|splits| !splits.is_empty()));
    fs::remove_dir_all(folder.0.path().join("in")).unwrap();
    let context = Context { files: folder.context().files.out_of_reach(), ..folder.context() };
    for (path, splits) in patterns.iter().zip(&splits) {
        let options = format!("path = \"{path}\"").parse().unwrap();
        let source = File.source(&options, &[Stream { name: String::new(), schema: numbers() }], &context).unwrap();
        for split in splits {
            assert_eq!(source.excludes(split), None, "{path} has listed {}", split.id);
        }
    }
    let file = |path: &str| Split { id: path.into(), spec: serde_json::json!({ "path": path }), position: None };
    for (path, other) in [
        ("in/a2.jsonl", "in/a1.jsonl"),
        ("in/b*.jsonl", "in/a1.jsonl"),
        ("in/*.jsonl", "in/deep/a1.jsonl"),
        ("in/*.jsonl", "in/.hidden.jsonl"),
        ("out/*.jsonl", "in/a1.jsonl"),
    ] {
        let source = folder.source(&format!("path = \"{path}\""), &numbers()).unwrap();
        let why = source.excludes(&file(other)).unwrap_or_else(|| panic!("{path} does not name {other}"));
        assert_eq!(why, format!("the option path = \"{path}\" does not name it"));
    }
}

#[test]
fn compressed_files_are_what_other_programs_read() {
    // Goal: a file of several compressed blocks is one text to an ordinary decompressor.
    let folder = Folder::new();
    let (schema, batch) = conformance::sample(true);
    let mut plain = Vec::new();
    Encoder::jsonl(&schema).unwrap().encode(&batch, &mut plain);
    for path in ["rows.jsonl.gz", "rows.jsonl.zst"] {
        let sink = folder.sink(&format!("path = \"{path}\""), &schema).unwrap();
        let mut writer = sink.writer(0, 1).unwrap();
        for _ in 0..3 {
            writer.write(&batch).unwrap();
            writer.flush().unwrap();
        }
        writer.finish().unwrap();
        let file = fs::File::open(folder.0.path().join(path)).unwrap();
        assert_eq!(sink.report().bytes, file.metadata().unwrap().len());
        let mut text = Vec::new();
        match path.ends_with("gz") {
            true => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text).unwrap(),
            false => zstd::Decoder::new(file).unwrap().read_to_end(&mut text).unwrap(),
        };
        assert_eq!(text, plain.repeat(3));
    }
}

#[test]
fn a_pattern_is_a_split_for_each_file() {
    // Goal: files come in order, each as a split that is named after it.
    let folder = Folder::new();
    folder.write("b.jsonl", "{\"n\":2}\n");
    folder.write("a.jsonl", "{\"n\":1}");
    folder.write("c.csv", "n\n3\n");
    let splits = folder.source("path = \"*.jsonl\"", &numbers()).unwrap().splits(4).unwrap();
    assert_eq!(splits.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["a.jsonl", "b.jsonl"]);
    assert_eq!(folder.rows("path = \"*.jsonl\"", &numbers()).unwrap().0, ["{\"n\":1}", "{\"n\":2}"]);
}

#[test]
fn records_longer_than_a_block_are_read() {
    // Goal: a line of some megabytes is a row like any other.
    let folder = Folder::new();
    let long = "x".repeat(3 << 20);
    folder.write("long.jsonl", &format!("{{\"n\":1}}\n{{\"skipped\":\"{long}\",\"n\":2}}\n{{\"n\":3}}\n"));
    assert_eq!(folder.rows("path = \"long.jsonl\"", &numbers()).unwrap().0, ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]);
}

#[test]
fn lines_that_are_too_long_are_one_event() {
    // Goal: no position is within such a line, so that readers that go on read none of its rest; the lines after it have their numbers. The
    // rejects file has its beginning.
    let folder = Folder::new();
    let spaces = " ".repeat(40 << 20);
    folder.write("in.jsonl", &format!("{{\"n\":1}}\n{spaces}{{\"n\":2}}\n{{\"n\":3}}\nfour\n"));
    let options = "path = \"in.jsonl\"\non_malformed = \"rejects\"\nrejects_path = \"rejects.jsonl\"";
    let source = folder.source(options, &numbers()).unwrap();
    let mut split = source.splits(1).unwrap().remove(0);
    let mut events = Vec::new();
    loop {
        let mut reader = source.reader(&split, &Arc::new(Notify::new())).unwrap();
        let Fetched::Rows(fetch) = reader.read(1).unwrap() else { break };
        events.push((fetch.malformed, fetch.positions.unwrap().of(0, 0)));
        split.position = Some(reader.position());
    }
    assert_eq!(events, [(0, 1), (1, 0), (0, 3), (1, 0)], "malformed ones, and the lines of rows");
    let rejects: Vec<serde_json::Value> =
        folder.read("rejects.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rejects.iter().map(|reject| reject["line"].as_u64()).collect::<Vec<_>>(), [Some(2), Some(4)]);
    assert!(rejects[0]["reason"].as_str().unwrap().contains("16 MiB"));
    assert_eq!(rejects[0]["text"].as_str().unwrap(), &spaces[..1024]);
}

#[test]
fn malformed_lines_follow_the_policy() {
    // Goal: fail names the place; skip counts; rejects writes each malformed line with its place and reason.
    let folder = Folder::new();
    folder.write("in.jsonl", "{\"n\":1}\n{\"n\":\"two\"}\n\n{\"n\":3}\nfour\n");
    let error = folder.rows("path = \"in.jsonl\"", &numbers()).unwrap_err();
    for part in ["in.jsonl, line 2", "expected an integer", "\"two\"", "on_malformed"] {
        assert!(error.message.contains(part), "\"{error}\" lacks \"{part}\"");
    }
    let good = vec!["{\"n\":1}".to_string(), "{\"n\":3}".to_string()];
    assert_eq!(folder.rows("path = \"in.jsonl\"\non_malformed = \"skip\"", &numbers()).unwrap(), (good.clone(), 2));
    let rejecting = "path = \"in.jsonl\"\non_malformed = \"rejects\"\nrejects_path = \"bad/lines.jsonl\"";
    assert_eq!(folder.rows(rejecting, &numbers()).unwrap(), (good, 2));
    let rejects: Vec<serde_json::Value> =
        folder.read("bad/lines.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(rejects.len(), 2);
    assert_eq!((&rejects[1]["line"], &rejects[1]["text"]), (&5.into(), &"four".into()));
    assert!(rejects[0]["file"].as_str().unwrap().ends_with("in.jsonl"));
    assert!(rejects[0]["reason"].as_str().unwrap().contains("expected an integer"));
}

#[test]
fn rejects_lose_nothing() {
    // Goal: a line that is not UTF-8 is among the rejects byte for byte, in base64; one that is, as text.
    let folder = Folder::new();
    fs::write(folder.0.path().join("in.jsonl"), b"{\"n\":1}\n\xff\xfe{\"n\"\n{\"n\":\"\xc3\xbc\"}\n").unwrap();
    let rejecting = "path = \"in.jsonl\"\non_malformed = \"rejects\"\nrejects_path = \"bad.jsonl\"";
    assert_eq!(folder.rows(rejecting, &numbers()).unwrap(), (vec!["{\"n\":1}".to_string()], 2));
    let rejects: Vec<serde_json::Value> = folder.read("bad.jsonl").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&rejects[0]["line"], rejects[0].get("text")), (&2.into(), None));
    let bytes = BASE64_STANDARD.decode(rejects[0]["bytes"].as_str().unwrap()).unwrap();
    assert_eq!(bytes, b"\xff\xfe{\"n\"\n");
    assert_eq!((rejects[1].get("bytes"), &rejects[1]["text"]), (None, &"{\"n\":\"ü\"}".into()));
}

#[test]
fn rejects_of_older_attempts_stay() {
    // Goal: an attempt that goes on from a checkpoint adds to the rejects that are there, but for a line that a crash has cut off: it does not read again
    // what they are of. One that begins anew begins their file anew.
    let folder = Folder::new();
    folder.write("in.jsonl", "one\n");
    let options = "path = \"in.jsonl\"\non_malformed = \"rejects\"\nrejects_path = \"bad/lines.jsonl\"";
    let read = |continues| {
        let context = Context { attempt: crate::Attempt { continues, ..crate::Attempt::default() }, ..folder.context() };
        let streams = [Stream { name: String::new(), schema: numbers() }];
        let source = File.source(&options.parse().unwrap(), &streams, &context).unwrap();
        let split = source.splits(1).unwrap().remove(0);
        source.reader(&split, &Arc::new(Notify::new())).unwrap().read(10).unwrap();
        folder.read("bad/lines.jsonl")
    };
    let one = read(true);
    assert_eq!(one.lines().count(), 1);
    folder.write("bad/lines.jsonl", &format!("{one}{{\"half"));
    assert_eq!(read(true), one.repeat(2));
    assert_eq!(read(false), one);
}

#[test]
fn csv_dialects_are_understood() {
    // Goal: delimiter, missing header, and what stands for no value, when reading and when writing.
    let folder = Folder::new();
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Float64, true)]));
    folder.write("in.tsv", "1.5\tx\nNA\tNA\n");
    let read = "path = \"in.tsv\"\nformat = \"csv\"\ndelimiter = \"\\t\"\ncolumns = [\"b\", \"a\"]\nnull_values = [\"NA\"]";
    assert_eq!(folder.rows(read, &schema).unwrap().0, ["{\"a\":\"x\",\"b\":1.5}", "{}"]);
    let sink = folder.sink("path = \"out.txt\"\nformat = \"csv\"\ndelimiter = \";\"\nnull = \"NA\"", &schema).unwrap();
    let columns: Vec<arrow_array::ArrayRef> = vec![
        Arc::new(arrow_array::StringArray::from(vec![Some("x;y"), Some("NA"), None])),
        Arc::new(arrow_array::Float64Array::from(vec![Some(0.5), None, Some(2.0)])),
    ];
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&weir_types::Batch::new(3, columns, None)).unwrap();
    writer.finish().unwrap();
    assert_eq!(folder.read("out.txt"), "a;b\n\"x;y\";0.5\n\"NA\";NA\nNA;2.0\n");
}

#[test]
fn parquet_columns_are_converted_or_refused() {
    // Goal: a column of a narrower type is read as the wider one that a job wants; one that is missing or has nulls is an error.
    let folder = Folder::new();
    let narrow: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int32, true)]));
    let sink = folder.sink("path = \"n.parquet\"", &narrow).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    let column = Arc::new(arrow_array::Int32Array::from(vec![Some(1), Some(2)]));
    writer.write(&weir_types::Batch::new(2, vec![column], None)).unwrap();
    writer.finish().unwrap();
    assert_eq!(folder.rows("path = \"n.parquet\"", &numbers()).unwrap().0, ["{\"n\":1}", "{\"n\":2}"]);
    let other: SchemaRef = Arc::new(Schema::new(vec![Field::new("m", DataType::Int64, false)]));
    assert!(folder.rows("path = \"n.parquet\"", &other).unwrap_err().message.contains("no column \"m\"; it has: n"));
    let sink = folder.sink("path = \"null.parquet\"", &narrow).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&weir_types::Batch::new(1, vec![Arc::new(arrow_array::Int32Array::from(vec![None]))], None)).unwrap();
    writer.finish().unwrap();
    assert!(folder.rows("path = \"null.parquet\"", &numbers()).unwrap_err().message.contains("lacks a value"));
}

/// Writes a parquet file of one column.
fn write_parquet(folder: &Folder, name: &str, column: ArrayRef) {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("r", column.data_type().clone(), true)]));
    let sink = folder.sink(&format!("path = \"{name}\""), &schema).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&weir_types::Batch::new(column.len(), vec![column], None)).unwrap();
    writer.finish().unwrap();
}

/// Two records of these columns, of which the second is null.
fn one_and_null(columns: &[(&str, ArrayRef)]) -> StructArray {
    let fields: Fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.iter().map(|(_, column)| Arc::clone(column)).collect();
    StructArray::new(fields, columns, Some(vec![true, false].into()))
}

/// What is read of a parquet file of these records as records of these fields: of the records themselves, and of a list that has both.
fn read_records(columns: &[(&str, ArrayRef)], wanted: &Fields) -> [Result<Vec<String>, Error>; 2] {
    let folder = Folder::new();
    let records = one_and_null(columns);
    let item = Arc::new(Field::new("item", records.data_type().clone(), true));
    let list = ListArray::new(item, OffsetBuffer::from_lengths([2]), Arc::new(records.clone()), None);
    let wanted_record = DataType::Struct(wanted.clone());
    let wanted_list = DataType::List(Arc::new(Field::new("item", wanted_record.clone(), true)));
    let files: [(&str, ArrayRef, DataType); 2] =
        [("record.parquet", Arc::new(records), wanted_record), ("list.parquet", Arc::new(list), wanted_list)];
    files.map(|(name, column, wanted)| {
        write_parquet(&folder, name, column);
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("r", wanted, true)]));
        Ok(folder.rows(&format!("path = \"{name}\""), &schema)?.0)
    })
}

fn texts(values: [Option<&str>; 2]) -> ArrayRef {
    Arc::new(arrow_array::StringArray::from(values.to_vec()))
}

#[test]
fn parquet_fields_go_by_their_names() {
    // Goal: fields of records are read by their names, whatever their order and what others there are; one that may lack values may be missing. So it is in lists,
    // and beside records that are null.
    let wanted: Fields = vec![
        Field::new("a", DataType::Utf8, false),
        Field::new("b", DataType::Utf8, true),
        Field::new("n", DataType::Int64, false),
    ]
    .into();
    let (a, b, x) = (texts([Some("A"), None]), texts([Some("B"), None]), texts([Some("X"), None]));
    let n: ArrayRef = Arc::new(arrow_array::Int32Array::from(vec![Some(7), None]));
    let given = |name, column: &ArrayRef| (name, Arc::clone(column));
    let whole = r#"{"a":"A","b":"B","n":7}"#;
    for (columns, record) in [
        (vec![given("a", &a), given("b", &b), given("n", &n)], whole),
        (vec![given("n", &n), given("b", &b), given("a", &a)], whole),
        (vec![given("x", &x), given("b", &b), given("n", &n), given("a", &a)], whole),
        (vec![given("a", &a), given("n", &n)], r#"{"a":"A","b":null,"n":7}"#),
        (vec![given("x", &x), given("a", &a), given("n", &n)], r#"{"a":"A","b":null,"n":7}"#),
    ] {
        let [records, lists] = read_records(&columns, &wanted);
        assert_eq!(records.unwrap(), [format!("{{\"r\":{record}}}"), "{}".to_owned()]);
        assert_eq!(lists.unwrap(), [format!("{{\"r\":[{record},null]}}")]);
    }
    for (columns, why) in [
        (vec![given("b", &b), given("x", &x), given("n", &n)], "\"r.a\" is missing; \"r\" has: b, x, n"),
        (vec![given("b", &b), given("n", &n)], "\"r.a\" is missing; \"r\" has: b, n"),
        (vec![given("a", &a), given("n", &(Arc::new(one_and_null(&[given("x", &x)])) as ArrayRef))], "\"r.n\" is of type Struct"),
        (vec![given("a", &texts([None, None])), given("n", &n)], "\"r.a\" lacks a value"),
    ] {
        for read in read_records(&columns, &wanted) {
            let error = read.unwrap_err();
            assert!(error.message.contains(why), "{error}");
        }
    }
}

#[test]
fn parquet_records_in_records_may_be_null() {
    // Goal: what is required in a record is not asked for where a record around it is null, however deep that is.
    let folder = Folder::new();
    let record = |name: &str, column: ArrayRef, nulls: Option<NullBuffer>| {
        let fields: Fields = vec![Field::new(name, column.data_type().clone(), false)].into();
        StructArray::new(fields, vec![column], nulls)
    };
    let inner = record("n", Arc::new(arrow_array::Int32Array::from(vec![7, 8])), None);
    write_parquet(&folder, "deep.parquet", Arc::new(record("inner", Arc::new(inner), Some(vec![true, false].into()))));
    let inner = DataType::Struct(vec![Field::new("n", DataType::Int64, false)].into());
    let outer = DataType::Struct(vec![Field::new("inner", inner, false)].into());
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("r", outer, true)]));
    assert_eq!(folder.rows("path = \"deep.parquet\"", &schema).unwrap().0, ["{\"r\":{\"inner\":{\"n\":7}}}", "{}"]);
}

#[test]
fn parquet_instants_are_cut_to_milliseconds() {
    // Goal: an instant of a finer unit is the millisecond in which it is, before 1970, too, and in lists, too.
    let folder = Folder::new();
    let schema = |data_type| -> SchemaRef { Arc::new(Schema::new(vec![Field::new("r", data_type, true)])) };
    let instant = DataType::Timestamp(arrow_schema::TimeUnit::Millisecond, Some("UTC".into()));
    let micros = || TimestampMicrosecondArray::from(vec![Some(-1), Some(1_999), None, Some(-2_000)]);
    let nanos = TimestampNanosecondArray::from(vec![Some(-1), Some(1_999_999), None, Some(-2_000_000)]);
    let expected = ["\"1969-12-31T23:59:59.999Z\"", "\"1970-01-01T00:00:00.001Z\"", "null", "\"1969-12-31T23:59:59.998Z\""];
    let columns: [ArrayRef; 3] = [Arc::new(micros().with_timezone("UTC")), Arc::new(micros()), Arc::new(nanos)];
    for (number, column) in columns.into_iter().enumerate() {
        let name = format!("{number}.parquet");
        write_parquet(&folder, &name, column);
        let rows = folder.rows(&format!("path = \"{name}\""), &schema(instant.clone())).unwrap().0;
        assert_eq!(rows, expected.map(|at| if at == "null" { "{}".to_owned() } else { format!("{{\"r\":{at}}}") }));
    }
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let micros: ArrayRef = Arc::new(micros());
    let list = ListArray::new(item(micros.data_type().clone()), OffsetBuffer::from_lengths([4]), micros, None);
    write_parquet(&folder, "list.parquet", Arc::new(list));
    let rows = folder.rows("path = \"list.parquet\"", &schema(DataType::List(item(instant)))).unwrap().0;
    assert_eq!(rows, [format!("{{\"r\":[{}]}}", expected.join(","))]);
}

#[test]
fn confined_jobs_stay_inside() {
    // Goal: no option of the connector leads out of a folder that a job is confined to: not the path of a source, of its rejects, or of a sink.
    let folder = Folder::new();
    folder.write("secret.jsonl", "{\"n\":1}\n");
    let inside = folder.0.path().join("inside");
    let context = Context { files: crate::Files::confined(&inside).unwrap(), ..folder.context() };
    fs::write(inside.join("bad.jsonl"), "malformed\n").unwrap();
    let streams = [Stream { name: String::new(), schema: numbers() }];
    let read = |options: &str| {
        let source = File.source(&options.parse().unwrap(), &streams, &context)?;
        source.splits(1)?.iter().try_for_each(|split| source.reader(split, &Arc::default())?.read(10).map(drop))
    };
    for options in [
        "path = \"../secret.jsonl\"",
        "path = \".?/secret.jsonl\"",
        "path = \"bad.jsonl\"\non_malformed = \"rejects\"\nrejects_path = \"../rejects.jsonl\"",
    ] {
        assert!(read(options).is_err(), "{options}");
    }
    let sink = File.sink(&"path = \"../out.jsonl\"".parse().unwrap(), &numbers(), &context).unwrap();
    assert!(sink.writer(0, 1).is_err());
    let mut left: Vec<_> = fs::read_dir(folder.0.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["inside", "secret.jsonl"]);
}

#[test]
fn damaged_files_are_refused_for_good() {
    // Goal: a file that is cut off, or has become shorter than what was read of it, will be so at the next attempt, too: the error says what to do about it, and is
    // of a kind that is not tried again.
    let folder = Folder::new();
    let write = |path: &str, rows: std::ops::Range<i64>| {
        let sink = folder.sink(&format!("path = \"{path}\""), &numbers()).unwrap();
        let mut writer = sink.writer(0, 1).unwrap();
        let column = Arc::new(arrow_array::Int64Array::from_iter_values(rows));
        writer.write(&weir_types::Batch::new(column.len(), vec![column], None)).unwrap();
        writer.finish().unwrap();
    };
    for path in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"] {
        write(path, 0..100);
        let source = folder.source(&format!("path = \"{path}\""), &numbers()).unwrap();
        let mut split = source.splits(1).unwrap().remove(0);
        let reader = |split: &Split| source.reader(split, &Arc::new(Notify::new()));
        let mut first = reader(&split).unwrap();
        assert!(matches!(first.read(100).unwrap(), Fetched::Rows(_)));
        split.position = Some(first.position());
        write(path, 0..10);
        let shorter = reader(&split).err().unwrap();
        assert!(matches!(shorter.kind, ErrorKind::Malformed | ErrorKind::Options), "{shorter}");
        for part in [path, "read before", "put it back as it was", "--fresh"] {
            assert!(shorter.message.contains(part), "{shorter}");
        }
        if path == "a.jsonl" {
            continue;
        }
        write(path, 0..100);
        let file = folder.0.path().join(path);
        let whole = fs::read(&file).unwrap();
        for length in [whole.len() - 5, 2] {
            fs::write(&file, &whole[..length]).unwrap();
            let damaged = folder.rows(&format!("path = \"{path}\""), &numbers()).unwrap_err();
            assert_eq!(damaged.kind, ErrorKind::Malformed, "{path}, {length} bytes: {damaged}");
            for part in [path, "damaged", "put a whole one in its place"] {
                assert!(damaged.message.contains(part), "{damaged}");
            }
        }
    }
}

#[test]
fn what_cannot_be_read_or_written_is_refused() {
    // Goal: each error names the file or the option, and what to do.
    let folder = Folder::new();
    folder.write("here.jsonl", "{\"n\":1}");
    fs::create_dir(folder.0.path().join("folder")).unwrap();
    let check = |options: &str, parts: &[&str]| {
        let error = folder.rows(options, &numbers()).unwrap_err();
        parts.iter().for_each(|part| assert!(error.message.contains(part), "\"{error}\" lacks \"{part}\""));
    };
    check("path = \"gone.jsonl\"", &["there is no file", "gone.jsonl", "correct the path"]);
    check("path = \"*.csv\"", &["*.csv", "no file matches", "correct the path"]);
    for missing in ["gone.jsonl", "here.jsonl/x.jsonl", "*.csv"] {
        assert_eq!(folder.rows(&format!("path = \"{missing}\""), &numbers()).unwrap_err().kind, ErrorKind::Missing, "{missing}");
    }
    check("path = \"folder\"\nformat = \"csv\"", &["is a folder", "pattern"]);
    check("path = \"here.xml\"", &["here.xml", "format"]);
    check("pth = \"here.jsonl\"", &["pth", "`path`", "`on_malformed`"]);
    check("", &["path"]);
    check("path = \"here.jsonl\"\ndelimiter = \";\"", &["delimiter", "csv"]);
    check("path = \"here.csv\"\ndelimiter = \"é\"", &["delimiter", "ASCII"]);
    check("path = \"here.jsonl\"\non_malformed = \"rejects\"", &["rejects_path"]);
    check("path = \"here.jsonl\"\ncompression = \"gzip\"", &["here.jsonl"]);
    let Err(error) = folder.sink("path = \"here.jsonl/x.jsonl\"", &numbers()).unwrap().writer(0, 1) else {
        panic!("a file is no folder")
    };
    assert!(error.message.contains("x.jsonl"), "{error}");
}
