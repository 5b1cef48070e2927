//! `weir job`

mod diff;

use weir_base::clock::age_ms;
use weir_client::{Checkpoint, Job, JobDetail, SavepointWish};

use crate::commands::{deploy, savepoint};
use crate::exit::Failure;
use crate::out;
use crate::server_args::AskArgs;
use crate::spec_file::SpecArgs;

/// List, show and end the jobs of a server; compare a job with its checkpoints
///
/// Example: weir job list
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    ask: AskArgs,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// List the jobs, oldest first
    ///
    /// Example: weir job list --output json
    List,
    /// Show a job: its state, why it failed, what it has done, its plan
    ///
    /// Example: weir job get job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4
    Get {
        /// The job's id
        job: String,
    },
    /// Make a checkpoint of a job now, and wait until it is complete
    ///
    /// Example: weir job checkpoint job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4
    Checkpoint {
        /// The job's id
        job: String,
    },
    /// Let a job finish what it has read, and end
    ///
    /// With --savepoint, it stops at once instead, with a savepoint from which a job can go on.
    ///
    /// Example: weir job stop job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4 --savepoint=before-upgrade
    Stop {
        /// The job's id
        job: String,

        /// Make a savepoint, and stop with it; it is called after the job and the time if no id is given
        #[arg(long, value_name = "ID", num_args = 0..=1, require_equals = true)]
        savepoint: Option<Option<String>>,

        /// Emit all windows before, as at the end of the input
        #[arg(long, requires = "savepoint")]
        drain: bool,
    },
    /// End a job now
    ///
    /// A job that has failed, since it could not go on when the server started again, is tried again at its next start, unless it is cancelled.
    ///
    /// Example: weir job cancel job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4
    Cancel {
        /// The job's id
        job: String,
    },
    /// Compare a job with the checkpoint that it would go on from, with a savepoint, or with a job on a server
    ///
    /// Says what becomes of each operator's state: kept; new, where there is none in the checkpoint; lost, where the job has no such operator;
    /// or that the operator cannot read it. Likewise of sources, of which the checkpoint has positions, and of sinks, of which it may have rows that are
    /// not committed yet. Ends with exit code 1 if the job would not start.
    ///
    /// A job on a server runs or has ended; what counts is its newest complete checkpoint, and what `weir deploy` would make of the spec. The
    /// components are uploaded, and nothing is started or ended.
    ///
    /// Example: weir job diff job.toml --job job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4
    Diff {
        #[command(flatten)]
        spec: SpecArgs,

        /// Subtasks of each vertex; the same as --set parallelism=N
        #[arg(long, short, value_name = "N")]
        parallelism: Option<u16>,

        /// Compare with this savepoint, instead of the job's newest checkpoint
        #[arg(long, value_name = "URL|FOLDER")]
        from_savepoint: Option<String>,

        /// Compare with this job on the server, instead of one of `weir run`
        #[arg(long, value_name = "JOB", conflicts_with = "from_savepoint")]
        job: Option<String>,
    },
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let client = args.ask.client();
    let json = args.ask.json();
    match &args.action {
        Action::List => {
            let jobs = client.jobs().await?;
            if json { out::print_json(&jobs)? } else { out::print(&table(&jobs))? }
        }
        Action::Get { job } => {
            let detail = client.job(job).await?;
            if json { out::print_json(&detail)? } else { out::print(&text(&detail))? }
        }
        Action::Checkpoint { job } => {
            let made = savepoint::watched(&client, job, client.checkpoint(job)).await?;
            if json { out::print_json(&made)? } else { out::print(&format!("checkpoint {} is complete\n", made.checkpoint))? }
        }
        Action::Stop { job, savepoint: Some(id), drain } => {
            let wish = SavepointWish { id: id.clone(), stop: true, drain: *drain };
            savepoint::told(&savepoint::watched(&client, job, client.save(job, &wish)).await?, json)?;
        }
        Action::Stop { job, .. } => ended(&client.stop(job).await?, json)?,
        Action::Diff { spec, parallelism, from_savepoint, job } => {
            let spec = &spec.at(*parallelism);
            let diff = match job {
                Some(job) => client.diff(job, &deploy::upload(spec, &client).await?).await?,
                None => savepoint::as_from_a_server(&diff::without_a_server(spec, from_savepoint.as_deref()).await?)?,
            };
            diff::told(&diff, json)?;
        }
        Action::Cancel { job } => ended(&client.cancel(job).await?, json)?,
    }
    Ok(())
}

fn ended(job: &Job, json: bool) -> Result<(), Failure> {
    if json { out::print_json(job) } else { Ok(out::print(&format!("{} is {}\n", job.id, job.state))?) }
}

