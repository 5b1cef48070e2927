//! `weir job`

use weir_client::{Job, JobDetail};

use crate::exit::Failure;
use crate::out;
use crate::server_args::{OutputFormat, ServerArgs};

/// List, show and end the jobs of a server
///
/// Example: weir job list
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    server: ServerArgs,

    /// How to print it
    #[arg(long, short, value_enum, default_value_t, global = true, value_name = "FORMAT")]
    output: OutputFormat,
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
    /// Let a job finish what it has read, and end
    ///
    /// Example: weir job stop job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4
    Stop {
        /// The job's id
        job: String,
    },
    /// End a job now
    ///
    /// Example: weir job cancel job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4
    Cancel {
        /// The job's id
        job: String,
    },
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let client = args.server.client();
    let json = args.output == OutputFormat::Json;
    match &args.action {
        Action::List => {
            let jobs = client.jobs().await?;
            if json { print_json(&jobs)? } else { out::print(&table(&jobs))? }
        }
        Action::Get { job } => {
            let detail = client.job(job).await?;
            if json { print_json(&detail)? } else { out::print(&text(&detail))? }
        }
        Action::Stop { job } => ended(&client.stop(job).await?, json)?,
        Action::Cancel { job } => ended(&client.cancel(job).await?, json)?,
    }
    Ok(())
}

fn ended(job: &Job, json: bool) -> Result<(), Failure> {
    if json { print_json(job) } else { Ok(out::print(&format!("{} is {}\n", job.id, job.state))?) }
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    Ok(out::print(&format!("{}\n", serde_json::to_string_pretty(value)?))?)
}

/// One line a job, columns as wide as they have to be.
fn table(jobs: &[Job]) -> String {
    let head = ["JOB", "NAME", "STATE", "SLOTS", "CREATED"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(jobs.iter().map(row)).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|r| r[column].chars().count()).max().unwrap_or(0);
            line += &format!("{cell:width$}  ");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

fn row(job: &Job) -> [String; 5] {
    // To the second is enough for people.
    let created = job.created.split('.').next().unwrap_or_default().trim_end_matches('Z');
    [job.id.clone(), job.name.clone(), job.state.clone(), job.slots.to_string(), format!("{created}Z")]
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
    out + "\n" + &detail.plan
}
