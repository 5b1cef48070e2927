//! The job spec: what the user writes in `JOB.toml` (or sends as JSON).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::recovery::{CheckpointSpec, RestartSpec};
use crate::table::{self, Table};
use crate::units::{SpecDuration, SpecSize};
use crate::{Error, wording};

/// A job: which components, bound to which connectors, run how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// the job's name; where it is missing, the name that the component's graph has
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// the job's only component: a path (relative to the spec), or the id of an uploaded one
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<String>,
    /// several components by name, instead of `component`
    #[serde(default, deserialize_with = "table::each", skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, ComponentSpec>,
    /// joins components: `"clean.out" = "keep.in"` feeds sink `out` of component `clean` to source `in` of component `keep`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// arguments of the only component's `describe`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Argument>,
    /// subtasks of each vertex
    #[serde(default = "one")]
    pub parallelism: u16,
    /// key groups: the most subtasks that the job can ever have; fixed for its life
    #[serde(default = "max_parallelism")]
    pub max_parallelism: u16,
    /// whether neighbours without an exchange between them share a task
    #[serde(default = "yes")]
    pub chaining: bool,
    /// whether windows are aggregated before an exchange as far as they can be
    #[serde(default = "yes")]
    pub preaggregation: bool,
    /// the streams that the job reads, by the names of the graph: `connector` and its options
    #[serde(default)]
    pub sources: BTreeMap<String, Binding>,
    /// the streams that the job writes
    #[serde(default)]
    pub sinks: BTreeMap<String, Binding>,
    /// where keyed state is kept
    #[serde(default, deserialize_with = "table::one")]
    pub state: StateSpec,
    /// how the job is checkpointed
    #[serde(default, deserialize_with = "table::one")]
    pub checkpoint: CheckpointSpec,
    /// how it starts again when it has failed
    #[serde(default, deserialize_with = "table::one")]
    pub restart: RestartSpec,
    /// how rows are put into batches
    #[serde(default, deserialize_with = "table::one")]
    pub batch: BatchSpec,
    /// what a guest may use
    #[serde(default, deserialize_with = "table::one")]
    pub limits: LimitsSpec,
    /// what happens with a row on which the guest fails
    #[serde(default)]
    pub on_error: ErrorPolicy,
    /// how often a guest call that fails is made again before that; for operators that keep state, how often the job goes back to a checkpoint for it
    #[serde(default)]
    pub retries: u16,
    /// how long before each of these
    #[serde(default = "retry_pause")]
    pub retry_pause: SpecDuration,
    /// the sink that takes dead letters
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    /// what holds for single operators, by their ids
    #[serde(default, deserialize_with = "table::each", skip_serializing_if = "BTreeMap::is_empty")]
    pub operators: BTreeMap<String, OperatorSpec>,
}

/// What holds for one operator instead of what holds for the job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OperatorSpec {
    /// see [`JobSpec::on_error`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_error: Option<ErrorPolicy>,
    /// see [`JobSpec::retries`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u16>,
    /// see [`JobSpec::retry_pause`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_pause: Option<SpecDuration>,
    /// see [`JobSpec::dead_letters`]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
}

/// One of several components.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table with a component, like { component = \"clean.wasm\" }")]
pub struct ComponentSpec {
    /// a path (relative to the spec), or the id of an uploaded one
    pub component: String,
    /// arguments of its `describe`
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Argument>,
}

impl ComponentSpec {
    /// The arguments as `describe` takes them, in the order of their names.
    pub fn arguments(&self) -> Vec<(String, String)> {
        self.args.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
    }
}

/// An argument: a string, or a number or boolean that is handed on as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "an argument is a text, a number or a boolean; write anything else as a text")]
pub enum Argument {
    /// `query = "q5"`
    Text(String),
    /// `n = 3`
    Integer(i64),
    /// `ratio = 0.5`
    Float(f64),
    /// `verbose = true`
    Boolean(bool),
}

impl std::fmt::Display for Argument {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(v) => v.fmt(f),
            Self::Integer(v) => v.fmt(f),
            Self::Float(v) => v.fmt(f),
            Self::Boolean(v) => v.fmt(f),
        }
    }
}

