// Tests of whole jobs use all of it.
#[allow(dead_code)]
mod server;

use arrow_array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray, UInt64Array};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use tokio::sync::Notify;
use weir_types::Batch;

use self::server::TestServer;
use super::*;
use crate::error::ErrorKind;
use crate::format::encoder::Encoder;
use crate::tls::authority::Authority;
use crate::{Attempt, Delivery, Fetched, Files, conformance, file};

pub(super) fn context(generation: u64) -> Context {
    let attempt = Attempt { job: "job\\1".into(), generation, ..Attempt::default() };
    Context { attempt, ..Context::new("it's", Files::free(".")) }
}

fn bind(options: &str, schema: &SchemaRef, generation: u64) -> Result<Box<dyn Sink>, Error> {
    Postgres.sink(&options.parse().unwrap(), schema, &context(generation))
}

/// Rows of a table as JSON lines of the schema, by way of a file of what the database says.
fn rows(server: &TestServer, select: &str, schema: &SchemaRef) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let text = server.query(&format!("SELECT row_to_json(t)::text FROM ({select}) t")).join("\n");
    std::fs::write(folder.path().join("rows.jsonl"), text).unwrap();
    let options = "path = \"rows.jsonl\"".parse().unwrap();
    let context = Context { files: Files::free(folder.path()), ..context(0) };
    let source = file::File.source(&options, &[Stream { name: String::new(), schema: schema.clone() }], &context).unwrap();
    let mut reader = source.reader(&source.splits(1).unwrap()[0], &Arc::new(Notify::new())).unwrap();
    let (encoder, mut text) = (Encoder::jsonl(schema).unwrap(), Vec::new());
    while let Fetched::Rows(fetch) = reader.read(1000).unwrap() {
        fetch.batches.iter().for_each(|(_, batch)| encoder.encode(batch, &mut text));
    }
    String::from_utf8(text).unwrap().lines().map(String::from).collect()
}

/// A table for the rows of the conformance suite, and columns that they do not have. Instants are milliseconds: the suite has some that no other type takes.
const SAMPLE: &str = "CREATE TABLE sample (id serial PRIMARY KEY, flag boolean, i8 smallint, i16 smallint, i32 integer, i64 bigint,
    u8 smallint, u16 integer, u32 bigint, u64 numeric NOT NULL, f32 real, f64 double precision, at bigint, text text, view varchar(100) NOT NULL,
    bytes bytea, list jsonb, record json, more text, noted_at timestamptz NOT NULL DEFAULT now())";
const SELECT_SAMPLE: &str = "SELECT flag, i8, i16, i32, i64, u8, u16, u32, u64, f32, f64, at, text, view,
    encode(bytes, 'base64') AS bytes, list, record FROM sample";

#[test]
fn appended_rows_conform() {
    // Goal: each row is in the table once, and only once it was committed, in every type; no staging is left.
    let server = TestServer::start();
    server.query(SAMPLE);
    let options = format!("url = \"{}\"\ntable = \"public.sample\"", server.url());
    conformance::transactional(&|schema, generation| bind(&options, schema, generation), true, &|schema| {
        rows(&server, SELECT_SAMPLE, schema)
    });
    let left = server.query("SELECT relname FROM pg_class WHERE relname LIKE 'weir_staging_%' AND relkind = 'r'");
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(server.query("SELECT count(*) FROM weir_commits WHERE committed_at IS NULL"), ["0"]);
}

fn counts() -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("carrier", DataType::Utf8, false),
        Field::new("hour", time, false),
        Field::new("count", DataType::UInt64, false),
        Field::new("note", DataType::Utf8, true),
    ]))
}

fn count(rows: &[(&str, i64, u64, Option<&str>)]) -> Batch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0))),
        Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|r| r.1)).with_timezone("UTC")),
        Arc::new(UInt64Array::from_iter_values(rows.iter().map(|r| r.2))),
        Arc::new(StringArray::from_iter(rows.iter().map(|r| r.3))),
    ];
    Batch::new(rows.len(), columns, None)
}

