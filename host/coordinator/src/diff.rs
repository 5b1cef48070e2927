//! What becomes of state if a job starts from a checkpoint, told before anything stops.

use std::collections::BTreeSet;

use serde::Serialize;
use utoipa::ToSchema;
use weir_checkpoint::{Kind, Manifest};
use weir_connector::registry::{Stream, find};
use weir_connector::{Context, Files, Source};
use weir_plan::JobPlan;
use weir_worker::bindings::{
    BindingFit, EXCLUDED_ADVICE, LOST_SINK_ADVICE, LOST_SOURCE_ADVICE, compare_sinks, compare_sources, excluded,
};
use weir_worker::restore::{Fit, UNREADABLE_ADVICE, compare, misfit};

use crate::prepare::Prepared;

/// What to do about state of an operator that the job has not.
const LOST_ADVICE: &str = "give an operator this id back, or leave the state behind by --allow-non-restored-state";

/// What becomes of state if a job starts from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = StateDiff)]
pub struct Diff {
    /// what was compared with: the URL of the savepoint, or of the job's checkpoints
    pub with: String,
    /// the checkpoint
    pub checkpoint: u64,
    /// whether it is that of a savepoint whose job was drained or had finished: time begins anew for a job that starts from it
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub at_end: bool,
    /// whether the job would start
    pub starts: bool,
    /// why it would not, whatever its operators' state is
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// the job's operators that keep state, in their order, then those that it has not any more
    pub operators: Vec<Operator>,
    /// the job's sources, then those that it has not any more and of which the checkpoint has positions
    pub sources: Vec<Bound>,
    /// the job's sinks, then those that it has not any more
    pub sinks: Vec<Bound>,
}

/// What becomes of the positions of one source, or of one sink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = BindingDiff)]
pub struct Bound {
    /// its name
    pub name: String,
    /// `kept`, `new` or `lost`
    pub state: &'static str,
    /// what is in the way
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// what to do; none if it does not keep the job from starting
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

/// What becomes of the state of one operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = OperatorDiff)]
pub struct Operator {
    /// the operator's id
    pub operator: String,
    /// `kept`, `new`, `migrated`, `lost` or `unreadable`
    pub state: &'static str,
    /// what the state is in the checkpoint, where that matters
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// what it would be in the job
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is: Option<String>,
    /// why it cannot be read
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// what to do; none if it does not keep the job from starting
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

impl Diff {
    /// Compares a job with a checkpoint. `with` is where that lies, `files` are those that the job will have, of which none is touched, and `uncommitted` are the
    /// sinks that have to commit rows when the job starts. Components are asked where types of state have changed; nothing is started, and connectors look at
    /// their options only.
    pub async fn new(
        with: String,
        Prepared { plan, components }: &Prepared,
        files: &Files,
        manifest: &Manifest,
        uncommitted: &BTreeSet<String>,
    ) -> Self {
        let fits = compare(plan, components, manifest).await;
        let operators: Vec<_> = fits.into_iter().map(|(id, fit)| Operator::new(id, fit)).collect();
        let refusal = misfit(plan, manifest);
        let sources: Vec<_> = compare_sources(plan, manifest)
            .into_iter()
            .map(|(name, fit)| {
                let bound = bind(plan, &name, files);
                let excluded = bound.map_or_else(Vec::new, |bound| excluded(&*bound, &name, manifest));
                Bound::source(name, fit, &excluded)
            })
            .collect();
        let mut sinks = compare_sinks(plan, manifest);
        // Rows may be those of a checkpoint that is not the one to start from.
        let unnamed = uncommitted.iter().filter(|name| sinks.iter().all(|(sink, _)| sink != *name));
        let unnamed: Vec<_> = unnamed.map(|name| (name.clone(), BindingFit::Lost)).collect();
        sinks.extend(unnamed);
        let sinks: Vec<_> = sinks.into_iter().map(|(name, fit)| Bound::sink(name, fit, uncommitted)).collect();
        let mut bound = sources.iter().chain(&sinks);
        let starts = refusal.is_none()
            && operators.iter().all(|operator| operator.advice.is_none())
            && bound.all(|bound| bound.advice.is_none());
        // The job itself reads nothing after its end.
        let at_end = manifest.kind == Kind::Savepoint && manifest.is_at_end();
        Self { with, checkpoint: manifest.checkpoint, at_end, starts, refusal, operators, sources, sinks }
    }
}

/// A source of the job, bound to its options; none if it is none of the job's, or cannot be bound without files: then it is known at the start.
fn bind(plan: &JobPlan, name: &str, files: &Files) -> Option<Box<dyn Source>> {
    let source = plan.sources.iter().find(|source| source.name == name)?;
    let binding = &plan.spec.sources[name];
    let streams: Vec<_> = source.streams.iter().map(Stream::from).collect();
    find(&binding.connector).ok()?.source(&binding.options, &streams, &Context::new(name, files.out_of_reach())).ok()
}

impl Bound {
    /// `excluded` are the splits that its options do not name any more, with the reason.
    fn source(name: String, fit: BindingFit, excluded: &[(String, String)]) -> Self {
        match (fit, excluded) {
            (BindingFit::New, _) => Self { name, state: "new", why: None, advice: None },
            (BindingFit::Lost, _) => Self { name, state: "lost", why: None, advice: Some(LOST_SOURCE_ADVICE) },
            (BindingFit::Kept, []) => Self { name, state: "kept", why: None, advice: None },
            (BindingFit::Kept, [(split, why), more @ ..]) => {
                let more = if more.is_empty() { String::new() } else { format!(", nor {} more", more.len()) };
                let why = format!("\"{split}\" is not read to its end, and {why}{more}");
                Self { name, state: "lost", why: Some(why), advice: Some(EXCLUDED_ADVICE) }
            }
        }
    }

