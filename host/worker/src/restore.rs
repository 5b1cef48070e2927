//! What a job starts from: a complete checkpoint, or a savepoint.
//!
//! Nothing here depends on how many subtasks wrote it, or what they were: splits are dealt out anew, keyed state goes to who owns its key group now, and
//! each subtask has all of an operator's other state. Rows in flight are the [`in_flight`] module's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_checkpoint::{ChainSnapshot, EntriesReader, ErrorKind, FileRef, Folder, JobStorage, Kind, Manifest, StateFiles};
use weir_connector::Transaction;
use weir_operator::snapshot::misfit as misfit_of;
use weir_operator::{ChainOperator, Context, Misfit, Predecessor};
use weir_plan::JobPlan;
use weir_plan::explain::{time_domain, window_shape};
use weir_plan::job::{ChainNode, NodeKind};
use weir_sandbox::Component;
use weir_state::Entries;
use weir_types::graph::Head;
use weir_types::{KeyGroupRange, Watermark};

use crate::bindings::{self, BindingFit, LOST_SOURCE_ADVICE, Splits};
use crate::database;
use crate::disk::{self, StateDisk};
use crate::error::{Failure, FailureKind, restore_failure};
use crate::fnv::fnv;
use crate::in_flight;
use crate::limits::limits;

/// About how many bytes of entries are given to an operator at a time.
const CHUNK_BYTES: usize = 4 << 20;

/// What a job starts from.
#[derive(Clone, Debug)]
pub struct Restore {
    /// what it comprises
    pub manifest: Arc<Manifest>,
    /// where its files are
    pub folder: Folder,
    /// whether state of operators, and positions of sources, that the job has not any more are left behind
    pub drops_unmatched: bool,
}

/// Whose state it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner<'a> {
    /// what the state is named after
    pub operator: &'a str,
    /// which subtask
    pub subtask: u16,
    /// the key groups that it owns
    pub groups: KeyGroupRange,
}

impl Restore {
    /// Whether the job had finished by then: nothing is read after it.
    pub(crate) fn is_over(&self) -> bool {
        self.manifest.kind == Kind::Final
    }

    /// The splits of a source that the checkpoint knows; none if it does not know the source.
    pub(crate) fn splits(&self, source: &str) -> Option<Splits> {
        bindings::splits(&self.manifest, source)
    }

    /// What the job starts from in fact: without the state that is to be left behind.
    ///
    /// # Errors
    /// If there is state that no operator of the job can take, or there are positions of a source that it has not, and they are not to be left behind.
    pub async fn settle(&self, plan: &JobPlan, components: &[Component]) -> Result<Self, Failure> {
        let refuse = |message: String| Err(Failure { is_final: true, ..Failure::new(FailureKind::Checkpoint, message) });
        let checkpoint = self.manifest.checkpoint;
        if let Some(message) = misfit(plan, &self.manifest) {
            return refuse(message);
        }
        for (source, fit) in bindings::compare_sources(plan, &self.manifest) {
            if fit == BindingFit::Lost && !self.drops_unmatched {
                return refuse(format!(
                    "checkpoint {checkpoint} has positions of a source \"{source}\", which the job has not, so that what is in its place would be read from \
                     its beginning; {LOST_SOURCE_ADVICE}"
                ));
            }
        }
        let (mut left_behind, mut stateless) = (BTreeSet::new(), BTreeSet::new());
        for (operator, fit) in compare(plan, components, &self.manifest).await {
            match fit {
                Fit::Kept | Fit::Migrated { .. } => {}
                Fit::New => {
                    stateless.insert(operator);
                }
                Fit::Lost | Fit::Unreadable { .. } if self.drops_unmatched => {
                    left_behind.insert(operator);
                }
                Fit::Lost => {
                    return refuse(format!(
                        "checkpoint {checkpoint} has state of an operator \"{operator}\", which the job has not; give the operator its id back, or leave the \
                         state behind by --allow-non-restored-state"
                    ));
                }
                Fit::Unreadable { was, is, why } => {
                    return refuse(format!(
                        "the operator \"{operator}\" cannot read its state of checkpoint {checkpoint}: {why}; it was {was}, and is {is} now; {UNREADABLE_ADVICE}"
                    ));
                }
            }
        }
        let mut settled = self.clone();
        let (keepers, with_state) = (keepers(plan).collect(), with_state(&self.manifest));
        let goes_on = |chain: &ChainSnapshot| with_state.contains(chain.operator.as_str()) || keeps_time(&keepers, chain);
        let tasks = &mut Arc::make_mut(&mut settled.manifest).tasks;
        // Rows in flight may be partial states, too.
        let in_flight = tasks.iter().any(|task| !task.in_flight.is_empty());
        for task in tasks {
            task.chains.retain(|chain| !left_behind.contains(&chain.operator) && goes_on(chain));
            // What there is no state of, nobody has to be able to read.
            let stateless = task.chains.iter_mut().filter(|chain| !in_flight && stateless.contains(&chain.operator));
            stateless.for_each(|chain| chain.state_schemas.clear());
        }
        Ok(settled)
    }

