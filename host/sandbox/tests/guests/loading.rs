//! What is loaded and what is refused, and the cache.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use weir_sandbox::{ComponentHash, ErrorKind, Options, Sandbox};

use crate::support::{SANDBOX, hostile_wasm};

/// What is no job is refused with a message that says why and what to do.
#[test]
fn strangers_are_refused() {
    let import = |interface: &str| format!("(component (import \"{interface}\" (instance (export \"f\" (func)))))").into_bytes();
    for (wasm, expected) in [
        (b"\0asm\x01\0\0\0".to_vec(), "this is a core module, not a component; build it with `weir build`"),
        (b"\x7fELF and so on".to_vec(), "this is not WebAssembly"),
        (b"\0asm\x0d\0\x01\0garbage".to_vec(), "this is not a valid component"),
        (b"(component (nonsense))".to_vec(), "this is not a valid component"),
        (b"(component)".to_vec(), "does not export `weir:dataflow/definition@0.1.0`"),
        (import("evil:corp/api@1.0.0"), "imports `evil:corp/api@1.0.0`, which is not allowed"),
        // Python imports sockets, needed or not: this is refused for what it lacks.
        (import("wasi:sockets/tcp@0.2.3"), "does not export `weir:dataflow/definition@0.1.0`"),
        (import("wasi:http/outgoing-handler@0.2.3"), "imports `wasi:http/outgoing-handler@0.2.3`, but guests have no network"),
        (import("wasi:http/types@0.2.10"), "build without it (JavaScript: `jco componentize … --disable http fetch-event`)"),
        (import("weir:dataflow/host@9.0.0"), "this version of Weir offers `weir:dataflow/host@0.1.0`"),
    ] {
        let error = SANDBOX.load(&wasm).expect_err(expected);
        assert!(error.message.contains(expected), "{error}");
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
    let small = Sandbox::new(&Options { max_component_bytes: 10, max_instances: 1, ..Options::default() }).expect("a sandbox");
    let error = small.load(&hostile_wasm()).expect_err("too large");
    assert!(error.message.contains("bytes, but a component may have 10 bytes, which no setting changes: leave out"), "{error}");
    assert!(Options::default().component_limit().starts_with("a component may have 64 MiB, which no setting changes"));
}

/// What cannot be a job is refused before it is compiled, and leaves nothing in the cache.
#[test]
fn strangers_are_not_compiled() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().join("compiled");
    let options = Options { cache_dir: Some(cache.clone()), max_instances: 1, ..Options::default() };
    let sandbox = Sandbox::new(&options).expect("a sandbox");
    // The module within imports what it likes: only the component's own imports count.
    let inner = "(core module (import \"any\" \"thing\" (func)))";
    for (wasm, expected) in [
        (format!("(component (import \"evil:corp/api@1.0.0\" (instance)) {inner})"), "imports `evil:corp/api@1.0.0`"),
        (format!("(component {inner})"), "does not export"),
    ] {
        let error = sandbox.load(wasm.as_bytes()).expect_err(expected);
        assert!(error.message.contains(expected), "{error}");
    }
    assert_eq!(fs::read_dir(&cache).expect("a cache").count(), 0);
}

/// A component's face can be seen without running it.
#[test]
fn inspection() {
    let wasm = hostile_wasm();
    let component = SANDBOX.load(&wasm).expect("it loads");
    let inspection = component.inspect();
    assert_eq!(inspection.size, wasm.len());
    assert!(inspection.imports.iter().any(|i| i == "weir:dataflow/host@0.1.0"), "{:?}", inspection.imports);
    assert!(inspection.exports.iter().any(|e| e == "weir:dataflow/chains@0.1.0"), "{:?}", inspection.exports);
    assert!(inspection.producers.iter().any(|p| p.role == "processed-by" && p.name == "rustc"), "{:?}", inspection.producers);
    assert_eq!(component.hash(), ComponentHash::of(&wasm));
    assert_eq!(component.hash().to_string().parse::<ComponentHash>().expect("a hash"), component.hash());
    assert!("12".parse::<ComponentHash>().is_err());
}

/// A component is compiled once; a damaged entry of the cache is found out and made anew.
#[test]
fn the_cache_heals() {
    let dir = tempfile::tempdir().expect("a directory");
    let cache = dir.path().join("compiled");
    let options = Options { cache_dir: Some(cache.clone()), max_instances: 1, ..Options::default() };
    let wasm = hostile_wasm();
    let load = || Sandbox::new(&options).expect("a sandbox").load(&wasm).expect("it loads");
    let entries = || {
        let mut entries: Vec<_> = fs::read_dir(&cache).expect("a cache").map(|e| e.expect("an entry").path()).collect();
        entries.sort();
        entries
    };
    load();
    let written = entries();
    let [code, checksum] = written.as_slice() else { panic!("two files: {written:?}") };
    let good = fs::read(code).expect("the code");
    // A file that is written anew is another file: it takes the place of the one that was there.
    let file = || fs::metadata(code).expect("the code").ino();
    let first = file();
    load();
    assert_eq!((entries(), file()), (written.clone(), first), "the second load compiles nothing");

    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damaged in [&flipped[..], &good[..middle], b""] {
        let damage = file();
        fs::write(code, damaged).expect("written");
        load();
        assert_eq!(fs::read(code).expect("the code"), good, "it was compiled anew");
        assert_ne!(file(), damage);
    }
    let before = file();
    fs::remove_file(checksum).expect("removed");
    load();
    assert_eq!(entries(), written, "the checksum is back");
    assert_ne!(file(), before, "code without a checksum is not run");
    fs::write(checksum, "nonsense").expect("written");
    load();
    assert_eq!(fs::read(checksum).expect("a checksum").len(), 32, "the checksum is made anew");
}
