//! Why a request came to nothing.

use reqwest::Response;
use serde::Deserialize;

/// Why a request came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// the server cannot be reached
    #[error("the server does not answer at {base}: {cause}. Is it running?")]
    Unreachable {
        /// its address
        base: String,
        /// what the system says
        cause: String,
    },
    /// the server went away while it answered
    #[error("the server at {base} went away before it had said all: {cause}")]
    Broken {
        /// its address
        base: String,
        /// what the system says
        cause: String,
    },
    /// the server refused
    #[error("{detail} ({code})")]
    Refused {
        /// the HTTP status
        status: u16,
        /// `WEIR-…`, or the status if what answered is no Weir server
        code: String,
        /// what is wrong and what to do
        detail: String,
    },
    /// the answer makes no sense: another version, or no Weir server
    #[error("the server's answer makes no sense: {0}")]
    Answer(String),
}

/// What of an RFC 9457 problem is of use.
#[derive(Deserialize)]
struct Problem {
    detail: String,
    code: String,
}

impl Error {
    pub(crate) fn unreachable(base: &str, error: &reqwest::Error) -> Self {
        Self::Unreachable { base: base.to_owned(), cause: innermost(error) }
    }

    pub(crate) fn broken(base: &str, cause: impl Into<String>) -> Self {
        Self::Broken { base: base.to_owned(), cause: cause.into() }
    }

    pub(crate) fn answer(error: &reqwest::Error) -> Self {
        Self::Answer(innermost(error))
    }

    pub(crate) async fn refused(response: Response) -> Self {
        let status = response.status();
        let problem = response.json::<Problem>().await.unwrap_or_else(|_| Problem {
            detail: format!("the server answered {status}"),
            code: format!("HTTP-{}", status.as_u16()),
        });
        Self::Refused { status: status.as_u16(), code: problem.code, detail: problem.detail }
    }
}

/// Whether nobody listens there: nothing was sent.
pub(crate) fn is_refused(error: &reqwest::Error) -> bool {
    let causes = std::iter::successors(std::error::Error::source(error), |&cause| cause.source());
    let of_system = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    error.is_connect() && of_system.map(std::io::Error::kind).any(|kind| kind == std::io::ErrorKind::ConnectionRefused)
}

/// The last cause says most: "connection refused".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
