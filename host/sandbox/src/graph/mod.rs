//! The graph that a guest describes: from the WIT's records to [`weir_types::graph`], then [`check`]ed.

mod check;

use weir_types::graph::{
    Assigner, Chain, ColumnOrigin, Endpoint, EventTimeAssigner, Graph, Head, Input, OperatorInfo, Output, Partitioning, Sink,
    Source, TimeDomain, Trigger, Watermarks, Window,
};

use crate::{schema, wit};

/// The most sources, chains, sinks, and ports of a chain, that a graph can have.
pub(crate) const PARTS_MAX: usize = 1024;

/// The graph of a guest, after checking everything that others rely on.
///
/// # Errors
/// Says which part of the graph is wrong, and what is wrong with it.
pub(crate) fn from_guest(graph: wit::Graph) -> Result<Graph, String> {
    at_most("sources", graph.sources.len())?;
    at_most("chains", graph.chains.len())?;
    at_most("sinks", graph.sinks.len())?;
    let graph = Graph {
        name: graph.name,
        sources: graph.sources.into_iter().map(source).collect::<Result<_, _>>()?,
        chains: graph.chains.into_iter().enumerate().map(|(i, c)| chain(i, c)).collect::<Result<_, _>>()?,
        sinks: graph.sinks.into_iter().map(sink).collect::<Result<_, _>>()?,
    };
    check::check(&graph)?;
    Ok(graph)
}

/// How messages name a chain: by its first operator, which is what the user wrote.
pub(crate) fn chain_name(index: usize, operators: &[OperatorInfo]) -> String {
    match operators {
        [] => format!("chain {index}"),
        [only] => format!("chain {index} (`{}`)", only.id),
        [first, .., last] => format!("chain {index} (`{}` … `{}`)", first.id, last.id),
    }
}

fn at_most(what: &str, count: usize) -> Result<(), String> {
    if count > PARTS_MAX { Err(format!("there are {count} {what}; {PARTS_MAX} are allowed")) } else { Ok(()) }
}

fn source(source: wit::Source) -> Result<Source, String> {
    let schema = schema::from_fields(&source.schema).map_err(|e| format!("source `{}`: {e}", source.name))?;
    Ok(Source { name: source.name, stream: source.stream, schema })
}

fn sink(sink: wit::Sink) -> Result<Sink, String> {
    at_most("inputs of a sink", sink.from.len())?;
    Ok(Sink { name: sink.name, from: sink.from.into_iter().map(endpoint).collect() })
}

fn endpoint(endpoint: wit::Endpoint) -> Endpoint {
    match endpoint {
        wit::Endpoint::Source(source) => Endpoint::Source(source),
        wit::Endpoint::Chain(wit::ChainPort { chain, port }) => Endpoint::Chain { chain, port },
    }
}

fn chain(index: usize, chain: wit::Chain) -> Result<Chain, String> {
    let operators: Vec<_> = chain.operators.into_iter().map(|o| OperatorInfo { id: o.id, kind: o.kind }).collect();
    let convert = || {
        at_most("operators", operators.len())?;
        at_most("inputs", chain.inputs.len())?;
        at_most("outputs", chain.outputs.len())?;
        Ok(Chain {
            operators: operators.clone(),
            head: head(chain.head)?,
            inputs: chain.inputs.into_iter().map(input).collect::<Result<_, _>>()?,
            outputs: chain.outputs.into_iter().enumerate().map(|(port, o)| output(port, o)).collect::<Result<_, _>>()?,
            event_time: chain.event_time.map(event_time),
            parallelism: chain.parallelism.map(parallelism).transpose()?,
            state_schema: chain.state_schema,
        })
    };
    convert().map_err(|e: String| format!("{}: {e}", chain_name(index, &operators)))
}

fn parallelism(parallelism: u32) -> Result<u16, String> {
    let most = u16::MAX;
    u16::try_from(parallelism).map_err(|_| format!("the parallelism is {parallelism}; {most} is the most there can be"))
}

