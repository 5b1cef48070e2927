//! `weir tail`

use std::io::{self, ErrorKind};

use weir_client::{Line, Lines, follow::Next};

use crate::exit::Failure;
use crate::out;
use crate::server_args::ServerArgs;

/// Print what a job on a server writes, until it ends
///
/// A server keeps the last lines of a job's `stdout` sinks and of its components' logs: those come first. If the job failed, so does
/// this command.
///
/// Example: weir tail job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4 --logs
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The job's id
    job: String,

    /// Print what its components log, instead of what its stdout sinks write
    #[arg(long)]
    logs: bool,

    /// Print only lines after this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,

    #[command(flatten)]
    server: ServerArgs,
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let client = args.server.client();
    let lines = if args.logs { Lines::Logs } else { Lines::Output };
    let mut follow = client.follow(&args.job, lines, args.after).await?;
    loop {
        match follow.next().await? {
            Next::Line(line) => match print(&line) {
                // The reader has gone: that is how `weir tail … | head` ends.
                Err(e) if e.kind() == ErrorKind::BrokenPipe => return Ok(()),
                printed => printed?,
            },
            Next::Missed(count) => out::tell(&gone(count, lines)),
            Next::End => break,
        }
    }
    let job = client.job(&args.job).await?.job;
    match job.failure {
        Some(failure) => Err(anyhow::anyhow!("the job failed: {}", failure.message).into()),
        None => Ok(()),
    }
}

/// What is said where lines are missing. How much is kept is for the server to know, which does not say it.
fn gone(count: u64, lines: Lines) -> String {
    let are = if count == 1 { "line is" } else { "lines are" };
    let kept = match lines {
        Lines::Output => "output; bind the sink to `file` instead of `stdout`, which keeps all of it",
        Lines::Logs => "log; to see all of it, follow it from the job's start on",
    };
    format!("{count} {are} gone: the server keeps only the end of a job's {kept}")
}

fn print(line: &Line) -> io::Result<()> {
    match &line.level {
        Some(level) => out::try_print(&format!("{level:5} {}\n", line.text)),
        None => out::try_print(&format!("{}\n", line.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: who misses lines learns what keeps them: for output that is another sink, for a log it is to be there in time.
    #[test]
    fn missing_lines_are_told_with_a_remedy() {
        let told = gone(253_476, Lines::Output);
        assert!(told.starts_with("253476 lines are gone: the server keeps only the end of a job's output"), "{told}");
        assert!(told.contains("`file` instead of `stdout`"), "{told}");
        let told = gone(1, Lines::Logs);
        assert!(told.starts_with("1 line is gone: the server keeps only the end of a job's log"), "{told}");
        assert!(told.contains("follow it from the job's start on"), "{told}");
    }
}
