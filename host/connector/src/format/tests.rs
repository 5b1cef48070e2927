use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;

use super::csv::Dialect;
use super::decoder::{Decoder, EXCERPT_BYTES, RECORD_BYTES_MAX, TextFormat};
use super::encoder::Encoder;
use super::malformed::{OnMalformed, Policy};
use crate::{Error, conformance};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
        Field::new("x", DataType::Float64, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true),
    ]))
}

fn csv(null_values: Option<&[&str]>) -> TextFormat {
    let null_values = null_values.map(|nulls| nulls.iter().map(|n| n.to_string()).collect());
    TextFormat::Csv(Dialect { delimiter: b',', header: true, columns: Vec::new(), null_values })
}

fn decoder(format: &TextFormat, schema: &SchemaRef, on_malformed: OnMalformed) -> Decoder {
    let context = crate::Context::new("in", crate::Files::free("."));
    Decoder::new("in".into(), format, schema, Arc::new(Policy::new(on_malformed, None, &context).unwrap())).unwrap()
}

/// Decodes the whole input at once: the rows as JSON lines, and the number of malformed ones.
fn decode(format: &TextFormat, schema: &SchemaRef, on_malformed: OnMalformed, input: &[u8]) -> Result<(String, u64), Error> {
    let mut decoder = decoder(format, schema, on_malformed);
    assert_eq!(decoder.decode(input, true, usize::MAX)?, input.len(), "at the end, all is decoded");
    let (mut text, mut malformed) = (Vec::new(), 0);
    if let Some(fetch) = decoder.take() {
        malformed = fetch.malformed;
        fetch.batches.iter().for_each(|(_, batch)| Encoder::jsonl(schema).unwrap().encode(batch, &mut text));
    }
    Ok((String::from_utf8(text).unwrap(), malformed))
}

fn accepts(format: &TextFormat, input: &str, expected: &str) {
    let (rows, _) = decode(format, &schema(), OnMalformed::Fail, input.as_bytes()).unwrap_or_else(|e| panic!("{input}: {e}"));
    assert_eq!(rows.trim_end(), expected, "{input}");
}

fn refuses(format: &TextFormat, input: &[u8], parts: &[&str]) {
    let Err(error) = decode(format, &schema(), OnMalformed::Fail, input) else { panic!("{} was accepted", input.escape_ascii()) };
    for part in parts {
        assert!(error.message.contains(part), "\"{error}\" lacks \"{part}\"");
    }
}

