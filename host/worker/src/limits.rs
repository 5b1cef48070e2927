//! What a spec's `[limits]` mean to the sandbox, and its `state.memory_limit` to an operator.

use weir_plan::spec::LimitsSpec;
use weir_sandbox::Limits;
use weir_state::ChangesRoom;

/// The part of the memory for state that the changes of checkpoints may take, if there are any.
const CHANGES_PART: u64 = 4;

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

/// Divides the memory that an operator of a subtask has for its state on disk, bytes: what slots may take, and the room for the changes of checkpoints. None:
/// nobody has set a limit.
pub(crate) fn divide(memory_limit: Option<u64>, has_checkpoints: bool) -> (Option<u64>, ChangesRoom) {
    match memory_limit {
        Some(limit) if has_checkpoints => {
            let room = ChangesRoom::within(usize::try_from(limit / CHANGES_PART).unwrap_or(usize::MAX));
            // Of a small limit, the room may be more than its part.
            let for_changes = (room.bytes() as u64).min(limit / CHANGES_PART);
            (Some(limit - for_changes), room)
        }
        limit => (limit, ChangesRoom::default()),
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

    /// Goal: slots and changes together take no more than the limit, but where that is small; changes no more than a quarter, and than they have use for.
    #[test]
    fn memory_is_divided() {
        const MIB: u64 = 1 << 20;
        let bytes = |(slots, room): (Option<u64>, ChangesRoom)| (slots.unwrap() / MIB, room.bytes() as u64 / MIB);
        assert_eq!(bytes(divide(Some(192 * MIB), true)), (144, 48));
        assert_eq!(bytes(divide(Some(4096 * MIB), true)), (4096 - 144, 144));
        assert_eq!(bytes(divide(Some(4 * MIB), true)), (3, 9), "small pieces would be too many files");
        assert_eq!(divide(Some(5), true).0, Some(4));
        assert_eq!(divide(Some(192 * MIB), false).0, Some(192 * MIB));
        assert_eq!(divide(None, true), (None, ChangesRoom::default()));
    }
}
