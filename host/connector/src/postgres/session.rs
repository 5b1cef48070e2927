//! Talks to a database.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, pin_mut};
use postgres_openssl::MakeTlsConnector;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};

use super::encryption::Encryption;
use crate::background::Background;
use crate::error::ErrorKind;
use crate::{Context, Error};

/// How long a connection may take to come about, if the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What every session says first. What was committed has to last, however the database is set up, and nobody waits without end for an attempt that hangs.
const GREETING: &str =
    "SET synchronous_commit = on; SET lock_timeout = '60s'; SET client_min_messages = warning; SET datestyle = 'ISO'";

/// How long it may take for one thing that is asked of it, if the job does not say. It may have to move all rows of a checkpoint.
const TIMEOUT: Duration = Duration::from_mins(10);

/// How soon a connection counts as broken that nothing comes back from, not even what machines tell each other.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// A database, and who logs in.
pub(super) struct Server {
    config: Config,
    tls: MakeTlsConnector,
    /// how long it may take for one thing
    timeout: Duration,
    /// what messages call the database: without the user and the password
    shown: String,
    background: Background,
}

impl Server {
    /// The database of a URL `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub fn new(url: &str, mut encryption: Encryption, timeout: Option<Duration>, context: &Context) -> Result<Self, Error> {
        let url = encryption.take_from(url)?;
        // What is wrong with it is not shown: it may be the password.
        let mut config: Config = url.parse().map_err(|_| {
            Error::options("the option url cannot be read; write it like \"postgres://USER:PASSWORD@HOST:PORT/DATABASE\"")
        })?;
        let encrypted = encryption.connector(context)?;
        config.ssl_mode(encrypted.mode);
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE_MAX).keepalives_idle(SILENCE_MAX / 4).keepalives_interval(SILENCE_MAX / 4);
        }
        if config.get_application_name().is_none() {
            config.application_name("weir");
        }
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(other) => format!("{other:?}"),
            None => return Err(Error::options("the option url names no host; write it like \"postgres://USER@HOST/DATABASE\"")),
        };
        // A socket is a file of the server's, and to whoever listens there the job would be the server.
        if context.files.is_confined() && config.get_hosts().iter().any(|host| !matches!(host, Host::Tcp(_))) {
            return Err(Error::options(
                "a job on a server reaches databases by TCP only: the option url has to name a host, not the folder of a socket",
            ));
        }
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
        let shown = format!("the database {database} at {host}:{port}");
        Ok(Self {
            config,
            tls: encrypted.tls,
            timeout: timeout.unwrap_or(TIMEOUT),
            shown,
            background: Background::start("weir-postgres")?,
        })
    }

    /// Begins a session.
    pub fn connect(self: &Arc<Self>) -> Result<Session, Error> {
        let server = Arc::clone(self);
        // A server that hangs takes connections, too, and says nothing.
        let limit = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let client = self.ask(limit, &format!("{} cannot be reached", self.shown), async move {
            let (client, connection) = server.config.connect(server.tls.clone()).await?;
            // It ends with the client. What goes wrong with it, the client tells.
            tokio::spawn(async move { drop(connection.await) });
            client.batch_execute(GREETING).await?;
            Ok(client)
        })?;
        Ok(Session { server: Arc::clone(self), client: Arc::new(client) })
    }

    /// Does some work, and waits for it, no longer than `limit`. `what` says in messages what did not succeed.
    fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        what: &str,
        work: impl Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.background.run(async move { tokio::time::timeout(limit, work).await })? {
            Ok(result) => result.map_err(|e| failed(what, &e)),
            Err(_) => Err(Error { kind: ErrorKind::Io, message: format!("{what}: no answer within {limit:?}"), source: None }),
        }
    }
}

/// A session. It has one user: what it does in a transaction is not mixed with anything else.
pub(super) struct Session {
    server: Arc<Server>,
    client: Arc<Client>,
}

impl Session {
    /// Does some work, and waits for it. `what` says in messages what did not succeed. A session in which something took too long is of no use any more: it
    /// may be in the midst of it still.
    pub fn run<T: Send + 'static, F: Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, Error> {
        self.server.ask(self.server.timeout, &format!("{what} in {}", self.server.shown), work(Arc::clone(&self.client)))
    }

    /// Does some work in a transaction: all of it, or nothing.
    pub fn run_whole<T: Send + 'static, F: Future<Output = Result<T, tokio_postgres::Error>> + Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(Arc<Client>) -> F,
    ) -> Result<T, Error> {
        self.run(what, |client| {
            let work = work(Arc::clone(&client));
            async move {
                client.batch_execute("BEGIN").await?;
                match work.await {
                    Ok(value) => client.batch_execute("COMMIT").await.map(|()| value),
                    Err(e) => {
                        // If the connection is broken, the database rolls back by itself.
                        drop(client.batch_execute("ROLLBACK").await);
                        Err(e)
                    }
                }
            }
        })
    }
}

/// Gives lines to a COPY statement.
pub(super) async fn copy(client: &Client, statement: &str, lines: Vec<u8>) -> Result<(), tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(statement).await?;
    pin_mut!(sink);
    sink.send(Bytes::from(lines)).await?;
    sink.finish().await?;
    Ok(())
}

/// Text as a literal of SQL.
pub(super) fn literal(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    if doubled.contains('\\') { format!("E'{}'", doubled.replace('\\', "\\\\")) } else { format!("'{doubled}'") }
}

/// What the database says, with what it advises.
fn failed(what: &str, error: &tokio_postgres::Error) -> Error {
    let (kind, why) = match error.as_db_error() {
        Some(db) => {
            let more = [db.detail(), db.where_().and_then(|place| place.lines().next()), db.hint()];
            let more: String = more.into_iter().flatten().map(|text| format!("; {text}")).collect();
            let kind = match db.code().code().get(..2) {
                // Values that the table does not take.
                Some("22" | "23") => ErrorKind::Malformed,
                // What is not there, may not be done, or cannot be done: somebody has to change the table, its rights, or the job.
                Some("42" | "0A") => ErrorKind::Options,
                _ => ErrorKind::Io,
            };
            (kind, format!("{}{more}", db.message()))
        }
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            (ErrorKind::Io, format!("{error}{cause}"))
        }
    };
    Error { kind, message: format!("{what}: {why}"), source: None }
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        // Goal: neither an error nor what the database is called has the password or the user.
        let new = |url: &str| Server::new(url, Encryption::default(), None, &super::super::tests::context(1));
        let server = new("postgres://ann:s3cret@127.0.0.1:1/flights").unwrap();
        assert_eq!(server.shown, "the database flights at 127.0.0.1:1");
        let Err(error) = Arc::new(server).connect() else { panic!("nobody listens") };
        assert!(error.message.starts_with("the database flights at 127.0.0.1:1 cannot be reached"), "{error}");
        for bad in ["postgres://ann:s3cret@127.0.0.1:port/x", "s3cret", "postgres://ann:s3cret@h/x?sslmode=s3cret", "user=s3cret"]
        {
            let Err(error) = new(bad) else { panic!("{bad} is taken") };
            assert!(error.message.contains("option url") && !error.message.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn literals_are_text() {
        // Goal: no text ends its literal.
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\' b"), "E'a\\\\'' b'");
    }
}
