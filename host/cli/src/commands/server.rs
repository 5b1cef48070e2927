//! `weir server`

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use tokio::net::TcpListener;
use tokio::sync::watch;
use weir_base::Clock;
use weir_checkpoint::{Storage, location};
use weir_coordinator::Options;
use weir_coordinator::files::OFFERABLE;
use weir_plan::units::SpecSize;
use weir_sandbox::Sandbox;
use weir_worker::Worker;

use super::compile;
use crate::exit::Failure;
use crate::out;
use crate::signals::Signals;
use crate::state_args::StateArgs;

/// How long requests that are under way have when all jobs have ended.
const REQUESTS_END_WITHIN: Duration = Duration::from_secs(5);

/// Run a server: coordinator, worker and REST interface in one process
///
/// Whoever can reach the address can run jobs: bind it to one that only friends can reach. Files of jobs are in DATA-DIR/files/default.
///
/// Jobs with checkpoints outlive the server: when it starts again with the same DATA-DIR, they go on, however it ended.
///
/// Example: weir server --bind 127.0.0.1:8081 --slots 8 --data-dir /var/lib/weir
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The address to listen on, with an IP address or a name of this machine; port 0 is any free one
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8081",
        value_parser = address,
        env = "WEIR_BIND",
        hide_env_values = true
    )]
    bind: String,

    /// How many slots there are; a job takes as many as its parallelism
    #[arg(
        long,
        value_name = "N",
        default_value_t = Options::default().slots,
        value_parser = clap::value_parser!(u16).range(1..),
        env = "WEIR_SLOTS",
        hide_env_values = true
    )]
    slots: u16,

    /// Where components, compiled code and files of jobs are kept
    #[arg(long, value_name = "DIR", default_value_os_t = Options::default().data_dir, env = "WEIR_DATA_DIR", hide_env_values = true)]
    data_dir: PathBuf,

    /// Where the checkpoints of jobs lie; a folder of DATA-DIR if it is not said. S3 takes its settings from AWS_* variables
    #[arg(long, value_name = "URL", env = "WEIR_CHECKPOINT_STORAGE", hide_env_values = true)]
    checkpoint_storage: Option<String>,

    /// Offer jobs a connector that goes to other machines: they reach by it whatever this one reaches. May be given several times
    #[arg(
        long = "allow-connector",
        value_name = "CONNECTOR",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(OFFERABLE),
        env = "WEIR_ALLOW_CONNECTOR",
        hide_env_values = true
    )]
    allowed_connectors: Vec<String>,

    #[command(flatten)]
    state: StateArgs,

    /// The memory that the evicted state of a job with state.backend = "memory" may take: one that takes more fails. The rows in a job's channels may take as
    /// much, too
    #[arg(long, value_name = "SIZE", default_value = "1GB", env = "WEIR_JOB_MEMORY", hide_env_values = true)]
    job_memory: SpecSize,
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let checkpoint_storage = args.checkpoint_storage.as_deref().map(storage).transpose().context("--checkpoint-storage")?;
    let cache_dir = Some(args.data_dir.join("compiled"));
    let sandbox =
        Sandbox::new(&weir_sandbox::Options { cache_dir, compiler: compile::in_child(), ..weir_sandbox::Options::default() })?;
    let allowed_connectors = args.allowed_connectors.clone();
    let data_dir = args.data_dir.clone();
    let options = Options { data_dir, checkpoint_storage, allowed_connectors, slots: args.slots, ..Options::default() };
    let clock = Clock::system();
    let job_memory = usize::try_from(args.job_memory.0).unwrap_or(usize::MAX);
    let worker =
        Worker::new(args.slots).with_state(args.state.options(|| args.data_dir.join("state"))).with_job_memory(job_memory);
    let (mut service, handle) = options.build(sandbox, worker, clock.clone())?;
    let listener = TcpListener::bind(&args.bind).await.with_context(|| format!("cannot listen on {}", args.bind))?;
    out::tell(&format!("listening on http://{}", listener.local_addr()?));
    service.resume(&handle)?;

    let (stop, stopped) = watch::channel(false);
    let mut signals = Signals::listen()?;
    let told_to_end = async move {
        signals.next().await;
        out::tell("stopping: jobs end, and those with checkpoints go on when the server starts again; once more ends it at once");
        stop.send_replace(true);
        signals.next().await
    };
    let service = service.run(told(stopped.clone()));
    let api = weir_api::serve(listener, handle, clock, told(stopped));
    let (ended, all_jobs_ended) = watch::channel(false);
    let service = async {
        service.await;
        ended.send_replace(true);
    };
    // Who is in the midst of a request may end it; nobody can hold the server up.
    let api = async {
        tokio::select! {
            served = api => served,
            () = async { told(all_jobs_ended).await; tokio::time::sleep(REQUESTS_END_WITHIN).await } => Ok(()),
        }
    };
    tokio::select! {
        ((), served) = async { tokio::join!(service, api) } => Ok(served.context("the REST interface failed")?),
        signal = told_to_end => Err(Failure::Ended(signal)),
    }
}

/// A host and a port. Whether there is such a host is seen when it is listened on.
fn address(text: &str) -> Result<String, String> {
    let is_host = |host: &str| match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(host) => host.parse::<Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/']),
    };
    match text.rsplit_once(':') {
        Some((host, port)) if is_host(host) && port.parse::<u16>().is_ok() => Ok(text.to_owned()),
        _ => Err("write a host and a port, like 127.0.0.1:8081, localhost:8081 or [::1]:8081".to_owned()),
    }
}

/// The URL of the storage where jobs' checkpoints lie. One that can be none is refused before the server listens, not when a job comes.
fn storage(given: &str) -> Result<String> {
    let url = location::url(given, Path::new(""))?;
    // A folder is not looked at: its disk may come later, and jobs wait for it.
    if location::directory(&url).is_none() {
        Storage::open(&url, &[])?;
    }
    Ok(url)
}

/// Completes when the value becomes true, or its sender goes.
async fn told(mut stopped: watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}

#[cfg(test)]
mod tests {
    use super::{address, storage};

    /// Goal: an address may have a name; one without a host or a port is refused, with examples.
    #[test]
    fn addresses_have_hosts_and_ports() {
        for good in ["127.0.0.1:8081", "0.0.0.0:0", "localhost:8081", "[::1]:8081"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "localhost", "8081", ":8081", "localhost:", "localhost:65536", "::1:80", "[::1:80", "http://localhost:8081"]
        {
            let refused = address(bad).expect_err(bad);
            assert!(refused.contains("like 127.0.0.1:8081, localhost:8081"), "{bad}: {refused}");
        }
    }

    /// Goal: what can be no storage is refused; a folder is one, and is not made yet.
    #[test]
    fn wrong_storages_are_refused() {
        for (given, says) in [
            ("s3:/x", "the storage \"s3:/x\" begins as a URL does and is none"),
            ("s3://", "names no bucket"),
            ("ftp://x/y", "ftp:// is no storage"),
            ("file://elsewhere/x", "names no directory of this machine"),
            ("", "the storage is empty"),
        ] {
            let refused = storage(given).expect_err(given).to_string();
            assert!(refused.contains(says), "{given}: {refused}");
        }
        // Nobody could make one there.
        assert_eq!(storage("/proc/nowhere").expect("a folder"), "file:///proc/nowhere/");
        assert_eq!(storage("file:///proc/nowhere").expect("a folder"), "file:///proc/nowhere");
    }
}
