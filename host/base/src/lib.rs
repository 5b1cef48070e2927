//! The only door to time, the set-up of logs, and what jobs tell there of their checkpoints.
//!
//! Everything that reads a clock or sleeps does it here, so that a simulation can take its place.

pub mod clock;
pub mod phase;
pub mod sleep;
pub mod telemetry;

pub use clock::Clock;
pub use phase::Phase;
pub use sleep::sleep_until;
