//! The memory that several backends may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::Error;

/// The memory that the [backends in memory](crate::MemoryBackend) of one job may take together, and do take.
#[derive(Debug)]
pub struct Allowance {
    bytes_max: usize,
    taken: AtomicUsize,
}

impl Allowance {
    /// Of so many bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, taken: AtomicUsize::new(0) }
    }

    /// How many bytes are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }
}

/// What one backend takes of an allowance; it is given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    allowance: Arc<Allowance>,
    bytes: usize,
}

impl Share {
    /// Of nothing yet.
    pub fn of(allowance: Arc<Allowance>) -> Self {
        Self { allowance, bytes: 0 }
    }

    /// The backend takes so many bytes now.
    ///
    /// # Errors
    /// If that is more than before, and more than is allowed with what others take. It counts as taken all the same.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Error> {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let Allowance { bytes_max, taken } = &*self.allowance;
        let Some(more) = bytes.checked_sub(before) else {
            taken.fetch_sub(before - bytes, Relaxed);
            return Ok(());
        };
        let taken = taken.fetch_add(more, Relaxed) + more;
        if more > 0 && taken > *bytes_max {
            return Err(Error::MemoryFull { taken, bytes_max: *bytes_max });
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.allowance.taken.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of one allowance are counted together, and what one gives back another one may take.
    #[test]
    fn shares_are_counted_together() {
        let allowance = Arc::new(Allowance::new(100));
        let [mut one, mut other] = [(); 2].map(|()| Share::of(Arc::clone(&allowance)));
        one.resize(60).expect("there is room");
        other.resize(40).expect("all of it may be taken");
        let error = other.resize(41).expect_err("there is no room").to_string();
        assert!(["101", "100", "rocksdb", "memory_limit", "--job-memory"].iter().all(|said| error.contains(said)), "{error}");
        other.resize(41).expect("it has not grown");
        one.resize(59).expect("it has shrunk");
        assert_eq!(allowance.taken(), 100);
        drop(one);
        other.resize(100).expect("there is room again");
        drop(other);
        assert_eq!(allowance.taken(), 0);
    }
}
