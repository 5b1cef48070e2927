//! What happens where guests fail: what the spec says of each chain, and the sinks for dead letters. A chain whose rows may become dead letters gets an
//! output for them, from which they flow to their sink as all rows do; a source whose malformed records become dead letters gets a stream for them.
//!
//! A chain without state goes on after a failure in a new instance. Where there is state, a call that fails may have changed a part of it, or have taken all of it
//! along: the job goes back to a checkpoint, and the chain is given the row again as often as there are retries, and not any more after that. So that needs
//! checkpoints.

use std::collections::{BTreeMap, BTreeSet};

use weir_types::graph::{Chain, ColumnOrigin, Head, Output, Partitioning};

use super::logical::{From, Kind, Logical, Node, NodeInput};
use crate::dead_letters::{OUTPUT, schema};
use crate::job::{DeadLetters, OnError, SinkPlan, keeps_state};
use crate::spec::{ErrorPolicy, OperatorSpec};
use crate::{Error, JobSpec};

/// Of dead letters that have nowhere to go.
const NO_SINK: &str = "but the spec does not say where they go: bind a sink for them, and name it by dead_letters = \"SINK\"";

/// Sets what happens where chains fail, and adds the sinks for dead letters. `components` are the names of the job's components.
///
/// # Errors
/// If the spec names an operator that there is not, wants of one what it cannot do, or a sink for dead letters is missing, taken or of no use.
pub fn resolve(spec: &JobSpec, components: &[String], logical: &mut Logical) -> Result<(), Error> {
    check_names(spec, components, logical)?;
    let origins = origins(logical);
    let mut letters: BTreeMap<&str, Vec<From>> = BTreeMap::new();
    for (node, origins) in origins.iter().enumerate() {
        let Kind::Chain { component, chain, on_error, dead_letters, .. } = &mut logical.nodes[node].kind else { continue };
        let (wanted, sink) = wanted(spec, &components[*component], chain)?;
        *on_error = wanted;
        if let Some(sink) = sink {
            let (port, columns) = (chain.outputs.len(), vec![ColumnOrigin::Computed; schema().fields().len()]);
            chain.outputs.push(Output { name: OUTPUT.to_owned(), schema: schema(), columns });
            let sources = origins.iter().map(|&source| logical.sources[source].name.clone()).collect();
            *dead_letters = Some(DeadLetters { port, sources });
            letters.entry(sink).or_default().push(From::Node { node, port });
        }
    }
    for (source, plan) in logical.sources.iter_mut().enumerate() {
        if !spec.sources[&plan.name].makes_dead_letters() {
            continue;
        }
        let Some(sink) = spec.dead_letters.as_deref() else {
            let name = &plan.name;
            return Err(Error::new(format!("[sources.{name}] makes dead letters of malformed records, {NO_SINK}")));
        };
        plan.has_dead_letters = true;
        letters.entry(sink).or_default().push(From::Stream { source, stream: plan.streams.len() });
    }
    if let Some(sink) = spec.dead_letters.as_deref().filter(|sink| !letters.contains_key(sink)) {
        return Err(Error::new(format!(
            "dead_letters is \"{sink}\", but no rows can go there: set on_error = \"dead-letter\", for the job or an operator (those that keep \
             state need checkpoints for that), or on_malformed = \"dead-letter\" for a source"
        )));
    }
    letters.into_iter().try_for_each(|(sink, from)| add_sink(spec, sink, from, logical))
}

/// Names of operators that there are not are mistakes.
fn check_names(spec: &JobSpec, components: &[String], logical: &Logical) -> Result<(), Error> {
    let mut known = BTreeSet::new();
    let mut named = BTreeSet::new();
    for node in &logical.nodes {
        let Kind::Chain { component, chain, .. } = &node.kind else { continue };
        for operator in &chain.operators {
            named.extend(entry(spec, &components[*component], &operator.id).map(|(name, _)| name.to_owned()));
            known.insert(operator.id.as_str());
        }
    }
    match spec.operators.keys().find(|name| !named.contains(*name)) {
        None => Ok(()),
        Some(name) => {
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            Err(Error::new(format!("[operators.{name}]: the job has no operator \"{name}\"; it has: {known}")))
        }
    }
}

/// What the spec says of an operator: under its id, or, where several components are, under `component.id`.
fn entry<'a>(spec: &'a JobSpec, component: &str, id: &str) -> Option<(&'a str, &'a OperatorSpec)> {
    let found = spec.operators.get_key_value(&format!("{component}.{id}")).or_else(|| spec.operators.get_key_value(id));
    found.map(|(name, operator)| (name.as_str(), operator))
}

