//! What becomes of state if a job starts from a checkpoint, told before anything stops.

use serde::Serialize;
use utoipa::ToSchema;
use weir_checkpoint::Manifest;
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
    /// whether the job would start
    pub starts: bool,
    /// why it would not, whatever its operators' state is
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// the job's operators that keep state, in their order, then those that it has not any more
    pub operators: Vec<Operator>,
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
    /// Compares a job with a checkpoint. `with` is where that lies. Components are asked where types of state have changed; nothing is started.
    pub async fn new(with: String, Prepared { plan, components }: &Prepared, manifest: &Manifest) -> Self {
        let fits = compare(plan, components, manifest).await;
        let operators: Vec<_> = fits.into_iter().map(|(id, fit)| Operator::new(id, fit)).collect();
        let refusal = misfit(plan, manifest);
        let starts = refusal.is_none() && operators.iter().all(|operator| operator.advice.is_none());
        Self { with, checkpoint: manifest.checkpoint, starts, refusal, operators }
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
