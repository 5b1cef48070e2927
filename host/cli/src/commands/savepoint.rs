//! `weir savepoint`

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;
use weir_checkpoint::{ErrorKind, Savepoint, Savepoints};
use weir_client::{CheckpointUnderWay, Client, SavepointDetail, SavepointWish, SavepointWritten};
use weir_coordinator::execution::newest;
use weir_coordinator::savepoint;
use weir_sandbox::LogSink;

use crate::args::setting;
use crate::exit::Failure;
use crate::server_args::AskArgs;
use crate::spec_file::{self, Opened, SpecArgs};
use crate::{checkpoints, out, waiting};

/// How often a checkpoint is copied whose job goes on and removes it meanwhile.
const COPIES_MAX: usize = 5;

/// Make, list, show and delete savepoints
///
/// A savepoint is a checkpoint that belongs to you: it stays until you delete it, can be moved, and other jobs can start from it, also with
/// another parallelism or changed.
///
/// Example: weir savepoint create job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4 --id before-upgrade
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    ask: AskArgs,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// Make a savepoint of a job, and print its id and where it lies
    ///
    /// Of a job on a server, by its id: of its state now, which may end the job. Of a job of `weir run`, by its spec: of its newest complete
    /// checkpoint, in its checkpoint.storage, whether it runs or has ended.
    ///
    /// All copies are read: there is no savepoint of a checkpoint that is damaged. Nor is there one of an unaligned checkpoint with rows in
    /// flight: stop the job first, which leaves none.
    ///
    /// Example: weir savepoint create job_01JA0Z4K8WJ6R7M0Q4X1Y2Z3A4 --id before-upgrade --stop
    Create {
        /// The job's id on the server, or the spec of a job of `weir run`
        #[arg(value_name = "JOB|JOB.TOML")]
        job: String,

        /// The savepoint's id; the job's name and the time if it is not said
        #[arg(long)]
        id: Option<String>,

        /// End the job with it
        #[arg(long)]
        stop: bool,

        /// Emit all windows before, as at the end of the input
        #[arg(long, requires = "stop")]
        drain: bool,

        /// Change the spec; may be given several times
        #[arg(long = "set", value_name = "PATH.TO.KEY=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
    },
    /// List the savepoints, by their ids
    ///
    /// Example: weir savepoint list --storage checkpoints
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Show a savepoint: its job, its operators' state, how far sources had read, and files that are missing
    ///
    /// Ends with exit code 1 if files are missing or have another length; with --verify, also if one has other bytes than were stored.
    ///
    /// Example: weir savepoint inspect before-upgrade --output json
    Inspect {
        /// The savepoint's id; or its folder or URL, if it has been moved
        #[arg(value_name = "ID|URL|FOLDER")]
        savepoint: String,

        /// Read all files and compare their checksums, too: it takes as long as that does
        #[arg(long)]
        verify: bool,

        #[command(flatten)]
        place: Place,
    },
    /// Delete a savepoint, or what is left of one that is not complete
    ///
    /// A server refuses it while a job that has started from it has no checkpoint of its own yet.
    ///
    /// Example: weir savepoint delete before-upgrade
    Delete {
        /// The savepoint's id
        id: String,

        #[command(flatten)]
        place: Place,
    },
}

/// Where savepoints are, if not on a server.
#[derive(clap::Args, Debug)]
struct Place {
    /// Where a job of `weir run` has its checkpoints (checkpoint.storage), instead of a server
    #[arg(long, value_name = "URL|FOLDER")]
    storage: Option<String>,
}

