//! `weir run`

mod hint;
mod interrupts;
mod lines;
mod progress;
mod stdout;
mod summary;

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::{Notify, mpsc};
use weir_base::Clock;
use weir_connector::{Context, Files};
use weir_coordinator::execution::{Controls, Event, History, Start, when};
use weir_coordinator::{Execution, Prepared};
use weir_plan::spec::Binding;
use weir_protocol::checkpoint::Kind;
use weir_worker::metrics::JobMetrics;
use weir_worker::{Command, Deployment, Failure, Outcome, StateOptions, Worker};

use crate::signals::Signal;
use crate::spec_file::{self, Opened, SpecArgs};
use crate::state_args::StateArgs;
use crate::{checkpoints, exit, out};
use interrupts::JOB_GRACE;
use lines::Lines;
use progress::Progress;
use stdout::Stdout;
use summary::{End, Summary};

/// Run a job in this process, until its input ends
///
/// Ctrl-C lets the job finish what it has read, and a second Ctrl-C ends it. The components are files or folders with a guest's
/// sources, relative to the spec; a folder is built first if its sources have changed.
///
/// A job with `checkpoint.storage` goes on from its newest checkpoint, whatever ended it before; Ctrl-C makes one, and stops there.
///
/// The exit code is 0 if the job has come to the end of its input, and of one that has no end, if Ctrl-C or SIGTERM has stopped it; 130 if Ctrl-C has
/// stopped it before the end of its input, or was pressed again, and 143 if SIGTERM has; 1 if it failed; 2 if the command line is wrong.
///
/// Example: weir run job.toml --parallelism 4 --set sources.nexmark.events=1000000 --summary text
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    spec: SpecArgs,

    /// Subtasks of each vertex; the same as --set parallelism=N
    #[arg(long, short, value_name = "N")]
    parallelism: Option<u16>,

    /// Start from this savepoint, instead of the job's newest checkpoint
    #[arg(long, value_name = "URL", conflicts_with = "fresh")]
    from_savepoint: Option<String>,

    /// Start anew, although there are checkpoints of the job
    #[arg(long)]
    fresh: bool,

    /// Leave behind what the job cannot take any more: state of operators, positions of sources, rows that a sink has not committed
    #[arg(long)]
    allow_non_restored_state: bool,

    #[command(flatten)]
    state: StateArgs,

    /// Tell at the end what the job has done: as JSON in the last line of standard output, or as text on standard error
    #[arg(long, value_enum, value_name = "FORMAT")]
    summary: Option<SummaryFormat>,

    /// Show no progress and no guest logs; warnings are shown
    #[arg(long, short)]
    quiet: bool,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum SummaryFormat {
    Json,
    Text,
}

/// What a run ended with.
enum Ended {
    /// the job's outcome, and the signal that it was told to stop by, if it was
    Job(Outcome, Option<Signal>),
    /// a second signal
    Interrupted(Signal),
}

