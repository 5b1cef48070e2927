use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use weir_types::Batch;

use super::store::Bucket;
use super::*;
use crate::file::File;
use crate::file::layout::LayoutOptions;
use crate::format::FormatName;
use crate::format::encoder::Encoder;
use crate::registry::Stream;
use crate::{Attempt, Connector, Fetched, Files, conformance};

fn context(files: &Files, generation: u64) -> Context {
    let attempt = Attempt { job: "job-1".into(), generation, ..Attempt::default() };
    Context { attempt, ..Context::new("sink", files.clone()) }
}

fn bind(files: &Files, options: &str, schema: &SchemaRef, generation: u64) -> Result<Box<dyn Sink>, Error> {
    File.sink(&options.parse().unwrap(), schema, &context(files, generation))
}

/// The rows that a reader of a pattern sees, as JSON lines.
fn rows(files: &Files, pattern: &str, schema: &SchemaRef) -> Vec<String> {
    let options = toml::Table::from_iter([("path".to_owned(), pattern.into())]);
    let source = File.source(&options, &[Stream { name: String::new(), schema: schema.clone() }], &context(files, 0)).unwrap();
    let encoder = Encoder::jsonl(schema).unwrap();
    let mut text = Vec::new();
    // A pattern that matches nothing is an error of the source.
    for split in source.splits(1).unwrap_or_default() {
        let mut reader = source.reader(&split, &Arc::default()).unwrap();
        while let Fetched::Rows(fetch) = reader.read(1000).unwrap() {
            fetch.batches.iter().for_each(|(_, batch)| encoder.encode(batch, &mut text));
        }
    }
    String::from_utf8(text).unwrap().lines().map(String::from).collect()
}

/// The paths of all files below a folder, with those that are hidden, in order.
fn paths(folder: &Path) -> Vec<String> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("carrier", DataType::Utf8, true)]))
}

/// Rows with numbers from 0 on; every 10th has no carrier. Event times are an hour apart.
fn batch(rows: usize) -> Batch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    let carriers: ArrayRef = Arc::new(StringArray::from_iter((0..rows).map(|n| (n % 10 > 0).then_some(["AA", "B/6"][n % 2]))));
    Batch::new(rows, vec![numbers, carriers], Some((0..rows as i64).map(|n| n * 3_600_000).collect::<Vec<_>>().into()))
}

/// A folder in memory, if the machine has one: parts are synced a thousand times here, for which a busy disk takes minutes.
fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// What parts look like, the pattern that finds them, and whether they take lists and records.
const LAYOUTS: [(&str, &str, bool); 7] = [
    ("format = \"jsonl\"", "out/*.jsonl", true),
    ("extension = \"json.gz\"\nroll_bytes = 1000", "out/*.json.gz", true),
    ("format = \"jsonl\"\ncompression = \"zstd\"\nroll_after = \"0ms\"", "out/**/*.jsonl.zst", true),
    ("format = \"csv\"\npartition_by = [\"flag\"]\nopen_parts_max = 2", "out/*/*.csv", false),
    ("extension = \"csv.zst\"", "out/*.csv.zst", false),
    ("format = \"parquet\"", "out/*.parquet", true),
    ("format = \"parquet\"\npartition_by = [\"flag\"]\nroll_bytes = \"4KB\"", "out/flag=*/*.parquet", true),
];

/// Checks parts below a folder that is there.
fn check_parts(folder: &Path, files: &Files, layouts: &[(&str, &str, bool)]) {
    for (layout, pattern, nested) in layouts {
        let options = format!("folder = \"out\"\n{layout}");
        conformance::transactional(&|schema, generation| bind(files, &options, schema, generation), *nested, &|schema| {
            rows(files, pattern, schema)
        });
        let left = paths(folder);
        assert!(left.iter().all(|path| !path.contains("hidden")), "{layout}: garbage is left: {left:?}");
        fs::remove_dir_all(folder.join("out")).unwrap();
    }
}

#[test]
fn parts_conform() {
    // Goal: in every format, with parts of any size and in many folders, each row is seen once, and only once it was committed.
    let folder = quick_folder();
    check_parts(folder.path(), &Files::free(folder.path()), &LAYOUTS);
}

#[test]
fn confined_parts_conform() {
    // Goal: the same of a job on a server.
    let folder = quick_folder();
    check_parts(folder.path(), &Files::confined(folder.path()).unwrap(), &[LAYOUTS[0], LAYOUTS[6]]);
}

