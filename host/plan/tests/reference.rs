//! `docs/JOB-SPEC.md` against the code: its examples are specs, and its keys and their defaults are those that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use serde_json::Value;
use weir_plan::JobSpec;
use weir_plan::recovery::{CheckpointMode, CheckpointSpec, RestartSpec, RestartStrategy};
use weir_plan::spec::{Argument, Backend, BatchSpec, Binding, ComponentSpec, ErrorPolicy, LimitsSpec, OperatorSpec, StateSpec};
use weir_plan::units::{SpecDuration, SpecSize};

const REFERENCE: &str = include_str!("../../../docs/JOB-SPEC.md");

/// The smallest spec that there is.
const SMALLEST: &str = "component = \"a.wasm\"";

/// Every block of TOML.
fn examples() -> Vec<&'static str> {
    let blocks = REFERENCE.split("```toml\n").skip(1);
    blocks.map(|rest| rest.split_once("```").expect("a block of code ends").0).collect()
}

/// The rows of the tables of keys: each key, and its default if it has one.
fn documented() -> BTreeMap<&'static str, Option<&'static str>> {
    let (_, section) = REFERENCE.split_once("\n## Keys\n").expect("the page has a section on keys");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(key, cells)| {
        let default = cells.split(" | ").nth(1).expect("a row has a type and a default");
        (key, default.strip_prefix('`').and_then(|d| d.strip_suffix('`')))
    })
    .collect()
}

/// A spec in which nothing is left out: a new field does not compile until it is added here. Names are the page's.
fn full_spec() -> JobSpec {
    let text = |text: &str| text.to_owned();
    let args = BTreeMap::from([(text("ARGUMENT"), Argument::Boolean(true))]);
    let binding = |idle_after| Binding {
        connector: text("file"),
        idle_after,
        options: toml::Table::from_iter([(text("OPTION"), toml::Value::Integer(1))]),
    };
    JobSpec {
        name: Some(text("job")),
        component: Some(text("a.wasm")),
        components: BTreeMap::from([(text("COMPONENT"), ComponentSpec { component: text("a.wasm"), args: args.clone() })]),
        links: BTreeMap::from([(text("COMPONENT.SINK"), text("COMPONENT.SOURCE"))]),
        args,
        parallelism: 1,
        max_parallelism: 1,
        chaining: true,
        preaggregation: true,
        sources: BTreeMap::from([(text("SOURCE"), binding(Some(SpecDuration(Duration::from_secs(1)))))]),
        // A sink is never idle.
        sinks: BTreeMap::from([(text("SINK"), binding(None))]),
        state: StateSpec { backend: Backend::Memory, memory_limit: Some(SpecSize(1)), slots_max: Some(1) },
        checkpoint: CheckpointSpec {
            storage: Some(text("checkpoints")),
            options: BTreeMap::from([(text("STORAGE_OPTION"), text("x"))]),
            interval: Some(SpecDuration(Duration::from_secs(1))),
            mode: CheckpointMode::Aligned,
            aligned_timeout: SpecDuration(Duration::from_secs(1)),
            timeout: SpecDuration(Duration::from_secs(1)),
            min_pause: SpecDuration(Duration::from_secs(1)),
            tolerated_failures: 1,
            retained: NonZeroUsize::MIN,
        },
        restart: RestartSpec {
            strategy: Some(RestartStrategy::Fixed),
            delay: Some(SpecDuration(Duration::from_secs(1))),
            max_delay: Some(SpecDuration(Duration::from_secs(1))),
            window: Some(SpecDuration(Duration::from_secs(1))),
            attempts: Some(NonZeroU16::MIN),
        },
        batch: BatchSpec {
            rows: 1,
            channel_capacity: 1,
            channel_bytes: SpecSize(1),
            linger: SpecDuration(Duration::from_millis(1)),
        },
        limits: LimitsSpec {
            guest_memory: SpecSize(1),
            call_deadline: SpecDuration(Duration::from_secs(1)),
            log_bytes_per_second: SpecSize(1),
        },
        on_error: ErrorPolicy::Fail,
        retries: 1,
        retry_pause: SpecDuration(Duration::from_secs(1)),
        dead_letters: Some(text("SINK")),
        operators: BTreeMap::from([(
            text("OPERATOR"),
            OperatorSpec {
                on_error: Some(ErrorPolicy::Fail),
                retries: Some(1),
                retry_pause: Some(SpecDuration(Duration::from_secs(1))),
                dead_letters: Some(text("SINK")),
            },
        )]),
    }
}

/// The keys of all values, as the page writes them: with dots between, and a part that has a dot itself in quotes.
fn keys(spec: &JobSpec) -> BTreeSet<String> {
    fn collect(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let name = if name.contains('.') { format!("\"{name}\"") } else { name.clone() };
                    collect(value, &if path.is_empty() { name } else { format!("{path}.{name}") }, keys);
                }
            }
            Value::Null => {}
            _ => {
                keys.insert(path.to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(&serde_json::to_value(spec).expect("a spec can be JSON"), "", &mut found);
    found
}

/// Every example can be run as it stands.
#[test]
fn examples_are_specs() {
    assert!(!examples().is_empty());
    for example in examples() {
        JobSpec::from_toml(example, &[]).unwrap_or_else(|e| panic!("{e} in\n{example}"));
    }
}

/// The page names every key that a spec has, and no other.
#[test]
fn keys_are_documented() {
    assert_eq!(documented().into_keys().map(str::to_owned).collect::<BTreeSet<_>>(), keys(&full_spec()));
}

/// The page gives every default that there is, and the right one: setting it changes nothing.
#[test]
fn defaults_are_documented() {
    let smallest = JobSpec::from_toml(SMALLEST, &[]).expect("a good spec");
    let defaults: Vec<_> =
        documented().into_iter().filter_map(|(key, default)| Some((key.to_owned(), default?.to_owned()))).collect();
    let mut named: BTreeSet<_> = defaults.iter().map(|(key, _)| key.clone()).collect();
    named.insert("component".to_owned());
    assert_eq!(named, keys(&smallest));
    assert_eq!(JobSpec::from_toml(SMALLEST, &defaults).expect("defaults are good values"), smallest);
}