/// Binds a source or a sink to a connector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(expecting = "a table with a connector and its options, like { connector = \"stdout\" }")]
pub struct Binding {
    /// the connector's name; where it is missing, [`JobSpec::check`] says so: it knows what else is bound
    #[serde(default)]
    pub connector: String,
    /// of a source: after how long without rows a split no longer holds the watermark back; none = it always does
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<SpecDuration>,
    /// the connector's options
    #[serde(flatten)]
    pub options: toml::Table,
}

impl Binding {
    /// Whether it is a source whose malformed records become dead letters. That is an option of the connectors that know such records.
    pub fn makes_dead_letters(&self) -> bool {
        self.options.get("on_malformed").and_then(toml::Value::as_str) == Some("dead-letter")
    }
}

/// Which state backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// in the process's memory; checkpoints have all of it
    #[default]
    Memory,
    /// on a local disk, in RocksDB databases; checkpoints have what has changed
    RocksDb,
}

/// Where keyed state is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateSpec {
    /// the backend
    pub backend: Backend,
    /// how much keyed state each subtask may keep in its guest and in the host's tables; what is colder goes to the backend. None, and no `slots_max`
    /// either: in memory, as much as the guest's memory holds; on disk, half as much as that is
    pub memory_limit: Option<SpecSize>,
    /// like `memory_limit`, as a number of slots (keys, or keys and windows) for each operator of a subtask
    pub slots_max: Option<usize>,
}

/// How rows are put into batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSpec {
    /// the most rows of a batch. A batch is cut earlier when its source has no more rows to give at the moment.
    pub rows: usize,
    /// batches that a channel between two subtasks holds before its sender has to wait
    pub channel_capacity: usize,
    /// bytes of rows that it holds before its sender has to wait; it takes another batch as long as it has less
    pub channel_bytes: SpecSize,
    /// how long rows may be held back, to be joined with others, while their task has more to do; 0 = not at all. A task that has nothing to do
    /// holds nothing back.
    pub linger: SpecDuration,
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self {
            rows: 4096,
            channel_capacity: 8,
            channel_bytes: SpecSize(16 << 20),
            linger: SpecDuration(Duration::from_millis(2)),
        }
    }
}

/// What a guest may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// linear memory of one instance
    pub guest_memory: SpecSize,
    /// running time of one guest call
    pub call_deadline: SpecDuration,
    /// bytes of log that the job may write in a second
    pub log_bytes_per_second: SpecSize,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            guest_memory: SpecSize(256 << 20),
            call_deadline: SpecDuration(Duration::from_secs(10)),
            log_bytes_per_second: SpecSize(64 << 10),
        }
    }
}

/// What happens with a row on which the guest fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorPolicy {
    /// the job fails, and its error names the operator, the batch and the row
    #[default]
    Fail,
    /// the row is passed over and counted
    Skip,
    /// the same, and it is written to a sink with the error
    DeadLetter,
}

/// The longest name of a job, in characters.
const NAME_CHARACTERS_MAX: usize = 200;

/// The most retries of a call, and the longest pause before each: while a task pauses, rows and checkpoints wait.
const RETRIES_MAX: u16 = 100;
const RETRY_PAUSE_MAX: Duration = Duration::from_mins(1);

/// The shortest time for a call: with none at all, each would fail.
const CALL_DEADLINE_MIN: Duration = Duration::from_millis(1);

fn one() -> u16 {
    1
}

fn max_parallelism() -> u16 {
    weir_types::key::MAX_PARALLELISM_DEFAULT
}

fn yes() -> bool {
    true
}

fn retry_pause() -> SpecDuration {
    SpecDuration(Duration::from_millis(100))
}

impl JobSpec {
    /// Reads a spec from TOML text, after `settings` (`path.to.key`, `value`) were applied to it.
    ///
    /// # Errors
    /// If the text is no TOML, a setting has no place, or a key is unknown, missing or of the wrong type.
    pub fn from_toml(text: &str, settings: &[(String, String)]) -> Result<Self, Error> {
        let mut table: toml::Table = text.parse().map_err(|e: toml::de::Error| Error::new(e.to_string()))?;
        for (path, value) in settings {
            set(&mut table, path, value)?;
        }
        let spec: Self = table.try_into().map_err(|e| Error::new(wording::of_toml(&e)))?;
        spec.check()?;
        Ok(spec)
    }