/// Runs the job.
pub async fn run(args: &Args) -> Result<(), exit::Failure> {
    let spec = args.spec.at(args.parallelism);
    let lines = Lines::new(args.quiet);
    let log = lines.sink();
    let Opened { prepared: Prepared { plan, components }, base } = spec_file::open(&spec, &log).await?;

    let prints = plan.sinks.iter().filter_map(|sink| plan.spec.sinks.get(&sink.name)).any(prints_while_it_runs);
    let watched = std::io::stderr().is_terminal() && !args.quiet && !(prints && std::io::stdout().is_terminal());
    let closed = Arc::new(Notify::new());
    let stdout = Arc::new(parking_lot::Mutex::new(Stdout::new(Arc::clone(&closed), &lines)?));
    let checkpoints = checkpoints::open(&plan, &base)?;
    let start = Start {
        savepoint: checkpoints::savepoint(args.from_savepoint.as_deref(), &plan, &base).await?,
        fresh: args.fresh,
        drops_unmatched: args.allow_non_restored_state,
        // Nobody has looked: there may have been no checkpoint.
        expected: None,
        gives_up: true,
    };
    let context = Context {
        files: Files::free(base),
        stdout: stdout.clone(),
        name: String::new(),
        attempt: weir_connector::Attempt { job: plan.name.clone(), ..weir_connector::Attempt::default() },
    };
    let (name, parallelism) = (plan.name.clone(), plan.spec.parallelism);
    let slots = plan.vertices.iter().map(|v| v.parallelism).max().unwrap_or(1);
    let is_built = components.iter().all(|component| hint::is_built(component.inspect()));
    let clock = Clock::system();
    let deployment = Deployment {
        plan,
        components,
        context,
        storage: None,
        restore: None,
        has_run: false,
        culprits: vec![],
        pending: vec![],
        log,
        clock,
        native: None,
    };
    let mut interrupts = interrupts::listen()?;
    let mut demands = unix::signal(SignalKind::user_defined1())?;
    let stops_at_checkpoint = checkpoints.is_some();
    let worker = Worker::new(slots).with_state(args.state.options(|| StateOptions::default().directory));
    let mut execution = Execution::start(worker, deployment, checkpoints, start);

    let mut watch = Watch {
        progress: watched.then(|| Progress::new(&name, &lines)),
        lines: &lines,
        quiet: args.quiet,
        metrics: None,
        history: History::default(),
    };
    let ended = drive(&mut execution, &mut watch, stops_at_checkpoint, &closed, &mut interrupts, &mut demands).await;
    let Watch { progress, metrics, history, .. } = watch;
    drop(progress);
    // If a task still writes to it, this waits; what ends that is a second interrupt.
    let mut stdout = stdout.lock();
    let mut printed = stdout.flush().context(out::UNWRITABLE);
    let Some(metrics) = metrics else {
        // It has not come so far that it did anything.
        return match ended {
            Ended::Job(Outcome::Failed { failure }, _) => Err(tell(&name, &failure, is_built)),
            Ended::Job(_, signal) => Err(exit::Failure::Ended(signal.unwrap_or(Signal::Interrupt))),
            Ended::Interrupted(signal) => Err(exit::Failure::Ended(signal)),
        };
    };
    let summary = Summary::new(name.clone(), parallelism, end(&ended, metrics.is_cut_short()), &metrics, &history);
    match args.summary {
        // By the job's own buffer, so that it comes last.
        Some(SummaryFormat::Json) => {
            let line = serde_json::to_string(&summary)?;
            printed = printed.and_then(|()| writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context(out::UNWRITABLE));
        }
        Some(SummaryFormat::Text) => out::tell(summary.to_string().trim_end()),
        None if watched => out::tell(summary.to_string().trim_end()),
        None => {}
    }
    match ended {
        Ended::Job(Outcome::Finished, signal) => {
            printed?;
            // A job without an end has no other way to be done. Of another one rows are missing, and a script must not take it for done.
            let Some(signal) = signal.filter(|_| metrics.is_cut_short() && metrics.ends()) else { return Ok(()) };
            out::tell(&cut_short(&name, stops_at_checkpoint));
            Err(exit::Failure::Ended(signal))
        }
        // What could not be printed matters less than this, and may be why.
        Ended::Job(Outcome::Cancelled, signal) => Err(exit::Failure::Ended(signal.unwrap_or(Signal::Interrupt))),
        Ended::Interrupted(signal) => Err(exit::Failure::Ended(signal)),
        Ended::Job(Outcome::Failed { failure }, _) => Err(tell(&name, &failure, is_built)),
    }
}

/// How a run ended, for its summary. A job that was told to stop may have come to its end before that.
fn end(ended: &Ended, cut_short: bool) -> End {
    match ended {
        Ended::Job(Outcome::Finished, _) if cut_short => End::Stopped,
        Ended::Job(Outcome::Finished, _) => End::Finished,
        Ended::Job(Outcome::Failed { .. }, _) => End::Failed,
        Ended::Job(Outcome::Cancelled, _) | Ended::Interrupted(_) => End::Cancelled,
    }
}

/// What is told of a job that was stopped before the end of its input.
fn cut_short(job: &str, goes_on: bool) -> String {
    let what = if goes_on { "run it again to go on from there" } else { "its results are of what it had read by then" };
    format!("warning: the job \"{job}\" was stopped before the end of the input; {what}")
}

/// Whether a sink writes rows to the standard output as they come; a table comes at the end.
fn prints_while_it_runs(sink: &Binding) -> bool {
    sink.connector == "stdout" && sink.options.get("format").and_then(|format| format.as_str()) != Some("table")
}

