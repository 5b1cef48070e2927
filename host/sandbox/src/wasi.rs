//! An empty world for guests whose language insists on WASI: no files, no network, no environment, no arguments, a clock
//! and random numbers that are the same in every replay, and output that goes to the job's log. Sockets are there to be asked
//! for, since Python imports them whether or not it uses any; nobody gets one.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream, WasiCli, WasiCliView as _};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::{cli, clocks, filesystem, io, random, sockets};
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult, subscribe};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, async_trait};

use crate::host::Host;
use crate::log::{GuestLog, Level};

/// The most handles (streams, pollables) that a guest can hold.
const HANDLES_MAX: usize = 4096;
/// The most random bytes that one call can ask for.
const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// How far each look at the clock moves it, ns: a guest that waits for time to pass does not wait forever.
const LOOK_NS: u64 = 1_000;

/// The state of an instance's WASI.
pub(crate) struct Wasi {
    context: WasiCtx,
    handles: ResourceTable,
    /// ns since 1970
    clock: u64,
    random: u64,
}

impl Wasi {
    pub(crate) fn new(log: &Arc<Mutex<GuestLog>>, seed: u64, line_bytes: usize) -> Self {
        let output = |level| Output { log: Arc::clone(log), level, line_bytes };
        let mut context = WasiCtxBuilder::new();
        context.stdout(output(Level::Info)).stderr(output(Level::Warn));
        // That is how a context begins, too; but it is too important to be left to that.
        context.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(HANDLES_MAX);
        Self { context: context.build(), handles, clock: 0, random: seed }
    }

    /// Moves the clock on to the processing time of a call. It never goes back.
    pub(crate) fn set_now(&mut self, now_ms: i64) {
        self.clock = self.clock.max(u64::try_from(now_ms).unwrap_or(0).saturating_mul(1_000_000));
    }

    fn look(&mut self) -> u64 {
        self.clock = self.clock.saturating_add(LOOK_NS);
        self.clock
    }

    /// A sleep is over at once, and the clock has moved on by its length.
    fn sleep(&mut self, ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.clock = self.clock.saturating_add(ns);
        let over = self.handles.push(Over)?;
        subscribe(&mut self.handles, over)
    }

    /// SplitMix64: the same numbers for the same seed, good enough for hash maps and shuffles.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        if len > RANDOM_BYTES_MAX {
            return Err(wasmtime::Error::msg(format!("{len} random bytes at once; {RANDOM_BYTES_MAX} are allowed")));
        }
        let mut bytes = Vec::with_capacity(len as usize + 8);
        while (bytes.len() as u64) < len {
            bytes.extend_from_slice(&self.random().to_le_bytes());
        }
        bytes.truncate(len as usize);
        Ok(bytes)
    }
}

/// Links what guests may import of WASI 0.2. HTTP is not there.
pub(crate) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let l = linker;
    io::error::add_to_linker::<_, HasSelf<ResourceTable>>(l, |h| &mut h.wasi.handles)?;
    io::poll::add_to_linker::<_, HasSelf<ResourceTable>>(l, |h| &mut h.wasi.handles)?;
    io::streams::add_to_linker::<_, HasSelf<ResourceTable>>(l, |h| &mut h.wasi.handles)?;
    clocks::wall_clock::add_to_linker::<_, HasSelf<Wasi>>(l, |h| &mut h.wasi)?;
    clocks::monotonic_clock::add_to_linker::<_, HasSelf<Wasi>>(l, |h| &mut h.wasi)?;
    random::random::add_to_linker::<_, HasSelf<Wasi>>(l, |h| &mut h.wasi)?;
    random::insecure::add_to_linker::<_, HasSelf<Wasi>>(l, |h| &mut h.wasi)?;
    random::insecure_seed::add_to_linker::<_, HasSelf<Wasi>>(l, |h| &mut h.wasi)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(l, Host::filesystem)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(l, Host::filesystem)?;
    cli::environment::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(l, Host::cli)?;
    sockets::network::add_to_linker::<_, WasiSockets>(l, &sockets::network::LinkOptions::default(), Host::sockets)?;
    sockets::instance_network::add_to_linker::<_, WasiSockets>(l, Host::sockets)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(l, Host::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(l, Host::sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(l, Host::sockets)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(l, Host::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<_, WasiSockets>(l, Host::sockets)?;
    Ok(())
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi.context, table: &mut self.wasi.handles }
    }
}

impl clocks::wall_clock::Host for Wasi {
    fn now(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        let ns = self.look();
        Ok(clocks::wall_clock::Datetime { seconds: ns / 1_000_000_000, nanoseconds: (ns % 1_000_000_000) as u32 })
    }

    fn resolution(&mut self) -> wasmtime::Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: LOOK_NS as u32 })
    }
}

impl clocks::monotonic_clock::Host for Wasi {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.look())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(LOOK_NS)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.sleep(when.saturating_sub(self.clock))
    }

    fn subscribe_duration(&mut self, ns: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.sleep(ns)
    }
}

impl random::random::Host for Wasi {
    fn get_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random())
    }
}

impl random::insecure::Host for Wasi {
    fn get_insecure_random_bytes(&mut self, len: u64) -> wasmtime::Result<Vec<u8>> {
        self.random_bytes(len)
    }

    fn get_insecure_random_u64(&mut self) -> wasmtime::Result<u64> {
        Ok(self.random())
    }
}

impl random::insecure_seed::Host for Wasi {
    fn insecure_seed(&mut self) -> wasmtime::Result<(u64, u64)> {
        Ok((self.random(), self.random()))
    }
}

/// A sleep that is over.
struct Over;

#[async_trait]
impl Pollable for Over {
    async fn ready(&mut self) {}
}

/// Standard output or standard error, as lines of the log.
struct Output {
    log: Arc<Mutex<GuestLog>>,
    level: Level,
    line_bytes: usize,
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    /// For versions of WASI that are not linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Lines { log: Arc::clone(&self.log), level: self.level, line_bytes: self.line_bytes, line: vec![] })
    }
}

/// One handle on an [`Output`], with the line that is not finished yet.
struct Lines {
    log: Arc<Mutex<GuestLog>>,
    level: Level,
    line_bytes: usize,
    line: Vec<u8>,
}

impl Lines {
    fn end_line(&mut self) {
        self.log.lock().write(self.level, &String::from_utf8_lossy(&self.line));
        self.line.clear();
    }
}

#[async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        for part in bytes.split_inclusive(|&b| b == b'\n') {
            // What the log would cut off anyway is not kept.
            let room = self.line_bytes.saturating_sub(self.line.len());
            self.line.extend_from_slice(&part[..part.len().min(room)]);
            if part.ends_with(b"\n") {
                self.end_line();
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }
}

#[cfg(test)]
mod tests;