/// One line a job.
fn table(jobs: &[Job]) -> String {
    let head = ["JOB", "NAME", "STATE", "SLOTS", "CREATED"].map(str::to_owned).to_vec();
    out::table(&std::iter::once(head).chain(jobs.iter().map(row)).collect::<Vec<_>>())
}

fn row(job: &Job) -> Vec<String> {
    let created = out::to_the_second(&job.created);
    vec![job.id.clone(), job.name.clone(), job.state.clone(), job.slots.to_string(), created]
}

/// How often it has started again, the last checkpoint, and those under way; nothing where there was none.
fn recovery(detail: &JobDetail) -> String {
    let mut out = String::new();
    if detail.restarts > 0 {
        out += &format!("\nstarted again {} times\n", detail.restarts);
    }
    if let Some(last) = detail.checkpoints.last() {
        out += &format!("\n{}\n", made(last, jiff::Timestamp::now().as_millisecond()));
    }
    for checkpoint in &detail.checkpoints_under_way {
        let began = jiff::Timestamp::from_millisecond(checkpoint.started_ms);
        let since = began.map_or_else(|_| String::new(), |t| format!(" since {t:.0}"));
        out += &format!("\n{}, under way{since}\n", savepoint::under_way(checkpoint));
    }
    out
}

/// How a checkpoint went, and how long ago that was.
fn made(checkpoint: &Checkpoint, now_ms: i64) -> String {
    let Checkpoint { checkpoint: number, started_ms, duration_ms, alignment_ms, copying_ms, bytes_new, bytes_total, .. } =
        checkpoint;
    let began = jiff::Timestamp::from_millisecond(*started_ms).map_or_else(|_| String::new(), |t| format!(" at {t:.0}"));
    let age_s = age_ms(*started_ms, *duration_ms, now_ms) / 1000;
    let ago = format!("{:#} ago", jiff::SignedDuration::from_secs(age_s as i64));
    match &checkpoint.failure {
        None => format!(
            "checkpoint {number}{began}: {duration_ms} ms ({alignment_ms} ms aligning, {copying_ms} ms copying), {bytes_new} of {bytes_total} bytes new, {ago}"
        ),
        Some(failure) => format!("checkpoint {number}{began} failed {ago}: {failure}"),
    }
}

fn text(detail: &JobDetail) -> String {
    let job = &detail.job;
    let mut out = table(std::slice::from_ref(job));
    if let Some(failure) = &job.failure {
        out += &format!("\nfailed: {}\n", failure.message);
        for frame in &failure.backtrace {
            out += &format!("  {frame}\n");
        }
    }
    if let Some(metrics) = &detail.metrics {
        let number = |of: &serde_json::Value, name: &str| of.get(name).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
        out += &format!(
            "\n{} events in, {} rows out, {:.1} s\n",
            number(metrics, "events_in"),
            number(metrics, "rows_out"),
            number(metrics, "seconds")
        );
        for operator in metrics.get("operators").and_then(serde_json::Value::as_array).into_iter().flatten() {
            out += &format!(
                "  {:32} in {:>12}  out {:>12}  busy {:3.0} %\n",
                operator.get("name").and_then(serde_json::Value::as_str).unwrap_or_default(),
                number(operator, "records_in"),
                number(operator, "records_out"),
                number(operator, "busy_ratio") * 100.0,
            );
        }
    }
    out + &recovery(detail) + "\n" + &detail.plan
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a checkpoint says how it went and how old it is, counted from its end; one that the server's clock has ahead of this one is new.
    #[test]
    fn checkpoints_have_ages() {
        let complete = Checkpoint {
            checkpoint: 12,
            kind: serde_json::Value::Null,
            started_ms: 1_436_918_400_000,
            duration_ms: 250,
            alignment_ms: 3,
            copying_ms: 4,
            bytes_total: 1000,
            bytes_new: 10,
            failure: None,
        };
        let how = "checkpoint 12 at 2015-07-15T00:00:00Z: 250 ms (3 ms aligning, 4 ms copying), 10 of 1000 bytes new";
        for (later_ms, age) in [(-5000, "0s"), (1249, "0s"), (1250, "1s"), (3_725_250, "1h 2m 5s")] {
            assert_eq!(made(&complete, complete.started_ms + later_ms), format!("{how}, {age} ago"));
        }
        let failed = Checkpoint { failure: Some("no room".to_owned()), ..complete };
        let told = made(&failed, failed.started_ms + 2250);
        assert_eq!(told, "checkpoint 12 at 2015-07-15T00:00:00Z failed 2s ago: no room");
    }
}
