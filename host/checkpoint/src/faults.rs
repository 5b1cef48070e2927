//! A store that fails on purpose: for tests, here and elsewhere.
//!
//! ```
//! # use std::sync::Arc;
//! # use weir_checkpoint::Storage;
//! # use weir_checkpoint::faults::{Fault, Faults, Operation, When};
//! let faults = Faults::new(42);
//! let storage = Storage::open("memory://example", &[]).unwrap().wrapped(|store| faults.wrap(store));
//! // The second entry of a log is written, but whoever writes it does not learn so.
//! faults.add(Operation::Put, "/log/", When::Nth(2), Fault::LoseAnswer);
//! ```

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use parking_lot::Mutex;

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// to write an object at once
    Put,
    /// to begin writing one in parts
    Begin,
    /// to write a part
    Part,
    /// to make one of the parts
    Complete,
    /// to read an object, some of it, or its length
    Get,
    /// to list objects
    List,
    /// to delete an object
    Delete,
    /// to copy an object
    Copy,
    /// any of these
    Any,
}

/// Which of the calls that match a rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// this one, counted from 1
    Nth(u64),
    /// this many, from the first one on
    First(u64),
    /// all
    Always,
    /// each with this probability
    Chance(f64),
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// it is not carried out, and fails as if there was no answer
    Fail,
    /// it is carried out, and fails as if there was no answer
    LoseAnswer,
    /// it is refused, as if credentials had expired
    Refuse,
    /// it takes longer
    Delay(Duration),
    /// the object is cut off after so many bytes, and the call succeeds: writing and reading alike
    Cut(usize),
    /// a put overwrites what is there, also if it must not: there are servers that do this
    Overwrite,
}

/// The faults of one store or several. A clone is the same faults.
#[derive(Clone, Debug)]
pub struct Faults(Arc<Mutex<Plan>>);

#[derive(Debug)]
struct Plan {
    rules: Vec<Rule>,
    random: u64,
    calls: Vec<(Operation, String)>,
}

#[derive(Debug)]
struct Rule {
    operation: Operation,
    path: String,
    when: When,
    fault: Fault,
    matched: u64,
}

impl Faults {
    /// No faults yet. The seed decides what [`When::Chance`] does.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Plan { rules: vec![], random: seed, calls: vec![] })))
    }

    /// Adds a rule for calls on paths that contain `path`. Of several rules that apply to a call the first one does.
    pub fn add(&self, operation: Operation, path: &str, when: When, fault: Fault) {
        self.0.lock().rules.push(Rule { operation, path: path.into(), when, fault, matched: 0 });
    }

    /// Removes all rules: the store works again.
    pub fn clear(&self) {
        self.0.lock().rules.clear();
    }

    /// How many calls there have been on paths that contain `path`, whether they failed or not.
    pub fn calls(&self, operation: Operation, path: &str) -> usize {
        let plan = self.0.lock();
        plan.calls.iter().filter(|(o, p)| (operation == Operation::Any || *o == operation) && p.contains(path)).count()
    }

    /// Puts these faults before a store.
    pub fn wrap(&self, store: Arc<dyn ObjectStore>) -> Arc<dyn ObjectStore> {
        Arc::new(Faulty { store, faults: self.clone() })
    }

    fn next(&self, operation: Operation, path: &Path) -> Option<Fault> {
        let plan = &mut *self.0.lock();
        plan.calls.push((operation, path.to_string()));
        let mut found = None;
        for rule in &mut plan.rules {
            if !((rule.operation == Operation::Any || rule.operation == operation) && path.as_ref().contains(&rule.path)) {
                continue;
            }
            rule.matched += 1;
            let applies = match rule.when {
                When::Nth(n) => rule.matched == n,
                When::First(n) => rule.matched <= n,
                When::Always => true,
                When::Chance(p) => draw(&mut plan.random) < p,
            };
            if applies {
                found = found.or(Some(rule.fault));
            }
        }
        found
    }

    /// Carries out a call, or what is to happen instead. What has no bytes is not cut.
    async fn call<T>(&self, operation: Operation, path: &Path, carry_out: impl Future<Output = Result<T>>) -> Result<T> {
        match self.next(operation, path) {
            None => carry_out.await,
            Some(fault) => hurt(fault, path, carry_out).await,
        }
    }
}

