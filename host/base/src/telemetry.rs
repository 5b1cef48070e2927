//! The process's own log.

use std::ffi::OsString;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The variable that says what is logged.
const WEIR_LOG: &str = "WEIR_LOG";

/// Writes the process's log to standard error. `WEIR_LOG` chooses what (`info`, `weir_worker=debug`, …; `weir::phase=debug` for
/// the [phases](crate::phase) of checkpoints); without it, warnings and errors, or with
/// `verbose` what is of interest to an operator, too.
///
/// # Errors
/// If `WEIR_LOG` cannot be read; the message says what it can be.
pub fn init(verbose: bool) -> Result<(), String> {
    let filter = filter(std::env::var_os(WEIR_LOG), verbose)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Where standard error takes nothing, since the disk is full, it cannot be told there: that would be a panic.
    let log = tracing_subscriber::fmt().with_ansi(colours).log_internal_errors(false);
    // A second call (tests) finds the first one's subscriber: that is fine.
    let _ = log.with_env_filter(filter).with_writer(std::io::stderr).try_init();
    Ok(())
}

/// What is logged.
fn filter(chosen: Option<OsString>, verbose: bool) -> Result<EnvFilter, String> {
    let Some(chosen) = chosen.filter(|chosen| !chosen.is_empty()) else {
        return Ok(EnvFilter::new(if verbose { "info" } else { "warn" }));
    };
    let chosen = chosen.to_string_lossy();
    let wrong = |why: &str| format!("{WEIR_LOG} is \"{chosen}\", and {why}; write it like `info` or `warn,weir_worker=debug`");
    // A word alone would be a part of the process of which all is logged, and with it every misspelt level.
    let is_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
    if let Some(word) = chosen.split(',').map(str::trim).find(|part| !part.contains(['=', '[', '}']) && !is_level(part)) {
        return Err(wrong(&format!("\"{word}\" is no level (off, error, warn, info, debug, trace)")));
    }
    EnvFilter::try_new(&*chosen).map_err(|e| wrong(&format!("that cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What can be read chooses what is logged; what cannot is named, with an example of what can.
    #[test]
    fn choices_are_read() {
        let chosen = |text: &str| filter(Some(text.into()), false);
        let two = vec!["warn", "weir_worker=debug"];
        for (text, filters) in [("info", vec!["info"]), ("WARN,weir_worker=debug", two), ("", vec!["warn"])] {
            let filter = chosen(text).expect("a good choice").to_string();
            let mut found: Vec<_> = filter.split(',').collect();
            found.sort_unstable();
            assert_eq!(found, filters, "{text}");
        }
        assert_eq!(filter(None, true).expect("no choice").to_string(), "info");
        for bad in ["inf", "weir_worker=loud", "warn,weir_worker", "=", "a=b=c"] {
            let error = chosen(bad).expect_err(bad);
            assert!(error.contains(&format!("WEIR_LOG is \"{bad}\"")) && error.contains("weir_worker=debug"), "{error}");
        }
    }
}
