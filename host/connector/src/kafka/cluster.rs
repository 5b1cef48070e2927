//! Asks brokers about transactions, as an administrator would: requests over TCP, one at a time, repeated while the cluster is in motion.

use std::collections::HashMap;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::scram::Scram;
use super::security::{Login, Mechanism, Refusal, Security, Stream};
use super::transaction::Prepared;
use super::wire::{
    API_VERSIONS, Answer, Api, Body, Code, DESCRIBE_TRANSACTIONS, END_TXN, FIND_COORDINATOR, Garbled, INIT_PRODUCER_ID,
    LIST_TRANSACTIONS, METADATA, SASL_AUTHENTICATE, SASL_HANDSHAKE, USED,
};
use crate::Error;
use crate::error::ErrorKind;

/// An answer longer than this is none of Kafka's.
const ANSWER_BYTES_MAX: u32 = 64 << 20;
/// How long a broker may take to connect, or to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses between attempts double from the one to the other.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
const DEFAULT_PORT: u16 = 9092;

/// The brokers of a cluster, as far as transactions go.
pub(super) struct Cluster {
    /// where to begin
    bootstrap: Vec<String>,
    security: Arc<Security>,
    /// how long a request is repeated
    patience: Duration,
    connections: HashMap<String, Connection>,
    /// what tells it from other clusters, once somebody has asked
    id: Option<String>,
}

/// What a coordinator knows of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    pub state: State,
    /// the producer that has the id, and how often it was given anew
    pub producer_id: i64,
    pub epoch: i16,
}

/// What the last transaction of an id is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Empty,
    Ongoing,
    PrepareCommit,
    CompleteCommit,
    /// it is being aborted, or has been
    Aborted,
    /// it has expired, or is in a state that Kafka did not have when this was written
    Other,
}

impl State {
    fn of(name: &str) -> Self {
        match name {
            "Empty" => Self::Empty,
            "Ongoing" => Self::Ongoing,
            "PrepareCommit" => Self::PrepareCommit,
            "CompleteCommit" => Self::CompleteCommit,
            "PrepareAbort" | "CompleteAbort" | "PrepareEpochFence" => Self::Aborted,
            _ => Self::Other,
        }
    }
}

/// Why a request has no answer.
enum Trouble {
    /// it may have one a little later
    Passing(String),
    /// it never will
    Lasting(String),
}

impl From<Garbled> for Trouble {
    fn from(garbled: Garbled) -> Self {
        Self::Lasting(garbled.to_string())
    }
}

impl From<Code> for Trouble {
    fn from(code: Code) -> Self {
        if code.is_passing() { Self::Passing(code.to_string()) } else { Self::Lasting(code.to_string()) }
    }
}

impl Cluster {
    /// A cluster by the addresses of some of its brokers, with commas between them. Requests are repeated for as long as `patience`.
    pub fn new(brokers: &str, security: Arc<Security>, patience: Duration) -> Self {
        let addresses = brokers.split(',').map(|broker| {
            let broker = broker.trim();
            let broker = broker.split_once("://").map_or(broker, |(_, address)| address);
            let has_port = broker.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if has_port { broker.to_owned() } else { format!("{broker}:{DEFAULT_PORT}") }
        });
        Self { bootstrap: addresses.collect(), security, patience, connections: HashMap::new(), id: None }
    }

    /// What is known of a transactional id; none = nothing.
    pub fn describe(&mut self, id: &str) -> Result<Option<Description>, Error> {
        self.ask_coordinator(id, "be described", |cluster, coordinator| {
            let mut body = Body::default();
            body.compact_texts(&[id]).no_tags();
            let described = cluster.call(coordinator, &DESCRIBE_TRANSACTIONS, &body, |answer| {
                answer.i32()?;
                answer.compact_items(|answer| {
                    let (code, _id, state) = (answer.code()?, answer.compact_text()?, answer.compact_text()?);
                    let (_timeout, _start) = (answer.i32()?, answer.i64()?);
                    let description = Description { state: State::of(&state), producer_id: answer.i64()?, epoch: answer.i16()? };
                    answer.compact_items(|topic| {
                        topic.compact_text()?;
                        topic.compact_items(Answer::i32)?;
                        topic.skip_tags()
                    })?;
                    answer.skip_tags()?;
                    Ok((code, description))
                })
            })?;
            match described.into_iter().next().ok_or(Garbled)? {
                (Code::NONE, description) => Ok(Some(description)),
                (Code::TRANSACTIONAL_ID_NOT_FOUND, _) => Ok(None),
                (code, _) => Err(code.into()),
            }
        })
    }

    /// Ends a transaction by a commit. A code says that the coordinator will not, ever.
    pub fn commit(&mut self, prepared: &Prepared) -> Result<Result<(), Code>, Error> {
        let id = &prepared.transactional_id;
        self.ask_coordinator(id, "be committed", |cluster, coordinator| {
            let mut body = Body::default();
            body.text(id).i64(prepared.producer_id).i16(prepared.epoch).bool(true);
            let code = cluster.call(coordinator, &END_TXN, &body, |answer| {
                answer.i32()?;
                answer.code()
            })?;
            match code {
                Code::NONE => Ok(Ok(())),
                code if code.is_passing() => Err(code.into()),
                code => Ok(Err(code)),
            }
        })
    }

