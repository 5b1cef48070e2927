//! A bucket of S3 for tests: a server of its protocol in this process, over HTTP on loopback, and a weather before it.
//!
//! `s3s` speaks the protocol and checks signatures, `s3s-fs` keeps objects as files of a folder. What they lack is in [`Whole`]. What goes wrong, goes
//! wrong with a request, as a client would see it: it is refused, not carried out, carried out and never answered, or its answer is torn.

use std::fs;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::stream::{ByteStream, DynByteStream};
use s3s::{Body, HttpResponse, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, StdError};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

use super::Dice;

/// The name of the bucket, and who may use it.
const NAME: &str = "weir";
const SECRET: &str = "not-a-secret";

/// A bucket, for as long as it is held.
pub struct Bucket {
    port: u16,
    folder: tempfile::TempDir,
    sky: Arc<Mutex<Sky>>,
    _runtime: tokio::runtime::Runtime,
}

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// refused with `503 SlowDown`
    SlowDown,
    /// refused with `500 InternalError`
    Internal,
    /// refused with `403 AccessDenied`
    Denied,
    /// the connection ends before it is carried out
    Unheard,
    /// it is carried out, and the connection ends without an answer
    Unanswered,
    /// the connection ends in the midst of what was to be read
    Torn,
    /// it is carried out after so many milliseconds
    Late(u64),
}

/// How many of a hundred requests go wrong, and how.
pub type Weather = &'static [(u64, Fault)];

/// Nothing goes wrong.
pub const CALM: Weather = &[];
/// All that can go wrong does at times.
pub const STORM: Weather = &[
    (8, Fault::SlowDown),
    (4, Fault::Internal),
    (4, Fault::Unheard),
    (8, Fault::Unanswered),
    (6, Fault::Torn),
    (4, Fault::Late(40)),
    (1, Fault::Late(400)),
];
/// It is there, and carries nothing out.
pub const OUTAGE: Weather = &[(60, Fault::SlowDown), (20, Fault::Internal), (20, Fault::Unheard)];
/// Requests are taken, and no answer comes before anybody gives up.
pub const SILENCE: Weather = &[(100, Fault::Late(3_600_000))];
/// Nobody may do anything.
pub const REFUSAL: Weather = &[(100, Fault::Denied)];

struct Sky {
    weather: Weather,
    dice: Dice,
    /// what has gone wrong so far
    faults: Vec<Fault>,
}

impl Sky {
    fn next(&mut self) -> Option<Fault> {
        let mut drawn = self.dice.below(100);
        let fault = self.weather.iter().find(|(share, _)| {
            let hits = drawn < *share;
            drawn = drawn.wrapping_sub(*share);
            hits
        });
        self.faults.extend(fault.map(|(_, fault)| *fault));
        fault.map(|(_, fault)| *fault)
    }
}

impl Bucket {
    /// An empty bucket in calm weather. The seed decides what goes wrong later.
    pub fn start(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(NAME)).unwrap();
        let mut service = S3ServiceBuilder::new(Whole::new(folder.path()));
        service.set_auth(SimpleAuth::from_single(NAME, SECRET));
        let sky = Arc::new(Mutex::new(Sky { weather: CALM, dice: Dice::new(seed), faults: vec![] }));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        runtime.spawn(serve(listener, service.build(), Arc::clone(&sky)));
        Self { port, folder, sky, _runtime: runtime }
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        self.sky.lock().unwrap().weather = weather;
    }

    /// How often this has gone wrong.
    pub fn count(&self, fault: Fault) -> usize {
        self.sky.lock().unwrap().faults.iter().filter(|found| **found == fault).count()
    }

    /// What has to be said of it besides a URL: a table of TOML.
    pub fn options(&self) -> String {
        format!(
            "{{ endpoint = \"http://127.0.0.1:{}\", allow_http = \"true\", region = \"us-east-1\", access_key_id = \"{NAME}\", \
             secret_access_key = \"{SECRET}\" }}",
            self.port
        )
    }

    /// The same, as options of a storage.
    pub fn storage_options(&self) -> Vec<(String, String)> {
        let option = |(name, value): (&str, String)| (name.strip_prefix("AWS_").unwrap_or(name).to_lowercase(), value);
        self.environment().into_iter().map(option).collect()
    }

    /// The same, as variables of the environment.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", format!("http://127.0.0.1:{}", self.port)),
            ("AWS_ALLOW_HTTP", "true".into()),
            ("AWS_REGION", "us-east-1".into()),
            ("AWS_ACCESS_KEY_ID", NAME.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET.into()),
        ]
    }

    /// The URL of what is below a path.
    pub fn url(&self, path: &str) -> String {
        format!("s3://{NAME}/{path}")
    }

    /// The folder with the objects below a path.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(NAME).join(path)
    }
}