    /// The schemas of the states that an operator may come to read.
    pub(crate) fn state_schemas(restore: Option<&Self>, operator: &str, node: &ChainNode) -> Vec<String> {
        let chains = restore.into_iter().flat_map(|restore| &restore.manifest.tasks).flat_map(|task| &task.chains);
        let stored = chains.filter(|chain| chain.operator == operator).map(|chain| &chain.state_schemas[..]).next();
        state_schemas(node, stored.unwrap_or_default())
    }

    /// What subtasks had of an operator, by their numbers; that of subtask `subtask` comes first.
    fn parts(&self, operator: &str, subtask: u16) -> Vec<(u16, &ChainSnapshot)> {
        let all = self.manifest.tasks.iter().flat_map(|t| t.chains.iter().map(|c| (t.subtask, c)));
        let mut parts: Vec<_> = all.filter(|(_, c)| c.operator == operator).collect();
        parts.sort_by_key(|(of, _)| (*of != subtask, *of));
        parts
    }

    /// Opens a database for an operator on the files of what it had. None if it had no database. `own` is where the job's checkpoints go.
    pub(crate) async fn open_database(
        &self,
        Owner { operator, subtask, groups }: Owner<'_>,
        disk: &disk::Folder,
        own: Option<&JobStorage>,
    ) -> Result<Option<database::Opened>, Failure> {
        let parts = self.parts(operator, subtask);
        let parts: Vec<_> = parts.into_iter().map(|(_, part)| part).filter(|part| has_any_of(part, groups)).collect();
        let mut opened = database::open(&parts, groups, &self.folder, disk).await?;
        // Files of another folder are not the job's to refer to.
        if let Some(opened) = &mut opened
            && own.is_none_or(|own| own.folder().url() != self.folder.url())
        {
            opened.stored.clear();
        }
        Ok(opened)
    }

    /// Gives an operator its state, and the watermark that it has seen. What databases have of it is `in_backend` already, or still in their files.
    pub(crate) async fn restore(
        &self,
        Owner { operator, subtask, groups }: Owner<'_>,
        in_backend: bool,
        disk: &StateDisk,
        chain: &mut ChainOperator,
        context: &mut Context,
    ) -> Result<(), Failure> {
        // What is the same in all is taken from the subtask of the same number, if there was one.
        let parts = self.parts(operator, subtask);
        let taken: Vec<_> = parts
            .iter()
            .enumerate()
            .filter(|(index, (_, part))| *index == 0 || has_any_of(part, groups))
            .map(|(_, (_, part))| *part)
            .collect();
        let Some(watermark) = watermark_of(&taken) else { return Ok(()) };
        context.watermark = watermark;
        let predecessors: Vec<_> =
            taken.iter().map(|part| Predecessor { groups: part.groups.intersection(groups), scalars: &part.scalars }).collect();
        chain.begin_restore(&predecessors, context).map_err(|e| restore_failure(&e))?;
        for part in taken.into_iter().filter(|part| has_any_of(part, groups)) {
            let files = match &part.state {
                StateFiles::Entries(files) => files,
                StateFiles::RocksDb { entries, .. } if in_backend => {
                    chain.restore_database(&part.scalars, context).map_err(|e| restore_failure(&e))?;
                    entries
                }
                StateFiles::RocksDb { files, entries } => {
                    let shared = part.groups.intersection(groups);
                    let (disk, scalars) = (disk.folder(true)?, &part.scalars);
                    database::restore_entries(files, scalars, shared, &self.folder, &disk, chain, context).await?;
                    entries
                }
            };
            self.restore_entries(files, groups, chain, context).await?;
        }
        // Where rows of a broadcast are in flight, they are those that this very subtask has not seen.
        if let Some(file) = parts.first().and_then(|(_, part)| part.operator_state.as_ref()) {
            let state = self.folder.fetch(file).await.map_err(|e| fetch_failure(&e))?;
            chain.restore_operator_state(&state, context).await.map_err(|e| restore_failure(&e))?;
        }
        chain.finish_restore().map_err(|e| restore_failure(&e))
    }

