//! How the command ends.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; a job finished, or one was stopped whose input has no end |
//! | 1 | it failed, and standard error says why |
//! | 2 | the command line, or a variable that stands for a part of it, is wrong |
//! | 130 | an interrupt stopped a job before the end of its input, or was the second one |
//! | 143 | the same of `SIGTERM` |

use std::process::ExitCode;

use crate::out;
use crate::signals::Signal;

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// the error, to be told
    Error(anyhow::Error),
    /// it was told already
    Told,
    /// a signal ended it before it was done
    Ended(Signal),
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
        Err(Failure::Ended(signal)) => ExitCode::from(signal.exit_code()),
    }
}