    /// Reads a spec from JSON text.
    ///
    /// # Errors
    /// If the text is no JSON, or a key is unknown, missing or of the wrong type.
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        let Table(spec): Table<Self> = serde_json::from_slice(text).map_err(|e| Error::new(wording::of_json(&e)))?;
        spec.check()?;
        Ok(spec)
    }

    /// Checks what types alone cannot say.
    ///
    /// # Errors
    /// If a number is out of its range, the name cannot be shown in a line, a binding has no connector, or there is not exactly one way to find the components.
    pub fn check(&self) -> Result<(), Error> {
        if self.max_parallelism == 0 || self.max_parallelism > 32_768 {
            return Err(Error::new("max_parallelism must be from 1 to 32768"));
        }
        if self.parallelism == 0 || self.parallelism > self.max_parallelism {
            return Err(Error::new(format!("parallelism must be from 1 to max_parallelism ({})", self.max_parallelism)));
        }
        if self.batch.rows == 0 || self.batch.rows > 1 << 20 {
            return Err(Error::new("batch.rows must be from 1 to 1048576"));
        }
        if self.batch.channel_capacity == 0 {
            return Err(Error::new("batch.channel_capacity must be at least 1"));
        }
        if self.batch.channel_bytes.0 == 0 {
            return Err(Error::new("batch.channel_bytes must be at least 1"));
        }
        if self.limits.call_deadline.0 < CALL_DEADLINE_MIN {
            return Err(Error::new("limits.call_deadline must be at least 1ms"));
        }
        if self.state.slots_max == Some(0) {
            return Err(Error::new("state.slots_max must be at least 1"));
        }
        self.check_name()?;
        self.check_bindings()?;
        self.check_numbers()?;
        self.checkpoint.check()?;
        self.restart.check(self.has_checkpoints())?;
        self.check_retries()?;
        if self.component.is_some() != self.components.is_empty() {
            return Err(Error::new("name the job's component with `component = \"…\"`, or several in `[components.NAME]`"));
        }
        if self.component.is_none() && !self.args.is_empty() {
            return Err(Error::new("with `[components.NAME]`, put arguments into `[components.NAME.args]`"));
        }
        self.check_components()
    }

    /// Whether the job has checkpoints, as far as the spec can tell: on a server, the storage is not in it.
    pub fn has_checkpoints(&self) -> bool {
        self.checkpoint.storage.is_some() || self.checkpoint.interval.is_some()
    }

    /// A name has a column in lists of jobs, and a place in messages: it is there, stays in its line, and moves no cursor.
    fn check_name(&self) -> Result<(), Error> {
        let fits = |name: &str| (1..=NAME_CHARACTERS_MAX).contains(&name.chars().count()) && !name.contains(char::is_control);
        if self.name.as_deref().is_some_and(|name| !fits(name)) {
            return Err(Error::new(format!(
                "name must have from 1 to {NAME_CHARACTERS_MAX} characters, and no line breaks or other control characters"
            )));
        }
        Ok(())
    }

    /// A binding without a connector is often one that a setting has made, under a name that is misspelt.
    fn check_bindings(&self) -> Result<(), Error> {
        for (kind, bindings) in [("sources", &self.sources), ("sinks", &self.sinks)] {
            let (unbound, bound): (Vec<_>, Vec<_>) = bindings.iter().partition(|(_, binding)| binding.connector.is_empty());
            if let Some((name, _)) = unbound.first() {
                let bound: Vec<_> = bound.iter().map(|(name, _)| name.as_str()).collect();
                let others =
                    if bound.is_empty() { String::new() } else { format!("; the other {kind} are: {}", bound.join(", ")) };
                return Err(Error::new(format!("[{kind}.{name}]: it has no connector, like connector = \"file\"{others}")));
            }
        }
        Ok(())
    }

    /// An empty path would be that of the spec's own folder.
    fn check_components(&self) -> Result<(), Error> {
        let specs = self.component_specs();
        let Some((name, _)) = specs.iter().find(|(_, spec)| spec.component.is_empty()) else { return Ok(()) };
        let key = if name.is_empty() { "component".to_owned() } else { format!("components.{name}.component") };
        Err(Error::new(format!(
            "{key} is empty: name a file, a folder with the sources of a guest (that of the spec is \".\"), or the id of an uploaded component"
        )))
    }

    /// A server keeps specs as JSON, which has no number that is not finite.
    fn check_numbers(&self) -> Result<(), Error> {
        for (name, component) in self.component_specs() {
            let table = if name.is_empty() { "args".to_owned() } else { format!("components.{name}.args") };
            for (arg, value) in &component.args {
                if matches!(value, Argument::Float(value) if !value.is_finite()) {
                    return Err(Error::new(format!(
                        "{table}.{arg} is {value}, which is not finite: write it as a text, \"{value}\""
                    )));
                }
            }
        }
        for (kind, bindings) in [("sources", &self.sources), ("sinks", &self.sinks)] {
            for (name, binding) in bindings {
                if let Some((option, _)) = binding.options.iter().find(|(_, value)| !is_finite(value)) {
                    return Err(Error::new(format!("{kind}.{name}.{option} must be finite")));
                }
            }
        }
        Ok(())
    }

    fn check_retries(&self) -> Result<(), Error> {
        let of_operators = self.operators.iter().map(|(id, o)| (format!("operators.{id}."), o.retries, o.retry_pause));
        for (place, retries, pause) in of_operators.chain([(String::new(), Some(self.retries), Some(self.retry_pause))]) {
            if retries.is_some_and(|retries| retries > RETRIES_MAX) {
                return Err(Error::new(format!("{place}retries must be at most {RETRIES_MAX}")));
            }
            if pause.is_some_and(|pause| pause.0 > RETRY_PAUSE_MAX) {
                return Err(Error::new(format!("{place}retry_pause must be at most \"1m\": checkpoints wait meanwhile")));
            }
        }
        Ok(())
    }

    /// The components by name; the only one of a job with `component` has an empty name.
    pub fn component_specs(&self) -> Vec<(String, ComponentSpec)> {
        match &self.component {
            Some(component) => vec![(String::new(), ComponentSpec { component: component.clone(), args: self.args.clone() })],
            None => self.components.iter().map(|(name, spec)| (name.clone(), spec.clone())).collect(),
        }
    }
}

