//! The only door to time, and the set-up of logs.
//!
//! Everything that reads a clock or sleeps does it here, so that a simulation can take its place.

pub mod clock;
pub mod sleep;
pub mod telemetry;

pub use clock::Clock;
pub use sleep::sleep_until;