/// What is seen of a running job.
struct Watch<'a> {
    progress: Option<Progress>,
    lines: &'a Lines,
    quiet: bool,
    /// of the current attempt
    metrics: Option<Arc<JobMetrics>>,
    history: History,
}

impl Watch<'_> {
    fn on(&mut self, event: Event) {
        match event {
            Event::Deployed(metrics) => {
                self.metrics = Some(metrics);
                self.show();
            }
            Event::Running | Event::Ended(_) => {}
            Event::Note(note) => self.note(&note),
            Event::Warning(warning) => self.warn(&warning),
            Event::Checkpoint(report) => {
                if let Some(failure) = &report.failure {
                    self.warn(&format!("checkpoint {} failed: {failure}", report.checkpoint));
                }
                self.history.add(report);
            }
            Event::Restarts { failure, delay } => {
                self.history.restarts += 1;
                self.warn(&format!("the job failed, and starts again {}: {failure}", when(delay)));
            }
        }
    }

    fn note(&self, note: &str) {
        if !self.quiet {
            self.warn(note);
        }
    }

    /// Says what is told also to who wants it quiet.
    fn warn(&self, warning: &str) {
        self.lines.aside(|| out::tell(warning));
    }

    fn show(&self) {
        if let (Some(progress), Some(metrics)) = (&self.progress, &self.metrics) {
            progress.show(&metrics.snapshot(), &self.history, &metrics.uploads().under_way());
        }
    }
}

/// Waits for the job's end, shows its progress, and passes on what signals ask for.
async fn drive(
    execution: &mut Execution,
    watch: &mut Watch<'_>,
    stops_at_checkpoint: bool,
    stdout_closed: &Notify,
    interrupts: &mut mpsc::UnboundedReceiver<Signal>,
    demands: &mut unix::Signal,
) -> Ended {
    let mut interrupted = None;
    let mut tick = tokio::time::interval(progress::INTERVAL);
    let controls = execution.controls();
    loop {
        tokio::select! {
            event = execution.event() => match event {
                Some(Event::Ended(outcome)) => return Ended::Job(outcome, interrupted),
                Some(event) => watch.on(event),
                None => return Ended::Job(Outcome::Cancelled, interrupted),
            },
            _ = tick.tick(), if watch.progress.is_some() => watch.show(),
            // Nobody reads the rows any more (`weir run … | head`): there is no use in making others.
            () = stdout_closed.notified() => controls.send(Command::Drain),
            Some(()) = demands.recv() => {
                tokio::spawn(checkpoint(controls.clone()));
            }
            Some(signal) = interrupts.recv() => {
                if interrupted.replace(signal).is_some() {
                    controls.send(Command::Cancel);
                    // If it does not end by itself, so be it.
                    let ended = async { while execution.event().await.is_some() {} };
                    drop(tokio::time::timeout(JOB_GRACE, ended).await);
                    return Ended::Interrupted(signal);
                }
                if stops_at_checkpoint {
                    watch.note("stopping at a checkpoint, from which the job goes on another time; press Ctrl-C again to end it now");
                    tokio::spawn(stop(controls.clone()));
                } else {
                    watch.note("stopping: the job finishes what it has read; press Ctrl-C again to end it now");
                    controls.send(Command::Drain);
                }
            }
        }
    }
}

/// Has a checkpoint made now: that is what `SIGUSR1` asks for.
async fn checkpoint(controls: Controls) {
    match controls.checkpoint(Kind::Checkpoint, None).await {
        Ok(made) => out::tell(&format!("checkpoint {} is complete", made.checkpoint)),
        Err(error) => out::tell(&format!("there is no checkpoint: {error}")),
    }
}

/// Ends a job at a checkpoint.
async fn stop(controls: Controls) {
    if let Err(error) = controls.checkpoint(Kind::StopWithSavepoint { drain: false }, None).await {
        out::tell(&format!("the job does not stop: {error}"));
    }
}

/// Tells why the job failed, whose components `weir build` has made or not.
fn tell(job: &str, failure: &Failure, is_built: bool) -> exit::Failure {
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
    if let Some(hint) = hint::hint(failure, is_built) {
        out::tell(&format!("  hint      {hint}"));
    }
    exit::Failure::Told
}
