//! Finding out whose entries the backend has, so that new keys do not have to ask it: after a restore, when nothing tells, and where entries expire unseen.
//!
//! All keys are read for that, on a thread beside, while the operator goes on by what it knows; after a restore it asks for each new one until then. They lie
//! among the values, so that the disk reads both: where that is very much, new keys go on to ask.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::sync::{Arc, mpsc};
use std::thread;

use weir_state::rocks::KeyScan;
use weir_state::{Learned, Learner};

/// What a backend may have for its keys to be read, bytes: some ten seconds' worth.
pub(super) const READ_BYTES_MAX: u64 = 16 << 30;

/// Keys that are being read; no more once this is dropped.
pub(super) struct Learning {
    learned: Receiver<Learned>,
    stop: Arc<AtomicBool>,
}

impl Learning {
    /// Begins to read. None if there can be no thread for it.
    pub fn begin(keys: KeyScan, learner: Learner) -> Option<Self> {
        let (tell, learned) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let read = move || read(keys, learner, &stopped, &tell);
        thread::Builder::new().name("weir-keys".into()).spawn(read).ok()?;
        Some(Self { learned, stop })
    }

    /// What was found out, once it is; none if it could not be.
    pub fn poll(&self) -> Option<Option<Learned>> {
        match self.learned.try_recv() {
            Ok(learned) => Some(Some(learned)),
            Err(TryRecvError::Disconnected) => Some(None),
            Err(TryRecvError::Empty) => None,
        }
    }
}

impl Drop for Learning {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What fails here is no error yet: the operator meets it where it asks for a key, and says so.
fn read(keys: KeyScan, mut learner: Learner, stop: &AtomicBool, tell: &mpsc::SyncSender<Learned>) {
    let mut complete = true;
    let read = keys.for_each_part(|keys| {
        complete = !stop.load(Ordering::Relaxed) && learner.add(keys).unwrap_or(false);
        complete
    });
    if complete && read.is_ok() {
        // If nobody wants to know, nobody has to be told.
        let _ = tell.send(learner.finish());
    }
}