async fn hurt<T>(fault: Fault, path: &Path, carry_out: impl Future<Output = Result<T>>) -> Result<T> {
    match fault {
        Fault::Fail => Err(no_answer(path)),
        Fault::LoseAnswer => {
            // A refusal is an answer, too.
            let _ = carry_out.await;
            Err(no_answer(path))
        }
        Fault::Refuse => Err(Error::PermissionDenied { path: path.to_string(), source: "refused on purpose".into() }),
        Fault::Delay(time) => {
            tokio::time::sleep(time).await;
            carry_out.await
        }
        Fault::Cut(_) | Fault::Overwrite => carry_out.await,
    }
}

fn no_answer(path: &Path) -> Error {
    Error::Generic { store: "faulty", source: format!("no answer about {path}, on purpose").into() }
}

/// The next number of SplitMix64, between 0 and 1.
fn draw(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[derive(Debug)]
struct Faulty {
    store: Arc<dyn ObjectStore>,
    faults: Faults,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "faulty {}", self.store)
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.faults.next(Operation::Put, location) {
            None => self.store.put_opts(location, payload, options).await,
            Some(Fault::Cut(bytes)) => {
                let whole = Bytes::from(payload);
                let torn = whole.slice(..bytes.min(whole.len()));
                self.store.put_opts(location, torn.into(), options).await
            }
            Some(Fault::Overwrite) => {
                self.store.put_opts(location, payload, PutOptions { mode: PutMode::Overwrite, ..options }).await
            }
            Some(fault) => hurt(fault, location, self.store.put_opts(location, payload, options)).await,
        }
    }

    async fn put_multipart_opts(&self, location: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let begun = self.faults.call(Operation::Begin, location, self.store.put_multipart_opts(location, options)).await?;
        Ok(Box::new(FaultyUpload { upload: begun, location: location.clone(), faults: self.faults.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.faults.next(Operation::Get, location) {
            None => self.store.get_opts(location, options).await,
            Some(Fault::Cut(bytes)) => {
                let got = self.store.get_opts(location, options).await?;
                let (meta, range, attributes) = (got.meta.clone(), got.range.clone(), got.attributes.clone());
                let whole = got.bytes().await?;
                let torn = whole.slice(..bytes.min(whole.len()));
                let payload = object_store::GetResultPayload::Stream(futures::stream::once(async { Ok(torn) }).boxed());
                Ok(GetResult { payload, meta, range, attributes })
            }
            Some(fault) => hurt(fault, location, self.store.get_opts(location, options)).await,
        }
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.faults.call(Operation::Get, location, self.store.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (store, faults) = (self.store.clone(), self.faults.clone());
        let delete = move |location: Result<Path>| {
            let (store, faults) = (store.clone(), faults.clone());
            async move {
                let location = location?;
                let one = location.clone();
                let carry_out =
                    async { store.delete_stream(futures::stream::once(async { Ok(one) }).boxed()).try_collect::<Vec<_>>().await };
                faults.call(Operation::Delete, &location, carry_out).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let path = prefix.cloned().unwrap_or_default();
        let listed = self.store.list(prefix);
        let faults = self.faults.clone();
        async move { faults.call(Operation::List, &path, async { Ok(listed) }).await }.try_flatten_stream().boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.faults.call(Operation::List, &prefix.cloned().unwrap_or_default(), self.store.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.faults.call(Operation::Copy, from, self.store.copy_opts(from, to, options)).await
    }
}

#[derive(Debug)]
struct FaultyUpload {
    upload: Box<dyn MultipartUpload>,
    location: Path,
    faults: Faults,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let part = self.upload.put_part(data);
        let (faults, location) = (self.faults.clone(), self.location.clone());
        async move { faults.call(Operation::Part, &location, part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let faults = self.faults.clone();
        faults.call(Operation::Complete, &self.location, self.upload.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}