impl Place {
    fn savepoints(&self) -> Result<Option<Savepoints>, Failure> {
        let Some(storage) = &self.storage else { return Ok(None) };
        Ok(Some(checkpoints::existing(storage, &[], Path::new("."))?.savepoints()))
    }
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let client = args.ask.client();
    let json = args.ask.json();
    match &args.action {
        Action::Create { job, id, stop, drain, settings } => {
            let is_spec = Path::new(job).extension().is_some_and(|extension| extension == "toml") || Path::new(job).exists();
            let written = if is_spec {
                if *stop {
                    let message = "a job of `weir run` is stopped where it runs: press Ctrl-C there, and make the savepoint then, without --stop";
                    return Err(anyhow::anyhow!(message).into());
                }
                let spec = SpecArgs { spec: PathBuf::from(job), settings: settings.clone() };
                of_newest_checkpoint(&spec, id.as_deref()).await?
            } else if settings.is_empty() {
                let wish = SavepointWish { id: id.clone(), stop: *stop, drain: *drain };
                watched(&client, job, client.save(job, &wish)).await?
            } else {
                return Err(anyhow::anyhow!("--set changes a spec, and \"{job}\" is no file").into());
            };
            told(&written, json)?;
        }
        Action::List { place } => {
            let list = match place.savepoints()? {
                Some(savepoints) => as_from_a_server(&savepoint::list(&savepoints).await?)?,
                None => client.savepoints().await?,
            };
            if json { out::print_json(&list)? } else { out::print(&table(&list))? }
        }
        Action::Inspect { savepoint, verify, place } => {
            let is_place = savepoint.contains("://") || savepoint.contains('/') || Path::new(savepoint).is_dir();
            let found = match place.savepoints()? {
                Some(savepoints) => Some(savepoints.open(savepoint).await?),
                None if is_place => Some(Savepoint::at(&checkpoints::existing(savepoint, &[], Path::new("."))?).await?),
                None => None,
            };
            let detail = match found {
                Some(found) => as_from_a_server(&savepoint::view(&found, *verify).await?)?,
                None if *verify => client.verified_savepoint(savepoint).await?,
                None => client.savepoint(savepoint).await?,
            };
            if json {
                out::print_json(&detail)?
            } else {
                out::print(&text(&detail, *verify))?
            }
            if !detail.broken.is_empty() {
                out::tell(&format!("error: {} files of the savepoint are missing, or not what they were", detail.broken.len()));
                return Err(Failure::Told);
            }
        }
        Action::Delete { id, place } => {
            match place.savepoints()? {
                Some(savepoints) => savepoints.delete(id).await?,
                None => client.delete_savepoint(id).await?,
            }
            out::tell(&format!("deleted {id}"));
        }
    }
    Ok(())
}

/// Waits for a checkpoint or savepoint that a server makes of a job; shows how far it is, if it takes long.
pub async fn watched<T>(client: &Client, job: &str, made: impl Future<Output = T>) -> T {
    let far = async || match client.job(job).await {
        Ok(detail) => detail.checkpoints_under_way.iter().map(under_way).collect::<Vec<_>>().join("; "),
        // What is wrong, the answer will say that is waited for.
        Err(_) => String::new(),
    };
    waiting::shown(made, far).await
}

/// How far a checkpoint is that is being made, or copied to a savepoint.
pub fn under_way(checkpoint: &CheckpointUnderWay) -> String {
    let far = out::far(checkpoint.bytes_uploaded, checkpoint.bytes_to_upload);
    match &checkpoint.savepoint {
        Some(id) => format!("checkpoint {} as savepoint {id}: {far} copied", checkpoint.checkpoint),
        None => {
            format!("checkpoint {}: {far} uploaded, {} of {} tasks", checkpoint.checkpoint, checkpoint.acked, checkpoint.tasks)
        }
    }
}

/// Tells of a savepoint that was made.
pub fn told(written: &SavepointWritten, json: bool) -> Result<(), Failure> {
    if json {
        return out::print_json(written);
    }
    Ok(out::print(&format!("{}  {}\n", written.savepoint, written.url))?)
}

/// What a server would answer, as its client reads it.
pub fn as_from_a_server<T: DeserializeOwned>(view: &impl Serialize) -> Result<T, Failure> {
    Ok(serde_json::from_value(serde_json::to_value(view)?)?)
}

