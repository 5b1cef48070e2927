//! The connector `postgres`: writes rows to a table of a PostgreSQL database.
//!
//! Either appends them, each once: rows are written to a table of their own beside the target, and moved at the commit. Or upserts them:
//! a row takes the place of the one with the same key, so that writing it again changes nothing. Both write by COPY, as lines of text.

mod append;
mod encryption;
mod instants;
mod lines;
mod session;
mod table;
mod upsert;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use arrow_schema::SchemaRef;
use serde::Deserialize;
use weir_plan::units::SpecDuration;

use self::encryption::{Encryption, SslMode};
use self::lines::Lines;
use self::session::Server;
use self::table::Name;
use crate::registry::Stream;
use crate::{Connector, Context, Error, Sink, Source, options};

/// The connector `postgres`.
pub struct Postgres;

/// How many bytes of rows a writer collects before it puts them out.
const BLOCK_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    /// where the database is, and who logs in
    url: String,
    /// the table: `TABLE` or `SCHEMA.TABLE`
    table: String,
    /// what becomes of the rows that are there
    #[serde(default)]
    mode: Mode,
    /// upsert: the columns that say which row it is
    #[serde(default)]
    key: Vec<String>,
    /// how long the database may take for one thing
    timeout: Option<SpecDuration>,
    /// whether the connection is encrypted
    sslmode: Option<SslMode>,
    /// the authorities that may vouch for the server
    sslrootcert: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    /// they stay
    #[default]
    Append,
    /// those with the same key are replaced
    Upsert,
}

impl Connector for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn source(&self, _: &toml::Table, _: &[Stream], _: &Context) -> Result<Box<dyn Source>, Error> {
        Err(options::not_a_source(self.name()))
    }

    fn sink(&self, options: &toml::Table, schema: &SchemaRef, context: &Context) -> Result<Box<dyn Sink>, Error> {
        let options: Options = options::parse(options, context)?;
        if schema.fields().is_empty() {
            return Err(Error::options(format!("\"{}\" has no columns, and a table's rows have some", context.name)));
        }
        if options.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
            return Err(Error::options("the option timeout must be more than 0"));
        }
        let lines = Lines::new(schema)?;
        let encryption = Encryption { sslmode: options.sslmode, sslrootcert: options.sslrootcert };
        let timeout = options.timeout.map(|timeout| timeout.0);
        let server = Arc::new(Server::new(&options.url, encryption, timeout, context)?);
        let table = Name::parse(&options.table)?;
        Ok(match options.mode {
            Mode::Append if !options.key.is_empty() => {
                return Err(Error::options("the option key is for mode = \"upsert\" only"));
            }
            Mode::Append => Box::new(append::Append::new(server, table, lines, context)?),
            Mode::Upsert if options.key.is_empty() => {
                return Err(Error::options(
                    "mode = \"upsert\" needs the option key, which names the columns that say which row it is",
                ));
            }
            Mode::Upsert => Box::new(upsert::Upsert::new(server, table, lines, options.key)?),
        })
    }
}
