//! From a spec and graphs to a plan, in three steps:
//!
//! 1. [`logical`]: the graphs of all components become one graph of chains and sinks, with links resolved and names bound, and what happens where
//!    guests fail ([`errors`]);
//! 2. [`columns`]: which columns somebody reads;
//! 3. [`vertices`]: chains that need no exchange between them share a vertex; the others get edges, and windows are split into a local part
//!    before the exchange and a merging part after it where that gives the same result. [`splits`] says what is never cut.

mod columns;
mod errors;
mod logical;
mod splits;
#[cfg(test)]
mod tests;
mod vertices;

use weir_types::graph::Graph;

use crate::{Error, JobPlan, JobSpec};

/// Plans a job. `graphs` are those of [`JobSpec::component_specs`], in that order.
///
/// # Errors
/// If the spec and the graphs do not fit: a source or sink that is not bound, a binding without a source or sink, a link that joins
/// different schemas, a loop through links, an operator that cannot do what it should where it fails.
pub fn plan(spec: &JobSpec, graphs: &[Graph]) -> Result<JobPlan, Error> {
    spec.check()?;
    let logical = logical::build(spec, graphs)?;
    let needed = columns::needed(&logical);
    Ok(vertices::build(spec, graphs, logical, needed))
}