#[test]
fn upserted_rows_replace_each_other() {
    // Goal: of several rows with a key the last one stays, within a batch and over several; writing them again changes nothing.
    let server = TestServer::start();
    server
        .query("CREATE TABLE \"Counts\" (carrier text, hour timestamptz, count bigint, note text, PRIMARY KEY (hour, carrier))");
    let options = format!("url = \"{}\"\ntable = \"Counts\"\nmode = \"upsert\"\nkey = [\"carrier\", \"hour\"]", server.url());
    let sink = bind(&options, &counts(), 1).unwrap();
    assert_eq!(sink.delivery(), Delivery::Idempotent);
    let select = "SELECT carrier, hour, count, note FROM \"Counts\" ORDER BY carrier, hour";
    for _ in 0..2 {
        let mut writer = sink.writer(0, 1).unwrap();
        writer.write(&count(&[("AA", 0, 1, Some("x")), ("AA", 0, 2, None), ("B'6", 3_600_000, 7, Some("\t\\N"))])).unwrap();
        writer.write(&count(&[("AA", 0, 3, None)])).unwrap();
        writer.flush().unwrap();
        assert_eq!(server.query("SELECT count FROM \"Counts\" WHERE carrier = 'AA' AND hour = 'epoch'"), ["3"]);
        writer.write(&count(&[("AA", 0, 4, Some("last"))])).unwrap();
        assert!(writer.prepare().unwrap().is_empty());
        writer.write(&count(&[("AA", 3_600_250, u64::from(u32::MAX), None)])).unwrap();
        writer.finish().unwrap();
        assert_eq!(
            rows(&server, select, &counts()),
            [
                "{\"carrier\":\"AA\",\"hour\":\"1970-01-01T00:00:00Z\",\"count\":4,\"note\":\"last\"}",
                "{\"carrier\":\"AA\",\"hour\":\"1970-01-01T01:00:00.250Z\",\"count\":4294967295}",
                "{\"carrier\":\"B'6\",\"hour\":\"1970-01-01T01:00:00Z\",\"count\":7,\"note\":\"\\t\\\\N\"}",
            ]
        );
    }
    assert_eq!(sink.report().rows, 12);
    // Many rows for few keys, from writers beside each other.
    let sink = &sink;
    std::thread::scope(|scope| {
        for subtask in 0..3 {
            scope.spawn(move || {
                let mut writer = sink.writer(subtask, 3).unwrap();
                let carriers: Vec<_> = (0..100).map(|n| format!("C{n}")).collect();
                for round in 0..200 {
                    let batch: Vec<_> =
                        carriers.iter().map(|c| (c.as_str(), 0, round, Some("a note that takes some room"))).collect();
                    writer.write(&count(&batch)).unwrap();
                }
                writer.finish().unwrap();
            });
        }
    });
    assert_eq!(server.query("SELECT count(*) || ' ' || min(count) FROM \"Counts\" WHERE carrier LIKE 'C%'"), ["100 199"]);
}

#[test]
fn rows_of_a_key_alone_are_kept_once() {
    // Goal: where all columns are the key, there is nothing to update.
    let server = TestServer::start();
    server.query("CREATE TABLE seen (n bigint NOT NULL); CREATE UNIQUE INDEX ON seen (n)");
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let sink =
        bind(&format!("url = \"{}\"\ntable = \"seen\"\nmode = \"upsert\"\nkey = [\"n\"]", server.url()), &schema, 1).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    let numbers: ArrayRef = Arc::new(Int64Array::from(vec![3, 1, 3, 2]));
    writer.write(&Batch::new(4, vec![numbers], None)).unwrap();
    writer.finish().unwrap();
    assert_eq!(server.query("SELECT n FROM seen ORDER BY n"), ["1", "2", "3"]);
}

