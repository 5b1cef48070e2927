//! The compiler, in a process of its own.
//!
//! Compiling takes much memory and, for what somebody has made up, any amount of time; and the compiler is the largest piece of code that untrusted bytes
//! meet. So a process that serves others gives the work to a child that may use only so much of the machine and ends when it is done. Its
//! memory goes with it. The child gets the component on its standard input and gives the code on its standard output: [`serve`] is its part. What comes
//! back is code of the same engine, or is refused: it says which version, settings and processor features it is for.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use wasmtime::{Config, Engine};

use crate::cache::not_valid;
use crate::engine::{codegen, one_line};
use crate::error::Error;

/// How a child compiles.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    /// the program to start, which calls [`serve`]
    pub program: PathBuf,
    /// its arguments
    pub args: Vec<String>,
}

/// The memory that a child may take, bytes.
const CHILD_MEMORY_BYTES_MAX: u64 = 6 << 30;

/// The processor time that a child may take, seconds, over all its threads.
const CHILD_CPU_SECONDS_MAX: u64 = 300;

/// The exit code of a child that has looked at the component and refused it; why, is on its standard error.
const REFUSED: u8 = 3;

/// Compiles in this process.
pub(crate) fn compile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, Error> {
    engine.precompile_component(wasm).map_err(|e| not_valid(&e))
}

impl Compiler {
    /// Compiles in a child.
    pub(crate) fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |e: std::io::Error| Error::internal(format!("the compiler {} cannot be run: {e}", self.program.display()));
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        // The child writes nothing before it has read all. If it has ended early, its exit code says why.
        let sent = child.stdin.take().map(|mut stdin| stdin.write_all(wasm));
        let output = child.wait_with_output().map_err(failed)?;
        let told = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => sent.transpose().map_err(failed).map(|_| output.stdout),
            Some(code) if code == i32::from(REFUSED) => Err(Error::invalid(told.trim_end())),
            _ => Err(Error::invalid(format!(
                "compiling the component took more than it may: {} MiB of memory or {CHILD_CPU_SECONDS_MAX} s of processor time ({}){}",
                CHILD_MEMORY_BYTES_MAX >> 20,
                output.status,
                told.lines().last().map(|line| format!(": {line}")).unwrap_or_default()
            ))),
        }
    }
}

/// The child's part: compiles the component on standard input to standard output, within limits. Returns the exit code.
///
/// # Errors
/// If standard input or output fails.
pub fn serve() -> std::io::Result<u8> {
    let limit = |most| Rlimit { current: Some(most), maximum: Some(most) };
    setrlimit(Resource::Data, limit(CHILD_MEMORY_BYTES_MAX))?;
    setrlimit(Resource::Cpu, limit(CHILD_CPU_SECONDS_MAX))?;
    let mut wasm = vec![];
    std::io::stdin().lock().read_to_end(&mut wasm)?;
    // It runs nothing, so it reserves nothing for instances.
    let mut config = Config::new();
    codegen(&mut config);
    let code = Engine::new(&config).map_err(|e| Error::internal(one_line(&e))).and_then(|engine| compile(&engine, &wasm));
    match code {
        Ok(code) => {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(&code)?;
            stdout.flush()?;
            Ok(0)
        }
        Err(error) => {
            writeln!(std::io::stderr(), "{error}")?;
            Ok(REFUSED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    /// What a child says of a component, and that it has not come to an end, is told; one that cannot be started is no fault of the component's.
    #[test]
    fn children_are_understood() {
        let shell = |script: &str| Compiler { program: "/bin/sh".into(), args: vec!["-c".into(), script.into()] };
        assert_eq!(shell("cat").compile(b"code").expect("it ends well"), b"code");
        let big = vec![7; 1 << 20];
        assert_eq!(shell("cat").compile(&big[..4096]).expect("it ends well").len(), 4096);
        for (script, kind, says) in [
            (
                "cat >/dev/null; echo 'this is not a valid component: no' >&2; exit 3",
                ErrorKind::Invalid,
                "not a valid component: no",
            ),
            ("exit 3", ErrorKind::Invalid, ""),
            ("echo 'memory allocation failed' >&2; exit 134", ErrorKind::Invalid, "more than it may"),
            ("kill -9 $$", ErrorKind::Invalid, "signal: 9"),
        ] {
            let error = shell(script).compile(&big).expect_err(script);
            assert_eq!(error.kind, kind, "{script}");
            assert!(error.message.contains(says), "{script}: {error}");
        }
        let absent = Compiler { program: "/no/such/compiler".into(), args: vec![] };
        let error = absent.compile(b"").expect_err("nothing to run");
        assert_eq!(error.kind, ErrorKind::Internal);
        assert!(error.message.contains("/no/such/compiler cannot be run"), "{error}");
    }
}
