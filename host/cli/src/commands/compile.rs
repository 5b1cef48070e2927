//! `weir compile`: the compiler's process, which `weir run`, `weir server` and others start.

use weir_sandbox::{Compiler, compiler};

use crate::exit::Failure;

/// Compiles standard input to standard output, and ends the process as those who started it expect.
pub fn run() -> Result<(), Failure> {
    match compiler::serve()? {
        0 => Ok(()),
        code => std::process::exit(code.into()),
    }
}

/// This program as a compiler for others. None where it does not know where it is: then others compile by themselves.
pub fn in_child() -> Option<Compiler> {
    Some(Compiler { program: std::env::current_exe().ok()?, args: vec!["compile".into()] })
}