#[test]
fn jobs_of_one_name_share_a_table() {
    // Goal: what a job has prepared is neither removed nor stood in the way of by one of the same name whose attempts another log numbers.
    let server = TestServer::start();
    server.query("CREATE TABLE counts (carrier text, hour timestamp, count numeric, note text)");
    let sink = |log: &str, generation| {
        let attempt = Attempt { log: log.into(), ..context(generation).attempt };
        let options = format!("url = \"{}\"\ntable = \"counts\"", server.url());
        Postgres.sink(&options.parse().unwrap(), &counts(), &Context { attempt, ..context(0) }).unwrap()
    };
    let prepare = |sink: &dyn Sink| {
        let mut writer = sink.writer(0, 1).unwrap();
        writer.write(&count(&[("AA", 0, 1, None)])).unwrap();
        writer.prepare().unwrap()
    };
    let here = sink("here", 1);
    let prepared = prepare(&*here);
    for (log, generation) in [("there", 1), ("there", 2), ("", 2)] {
        let other = sink(log, generation);
        other.recover(&[]).unwrap();
        let transactions = prepare(&*other);
        other.commit(&transactions).unwrap();
    }
    here.commit(&prepared).unwrap();
    assert_eq!(server.query("SELECT count(*) FROM counts"), ["4"]);
}

#[test]
fn sinks_outlast_their_sessions() {
    // Goal: the commit comes through after the database has ended all sessions; it moves the rows of several writers in one instant.
    let server = TestServer::start();
    server.query("CREATE TABLE counts (carrier text, hour timestamp, count numeric, note text)");
    let sink = bind(&format!("url = \"{}\"\ntable = \"counts\"", server.url()), &counts(), 1).unwrap();
    sink.recover(&[]).unwrap();
    let mut transactions = Vec::new();
    for subtask in 0..3 {
        let mut writer = sink.writer(subtask, 3).unwrap();
        writer.write(&count(&[("AA", 0, u64::MAX, None)])).unwrap();
        transactions.extend(writer.prepare().unwrap());
    }
    server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'weir'");
    sink.commit(&transactions).unwrap();
    sink.commit(&transactions).unwrap();
    assert_eq!(server.query("SELECT count FROM counts"), ["18446744073709551615"; 3]);
    assert_eq!(server.query("SELECT hour::text FROM counts LIMIT 1"), ["1970-01-01 00:00:00"]);
    assert_eq!(server.query("SELECT count(DISTINCT xmin::text) FROM counts"), ["1"]);
}

#[test]
fn servers_that_hang_are_given_up() {
    // Goal: neither a session nor a connection waits without end for a server that takes what it is sent and does not answer; what was not committed is
    // committed once it does, by another attempt.
    let server = TestServer::start();
    server.query("CREATE TABLE counts (carrier text, hour timestamptz, count bigint, note text)");
    let options = format!("url = \"{}?connect_timeout=1\"\ntable = \"counts\"\ntimeout = \"3s\"", server.url());
    let sink = bind(&options, &counts(), 1).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&count(&[("AA", 0, 1, None)])).unwrap();
    let transactions = writer.prepare().unwrap();
    server.freeze();
    let error = sink.commit(&transactions).unwrap_err();
    assert!(error.message.contains("cannot be reached: no answer within 1s"), "{error}");
    writer.write(&count(&[("BB", 0, 1, None)])).unwrap();
    let error = writer.prepare().unwrap_err();
    assert!(error.message.contains("no answer within 3s"), "{error}");
    server.thaw();
    let sink = bind(&options, &counts(), 2).unwrap();
    sink.recover(&transactions).unwrap();
    sink.commit(&transactions).unwrap();
    assert_eq!(server.query("SELECT carrier FROM counts"), ["AA"]);
}

