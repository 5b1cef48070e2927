//! `weir run`

mod lines;
mod progress;
mod stdout;
mod summary;

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use weir_base::Clock;
use weir_connector::{Context, Files};
use weir_coordinator::Prepared;
use weir_plan::spec::Binding;
use weir_worker::{Deployment, Failure, JobHandle, Outcome, Worker};

use crate::signals::Signals;
use crate::spec_file::{self, Opened, SpecArgs};
use crate::{exit, out};
use lines::Lines;
use progress::Progress;
use stdout::Stdout;
use summary::Summary;

/// Run a job in this process, until its input ends
///
/// Ctrl-C lets the job finish what it has read, and a second Ctrl-C ends it. The components are files or folders with a guest's
/// sources, relative to the spec; a folder is built first if its sources have changed.
///
/// Example: weir run job.toml --parallelism 4 --set sources.nexmark.events=1000000 --summary text
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,

    /// Subtasks of each vertex; the same as --set parallelism=N
    #[arg(long, short, value_name = "N")]
    parallelism: Option<u16>,

    /// Tell at the end what the job has done: as JSON in the last line of standard output, or as text on standard error
    #[arg(long, value_enum, value_name = "FORMAT")]
    summary: Option<SummaryFormat>,

    /// Show no progress and no guest logs
    #[arg(long, short)]
    quiet: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum SummaryFormat {
    Json,
    Text,
}

/// How long a job that was interrupted twice may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// What a run ended with, besides the job's outcome.
enum Ended {
    Job(Outcome),
    /// interrupted a second time
    Interrupted,
}

/// Runs the job.
pub async fn run(args: &Args) -> Result<(), exit::Failure> {
    let mut spec = SpecArgs { spec: args.spec.spec.clone(), settings: args.spec.settings.clone() };
    spec.settings.extend(args.parallelism.map(|n| ("parallelism".to_owned(), n.to_string())));
    let lines = Lines::new(args.quiet);
    let log = lines.sink();
    let Opened { prepared: Prepared { plan, components }, base } = spec_file::open(&spec, &log).await?;

    let prints = plan.sinks.iter().filter_map(|sink| plan.spec.sinks.get(&sink.name)).any(prints_while_it_runs);
    let watched = std::io::stderr().is_terminal() && !args.quiet && !(prints && std::io::stdout().is_terminal());
    let closed = Arc::new(Notify::new());
    let stdout = Arc::new(parking_lot::Mutex::new(Stdout::new(Arc::clone(&closed), &lines)?));
    let context = Context {
        files: Files::free(base),
        stdout: stdout.clone(),
        name: String::new(),
        attempt: weir_connector::Attempt::default(),
    };
    let (name, parallelism) = (plan.name.clone(), plan.spec.parallelism);
    let slots = plan.vertices.iter().map(|v| v.parallelism).max().unwrap_or(1);
    let deployment = Deployment { plan, components, context, log, clock: Clock::system(), native: None };
    let mut signals = Signals::listen()?;
    let mut handle = match Worker::new(slots).deploy(deployment) {
        Ok(handle) => handle,
        Err(failure) => return Err(tell(&name, &failure)),
    };

    let progress = watched.then(|| Progress::new(&name, &lines));
    let ended = drive(&mut handle, progress.as_ref(), &closed, &mut signals).await;
    let summary = Summary::new(name.clone(), parallelism, handle.metrics());
    drop(progress);
    let mut stdout = stdout.lock();
    stdout.flush()?;
    match args.summary {
        // By the job's own buffer, so that it comes last.
        Some(SummaryFormat::Json) => {
            writeln!(stdout, "{}", serde_json::to_string(&summary)?)?;
            stdout.flush()?;
        }
        Some(SummaryFormat::Text) => out::tell(summary.to_string().trim_end()),
        None if watched => out::tell(summary.to_string().trim_end()),
        None => {}
    }
    match ended {
        Ended::Job(Outcome::Finished) => Ok(()),
        Ended::Job(Outcome::Cancelled) | Ended::Interrupted => Err(exit::Failure::Interrupted),
        Ended::Job(Outcome::Failed { failure }) => Err(tell(&name, &failure)),
    }
}

/// Whether a sink writes rows to the standard output as they come; a table comes at the end.
fn prints_while_it_runs(sink: &Binding) -> bool {
    sink.connector == "stdout" && sink.options.get("format").and_then(|format| format.as_str()) != Some("table")
}

/// Waits for the job's end, shows its progress, and passes interrupts on.
async fn drive(handle: &mut JobHandle, progress: Option<&Progress>, stdout_closed: &Notify, signals: &mut Signals) -> Ended {
    let mut interrupted = false;
    let mut tick = tokio::time::interval(progress::INTERVAL);
    let metrics = Arc::clone(handle.metrics());
    let commander = handle.commander();
    let mut job = std::pin::pin!(handle.wait());
    loop {
        tokio::select! {
            outcome = &mut job => return Ended::Job(outcome),
            _ = tick.tick(), if progress.is_some() => {
                if let Some(progress) = progress {
                    progress.show(&metrics.snapshot());
                }
            }
            // Nobody reads the rows any more (`weir run … | head`): there is no use in making others.
            () = stdout_closed.notified() => commander.send(weir_worker::Command::Drain),
            () = signals.next() => {
                if interrupted {
                    commander.send(weir_worker::Command::Cancel);
                    // If it does not end by itself, so be it.
                    drop(tokio::time::timeout(GRACE, &mut job).await);
                    return Ended::Interrupted;
                }
                interrupted = true;
                out::tell("stopping: the job finishes what it has read; press Ctrl-C again to end it now");
                commander.send(weir_worker::Command::Drain);
            }
        }
    }
}

/// Tells why the job failed.
fn tell(job: &str, failure: &Failure) -> exit::Failure {
    out::tell(&format!("error: the job \"{job}\" failed: {}", failure.message));
    if let Some(operator) = &failure.operator {
        out::tell(&format!("  operator  {operator}"));
    }
    if let Some(subtask) = failure.subtask {
        out::tell(&format!("  subtask   {subtask}"));
    }
    if !failure.backtrace.is_empty() {
        out::tell("  guest backtrace, innermost call first");
        failure.backtrace.iter().for_each(|frame| out::tell(&format!("    {frame}")));
    }
    if let Some(hint) = hint(failure) {
        out::tell(&format!("  hint      {hint}"));
    }
    exit::Failure::Told
}

/// What may help, where the message does not say it.
fn hint(failure: &Failure) -> Option<&'static str> {
    match failure.kind {
        weir_worker::FailureKind::Guest if failure.backtrace.is_empty() => None,
        weir_worker::FailureKind::Guest => {
            Some("`weir build --debug` keeps the guest's line numbers; `on_error = \"skip\"` passes over such rows")
        }
        weir_worker::FailureKind::Internal => Some("this is a bug in Weir; please report it with the output of `weir explain`"),
        weir_worker::FailureKind::Connector | weir_worker::FailureKind::Resources => None,
    }
}
