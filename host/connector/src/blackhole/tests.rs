use arrow_array::{BinaryArray, BooleanArray, Float64Array, Int32Array, StringArray, StringViewArray, UInt64Array};
use arrow_schema::{Field, Schema};

use super::*;

fn context() -> Context {
    Context::new("hole", crate::Files::free("."))
}

fn report(options: &str, columns: Vec<arrow_array::ArrayRef>) -> Report {
    let fields: Vec<_> =
        columns.iter().enumerate().map(|(i, c)| Field::new(format!("c{i}"), c.data_type().clone(), true)).collect();
    let sink = Blackhole.sink(&options.parse().unwrap(), &Arc::new(Schema::new(fields)), &context()).unwrap();
    let mut writer = sink.writer(0, 1).unwrap();
    let rows = columns[0].len();
    writer.write(&Batch::new(rows, columns, None)).unwrap();
    writer.finish().unwrap();
    sink.report()
}

fn step(h: u64, v: u64) -> u64 {
    let h = (h ^ v).wrapping_mul(0xFF51AFD7ED558CCD);
    h ^ (h >> 32)
}

#[test]
fn the_hash_follows_its_definition() {
    // Goal: a row with a field of each type hashes as the definition says, nulls and both layouts of text included.
    let text = "a text that does not fit into a view";
    let long = text.len() as u64 | u64::from(b'a') << 32 | u64::from(b'w') << 40;
    let short = 2 | u64::from(b'h') << 32 | u64::from(b'i') << 40;
    let rows: [[u64; 8]; 2] =
        [[u64::MAX, 7, 1.5_f64.to_bits(), 1, long, long, short, 1 | 255 << 32 | 255 << 40], [0, 9, 0, 0, 0, short, short, 0]];
    let expected = rows.iter().map(|r| r.iter().fold(0x9E3779B97F4A7C15, |h, &v| step(h, v))).fold(0, u64::wrapping_add);
    let columns: Vec<arrow_array::ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(-1), None])),
        Arc::new(UInt64Array::from(vec![7, 9])),
        Arc::new(Float64Array::from(vec![Some(1.5), None])),
        Arc::new(BooleanArray::from(vec![true, false])),
        Arc::new(StringArray::from(vec![text, ""])),
        Arc::new(StringViewArray::from(vec![text, "hi"])),
        Arc::new(StringViewArray::from(vec!["hi", "hi"])),
        Arc::new(BinaryArray::from(vec![Some(&[255_u8][..]), None])),
    ];
    let sliced: Vec<_> = columns.iter().map(|c| c.slice(1, 1)).collect();
    let report_all = report("", columns);
    assert_eq!((report_all.rows, report_all.checksum), (2, Some(expected)));
    assert_eq!(report("", sliced).checksum, Some(rows[1].iter().fold(0x9E3779B97F4A7C15, |h, &v| step(h, v))));
}

#[test]
fn a_kind_comes_before_the_fields_and_a_latency_column_is_left_out() {
    // Goal: both options change what is hashed as they say, and latencies are reported.
    let column = || -> arrow_array::ArrayRef { Arc::new(UInt64Array::from(vec![5])) };
    let start = 0x9E3779B97F4A7C15;
    assert_eq!(report("kind = 2", vec![column()]).checksum, Some(step(step(start, 2), 5)));
    let with_latency = report("latency_from = \"c1\"", vec![column(), column()]);
    assert_eq!(with_latency.checksum, Some(step(start, 5)));
    assert_eq!(report("checksum = false", vec![column()]).checksum, None);
}

#[test]
fn latencies_are_from_the_column_to_now() {
    // Goal: an instant to come counts as no latency and one long past as the longest, and quantiles are those of the rows.
    let to_come = u64::MAX / 2;
    let column: arrow_array::ArrayRef = Arc::new(UInt64Array::from(vec![to_come, to_come, to_come, 5]));
    let latency_us = report("latency_from = \"c0\"", vec![column]).latency_us;
    assert_eq!(latency_us.iter().map(|(q, _)| *q).collect::<Vec<_>>(), [0.5, 0.9, 0.99, 0.999, 1.0]);
    assert_eq!(latency_us[0].1, 0);
    assert!(latency_us[4].1.abs_diff(LATENCY_US_MAX) < LATENCY_US_MAX / 1000);
}