    async fn restore_entries(
        &self,
        files: &[FileRef],
        groups: KeyGroupRange,
        chain: &mut ChainOperator,
        context: &Context,
    ) -> Result<(), Failure> {
        for file in files {
            let located = |failure: Failure| Failure { message: format!("{}: {}", file.path, failure.message), ..failure };
            let torn = |error: &dyn std::fmt::Display| located(Failure::new(FailureKind::Damaged, error.to_string()));
            let refused = |error: &weir_operator::Error| located(restore_failure(error));
            let bytes = self.folder.fetch(file).await.map_err(|e| fetch_failure(&e))?;
            let mut reader = EntriesReader::new(&bytes[..], groups);
            let (mut chunk, mut bytes) = (Entries::default(), 0);
            while let Some(entry) = reader.next().map_err(|e| torn(&e))? {
                chunk.push(entry.group, entry.namespace, entry.key, entry.value);
                bytes += entry.key.len() + entry.value.len();
                if bytes >= CHUNK_BYTES {
                    chain.restore_entries(&chunk, context).map_err(|e| refused(&e))?;
                    chunk.clear();
                    bytes = 0;
                    tokio::task::yield_now().await;
                }
            }
            chain.restore_entries(&chunk, context).map_err(|e| refused(&e))?;
        }
        Ok(())
    }
}

/// The watermark that all of these parts of an operator have seen, to go on from; none if there are none.
fn watermark_of(parts: &[&ChainSnapshot]) -> Option<Watermark> {
    parts.iter().map(|part| Watermark(part.watermark).resumed()).min()
}

/// Whether a part of an operator had some of these key groups.
fn has_any_of(part: &ChainSnapshot, groups: KeyGroupRange) -> bool {
    !part.groups.intersection(groups).is_empty()
}

/// A file of a checkpoint could not be fetched: if it is damaged or gone, so is the checkpoint; if there is no place for it, that is no matter of the checkpoint.
pub(crate) fn fetch_failure(error: &weir_checkpoint::Error) -> Failure {
    match error.kind {
        ErrorKind::Corrupt | ErrorKind::NotFound => Failure::new(FailureKind::Damaged, error.to_string()),
        ErrorKind::Local => Failure::new(
            FailureKind::Resources,
            format!("{error}; make room there, or say where else state on disk is to be by --state-dir"),
        ),
        _ => Failure::new(FailureKind::Checkpoint, error.to_string()),
    }
}

/// Why a job cannot start from a checkpoint, whatever its operators' state is; none if it can.
pub fn misfit(plan: &JobPlan, manifest: &Manifest) -> Option<String> {
    let (checkpoint, groups) = (manifest.checkpoint, manifest.max_parallelism);
    if groups != plan.spec.max_parallelism {
        return Some(format!(
            "checkpoint {checkpoint} has {groups} key groups, and the job {}: set max_parallelism = {groups}, which is fixed for the life of a job's state",
            plan.spec.max_parallelism
        ));
    }
    in_flight::misfit(plan, manifest)
}

/// What becomes of an operator's state when a job starts from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// it goes on with it
    Kept,
    /// there is none in the checkpoint: it begins without
    New,
    /// its type has changed, and the component can read what there is
    Migrated {
        /// what the states are
        was: String,
        /// what they will be
        is: String,
    },
    /// it has changed so that it cannot read it
    Unreadable {
        /// what the state is
        was: String,
        /// what the operator's state would be
        is: String,
        /// what is in the way
        why: String,
    },
    /// the job has no such operator
    Lost,
}