#[test]
fn connections_are_encrypted() {
    // Goal: a connection is encrypted as `sslmode` says, and only to whom the authority vouches for, by name if that is asked for; no error has the password.
    let (ours, other) = (Authority::new(), Authority::new());
    let server = TestServer::start_with_tls(&ours.identify("localhost").certificate_and_key());
    server.query("CREATE TABLE counts (carrier text, hour timestamptz, count bigint, note text)");
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, authority: &Authority| {
        let path = folder.path().join(name);
        std::fs::write(&path, authority.certificate()).unwrap();
        path.display().to_string()
    };
    let (ours, other) = (write("ours.pem", &ours), write("other.pem", &other));
    let by_address = server.url().replace("weir@", "weir:s3cret@");
    let by_name = by_address.replace("127.0.0.1", "localhost");
    // Whether the writer of these options has an encrypted session.
    let open = |url: &str, options: &str| {
        let sink = bind(&format!("url = \"{url}\"\ntable = \"counts\"\n{options}"), &counts(), 1)?;
        let _writer = sink.writer(0, 1)?;
        let ssl = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'weir'";
        Ok::<_, crate::Error>(server.query(ssl) == ["t"])
    };
    let trusts = |path: &str| format!("sslrootcert = \"{path}\"");
    for (url, options, is_encrypted) in [
        (&by_address, String::new(), true),
        (&by_address, "sslmode = \"disable\"".into(), false),
        (&format!("{by_address}?connect_timeout=10&sslmode=disable"), String::new(), false),
        (&by_address, "sslmode = \"require\"".into(), true),
        (&by_address, format!("sslmode = \"verify-ca\"\n{}", trusts(&ours)), true),
        (&by_name, trusts(&ours), true),
        (&format!("{by_name}?sslmode=verify-full&sslrootcert={ours}"), String::new(), true),
    ] {
        assert_eq!(open(url, &options).unwrap_or_else(|e| panic!("{url} {options}: {e}")), is_encrypted, "{url} {options}");
    }
    for (url, options, why) in [
        (&by_name, trusts(&other), "certificate verify failed"),
        (&by_address, format!("sslmode = \"require\"\n{}", trusts(&other)), "certificate verify failed"),
        (&by_name, "sslmode = \"verify-full\"".into(), "certificate verify failed"),
        (&by_address, trusts(&ours), "certificate verify failed"),
        (&by_name, format!("sslmode = \"prefer\"\n{}", trusts(&ours)), "sslrootcert is for the modes"),
        (&by_name, trusts("gone.pem"), "gone.pem cannot be read"),
        (&by_name, "sslmode = \"sometimes\"".into(), "verify-full"),
        (&format!("{by_name}?sslmode=sometimes"), String::new(), "verify-full"),
    ] {
        let error = open(url, &options).map(drop).unwrap_err();
        assert!(error.message.contains(why) && !error.message.contains("s3cret"), "{url} {options}: {error}");
    }
}