#[test]
fn json_is_read() {
    // Goal: what JSON allows is read: any order of keys, unknown keys of all kinds, escapes, spaces, duplicates, missing values.
    for (input, expected) in [
        (r#"{"n":1}"#, r#"{"n":1}"#),
        (r#" { "text" : "a" , "n" : -5 } "#, r#"{"n":-5,"text":"a"}"#),
        (r#"{"a":{"n":7,"b":[1,{}, "]"]},"n":1,"c":null,"d":true,"e":-1.5e-3}"#, r#"{"n":1}"#),
        (r#"{"n":1,"text":"\u00e4\ud83e\udd80\n\"\\\/"}"#, r#"{"n":1,"text":"ä🦀\n\"\\/"}"#),
        (r#"{"n":1,"text":"a","n":2,"text":null}"#, r#"{"n":2}"#),
        (r#"{"n":-9223372036854775808,"x":1}"#, r#"{"n":-9223372036854775808,"x":1.0}"#),
        (r#"{"\u006e":1,"x":1e2}"#, r#"{"n":1,"x":100.0}"#),
        (r#"{"n":1,"at":"2015-07-15T02:00:00+02:00"}"#, r#"{"n":1,"at":"2015-07-15T00:00:00Z"}"#),
        (r#"{"n":1,"at":-1}"#, r#"{"n":1,"at":"1969-12-31T23:59:59.999Z"}"#),
        ("{\"n\":1}\r\n\n  \n{\"n\":2}\n", "{\"n\":1}\n{\"n\":2}"),
        ("\u{feff}{\"n\":1}\n", "{\"n\":1}"),
        ("\u{feff}", ""),
        ("", ""),
    ] {
        accepts(&TextFormat::Jsonl, input, expected);
    }
}

#[test]
fn malformed_json_is_refused() {
    // Goal: the error names the line, the column and what was found, also where the malformed value is not wanted.
    let check = |input: &str, parts: &[&str]| refuses(&TextFormat::Jsonl, input.as_bytes(), parts);
    check("{\"n\":1}\n{\"n\":\"1\"}", &["in, line 2", "\"n\": expected an integer", "found \"1\"", "on_malformed"]);
    check(r#"{"text":"a"}"#, &["\"n\" is missing"]);
    check(r#"{"n":null}"#, &["\"n\": a value is required"]);
    check(r#"{"n":9223372036854775808}"#, &["9223372036854775808"]);
    check(r#"{"n":123456789012345678901234567890123456789012}"#, &["1234567890"]);
    check(r#"{"n":1.0}"#, &["found 1.0"]);
    check(r#"{"n":01}"#, &["\"n\""]);
    check(r#"{"n":-}"#, &["\"n\""]);
    check(r#"{"n":1,"text":5}"#, &["\"text\": expected text, found 5"]);
    check(r#"{"n":1,"at":"yesterday"}"#, &["instant", "yesterday"]);
    check(r#"{"n":1,"text":"\x"}"#, &["escape"]);
    check(r#"{"n":1,"text":"\ud800"}"#, &["escape"]);
    check(r#"{"n":1,"skipped":"\q"}"#, &["escape"]);
    check(r#"{"n":1,"skipped":1.}"#, &["number"]);
    check(r#"{"n":1,"skipped":[1 2]}"#, &["','"]);
    check(r#"{"n":1,"text":"a}"#, &["rest of a string", "the end"]);
    check("{\"n\":1,\"text\":\"a\tb\"}", &["control characters"]);
    check(r#"{"n":1} x"#, &["end of the line", "'x'", "byte 9"]);
    check(r#"{"n":1,}"#, &["a key"]);
    check("[1]", &["an object", "'['"]);
    check(&format!("{{\"n\":1,\"deep\":{}", "[".repeat(100_000)), &["deep"]);
    refuses(&TextFormat::Jsonl, b"{\"n\":1,\"text\":\"\xff\"}", &["UTF-8"]);
}

#[test]
fn csv_is_read() {
    // Goal: columns are found by name; quotes, line ends in fields and values that mean none are understood.
    let (plain, na) = (csv(None), csv(Some(&["NA", ""])));
    for (format, input, expected) in [
        (&plain, "x,n,text\n1.5,2,a\n", r#"{"n":2,"text":"a","x":1.5}"#),
        (
            &plain,
            "\u{feff}n,text,x,at\r\n1,\"a \"\"b\"\",\nc\",,2015-07-15T00:00:00Z\r\n",
            r#"{"n":1,"text":"a \"b\",\nc","at":"2015-07-15T00:00:00Z"}"#,
        ),
        (&plain, "n,text\n1,\n2,\"\"\n\n3,NA", "{\"n\":1}\n{\"n\":2,\"text\":\"\"}\n{\"n\":3,\"text\":\"NA\"}"),
        (&na, "n,text,x\n1,NA,NA\n2,\"NA\",-7", "{\"n\":1}\n{\"n\":2,\"text\":\"NA\",\"x\":-7.0}"),
        (&plain, "n,text\n", ""),
    ] {
        let names: Vec<_> = input.lines().next().unwrap_or_default().trim_start_matches('\u{feff}').split(',').collect();
        let wanted: Vec<_> = (0..4).filter(|&i| names.contains(&schema().field(i).name().as_str())).collect();
        let schema = Arc::new(schema().project(&wanted).unwrap());
        let (rows, _) = decode(format, &schema, OnMalformed::Fail, input.as_bytes()).unwrap_or_else(|e| panic!("{input}: {e}"));
        assert_eq!(rows.trim_end(), expected, "{input}");
    }
}

#[test]
fn malformed_csv_is_refused() {
    // Goal: the error names the line, the column and what was found. A record of several lines counts as several.
    let check = |input: &str, parts: &[&str]| refuses(&csv(None), input.as_bytes(), parts);
    check("n,text,x,at\n1,\"a\nb\",,\nz,,,\n", &["in, line 4", "\"n\": expected an integer", "found z"]);
    check("n,text,x,at\n1,a\n", &["2 fields", "\"x\" is number 3"]);
    check("n,text,x,at\n,a,,\n", &["\"n\": a value is required"]);
    check("n,text,x,at\n1,\"a\"b,,\n", &["quote"]);
    check("n,text,x,at\n1,\"a,,\n2,b,,\n", &["line 2", "does not end"]);
    check("n,text,x\n1,a,\n", &["no column \"at\"", "n, text, x"]);
}

#[test]
fn numbers_beyond_the_type_are_refused() {
    // Goal: a finite number is never read as an infinity; the greatest of each type are read, and so are the infinities that CSV spells.
    let floats: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("f", DataType::Float32, false), Field::new("d", DataType::Float64, false)]));
    let formats: [(TextFormat, fn(&str, &str) -> String); 2] =
        [(TextFormat::Jsonl, |f, d| format!("{{\"f\":{f},\"d\":{d}}}")), (csv(None), |f, d| format!("f,d\n{f},{d}\n"))];
    for (format, line) in &formats {
        for (f, d) in [("3.4028235e38", "1.7976931348623157e308"), ("-3.4028235e38", "-1e308"), ("1e-400", "1e-400")] {
            assert!(decode(format, &floats, OnMalformed::Fail, line(f, d).as_bytes()).is_ok(), "{format:?}: {f}, {d}");
        }
        let far = format!("1{}", "0".repeat(400));
        for (f, d, found) in
            [("3.4028236e38", "0", "\"f\""), ("-1e39", "0", "found -1e39"), ("0", "1e400", "\"d\""), ("0", far.as_str(), "…")]
        {
            let Err(error) = decode(format, &floats, OnMalformed::Fail, line(f, d).as_bytes()) else {
                panic!("{format:?}: {f}, {d} was accepted")
            };
            assert!(error.message.contains("in the range of the column's type") && error.message.contains(found), "{error}");
        }
    }
    for text in ["inf", "-inf", "Infinity", "+infinity", "NaN"] {
        let input = format!("f,d\n{text},{text}\n");
        assert!(decode(&csv(None), &floats, OnMalformed::Fail, input.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn malformed_headers_fail_whatever_the_policy() {
    // Goal: no line is taken for a header that is not the first one, and the advice is not to pass over such lines.
    for (input, part) in
        [(&b"n,\xe4,text,x,at\n1,,,,\n"[..], "convert the input to UTF-8"), (&b"\"n,text,x,at\n1,,,\n"[..], "does not end")]
    {
        for on_malformed in [OnMalformed::Fail, OnMalformed::Skip] {
            let Err(error) = decode(&csv(None), &schema(), on_malformed, input) else { panic!("{part}: it was accepted") };
            assert!(error.message.starts_with("the header of in: ") && error.message.contains(part), "{error}");
            assert!(!error.message.contains("on_malformed"), "{error}");
        }
    }
}

#[test]
fn byte_order_marks_are_passed_over() {
    // Goal: of all formats, with or without a header, wherever the input is cut; anywhere but at the beginning, it is text.
    let numbers: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let columns = TextFormat::Csv(Dialect { delimiter: b',', header: false, columns: vec!["n".into()], null_values: None });
    for (format, input, first) in
        [(&columns, "1\n\u{feff}2\n", 1), (&csv(None), "n\n1\n\u{feff}2\n", 2), (&TextFormat::Jsonl, "{\"n\":1}\n\u{feff}2\n", 1)]
    {
        let input = format!("\u{feff}{input}");
        for cut in 0..input.len() {
            let mut decoder = decoder(format, &numbers, OnMalformed::DeadLetter);
            let used = decoder.decode(&input.as_bytes()[..cut], false, usize::MAX).unwrap();
            assert_eq!(used + decoder.decode(&input.as_bytes()[used..], true, usize::MAX).unwrap(), input.len());
            let fetch = decoder.take().unwrap();
            assert_eq!((fetch.events, fetch.malformed, fetch.rejects[0].position), (2, 1, first + 1), "{format:?}, {cut}");
            assert_eq!(fetch.batches[0].1.column(0).as_primitive::<Int64Type>().values(), &[1], "{format:?}, {cut}");
        }
    }
}

#[test]
fn malformed_lines_are_passed_over() {
    // Goal: with skip, exactly the good lines come, the others are counted, and a half-read row leaves no trace.
    let input = "{\"n\":1,\"text\":\"a\"}\nnonsense\n{\"text\":\"b\",\"n\":false}\n{\"n\":2}\n{\"n\":3,\"text\":\"c";
    let (rows, malformed) = decode(&TextFormat::Jsonl, &schema(), OnMalformed::Skip, input.as_bytes()).unwrap();
    assert_eq!((rows.as_str(), malformed), ("{\"n\":1,\"text\":\"a\"}\n{\"n\":2}\n", 3));
    let input = "n,text,x,at\nz,a,,\n1,a,,\n1,a\n2,\"open,,\n3,,,\n";
    let (rows, malformed) = decode(&csv(None), &schema(), OnMalformed::Skip, input.as_bytes()).unwrap();
    assert_eq!((rows.as_str(), malformed), ("{\"n\":1,\"text\":\"a\"}\n{\"n\":3}\n", 3));
}

/// Decodes what comes in blocks, an event at a time, as a reader does: the numbers of the rows and the texts of malformed lines, each with
/// its line. No more than a record and a block may be kept, and no position may be within a line.
fn decode_blocks(format: &TextFormat, input: &[u8], block: usize) -> (Vec<(u64, i64)>, Vec<(u64, String)>) {
    let numbers: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let mut decoder = decoder(format, &numbers, OnMalformed::DeadLetter);
    let (mut rows, mut malformed) = (Vec::new(), Vec::new());
    let (mut from, mut to, mut at_end) = (0, 0, false);
    loop {
        from += decoder.decode(&input[from..to], at_end, 1).unwrap();
        if !at_end && !decoder.has_enough(1) {
            assert!(to - from <= RECORD_BYTES_MAX + 2, "{} bytes are kept", to - from);
            at_end = to == input.len();
            to = input.len().min(to + block);
            continue;
        }
        assert!(from == input.len() || input[from - 1] == b'\n', "{from} is within a line");
        let Some(fetch) = decoder.take() else { return (rows, malformed) };
        let positions = fetch.positions.unwrap();
        for (_, batch) in &fetch.batches {
            let numbers = batch.column(0).as_primitive::<Int64Type>().values();
            rows.extend(numbers.iter().enumerate().map(|(row, &number)| (positions.of(0, row), number)));
        }
        malformed.extend(fetch.rejects.into_iter().map(|reject| (reject.position, reject.record)));
    }
}

#[test]
fn lines_that_are_too_long_are_malformed() {
    // Goal: a line of the limit is a row. One that is longer, by a byte or several times, is one malformed line, and the lines after it
    // have their numbers: wherever the input is cut, and whatever the line ends with. What fills the line is such that its rest would be
    // a row wherever it is cut.
    let json = (TextFormat::Jsonl, "{\"n\":0}\n{\"n\":1}\n", " ", "{\"n\":3}", "{\"n\":4}\n{\"n\":5}\n");
    let csv = (csv(None), "n\n1\n", "0", "3", "4\n5\n");
    for (format, before, filler, row, after) in [json, csv] {
        for (over, line_end) in [0, 1, RECORD_BYTES_MAX * 3 / 2].into_iter().flat_map(|o| ["", "\n", "\r\n"].map(|e| (o, e))) {
            let line = filler.repeat(RECORD_BYTES_MAX + over - row.len()) + row;
            let after = if line_end.is_empty() { "" } else { after };
            let input = format!("{before}{line}{line_end}{after}");
            let numbers = [(1, 0), (2, 1), (3, 3), (4, 4), (5, 5)];
            let is_row = |&(line, _): &(u64, i64)| match line {
                1 => matches!(format, TextFormat::Jsonl),
                2 => true,
                3 => over == 0,
                _ => !after.is_empty(),
            };
            let rows: Vec<_> = numbers.into_iter().filter(is_row).collect();
            let malformed = if over == 0 { Vec::new() } else { vec![(3, filler.repeat(EXCERPT_BYTES))] };
            for block in [3 << 20, input.len()] {
                let decoded = decode_blocks(&format, input.as_bytes(), block);
                assert_eq!(decoded.0, rows, "{format:?}, {over}, {line_end:?}, {block}");
                assert_eq!(decoded.1, malformed, "{format:?}, {over}, {line_end:?}, {block}");
            }
        }
    }
}

#[test]
fn records_of_several_lines_that_are_too_long_are_malformed_in_the_first() {
    // Goal: of a field that is quoted for too long, the first line is malformed, and those after it are records: with and without a
    // closing quote, whether or not that is in sight.
    let long = "x".repeat(RECORD_BYTES_MAX * 2 / 3);
    for last in ["5,y\n", "5,y\"\n"] {
        let input = format!("n,x\n1,a\n2,\"b\n3,{long}\n4,{long}\n{last}");
        for block in [3 << 20, input.len()] {
            let (rows, malformed) = decode_blocks(&csv(None), input.as_bytes(), block);
            assert_eq!(rows, [(2, 1), (4, 3), (5, 4), (6, 5)], "{last}, {block}");
            assert_eq!(malformed, [(3, "2,\"b".to_string())], "{last}, {block}");
        }
    }
}

#[test]
fn stray_quotes_make_one_line_malformed() {
    // Goal: a quote that is missing, or that is not doubled, costs the line that it is on, wherever the input is cut: not those up to the next quote, which
    // keep their numbers. Fields of several lines that end as they should are read.
    let cases = [
        ("n,x\n1,a\n2,\"open\n3,c\n4,d\n5,\"q\"\n6,e\n", vec![(2, 1), (4, 3), (5, 4), (6, 5), (7, 6)], vec![(3, "2,\"open")]),
        (
            "n,x\r\n1,a\r\n2,\"open\r\n3,c\r\n4,\"q\"\r\n5,\"d\r\ne\"\r\n6,\"f\"",
            vec![(2, 1), (4, 3), (5, 4), (6, 5), (8, 6)],
            vec![(3, "2,\"open")],
        ),
        ("n,x\n2,\"open\n3,\"\"\n4,\"\"\"q\"\"\"\n5,e\n", vec![(3, 3), (4, 4), (5, 5)], vec![(2, "2,\"open")]),
        ("n,x\n2,\"a\"b,\"open\n3,c\n4,\",\"\n5,e\n", vec![(3, 3), (4, 4), (5, 5)], vec![(2, "2,\"a\"b,\"open")]),
        ("n,x\n2,\"open\n3,\"open\n4,c\n5,\"q\"\n", vec![(4, 4), (5, 5)], vec![(2, "2,\"open"), (3, "3,\"open")]),
        ("n,x\n1,\"a\nb\",c\n4,\"d\ne\"\r\n6,f\n", vec![(2, 1), (4, 4), (6, 6)], vec![]),
    ];
    for (input, rows, malformed) in cases {
        for block in 1..=input.len() {
            let decoded = decode_blocks(&csv(None), input.as_bytes(), block);
            assert_eq!(decoded.0, rows, "{input:?}, {block}");
            let decoded: Vec<_> = decoded.1.iter().map(|(line, text)| (*line, text.as_str())).collect();
            assert_eq!(decoded, malformed, "{input:?}, {block}");
        }
    }
    let text = "n,text,x,at\n1,a,,\n2,\"open,,\n3,b,,\n4,\"c\",,\n";
    let (rows, malformed) = decode(&csv(None), &schema(), OnMalformed::Skip, text.as_bytes()).unwrap();
    let expected = "{\"n\":1,\"text\":\"a\"}\n{\"n\":3,\"text\":\"b\"}\n{\"n\":4,\"text\":\"c\"}\n";
    assert_eq!((rows.as_str(), malformed), (expected, 1));
    refuses(&csv(None), text.as_bytes(), &["in, line 3", "before the next quote", "not doubled"]);
    refuses(&csv(None), b"n,\"text,x,at\n1,\"a\",,\n", &["the header of in", "before the next quote"]);
}

#[test]
fn chains_of_quotes_that_tear_are_malformed_line_by_line() {
    // Goal: where each line begins a quoted field, and the last of these does not end as it should, each is malformed, and what is behind them is read. To
    // look for the end of each of them from its beginning on would be some five hundred gigabytes.
    let line = format!("a\",\"{}\n", "x".repeat(58));
    let count = RECORD_BYTES_MAX / line.len() / 2;
    let input = format!("n,x\n1,a\n{}b\"c\n2,b\n", line.repeat(count));
    for block in [3 << 20, input.len()] {
        let (rows, malformed) = decode_blocks(&csv(None), input.as_bytes(), block);
        assert_eq!(rows, [(2, 1), (count as u64 + 4, 2)], "{block}");
        let texts = std::iter::repeat_n(line.trim_end(), count).chain(["b\"c"]);
        assert_eq!(malformed.len(), count + 1, "{block}");
        assert!((3..).zip(texts).eq(malformed.iter().map(|(line, text)| (*line, text.as_str()))), "{block}");
    }
}

#[test]
fn chains_of_quotes_that_do_not_end_are_malformed_line_by_line() {
    // Goal: where each line begins a quoted field that goes on beyond what a record may have, or to the end of the input, each is malformed, and what
    // is behind them is read. To look for the end of each of them from its beginning on would be some ten thousand gigabytes.
    let filler = "x".repeat(58);
    let line = format!("a\",\"{filler}\n");
    let count = RECORD_BYTES_MAX / line.len() * 5 / 4;
    let input = format!("n,x\n1,a\n{}2,b\n", line.repeat(count));
    for block in [3 << 20, input.len()] {
        let (rows, malformed) = decode_blocks(&csv(None), input.as_bytes(), block);
        assert_eq!(rows, [(2, 1), (count as u64 + 3, 2)], "{block}");
        assert_eq!(malformed.len(), count, "{block}");
        let text = line.trim_end();
        assert!((3..).zip(&malformed).all(|(at, (line, record))| (*line, &**record) == (at, text)), "{block}");
    }
}

#[test]
fn what_is_kept_of_a_line_that_is_too_long_is_text() {
    // Goal: the beginning of a line of text is cut between characters. A header that is too long fails, whatever the policy.
    let line = format!("x{}", "ä".repeat(RECORD_BYTES_MAX / 2));
    let kept = format!("x{}", "ä".repeat(EXCERPT_BYTES / 2 - 1));
    assert_eq!(decode_blocks(&TextFormat::Jsonl, line.as_bytes(), line.len()).1, [(1, kept)]);
    let Err(error) = decode(&csv(None), &schema(), OnMalformed::Skip, line.as_bytes()) else { panic!("it is no header") };
    assert!(error.message.contains("the header of in") && error.message.contains("16 MiB"), "{error}");
    let Err(error) = decode(&TextFormat::Jsonl, &schema(), OnMalformed::Fail, line.as_bytes()) else { panic!("it is no row") };
    assert!(error.message.contains("in, line 1") && error.message.contains("16 MiB"), "{error}");
}

#[test]
fn samples_survive_the_way_through_text() {
    // Goal: every type, and every text that has to be escaped, reads back as it was written.
    for (format, encoder, nested) in [
        (TextFormat::Jsonl, Encoder::jsonl as fn(&SchemaRef) -> Result<Encoder, Error>, true),
        (csv(None), |schema| Encoder::csv(schema, b',', String::new(), true), false),
        (csv(Some(&["NA"])), |schema| Encoder::csv(schema, b',', "NA".into(), true), false),
    ] {
        let (schema, batch) = conformance::sample(nested);
        let encoder = encoder(&schema).unwrap();
        let (mut expected, mut text) = (Vec::new(), encoder.header().to_vec());
        Encoder::jsonl(&schema).unwrap().encode(&batch, &mut expected);
        encoder.encode(&batch, &mut text);
        let (rows, _) = decode(&format, &schema, OnMalformed::Fail, &text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(rows, String::from_utf8(expected).unwrap(), "{format:?}");
    }
}

/// Bytes that look like the formats, but not quite.
fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "\"n\":",
        "\"text\":\"",
        "\"",
        ",",
        "\n",
        "1",
        "-",
        "null",
        "\\",
        "\\u12",
        "[",
        "]",
        "x",
        "é",
        "\r\n",
        "1.5e",
        "n,text,x,at\n",
        ":",
    ]);
    let piece = prop_oneof![8 => pieces.prop_map(|p| p.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in nearly_text()) {
        // Goal: any input is either rows or malformed records; nothing panics, whatever the format.
        let (nested, _) = conformance::sample(true);
        let _ = decode(&TextFormat::Jsonl, &nested, OnMalformed::Skip, &bytes);
        let _ = decode(&TextFormat::Jsonl, &schema(), OnMalformed::Skip, &bytes);
        let _ = decode(&csv(None), &schema(), OnMalformed::Skip, &bytes);
    }

    #[test]
    fn where_the_input_is_cut_does_not_matter(bytes in nearly_text(), cut in 0_usize..200) {
        // Goal: input that arrives in two parts gives the rows that it gives as a whole.
        let header = b"n,text,x,at\n";
        for (format, input) in [(TextFormat::Jsonl, bytes.clone()), (csv(None), [&header[..], &bytes].concat())] {
            let cut = cut.min(input.len());
            let whole = decode(&format, &schema(), OnMalformed::Skip, &input).unwrap();
            let mut decoder = decoder(&format, &schema(), OnMalformed::Skip);
            let used = decoder.decode(&input[..cut], false, usize::MAX).unwrap();
            prop_assert!(used <= cut);
            prop_assert_eq!(used + decoder.decode(&input[used..], true, usize::MAX).unwrap(), input.len());
            let (mut text, mut malformed) = (Vec::new(), 0);
            if let Some(fetch) = decoder.take() {
                malformed = fetch.malformed;
                fetch.batches.iter().for_each(|(_, batch)| Encoder::jsonl(&schema()).unwrap().encode(batch, &mut text));
            }
            prop_assert_eq!((String::from_utf8(text).unwrap(), malformed), whole);
        }
    }

    #[test]
    fn readers_that_go_on_read_the_same(bytes in nearly_text(), block in 1_usize..50) {
        // Goal: what a reader of CSV has learned of quotes that do not end changes nothing: one that has only its position reads the same.
        let columns = vec!["n".to_string(), "x".to_string()];
        let format = TextFormat::Csv(Dialect { delimiter: b',', header: false, columns, null_values: None });
        let numbers: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let (mut expected, mut at, mut lines) = ((Vec::new(), Vec::new()), 0, 0);
        loop {
            let mut decoder = decoder(&format, &numbers, OnMalformed::DeadLetter);
            decoder.set_lines(lines);
            at += decoder.decode(&bytes[at..], true, 1).unwrap();
            lines = decoder.lines();
            let Some(fetch) = decoder.take() else { break };
            let positions = fetch.positions.unwrap();
            for (_, batch) in &fetch.batches {
                expected.0.push((positions.of(0, 0), batch.column(0).as_primitive::<Int64Type>().value(0)));
            }
            expected.1.extend(fetch.rejects.into_iter().map(|reject| (reject.position, reject.record)));
        }
        prop_assert_eq!(decode_blocks(&format, &bytes, block), expected);
    }

    #[test]
    fn any_text_survives_the_way_through_json_and_csv(texts in prop::collection::vec(any::<Option<String>>(), 1..20)) {
        // Goal: escaping and unescaping are inverses.
        let field = Field::new("text", DataType::Utf8, true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), field]));
        let n = arrow_array::Int64Array::from_iter_values(0..texts.len() as i64);
        let batch = weir_types::Batch::new(texts.len(), vec![Arc::new(n), Arc::new(arrow_array::StringArray::from(texts))], None);
        let json = Encoder::jsonl(&schema).unwrap();
        let mut expected = Vec::new();
        json.encode(&batch, &mut expected);
        let expected = String::from_utf8(expected).unwrap();
        prop_assert_eq!(&decode(&TextFormat::Jsonl, &schema, OnMalformed::Fail, expected.as_bytes()).unwrap().0, &expected);
        let csv_encoder = Encoder::csv(&schema, b',', String::new(), true).unwrap();
        let mut text = csv_encoder.header().to_vec();
        csv_encoder.encode(&batch, &mut text);
        prop_assert_eq!(&decode(&csv(None), &schema, OnMalformed::Fail, &text).unwrap().0, &expected);
    }
}
