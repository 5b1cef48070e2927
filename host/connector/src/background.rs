//! A runtime for clients that need one.
//!
//! Connectors are called in tasks, and must not wait there for a future: a runtime's thread that drives one cannot drive another. So what clients do runs
//! on a thread of its own, and the caller waits for the result as it would for a disk.

use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};

use crate::Error;

/// A thread that drives futures.
pub(crate) struct Background(Option<Runtime>);

impl Background {
    /// Starts it. `name` is what the system calls the thread.
    pub fn start(name: &str) -> Result<Self, Error> {
        let runtime =
            Builder::new_multi_thread().worker_threads(1).max_blocking_threads(4).thread_name(name).enable_all().build();
        Ok(Self(Some(runtime.map_err(|e| Error::io(format!("the thread {name} cannot be started"), e))?)))
    }

    /// Does some work there, and waits for it.
    pub fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, Error> {
        let (sender, receiver) = mpsc::sync_channel(1);
        if let Some(runtime) = &self.0 {
            runtime.spawn(async move {
                // Whoever asked is there: it waits.
                let _ = sender.send(work.await);
            });
        }
        receiver.recv().map_err(|e| Error::io("a client has failed", e))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Not by its own drop, which waits: that is forbidden where a connector may be dropped.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