/// Whether all numbers of a value are finite.
fn is_finite(value: &toml::Value) -> bool {
    match value {
        toml::Value::Float(value) => value.is_finite(),
        toml::Value::Array(values) => values.iter().all(is_finite),
        toml::Value::Table(table) => table.values().all(is_finite),
        _ => true,
    }
}

/// Sets `path.to.key` of a table to `value`: a TOML value if it is one, else a string.
///
/// # Errors
/// If the path is empty, or leads through something that is no table.
pub fn set(table: &mut toml::Table, path: &str, value: &str) -> Result<(), Error> {
    let parsed = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().filter(|k| !k.is_empty()).ok_or_else(|| Error::new("a setting is `path.to.key=value`"))?;
    let mut at = table;
    for key in keys {
        let entry = at.entry(key).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        at = entry.as_table_mut().ok_or_else(|| Error::new(format!("cannot set \"{path}\": \"{key}\" is no table")))?;
    }
    at.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"
        component = "a.wasm"
        [sources.in]
        connector = "file"
        path = "x.csv"
        [sinks.out]
        connector = "stdout"
    "#;

    fn settings(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    /// Settings replace and add values, in their types where they have one.
    #[test]
    fn settings_apply() {
        let spec =
            JobSpec::from_toml(SPEC, &settings(&[("parallelism", "2"), ("sources.in.path", "/a b/*.csv"), ("args.q", "q5")]))
                .expect("a good spec");
        assert_eq!(spec.parallelism, 2);
        assert_eq!(spec.sources["in"].options["path"].as_str(), Some("/a b/*.csv"));
        assert_eq!(spec.args["q"].to_string(), "q5");
    }

    /// A name is some text in a line, and not too much of it.
    #[test]
    fn names_stay_in_their_lines() {
        let named = |name: &str| JobSpec::from_toml(SPEC, &settings(&[("name", name)]));
        for name in ["", "a\nb", "a\rb", "a\tb", "\u{1b}[2J", "a\u{85}b", "ß".repeat(201).as_str()] {
            let error = named(name).expect_err(name).to_string();
            assert!(error.contains("name must have from 1 to 200 characters, and no line breaks"), "{name:?}: {error}");
        }
        for name in ["x", "größer – 𝒳 \"q\"", "ß".repeat(200).as_str()] {
            assert_eq!(named(name).expect("a good name").name.as_deref(), Some(name));
        }
    }

    /// Every mistake is refused with a message that names the key.
    #[test]
    fn mistakes_are_named() {
        for (path, value, named) in [
            ("paralelism", "2", "paralelism"),
            ("parallelism", "0", "parallelism"),
            ("state.backend", "floppy", "floppy"),
            (
                "limits.call_deadline",
                "10",
                "expected a duration with its unit, like \"10s\", but the number 10 is given (in `limits.call_deadline`)",
            ),
            (
                "limits.guest_memory",
                "true",
                "expected a size, like \"64MB\" or a number of bytes, but true is given (in `limits.guest_memory`)",
            ),
            ("limits.guest_memory", "-1", "but the number -1 is given (in `limits.guest_memory`)"),
            (
                "parallelism",
                "two",
                "expected a whole number from 0 to 65535, like 4, but the text \"two\" is given (in `parallelism`)",
            ),
            ("parallelism", "70000", "but the number 70000 is given (in `parallelism`)"),
            ("chaining", "maybe", "expected true or false, but the text \"maybe\" is given (in `chaining`)"),
            ("batch", "7", "expected a table, like { key = \"value\" }, but the number 7 is given (in `batch`)"),
            ("state", "[\"rocksdb\"]", "expected a table, like { key = \"value\" }, but a list is given (in `state`)"),
            ("batch", "[1]", "expected a table, like { key = \"value\" }, but a list is given (in `batch`)"),
            ("checkpoint", "[]", "but a list is given (in `checkpoint`)"),
            ("restart", "[\"none\"]", "but a list is given (in `restart`)"),
            ("limits", "[]", "but a list is given (in `limits`)"),
            ("operators.map-1", "[\"skip\"]", "but a list is given (in `operators.map-1`)"),
            (
                "components.a",
                "[\"a.wasm\"]",
                "expected a table with a component, like { component = \"clean.wasm\" }, but a list is given (in `components.a`)",
            ),
            ("sources.in", "[\"file\"]", "but a list is given (in `sources.in`)"),
            ("sources.inn.path", "x", "[sources.inn]: it has no connector, like connector = \"file\"; the other sources are: in"),
            ("sinks.uot.path", "x", "[sinks.uot]: it has no connector, like connector = \"file\"; the other sinks are: out"),
            ("sources.in.connector", "", "[sources.in]: it has no connector, like connector = \"file\""),
            ("component", "", "component is empty: name a file, "),
            (
                "sources.in",
                "file",
                "expected a table with a connector and its options, like { connector = \"stdout\" }, but the text \"file\" is given \
                 (in `sources.in`)",
            ),
            (
                "sources.in.idle_after",
                "5",
                "expected a duration with its unit, like \"10s\", but the number 5 is given (in `sources.in.idle_after`)",
            ),
            ("batch.rows", "0", "batch.rows"),
            ("batch.channel_bytes", "0", "batch.channel_bytes must be at least 1"),
            ("limits.call_deadline", "0s", "limits.call_deadline must be at least 1ms"),
            ("batch.linger", "soon", "\"soon\" is no duration"),
            ("on_error", "ignore", "`fail`, `skip`, `dead-letter`"),
            ("args.least", "[1]", "an argument is a text, a number or a boolean; "),
            ("args.least", "{ a = 1 }", "(in `args.least`)"),
            ("args.least", "-inf", "args.least is -inf, which is not finite: write it as a text, \"-inf\""),
            ("sources.in.rate", "nan", "sources.in.rate must be finite"),
            ("sinks.out.rates", "[{ a = inf }]", "sinks.out.rates must be finite"),
            ("retries", "101", "retries must be at most 100"),
            ("operators.map-1.retry_pause", "2m", "operators.map-1.retry_pause must be at most"),
            ("operators.map-1.on_eror", "skip", "on_eror"),
        ] {
            let error = JobSpec::from_toml(SPEC, &settings(&[(path, value)])).expect_err(path).to_string();
            assert!(error.contains(named), "{path}: {error}");
        }
    }

    /// What the strategy for restarts does not go by is refused, with those that do; so is what it can make nothing of.
    #[test]
    fn restarts_go_by_all_that_is_set() {
        let with = |list: &[(&str, &str)]| JobSpec::from_toml(SPEC, &settings(list));
        let strategy = |name| ("restart.strategy", name);
        let checkpoints = ("checkpoint.interval", "1s");
        let unset = "which is \"none\" for a job without checkpoints that does not set it";
        let mistakes: [(&[(&str, &str)], &str); 12] = [
            (&[("restart.attempts", "2")], unset),
            (&[("restart.delay", "1s")], unset),
            (
                &[strategy("none"), ("restart.delay", "1s")],
                "restart.delay is for the restart.strategy \"fixed\" or \"exponential\" or \"failure-rate\" only, which is \"none\" here",
            ),
            (&[strategy("none"), checkpoints, ("restart.attempts", "2")], "restart.attempts is for"),
            (
                &[strategy("fixed"), ("restart.max_delay", "1m")],
                "restart.max_delay is for the restart.strategy \"exponential\" only, which is \"fixed\" here",
            ),
            (&[strategy("fixed"), checkpoints, ("restart.window", "1m")], "\"exponential\" or \"failure-rate\" only"),
            (&[strategy("failure-rate"), ("restart.max_delay", "1m")], "restart.max_delay is for"),
            (
                &[strategy("exponential"), ("restart.delay", "5s"), ("restart.max_delay", "1s")],
                "restart.max_delay must be at least restart.delay (5s)",
            ),
            (&[checkpoints, ("restart.max_delay", "99ms")], "restart.max_delay must be at least restart.delay (100ms)"),
            (
                &[strategy("failure-rate"), ("restart.attempts", "2"), ("restart.window", "2s")],
                "restart.window must be more than 2s",
            ),
            (&[strategy("failure-rate"), ("restart.attempts", "300")], "restart.window must be more than 300s"),
            (
                &[strategy("failure-rate"), ("restart.delay", "0s"), ("restart.window", "0s")],
                "restart.window must be more than 0ns",
            ),
        ];
        for (list, named) in mistakes {
            let error = with(list).expect_err(named).to_string();
            assert!(error.contains(named), "{list:?}: {error}");
        }
        let all = [("restart.delay", "1s"), ("restart.max_delay", "1s"), ("restart.window", "1m"), ("restart.attempts", "2")];
        let good: [&[(&str, &str)]; 6] = [
            &[strategy("none"), checkpoints],
            &[strategy("fixed"), all[0], all[3]],
            &[&[strategy("exponential")][..], &all].concat(),
            &[&[checkpoints][..], &all].concat(),
            &[strategy("exponential"), ("restart.delay", "2m")],
            &[strategy("failure-rate"), ("restart.window", "2001ms"), all[0], all[3]],
        ];
        for list in good {
            with(list).unwrap_or_else(|e| panic!("{list:?}: {e}"));
        }
    }

    /// Mistakes in JSON are told in the same words, with their place.
    #[test]
    fn mistakes_in_json_are_named() {
        let error =
            JobSpec::from_json(br#"{"component": "a.wasm", "parallelism": "two"}"#).expect_err("it is no number").to_string();
        let says = "expected a whole number from 0 to 65535, like 4, but the text \"two\" is given at line 1 column ";
        assert!(error.starts_with(says), "{error}");
        let error =
            JobSpec::from_json(br#"{"component": "a.wasm", "limits": {"guest_memory": []}}"#).expect_err("no size").to_string();
        assert!(
            error.starts_with("expected a size, like \"64MB\" or a number of bytes, but a list is given at line 1"),
            "{error}"
        );
        for list in ["[]", r#"{"component": "a.wasm", "state": ["rocksdb"]}"#] {
            let error = JobSpec::from_json(list.as_bytes()).expect_err("it is no table").to_string();
            let says = "expected a table, like { key = \"value\" }, but a list is given at line 1 column ";
            assert!(error.starts_with(says), "{error}");
        }
        let error = JobSpec::from_json(br#"{"component": "a.wasm", "parallelism": 0}"#).expect_err("it is too small").to_string();
        assert!(error.starts_with("parallelism must be from 1 to"), "{error}");
    }
}
