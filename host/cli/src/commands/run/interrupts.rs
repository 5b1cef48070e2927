//! Interrupts of a run, of which the second ends it, whatever its threads wait for.

use std::time::Duration;
use std::{io, process, thread};

use tokio::runtime::Builder;
use tokio::sync::mpsc;

use crate::signals::{Signal, Signals};

/// How long after a second interrupt the process may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// How long the job may take of that; in the rest, it is told what the job has done.
pub const JOB_GRACE: Duration = Duration::from_millis(1500);

/// Begins to listen: the first two interrupts come out of the channel. Some time after the second one, the process ends.
///
/// Where nobody reads what the process prints, the threads of the job and the one that drives it may all wait for that, with the locks
/// that others need. So another thread listens, which needs no lock and prints nothing.
///
/// # Errors
/// If the system refuses.
pub fn listen() -> io::Result<mpsc::UnboundedReceiver<Signal>> {
    let signals = Signals::listen()?;
    let (sender, interrupts) = mpsc::unbounded_channel();
    thread::Builder::new().name("interrupts".to_owned()).spawn(move || {
        // With a runtime of its own, which learns of signals when all threads of the other one wait.
        let runtime = Builder::new_current_thread().enable_all().build().expect("the system has given a thread already");
        runtime.block_on(pass_on(signals, sender));
    })?;
    Ok(interrupts)
}

async fn pass_on(mut signals: Signals, interrupts: mpsc::UnboundedSender<Signal>) {
    // If nobody drives the job any more, the process is about to end, or waits for a reader.
    let _ = interrupts.send(signals.next().await);
    let second = signals.next().await;
    let _ = interrupts.send(second);
    tokio::time::sleep(GRACE).await;
    // This writes nothing: what a run prints does not go through the buffer of `io::stdout()`, which is flushed here.
    process::exit(second.exit_code().into());
}
