//! Where checkpoints and savepoints lie of jobs that run without a server.

use std::collections::BTreeMap;
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
    let storage = Storage::open(&storage_url(storage, base), &options(plan))?;
    Ok(Some(Checkpoints { storage, job: plan.name.clone() }))
}

/// The savepoint at a URL, or in a folder, for a job to start from.
pub async fn savepoint(url: Option<&str>, plan: &JobPlan, base: &Path) -> Result<Option<Arc<Savepoint>>> {
    let Some(url) = url else { return Ok(None) };
    let savepoint = async { Ok::<_, anyhow::Error>(Savepoint::at(&existing(url, &options(plan), base)?).await?) }.await;
    Ok(Some(Arc::new(savepoint.with_context(|| format!("cannot start from the savepoint {url}"))?)))
}

/// A storage that is looked at: unlike one to write to, a folder of it is not made.
pub fn existing(storage: &str, options: &[(String, String)], base: &Path) -> Result<Storage> {
    let folder = base.join(storage);
    if !storage.contains("://") && !folder.is_dir() {
        bail!("there is no folder {}", folder.display());
    }
    Ok(Storage::open(&storage_url(storage, base), options)?)
}

fn options(plan: &JobPlan) -> Vec<(String, String)> {
    let options: &BTreeMap<_, _> = &plan.spec.checkpoint.options;
    options.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