    /// Aborts what an id has open, and locks out the producer that had the id.
    pub fn fence(&mut self, id: &str) -> Result<(), Error> {
        self.ask_coordinator(id, "be aborted", |cluster, coordinator| {
            let mut body = Body::default();
            // Nothing is written under the id again, so its time-out does not matter; any broker allows this one.
            body.text(id).i32(1000);
            let code = cluster.call(coordinator, &INIT_PRODUCER_ID, &body, |answer| {
                answer.i32()?;
                answer.code()
            })?;
            if code == Code::NONE { Ok(()) } else { Err(code.into()) }
        })
    }

    /// The transactional ids that have a transaction open, of all that use the cluster.
    pub fn open_transactions(&mut self) -> Result<Vec<String>, Error> {
        let (brokers, _) = self.members()?;
        let mut ids = vec![];
        for broker in brokers {
            let failed = |why| io(format!("the broker {broker} cannot list its transactions: {why}"));
            let listed = self.patiently(|cluster| {
                let mut body = Body::default();
                body.compact_texts(&["Ongoing"]).compact_texts(&[]).no_tags();
                let (code, ids) = cluster.call(&broker, &LIST_TRANSACTIONS, &body, |answer| {
                    answer.i32()?;
                    let code = answer.code()?;
                    answer.compact_items(Answer::compact_text)?;
                    let ids = answer.compact_items(|answer| {
                        let id = answer.compact_text()?;
                        answer.i64()?;
                        answer.compact_text()?;
                        answer.skip_tags()?;
                        Ok(id)
                    })?;
                    Ok((code, ids))
                })?;
                if code == Code::NONE { Ok(ids) } else { Err(code.into()) }
            });
            ids.extend(listed.map_err(failed)?);
        }
        Ok(ids)
    }

    /// What tells the cluster from others; empty = it has no id.
    pub fn id(&mut self) -> Result<String, Error> {
        if let Some(id) = &self.id {
            return Ok(id.clone());
        }
        let (_, id) = self.members()?;
        Ok(self.id.insert(id).clone())
    }

    /// The addresses of the brokers, and the cluster's id, which is empty if it has none.
    fn members(&mut self) -> Result<(Vec<String>, String), Error> {
        let members = self.patiently(|cluster| {
            let mut no_topics = Body::default();
            no_topics.i32(0);
            cluster.call_any(&METADATA, &no_topics, |answer| {
                let brokers = answer.items(|answer| {
                    answer.i32()?;
                    let address = format!("{}:{}", answer.text()?, answer.i32()?);
                    answer.text()?;
                    Ok(address)
                })?;
                Ok((brokers, answer.text()?))
            })
        });
        members.map_err(|why| io(format!("the brokers of {} cannot be listed: {why}", self.bootstrap.join(","))))
    }

    /// Asks the coordinator of a transactional id, looked up anew each time: it moves.
    fn ask_coordinator<T>(
        &mut self,
        id: &str,
        what: &str,
        mut ask: impl FnMut(&mut Self, &str) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        let answer = self.patiently(|cluster| {
            let mut body = Body::default();
            body.text(id).i8(1);
            let (code, coordinator) = cluster.call_any(&FIND_COORDINATOR, &body, |answer| {
                answer.i32()?;
                let code = answer.code()?;
                answer.text()?;
                answer.i32()?;
                Ok((code, format!("{}:{}", answer.text()?, answer.i32()?)))
            })?;
            if code != Code::NONE {
                return Err(code.into());
            }
            ask(cluster, &coordinator)
        });
        answer.map_err(|why| io(format!("the transaction {id} cannot {what}: {why}")))
    }

