//! Errors as RFC 9457 problem details.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use weir_coordinator::{Error, ErrorKind};

/// The request itself is malformed.
const REQUEST_MALFORMED: &str = "WEIR-API-001";
/// There is no such route.
const NO_ROUTE: &str = "WEIR-API-002";
/// The body is too large.
const TOO_LARGE: &str = "WEIR-API-003";
/// The body is of a type that the route does not take.
const WRONG_TYPE: &str = "WEIR-API-004";

/// A web page of another site asks, or one that was led here.
const STRANGER: &str = "WEIR-API-005";

/// Why a request was refused.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// always `about:blank`: the `code` says more
    #[serde(rename = "type")]
    problem_type: &'static str,
    /// the status in words
    title: &'static str,
    /// the HTTP status
    status: u16,
    /// what is wrong and what to do, for people
    detail: String,
    /// what is wrong, for programs: stable
    #[schema(example = "WEIR-JOB-003")]
    code: &'static str,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            problem_type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            code,
        }
    }

    /// The request is malformed.
    pub fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, REQUEST_MALFORMED, detail)
    }

    /// The job spec is malformed.
    pub fn bad_spec(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, weir_coordinator::error::SPEC_MALFORMED, detail)
    }

    /// There is nothing at this path.
    pub fn no_such_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, NO_ROUTE, "there is nothing here; /openapi.json says what there is")
    }

    /// The path does not take this method.
    pub fn wrong_method() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            NO_ROUTE,
            "this path does not take that method; /openapi.json says which it takes",
        )
    }

    /// The body is larger than it may be; `limit` says how large that is, and what to do.
    pub fn too_large(limit: &str) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, TOO_LARGE, format!("the body is too large: {limit}"))
    }

    /// The request is one of a page that has no business here.
    pub fn stranger(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, STRANGER, detail)
    }

    /// The body is of the wrong type.
    pub fn wrong_type(wanted: &str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, WRONG_TYPE, format!("send a content-type: {wanted}"))
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            ErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            ErrorKind::Conflict => StatusCode::CONFLICT,
            ErrorKind::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code, error.message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
