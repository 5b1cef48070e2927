//! An S3 bucket as a store, on AWS or on any server that speaks its protocol.

use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{ClientConfigKey, RetryConfig};

use crate::error::{Error, ErrorKind};

/// How often a request that failed is repeated, with pauses that double, before the failure is handed on.
const RETRIES_MAX: usize = 12;

/// How long a request is repeated.
const RETRY_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens a bucket. What the options do not say is taken from the usual `AWS_*` variables.
pub(crate) fn open(url: &str, bucket: &str, options: &[(String, String)]) -> Result<AmazonS3, Error> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (name, value) in options {
        let key = match name.parse() {
            Ok(AmazonS3ConfigKey::Bucket) => {
                return Err(Error::invalid(format!("{url}: the bucket belongs into the URL, not into the option {name:?}")));
            }
            Ok(key) => key,
            Err(_) => {
                let usual =
                    "endpoint, region, access_key_id, secret_access_key, session_token, allow_http, virtual_hosted_style_request";
                return Err(Error::invalid(format!("{url}: there is no option {name:?}; the usual ones are {usual}")));
            }
        };
        builder = builder.with_config(key, value);
    }
    let set = |key| builder.get_config_value(&key);
    let endpoint = set(AmazonS3ConfigKey::S3Endpoint).or_else(|| set(AmazonS3ConfigKey::Endpoint));
    let allow_http = set(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp)).is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.starts_with("http://") && !allow_http) {
        return Err(Error::invalid(format!(
            "{url}: the endpoint {endpoint} is not encrypted; set allow_http = \"true\" if its network can be trusted"
        )));
    }
    let retry = RetryConfig { max_retries: RETRIES_MAX, retry_timeout: RETRY_TIMEOUT, ..RetryConfig::default() };
    builder.with_retry(retry).build().map_err(|source| Error {
        kind: ErrorKind::Invalid,
        message: format!("{url} cannot be opened: {source}"),
        source: Some(Box::new(source)),
    })
}
