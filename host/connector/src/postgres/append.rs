//! Appends rows to a table, each once.
//!
//! Rows of a transaction are written to a *staging* table beside the target, which a row of the table `weir_commits` tells of. The commit moves them to the
//! target, drops the staging and marks that row, in one transaction of the database: so it is done wholly or not at all, and the second time there is
//! nothing left to do.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;
use weir_types::Batch;

use super::BLOCK_BYTES;
use super::lines::Lines;
use super::session::{Server, Session, copy, literal};
use super::table::{Name, Table};
use crate::error::ErrorKind;
use crate::totals::Totals;
use crate::{Context, Delivery, Error, Report, Sink, Transaction, Writer};

/// Makes the table of commits. Two sessions that make the same table at once do so one after the other.
fn create_commits(schema: &str) -> String {
    format!(
        "SELECT pg_advisory_xact_lock(2003134834);
        CREATE TABLE IF NOT EXISTS {schema}.weir_commits (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            job text NOT NULL,
            sink text NOT NULL,
            generation bigint NOT NULL,
            subtask integer NOT NULL,
            sequence bigint NOT NULL,
            target text NOT NULL,
            committed_at timestamptz,
            UNIQUE (job, sink, generation, subtask, sequence))"
    )
}

/// The sink.
pub(super) struct Append {
    shared: Arc<Shared>,
    /// for commits and recovery; made when it is first needed
    control: Mutex<Option<(Session, Table)>>,
}

/// What all writers have in common.
struct Shared {
    server: Arc<Server>,
    name: Name,
    lines: Lines,
    /// with the log that numbers its attempts
    job: String,
    sink: String,
    generation: i64,
    totals: Totals,
}

/// Which rows a transaction moves.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    job: String,
    sink: String,
    generation: i64,
    subtask: i32,
    /// the number of the transaction among those of its writer
    sequence: i64,
}

impl Key {
    /// The condition that finds the row of the transaction.
    fn condition(&self) -> String {
        let Self { job, sink, generation, subtask, sequence } = self;
        format!(
            "job = {} AND sink = {} AND generation = {generation} AND subtask = {subtask} AND sequence = {sequence}",
            literal(job),
            literal(sink)
        )
    }
}

/// The staging table of a transaction, as SQL writes it.
fn staging(schema: &str, id: i64) -> String {
    format!("{schema}.weir_staging_{id}")
}

impl Append {
    /// A sink that appends.
    pub fn new(server: Arc<Server>, name: Name, lines: Lines, context: &Context) -> Result<Self, Error> {
        let generation = i64::try_from(context.attempt.generation)
            .map_err(|e| Error::io(format!("the generation {} is no number of a database", context.attempt.generation), e))?;
        let (job, sink) = (context.attempt.owner(), context.name.clone());
        let shared = Shared { server, name, lines, job, sink, generation, totals: Totals::default() };
        Ok(Self { shared: Arc::new(shared), control: Mutex::new(None) })
    }

    /// Does something that can be done again, with a session that is kept. If that fails, it may have broken since the last time, and another one is tried.
    fn control<T>(&self, work: impl Fn(&Session, &Table) -> Result<T, Error>) -> Result<T, Error> {
        let mut control = self.control.lock();
        if let Some((session, table)) = &*control {
            match work(session, table) {
                Err(error) if error.kind == ErrorKind::Io => {}
                result => return result,
            }
        }
        let (session, table) = control.insert(self.shared.open()?);
        work(session, table)
    }

    fn read(transactions: &[Transaction]) -> Result<Vec<Key>, Error> {
        let read = |transaction: &Transaction| {
            serde_json::from_value(transaction.clone()).map_err(|_| {
                Error::options(format!("{transaction} is no transaction of a table; was the sink another one at the checkpoint?"))
            })
        };
        transactions.iter().map(read).collect()
    }
}

impl Shared {
    /// Begins a session, and finds the table.
    fn open(&self) -> Result<(Session, Table), Error> {
        let session = self.server.connect()?;
        let table = Table::find(&session, &self.name, &self.lines.schema)?;
        let create = create_commits(&table.schema);
        session
            .run_whole("the table weir_commits cannot be made", |client| async move { client.batch_execute(&create).await })?;
        Ok((session, table))
    }
}

impl Sink for Append {
    fn writer(&self, subtask: u16, _: u16) -> Result<Box<dyn Writer>, Error> {
        let (session, table) = self.shared.open()?;
        let lines = self.shared.lines.for_table(&table.columns);
        Ok(Box::new(Appender {
            shared: Arc::clone(&self.shared),
            session,
            table,
            lines,
            subtask,
            sequence: 0,
            staging: None,
            block: Vec::new(),
        }))
    }

    fn report(&self) -> Report {
        self.shared.totals.report()
    }

    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn recover(&self, pending: &[Transaction]) -> Result<(), Error> {
        let pending: HashSet<Key> = Self::read(pending)?.into_iter().collect();
        self.control(|session, table| {
            let (pending, schema) = (pending.clone(), table.schema.clone());
            let (job, sink, generation) = (self.shared.job.clone(), self.shared.sink.clone(), self.shared.generation);
            session.run_whole("what older attempts left cannot be removed", |client| async move {
                let older = format!(
                    "SELECT id, subtask, sequence, generation FROM {schema}.weir_commits
                    WHERE job = $1 AND sink = $2 AND generation < $3 AND committed_at IS NULL FOR UPDATE"
                );
                for row in client.query(&older, &[&job, &sink, &generation]).await? {
                    let id: i64 = row.get(0);
                    let (job, sink) = (job.clone(), sink.clone());
                    let key = Key { job, sink, generation: row.get(3), subtask: row.get(1), sequence: row.get(2) };
                    if !pending.contains(&key) {
                        let staging = staging(&schema, id);
                        let remove = format!("DROP TABLE IF EXISTS {staging}; DELETE FROM {schema}.weir_commits WHERE id = {id}");
                        client.batch_execute(&remove).await?;
                    }
                }
                Ok(())
            })
        })
    }