/// What to do about state that cannot be read.
pub const UNREADABLE_ADVICE: &str =
    "change it back, migrate it in the component, or leave its state behind by --allow-non-restored-state";

/// What becomes of the state of each operator that has some, or had some in the checkpoint: the job's in their order, then those that are lost. `components` are
/// those of the plan; they are asked where types of state have changed.
pub async fn compare(plan: &JobPlan, components: &[Component], manifest: &Manifest) -> Vec<(String, Fit)> {
    let mut fits = vec![];
    for (operator, verdict) in judge(plan, manifest) {
        let fit = match verdict {
            Verdict::Is(fit) => fit,
            Verdict::AskComponent(node, schemas) => {
                let args = plan.spec.component_specs()[node.component].1.arguments();
                let limits = limits(&plan.spec.limits);
                let answer = components[node.component].reads(&args, node.index, &schemas, &limits).await;
                let is = node.chain.state_schema.clone().unwrap_or_default();
                let was = schemas.into_iter().rfind(|schema| *schema != is).unwrap_or_default();
                match answer {
                    Ok(()) => Fit::Migrated { was, is },
                    Err(error) => Fit::Unreadable { was, is, why: error.message },
                }
            }
        };
        fits.push((operator, fit));
    }
    fits
}

/// What the plan and the manifest say of an operator's state.
#[derive(Debug)]
enum Verdict<'a> {
    Is(Fit),
    /// it depends on whether the component can read all of these schemas
    AskComponent(&'a ChainNode, Vec<String>),
}

fn judge<'a>(plan: &'a JobPlan, manifest: &'a Manifest) -> Vec<(String, Verdict<'a>)> {
    let chains = || manifest.tasks.iter().flat_map(|task| &task.chains);
    let stored: BTreeMap<&str, &ChainSnapshot> = chains().map(|chain| (chain.operator.as_str(), chain)).collect();
    let with_state = with_state(manifest);
    let mut seen = BTreeSet::new();
    let mut verdicts = vec![];
    for (operator, node) in keepers(plan) {
        if !seen.insert(operator.clone()) {
            continue;
        }
        let verdict = match stored.get(operator.as_str()) {
            None => Verdict::Is(Fit::New),
            Some(chain) if with_state.contains(operator.as_str()) => judge_state(node, chain),
            Some(chain) => Verdict::Is(judge_stateless(node, chain)),
        };
        verdicts.push((operator, verdict));
    }
    let lost = with_state.into_iter().filter(|operator| !seen.contains(*operator));
    verdicts.extend(lost.map(|operator| (operator.to_owned(), Verdict::Is(Fit::Lost))));
    verdicts
}

/// What becomes of an operator of which there is nothing but how far its time was. Who cannot read that does not know whether there is no more to it.
fn judge_stateless(node: &ChainNode, stored: &ChainSnapshot) -> Fit {
    match misfit_of(node.chain.head, &stored.scalars) {
        Some(reason @ Misfit::Version(_)) => unreadable(node, stored, reason),
        _ => Fit::New,
    }
}

/// State that an operator cannot go on from, though its type is the same.
fn unreadable(node: &ChainNode, stored: &ChainSnapshot, reason: Misfit) -> Fit {
    match reason {
        Misfit::Layout { was, is } => Fit::Unreadable { was, is, why: "it keeps its state in other parts".to_owned() },
        reason => Fit::Unreadable { was: stored.schema.clone(), is: state_schema(node), why: reason.to_string() },
    }
}

/// Whether an operator without state goes on from what is said of it besides: how far its time was. It does not where it has become another one, to which
/// that says nothing; it does where only its key or its gap has changed, so that what was late stays late.
fn keeps_time(keepers: &BTreeMap<String, &ChainNode>, stored: &ChainSnapshot) -> bool {
    let Some(node) = keepers.get(&stored.operator) else { return false };
    let is_of_same_time = match node.chain.head {
        Head::Window(window) => stored.schema.contains(&format!(", {})", time_domain(window.domain))),
        Head::Relay | Head::Transform | Head::Process => true,
    };
    is_of_same_time && misfit_of(node.chain.head, &stored.scalars).is_none()
}

