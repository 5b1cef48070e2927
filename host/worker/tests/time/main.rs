//! Time through whole jobs: watermarks, idleness and ends, across splits, chains and exchanges. Jobs run on a worker with native chains; their sources give
//! rows by a script, which waits for what has come out at the sink, and so makes the order of events certain.

mod cases;
mod harness;
mod native;
mod properties;
#[path = "../../../operator/tests/window/native.rs"]
mod row_ids;
mod script;
