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
            out::tell(&format!("error: {}", in_one_line(error.chain())));
            ExitCode::from(1)
        }
        Err(Failure::Told) => ExitCode::from(1),
        Err(Failure::Ended(signal)) => ExitCode::from(signal.exit_code()),
    }
}

/// An error and its causes, the outermost first. Errors of libraries repeat their causes, and those of Weir do so where they say what to do: what was said is not
/// said again.
fn in_one_line<'a>(mut errors: impl Iterator<Item = &'a (dyn std::error::Error + 'static)>) -> String {
    let mut told = errors.next().map_or_else(String::new, ToString::to_string);
    for cause in errors.map(ToString::to_string) {
        if !told.contains(&cause) {
            told = format!("{told}: {cause}");
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    /// Goal: a cause that the error has told already is not told again; one that it has not is.
    #[test]
    fn causes_are_told_once() {
        let full = || std::io::Error::from_raw_os_error(28);
        let text = full().to_string();
        let told = |error: &anyhow::Error| in_one_line(error.chain());
        let repeating = anyhow::Error::new(full()).context(format!("cannot write x: {text}")).context("there is no savepoint");
        assert_eq!(told(&repeating), format!("there is no savepoint: cannot write x: {text}"));
        let plain = Err::<(), _>(full()).context("cannot write x").expect_err("it failed");
        assert_eq!(told(&plain), format!("cannot write x: {text}"));
        assert_eq!(told(&anyhow::Error::new(full())), text);
    }
}
