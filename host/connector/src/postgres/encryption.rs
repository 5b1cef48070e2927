//! Whether a connection is encrypted, and what the server has to prove: `sslmode` and `sslrootcert`, as PostgreSQL's own clients have them.

use std::path::{Path, PathBuf};

use postgres_openssl::MakeTlsConnector;
use serde::Deserialize;
use tokio_postgres::config;

use crate::tls::{Tls, read_file};
use crate::{Context, Error};

/// The options. What they do not say, the URL may.
#[derive(Debug, Default)]
pub(super) struct Encryption {
    /// whether, and what is proven
    pub sslmode: Option<SslMode>,
    /// the file with the authorities that are trusted, instead of the system's
    pub sslrootcert: Option<PathBuf>,
}

/// Words of PostgreSQL's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SslMode {
    /// no
    Disable,
    /// if the server can
    Prefer,
    /// yes, to whoever it is; with authorities as `VerifyCa`
    Require,
    /// yes, to somebody whom an authority knows
    VerifyCa,
    /// yes, to the one whom an authority knows by this name
    VerifyFull,
}

/// What makes connections.
pub(super) struct Connector {
    pub mode: config::SslMode,
    pub tls: MakeTlsConnector,
}

impl Encryption {
    /// Takes out of a URL what it says of this. Of an option that is given besides, the URL's counts for nothing.
    pub fn take_from(&mut self, url: &str) -> Result<String, Error> {
        let Some((address, query)) = url.split_once('?') else { return Ok(url.to_owned()) };
        let mut others = vec![];
        for parameter in query.split('&') {
            match parameter.split_once('=') {
                Some(("sslmode", mode)) => {
                    let mode = SslMode::deserialize(serde_json::Value::from(mode)).map_err(|_| {
                        Error::options("sslmode in the option url must be disable, prefer, require, verify-ca or verify-full")
                    })?;
                    self.sslmode.get_or_insert(mode);
                }
                Some(("sslrootcert", path)) => drop(self.sslrootcert.get_or_insert_with(|| path.into())),
                _ => others.push(parameter),
            }
        }
        Ok(if others.is_empty() { address.to_owned() } else { format!("{address}?{}", others.join("&")) })
    }

    /// What makes connections so.
    ///
    /// # Errors
    /// If the authorities cannot be read, or nobody would ask them.
    pub fn connector(&self, context: &Context) -> Result<Connector, Error> {
        let mode = match (self.sslmode, &self.sslrootcert) {
            (None, None) => SslMode::Prefer,
            (None, Some(_)) => SslMode::VerifyFull,
            (Some(SslMode::Require), Some(_)) => SslMode::VerifyCa,
            (Some(SslMode::Disable | SslMode::Prefer), Some(_)) => {
                return Err(Error::options("sslrootcert is for the modes require, verify-ca and verify-full of sslmode"));
            }
            (Some(mode), _) => mode,
        };
        let mut tls = Tls::new()?;
        match &self.sslrootcert {
            Some(path) => tls.trust(&read_file(Path::new(path), context)?, "the file that sslrootcert names")?,
            None if matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) => {}
            None => tls.trust_anybody(),
        }
        let mut tls = MakeTlsConnector::new(tls.build());
        tls.set_callback(move |connection, _| {
            connection.set_verify_hostname(mode == SslMode::VerifyFull);
            Ok(())
        });
        let mode = match mode {
            SslMode::Disable => config::SslMode::Disable,
            SslMode::Prefer => config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => config::SslMode::Require,
        };
        Ok(Connector { mode, tls })
    }
}
