//! What becomes of rows when a stateless chain fails on some: exactly those that fail by themselves, and again if they are tried again, are passed over.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context as TaskContext, Poll, Waker};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array};
use arrow_schema::{DataType, Field, Schema};
use weir_operator::chain::{ChainOperator, Parts};
use weir_operator::{Body, Context, Error, Failures, NativeChain};
use weir_plan::job::{ChainNode, OnError, Stage};
use weir_plan::spec::ErrorPolicy;
use weir_sandbox::{GuestError, GuestErrorKind};
use weir_state::MemoryBackend;
use weir_types::Batch;
use weir_types::call::{Input, Origins, Output, Reply};
use weir_types::graph::{self, Chain, ColumnOrigin, Head, OperatorInfo, Partitioning};

/// What the chain was asked to do.
#[derive(Default)]
struct Seen {
    rows: AtomicUsize,
    renewals: AtomicUsize,
}

/// Passes numbers on, and fails on some.
struct Picky {
    fails: fn(i64) -> Option<GuestErrorKind>,
    /// calls that fail before any other does what it should
    hiccups: usize,
    /// rows until it has no more memory
    memory: usize,
    used: usize,
    starts: bool,
    seen: Arc<Seen>,
}

impl NativeChain for Picky {
    fn process(&mut self, input: Input<'_>) -> Result<Reply, GuestError> {
        self.seen.rows.fetch_add(input.rows, Relaxed);
        self.used += input.rows;
        if self.hiccups > 0 {
            self.hiccups -= 1;
            return Err(GuestError::new(GuestErrorKind::Deadline, "the machine was busy"));
        }
        if self.used > self.memory {
            return Err(GuestError::new(GuestErrorKind::Memory, "no more memory"));
        }
        let numbers = input.columns[0].as_primitive::<Int64Type>();
        if let Some(kind) = numbers.values().iter().find_map(|&n| (self.fails)(n)) {
            return Err(GuestError::new(kind, "not this one"));
        }
        let columns = vec![Arc::clone(&input.columns[0])];
        let output = Output { port: 0, rows: input.rows, origins: Origins::Identity, times: None, columns };
        Ok(Reply { outputs: vec![output], ..Reply::default() })
    }

    fn renew(&mut self) -> Result<(), GuestError> {
        self.seen.renewals.fetch_add(1, Relaxed);
        self.used = 0;
        if self.starts { Ok(()) } else { Err(GuestError::new(GuestErrorKind::Start, "no room for another instance")) }
    }
}

/// What became of numbers.
struct Passed {
    /// those that came out
    rows: Vec<i64>,
    /// those that became dead letters, with their errors
    given_up: Vec<(i64, String)>,
    failures: Failures,
}

/// Passes the numbers below `count` through the chain; those are skipped on which it fails.
fn pass(picky: Picky, count: i64) -> Result<(Vec<i64>, u64), Error> {
    let passed = pass_by(picky, count, OnError { policy: ErrorPolicy::Skip, ..OnError::default() })?;
    Ok((passed.rows, passed.failures.skipped))
}

/// Passes the numbers below `count` through the chain.
fn pass_by(picky: Picky, count: i64, on_error: OnError) -> Result<Passed, Error> {
    let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
    let input = graph::Input { from: vec![], partitioning: Partitioning::Forward, key: vec![], columns: vec![0], times: false };
    let output = graph::Output { name: String::new(), schema: schema.clone(), columns: vec![ColumnOrigin::Computed] };
    let chain = Chain {
        operators: vec![OperatorInfo { id: "picky".into(), kind: "map".into() }],
        head: Head::Transform,
        inputs: vec![input],
        outputs: vec![output],
        event_time: None,
        parallelism: None,
        state_schema: None,
    };
    let node = ChainNode {
        component: 0,
        index: 0,
        chain,
        inputs: vec![schema.clone()],
        stage: Stage::Complete,
        on_error: OnError::default(),
        dead_letters: None,
    };
    let parts = Parts {
        body: Body::native(Box::new(picky)),
        backend: Box::new(MemoryBackend::default()),
        slots_max: None,
        bytes_max: None,
        max_parallelism: 8,
    };
    let mut operator = ChainOperator::new(&node, &[], Some(parts))?;
    let mut context = Context::new("picky".into(), vec![schema], on_error);
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count));
    let batch = Batch::new(count as usize, vec![numbers], None);
    let mut out = vec![];
    match pin!(operator.on_batch(0, &batch, &mut context, &mut out)).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(result) => result?,
        Poll::Pending => panic!("a native chain does not wait"),
    }
    let numbers = |batch: &Batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    let rows = out.iter().flat_map(|(_, batch)| numbers(batch)).collect();
    let given_up = context.given_up.iter().map(|given_up| (numbers(&given_up.row)[0], given_up.error.to_string())).collect();
    Ok(Passed { rows, given_up, failures: context.failures })
}

