//! A typed client of the REST interface.
//!
//! One method a route. What is sent and received is in [`types`]; a stream of lines is taken apart in [`follow`]. A request that the server refuses
//! gives an [`Error`] with the server's own words and code.
//!
//! ```no_run
//! # async fn example() -> Result<(), weir_client::Error> {
//! let client = weir_client::Client::new("http://127.0.0.1:8081");
//! for job in client.jobs().await? {
//!     println!("{} {}", job.id, job.state);
//! }
//! # Ok(())
//! # }
//! ```

pub mod error;
pub mod follow;
pub mod types;

use std::time::{Duration, Instant};

use reqwest::{RequestBuilder, Response, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use error::Error;
pub use types::{
    BindingDiff, Checkpoint, CheckpointUnderWay, Checkpointed, Component, Job, JobDetail, Line, Lines, OperatorDiff, Page,
    Savepoint, SavepointDetail, SavepointWish, SavepointWritten, StartFrom, StateDiff,
};

/// How long a server that has just been started may take until it listens, and how often it is looked for until then.
const LISTENS_WITHIN: Duration = Duration::from_secs(2);
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// Talks to one server, which may have been started a moment ago: a connection that is refused is tried again for two seconds. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// A client of the server at this address, like `http://127.0.0.1:8081`, or without `http://`.
    pub fn new(base: &str) -> Self {
        let base = base.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        Self { http: reqwest::Client::new(), base }
    }

    /// The server's address.
    pub fn base(&self) -> &str {
        &self.base
    }

    fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.base)
    }

    /// Uploads a component.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn upload(&self, wasm: Vec<u8>) -> Result<Component, Error> {
        let request = self.http.post(self.url("components")).header(header::CONTENT_TYPE, "application/octet-stream");
        self.json(request.body(wasm)).await
    }

    /// The components that were uploaded.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn components(&self) -> Result<Vec<Component>, Error> {
        self.json(self.http.get(self.url("components"))).await
    }

    /// One component.
    ///
    /// # Errors
    /// If the server cannot be reached, or there is no such component.
    pub async fn component(&self, id: &str) -> Result<Component, Error> {
        self.json(self.http.get(self.url(&format!("components/{id}")))).await
    }

    /// Deletes a component.
    ///
    /// # Errors
    /// If the server cannot be reached, there is no such component, or a job uses it.
    pub async fn delete_component(&self, id: &str) -> Result<(), Error> {
        self.send(self.http.delete(self.url(&format!("components/{}", part(id))))).await.map(drop)
    }

    /// Starts a job. `spec` is a job spec, or anything that serializes as one.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn submit(&self, spec: &(impl Serialize + Sync)) -> Result<Job, Error> {
        self.submit_from(spec, &StartFrom::default()).await
    }

    /// Starts a job from a savepoint.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn submit_from(&self, spec: &(impl Serialize + Sync), from: &StartFrom) -> Result<Job, Error> {
        let mut query = vec![];
        query.extend(from.savepoint.iter().map(|id| format!("from_savepoint={}", part(id))));
        query.extend(from.drops_unmatched.then(|| "allow_non_restored_state=true".to_owned()));
        let path = if query.is_empty() { "jobs".to_owned() } else { format!("jobs?{}", query.join("&")) };
        self.json(self.http.post(self.url(&path)).json(spec)).await
    }

    /// What becomes of the state of job `id` if a job of `spec` goes on with it. Nothing is started.
    ///
    /// # Errors
    /// If the server cannot be reached, there is no such job, it has no complete checkpoint, or the spec is wrong.
    pub async fn diff(&self, id: &str, spec: &(impl Serialize + Sync)) -> Result<StateDiff, Error> {
        self.json(self.http.post(self.url(&format!("jobs/{}/diff", part(id)))).json(spec)).await
    }

    /// All jobs, oldest first.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn jobs(&self) -> Result<Vec<Job>, Error> {
        self.json(self.http.get(self.url("jobs"))).await
    }

    /// One job.
    ///
    /// # Errors
    /// If the server cannot be reached, or there is no such job.
    pub async fn job(&self, id: &str) -> Result<JobDetail, Error> {
        self.json(self.http.get(self.url(&format!("jobs/{id}")))).await
    }

    /// Lets a job finish what it has read, and end.
    ///
    /// # Errors
    /// If the server cannot be reached, there is no such job, or it has ended.
    pub async fn stop(&self, id: &str) -> Result<Job, Error> {
        self.json(self.http.post(self.url(&format!("jobs/{id}/stop")))).await
    }

    /// Ends a job now. One that has failed, since it could not go on after a restart of the server, is not tried again.
    ///
    /// # Errors
    /// If the server cannot be reached, there is no such job, or it has ended for good.
    pub async fn cancel(&self, id: &str) -> Result<Job, Error> {
        self.json(self.http.post(self.url(&format!("jobs/{id}/cancel")))).await
    }

    /// The last checkpoints of a job, oldest first.
    ///
    /// # Errors
    /// If the server cannot be reached, or there is no such job.
    pub async fn checkpoints(&self, id: &str) -> Result<Vec<Checkpoint>, Error> {
        self.json(self.http.get(self.url(&format!("jobs/{id}/checkpoints")))).await
    }

    /// Makes a checkpoint of a job now, and waits until it is complete.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn checkpoint(&self, id: &str) -> Result<Checkpointed, Error> {
        self.json(self.http.post(self.url(&format!("jobs/{id}/checkpoints")))).await
    }

    /// Makes a savepoint of a job, and waits until it is complete.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn save(&self, id: &str, wish: &SavepointWish) -> Result<SavepointWritten, Error> {
        self.json(self.http.post(self.url(&format!("jobs/{id}/savepoints"))).json(wish)).await
    }

    /// All savepoints, by their ids, with those that cannot be used.
    ///
    /// # Errors
    /// If the server cannot be reached, or refuses.
    pub async fn savepoints(&self) -> Result<Vec<Savepoint>, Error> {
        self.json(self.http.get(self.url("savepoints"))).await
    }

    /// One savepoint.
    ///
    /// # Errors
    /// If the server cannot be reached, or there is no such savepoint.
    pub async fn savepoint(&self, id: &str) -> Result<SavepointDetail, Error> {
        self.json(self.http.get(self.url(&format!("savepoints/{}", part(id))))).await
    }

    /// One savepoint, all of whose files the server has read: those with other bytes than were stored are among the broken ones.
    ///
    /// # Errors
    /// If the server cannot be reached, or there is no such savepoint.
    pub async fn verified_savepoint(&self, id: &str) -> Result<SavepointDetail, Error> {
        self.json(self.http.get(self.url(&format!("savepoints/{}?verify=true", part(id))))).await
    }

    /// Deletes a savepoint, or what is left of one.
    ///
    /// # Errors
    /// If the server cannot be reached, or there is no such savepoint.
    pub async fn delete_savepoint(&self, id: &str) -> Result<(), Error> {
        self.send(self.http.delete(self.url(&format!("savepoints/{}", part(id))))).await.map(drop)
    }

    /// Some lines of a job after number `after`.
    ///
    /// # Errors
    /// If the server cannot be reached, or there is no such job.
    pub async fn lines(&self, id: &str, lines: Lines, after: u64) -> Result<Page, Error> {
        self.json(self.http.get(self.url(&format!("jobs/{id}/{}?after={after}", lines.path())))).await
    }

    /// The lines of a job after number `after`, and those to come.
    ///
    /// # Errors
    /// If the server cannot be reached, or there is no such job.
    pub async fn follow(&self, id: &str, lines: Lines, after: u64) -> Result<follow::Follow, Error> {
        let request = self.http.get(self.url(&format!("jobs/{id}/{}?after={after}&follow=true", lines.path())));
        Ok(follow::Follow::new(&self.base, self.send(request).await?))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Error> {
        let response = answer(request).await.map_err(|e| Error::unreachable(&self.base, &e))?;
        if response.status().is_success() { Ok(response) } else { Err(Error::refused(response).await) }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(request).await?;
        response.json().await.map_err(|e| Error::answer(&e))
    }
}