#[test]
fn wrong_tables_are_refused() {
    // Goal: each error names the table, the column and the types, and what to do; rows that a table does not take are malformed.
    let server = TestServer::start();
    server.query(
        "CREATE TABLE narrow (carrier text, hour timestamptz, count smallint);
        CREATE TABLE strict (carrier text, hour timestamptz, count bigint, note text, must text NOT NULL);
        CREATE TABLE made (carrier text, hour timestamptz, count bigint GENERATED ALWAYS AS IDENTITY, note text);
        CREATE TABLE loose (carrier text, hour timestamptz NOT NULL, count bigint, note text NOT NULL);
        CREATE UNIQUE INDEX ON loose (carrier, hour);
        CREATE TABLE late (carrier text NOT NULL, hour timestamptz, count bigint, note text, UNIQUE (carrier) DEFERRABLE);
        CREATE DOMAIN short AS varchar(10); CREATE DOMAIN shorter AS short;
        CREATE TABLE veiled (carrier text, hour timestamptz, count shorter, note text)",
    );
    let open =
        |options: &str| bind(&format!("url = \"{}\"\n{options}", server.url()), &counts(), 1).and_then(|sink| sink.writer(0, 1));
    let check = |options: &str, parts: &[&str]| match open(options) {
        Ok(_) => panic!("{options} is taken"),
        Err(error) => parts.iter().for_each(|part| assert!(error.message.contains(part), "\"{error}\" lacks \"{part}\"")),
    };
    check("table = \"gone\"", &["there is no table gone", "create it"]);
    check("table = \"elsewhere.gone\"", &["there is no table elsewhere.gone"]);
    check("table = \"narrow\"", &["\"count\" of the table narrow", "smallint", "UInt64", "int8, numeric"]);
    check("table = \"strict\"", &["\"must\" of the table strict", "NOT NULL", "DEFAULT"]);
    check("table = \"made\"", &["\"count\" of the table made", "generated"]);
    let upsert = |key: &str| format!("table = \"loose\"\nmode = \"upsert\"\nkey = [{key}]");
    check(&upsert("\"x\""), &["no column \"x\"", "carrier, hour, count, note"]);
    check(&upsert("\"carrier\", \"hour\""), &["\"carrier\" of the table loose", "NOT NULL"]);
    check("table = \"veiled\"", &["\"count\" of the table veiled", "of type shorter", "int8, numeric"]);
    let late = "table = \"late\"\nmode = \"upsert\"\nkey = [\"carrier\"]";
    let advice = "ALTER TABLE \"public\".\"late\" DROP CONSTRAINT \"late_carrier_key\", ADD UNIQUE (\"carrier\")";
    check(late, &["\"late_carrier_key\" of the table late is DEFERRABLE", advice]);
    server.query("CREATE UNIQUE INDEX ON late (carrier)");
    check(late, &["DEFERRABLE"]);
    server.query(advice);
    open(late).unwrap();
    check(&upsert("\"hour\""), &["CREATE UNIQUE INDEX ON \"public\".\"loose\" (\"hour\")"]);
    let mut writer = open("table = \"loose\"").unwrap();
    writer.write(&count(&[("AA", 0, 1, None)])).unwrap();
    let error = writer.prepare().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Malformed);
    assert!(error.message.contains("staging table of the table loose") && error.message.contains("note"), "{error}");
    let mut writer = bind(&format!("url = \"{}\"\ntable = \"loose\"", server.url()), &counts(), 2).unwrap().writer(0, 1).unwrap();
    writer.write(&count(&[("AA", 0, u64::MAX, Some(""))])).unwrap();
    assert!(writer.prepare().unwrap_err().message.contains("18446744073709551615"));
}

#[test]
fn what_somebody_has_to_change_is_not_tried_again() {
    // Goal: rights that are missing, and columns that are taken away while the job runs, are no trouble that passes: what the table lacks is as final as at the
    // start.
    let server = TestServer::start();
    server.query(
        "CREATE TABLE counts (carrier text PRIMARY KEY, hour timestamptz, count bigint, note text);
        CREATE ROLE reader LOGIN; GRANT ALL ON counts TO reader",
    );
    let flush = |url: &str, alter: &str| {
        let options = format!("url = \"{url}\"\ntable = \"counts\"\nmode = \"upsert\"\nkey = [\"carrier\"]");
        let mut writer = bind(&options, &counts(), 1).unwrap().writer(0, 1).unwrap();
        writer.write(&count(&[("AA", 0, 1, None)])).unwrap();
        server.query(alter);
        writer.flush().unwrap_err()
    };
    let error = flush(&server.url().replace("weir@", "reader@"), "REVOKE INSERT ON counts FROM reader");
    assert!(error.kind == ErrorKind::Options && error.message.contains("permission denied for table counts"), "{error}");
    let error = flush(&server.url(), "ALTER TABLE counts DROP COLUMN note");
    assert!(error.kind == ErrorKind::Options && error.message.contains("\"note\""), "{error}");
}

