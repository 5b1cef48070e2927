//! The memory of the process.

use std::ffi::c_int;

use libmimalloc_sys::mi_option_set_default;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The option for how long freed memory is kept, ms: `mi_option_purge_delay` of `mimalloc.h`, which the crate gives no name.
const PURGE_DELAY: c_int = 15;

/// The arenas that the C library divides its memory into, at most. RocksDB allocates there, and has more threads than cores: by default each would keep what
/// it has freed in one of its own.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS_MAX: c_int = 2;

/// Gives freed memory back to the system at once instead of after a second. Large blocks come and go while state is read, written and copied: what is freed in a
/// second of that can be a multiple of what is in use. It costs a few percent of the time, so it is for those who have set a limit. The variable
/// `MIMALLOC_PURGE_DELAY` comes first.
#[allow(unsafe_code)]
pub fn give_back_at_once() {
    // SAFETY: it writes a number that other threads read whenever they free something; either one will do.
    unsafe { mi_option_set_default(PURGE_DELAY, 0) }
    // SAFETY: it takes the library's own lock to set a number, which holds for threads that begin to allocate later.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    /// Goal: it is this option of the library that is set, and not another one.
    #[test]
    #[allow(unsafe_code)]
    fn sets_the_delay() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_some() {
            return;
        }
        // SAFETY: nobody else sets options here.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "what the library has set");
        give_back_at_once();
        assert_eq!(delay(), 0);
    }
}
