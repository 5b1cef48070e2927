//! What this process has used.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

static START: OnceLock<Instant> = OnceLock::new();

/// How long compilers have worked since then.
static ASIDE: Mutex<Duration> = Mutex::new(Duration::ZERO);

/// Remembers this moment as the process's start.
pub fn mark_start() {
    START.get_or_init(Instant::now);
}

/// When the process started, or would have if what was done [aside](aside) had been done before.
pub fn start() -> Instant {
    *START.get_or_init(Instant::now) + *ASIDE.lock()
}

/// Does what could have been done before the process started: it does not count as a part of its own start.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    *ASIDE.lock() += begun.elapsed();
    done
}

/// User and system time of all threads.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// The most memory that was resident at once, in bytes; none where the system does not tell.
pub fn peak_rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is done aside moves the start on by the time that it takes.
    #[test]
    fn what_is_done_aside_is_left_out() {
        let (before, time) = (start(), Duration::from_millis(2));
        aside(|| std::thread::sleep(time));
        assert!(start() >= before + time);
    }
}
