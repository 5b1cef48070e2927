//! What a spec's `[limits]` mean to the sandbox.

use weir_plan::spec::LimitsSpec;
use weir_sandbox::Limits;

/// What a guest may use, as the job spec says; what it does not say of is as the sandbox has it.
pub fn limits(spec: &LimitsSpec) -> Limits {
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    Limits {
        memory_bytes: bytes(spec.guest_memory.0),
        call_deadline: spec.call_deadline.0,
        log_bytes_per_second: bytes(spec.log_bytes_per_second.0),
        ..Limits::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_plan::units::{SpecDuration, SpecSize};

    use super::*;

    /// Every limit of a spec reaches the sandbox.
    #[test]
    fn all_limits_arrive() {
        let spec = LimitsSpec {
            guest_memory: SpecSize(1),
            call_deadline: SpecDuration(Duration::from_secs(2)),
            log_bytes_per_second: SpecSize(3),
        };
        let limits = limits(&spec);
        assert_eq!((limits.memory_bytes, limits.call_deadline, limits.log_bytes_per_second), (1, Duration::from_secs(2), 3));
    }
}
