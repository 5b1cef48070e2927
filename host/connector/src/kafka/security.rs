//! How brokers are reached: by TLS or not, and who logs in. librdkafka takes that from its settings; what is asked of brokers without it takes it from the
//! same ones.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use openssl::hash::MessageDigest;
use openssl::ssl::{HandshakeError, SslConnector};
use openssl::x509::X509VerifyResult;
use rdkafka::ClientConfig;

use crate::tls::{Tls, read_file};
use crate::{Context, Error};

/// Settings that name a file, which librdkafka opens by itself.
pub(super) const FILES: [&str; 5] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location", "ssl.crl.location"];
/// Settings that a client of transactions would have to know and does not.
const FOREIGN: [&str; 5] =
    ["ssl.crl.location", "ssl.ca.certificate.stores", "ssl.engine.location", "ssl.providers", "https.ca.location"];

/// Whether the value of a setting is not to be shown: a message may quote what is wrong with it.
pub(super) fn is_secret(setting: &str) -> bool {
    crate::is_secret(setting) || setting.contains("username")
}

/// How brokers are reached.
#[derive(Default)]
pub(super) struct Security {
    /// none = without TLS
    tls: Option<Encryption>,
    /// who logs in; none = nobody does
    pub login: Option<Login>,
}

struct Encryption {
    connector: SslConnector,
    /// whether the broker's certificate has to bear the name that it is called by
    checks_name: bool,
}

/// Who logs in, and how.
pub(super) struct Login {
    pub user: String,
    pub password: String,
    pub mechanism: Mechanism,
}

/// How somebody logs in.
#[derive(Clone, Copy)]
pub(super) enum Mechanism {
    Plain,
    Scram(MessageDigest),
}

impl Login {
    /// What Kafka calls the mechanism.
    pub fn mechanism_name(&self) -> &'static str {
        match self.mechanism {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(digest) if digest == MessageDigest::sha256() => "SCRAM-SHA-256",
            Mechanism::Scram(_) => "SCRAM-SHA-512",
        }
    }
}

/// A connection to a broker.
pub(super) trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Why there is no connection.
pub(super) enum Refusal {
    /// the network failed
    Io(io::Error),
    /// the two sides cannot agree: another time, they cannot, either
    Tls(String),
}

impl Security {
    /// What librdkafka's settings say.
    ///
    /// # Errors
    /// If they ask for what only librdkafka can do, or a file cannot be used.
    pub fn new(config: &ClientConfig, context: &Context) -> Result<Self, Error> {
        let named = |why: &str| format!("options of \"{}\": {why}", context.name);
        let protocol = config.get("security.protocol").unwrap_or("plaintext").to_lowercase();
        let tls = match protocol.ends_with("ssl") {
            true => Some(encryption(config, context).map_err(|e| Error { message: named(&e.message), ..e })?),
            false => None,
        };
        let login = match protocol.starts_with("sasl") {
            true => Some(login(config).map_err(|why| Error::options(named(&why)))?),
            false => None,
        };
        Ok(Self { tls, login })
    }

    /// Goes on in a connection to a broker of this address.
    pub fn connect(&self, stream: TcpStream, address: &str) -> Result<Box<dyn Stream>, Refusal> {
        let Some(Encryption { connector, checks_name }) = &self.tls else { return Ok(Box::new(stream)) };
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let configured = connector.configure().map_err(|e| Refusal::Tls(e.to_string()))?;
        match configured.verify_hostname(*checks_name).connect(host, stream) {
            Ok(stream) => Ok(Box::new(stream)),
            Err(HandshakeError::SetupFailure(e)) => Err(Refusal::Tls(e.to_string())),
            Err(HandshakeError::Failure(failed) | HandshakeError::WouldBlock(failed)) => match failed.ssl().verify_result() {
                X509VerifyResult::OK => Err(Refusal::Io(io::Error::other(failed.into_error()))),
                why => Err(Refusal::Tls(format!("certificate verify failed: {}", why.error_string()))),
            },
        }
    }
}

fn encryption(config: &ClientConfig, context: &Context) -> Result<Encryption, Error> {
    if let Some(foreign) = FOREIGN.iter().find(|name| config.get(name).is_some_and(|value| !value.is_empty())) {
        return Err(Error::options(format!("exactly-once does without \"{foreign}\"; set delivery = \"at-least-once\"")));
    }
    let given = |setting: &str| config.get(setting).filter(|value| !value.is_empty());
    let file_or = |location: &str, pem: &str| match (given(location), given(pem)) {
        (Some(path), _) => read_file(Path::new(path), context).map(Some),
        (None, pem) => Ok(pem.map(|pem| pem.as_bytes().to_vec())),
    };
    let mut tls = Tls::new()?;
    if given("enable.ssl.certificate.verification") == Some("false") {
        tls.trust_anybody();
    } else if let Some(authorities) = file_or("ssl.ca.location", "ssl.ca.pem")? {
        tls.trust(&authorities, "ssl.ca.location (or ssl.ca.pem)")?;
    }
    let chain = file_or("ssl.certificate.location", "ssl.certificate.pem")?;
    let key = file_or("ssl.key.location", "ssl.key.pem")?;
    if let (Some(chain), Some(key)) = (chain, key) {
        tls.prove(&chain, &key, given("ssl.key.password"))?;
    }
    if let Some(store) = given("ssl.keystore.location") {
        tls.prove_by_store(&read_file(Path::new(store), context)?, given("ssl.keystore.password").unwrap_or_default())?;
    }
    let checks_name = given("ssl.endpoint.identification.algorithm") != Some("none");
    Ok(Encryption { connector: tls.build(), checks_name })
}

fn login(config: &ClientConfig) -> Result<Login, String> {
    let mechanism = config.get("sasl.mechanisms").or_else(|| config.get("sasl.mechanism")).unwrap_or("GSSAPI");
    let mechanism = match mechanism {
        "PLAIN" => Mechanism::Plain,
        "SCRAM-SHA-256" => Mechanism::Scram(MessageDigest::sha256()),
        "SCRAM-SHA-512" => Mechanism::Scram(MessageDigest::sha512()),
        other => {
            return Err(format!(
                "exactly-once needs the property \"sasl.mechanism\" to be \"PLAIN\", \"SCRAM-SHA-256\" or \"SCRAM-SHA-512\", not \"{other}\"; \
                 or set delivery = \"at-least-once\""
            ));
        }
    };
    match (config.get("sasl.username"), config.get("sasl.password")) {
        (Some(user), Some(password)) => Ok(Login { user: user.to_owned(), password: password.to_owned(), mechanism }),
        _ => Err("to log in takes the properties \"sasl.username\" and \"sasl.password\"".into()),
    }
}