fn input(input: wit::ChainInput) -> Result<Input, String> {
    at_most("endpoints of an input", input.from.len())?;
    Ok(Input {
        from: input.from.into_iter().map(endpoint).collect(),
        partitioning: match input.partitioning {
            wit::Partitioning::Forward => Partitioning::Forward,
            wit::Partitioning::Rebalance => Partitioning::Rebalance,
            wit::Partitioning::Broadcast => Partitioning::Broadcast,
            wit::Partitioning::Hash => Partitioning::Hash,
        },
        key: input.key.into_iter().map(|c| c as usize).collect(),
        columns: input.columns.into_iter().map(|c| c as usize).collect(),
        times: input.times,
    })
}

fn output(port: usize, output: wit::ChainOutput) -> Result<Output, String> {
    let schema = schema::from_fields(&output.schema).map_err(|e| format!("output {port}: {e}"))?;
    let columns = output.columns.into_iter().map(|c| match c {
        wit::ColumnOrigin::Computed => ColumnOrigin::Computed,
        wit::ColumnOrigin::Passed(column) => ColumnOrigin::Passed(column as usize),
    });
    Ok(Output { name: output.name, schema, columns: columns.collect() })
}

fn event_time(assigner: wit::EventTimeAssigner) -> EventTimeAssigner {
    EventTimeAssigner {
        column: assigner.column.map(|c| c as usize),
        watermarks: match assigner.watermarks {
            wit::Watermarks::Bounded(ms) => Watermarks::Bounded(ms),
            wit::Watermarks::Generated => Watermarks::Generated,
        },
    }
}

pub(crate) fn time_domain(domain: wit::TimeDomain) -> TimeDomain {
    match domain {
        wit::TimeDomain::Event => TimeDomain::Event,
        wit::TimeDomain::Processing => TimeDomain::Processing,
    }
}

fn head(head: wit::Head) -> Result<Head, String> {
    Ok(match head {
        wit::Head::Transform => Head::Transform,
        wit::Head::Relay => Head::Relay,
        wit::Head::Process => Head::Process,
        wit::Head::Window(w) => Head::Window(Window {
            assigner: assigner(w.assigner)?,
            domain: time_domain(w.domain),
            trigger: Trigger {
                on_time: w.trigger.on_time,
                early_every_ms: w.trigger.early_every_ms,
                every_count: w.trigger.every_count,
                purging: w.trigger.purging,
            },
            allowed_lateness_ms: span("the allowed lateness", w.allowed_lateness_ms)?,
            late_port: w.late_port.map(|p| p as usize),
            mergeable: w.mergeable,
        }),
    })
}

fn assigner(assigner: wit::Assigner) -> Result<Assigner, String> {
    Ok(match assigner {
        wit::Assigner::Tumbling(w) => {
            Assigner::Tumbling { size_ms: positive_span("the window's size", w.size_ms)?, offset_ms: w.offset_ms }
        }
        wit::Assigner::Sliding(w) => Assigner::Sliding {
            size_ms: positive_span("the window's size", w.size_ms)?,
            slide_ms: positive_span("the window's slide", w.slide_ms)?,
            offset_ms: w.offset_ms,
        },
        wit::Assigner::Session(gap) => Assigner::Session { gap_ms: positive_span("the session's gap", gap)? },
        wit::Assigner::Global => Assigner::Global,
    })
}

/// A thousand years: far beyond any use, and far from where sums of times overflow.
const SPAN_MS_MAX: u64 = 1000 * 366 * 24 * 3600 * 1000;

fn span(what: &str, ms: u64) -> Result<i64, String> {
    if ms > SPAN_MS_MAX {
        return Err(format!("{what} is {ms} ms, which is more than a thousand years"));
    }
    Ok(ms as i64)
}

fn positive_span(what: &str, ms: u64) -> Result<i64, String> {
    if ms == 0 {
        return Err(format!("{what} is 0 ms; it must be positive"));
    }
    span(what, ms)
}

#[cfg(test)]
mod tests;