/// Ends a connection without an answer.
#[derive(Debug)]
struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection ends, on purpose")
    }
}

impl std::error::Error for Gone {}

async fn serve(listener: TcpListener, service: S3Service, sky: Arc<Mutex<Sky>>) {
    loop {
        // What a client that is killed leaves half-open fails here, and concerns nobody else.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (service, sky) = (service.clone(), Arc::clone(&sky));
        let answer = service_fn(move |request| {
            let fault = sky.lock().unwrap().next();
            answer(service.clone(), request, fault)
        });
        tokio::spawn(async move {
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await)
        });
    }
}

async fn answer(service: S3Service, request: Request<Incoming>, fault: Option<Fault>) -> Result<HttpResponse, Gone> {
    let request = request.map(Body::from);
    match fault {
        Some(Fault::SlowDown) => return Ok(refusal(StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
        Some(Fault::Internal) => return Ok(refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
        Some(Fault::Denied) => return Ok(refusal(StatusCode::FORBIDDEN, "AccessDenied")),
        Some(Fault::Unheard) => return Err(Gone),
        Some(Fault::Unanswered) => {
            drop(carry_out(service, request).await);
            return Err(Gone);
        }
        Some(Fault::Torn) if request.method() == Method::GET => {
            let mut response = carry_out(service, request).await?;
            let whole = response.body_mut().store_all_limited(usize::MAX).await.map_err(|_| Gone)?;
            let half = whole.slice(..whole.len() / 2);
            // The header has the length of the whole.
            *response.body_mut() = Body::from(Box::pin(Half(Some(half))) as DynByteStream);
            return Ok(response);
        }
        Some(Fault::Late(ms)) => tokio::time::sleep(Duration::from_millis(ms)).await,
        Some(Fault::Torn) | None => {}
    }
    carry_out(service, request).await
}

/// Carries a request out, to its end: a client that goes meanwhile must not leave it half done, as it would a future that is dropped.
async fn carry_out(service: S3Service, request: Request<Body>) -> Result<HttpResponse, Gone> {
    let carried_out = tokio::spawn(async move { service.call(request).await });
    carried_out.await.ok().and_then(Result::ok).ok_or(Gone)
}

/// What is sent of a body before the connection ends.
struct Half(Option<Bytes>);

impl Stream for Half {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(self.0.take().ok_or_else(|| Gone.into())))
    }
}

impl ByteStream for Half {}

fn refusal(status: StatusCode, code: &str) -> HttpResponse {
    let text = format!("<Error><Code>{code}</Code><Message>on purpose</Message></Error>");
    let mut response = HttpResponse::new(Body::from(text));
    *response.status_mut() = status;
    response
}

/// `s3s-fs`, with requests carried out one after the other: so a put that must not overwrite is decided once, and what is listed is there. And an upload that
/// nobody knows is called so, as by AWS.
struct Whole {
    files: FileSystem,
    turn: tokio::sync::Mutex<()>,
}

impl Whole {
    fn new(folder: &Path) -> Self {
        Self { files: FileSystem::new(folder).unwrap(), turn: tokio::sync::Mutex::new(()) }
    }
}

fn name_unknown(error: S3Error) -> S3Error {
    match error.code() {
        S3ErrorCode::AccessDenied => S3Error::new(S3ErrorCode::NoSuchUpload),
        _ => error,
    }
}

#[async_trait::async_trait]
impl S3 for Whole {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let _turn = self.turn.lock().await;
        self.files.put_object(request).await
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let _turn = self.turn.lock().await;
        self.files.get_object(request).await
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let _turn = self.turn.lock().await;
        self.files.head_object(request).await
    }

    async fn copy_object(&self, request: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let _turn = self.turn.lock().await;
        self.files.copy_object(request).await
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let _turn = self.turn.lock().await;
        self.files.delete_object(request).await
    }

    async fn delete_objects(&self, request: S3Request<DeleteObjectsInput>) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let _turn = self.turn.lock().await;
        self.files.delete_objects(request).await
    }

    async fn list_objects_v2(&self, request: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        let _turn = self.turn.lock().await;
        self.files.list_objects_v2(request).await
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let _turn = self.turn.lock().await;
        self.files.create_multipart_upload(request).await
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let _turn = self.turn.lock().await;
        self.files.upload_part(request).await.map_err(name_unknown)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let _turn = self.turn.lock().await;
        self.files.complete_multipart_upload(request).await.map_err(name_unknown)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let _turn = self.turn.lock().await;
        self.files.abort_multipart_upload(request).await.map_err(name_unknown)
    }
}
