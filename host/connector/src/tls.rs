//! Encrypted connections: the settings of TLS that connectors have in common. OpenSSL is what librdkafka uses, so that a setting means the same
//! wherever it is.

#[cfg(test)]
pub(crate) mod authority;

use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkcs12::Pkcs12;
use openssl::pkey::PKey;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslMethod, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;

use crate::{Context, Error};

/// A file of certificates or keys is read this far.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What makes connections to servers, being built.
pub(crate) struct Tls(SslConnectorBuilder);

impl Tls {
    /// Servers prove who they are by a certificate that one of the system's authorities has signed.
    pub fn new() -> Result<Self, Error> {
        SslConnector::builder(SslMethod::tls_client()).map(Self).map_err(|e| failed("TLS cannot be set up", &e))
    }

    /// Servers prove nothing.
    pub fn trust_anybody(&mut self) {
        self.0.set_verify(SslVerifyMode::NONE);
    }

    /// Trusts these authorities (PEM), and no others. `what` names them in messages.
    pub fn trust(&mut self, authorities: &[u8], what: &str) -> Result<(), Error> {
        refuse_encrypted(authorities, what)?;
        let store = || {
            let mut store = X509StoreBuilder::new()?;
            let certificates = X509::stack_from_pem(authorities)?;
            let count = certificates.len();
            certificates.into_iter().try_for_each(|certificate| store.add_cert(certificate))?;
            Ok((store.build(), count))
        };
        match store().map_err(|e: ErrorStack| failed(&format!("{what} cannot be read as certificates (PEM)"), &e))? {
            (_, 0) => Err(Error::options(format!("{what} has no certificate (PEM)"))),
            (store, _) => {
                self.0.set_cert_store(store);
                Ok(())
            }
        }
    }

    /// Proves who this is by a chain of certificates and the key of the first (PEM).
    pub fn prove(&mut self, chain: &[u8], key: &[u8], password: Option<&str>) -> Result<(), Error> {
        refuse_encrypted(chain, "the certificate")?;
        let mut prove = || {
            let mut chain = X509::stack_from_pem(chain)?.into_iter();
            if let Some(own) = chain.next() {
                self.0.set_certificate(&own)?;
            }
            chain.try_for_each(|certificate| self.0.add_extra_chain_cert(certificate))?;
            // Without a password none is asked for at the terminal.
            let key = PKey::private_key_from_pem_passphrase(key, password.unwrap_or_default().as_bytes())?;
            self.0.set_private_key(&key)?;
            self.0.check_private_key()
        };
        prove().map_err(|e: ErrorStack| failed("the certificate and its key cannot be used", &e))
    }

    /// The same, of a key store (PKCS#12).
    pub fn prove_by_store(&mut self, store: &[u8], password: &str) -> Result<(), Error> {
        let mut prove = || {
            let parsed = Pkcs12::from_der(store)?.parse2(password)?;
            parsed.cert.iter().try_for_each(|certificate| self.0.set_certificate(certificate))?;
            parsed.pkey.iter().try_for_each(|key| self.0.set_private_key(key))?;
            parsed.ca.into_iter().flatten().try_for_each(|certificate| self.0.add_extra_chain_cert(certificate))?;
            self.0.check_private_key()
        };
        prove().map_err(|e: ErrorStack| failed("the key store cannot be used", &e))
    }

    /// What makes the connections.
    pub fn build(self) -> SslConnector {
        self.0.build()
    }
}

/// Reads a file of certificates or keys.
pub(crate) fn read_file(path: &Path, context: &Context) -> Result<Vec<u8>, Error> {
    use std::io::Read;
    let mut bytes = vec![];
    let read = context.files.open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|e| Error::io(format!("the file {} cannot be read", context.files.shown(path)), e))?;
    Ok(bytes)
}

/// Refuses certificates (PEM) that say that they are encrypted: OpenSSL would ask for their pass phrase at the terminal, and wait for it for ever.
fn refuse_encrypted(certificates: &[u8], what: &str) -> Result<(), Error> {
    const SAYS_SO: &[u8] = b"Proc-Type:";
    match certificates.windows(SAYS_SO.len()).any(|bytes| bytes == SAYS_SO) {
        true => Err(Error::options(format!(
            "{what} is encrypted, or has an encrypted key beside it (PEM with \"Proc-Type:\"); give certificates as they are, and the key apart from them"
        ))),
        false => Ok(()),
    }
}

/// An error of OpenSSL, which names no secrets.
fn failed(what: &str, errors: &ErrorStack) -> Error {
    let reasons: Vec<_> = errors.errors().iter().filter_map(|error| error.reason()).collect();
    Error::options(format!("{what}: {}", if reasons.is_empty() { "they do not fit".into() } else { reasons.join(", ") }))
}

#[cfg(test)]
mod tests {
    use super::authority::Authority;
    use super::*;

    #[test]
    fn encrypted_certificates_are_refused() {
        // Goal: a certificate for which OpenSSL would ask a pass phrase at the terminal is refused instead, wherever it stands; one as it is is taken.
        const BEGIN: &str = "-----BEGIN CERTIFICATE-----\n";
        let authority = Authority::new();
        let plain = authority.certificate();
        let own = authority.identify("localhost");
        let encrypted = |pem: &[u8]| {
            let header = format!("{BEGIN}Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{}\n\n", "0".repeat(32));
            let text = std::str::from_utf8(pem).unwrap().replace(BEGIN, &header);
            assert!(text.contains("ENCRYPTED"));
            text.into_bytes()
        };
        let mut tls = Tls::new().unwrap();
        tls.trust(&plain, "ssl.ca.pem").unwrap();
        tls.prove(&own.certificate, &own.key, None).unwrap();
        let mut refused = vec![tls.prove(&encrypted(&own.certificate), &own.key, None)];
        refused.push(tls.trust(&encrypted(&plain), "ssl.ca.pem"));
        refused.push(tls.trust(&[&plain[..], &encrypted(&plain)].concat(), "ssl.ca.pem"));
        for (refused, what) in refused.into_iter().zip(["the certificate", "ssl.ca.pem", "ssl.ca.pem"]) {
            let error = refused.unwrap_err();
            assert!(error.message.starts_with(&format!("{what} is encrypted, or has an encrypted key")), "{error}");
        }
    }
}
