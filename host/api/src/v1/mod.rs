//! Version 1: what is here is added to, never changed.

pub mod components;
mod id;
pub mod jobs;
pub mod lines;
pub mod savepoints;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, header};
use axum::routing::{get, post};

use crate::App;

/// The largest job spec, in bytes.
pub const SPEC_BYTES_MAX: usize = 1 << 20;

pub fn router(component_bytes_max: usize) -> Router<App> {
    let components = post(components::upload).layer(DefaultBodyLimit::max(component_bytes_max)).get(components::list);
    let jobs = post(jobs::submit).layer(DefaultBodyLimit::max(SPEC_BYTES_MAX)).get(jobs::list);
    Router::new()
        .route("/components", components)
        .route("/components/{id}", get(components::get).delete(components::delete))
        .route("/jobs", jobs)
        .route("/jobs/{id}", get(jobs::get))
        .route("/jobs/{id}/diff", post(jobs::diff).layer(DefaultBodyLimit::max(SPEC_BYTES_MAX)))
        .route("/jobs/{id}/checkpoints", get(jobs::checkpoints).post(jobs::checkpoint))
        .route("/jobs/{id}/savepoints", post(savepoints::create))
        .route("/savepoints", get(savepoints::list))
        .route("/savepoints/{id}", get(savepoints::get).delete(savepoints::delete))
        .route("/jobs/{id}/stop", post(jobs::stop))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/jobs/{id}/output", get(lines::output))
        .route("/jobs/{id}/logs", get(lines::logs))
}

/// The type of the body, without parameters. Routes that change something insist on one that a web page of another origin cannot send
/// without asking first.
fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}
