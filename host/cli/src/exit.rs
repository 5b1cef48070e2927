//! How the command ends.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; a job finished, or was drained |
//! | 1 | it failed, and standard error says why |
//! | 2 | the command line, or a variable that stands for a part of it, is wrong |
//! | 130 | it was interrupted a second time |

use std::process::ExitCode;

use crate::out;

/// The exit code of a command that was interrupted a second time.
pub const INTERRUPTED: u8 = 130;

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// the error, to be told
    Error(anyhow::Error),
    /// it was told already
    Told,
    /// interrupted a second time
    Interrupted,
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

/// Tells what is wrong with what the command was given.
pub fn refuse(wrong: &str) -> ExitCode {
    out::tell(&format!("error: {wrong}"));
    ExitCode::from(2)
}

/// Tells the error, if there is one to tell.
pub fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Error(error)) => {
            out::tell(&format!("error: {error:#}"));
            ExitCode::from(1)
        }
        Err(Failure::Told) => ExitCode::from(1),
        Err(Failure::Interrupted) => ExitCode::from(INTERRUPTED),
    }
}
