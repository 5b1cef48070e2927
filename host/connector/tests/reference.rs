//! `docs/JOB-SPEC.md` against the code: it has every connector with every option, and its examples use them as they are.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use weir_connector::registry::Stream;
use weir_connector::{Connector, Context, Error, Files, connectors, find};

const REFERENCE: &str = include_str!("../../../docs/JOB-SPEC.md");

/// Gives options to a connector.
type Bind = fn(&dyn Connector, &toml::Table) -> Result<(), Error>;

fn context() -> Context {
    Context::new("NAME", Files::free("."))
}

/// Binds a source of which a job reads no column.
fn source(connector: &dyn Connector, options: &toml::Table) -> Result<(), Error> {
    let stream = Stream { name: "bid".into(), schema: Arc::new(Schema::empty()) };
    connector.source(options, &[stream], &context()).map(drop)
}

/// Binds a sink.
fn sink(connector: &dyn Connector, options: &toml::Table) -> Result<(), Error> {
    // What the examples name.
    let columns = ["due_us", "bidder", "first"];
    let schema: SchemaRef = Arc::new(Schema::new(columns.map(|name| Field::new(name, DataType::UInt64, false)).to_vec()));
    connector.sink(options, &schema, &context()).map(drop)
}

/// The options of a connector: what it says that it knows when it meets one that it does not.
fn options(connector: &dyn Connector) -> BTreeSet<String> {
    let wrong = toml::Table::from_iter([("?".to_owned(), toml::Value::Integer(1))]);
    let refusals =
        [source(connector, &wrong), sink(connector, &wrong)].map(|bound| bound.expect_err("there is no option ?").message);
    let known = refusals.iter().filter_map(|message| Some(message.split_once("`, expected ")?.1));
    known.flat_map(|names| names.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// What the page says about a connector.
fn section(connector: &str) -> Option<&'static str> {
    let (_, rest) = REFERENCE.split_once(&format!("\n### `{connector}`\n"))?;
    rest.split("\n### ").next()?.split("\n## ").next()
}

/// Every connector has a section, and every option of it a mention there.
#[test]
fn options_are_documented() {
    for connector in connectors() {
        let name = connector.name();
        let section = section(name).unwrap_or_else(|| panic!("the page has no heading `{name}`"));
        let options = options(*connector);
        assert!(!options.is_empty(), "{name} tells no options");
        for option in options {
            assert!(section.contains(&format!("`{option}`")), "the section of {name} has no option {option}");
        }
    }
}

/// Every connector takes the options that an example gives it.
#[test]
fn examples_can_be_bound() {
    for block in REFERENCE.split("```toml\n").skip(1) {
        let example = block.split_once("```").expect("a block of code ends").0;
        let spec: toml::Table = example.parse().expect("examples are TOML");
        let kinds: [(&str, Bind); 2] = [("sources", source), ("sinks", sink)];
        for (kind, bind) in kinds {
            for (name, binding) in spec[kind].as_table().expect("bindings are tables") {
                let mut options = binding.as_table().expect("a binding is a table").clone();
                let connector = options.remove("connector").expect("a binding has a connector");
                // Whoever drives the source looks at this one.
                options.remove("idle_after");
                let connector = find(connector.as_str().expect("a connector has a name")).expect("it is one that there is");
                bind(connector, &options).unwrap_or_else(|e| panic!("{kind}.{name}: {e} in\n{example}"));
            }
        }
    }
}