/// Makes a savepoint of the newest complete checkpoint of a job of `weir run`.
async fn of_newest_checkpoint(spec: &SpecArgs, id: Option<&str>) -> anyhow::Result<SavepointWritten> {
    let Opened { prepared, base } = spec_file::open(spec, &LogSink::none()).await?;
    let checkpoints = checkpoints::look(&prepared.plan, &base)?.context(
        "the job has no checkpoints, so there can be no savepoint of it; set checkpoint.storage and checkpoint.interval, and run it",
    )?;
    let job = checkpoints.storage.job(&checkpoints.job)?;
    let savepoints = checkpoints.storage.savepoints();
    let id = id.map_or_else(|| savepoint::default_id(&checkpoints.job, Timestamp::now()), str::to_owned);
    savepoints.check_free(&id).await?;
    for tries_left in (0..COPIES_MAX).rev() {
        let Some(manifest) = newest(&job).await? else {
            bail!("there is no complete checkpoint of the job in {}", job.folder().url());
        };
        let copied = AtomicU64::new(0);
        let progress = |bytes| {
            copied.fetch_add(bytes, Relaxed);
        };
        let far = async || {
            let far = out::far(copied.load(Relaxed), manifest.bytes_total);
            format!("checkpoint {} as savepoint {id}: {far} copied", manifest.checkpoint)
        };
        match waiting::shown(savepoints.write(&id, job.folder(), &manifest, &progress), far).await {
            Ok(savepoint) => {
                let url = savepoint.folder().url();
                return Ok(SavepointWritten { checkpoint: manifest.checkpoint, savepoint: id, url });
            }
            // The job goes on, and may have removed the checkpoint meanwhile.
            Err(error) if error.kind == ErrorKind::NotFound && tries_left > 0 => {}
            Err(error) => return Err(error.into()),
        }
    }
    bail!("the job removes its checkpoints faster than they can be copied; set checkpoint.retained higher")
}

fn table(savepoints: &[weir_client::Savepoint]) -> String {
    let head = ["SAVEPOINT", "JOB", "CHECKPOINT", "MADE", "BYTES", "INPUT"].map(str::to_owned).to_vec();
    let rows = savepoints.iter().map(|savepoint| match &savepoint.content {
        Some(content) => vec![
            savepoint.id.clone(),
            content.job.clone(),
            content.checkpoint.to_string(),
            out::to_the_second(&content.made),
            content.bytes.to_string(),
            if content.at_end { "at its end" } else { "goes on" }.to_owned(),
        ],
        None => vec![savepoint.id.clone(), savepoint.problem.clone().unwrap_or_default()],
    });
    out::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}

fn text(detail: &SavepointDetail, is_verified: bool) -> String {
    let content = &detail.content;
    let mut out = String::new();
    let read = if is_verified { ", all read" } else { "" };
    for (what, value) in [
        ("savepoint", detail.id.clone()),
        ("url", detail.url.clone()),
        ("job", format!("{}, checkpoint {}", content.job, content.checkpoint)),
        ("kind", content.kind.clone()),
        ("made", out::to_the_second(&content.made)),
        ("size", format!("{} bytes in {} files{read}", content.bytes, detail.files)),
        ("key groups", detail.max_parallelism.to_string()),
    ] {
        out += &format!("{what:12}{value}\n");
    }
    if content.at_end {
        out += &format!("{:12}begins anew for a job that starts from it: its own was drained, or had finished\n", "time");
    }
    if detail.batches_in_flight > 0 {
        let batches = detail.batches_in_flight;
        out += &format!("{:12}{batches} batches of rows: a job that starts from it must have the same exchanges\n", "in flight");
    }
    let head = ["OPERATOR", "STATE", "SUBTASKS", "BYTES"].map(str::to_owned).to_vec();
    let rows = detail.operators.iter().map(|o| vec![o.id.clone(), o.schema.clone(), o.subtasks.to_string(), o.bytes.to_string()]);
    out += &format!("\n{}", out::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    let head = ["SOURCE", "SPLIT", "POSITION"].map(str::to_owned).to_vec();
    let splits = detail.sources.iter().flat_map(|source| source.splits.iter().map(move |(split, at)| (&source.name, split, at)));
    let rows = splits.map(|(name, split, at)| {
        let at = at.as_str().map_or_else(|| at.to_string(), str::to_owned);
        vec![name.clone(), split.clone(), at]
    });
    out += &format!("\n{}", out::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    if !detail.broken.is_empty() {
        let head = ["BROKEN FILE", "WHAT IS WRONG"].map(str::to_owned).to_vec();
        let rows = detail.broken.iter().map(|(path, problem)| vec![path.clone(), problem.clone()]);
        out += &format!("\n{}", out::table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    out
}
