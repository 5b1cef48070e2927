//! The Nexmark queries, in one component: `[args] query = "q5"` chooses one.
//!
//! An auction house: persons open auctions and bid. The source `nexmark` has the streams `person`, `auction` and `bid`; each
//! query reads the columns that it needs and writes to the sink `out`. Fields that a query only moves on are `Pass`, so that
//! they never enter the component.

mod join;
mod keyed;
mod rows;
mod stateless;
mod window;

use weir::Job;

/// The job: the query that the arguments name.
#[weir::job]
pub fn nexmark(job: &Job) -> Result<(), String> {
    let query = job.argument("query").ok_or("the argument `query` is missing")?;
    match query.as_str() {
        "gen" => stateless::all(job),
        "q0" => stateless::q0(job),
        "q1" => stateless::q1(job),
        "q2" => stateless::q2(job),
        "q3" => join::q3(job),
        "q4" => join::q4(job),
        "q5" => window::q5(job),
        "q7" => window::q7(job),
        "q8" => join::q8(job),
        "q11" => window::q11(job),
        "q18" => keyed::q18(job),
        "keyed_count" => keyed::count(job),
        _ => return Err(format!("there is no query `{query}`")),
    }
    Ok(())
}
