//! `weir job diff`

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use weir_client::{BindingDiff, OperatorDiff, StateDiff};
use weir_connector::Files;
use weir_coordinator::diff::Diff;
use weir_coordinator::execution::{newest, uncommitted_of};
use weir_plan::JobPlan;
use weir_sandbox::LogSink;

use crate::exit::Failure;
use crate::spec_file::{self, Opened, SpecArgs};
use crate::{checkpoints, out};

/// Compares a job of `weir run` with the checkpoint that it would go on from, or with a savepoint.
pub async fn without_a_server(spec: &SpecArgs, savepoint: Option<&str>) -> anyhow::Result<Diff> {
    let Opened { prepared, base } = spec_file::open(spec, &LogSink::none()).await?;
    let (plan, files) = (&prepared.plan, Files::free(&base));
    if let Some(savepoint) = checkpoints::savepoint(savepoint, plan, &base).await? {
        let uncommitted = uncommitted_beside(plan, &base).await?;
        return Ok(Diff::new(savepoint.folder().url(), &prepared, &files, savepoint.manifest(), &uncommitted).await);
    }
    let checkpoints = checkpoints::look(plan, &base)?.context(
        "there is nothing to compare the job with: set checkpoint.storage to where its checkpoints are, or name a savepoint by --from-savepoint, or a job on a server by --job",
    )?;
    let job = checkpoints.storage.job(&checkpoints.job)?;
    let url = job.folder().url();
    let manifest = newest(&job).await?.with_context(|| format!("there is no complete checkpoint in {url}"))?;
    let uncommitted = sinks(&uncommitted_of(&job, &manifest).await?);
    Ok(Diff::new(url, &prepared, &files, &manifest, &uncommitted).await)
}

/// The sinks that have to commit rows of the job's own checkpoints when it starts from a savepoint. It may have none yet.
async fn uncommitted_beside(plan: &JobPlan, base: &Path) -> anyhow::Result<BTreeSet<String>> {
    let Ok(Some(checkpoints)) = checkpoints::look(plan, base) else { return Ok(BTreeSet::new()) };
    let job = checkpoints.storage.job(&checkpoints.job)?;
    match newest(&job).await? {
        Some(manifest) => Ok(sinks(&uncommitted_of(&job, &manifest).await?)),
        None => Ok(BTreeSet::new()),
    }
}

fn sinks<T>(uncommitted: &[(String, T)]) -> BTreeSet<String> {
    uncommitted.iter().map(|(sink, _)| sink.clone()).collect()
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
    let tables = [
        table("OPERATOR", diff.operators.iter().map(row)),
        table("SOURCE", diff.sources.iter().map(binding)),
        table("SINK", diff.sinks.iter().map(binding)),
    ];
    tables.into_iter().flatten().fold(head(diff), |text, table| text + "\n" + &table)
}

/// What is compared with, and what would be of time.
fn head(StateDiff { checkpoint, with, at_end, .. }: &StateDiff) -> String {
    let head = format!("checkpoint {checkpoint} of {with}\n");
    if *at_end { head + "time begins anew: the savepoint's job was drained, or had finished\n" } else { head }
}

/// A table of what becomes of things of a kind; none if there are none.
fn table(of: &str, rows: impl Iterator<Item = Vec<String>>) -> Option<String> {
    let head = [of, "STATE", "WHAT TO DO"].map(str::to_owned).to_vec();
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    (rows.len() > 1).then(|| out::table(&rows))
}

fn binding(binding: &BindingDiff) -> Vec<String> {
    let parts: Vec<_> = binding.why.iter().chain(&binding.advice).cloned().collect();
    vec![binding.name.clone(), binding.state.clone(), parts.join("; ")]
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

    /// Goal: each operator, source and sink has a line, with what was and is and what to do where that matters.
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
        let binding = |name: &str, state: &str, advice: Option<&str>| BindingDiff {
            name: name.to_owned(),
            state: state.to_owned(),
            why: None,
            advice: advice.map(str::to_owned),
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
            at_end: false,
            starts: false,
            refusal: None,
            operators: vec![operator("counts", "kept"), unreadable],
            sources: vec![binding("in", "kept", None), binding("before", "lost", Some("give it its name back"))],
            sinks: vec![binding("out", "new", None)],
        };
        let expected = "checkpoint 7 of memory://there/jobs/a\n\n\
                        OPERATOR  STATE        WHAT TO DO\n\
                        counts    kept\n\
                        sums      cannot read  it is too wide; it was u64, and is u32 now; change it back\n\n\
                        SOURCE  STATE  WHAT TO DO\n\
                        in      kept\n\
                        before  lost   give it its name back\n\n\
                        SINK  STATE  WHAT TO DO\n\
                        out   new\n";
        assert_eq!(text(&diff), expected);
        let stateless = StateDiff { operators: vec![], sources: vec![], ..diff };
        assert_eq!(text(&stateless), "checkpoint 7 of memory://there/jobs/a\n\nSINK  STATE  WHAT TO DO\nout   new\n");
        let drained = StateDiff { at_end: true, ..stateless };
        assert!(text(&drained).starts_with("checkpoint 7 of memory://there/jobs/a\ntime begins anew"), "{}", text(&drained));
    }
}
