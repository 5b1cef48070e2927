//! What must hold of a job's operators, said in the words of who has written them. The host refuses the rest as well, but only once the job is a component, and
//! it knows no more of it than the graph.

use std::collections::BTreeSet;

use crate::bindings::exports::weir::dataflow::definition::{
    Assigner, Chain, Endpoint, Graph, Head, OperatorInfo, TimeDomain, Trigger, Watermarks, WindowHead,
};

/// A thousand years, as the host has it.
const SPAN_MS_MAX: u64 = 1000 * 366 * 24 * 3600 * 1000;

/// The most windows of one sliding assigner that a row can be in, as the host has it.
const WINDOWS_PER_ROW_MAX: u64 = 100_000;

/// Checks what the job has been made of.
///
/// # Errors
/// Names the first operator or sink that cannot be as it is, what is wrong with it, and what to do.
pub(crate) fn check(graph: &Graph) -> Result<(), String> {
    for chain in &graph.chains {
        // What is wrong with a chain is so from its first operator on.
        let named = |fault: String| match &chain.operators[..] {
            [] => fault,
            [OperatorInfo { id, .. }, ..] => format!("operator `{id}`: {fault}"),
        };
        check_chain(graph, chain).map_err(named)?;
    }
    graph
        .sinks
        .iter()
        .try_for_each(|sink| comes_once(graph, &sink.from).map_err(|fault| format!("sink `{}`: {fault}", sink.name)))
}

fn check_chain(graph: &Graph, chain: &Chain) -> Result<(), String> {
    match chain.parallelism {
        Some(0) => return Err("`.parallelism(0)` leaves nobody to run it: give it at least 1, or leave it out".into()),
        Some(subtasks) if subtasks > u16::MAX.into() => {
            return Err(format!("`.parallelism({subtasks})` is more than there can be: give it at most {}", u16::MAX));
        }
        _ => (),
    }
    chain.inputs.iter().try_for_each(|input| comes_once(graph, &input.from))?;
    let mut names = BTreeSet::new();
    if let Some(twice) = chain.outputs.iter().find(|output| !names.insert(&output.name)) {
        let name = &twice.name;
        return Err(format!(
            "the side output `{name}` is fed twice between two boundaries: use a `Tag` of another name, or put `.break_chain()` between"
        ));
    }
    if let Some(Watermarks::Bounded(ms)) = chain.event_time.map(|assigner| assigner.watermarks) {
        at_most_span("its watermarks are behind by", ms)?;
    }
    match &chain.head {
        Head::Window(window) => check_window(window),
        Head::Transform | Head::Relay | Head::Process => Ok(()),
    }
}

/// Rows that came twice would be two inputs to who reads them, and one to who sends them.
fn comes_once(graph: &Graph, from: &[Endpoint]) -> Result<(), String> {
    let twice = from.iter().enumerate().find(|(i, endpoint)| from[..*i].contains(endpoint));
    let Some((_, endpoint)) = twice else { return Ok(()) };
    let name = match endpoint {
        Endpoint::Source(source) => format!("source `{}`", graph.sources[*source as usize].name),
        Endpoint::Chain(from) => {
            let chain = &graph.chains[from.chain as usize];
            let operator = chain.operators.last().map_or("", |operator| &operator.id);
            match &*chain.outputs[from.port as usize].name {
                "" => format!("operator `{operator}`"),
                side => format!("side output `{side}` of operator `{operator}`"),
            }
        }
    };
    Err(format!("it is given the rows of {name} twice: put an operator into one of the two ways, such as `.map(|row| row)`"))
}

fn check_window(window: &WindowHead) -> Result<(), String> {
    match window.assigner {
        Assigner::Tumbling(w) => {
            positive_span("its windows have a length of", w.size_ms)?;
            check_offset(w.offset_ms, w.size_ms)?;
        }
        Assigner::Sliding(w) => {
            let (size, slide) = (w.size_ms, w.slide_ms);
            positive_span("its windows have a length of", size)?;
            positive_span("its windows slide by", slide)?;
            if slide > size {
                return Err(format!(
                    "its windows of {size} ms slide by {slide} ms, so that rows between them would be lost: let them slide by {size} ms at most"
                ));
            }
            if size / slide > WINDOWS_PER_ROW_MAX {
                return Err(format!(
                    "each row is in {} of its windows, and {WINDOWS_PER_ROW_MAX} are allowed: let them slide by more",
                    size / slide
                ));
            }
            check_offset(w.offset_ms, slide)?;
        }
        Assigner::Session(gap) => positive_span("its sessions have a gap of", gap)?,
        Assigner::Global => (),
    }
    check_trigger(&window.trigger)?;
    at_most_span("its allowed lateness is", window.allowed_lateness_ms)?;
    if window.domain == TimeDomain::Processing && (window.allowed_lateness_ms > 0 || window.late_port.is_some()) {
        return Err("its windows go by processing time (as count windows do), in which no row is late: leave out the allowed lateness and the output \
                    for late rows, or use windows of event time"
            .into());
    }
    Ok(())
}

fn check_trigger(trigger: &Trigger) -> Result<(), String> {
    if trigger.every_count == Some(0) {
        return Err("its windows are emitted every 0 rows: let the count be at least 1".into());
    }
    if let Some(interval) = trigger.early_every_ms {
        positive_span("its windows are emitted early with an interval of", interval)?;
    }
    if !trigger.on_time && trigger.early_every_ms.is_none() && trigger.every_count.is_none() {
        return Err(
            "its trigger never fires: add `.early_every(…)` or `.every_count(…)`, or begin with `Trigger::on_time()`".into()
        );
    }
    Ok(())
}

fn check_offset(offset_ms: i64, period_ms: u64) -> Result<(), String> {
    if offset_ms.unsigned_abs() < period_ms {
        return Ok(());
    }
    Err(format!(
        "its windows begin every {period_ms} ms, and are shifted by {offset_ms} ms: shift them by less than {period_ms} ms"
    ))
}

fn positive_span(what: &str, ms: u64) -> Result<(), String> {
    if ms == 0 {
        return Err(format!("{what} 0 ms: let that be at least 1 ms"));
    }
    at_most_span(what, ms)
}

fn at_most_span(what: &str, ms: u64) -> Result<(), String> {
    if ms > SPAN_MS_MAX {
        return Err(format!("{what} {ms} ms, which is more than a thousand years: let that be less"));
    }
    Ok(())
}
