//! What a guest of WASI sees: time and random numbers that a replay sees again, sleeps that take no time, an output
//! that is the log, and no network.

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

/// Asks for a socket of TCP, for one of UDP, and for the addresses of a name. Each function returns the number of the error
/// plus 256, or less than 256 if it got what it asked for.
const NETWORKER: &str = r#"(component
  (import "wasi:sockets/network@0.2.0" (instance $network
    (export "network" (type (sub resource)))
    (type $error-code (enum "unknown" "access-denied" "not-supported" "invalid-argument" "out-of-memory" "timeout"
      "concurrency-conflict" "not-in-progress" "would-block" "invalid-state" "new-socket-limit" "address-not-bindable"
      "address-in-use" "remote-unreachable" "connection-refused" "connection-reset" "connection-aborted" "datagram-too-large"
      "name-unresolvable" "temporary-resolver-failure" "permanent-resolver-failure"))
    (export "error-code" (type (eq $error-code)))
    (type $family (enum "ipv4" "ipv6"))
    (export "ip-address-family" (type (eq $family)))))
  (alias export $network "network" (type $network-handle))
  (alias export $network "error-code" (type $error-code))
  (alias export $network "ip-address-family" (type $family))
  (import "wasi:sockets/instance-network@0.2.0" (instance $instance-network
    (alias outer 1 $network-handle (type $n))
    (export "network" (type $network (eq $n)))
    (export "instance-network" (func (result (own $network))))))
  (import "wasi:sockets/tcp@0.2.0" (instance $tcp (export "tcp-socket" (type (sub resource)))))
  (alias export $tcp "tcp-socket" (type $tcp-socket))
  (import "wasi:sockets/tcp-create-socket@0.2.0" (instance $create-tcp
    (alias outer 1 $tcp-socket (type $s)) (alias outer 1 $error-code (type $e)) (alias outer 1 $family (type $f))
    (export "tcp-socket" (type $socket (eq $s)))
    (export "error-code" (type $error (eq $e)))
    (export "ip-address-family" (type $of (eq $f)))
    (export "create-tcp-socket" (func (param "address-family" $of) (result (result (own $socket) (error $error)))))))
  (import "wasi:sockets/udp@0.2.0" (instance $udp (export "udp-socket" (type (sub resource)))))
  (alias export $udp "udp-socket" (type $udp-socket))
  (import "wasi:sockets/udp-create-socket@0.2.0" (instance $create-udp
    (alias outer 1 $udp-socket (type $s)) (alias outer 1 $error-code (type $e)) (alias outer 1 $family (type $f))
    (export "udp-socket" (type $socket (eq $s)))
    (export "error-code" (type $error (eq $e)))
    (export "ip-address-family" (type $of (eq $f)))
    (export "create-udp-socket" (func (param "address-family" $of) (result (result (own $socket) (error $error)))))))
  (import "wasi:sockets/ip-name-lookup@0.2.0" (instance $names
    (alias outer 1 $network-handle (type $n)) (alias outer 1 $error-code (type $e))
    (export "network" (type $network (eq $n)))
    (export "error-code" (type $error (eq $e)))
    (export "resolve-address-stream" (type $addresses (sub resource)))
    (export "resolve-addresses" (func (param "network" (borrow $network)) (param "name" string)
      (result (result (own $addresses) (error $error)))))))

  (core module $libc (memory (export "memory") 1) (data (i32.const 0) "localhost"))
  (core instance $libc (instantiate $libc))
  (core func $network (canon lower (func $instance-network "instance-network")))
  (core func $tcp (canon lower (func $create-tcp "create-tcp-socket") (memory (core memory $libc "memory"))))
  (core func $udp (canon lower (func $create-udp "create-udp-socket") (memory (core memory $libc "memory"))))
  (core func $resolve (canon lower (func $names "resolve-addresses") (memory (core memory $libc "memory"))))
  (core module $guest
    (import "" "memory" (memory 1))
    (import "" "network" (func $network (result i32)))
    (import "" "tcp" (func $tcp (param i32 i32)))
    (import "" "udp" (func $udp (param i32 i32)))
    (import "" "resolve" (func $resolve (param i32 i32 i32 i32)))
    (func $outcome (result i32)
      (i32.or (i32.shl (i32.load8_u (i32.const 16)) (i32.const 8)) (i32.load8_u (i32.const 20))))
    (func (export "tcp") (result i32) (call $tcp (i32.const 0) (i32.const 16)) (call $outcome))
    (func (export "udp") (result i32) (call $udp (i32.const 1) (i32.const 16)) (call $outcome))
    (func (export "name") (result i32)
      (call $resolve (call $network) (i32.const 0) (i32.const 9) (i32.const 16)) (call $outcome)))
  (core instance $guest (instantiate $guest (with "" (instance
    (export "memory" (memory $libc "memory")) (export "network" (func $network)) (export "tcp" (func $tcp))
    (export "udp" (func $udp)) (export "resolve" (func $resolve))))))
  (func (export "tcp") (result u32) (canon lift (core func $guest "tcp")))
  (func (export "udp") (result u32) (canon lift (core func $guest "udp")))
  (func (export "name") (result u32) (canon lift (core func $guest "name"))))"#;

fn engine() -> Engine {
    Engine::new(Config::new().epoch_interruption(true).concurrency_support(false)).expect("an engine")
}

/// Time passes by calls and sleeps alone, random numbers follow from the seed, output arrives as lines.
#[tokio::test]
async fn an_empty_world() {
    let engine = engine();
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

/// Goal: who asks for a socket or the addresses of a name gets an error to deal with, and neither one nor the other.
#[tokio::test]
async fn no_network() {
    const ACCESS_DENIED: u32 = 1;
    const PERMANENT_RESOLVER_FAILURE: u32 = 20;
    let engine = engine();
    let component = Component::new(&engine, NETWORKER).expect("a component");
    let linker = host::linker(&engine).expect("a linker");
    let mut store = host::store(&engine, &Limits::default(), &LogSink::none());
    store.set_epoch_deadline(1);
    let instance = linker.instantiate_async(&mut store, &component).await.expect("an instance");
    for (attempt, error) in [("tcp", ACCESS_DENIED), ("udp", ACCESS_DENIED), ("name", PERMANENT_RESOLVER_FAILURE)] {
        let function = instance.get_typed_func::<(), (u32,)>(&mut store, attempt).expect("a function");
        let (outcome,) = function.call_async(&mut store, ()).await.expect("an error is no trap");
        assert_eq!(outcome, 256 + error, "{attempt}");
    }
}
