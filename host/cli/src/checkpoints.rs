//! Where checkpoints and savepoints lie of jobs that run without a server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use weir_checkpoint::{Savepoint, Storage, location};
use weir_coordinator::execution::Checkpoints;
use weir_plan::JobPlan;

/// The storage that a spec names; none if the job is not checkpointed.
pub fn open(plan: &JobPlan, base: &Path) -> Result<Option<Checkpoints>> {
    let Some(storage) = named(plan)? else { return Ok(None) };
    let storage = Storage::open(&location::url(storage, base)?, &options(plan))?;
    Ok(Some(Checkpoints { storage, job: plan.name.clone() }))
}

/// The same, where checkpoints are only looked for.
pub fn look(plan: &JobPlan, base: &Path) -> Result<Option<Checkpoints>> {
    let Some(storage) = named(plan)? else { return Ok(None) };
    let storage = existing(storage, &options(plan), base)?;
    Ok(Some(Checkpoints { storage, job: plan.name.clone() }))
}

/// Checks the storage that a spec names, as far as that goes without opening it. A job for a server has none, but may have an interval.
pub fn check(plan: &JobPlan, base: &Path) -> Result<()> {
    let Some(storage) = &plan.spec.checkpoint.storage else { return Ok(()) };
    Ok(Storage::check(&location::url(storage, base)?, &options(plan))?)
}

fn named(plan: &JobPlan) -> Result<Option<&str>> {
    let spec = &plan.spec.checkpoint;
    if spec.storage.is_none() && spec.interval.is_some() {
        bail!(
            "checkpoint.interval is set, but not where checkpoints lie; set checkpoint.storage = \"checkpoints\" (a folder or a URL)"
        );
    }
    Ok(spec.storage.as_deref())
}

/// The savepoint at a URL, or in a folder, for a job to start from.
pub async fn savepoint(url: Option<&str>, plan: &JobPlan, base: &Path) -> Result<Option<Arc<Savepoint>>> {
    let Some(url) = url else { return Ok(None) };
    let savepoint = async { Ok::<_, anyhow::Error>(Savepoint::at(&existing(url, &options(plan), base)?).await?) }.await;
    Ok(Some(Arc::new(savepoint.with_context(|| format!("cannot start from the savepoint {url}"))?)))
}

/// A storage that is looked at: unlike one to write to, a folder of it is not made.
pub fn existing(storage: &str, options: &[(String, String)], base: &Path) -> Result<Storage> {
    let url = location::url(storage, base)?;
    if let Some(folder) = location::directory(&url).filter(|folder| !folder.is_dir()) {
        bail!("there is no folder {}", folder.display());
    }
    Ok(Storage::open(&url, options)?)
}

fn options(plan: &JobPlan) -> Vec<(String, String)> {
    let options: &BTreeMap<_, _> = &plan.spec.checkpoint.options;
    options.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a folder that is not there is not made by looking at it, however it is named.
    #[test]
    fn folders_that_are_looked_at_are_not_made() {
        // Nobody could make one there, and would say so.
        let base = Path::new("/proc");
        for storage in ["nowhere", "/proc/nowhere", "file:///proc/nowhere", "FILE:///proc/nowhere/"] {
            let refused = existing(storage, &[], base).expect_err("it is not there");
            assert_eq!(refused.to_string(), "there is no folder /proc/nowhere", "{storage}");
        }
        for storage in ["self", "/proc/self", "file:///proc/self"] {
            assert!(existing(storage, &[], base).is_ok(), "{storage}");
        }
    }
}