    /// Repeats a request while that may help.
    fn patiently<T>(&mut self, mut ask: impl FnMut(&mut Self) -> Result<T, Trouble>) -> Result<T, String> {
        let (begin, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            match ask(self) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Lasting(why)) => return Err(why),
                Err(Trouble::Passing(why)) if begin.elapsed() + pause > self.patience => return Err(why),
                Err(Trouble::Passing(_)) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Asks the first broker that can be reached.
    fn call_any<T>(&mut self, api: &Api, body: &Body, read: impl Fn(&mut Answer) -> Result<T, Garbled>) -> Result<T, Trouble> {
        let mut reasons = vec![];
        for address in self.bootstrap.clone() {
            match self.call(&address, api, body, &read) {
                Err(Trouble::Passing(why)) => reasons.push(why),
                other => return other,
            }
        }
        Err(Trouble::Passing(reasons.join("; ")))
    }

    fn call<T>(
        &mut self,
        address: &str,
        api: &Api,
        body: &Body,
        read: impl FnOnce(&mut Answer) -> Result<T, Garbled>,
    ) -> Result<T, Trouble> {
        let passing = |e: &io::Error| Trouble::Passing(format!("{address}: {e}"));
        let mut connection = match self.connections.remove(address) {
            Some(connection) => connection,
            None => {
                let stream = open(address, self.patience.min(REQUEST_TIMEOUT)).map_err(|e| passing(&e))?;
                let stream = self.security.connect(stream, address).map_err(|refusal| match refusal {
                    Refusal::Io(e) => passing(&e),
                    Refusal::Tls(why) => Trouble::Lasting(format!("{address}: {why}")),
                })?;
                let mut connection = Connection { stream, correlation: 0 };
                connection.check(address)?;
                if let Some(login) = &self.security.login {
                    connection.log_in(address, login)?;
                }
                connection
            }
        };
        let (correlation, frame) = connection.request(api, body).map_err(|e| passing(&e))?;
        let answer = read(&mut api.answer(correlation, &frame)?)?;
        // A connection that failed is not put back.
        self.connections.insert(address.to_owned(), connection);
        Ok(answer)
    }
}

fn io(message: String) -> Error {
    Error { kind: ErrorKind::Io, message, source: None }
}

fn open(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for socket in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket, timeout) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(timeout))?;
                stream.set_write_timeout(Some(timeout))?;
                return Ok(stream);
            }
            Err(e) => failure = e,
        }
    }
    Err(failure)
}

struct Connection {
    stream: Box<dyn Stream>,
    correlation: i32,
}

impl Connection {
    /// Logs in.
    fn log_in(&mut self, address: &str, login: &Login) -> Result<(), Trouble> {
        let passing = |e: io::Error| Trouble::Passing(format!("{address}: {e}"));
        let mut body = Body::default();
        body.text(login.mechanism_name());
        let (correlation, frame) = self.request(&SASL_HANDSHAKE, &body).map_err(passing)?;
        let mut answer = SASL_HANDSHAKE.answer(correlation, &frame)?;
        let (code, offered) = (answer.code()?, answer.items(Answer::text)?);
        if code != Code::NONE {
            let (name, offered) = (login.mechanism_name(), offered.join(", "));
            return Err(Trouble::Lasting(format!("{address}: nobody can log in by {name}, but by: {offered} ({code})")));
        }
        let Login { user, password, mechanism } = login;
        match mechanism {
            Mechanism::Plain => self.authenticate(address, format!("\0{user}\0{password}").as_bytes()).map(drop),
            Mechanism::Scram(digest) => {
                let lasting = |why: String| Trouble::Lasting(format!("{address}: {why}"));
                let scram = Scram::new(*digest, user, password, nonce().map_err(lasting)?);
                let challenge = self.authenticate(address, scram.first().as_bytes())?;
                let last = scram.last(&challenge).map_err(lasting)?;
                let answer = self.authenticate(address, last.message.as_bytes())?;
                if last.is_answered_by(&answer) { Ok(()) } else { Err(lasting("it does not know the password itself".into())) }
            }
        }
    }

    /// A step of a login.
    fn authenticate(&mut self, address: &str, message: &[u8]) -> Result<Vec<u8>, Trouble> {
        let mut body = Body::default();
        body.blob(message);
        let asked = self.request(&SASL_AUTHENTICATE, &body);
        let (correlation, frame) = asked.map_err(|e| Trouble::Passing(format!("{address}: {e}")))?;
        let mut answer = SASL_AUTHENTICATE.answer(correlation, &frame)?;
        let (code, why, message) = (answer.code()?, answer.text()?, answer.blob()?);
        if code == Code::NONE { Ok(message.to_vec()) } else { Err(Trouble::Lasting(format!("{address}: {why} ({code})"))) }
    }

    /// Checks that the broker speaks all that may be asked.
    fn check(&mut self, address: &str) -> Result<(), Trouble> {
        let asked = self.request(&API_VERSIONS, &Body::default());
        let (correlation, frame) = asked.map_err(|e| Trouble::Passing(format!("{address}: {e}")))?;
        let mut answer = API_VERSIONS.answer(correlation, &frame)?;
        answer.code()?;
        let versions = answer.items(|answer| Ok((answer.i16()?, answer.i16()?, answer.i16()?)))?;
        match USED.iter().find(|api| !api.is_spoken(&versions)) {
            Some(api) => Err(Trouble::Lasting(format!(
                "the broker {address} does not take the request {}; transactions need Kafka 3.0 or newer",
                api.name
            ))),
            None => Ok(()),
        }
    }

    /// Sends a request and reads the frame of its answer.
    fn request(&mut self, api: &Api, body: &Body) -> io::Result<(i32, Vec<u8>)> {
        self.correlation += 1;
        self.stream.write_all(&api.frame(self.correlation, body))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length);
        if length > ANSWER_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, Garbled));
        }
        let mut frame = vec![0; length as usize];
        self.stream.read_exact(&mut frame)?;
        Ok((self.correlation, frame))
    }
}

/// What nobody has said before.
fn nonce() -> Result<String, String> {
    let mut bytes = [0; 18];
    openssl::rand::rand_bytes(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
