//! Being told to end: by Ctrl-C, or by whoever runs the process (`SIGTERM`).

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// What a process is told to end by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C (`SIGINT`)
    Interrupt,
    /// `SIGTERM`
    Terminate,
}

impl Signal {
    /// The exit code of a process that was ended by it: what a shell makes of one that does not listen, 128 and its number.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Signals to end. None that comes after this is made is lost.
pub struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> io::Result<Self> {
        let listen = unix::signal;
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }
}