#[test]
fn rows_that_are_refused_late_are_committed_once_they_are_taken() {
    // Goal: a commit that the target refuses says what to change, for it is no other sink that would help; once that is done, another attempt commits the rows.
    let server = TestServer::start();
    server.query("CREATE TABLE counts (carrier text UNIQUE, hour timestamptz, count bigint, note text)");
    let options = format!("url = \"{}\"\ntable = \"counts\"", server.url());
    let sink = bind(&options, &counts(), 1).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&count(&[("AA", 0, 1, None)])).unwrap();
    let transactions = writer.prepare().unwrap();
    let refused = |alter: &str, why: &str| {
        let sink = bind(&options, &counts(), 2).unwrap();
        sink.recover(&transactions).unwrap();
        server.query(alter);
        let error = sink.commit(&transactions).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Malformed, "{error}");
        assert!(error.message.contains(why) && error.message.contains("change the table so that it takes these rows"), "{error}");
    };
    refused("INSERT INTO counts VALUES ('AA', 'epoch', 0, 'it was here before')", "duplicate key");
    server.query("ALTER TABLE counts DROP CONSTRAINT counts_carrier_key");
    refused("ALTER TABLE counts ALTER COLUMN count TYPE boolean USING false", "of type boolean");
    server.query("ALTER TABLE counts ALTER COLUMN count TYPE bigint USING 0");
    let sink = bind(&options, &counts(), 3).unwrap();
    sink.recover(&transactions).unwrap();
    sink.commit(&transactions).unwrap();
    assert_eq!(server.query("SELECT count FROM counts ORDER BY count"), ["0", "1"]);
}

#[test]
fn instants_of_all_years_are_kept() {
    // Goal: an instant is in the table as it was in the row, as far as PostgreSQL's years go; beyond them it is refused for good.
    let server = TestServer::start();
    server.query("CREATE TABLE instants (zoned timestamptz, local timestamp)");
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let fields = ["zoned", "local"].map(|name| Field::new(name, time.clone(), true));
    let schema: SchemaRef = Arc::new(Schema::new(fields.to_vec()));
    let sink = bind(&format!("url = \"{}\"\ntable = \"instants\"", server.url()), &schema, 1).unwrap();
    let batch = |instants: &[i64]| {
        let column: ArrayRef =
            Arc::new(TimestampMillisecondArray::from_iter_values(instants.iter().copied()).with_timezone("UTC"));
        Batch::new(instants.len(), vec![column.clone(), column], None)
    };
    // The first and the last one that there is room for; the ends of the years 2 BC, 1 BC and 9999.
    let kept = [
        -210_866_803_200_000,
        -62_167_219_200_001,
        -62_135_596_800_001,
        -62_135_596_800_000,
        0,
        253_402_300_799_999,
        253_402_300_800_000,
        9_224_318_015_999_999,
    ];
    let mut writer = sink.writer(0, 5).unwrap();
    writer.write(&batch(&kept)).unwrap();
    sink.commit(&writer.prepare().unwrap()).unwrap();
    let expected = kept.map(|instant| format!("{instant} {instant}"));
    let select = "SELECT (extract(epoch FROM zoned) * 1000)::bigint || ' ' || (extract(epoch FROM local) * 1000)::bigint \
                  FROM instants ORDER BY zoned";
    assert_eq!(server.query(select), expected);
    for (beyond, subtask) in [-210_866_803_200_001, 9_224_318_016_000_000, i64::MIN, i64::MAX].into_iter().zip(1..) {
        let mut writer = sink.writer(subtask, 5).unwrap();
        writer.write(&batch(&[beyond])).unwrap();
        let error = writer.prepare().unwrap_err();
        assert!(error.kind == ErrorKind::Malformed && error.message.contains("timestamp out of range"), "{beyond}: {error}");
    }
}

