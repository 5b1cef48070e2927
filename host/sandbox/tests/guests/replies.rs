//! Every rule about what a guest returns, broken once: the error says where and what, and the instance stays usable.

use weir_sandbox::GuestErrorKind;
use weir_types::call::Origins;
use weir_types::graph::TimeDomain;

use crate::support::{input, instance, rows};

/// A good reply comes back as the rows that went in.
#[tokio::test]
async fn rows_go_through() {
    let mut guest = instance("none").await.expect("it starts");
    guest.open(0, 0, 1, &[]).await.expect("it opens");
    let columns = rows();
    let reply = guest.process(0, input(4, &columns, None)).await.expect("good rows");
    let [output] = reply.outputs.as_slice() else { panic!("one output") };
    assert_eq!((output.port, output.rows), (0, 4));
    assert!(matches!(output.origins, Origins::Identity));
    assert_eq!(output.columns, columns);
    assert_eq!(guest.calls(), 3);
    assert!(guest.memory_bytes() > 0 && !guest.cpu().is_zero());
}

/// Slices, which start in the middle of bitmaps and of text, go through as well.
#[tokio::test]
async fn slices_go_through() {
    let mut guest = instance("none").await.expect("it starts");
    let columns: Vec<_> = rows().iter().map(|c| c.slice(1, 3)).collect();
    let reply = guest.process(0, input(3, &columns, None)).await.expect("good rows");
    assert_eq!(reply.outputs[0].columns, columns);
}

/// Origins that are picked arrive as they were.
#[tokio::test]
async fn picked_origins() {
    let mut guest = instance("picked").await.expect("it starts");
    let columns = rows();
    let reply = guest.process(0, input(4, &columns, None)).await.expect("good rows");
    let Origins::Picked(picked) = &reply.outputs[0].origins else { panic!("picked origins") };
    assert_eq!(picked.values(), &[3, 2, 1, 0]);
}

/// What breaks a rule is named, by column and row where there are any.
#[tokio::test]
async fn broken_rules_are_named() {
    for (mode, expected) in [
        ("port", "output 9: there are only 1"),
        ("buffers", "4 buffers instead of the 5 that the computed columns (`text`, `number`) have"),
        ("short", "column `number`: the values has 8 bytes instead of 4 × 8"),
        ("first-offset", "column `text`: the first offset is 1 instead of 0"),
        ("backwards", "column `text`: row 1 ends before it starts (offsets 5 and 0)"),
        ("beyond", "column `text`: the last offset is 1048576, but there are 15 bytes"),
        ("negative", "column `text`: row 0 ends before it starts (offsets 0 and -5)"),
        ("utf8", "column `text`: row 0 is not valid UTF-8 (byte 3 of the column)"),
        ("null", "column `number`: row 0 has no value, but the column is not nullable"),
        ("rows", "5 rows come from 4 one by one"),
        ("origins", "row 3 comes from row 4 of 4"),
        ("origins-length", "the list of origins has 7 bytes instead of 4 × 4"),
        ("times", "it has event times, but the chain does not compute any"),
        ("progress", "the chain assigns no event times"),
        ("timer", "only `process` functions can"),
    ] {
        let mut guest = instance(mode).await.expect("it starts");
        let columns = rows();
        let error = guest.process(0, input(4, &columns, None)).await.expect_err(mode);
        assert_eq!(error.kind, GuestErrorKind::Contract, "{mode}: {error}");
        assert!(error.message.starts_with("`process` of chain 0 (`echo`): "), "{mode}: {error}");
        assert!(error.message.contains(expected), "{mode}: {error}");
        assert!(guest.is_usable());
    }
}

/// An offset that cuts a character is found even if the column's bytes are valid as a whole.
#[tokio::test]
async fn cut_characters_are_found() {
    use std::sync::Arc;
    let mut guest = instance("cut").await.expect("it starts");
    let mut columns = rows();
    columns[0] = Arc::new(arrow_array::StringArray::from(vec!["a", "b", "c", "d"]));
    let error = guest.process(0, input(4, &columns, None)).await.expect_err("a cut character");
    assert!(error.message.contains("column `text`: row 1 starts in the middle of a character"), "{error}");
}

/// Timers are for slots that were assigned, and exported states have honest offsets.
#[tokio::test]
async fn slots_are_checked() {
    use std::sync::Arc;
    let keys: Vec<arrow_array::ArrayRef> = vec![Arc::new(arrow_array::Int64Array::from(vec![7, 8]))];
    let mut guest = instance("timer").await.expect("it starts");
    guest.assign_slots(1, &[0, 1], &keys).await.expect("slots");
    let error = guest.process(1, input(2, &[], Some(&[0, 1]))).await.expect_err("a timer for slot 1000");
    assert!(error.message.contains("slot 1000, but only 2 were assigned"), "{error}");
    let mut guest = instance("states").await.expect("it starts");
    guest.assign_slots(1, &[0, 1], &keys).await.expect("slots");
    let error = guest.export_slots(1, &[0, 1]).await.expect_err("offsets that go back");
    assert!(error.message.contains("the state of slot number 1 ends before it starts"), "{error}");
    for (mode, reason) in [
        ("expiries", "the state of slot number 0 ends at 5, before its cleanup at 10"),
        ("third-clock", "the state of slot number 0 expires by clock 2, and there are 0 and 1"),
        ("short-expiries", "the list of ends has 0 bytes instead of 2 × 8"),
    ] {
        let mut guest = instance(mode).await.expect("it starts");
        guest.assign_slots(1, &[0, 1], &keys).await.expect("slots");
        let error = guest.export_slots(1, &[0, 1]).await.expect_err("times that are none");
        assert!(error.message.contains(reason), "{error}");
    }
    let mut guest = instance("expire").await.expect("it starts");
    guest.assign_slots(1, &[0, 1], &keys).await.expect("slots");
    let expiries = guest.export_slots(1, &[0, 1]).await.expect("states").expiries.expect("they expire");
    assert_eq!([0, 1].map(|slot| expiries.get(slot)), [Some((TimeDomain::Processing, 5, 10)); 2]);
}

/// The host's own mistakes are refused before a guest sees them.
#[tokio::test]
async fn wrong_rows_are_refused() {
    let mut guest = instance("none").await.expect("it starts");
    let columns = rows();
    for (given, expected) in [
        (&columns[..1], "the guest reads 2 columns, but was to get 1"),
        (&[columns[1].clone(), columns[0].clone()][..], "column `text` should be of type Utf8, but is Int64"),
        (&[columns[0].slice(0, 2), columns[1].clone()][..], "column `text` has 2 rows instead of 4"),
    ] {
        let error = guest.process(0, input(4, given, None)).await.expect_err(expected);
        assert!(error.message.contains(expected), "{error}");
    }
}
