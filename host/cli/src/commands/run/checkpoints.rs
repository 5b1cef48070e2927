//! Where a run's checkpoints and savepoints lie.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use weir_checkpoint::{Savepoint, Storage};
use weir_coordinator::execution::{Checkpoints, storage_url};
use weir_plan::JobPlan;

/// The storage that a spec names; none if the job is not checkpointed.
pub fn open(plan: &JobPlan, base: &Path) -> Result<Option<Checkpoints>> {
    let spec = &plan.spec.checkpoint;
    let Some(storage) = &spec.storage else {
        if spec.interval.is_some() {
            bail!(
                "checkpoint.interval is set, but not where checkpoints lie; set checkpoint.storage = \"checkpoints\" (a folder or a URL)"
            );
        }
        return Ok(None);
    };
    Ok(Some(Checkpoints { storage: open_storage(storage, plan, base)?, job: plan.name.clone() }))
}

/// The savepoint at a URL, or in a folder.
pub async fn savepoint(url: Option<&str>, plan: &JobPlan, base: &Path) -> Result<Option<Arc<Savepoint>>> {
    let Some(url) = url else { return Ok(None) };
    let savepoint = Savepoint::at(&open_storage(url, plan, base)?).await;
    Ok(Some(Arc::new(savepoint.with_context(|| format!("cannot start from the savepoint {url}"))?)))
}

fn open_storage(storage: &str, plan: &JobPlan, base: &Path) -> Result<Storage> {
    let options: Vec<_> = plan.spec.checkpoint.options.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    Ok(Storage::open(&storage_url(storage, base), &options)?)
}
