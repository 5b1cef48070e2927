//! `weir inspect`

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Context;
use weir_coordinator::prepare::load;
use weir_plan::explain::TypeOf;
use weir_sandbox::{Component, Limits, LogSink};
use weir_types::graph::{Chain, Endpoint, Graph};

use crate::args::setting;
use crate::exit::Failure;
use crate::{out, spec_file};

/// Show what a component is: its size, its world and imports, and the graph that it describes
///
/// Example: weir inspect counts.wasm --arg query=q5
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The component
    #[arg(value_name = "FILE.WASM")]
    file: PathBuf,

    /// An argument, as a spec's [args] would have it; may be given several times
    #[arg(long = "arg", value_name = "NAME=VALUE", value_parser = setting)]
    args: Vec<(String, String)>,
}

pub async fn run(args: &Args) -> Result<(), Failure> {
    let wasm = std::fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let component = load(&spec_file::sandbox()?, wasm).await?;
    out::print(&outside(&component))?;
    let graph = component.describe(&args.args, &Limits::default(), &LogSink::none()).await;
    let graph = graph.with_context(|| {
        let with = if args.args.is_empty() { "without arguments; give them with --arg" } else { "with these arguments" };
        format!("the component does not describe its graph {with}")
    })?;
    Ok(out::print(&inside(&graph))?)
}

/// What can be seen without running it.
fn outside(component: &Component) -> String {
    let inspection = component.inspect();
    let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    let made: Vec<_> = inspection.producers.iter().map(|p| format!("{} {}", p.name, p.version).trim().to_owned()).collect();
    let mut out = String::new();
    let mut line = |what: &str, value: &str| writeln!(out, "{what:10}{value}").expect("writing to a string does not fail");
    line("component", &weir_coordinator::component::id(component.hash()));
    line("size", &format!("{} bytes", inspection.size));
    // What is not of this world was not loaded.
    line("world", weir_sandbox::WORLD);
    line("imports", &list(&inspection.imports));
    line("exports", &list(&inspection.exports));
    line("made by", &list(&made));
    out
}

/// The graph, before it is planned.
fn inside(graph: &Graph) -> String {
    let mut out = String::new();
    write_graph(graph, &mut out).expect("writing to a string does not fail");
    out
}

fn write_graph(graph: &Graph, out: &mut String) -> std::fmt::Result {
    writeln!(out, "graph     {}", graph.name)?;
    for source in &graph.sources {
        let stream = if source.stream.is_empty() { String::new() } else { format!(", stream {}", source.stream) };
        writeln!(out, "\nsource {}{stream}", source.name)?;
        columns(&source.schema, out)?;
    }
    for (index, chain) in graph.chains.iter().enumerate() {
        let inputs: Vec<_> = chain.inputs.iter().flat_map(|i| &i.from).map(|&e| endpoint(graph, e)).collect();
        writeln!(out, "\nchain {index}: {} from {}", operators(chain), inputs.join(", "))?;
        for output in &chain.outputs {
            if !output.name.is_empty() {
                writeln!(out, "  output {}", output.name)?;
            }
            columns(&output.schema, out)?;
        }
    }
    for sink in &graph.sinks {
        let from: Vec<_> = sink.from.iter().map(|&e| endpoint(graph, e)).collect();
        writeln!(out, "\nsink {} from {}", sink.name, from.join(", "))?;
        columns(graph.schema(sink.from[0]), out)?;
    }
    Ok(())
}

fn operators(chain: &Chain) -> String {
    chain.operators.iter().map(|o| format!("{} ({})", o.id, o.kind)).collect::<Vec<_>>().join(" → ")
}

fn endpoint(graph: &Graph, endpoint: Endpoint) -> String {
    match endpoint {
        Endpoint::Source(source) => graph.sources[source as usize].name.clone(),
        Endpoint::Chain { chain, port } => match graph.chains[chain as usize].outputs[port as usize].name.as_str() {
            "" => format!("chain {chain}"),
            side => format!("chain {chain} output {side}"),
        },
    }
}

fn columns(schema: &arrow_schema::SchemaRef, out: &mut String) -> std::fmt::Result {
    let width = schema.fields().iter().map(|f| f.name().chars().count()).max().unwrap_or(0);
    for field in schema.fields() {
        writeln!(out, "  {:width$}  {}", field.name(), TypeOf(field))?;
    }
    Ok(())
}