#[test]
fn parts_in_a_bucket_conform() {
    // Goal: the same of a store of objects; uploads that nobody needs are given up, and their notes are gone.
    let objects = Arc::new(InMemory::new());
    let block_on = |work| tokio::runtime::Runtime::new().unwrap().block_on(work);
    let all = || -> Vec<(String, Vec<u8>)> {
        let objects = Arc::clone(&objects);
        block_on(async move {
            let mut found = Vec::new();
            let metas: Vec<_> = objects.list(None).try_collect().await.unwrap();
            for meta in metas {
                let bytes = objects.get(&meta.location).await.unwrap().bytes().await.unwrap();
                found.push((meta.location.to_string(), bytes.to_vec()));
            }
            found
        })
    };
    let sink = |schema: &SchemaRef, generation| {
        let options =
            LayoutOptions { format: Some(FormatName::Jsonl), compression: None, delimiter: None, header: None, null: None };
        let layout = Layout::new(options, Path::new("x"), schema)?;
        let partitioning = Partitioning::new(None, &["i8".to_owned()], schema)?;
        let limits = Limits { roll_bytes: 2000, roll_after: None, open_parts_max: 10 };
        let store = Box::new(Bucket::in_memory(Arc::clone(&objects)));
        let context = context(&Files::free("."), generation);
        Ok(Box::new(Parts::new(store, layout, "jsonl".into(), partitioning, limits, &context)?) as Box<dyn Sink>)
    };
    conformance::transactional(&sink, true, &|_| {
        let parts = all().into_iter().filter(|(key, _)| key.starts_with("out/i8="));
        parts.flat_map(|(_, text)| String::from_utf8(text).unwrap().lines().map(String::from).collect::<Vec<_>>()).collect()
    });
    assert!(all().iter().all(|(key, _)| key.starts_with("out/i8=")), "notes are left");
}

#[test]
fn large_parts_are_uploaded_in_pieces() {
    // Goal: a part of several pieces is put together in order.
    use std::io::Write;
    let objects = Arc::new(InMemory::new());
    let bucket = Bucket::in_memory(Arc::clone(&objects));
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|n| (n / 7) as u8).collect();
    let mut hidden = bucket.begin("a/part").unwrap();
    bytes.chunks(3_000_001).for_each(|chunk| hidden.write_all(chunk).unwrap());
    let upload = hidden.seal().unwrap();
    assert_eq!(upload.as_ref().unwrap().pieces.len(), 3);
    bucket.publish(&[Prepared { part: "a/part".into(), upload }]).unwrap();
    let found = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(async { objects.get(&"out/a/part".into()).await.unwrap().bytes().await.unwrap() });
    assert!(found == bytes);
}

#[test]
fn parts_of_others_in_a_bucket_stay() {
    // Goal: a part does not replace an object of its name that is another's, and waits until that is moved away; one that is gone is not taken for what is
    // there. To commit a part again changes nothing.
    use std::io::Write;
    const PART: &str = "a/part";
    let objects = Arc::new(InMemory::new());
    let bucket = Bucket::in_memory(Arc::clone(&objects));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let found = || runtime.block_on(async { objects.get(&"out/a/part".into()).await.unwrap().bytes().await.unwrap() });
    let prepared = |rows: &[u8]| {
        let mut hidden = bucket.begin(PART).unwrap();
        hidden.write_all(rows).unwrap();
        Prepared { part: PART.into(), upload: hidden.seal().unwrap() }
    };
    let publish = |part: &Prepared| bucket.publish(std::slice::from_ref(part)).map_err(|e| e.message);
    let (first, second, same) = (prepared(b"first"), prepared(b"other"), prepared(b"first"));
    publish(&first).unwrap();
    for other in [&second, &same] {
        let error = publish(other).unwrap_err();
        assert!(error.contains("a/part is there already, of a job of the same name"), "{error}");
        assert_eq!(found(), "first");
        publish(&first).unwrap();
    }
    runtime.block_on(async { objects.delete(&"out/a/part".into()).await.unwrap() });
    publish(&second).unwrap();
    publish(&second).unwrap();
    assert_eq!(found(), "other");
    let error = publish(&first).unwrap_err();
    assert!(error.contains("are lost") && error.contains("give each job a place of its own"), "{error}");

    // A transaction of a checkpoint of an older version does not say what its object is known by.
    let upload = second.upload.map(|upload| Upload { mark: None, ..upload });
    publish(&Prepared { upload, ..second }).unwrap();
}