/// Whether an operator can read what it had.
fn judge_state<'a>(node: &'a ChainNode, stored: &ChainSnapshot) -> Verdict<'a> {
    let (was, is) = (&stored.schema, state_schema(node));
    if *was != is {
        let why = "the operator or its key is another one".to_owned();
        return Verdict::Is(Fit::Unreadable { was: was.clone(), is, why });
    }
    if let Some(reason) = misfit_of(node.chain.head, &stored.scalars) {
        return Verdict::Is(unreadable(node, stored, reason));
    }
    const UNSAID: &str = "of a type that its component did not say";
    let own = &node.chain.state_schema;
    match (&stored.state_schemas[..], own) {
        ([], None) => Verdict::Is(Fit::Kept),
        ([only], Some(own)) if only == own => Verdict::Is(Fit::Kept),
        ([.., newest], None) => Verdict::Is(Fit::Unreadable {
            was: newest.clone(),
            is: UNSAID.to_owned(),
            why: "its component does not say any more what its states are".into(),
        }),
        ([], Some(own)) => Verdict::Is(Fit::Unreadable {
            was: UNSAID.to_owned(),
            is: own.clone(),
            why: "the component that wrote it did not say what its states are".into(),
        }),
        (_, Some(_)) => Verdict::AskComponent(node, state_schemas(node, &stored.state_schemas)),
    }
}

/// The schemas of the states that an operator may come to read: those that there were before, and its own.
fn state_schemas(node: &ChainNode, stored: &[String]) -> Vec<String> {
    let own = node.chain.state_schema.iter().filter(|own| !stored.contains(own));
    stored.iter().chain(own).cloned().collect()
}

/// What a job's operators with state, and its sources and sinks, hash to: jobs of one fingerprint can take over from each other.
pub fn fingerprint(plan: &JobPlan) -> String {
    let sources = plan.sources.iter().map(|source| format!("source {}", source.name));
    let sinks = plan.sinks.iter().map(|sink| format!("sink {}", sink.name));
    let operators = keepers(plan).map(|(operator, node)| format!("{operator}: {}", state_schema(node)));
    let parts: BTreeSet<String> = sources.chain(sinks).chain(operators).collect();
    let hash = fnv(parts.iter().flat_map(|part| part.bytes().chain([0])));
    format!("{hash:016x}")
}

/// The operators of a job that keep state.
fn keepers(plan: &JobPlan) -> impl Iterator<Item = (String, &ChainNode)> {
    let nodes = plan.vertices.iter().flat_map(|vertex| &vertex.nodes);
    nodes.filter_map(|node| match &node.kind {
        NodeKind::Chain(chain) if ChainOperator::makes_rows(chain.chain.head) => Some((state_id(plan, chain), &**chain)),
        NodeKind::Chain(_) | NodeKind::Sink(_) | NodeKind::Exchange(_) => None,
    })
}

/// What the state of a chain is named after: its first operator, with its component where there are several.
pub(crate) fn state_id(plan: &JobPlan, node: &ChainNode) -> String {
    in_component(plan, node, node.operator_id())
}

/// A name that is one in its component, for the whole job: with the component, where there are several.
pub(crate) fn in_component(plan: &JobPlan, node: &ChainNode, name: &str) -> String {
    match plan.spec.component_specs()[node.component].0.as_str() {
        "" => name.to_owned(),
        component => format!("{component}.{name}"),
    }
}

/// What the state of a chain is: only an operator of which the same is said can read it.
pub(crate) fn state_schema(node: &ChainNode) -> String {
    let keyed = node.chain.inputs.iter().zip(&node.inputs).find(|(input, _)| !input.key.is_empty());
    let key: Vec<_> = keyed
        .iter()
        .flat_map(|(input, schema)| input.key.iter().map(|&column| schema.field(column)))
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let head = match node.chain.head {
        Head::Relay | Head::Transform => "no state".to_owned(),
        Head::Process => "a process function".to_owned(),
        Head::Window(window) => format!("windows ({})", window_shape(&window)),
    };
    if key.is_empty() { head } else { format!("{head} by {}", key.join(", ")) }
}

