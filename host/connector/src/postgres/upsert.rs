//! Puts rows in the place of those with the same key.
//!
//! Rows are written to a temporary table of the session, and merged into the target from there: of several rows with a key, the last one. Whoever writes
//! them again leaves the table as it is, so there is nothing to be committed.

use std::sync::Arc;

use weir_types::Batch;

use super::BLOCK_BYTES;
use super::lines::Lines;
use super::session::{Server, Session, copy};
use super::table::{Name, Table, quoted};
use crate::totals::Totals;
use crate::{Delivery, Error, Report, Sink, Writer};

/// The sink.
pub(super) struct Upsert {
    server: Arc<Server>,
    name: Name,
    lines: Lines,
    key: Vec<String>,
    totals: Arc<Totals>,
}

impl Upsert {
    /// A sink that upserts.
    pub fn new(server: Arc<Server>, name: Name, lines: Lines, key: Vec<String>) -> Result<Self, Error> {
        if let Some(missing) = key.iter().find(|name| lines.schema.column_with_name(name).is_none()) {
            let names: Vec<_> = lines.schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(Error::options(format!("key: the rows have no column \"{missing}\"; they have: {}", names.join(", "))));
        }
        Ok(Self { server, name, lines, key, totals: Arc::default() })
    }

    /// The statement that merges the temporary table into the target.
    fn merge(&self, table: &Table) -> String {
        let key: Vec<_> = self.key.iter().map(|name| quoted(name)).collect();
        let (key, names, target) = (key.join(", "), table.names(), &table.quoted);
        let others = table.columns.iter().filter(|column| !self.key.contains(&column.name));
        let others: Vec<_> = others.map(|c| format!("{0} = EXCLUDED.{0}", quoted(&c.name))).collect();
        let action = if others.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", others.join(", ")) };
        // In the order of keys, so that two writers do not wait for each other's rows.
        format!(
            "INSERT INTO {target} ({names}) SELECT DISTINCT ON ({key}) {names} FROM pg_temp.weir_rows
            ORDER BY {key}, weir_row DESC ON CONFLICT ({key}) DO {action}"
        )
    }
}

impl Sink for Upsert {
    fn writer(&self, _: u16, _: u16) -> Result<Box<dyn Writer>, Error> {
        let session = self.server.connect()?;
        let table = Table::find(&session, &self.name, &self.lines.schema)?;
        table.check_key(&session, &self.key)?;
        let create =
            format!("CREATE TEMPORARY TABLE weir_rows (weir_row bigint, {}) ON COMMIT DELETE ROWS", table.declarations());
        session.run("a temporary table cannot be made", |client| async move { client.batch_execute(&create).await })?;
        let lines = self.lines.for_table(&table.columns);
        let (merge, copy) = (self.merge(&table), format!("COPY pg_temp.weir_rows (weir_row, {}) FROM STDIN", table.names()));
        let (shown, totals) = (table.shown, Arc::clone(&self.totals));
        Ok(Box::new(Upserter { session, lines, copy, merge, shown, totals, rows: 0, block: Vec::new() }))
    }

    fn report(&self) -> Report {
        self.totals.report()
    }

    fn delivery(&self) -> Delivery {
        Delivery::Idempotent
    }
}

/// Writes the rows of one subtask.
struct Upserter {
    session: Session,
    lines: Lines,
    copy: String,
    merge: String,
    shown: String,
    totals: Arc<Totals>,
    /// the number of the next row
    rows: u64,
    block: Vec<u8>,
}

impl Writer for Upserter {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.lines.encode(batch, Some(&mut self.rows), &mut self.block);
        self.totals.add_rows(batch.rows());
        if self.block.len() >= BLOCK_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::take(&mut self.block);
        self.totals.add_bytes(block.len() as u64);
        let (statement, merge) = (self.copy.clone(), self.merge.clone());
        self.session.run_whole(&format!("rows cannot be written to {}", self.shown), |client| async move {
            copy(&client, &statement, block).await?;
            client.batch_execute(&merge).await
        })
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.flush()
    }
}
