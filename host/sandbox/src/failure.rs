//! What the engine says about a call that failed, in the words of a user of Weir.

use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;
use weir_types::text;

use crate::engine::one_line;
use crate::error::{GuestError, GuestErrorKind};
use crate::host::{DeadlineExceeded, Denied, Host};
use crate::options::Limits;
use crate::schema::NAME_BYTES_MAX;

/// The most frames that an error carries.
const FRAMES_MAX: usize = 20;

/// The longest message of a guest that an error carries.
const MESSAGE_BYTES_MAX: usize = 4096;

/// In the engine's words: more came out of the guest than may. The error's type is private to the engine, so these words are all there is to
/// know it by; a test (`the_instance_ends`) sees to it that another version's are noticed.
const REPLY_TOO_LARGE: &str = "fuel allocated for hostcalls has been exhausted";

/// A call that did not return.
pub(crate) struct Failure<'a> {
    pub error: &'a wasmtime::Error,
    pub place: &'a str,
    pub limits: &'a Limits,
    pub starting: bool,
}

impl Failure<'_> {
    pub(crate) fn explain(&self, host: &mut Host) -> GuestError {
        let (kind, message) = self.reason(host);
        GuestError { kind, message: format!("{}: {message}", self.place), backtrace: backtrace(self.error) }
    }

    fn reason(&self, host: &mut Host) -> (GuestErrorKind, String) {
        let Self { error, limits, .. } = self;
        let said = host.log.lock().take_last_error().map(|line| format!("; it said: {line}")).unwrap_or_default();
        if error.downcast_ref::<DeadlineExceeded>().is_some() {
            let deadline = limits.call_deadline;
            return (
                GuestErrorKind::Deadline,
                format!("the call ran for more than {deadline:?}, its limit `limits.call_deadline`{said}"),
            );
        }
        match host.memory.take_denied() {
            Some(Denied::Memory) => {
                let (has, limit) = (host.memory.bytes(), limits.memory_bytes);
                return (
                    GuestErrorKind::Memory,
                    format!(
                        "the guest has {has} bytes of memory and wants more than its limit of {limit} (`limits.guest_memory`){said}"
                    ),
                );
            }
            Some(Denied::Table) => {
                let limit = limits.table_elements;
                return (
                    GuestErrorKind::Memory,
                    format!("the guest wants tables of more than {limit} elements (`table_elements`){said}"),
                );
            }
            None => (),
        }
        if let Some(trap) = error.downcast_ref::<Trap>() {
            let trap = match trap {
                Trap::UnreachableCodeReached => "the guest panicked or gave up (`unreachable`)".to_owned(),
                trap => format!("the guest crashed: {}", trap.to_string().trim_start_matches("wasm trap: ")),
            };
            return (GuestErrorKind::Trap, format!("{trap}{said}"));
        }
        if let Some(exit) = error.downcast_ref::<I32Exit>() {
            return (GuestErrorKind::Trap, format!("the guest exited with status {}{said}", exit.0));
        }
        if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
            let message = "this process has no room for another instance: raise its limit `max_instances`, or run fewer subtasks";
            return (GuestErrorKind::Start, message.to_owned());
        }
        let text = one_line(error);
        if text.contains(REPLY_TOO_LARGE) {
            let limit = limits.reply_bytes;
            return (GuestErrorKind::Memory, format!("the call returned more than {limit} bytes, its limit `reply_bytes`{said}"));
        }
        let kind = if self.starting { GuestErrorKind::Start } else { GuestErrorKind::Trap };
        (kind, format!("{text}{said}"))
    }
}

/// The guest's functions, innermost first.
fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else { return vec![] };
    // The engine's own rendering demangles the names; it has a line for each frame: `0: 0x1f - module!function`.
    let text = trace.to_string();
    let frames = text.lines().skip(1).filter_map(|line| line.split_once(" - ").map(|(_, name)| name));
    frames.take(FRAMES_MAX).map(|name| text::shown(cut(name, NAME_BYTES_MAX)).into_owned()).collect()
}

/// A text of the guest's for an error: on one line, which does nothing to the terminal that shows it, and not longer than people read.
pub(crate) fn message_of_guest(message: &str) -> String {
    let words: Vec<_> = cut(message, MESSAGE_BYTES_MAX).split_whitespace().collect();
    cut(&text::shown(&words.join(" ")), MESSAGE_BYTES_MAX).to_owned()
}

/// The beginning of a text, of so many bytes at most.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}

#[cfg(test)]
mod tests {
    use wasmtime::component::Component;
    use wasmtime::{Config, Engine};

    use super::*;
    use crate::LogSink;
    use crate::host;

    /// What a guest says of an error stays on one line and within its bounds, and neither moves a cursor nor turns the text around.
    #[test]
    fn messages_only_say() {
        assert_eq!(message_of_guest(" no\r\n\tgood \u{2028}\x1b[2J\0\u{9b}m"), "no good \\u{1b}[2J\\u{0}\\u{9b}m");
        assert_eq!(message_of_guest("paid \u{202e}001\u{2066}"), "paid \\u{202e}001\\u{2066}");
        assert_eq!(message_of_guest(&"\0".repeat(MESSAGE_BYTES_MAX)).len(), MESSAGE_BYTES_MAX);
        assert_eq!(message_of_guest(&"ü".repeat(MESSAGE_BYTES_MAX)).len(), MESSAGE_BYTES_MAX);
    }

    /// Two tables of 40 elements; `grow` adds some to the second, and gives up if it cannot, as a guest's allocator does.
    const GUEST: &str = r#"(component
      (core module $guest
        (table 40 funcref)
        (table $grows 40 funcref)
        (func (export "grow") (param i32)
          (if (i32.eq (table.grow $grows (ref.null func) (local.get 0)) (i32.const -1)) (then unreachable))))
      (core instance $guest (instantiate $guest))
      (func (export "grow") (param "by" u32) (canon lift (core func $guest "grow"))))"#;

    /// The limit on tables counts all of an instance's, those that it begins with and what they grow by; an error names it.
    #[tokio::test]
    async fn tables_are_limited() {
        let engine = Engine::new(Config::new().epoch_interruption(true).concurrency_support(false)).expect("an engine");
        let component = Component::new(&engine, GUEST).expect("a component");
        let linker = host::linker(&engine).expect("a linker");
        for (table_elements, starting) in [(100, false), (79, true)] {
            let limits = Limits { table_elements, ..Limits::default() };
            let mut store = host::store(&engine, &limits, &LogSink::none());
            store.set_epoch_deadline(1);
            let started = linker.instantiate_async(&mut store, &component).await;
            let error = match started {
                Err(error) => error,
                Ok(instance) => {
                    let grow = instance.get_typed_func::<(u32,), ()>(&mut store, "grow").expect("a function");
                    grow.call_async(&mut store, (20,)).await.expect("there is room for 100");
                    store.data_mut().begin_call();
                    grow.call_async(&mut store, (1,)).await.expect_err("there is no room for one more")
                }
            };
            let failure = Failure { error: &error, place: "here", limits: &limits, starting };
            let error = failure.explain(store.data_mut());
            assert_eq!(error.kind, GuestErrorKind::Memory, "{error}");
            let expected = format!("here: the guest wants tables of more than {table_elements} elements (`table_elements`)");
            assert_eq!(error.message, expected);
        }
    }
}