/// What sinks have prepared, by their names.
pub fn transactions<'a>(tasks: impl Iterator<Item = &'a weir_checkpoint::TaskSnapshot>) -> Vec<(String, Vec<Transaction>)> {
    let mut all: BTreeMap<&str, Vec<Transaction>> = BTreeMap::new();
    for sink in tasks.flat_map(|task| &task.sinks) {
        all.entry(&sink.name).or_default().extend(sink.transactions.iter().cloned());
    }
    all.into_iter().map(|(name, transactions)| (name.to_owned(), transactions)).collect()
}

/// The operators of which there is state, in any of their subtasks.
fn with_state(manifest: &Manifest) -> BTreeSet<&str> {
    let chains = manifest.tasks.iter().flat_map(|task| &task.chains);
    chains.filter(|chain| has_state(chain)).map(|chain| chain.operator.as_str()).collect()
}

fn has_state(chain: &ChainSnapshot) -> bool {
    let StateFiles::Entries(files) = &chain.state else { return true };
    !files.is_empty() || chain.operator_state.is_some()
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field, Schema, SchemaRef};
    use serde_json::{Value, json};
    use weir_checkpoint::{SourceSnapshot, SplitState, Storage, TaskSnapshot};
    use weir_plan::JobSpec;
    use weir_types::EventTime;
    use weir_types::graph::{
        Assigner, Chain, ColumnOrigin, Endpoint, Graph, Input, OperatorInfo, Output, Partitioning, Sink, Source, TimeDomain,
        Trigger, Window,
    };

    use super::*;

    const SECOND: Assigner = Assigner::Tumbling { size_ms: 1000, offset_ms: 0 };
    const SECONDS: Assigner = Assigner::Tumbling { size_ms: 2000, offset_ms: 0 };
    const SLIDING: Assigner = Assigner::Sliding { size_ms: 2000, slide_ms: 1000, offset_ms: 0 };

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("key", DataType::Int64, false)]))
    }

    fn windows(assigner: Assigner, domain: TimeDomain, every_count: Option<u64>) -> Head {
        let trigger = Trigger { on_time: true, early_every_ms: None, every_count, purging: false };
        Head::Window(Window { assigner, domain, trigger, allowed_lateness_ms: 0, late_port: None, mergeable: true })
    }

    fn event(assigner: Assigner) -> Head {
        windows(assigner, TimeDomain::Event, None)
    }

    /// A job with one operator of this head, called `op`, between a source and a sink.
    fn job(head: Head) -> JobPlan {
        let chain = Chain {
            operators: vec![OperatorInfo { id: "op".into(), kind: "op".into() }],
            head,
            inputs: vec![Input {
                from: vec![Endpoint::Source(0)],
                partitioning: Partitioning::Hash,
                key: vec![0],
                columns: vec![0],
                times: false,
            }],
            outputs: vec![Output { name: String::new(), schema: schema(), columns: vec![ColumnOrigin::Computed] }],
            event_time: None,
            parallelism: None,
            state_schema: None,
        };
        let graph = Graph {
            name: "test".into(),
            sources: vec![Source { name: "in".into(), stream: String::new(), schema: schema() }],
            chains: vec![chain],
            sinks: vec![Sink { name: "out".into(), from: vec![Endpoint::Chain { chain: 0, port: 0 }] }],
        };
        let spec = "component = \"test.wasm\"\n[sources.in]\nconnector = \"nexmark\"\n[sinks.out]\nconnector = \"blackhole\"\n";
        weir_plan::plan(&JobSpec::from_toml(spec, &[]).unwrap(), &[graph]).unwrap()
    }

    /// What a snapshot of an operator says of it besides its state.
    fn scalars(head: Head) -> Value {
        let mut scalars = json!({ "version": 2, "time": 7000 });
        match misfit_of(head, &scalars) {
            Some(Misfit::Layout { is, .. }) => scalars["layout"] = is.into(),
            other => panic!("an operator with state has a layout: {other:?}"),
        }
        scalars
    }

    /// A checkpoint of a job with an operator of this head, of which there is state on disk, or none at all.
    fn checkpoint(head: Head, has_state: bool) -> Restore {
        let plan = job(head);
        let (operator, node) = keepers(&plan).next().expect("there is one that keeps state");
        let state = if has_state { StateFiles::RocksDb { files: vec![], entries: vec![] } } else { StateFiles::Entries(vec![]) };
        let chain = ChainSnapshot {
            operator,
            schema: state_schema(node),
            state_schemas: vec![],
            watermark: 7000,
            groups: KeyGroupRange { start: 0, end: plan.spec.max_parallelism },
            state,
            operator_state: None,
            scalars: scalars(head),
        };
        let task = TaskSnapshot { chains: vec![chain], ..TaskSnapshot::new(0, 0, 1) };
        let manifest = Manifest { tasks: vec![task], ..Manifest::new("job", Kind::Checkpoint, 5, 1, plan.spec.max_parallelism) };
        let storage = Storage::open("memory://what-a-job-starts-from", &[]).unwrap().job("job").unwrap();
        Restore { manifest: Arc::new(manifest), folder: storage.folder().clone(), drops_unmatched: false }
    }

    /// How many snapshots of the operator are left of a checkpoint for a job with this one, and what becomes of its state.
    async fn left(restore: &Restore, head: Head) -> (usize, Vec<Fit>) {
        let plan = job(head);
        let settled = restore.settle(&plan, &[]).await.unwrap();
        let fits = compare(&plan, &[], &restore.manifest).await.into_iter().map(|(_, fit)| fit).collect();
        (settled.manifest.tasks[0].chains.len(), fits)
    }

    /// Goal: an operator of which there is no state, and which has become another one, begins without anything, as is said of it: it does not fail on what
    /// is known of the one that it was. One that is as it was goes on with its time, by which rows are late; so does one that only has another gap.
    #[tokio::test]
    async fn what_has_changed_without_state_begins_anew() {
        let was = checkpoint(event(SECOND), false);
        assert_eq!(left(&was, event(SECOND)).await, (1, vec![Fit::New]));
        for other in [
            event(SECONDS),
            event(SLIDING),
            event(Assigner::Session { gap_ms: 1000 }),
            windows(SECOND, TimeDomain::Processing, None),
            Head::Process,
        ] {
            assert_eq!(left(&was, other).await, (0, vec![Fit::New]), "{other:?}");
        }
        assert_eq!(left(&was, Head::Transform).await, (0, vec![]), "it keeps no state any more");
        let sessions = checkpoint(event(Assigner::Session { gap_ms: 1000 }), false);
        assert_eq!(left(&sessions, event(Assigner::Session { gap_ms: 2000 })).await, (1, vec![Fit::New]));
        let function = checkpoint(Head::Process, false);
        assert_eq!(left(&function, Head::Process).await, (1, vec![Fit::New]));
        assert_eq!(left(&function, event(SECOND)).await, (0, vec![Fit::New]));
    }

    /// Goal: state that is kept in other parts than the operator's is refused before anything starts, for good, also where the windows are the same; told to, the
    /// job leaves it behind.
    #[tokio::test]
    async fn other_parts_are_refused() {
        let counting = job(windows(SLIDING, TimeDomain::Event, Some(3)));
        let mut was = checkpoint(event(SLIDING), true);
        assert_eq!(left(&was, event(SLIDING)).await, (1, vec![Fit::Kept]));
        let fits = compare(&counting, &[], &was.manifest).await;
        assert!(
            matches!(&fits[..], [(_, Fit::Unreadable { was, is, .. })] if was.starts_with("cells") && was.ends_with(is)),
            "{fits:?}"
        );
        let refused = was.settle(&counting, &[]).await.unwrap_err();
        assert_eq!((refused.kind, refused.is_final), (FailureKind::Checkpoint, true), "{refused}");
        was.drops_unmatched = true;
        assert!(was.settle(&counting, &[]).await.unwrap().manifest.tasks[0].chains.is_empty());
    }

    /// Goal: positions of a source that the job has not are refused before anything starts, for good, also those of a job that has finished; told to, the job
    /// leaves them behind. A source without positions is nothing to lose, and one that is new beside others is none of their matter.
    #[tokio::test]
    async fn positions_are_not_lost() {
        let plan = job(event(SECOND));
        let with = |names: &[&str], state: &SplitState| {
            let mut restore = checkpoint(event(SECOND), true);
            let tasks = &mut Arc::make_mut(&mut restore.manifest).tasks;
            for name in names {
                let splits = [("0".to_owned(), state.clone())].into();
                let source = Some(SourceSnapshot { name: (*name).to_owned(), splits });
                tasks.push(TaskSnapshot { source, ..TaskSnapshot::new(1, 0, 1) });
            }
            restore
        };
        let at = SplitState::At { spec: json!({}), position: Some(json!(7)) };
        for (state, kind) in [(&at, Kind::Checkpoint), (&at, Kind::Final), (&SplitState::Done, Kind::Final)] {
            let mut renamed = with(&["before"], state);
            Arc::make_mut(&mut renamed.manifest).kind = kind;
            let refused = renamed.settle(&plan, &[]).await.unwrap_err();
            assert!(refused.is_final, "{refused}");
            for part in ["checkpoint 5", "\"before\"", "give the source its name back", "--allow-non-restored-state"] {
                assert!(refused.message.contains(part), "{refused}");
            }
            let fits = bindings::compare_sources(&plan, &renamed.manifest);
            assert_eq!(fits, [("in".to_owned(), BindingFit::New), ("before".to_owned(), BindingFit::Lost)]);
            renamed.drops_unmatched = true;
            renamed.settle(&plan, &[]).await.unwrap();
        }
        let kept = with(&["in"], &at);
        kept.settle(&plan, &[]).await.unwrap();
        assert_eq!(bindings::compare_sources(&plan, &kept.manifest), [("in".to_owned(), BindingFit::Kept)]);
        let mut empty = with(&["before"], &at);
        let tasks = &mut Arc::make_mut(&mut empty.manifest).tasks;
        tasks.iter_mut().filter_map(|task| task.source.as_mut()).for_each(|source| source.splits.clear());
        empty.settle(&plan, &[]).await.unwrap();
    }

    /// Goal: what is of an unknown version is refused, also where nothing is known to be there: nobody takes it for nothing.
    #[tokio::test]
    async fn other_versions_are_refused() {
        for has_state in [false, true] {
            let mut was = checkpoint(event(SECOND), has_state);
            Arc::make_mut(&mut was.manifest).tasks[0].chains[0].scalars["version"] = json!(99);
            let refused = was.settle(&job(event(SECOND)), &[]).await.unwrap_err();
            assert!(refused.is_final && refused.message.contains("version 99"), "{refused}");
        }
    }

    /// Goal: an operator goes on at the watermark of the part that was furthest behind; where time had come to its end, it begins anew.
    #[test]
    fn time_goes_on_or_begins_anew() {
        let restore = checkpoint(Head::Process, false);
        let of = |watermarks: &[EventTime]| {
            let part = |&watermark| ChainSnapshot { watermark, ..restore.manifest.tasks[0].chains[0].clone() };
            let parts: Vec<_> = watermarks.iter().map(part).collect();
            watermark_of(&parts.iter().collect::<Vec<_>>())
        };
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[7000, 5000]), Some(Watermark(5000)));
        assert_eq!(of(&[EventTime::MAX, EventTime::MAX]), Some(Watermark::NONE));
        assert_eq!(of(&[EventTime::MAX, 5000]), Some(Watermark::NONE));
    }

    /// Goal: a file that finds no place on the worker's own disk is no damage to the checkpoint.
    #[test]
    fn a_place_that_is_missing_is_no_damage() {
        for (kind, expected) in [
            (ErrorKind::Local, FailureKind::Resources),
            (ErrorKind::Corrupt, FailureKind::Damaged),
            (ErrorKind::NotFound, FailureKind::Damaged),
            (ErrorKind::Unavailable, FailureKind::Checkpoint),
        ] {
            let error = weir_checkpoint::Error { kind, message: "cannot write /state/7".to_owned(), source: None };
            let failure = fetch_failure(&error);
            assert_eq!(failure.kind, expected, "{failure}");
            assert_eq!(failure.message.contains("make room"), kind == ErrorKind::Local, "{failure}");
        }
    }
}