    fn commit(&self, transactions: &[Transaction]) -> Result<(), Error> {
        let mut keys = Self::read(transactions)?;
        if keys.is_empty() {
            return Ok(());
        }
        // Always in the same order, so that two attempts that commit the same do not wait for each other.
        keys.sort();
        let lost = self.control(|session, table| {
            let (keys, schema) = (keys.clone(), table.schema.clone());
            let moved = session.run_whole(&format!("rows cannot be committed to {}", table.shown), |client| async move {
                for key in keys {
                    if !move_rows(&client, &schema, &key).await? {
                        return Ok(Some(key));
                    }
                }
                Ok(None)
            });
            moved.map_err(refused)
        })?;
        match lost {
            None => Ok(()),
            Some(key) => Err(Error::missing(format!(
                "the rows of a transaction of {} are lost: it was prepared, but weir_commits has no row for {}",
                self.shared.name.shown(),
                key.condition()
            ))),
        }
    }
}

/// The error of a commit, which says what to do if the target takes the rows neither now nor later: they were written for it, whatever the job's sinks are
/// today.
fn refused(error: Error) -> Error {
    match error.kind {
        ErrorKind::Options | ErrorKind::Malformed => Error::malformed(format!(
            "{error}; change the table so that it takes these rows, which are kept: they are committed when the job starts again"
        )),
        _ => error,
    }
}

/// Moves the rows of a transaction to its target, unless that was done before; false if nothing is known of it.
async fn move_rows(client: &Client, schema: &str, key: &Key) -> Result<bool, tokio_postgres::Error> {
    let condition = key.condition();
    let mark = format!(
        "UPDATE {schema}.weir_commits SET committed_at = now() WHERE {condition} AND committed_at IS NULL RETURNING id, target"
    );
    let Some(row) = client.query_opt(&mark, &[]).await? else {
        return Ok(client.query_opt(&format!("SELECT FROM {schema}.weir_commits WHERE {condition}"), &[]).await?.is_some());
    };
    let (id, target): (i64, String) = (row.get(0), row.get(1));
    let staging = staging(schema, id);
    // Those that it was made with, whatever the job writes today.
    let names = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
    let names: String = client.query_one(names, &[&staging]).await?.get(0);
    let statements = format!("INSERT INTO {target} ({names}) SELECT {names} FROM {staging}; DROP TABLE {staging}");
    client.batch_execute(&statements).await?;
    Ok(true)
}

/// Writes the rows of one subtask to staging tables.
struct Appender {
    shared: Arc<Shared>,
    session: Session,
    table: Table,
    lines: Lines,
    subtask: u16,
    /// the number of the next transaction
    sequence: i64,
    /// the transaction whose rows are being written, and its staging table
    staging: Option<(Key, String)>,
    block: Vec<u8>,
}

impl Appender {
    /// Makes a staging table.
    fn begin(&mut self) -> Result<String, Error> {
        let Shared { job, sink, generation, .. } = &*self.shared;
        let (subtask, sequence) = (i32::from(self.subtask), self.sequence);
        let key = Key { job: job.clone(), sink: sink.clone(), generation: *generation, subtask, sequence };
        self.sequence += 1;
        let (schema, target) = (self.table.schema.clone(), self.table.quoted.clone());
        let (declarations, begun) = (self.table.declarations(), key.clone());
        let staging = self.session.run_whole("a staging table cannot be made", |client| async move {
            let insert = format!(
                "INSERT INTO {schema}.weir_commits (job, sink, generation, subtask, sequence, target)
                VALUES ($1, $2, $3, $4, $5, $6) RETURNING id"
            );
            let Key { job, sink, generation, subtask, sequence } = &begun;
            let row = client.query_one(&insert, &[job, sink, generation, subtask, sequence, &target]).await?;
            let staging = staging(&schema, row.get(0));
            client.batch_execute(&format!("CREATE TABLE {staging} ({declarations}) WITH (autovacuum_enabled = false)")).await?;
            Ok(staging)
        })?;
        self.staging = Some((key, staging.clone()));
        Ok(staging)
    }

    /// Writes the block to the staging table.
    fn put_out(&mut self) -> Result<(), Error> {
        if self.block.is_empty() {
            return Ok(());
        }
        let staging = match &self.staging {
            Some((_, staging)) => staging.clone(),
            None => self.begin()?,
        };
        let block = std::mem::take(&mut self.block);
        self.shared.totals.add_bytes(block.len() as u64);
        let statement = format!("COPY {staging} ({}) FROM STDIN", self.table.names());
        let what = format!("rows cannot be written to the staging table of {}", self.table.shown);
        self.session.run(&what, |client| async move { copy(&client, &statement, block).await })
    }
}

impl Writer for Appender {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        self.lines.encode(batch, None, &mut self.block);
        self.shared.totals.add_rows(batch.rows());
        if self.block.len() >= BLOCK_BYTES { self.put_out() } else { Ok(()) }
    }

    /// Nobody sees rows before they are committed, so nothing is gained by putting out a small block.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn prepare(&mut self) -> Result<Vec<Transaction>, Error> {
        self.put_out()?;
        let transaction = |(key, _)| serde_json::to_value(key).map_err(|e| Error::io("a transaction cannot be named", e));
        self.staging.take().map(transaction).into_iter().collect()
    }

    fn finish(&mut self) -> Result<(), Error> {
        self.put_out()
    }
}
