//! What the tests share: one sandbox, the guest that misbehaves on demand, and rows for it.

use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, StringArray};
use weir_sandbox::{Component, GuestError, Instance, Level, Limits, LogSink, Options, Sandbox};
use weir_types::call::{Input, Slot};

pub static SANDBOX: LazyLock<Sandbox> =
    LazyLock::new(|| Sandbox::new(&Options { max_instances: 64, tick_ms: 1, ..Options::default() }).expect("a sandbox"));

static HOSTILE: LazyLock<Component> = LazyLock::new(|| SANDBOX.load(&hostile_wasm()).expect("the hostile guest loads"));

/// The component of `tests/guests/hostile`.
pub fn hostile_wasm() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/hostile/hostile.wasm");
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}; `make guests` builds it", path.display()))
}

/// Limits that make a test short.
pub fn limits() -> Limits {
    Limits { memory_bytes: 32 << 20, call_deadline: Duration::from_millis(100), reply_bytes: 4 << 20, ..Limits::default() }
}

pub fn args(mode: &str) -> Vec<(String, String)> {
    vec![("mode".into(), mode.into())]
}

/// An instance of the hostile guest.
pub async fn instance(mode: &str) -> Result<Instance, GuestError> {
    HOSTILE.instantiate(&args(mode), &limits(), &LogSink::none()).await
}

/// The hostile guest with a log to look at.
pub async fn instance_with_log(mode: &str) -> (Instance, Lines) {
    let lines = Lines::default();
    let kept = Arc::clone(&lines);
    let sink = LogSink::new(move |level, line| kept.lock().expect("not poisoned").push((level, line.to_owned())));
    (HOSTILE.instantiate(&args(mode), &limits(), &sink).await.expect("it starts"), lines)
}

pub type Lines = Arc<Mutex<Vec<(Level, String)>>>;

/// Four rows of what chain 0 reads.
pub fn rows() -> Vec<ArrayRef> {
    vec![
        Arc::new(StringArray::from(vec![Some("first"), None, Some(""), Some("fourth row")])),
        Arc::new(Int64Array::from(vec![1, -2, 3, i64::MAX])),
    ]
}

/// An input of port 0.
pub fn input<'a>(rows: usize, columns: &'a [ArrayRef], slots: Option<&'a [Slot]>) -> Input<'a> {
    Input { port: 0, split: 0, rows, columns, times: None, slots, watermark: i64::MIN, now: 0 }
}