#[test]
fn domains_count_as_what_is_under_them() {
    // Goal: a column of a domain takes what its type takes, however many domains are between; what one of them forbids counts.
    let server = TestServer::start();
    server.query(
        "CREATE DOMAIN whole AS bigint CHECK (VALUE >= 0); CREATE DOMAIN positive AS whole NOT NULL CHECK (VALUE > 0);
        CREATE DOMAIN few AS positive CHECK (VALUE < 10);
        CREATE TYPE names AS ENUM ('AA', 'BB'); CREATE DOMAIN name1 AS names NOT NULL; CREATE DOMAIN name2 AS name1;
        CREATE TABLE counts (carrier name2 UNIQUE, hour timestamptz, count few, note text)",
    );
    let options = format!("url = \"{}\"\ntable = \"counts\"\nmode = \"upsert\"\nkey = [\"carrier\"]", server.url());
    let sink = bind(&options, &counts(), 1).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    writer.write(&count(&[("AA", 0, 1, None), ("BB", 0, 2, None)])).unwrap();
    writer.flush().unwrap();
    assert_eq!(server.query("SELECT count FROM counts ORDER BY count"), ["1", "2"]);
    writer.write(&count(&[("AA", 0, 0, None)])).unwrap();
    let error = writer.flush().unwrap_err();
    assert!(error.kind == ErrorKind::Malformed && error.message.contains("positive_check"), "{error}");
}

#[test]
fn wrong_options_are_refused() {
    // Goal: options that cannot be are refused without a database.
    let url = "url = \"postgres://weir@127.0.0.1:1/x\"";
    let check = |options: &str, part: &str| match bind(options, &counts(), 1) {
        Ok(_) => panic!("{options} is taken"),
        Err(error) => assert!(error.message.contains(part), "\"{error}\" lacks \"{part}\""),
    };
    check("table = \"x\"", "url");
    check(url, "table");
    check(&format!("{url}\ntable = \"\""), "SCHEMA.TABLE");
    check(&format!("{url}\ntable = \"a.\""), "SCHEMA.TABLE");
    check(&format!("{url}\ntable = \"a\"\nmode = \"merge\""), "upsert");
    check(&format!("{url}\ntable = \"a\"\nmode = \"upsert\""), "option key");
    check(&format!("{url}\ntable = \"a\"\nkey = [\"carrier\"]"), "mode = \"upsert\"");
    check(&format!("{url}\ntable = \"a\"\ntimeout = \"0s\""), "more than 0");
    let sink = bind(&format!("{url}\ntable = \"a\""), &counts(), 1).unwrap();
    assert!(sink.writer(0, 1).map(drop).unwrap_err().message.contains("cannot be reached"));
    assert!(sink.commit(&["x".into()]).unwrap_err().message.contains("no transaction of a table"));
}

#[test]
fn confined_jobs_use_no_files_of_the_server() {
    // Goal: a job on a server reaches databases by TCP, but neither a socket nor a certificate outside of its folder.
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    std::fs::write(folder.path().join("secret.pem"), "secret").unwrap();
    let confined = Context { files: Files::confined(&inside).unwrap(), ..context(1) };
    let bind = |url: &str, more: &str| {
        let options = format!("url = \"{url}\"\ntable = \"a\"\n{more}");
        Postgres.sink(&options.parse().unwrap(), &counts(), &confined).map(drop)
    };
    bind("postgres://weir@127.0.0.1:1/x", "").unwrap();
    for url in ["postgres://weir@%2Fvar%2Frun%2Fpostgresql/x", "host=/tmp user=weir", "host=127.0.0.1,/tmp user=weir"] {
        let error = bind(url, "").unwrap_err();
        assert!(error.message.contains("by TCP only"), "{url}: {error}");
    }
    let error = bind("postgres://weir@127.0.0.1:1/x", "sslrootcert = \"../secret.pem\"").unwrap_err();
    assert!(error.message.contains("cannot be read"), "{error}");
}