/// Of operators of which the spec says nothing.
static NOTHING: OperatorSpec = OperatorSpec { on_error: None, retries: None, retry_pause: None, dead_letters: None };

/// What happens where a chain fails, and the sink of its dead letters.
fn wanted<'a>(spec: &'a JobSpec, component: &str, chain: &Chain) -> Result<(OnError, Option<&'a str>), Error> {
    let mut own: Option<(&str, &OperatorSpec)> = None;
    for (name, operator) in chain.operators.iter().filter_map(|operator| entry(spec, component, &operator.id)) {
        match own {
            Some((other, others)) if others != operator => {
                return Err(Error::new(format!(
                    "[operators.{other}] and [operators.{name}]: both run in the same guest call, which fails as a whole: say the same of both, \
                     or leave one out"
                )));
            }
            _ => own = Some((name, operator)),
        }
    }
    let (name, operator) = own.unwrap_or(("", &NOTHING));
    let keeps_state = keeps_state(chain.head);
    if chain.head == Head::Relay || keeps_state && !spec.has_checkpoints() {
        return check_failing(name, operator, keeps_state).map(|()| (OnError::default(), None));
    }
    let on_error = OnError {
        policy: operator.on_error.unwrap_or(spec.on_error),
        retries: operator.retries.unwrap_or(spec.retries),
        pause: operator.retry_pause.unwrap_or(spec.retry_pause).0,
    };
    match (on_error.policy, operator.dead_letters.as_deref(), spec.dead_letters.as_deref()) {
        (ErrorPolicy::DeadLetter, None, None) => {
            let id = chain.operators.first().map_or(name, |operator| &operator.id);
            Err(Error::new(format!("operator \"{id}\" makes dead letters of rows, {NO_SINK}")))
        }
        (ErrorPolicy::DeadLetter, Some(sink), _) | (ErrorPolicy::DeadLetter, None, Some(sink)) => Ok((on_error, Some(sink))),
        (ErrorPolicy::Fail | ErrorPolicy::Skip, Some(sink), _) => Err(Error::new(format!(
            "[operators.{name}]: dead_letters is \"{sink}\", but no rows go there: set on_error = \"dead-letter\" with it"
        ))),
        (ErrorPolicy::Fail | ErrorPolicy::Skip, None, _) => Ok((on_error, None)),
    }
}

/// Refuses all but failure of an operator that can do nothing else.
fn check_failing(name: &str, operator: &OperatorSpec, keeps_state: bool) -> Result<(), Error> {
    let fails = operator.on_error.unwrap_or_default() == ErrorPolicy::Fail;
    if fails && operator.retries.unwrap_or_default() == 0 && operator.dead_letters.is_none() {
        return Ok(());
    }
    Err(Error::new(if keeps_state {
        format!(
            "[operators.{name}]: the operator keeps state, which a call that fails may leave half changed, so the job has to go back to a \
             checkpoint, and has none: set checkpoint.storage and checkpoint.interval, or move what may fail into an operator before `key_by`"
        )
    } else {
        format!("[operators.{name}]: the operator runs no code of a guest, so it cannot fail: leave it out")
    }))
}

/// By node: the sources that its rows may come from.
fn origins(logical: &Logical) -> Vec<BTreeSet<usize>> {
    let mut origins: Vec<BTreeSet<usize>> = vec![];
    for node in &logical.nodes {
        let mut all = BTreeSet::new();
        for from in node.inputs.iter().flat_map(|input| &input.from) {
            match *from {
                From::Stream { source, .. } => all.extend([source]),
                From::Node { node, .. } => all.extend(origins[node].iter().copied()),
            }
        }
        origins.push(all);
    }
    origins
}

/// Adds a sink for dead letters.
fn add_sink(spec: &JobSpec, name: &str, from: Vec<From>, logical: &mut Logical) -> Result<(), Error> {
    if !spec.sinks.contains_key(name) {
        return Err(Error::new(format!("dead letters go to \"{name}\", but the spec has no [sinks.{name}]")));
    }
    if logical.sinks.iter().any(|sink| sink.name == name) {
        return Err(Error::new(format!(
            "dead letters go to \"{name}\", but the job itself writes to it, rows with other columns: bind a sink of another name for them"
        )));
    }
    logical.sinks.push(SinkPlan { name: name.to_owned(), schema: schema() });
    let input = NodeInput { from, partitioning: Partitioning::Forward, key: vec![], schema: schema() };
    logical.nodes.push(Node { kind: Kind::Sink(logical.sinks.len() - 1), inputs: vec![input] });
    Ok(())
}
