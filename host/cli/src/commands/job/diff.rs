//! `weir job diff`

use anyhow::Context;
use weir_client::{OperatorDiff, StateDiff};
use weir_coordinator::diff::Diff;
use weir_coordinator::execution::newest;
use weir_sandbox::LogSink;

use crate::exit::Failure;
use crate::spec_file::{self, Opened, SpecArgs};
use crate::{checkpoints, out};

/// Compares a job of `weir run` with the checkpoint that it would go on from, or with a savepoint.
pub async fn without_a_server(spec: &SpecArgs, savepoint: Option<&str>) -> anyhow::Result<Diff> {
    let Opened { prepared, base } = spec_file::open(spec, &LogSink::none()).await?;
    let plan = &prepared.plan;
    if let Some(savepoint) = checkpoints::savepoint(savepoint, plan, &base).await? {
        return Ok(Diff::new(savepoint.folder().url(), &prepared, savepoint.manifest()).await);
    }
    let checkpoints = checkpoints::look(plan, &base)?.context(
        "there is nothing to compare the job with: set checkpoint.storage to where its checkpoints are, or name a savepoint by --from-savepoint, or a job on a server by --job",
    )?;
    let job = checkpoints.storage.job(&checkpoints.job)?;
    let url = job.folder().url();
    let manifest = newest(&job).await?.with_context(|| format!("there is no complete checkpoint in {url}"))?;
    Ok(Diff::new(url, &prepared, &manifest).await)
}

/// Tells what becomes of state; fails if the job would not start.
pub fn told(diff: &StateDiff, json: bool) -> Result<(), Failure> {
    if json {
        out::print_json(diff)?
    } else {
        out::print(&text(diff))?
    }
    if diff.starts {
        return Ok(());
    }
    match &diff.refusal {
        Some(refusal) => out::tell(&format!("the job would not start: {refusal}")),
        None => out::tell("the job would not start: there is state that it cannot take"),
    }
    Err(Failure::Told)
}

fn text(diff: &StateDiff) -> String {
    let head = ["OPERATOR", "STATE", "WHAT TO DO"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(diff.operators.iter().map(row)).collect();
    format!("checkpoint {} of {}\n\n{}", diff.checkpoint, diff.with, out::table(&rows))
}

fn row(operator: &OperatorDiff) -> Vec<String> {
    let state = if operator.state == "unreadable" { "cannot read" } else { operator.state.as_str() };
    let mut parts = vec![];
    parts.extend(operator.why.clone());
    if let (Some(was), Some(is)) = (&operator.was, &operator.is) {
        parts.push(format!("it was {was}, and is {is} now"));
    }
    parts.extend(operator.advice.clone());
    vec![operator.operator.clone(), state.to_owned(), parts.join("; ")]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each operator has a line, with what was and is and what to do where that matters.
    #[test]
    fn operators_have_lines() {
        let operator = |operator: &str, state: &str| OperatorDiff {
            operator: operator.to_owned(),
            state: state.to_owned(),
            was: None,
            is: None,
            why: None,
            advice: None,
        };
        let unreadable = OperatorDiff {
            was: Some("u64".to_owned()),
            is: Some("u32".to_owned()),
            why: Some("it is too wide".to_owned()),
            advice: Some("change it back".to_owned()),
            ..operator("sums", "unreadable")
        };
        let diff = StateDiff {
            with: "memory://there/jobs/a".to_owned(),
            checkpoint: 7,
            starts: false,
            refusal: None,
            operators: vec![operator("counts", "kept"), unreadable],
        };
        let expected = "checkpoint 7 of memory://there/jobs/a\n\n\
                        OPERATOR  STATE        WHAT TO DO\n\
                        counts    kept\n\
                        sums      cannot read  it is too wide; it was u64, and is u32 now; change it back\n";
        assert_eq!(text(&diff), expected);
    }
}
