//! `weir job diff`

use anyhow::Context;
use serde::Serialize;
use weir_checkpoint::Manifest;
use weir_coordinator::execution::newest;
use weir_coordinator::prepare::Prepared;
use weir_sandbox::LogSink;
use weir_worker::restore::{Fit, UNREADABLE_ADVICE, compare, misfit};

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
    /// `kept`, `new`, `migrated`, `lost` or `unreadable`
    state: &'static str,
    /// what the state is in the checkpoint, where that matters
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<String>,
    /// what it would be in the job
    #[serde(skip_serializing_if = "Option::is_none")]
    is: Option<String>,
    /// why it cannot be read
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// what to do
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'static str>,
}

impl Operator {
    fn new(operator: String, fit: Fit) -> Self {
        let line = |state, advice| Self { operator: operator.clone(), state, was: None, is: None, why: None, advice };
        match fit {
            Fit::Kept => line("kept", None),
            Fit::New => line("new", None),
            Fit::Lost => {
                line("lost", Some("give an operator this id back, or leave the state behind by --allow-non-restored-state"))
            }
            Fit::Migrated { was, is } => Self { was: Some(was), is: Some(is), ..line("migrated", None) },
            Fit::Unreadable { was, is, why } => {
                Self { was: Some(was), is: Some(is), why: Some(why), ..line("unreadable", Some(UNREADABLE_ADVICE)) }
            }
        }
    }

    fn row(&self) -> Vec<String> {
        let state = if self.state == "unreadable" { "cannot read" } else { self.state };
        let mut parts = vec![];
        parts.extend(self.why.clone());
        if let (Some(was), Some(is)) = (&self.was, &self.is) {
            parts.push(format!("it was {was}, and is {is} now"));
        }
        parts.extend(self.advice.map(str::to_owned));
        vec![self.operator.clone(), state.to_owned(), parts.join("; ")]
    }
}

impl Diff {
    async fn new(with: String, prepared: &Prepared, manifest: &Manifest) -> Self {
        let Prepared { plan, components } = prepared;
        let fits = compare(plan, components, manifest).await;
        let operators: Vec<_> = fits.into_iter().map(|(id, fit)| Operator::new(id, fit)).collect();
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
        Some(savepoint) => Diff::new(savepoint.folder().url(), &prepared, savepoint.manifest()).await,
        None => {
            let checkpoints = checkpoints::open(plan, &base)?.context(
                "there is nothing to compare the job with: set checkpoint.storage to where its checkpoints are, or name a savepoint by --from-savepoint",
            )?;
            let job = checkpoints.storage.job(&checkpoints.job)?;
            let url = job.folder().url();
            let manifest = newest(&job).await?.with_context(|| format!("there is no complete checkpoint in {url}"))?;
            Diff::new(url, &prepared, &manifest).await
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
