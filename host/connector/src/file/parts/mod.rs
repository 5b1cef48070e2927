//! Writes a folder of *parts*: files that appear when they are committed, each complete and each once.
//!
//! A subtask writes a part to a hidden place of the [store], where nobody looks for data. It is *closed* when it is large or old, at a checkpoint and at
//! the end of the input; what a checkpoint has closed is named by its [transactions](Prepared). Only [`commit`](Sink::commit) gives it its name in the
//! folder.
//!
//! ```text
//!   write ──▶ open part ──close──▶ closed part ──prepare──▶ transaction ──commit──▶ file
//!             .weir/NAME.hidden    durable                  in the checkpoint       FOLDER/NAME
//! ```
//!
//! A [name](name) says which attempt of which job wrote the part, so that no two attempts ever write the same one, and a later attempt knows what older ones
//! left.

mod name;
mod open;
mod partition;
pub(super) mod store;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::name::Series;
pub(super) use self::partition::Partitioning;
use self::store::{Store, Upload};
use super::layout::Layout;
use crate::totals::Totals;
use crate::{Context, Delivery, Error, Report, Sink, Transaction, Writer};

/// When parts are closed.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// once they are about so large
    pub roll_bytes: u64,
    /// once they are so old
    pub roll_after: Option<Duration>,
    /// once a writer has more open; the one that was not written to for longest
    pub open_parts_max: usize,
}

/// The sink.
pub(super) struct Parts {
    shared: Arc<Shared>,
}

/// What all writers have in common.
struct Shared {
    store: Box<dyn Store>,
    series: Series,
    layout: Layout,
    /// what names of files end with, behind the dot
    extension: String,
    partitioning: Partitioning,
    limits: Limits,
    totals: Totals,
}

/// A part that is durable and hidden: a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prepared {
    /// the path of the file below the sink's folder, once it is committed
    pub part: String,
    /// what a store of objects has to know besides
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

impl Prepared {
    /// The name of the file.
    fn name(&self) -> &str {
        self.part.rsplit('/').next().unwrap_or(&self.part)
    }
}

impl Parts {
    /// A sink of parts.
    pub fn new(
        store: Box<dyn Store>,
        layout: Layout,
        extension: String,
        partitioning: Partitioning,
        limits: Limits,
        context: &Context,
    ) -> Result<Self, Error> {
        let series = Series::new(&context.name, &context.attempt)?;
        Ok(Self {
            shared: Arc::new(Shared { store, series, layout, extension, partitioning, limits, totals: Totals::default() }),
        })
    }

    /// Reads transactions. Their paths come back from a checkpoint, and lead nowhere but down.
    fn read(&self, transactions: &[Transaction]) -> Result<Vec<Prepared>, Error> {
        let read = |transaction: &Transaction| {
            let prepared: Option<Prepared> = serde_json::from_value(transaction.clone()).ok();
            let is_down = |prepared: &Prepared| prepared.part.split('/').all(|step| !matches!(step, "" | "." | ".."));
            prepared.filter(is_down).ok_or_else(|| {
                Error::options(format!("{transaction} is no transaction of parts; was the sink another one at the checkpoint?"))
            })
        };
        transactions.iter().map(read).collect()
    }
}

impl Sink for Parts {
    fn writer(&self, subtask: u16, _: u16) -> Result<Box<dyn Writer>, Error> {
        self.shared.store.open()?;
        Ok(Box::new(writer::PartWriter::new(Arc::clone(&self.shared), subtask)))
    }

    fn report(&self) -> Report {
        self.shared.totals.report()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn recover(&self, pending: &[Transaction]) -> Result<(), Error> {
        let pending = self.read(pending)?;
        let pending: HashSet<_> = pending.iter().map(Prepared::name).collect();
        self.shared.store.discard(&|name| self.shared.series.is_older(name) && !pending.contains(name))
    }

    fn commit(&self, transactions: &[Transaction]) -> Result<(), Error> {
        self.shared.store.publish(&self.read(transactions)?)
    }
}