/// What a server answers. As long as nobody listens, nothing of the request is sent, and it can be made again.
async fn answer(mut request: RequestBuilder) -> Result<Response, reqwest::Error> {
    let begin = Instant::now();
    loop {
        let again = request.try_clone();
        match (request.send().await, again) {
            (Err(error), Some(again)) if error::is_refused(&error) && begin.elapsed() < LISTENS_WITHIN => request = again,
            (result, _) => return result,
        }
        tokio::time::sleep(LOOKS_EVERY).await;
    }
}

/// What somebody typed, as one part of a URL.
fn part(id: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-:".contains(&b);
    id.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener};

    use super::*;

    /// An address at which nobody listens.
    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("there is a free port")
    }

    /// Goal: a server that does not listen yet is waited for, and is sent the request once.
    #[tokio::test]
    async fn servers_may_be_late() {
        let address = free();
        let server = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            let listener = TcpListener::bind(address).expect("the port is still free");
            let (mut stream, _) = listener.accept().expect("somebody comes");
            let mut request = vec![];
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.extend(byte);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";
            stream.write_all(answer).expect("somebody reads");
            request
        });
        assert!(Client::new(&format!("http://{address}")).jobs().await.expect("an answer").is_empty());
        let request = server.join().expect("the server has answered");
        assert!(request.starts_with(b"GET /v1/jobs HTTP/1.1\r\n"), "{}", String::from_utf8_lossy(&request));
    }

    /// An address need not say that it is one of HTTP.
    #[test]
    fn addresses_may_lack_their_scheme() {
        for (address, base) in [
            ("localhost:8081", "http://localhost:8081"),
            ("[::1]:8081/", "http://[::1]:8081"),
            ("http://10.0.0.1:80/", "http://10.0.0.1:80"),
            ("https://weir.example/api", "https://weir.example/api"),
        ] {
            assert_eq!(Client::new(address).base(), base);
        }
    }

    /// Goal: where nobody listens, that is what the error says, and it comes soon.
    #[tokio::test]
    async fn servers_may_be_away() {
        let base = format!("http://{}", free());
        let begin = Instant::now();
        let error = Client::new(&base).jobs().await.expect_err("nobody listens");
        assert!((LISTENS_WITHIN..10 * LISTENS_WITHIN).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        assert!(error.to_string().starts_with(&format!("the server does not answer at {base}: ")), "{error}");
        assert!(error.to_string().ends_with(". Is it running?"), "{error}");
    }
}
