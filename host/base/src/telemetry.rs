//! The process's own log.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Writes the process's log to standard error. `WEIR_LOG` chooses what (`info`, `weir_worker=debug`, …); without it, warnings and errors, or with
/// `verbose` what is of interest to an operator, too.
pub fn init(verbose: bool) {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new(if verbose { "info" } else { "warn" }));
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Where standard error takes nothing, since the disk is full, it cannot be told there: that would be a panic.
    let log = tracing_subscriber::fmt().with_ansi(colours).log_internal_errors(false);
    // A second call (tests) finds the first one's subscriber: that is fine.
    let _ = log.with_env_filter(filter).with_writer(std::io::stderr).try_init();
}