fn picky(fails: fn(i64) -> Option<GuestErrorKind>, seen: &Arc<Seen>) -> Picky {
    Picky { fails, hiccups: 0, memory: usize::MAX, used: 0, starts: true, seen: Arc::clone(seen) }
}

/// The rows that fail are missing, the others come in their order; an error that a function returns costs no instance, and the rows behind a bad one are
/// not gone through from the start again.
#[test]
fn bad_rows_alone_are_skipped() {
    let seen = Arc::new(Seen::default());
    let fails = |n| (n % 100 == 7).then_some(GuestErrorKind::Returned);
    let (rows, skipped) = pass(picky(fails, &seen), 4096).expect("rows are skipped");
    assert_eq!(rows, (0..4096).filter(|n| n % 100 != 7).collect::<Vec<_>>());
    assert_eq!((skipped, seen.renewals.load(Relaxed)), (41, 0));
    assert!(seen.rows.load(Relaxed) < 4096 * 12, "{} rows were passed in", seen.rows.load(Relaxed));
}

/// As above, where each failure ends the instance.
#[test]
fn rows_that_crash_are_skipped() {
    let seen = Arc::new(Seen::default());
    let fails = |n| [0, 13, 14, 999].contains(&n).then_some(GuestErrorKind::Trap);
    let (rows, skipped) = pass(picky(fails, &seen), 1000).expect("rows are skipped");
    assert_eq!(rows, (0..1000).filter(|n| ![0, 13, 14, 999].contains(n)).collect::<Vec<_>>());
    assert_eq!(skipped, 4);
}

/// No row is to blame if an instance was full of what came before.
#[test]
fn full_memory_is_no_rows_fault() {
    let seen = Arc::new(Seen::default());
    let chain = Picky { memory: 900, ..picky(|_| None, &seen) };
    let (rows, skipped) = pass(chain, 1000).expect("a new instance has room");
    assert_eq!((rows, skipped), ((0..1000).collect(), 0));
}

/// Nor if no instance can be started: then the job fails.
#[test]
fn a_failed_start_is_no_rows_fault() {
    let seen = Arc::new(Seen::default());
    let chain = Picky { starts: false, ..picky(|n| (n == 5).then_some(GuestErrorKind::Trap), &seen) };
    let error = pass(chain, 10).expect_err("there is no instance to go on with");
    assert!(error.to_string().contains("no room") && error.to_string().contains("\"picky\""), "{error}");
}

/// A call that fails for a while is made again, in a new instance each time, and then no row is given up; one that fails for longer counts as failed, and
/// is looked into row by row.
#[test]
fn failed_calls_are_made_again() {
    let retries = |retries, hiccups| {
        let seen = Arc::new(Seen::default());
        let on_error = OnError { retries, ..OnError::default() };
        pass_by(Picky { hiccups, ..picky(|_| None, &seen) }, 10, on_error).map(|passed| {
            assert_eq!((passed.rows, seen.renewals.load(Relaxed)), ((0..10).collect(), hiccups));
            passed.failures
        })
    };
    assert_eq!(retries(3, 0).expect("nothing fails"), Failures::default());
    assert_eq!(retries(3, 2).expect("the third call works"), Failures { errors: 1, retries: 2, ..Failures::default() });
    assert_eq!(retries(3, 3).expect("the fourth call works"), Failures { errors: 1, retries: 3, ..Failures::default() });
    let error = retries(3, 4).expect_err("there is no fifth call").to_string();
    assert!(error.contains("operator \"picky\" failed on batch 1: the machine was busy"), "{error}");
    let seen = Arc::new(Seen::default());
    let on_error = OnError { retries: 2, policy: ErrorPolicy::Skip, ..OnError::default() };
    let bad = Picky { hiccups: 1, ..picky(|n| (n == 7).then_some(GuestErrorKind::Returned), &seen) };
    let passed = pass_by(bad, 10, on_error).expect("a row is skipped");
    assert_eq!(passed.failures, Failures { errors: 1, retries: 2, skipped: 1, dead_letters: 0 });
    assert_eq!(passed.rows, [0, 1, 2, 3, 4, 5, 6, 8, 9]);
}

/// Dead letters are the rows on which the chain fails, each with its error.
#[test]
fn bad_rows_become_dead_letters() {
    let seen = Arc::new(Seen::default());
    let fails = |n| [3, 500].contains(&n).then_some(GuestErrorKind::Trap);
    let on_error = OnError { policy: ErrorPolicy::DeadLetter, ..OnError::default() };
    let passed = pass_by(picky(fails, &seen), 1000, on_error).expect("rows are given up");
    assert_eq!(passed.rows, (0..1000).filter(|n| ![3, 500].contains(n)).collect::<Vec<_>>());
    assert_eq!(passed.given_up, [3, 500].map(|n| (n, "not this one".to_owned())));
    assert_eq!(passed.failures, Failures { errors: 1, dead_letters: 2, ..Failures::default() });
}
