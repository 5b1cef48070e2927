//! `weir job diff`

use anyhow::Context;
use serde::Serialize;
use weir_checkpoint::Manifest;
use weir_coordinator::execution::newest;
use weir_plan::JobPlan;
use weir_sandbox::LogSink;
use weir_worker::restore::{Fit, compare, misfit};

use crate::exit::Failure;
use crate::spec_file::{self, Opened, SpecArgs};
use crate::{checkpoints, out};

/// What becomes of state if a job starts from a checkpoint.
#[derive(Debug, Serialize)]
struct Diff {
    /// what was compared with: the URL of the savepoint, or of the job's checkpoints
    with: String,
    /// the checkpoint
    checkpoint: u64,
    /// whether the job would start
    starts: bool,
    /// why it would not, whatever its operators' state is
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
    operators: Vec<Operator>,
}

/// What becomes of the state of one operator.
#[derive(Debug, Serialize)]
struct Operator {
    operator: String,
    /// `kept`, `new`, `lost` or `unreadable`
    state: &'static str,
    /// what the state is in the checkpoint, where that matters
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<String>,
    /// what it would be in the job
    #[serde(skip_serializing_if = "Option::is_none")]
    is: Option<String>,
    /// what to do
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

impl Operator {
    fn new(operator: String, fit: Fit) -> Self {
        let line = |state, advice| Self { operator: operator.clone(), state, was: None, is: None, advice };
        match fit {
            Fit::Kept => line("kept", None),
            Fit::New => line("new", None),
            Fit::Lost => {
                line("lost", Some("give an operator this id back, or leave the state behind by --allow-non-restored-state"))
            }
            Fit::Unreadable { was, is } => {
                let advice = "change it back, or give it another id and leave its state behind by --allow-non-restored-state";
                Self { was: Some(was), is: Some(is), ..line("unreadable", Some(advice)) }
            }
        }
    }

    fn row(&self) -> Vec<String> {
        let state = if self.state == "unreadable" { "cannot read" } else { self.state };
        let change = match (&self.was, &self.is) {
            (Some(was), Some(is)) => format!("it was {was}, and is {is} now: "),
            _ => String::new(),
        };
        vec![self.operator.clone(), state.to_owned(), change + self.advice.unwrap_or_default()]
    }
}

impl Diff {
    fn new(with: String, plan: &JobPlan, manifest: &Manifest) -> Self {
        let operators: Vec<_> = compare(plan, manifest).into_iter().map(|(id, fit)| Operator::new(id, fit)).collect();
        let refusal = misfit(plan, manifest);
        let starts = refusal.is_none() && operators.iter().all(|operator| operator.advice.is_none());
        Self { with, checkpoint: manifest.checkpoint, starts, refusal, operators }
    }

    fn text(&self) -> String {
        let head = ["OPERATOR", "STATE", "WHAT TO DO"].map(str::to_owned).to_vec();
        let rows: Vec<_> = std::iter::once(head).chain(self.operators.iter().map(Operator::row)).collect();
        format!("checkpoint {} of {}\n\n{}", self.checkpoint, self.with, out::table(&rows))
    }
}

/// Compares a job with the checkpoint that it would go on from, or with a savepoint.
pub async fn run(spec: &SpecArgs, savepoint: Option<&str>, json: bool) -> Result<(), Failure> {
    let Opened { prepared, base } = spec_file::open(spec, &LogSink::none()).await?;
    let plan = &prepared.plan;
    let diff = match checkpoints::savepoint(savepoint, plan, &base).await? {
        Some(savepoint) => Diff::new(savepoint.folder().url(), plan, savepoint.manifest()),
        None => {
            let checkpoints = checkpoints::open(plan, &base)?.context(
                "there is nothing to compare the job with: set checkpoint.storage to where its checkpoints are, or name a savepoint by --from-savepoint",
            )?;
            let job = checkpoints.storage.job(&checkpoints.job)?;
            let url = job.folder().url();
            let manifest = newest(&job).await?.with_context(|| format!("there is no complete checkpoint in {url}"))?;
            Diff::new(url, plan, &manifest)
        }
    };
    if json {
        out::print_json(&diff)?
    } else {
        out::print(&diff.text())?
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
