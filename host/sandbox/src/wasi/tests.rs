//! What a guest of WASI sees: time and random numbers that a replay sees again, sleeps that take no time, and an output
//! that is the log.

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::Component;
use wasmtime::{Config, Engine};

use crate::host;
use crate::{Level, Limits, LogSink};

/// Writes two lines and a bit to standard output, sleeps for an hour, and returns (now - before the sleep, random).
const GUEST: &str = r#"(component
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $p (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $p))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $error))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $error (type $e))
    (export "error" (type $error (eq $e)))
    (export "output-stream" (type $o (sub resource)))
    (type $stream-error (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $se (eq $stream-error)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $o)) (param "contents" (list u8)) (result (result (error $se)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $s))
    (export "output-stream" (type $o (eq $s)))
    (export "get-stdout" (func (result (own $o))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $p))
    (export "pollable" (type $q (eq $p)))
    (export "now" (func (result u64)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $q))))))
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))

  (core module $libc (memory (export "memory") 1) (data (i32.const 0) "first\nsecond\nthe rest"))
  (core instance $libc (instantiate $libc))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory (core memory $libc "memory"))))
  (core func $drop-stream (canon resource.drop $output-stream))
  (core func $now (canon lower (func $clock "now")))
  (core func $sleep (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core func $random (canon lower (func $random "get-random-u64")))
  (core module $guest
    (import "" "get-stdout" (func $get-stdout (result i32)))
    (import "" "write" (func $write (param i32 i32 i32 i32)))
    (import "" "drop-stream" (func $drop-stream (param i32)))
    (import "" "now" (func $now (result i64)))
    (import "" "sleep" (func $sleep (param i64) (result i32)))
    (import "" "block" (func $block (param i32)))
    (import "" "random" (func $random (result i64)))
    (func (export "slept") (result i64) (local $stream i32) (local $before i64)
      (local.set $stream (call $get-stdout))
      (call $write (local.get $stream) (i32.const 0) (i32.const 21) (i32.const 1024))
      (call $drop-stream (local.get $stream))
      (local.set $before (call $now))
      (call $block (call $sleep (i64.const 3600000000000)))
      (i64.sub (call $now) (local.get $before)))
    (func (export "random") (result i64) (call $random)))
  (core instance $guest (instantiate $guest (with "" (instance
    (export "get-stdout" (func $get-stdout)) (export "write" (func $write)) (export "drop-stream" (func $drop-stream))
    (export "now" (func $now)) (export "sleep" (func $sleep)) (export "block" (func $block)) (export "random" (func $random))))))
  (func (export "slept") (result u64) (canon lift (core func $guest "slept")))
  (func (export "random") (result u64) (canon lift (core func $guest "random"))))"#;

/// Time passes by calls and sleeps alone, random numbers follow from the seed, output arrives as lines.
#[tokio::test]
async fn an_empty_world() {
    let engine = Engine::new(Config::new().epoch_interruption(true).concurrency_support(false)).expect("an engine");
    let component = Component::new(&engine, GUEST).expect("a component");
    let linker = host::linker(&engine).expect("a linker");
    let lines = Arc::new(Mutex::new(vec![]));
    let kept = Arc::clone(&lines);
    let sink = LogSink::new(move |level, line| kept.lock().push((level, line.to_owned())));
    let mut randoms = vec![];
    for seed in [1, 1, 2] {
        let mut store = host::store(&engine, &Limits { seed, ..Limits::default() }, &sink);
        store.set_epoch_deadline(1);
        let instance = linker.instantiate_async(&mut store, &component).await.expect("an instance");
        let slept = instance.get_typed_func::<(), (u64,)>(&mut store, "slept").expect("a function");
        let (ns,) = slept.call_async(&mut store, ()).await.expect("it sleeps");
        assert_eq!(ns, 3_600_000_000_000 + super::LOOK_NS, "an hour and a look at the clock");
        let random = instance.get_typed_func::<(), (u64,)>(&mut store, "random").expect("a function");
        randoms.push(random.call_async(&mut store, ()).await.expect("a number").0);
    }
    assert!(randoms[0] == randoms[1] && randoms[0] != randoms[2], "{randoms:?}");
    let expected = ["first", "second", "the rest"].map(|line| (Level::Info, line.to_owned()));
    assert_eq!(lines.lock()[..3], expected);
}