#[test]
fn parts_are_named_and_divided() {
    // Goal: the files of a job are where time and values say, complete by themselves, and numbered; what is not committed is in `.weir`.
    let folder = tempfile::tempdir().unwrap();
    let files = Files::free(folder.path());
    let options = "folder = \"out\"\nformat = \"csv\"\npartition_time = \"dt=%Y-%m-%d\"\npartition_by = [\"carrier\"]";
    let sink = bind(&files, options, &schema(), 7).unwrap();
    let mut writer = sink.writer(2, 3).unwrap();
    writer.write(&batch(30)).unwrap();
    assert_eq!(paths(folder.path()).len(), 5);
    assert!(paths(folder.path()).iter().all(|path| path.starts_with("out/.weir/") && path.ends_with(".csv.hidden")));
    let transactions = writer.prepare().unwrap();
    sink.commit(&transactions).unwrap();
    let found = paths(folder.path());
    let name = |n: usize| format!("part-sink-job%2D1-000007-00002-{n:06}.csv");
    let folders = ["dt=1970-01-01/carrier=AA", "dt=1970-01-01/carrier=B%2F6", "dt=1970-01-01/carrier=__HIVE_DEFAULT_PARTITION__"];
    for (place, number) in folders.iter().zip([2, 1, 0]) {
        assert!(found.contains(&format!("out/{place}/{}", name(number))), "{found:?}");
    }
    let text = fs::read_to_string(folder.path().join("out/dt=1970-01-02/carrier=AA").join(name(3))).unwrap();
    assert_eq!(text, "n,carrier\n24,AA\n26,AA\n28,AA\n");
    assert_eq!(sink.report().rows, 30);
    assert_eq!(sink.report().bytes, found.iter().map(|path| fs::metadata(folder.path().join(path)).unwrap().len()).sum::<u64>());
}

#[test]
fn rows_of_long_values_are_published() {
    // Goal: values that are too long to name a folder after, and begin alike, have parts that the file system takes, with the values in full.
    let folder = tempfile::tempdir().unwrap();
    let files = Files::free(folder.path());
    let sink = bind(&files, "folder = \"out\"\nformat = \"jsonl\"\npartition_by = [\"carrier\"]", &schema(), 1).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    let long = "é/".repeat(200);
    let values = [format!("{long}a"), format!("{long}b"), format!("{long}a")];
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from(vec![1, 2, 3])), Arc::new(StringArray::from_iter_values(values.iter()))];
    writer.write(&Batch::new(3, columns, None)).unwrap();
    let transactions = writer.prepare().unwrap();
    assert_eq!(transactions.len(), 2);
    sink.commit(&transactions).unwrap();
    let mut found = rows(&files, "out/carrier=*/*.jsonl", &schema());
    found.sort();
    let row = |n: usize| format!("{{\"n\":{},\"carrier\":\"{}\"}}", n + 1, values[n]);
    assert_eq!(found, [row(0), row(1), row(2)]);
}

#[test]
fn parts_are_closed_when_they_are_large_old_or_many() {
    // Goal: each limit cuts the rows into parts, and none loses one.
    for (option, parts) in [
        ("roll_bytes = \"1MB\"", 1),
        ("roll_bytes = 100", 10),
        ("roll_after = \"1h\"", 1),
        ("roll_after = \"0ms\"", 10),
        ("partition_by = [\"carrier\"]", 3),
        ("partition_by = [\"carrier\"]\nopen_parts_max = 2", 30),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::free(folder.path());
        let sink = bind(&files, &format!("folder = \"out\"\nformat = \"jsonl\"\n{option}"), &schema(), 1).unwrap();
        let mut writer = sink.writer(0, 1).unwrap();
        (0..10).for_each(|_| writer.write(&batch(20)).unwrap());
        let transactions = writer.prepare().unwrap();
        assert_eq!(transactions.len(), parts, "{option}");
        sink.commit(&transactions).unwrap();
        assert_eq!(rows(&files, "out/**/*.jsonl", &schema()).len(), 200);
    }
}

