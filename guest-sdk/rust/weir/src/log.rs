//! The job's log.

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// every step
    Trace,
    /// for whoever looks for a mistake
    Debug,
    /// worth knowing
    Info,
    /// something is odd
    Warn,
    /// a human must look
    Error,
}

/// Writes a line to the job's log; in a test, to standard error. The host cuts long lines, and a flood.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::bindings::weir::dataflow::host;

        let level = match level {
            Level::Trace => host::Level::Trace,
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::log(level, message);
    }
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}