    /// A sink that the job has not is in the way only where it has rows to commit.
    fn sink(name: String, fit: BindingFit, uncommitted: &BTreeSet<String>) -> Self {
        match fit {
            BindingFit::Kept => Self { name, state: "kept", why: None, advice: None },
            BindingFit::New => Self { name, state: "new", why: None, advice: None },
            BindingFit::Lost if uncommitted.contains(&name) => {
                let why = Some("it may have rows that are not committed yet".to_owned());
                Self { name, state: "lost", why, advice: Some(LOST_SINK_ADVICE) }
            }
            BindingFit::Lost => Self { name, state: "lost", why: None, advice: None },
        }
    }
}

impl Operator {
    fn new(operator: String, fit: Fit) -> Self {
        let line = |state, advice| Self { operator, state, was: None, is: None, why: None, advice };
        match fit {
            Fit::Kept => line("kept", None),
            Fit::New => line("new", None),
            Fit::Lost => line("lost", Some(LOST_ADVICE)),
            Fit::Migrated { was, is } => Self { was: Some(was), is: Some(is), ..line("migrated", None) },
            Fit::Unreadable { was, is, why } => {
                Self { was: Some(was), is: Some(is), why: Some(why), ..line("unreadable", Some(UNREADABLE_ADVICE)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Goal: what is told of a source or sink keeps the job from starting only where something would be lost: positions, the rest of a split, rows.
    #[test]
    fn bindings_say_what_would_be_lost() {
        let excluded =
            |ids: &[&str]| -> Vec<_> { ids.iter().map(|id| ((*id).to_owned(), "nothing names it".to_owned())).collect() };
        for (fit, splits, told) in [
            (BindingFit::Kept, &[][..], json!({ "name": "in", "state": "kept" })),
            (BindingFit::New, &[], json!({ "name": "in", "state": "new" })),
            (BindingFit::Lost, &[], json!({ "name": "in", "state": "lost", "advice": LOST_SOURCE_ADVICE })),
            (
                BindingFit::Kept,
                &["a", "b", "c"],
                json!({
                    "name": "in",
                    "state": "lost",
                    "why": "\"a\" is not read to its end, and nothing names it, nor 2 more",
                    "advice": EXCLUDED_ADVICE,
                }),
            ),
        ] {
            let bound = Bound::source("in".to_owned(), fit, &excluded(splits));
            assert_eq!(serde_json::to_value(bound).expect("JSON"), told);
        }
        let (none, some) = (BTreeSet::new(), BTreeSet::from(["out".to_owned()]));
        let why = "it may have rows that are not committed yet";
        for (fit, uncommitted, told) in [
            (BindingFit::Kept, &some, json!({ "name": "out", "state": "kept" })),
            (BindingFit::New, &none, json!({ "name": "out", "state": "new" })),
            (BindingFit::Lost, &none, json!({ "name": "out", "state": "lost" })),
            (BindingFit::Lost, &some, json!({ "name": "out", "state": "lost", "why": why, "advice": LOST_SINK_ADVICE })),
        ] {
            let bound = Bound::sink("out".to_owned(), fit, uncommitted);
            assert_eq!(serde_json::to_value(bound).expect("JSON"), told);
        }
    }

    /// Goal: what is told of an operator says what matters of its state, and what to do only where that keeps the job from starting.
    #[test]
    fn operators_say_what_matters() {
        let [was, is, why] = ["u64", "u32", "it is too wide"].map(str::to_owned);
        for (fit, told) in [
            (Fit::Kept, json!({ "operator": "count", "state": "kept" })),
            (Fit::New, json!({ "operator": "count", "state": "new" })),
            (
                Fit::Migrated { was: is.clone(), is: was.clone() },
                json!({ "operator": "count", "state": "migrated", "was": "u32", "is": "u64" }),
            ),
            (Fit::Lost, json!({ "operator": "count", "state": "lost", "advice": LOST_ADVICE })),
            (
                Fit::Unreadable { was, is, why },
                json!({
                    "operator": "count",
                    "state": "unreadable",
                    "was": "u64",
                    "is": "u32",
                    "why": "it is too wide",
                    "advice": UNREADABLE_ADVICE,
                }),
            ),
        ] {
            assert_eq!(serde_json::to_value(Operator::new("count".to_owned(), fit)).expect("JSON"), told);
        }
    }
}