#[test]
fn jobs_share_a_folder() {
    // Goal: the parts of another job, of another sink of the job, and of attempts that another log numbers are left alone.
    let folder = tempfile::tempdir().unwrap();
    let files = Files::free(folder.path());
    let options = "folder = \"out\"\nformat = \"jsonl\"".parse().unwrap();
    let of_log = |name: &str, job: &str, log: &str, generation| {
        let attempt = Attempt { job: job.into(), log: log.into(), generation, continues: false };
        File.sink(&options, &schema(), &Context { name: name.into(), attempt, ..context(&files, 0) }).unwrap()
    };
    let sink = |name: &str, job: &str, generation| of_log(name, job, "here", generation);
    let others = [sink("a", "x", 1), sink("b", "y", 1), sink("a", "y", 1), of_log("a", "y", "there", 1), of_log("a", "y", "", 1)];
    let mut transactions = Vec::new();
    for other in &others {
        let mut writer = other.writer(0, 1).unwrap();
        writer.write(&batch(5)).unwrap();
        transactions.push(writer.prepare().unwrap());
    }
    sink("a", "y", 2).recover(&[]).unwrap();
    others[0].commit(&transactions[0]).unwrap();
    others[1].commit(&transactions[1]).unwrap();
    let error = others[2].commit(&transactions[2]).unwrap_err();
    assert!(error.message.contains("out/part-a-y-here-000001-00000-000000.jsonl are lost"), "{error}");
    assert_eq!(error.kind, crate::error::ErrorKind::Missing, "who has moved the sink is told");
    others[3].commit(&transactions[3]).unwrap();
    others[4].commit(&transactions[4]).unwrap();
    assert_eq!(rows(&files, "out/*.jsonl", &schema()).len(), 20);
}

#[test]
fn wrong_options_are_refused() {
    // Goal: each error names the option and what to do; transactions lead nowhere else.
    let folder = tempfile::tempdir().unwrap();
    let files = Files::confined(folder.path().join("inside")).unwrap();
    let check = |options: &str, part: &str| match bind(&files, options, &schema(), 1) {
        Ok(_) => panic!("{options} is taken"),
        Err(error) => assert!(error.message.contains(part), "\"{error}\" lacks \"{part}\""),
    };
    check("format = \"csv\"", "exactly one of path");
    check("folder = \"out\"\npath = \"x.csv\"", "exactly one of path");
    check("folder = \"out\"", "set format");
    check("folder = \"out\"\nextension = \"txt\"", "format");
    check("folder = \"out\"\nextension = \"../csv\"", "extension");
    check("path = \"x.csv\"\nroll_bytes = 5", "roll_bytes is for parts only");
    check("folder = \"out\"\nformat = \"csv\"\nroll_bytes = 0", "at least 1");
    check("folder = \"out\"\nformat = \"csv\"\nroll_after = \"soon\"", "no duration");
    check("folder = \"out\"\nformat = \"csv\"\npartition_by = [\"x\"]", "there are: n, carrier");
    check("folder = \"out\"\nformat = \"csv\"\npartition_by = [\"n\", \"carrier\", \"n\"]", "\"n\" twice");
    check("folder = \"out\"\nformat = \"parquet\"\ncompression = \"gzip\"", "no option compression");
    check("folder = \"out\"\nformat = \"csv\"\ns3 = { region = \"x\" }", "url");
    check("url = \"s3://bucket/x\"\nformat = \"csv\"", "job on a server");
    let sink = bind(&files, "folder = \"../out\"\nformat = \"csv\"", &schema(), 1).unwrap();
    assert!(sink.writer(0, 1).is_err());
    assert!(!folder.path().join("out").exists());
    let sink = bind(&files, "folder = \"out\"\nformat = \"csv\"", &schema(), 1).unwrap();
    for bad in ["{\"part\":\"../x\"}", "{\"part\":\"/x\"}", "{\"part\":\"\"}", "{\"part\":1}", "[]"] {
        let error = sink.commit(&[serde_json::from_str(bad).unwrap()]).unwrap_err().message;
        assert!(error.contains("is no transaction of parts"), "{error}");
    }
    let free = Files::free(folder.path());
    let error = |options: &str| bind(&free, options, &schema(), 1).map(drop).unwrap_err().message;
    assert!(error("url = \"ftp://x\"\nformat = \"csv\"").contains("s3://BUCKET/PREFIX"));
    assert!(error("url = \"s3://b/x\"\nformat = \"csv\"\ns3 = { endpoin = \"x\" }").contains("endpoint, region"));
    assert!(error("url = \"s3://b/x\"\nformat = \"csv\"\ns3 = { endpoint = \"http://127.0.0.1:9\" }").contains("allow_http"));
    bind(
        &free,
        "url = \"s3://b/x\"\nformat = \"csv\"\ns3 = { endpoint = \"http://127.0.0.1:9\", allow_http = true }",
        &schema(),
        1,
    )
    .unwrap();
}
