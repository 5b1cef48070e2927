//! `/v1/jobs`

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa::IntoParams;
use weir_coordinator::diff::Diff;
use weir_coordinator::execution::CheckpointReport;
use weir_coordinator::handle::StartFrom;
use weir_coordinator::{JobId, JobSummary, JobView, TenantId};
use weir_plan::JobSpec;

use super::id::Id;
use super::{SPEC_BYTES_MAX, content_type};
use crate::App;
use crate::problem::Problem;

/// What a job starts from.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Origin {
    /// the id of a savepoint; without one it starts from the beginning
    from_savepoint: Option<String>,
    /// whether state of operators that the job has not any more is left behind
    allow_non_restored_state: bool,
}

/// Start a job
///
/// The spec names uploaded components by their ids. Its paths are relative to the server's folder for files and stay inside it.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs",
    params(Origin),
    request_body(
        description = "the job spec",
        content(
            (Object = "application/json", example = json!({
                "component": "sha256:…",
                "sources": { "bids": { "connector": "nexmark" } },
                "sinks": { "out": { "connector": "stdout" } }
            })),
            (String = "application/toml")
        )
    ),
    responses(
        (status = 201, description = "it is accepted", body = JobSummary),
        (status = 400, description = "the query is malformed, or the body broke off", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such savepoint or component", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "the savepoint is damaged", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "the spec is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "the body is of another type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "the spec is wrong, asks for what jobs may not have, or does not fit its components, its connectors or the savepoint", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "there are not enough slots", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn submit(
    State(app): State<App>,
    origin: Result<Query<Origin>, QueryRejection>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<JobSummary>), Problem> {
    let Query(origin) = origin.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    let spec = read_spec(&headers, body)?;
    let from = StartFrom { savepoint: origin.from_savepoint, drops_unmatched: origin.allow_non_restored_state };
    let summary = app.coordinator.submit(&TenantId::default(), spec, from).await?;
    Ok((StatusCode::CREATED, Json(summary)))
}

fn read_spec(headers: &HeaderMap, body: Result<Bytes, BytesRejection>) -> Result<JobSpec, Problem> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(&format!(
            "a job spec may have {} MiB, which no setting changes; what is that large belongs in a file that a source reads",
            SPEC_BYTES_MAX >> 20
        )),
        _ => Problem::malformed(rejection.body_text()),
    })?;
    match content_type(headers) {
        "application/toml" => {
            let text = std::str::from_utf8(&body).map_err(|_| Problem::bad_spec("the spec is not UTF-8"))?;
            JobSpec::from_toml(text, &[]).map_err(|e| Problem::bad_spec(e.to_string()))
        }
        "application/json" => JobSpec::from_json(&body).map_err(|e| Problem::bad_spec(e.to_string())),
        _ => Err(Problem::wrong_type("application/json or application/toml")),
    }
}

/// Compare a spec with the state of a job
///
/// Says what becomes of the state of each operator, as the job's newest complete checkpoint has it, if a job of this spec goes on with it. The
/// job runs, or has ended; the spec is one as for a new job. Nothing is started.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/diff", tag = "jobs",
    params(("id" = String, Path, description = "`job_…`")),
    request_body(
        description = "the job spec",
        content(
            (Object = "application/json", example = json!({
                "component": "sha256:…",
                "sources": { "bids": { "connector": "nexmark" } },
                "sinks": { "out": { "connector": "stdout" } }
            })),
            (String = "application/toml")
        )
    ),
    responses(
        (status = 200, description = "what becomes of state, and whether the job would start", body = Diff),
        (status = 400, description = "the id is not UTF-8, or the body broke off", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such job or component", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "the job has no complete checkpoint", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "the spec is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "the body is of another type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "the spec is wrong, asks for what jobs may not have, or does not fit its components or its connectors", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn diff(
    State(app): State<App>,
    Id(id): Id,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Diff>, Problem> {
    let job = id.parse::<JobId>()?;
    let spec = read_spec(&headers, body)?;
    Ok(Json(app.coordinator.diff(&TenantId::default(), job, &spec).await?))
}

/// List jobs
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs",
    responses((status = 200, description = "all jobs, oldest first", body = Vec<JobSummary>))
)]
pub async fn list(State(app): State<App>) -> Result<Json<Vec<JobSummary>>, Problem> {
    Ok(Json(app.coordinator.jobs().await?))
}

/// Show a job: its state, what it has done, its spec and its plan
#[utoipa::path(
    get, path = "/v1/jobs/{id}", tag = "jobs",
    params(("id" = String, Path, description = "`job_…`")),
    responses(
        (status = 200, description = "the job", body = JobView),
        (status = 404, description = "there is none with this id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn get(State(app): State<App>, Id(id): Id) -> Result<Json<JobView>, Problem> {
    Ok(Json(app.coordinator.job(id.parse::<JobId>()?).await?))
}

/// List the last checkpoints of a job, oldest first
#[utoipa::path(
    get, path = "/v1/jobs/{id}/checkpoints", tag = "jobs",
    params(("id" = String, Path, description = "`job_…`")),
    responses(
        (status = 200, description = "those that are complete, and those that were given up; the job itself says which are under way", body = Vec<Object>),
        (status = 404, description = "there is no such job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn checkpoints(State(app): State<App>, Id(id): Id) -> Result<Json<Vec<CheckpointReport>>, Problem> {
    Ok(Json(app.coordinator.checkpoint_reports(id.parse()?).await?))
}

/// Make a checkpoint of a job now
///
/// The answer comes when it is complete.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/checkpoints", tag = "jobs",
    params(("id" = String, Path, description = "`job_…`")),
    responses(
        (status = 201, description = "it is complete", body = Checkpointed),
        (status = 404, description = "there is no such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "the job has ended or has no checkpoints", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the checkpoint failed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn checkpoint(State(app): State<App>, Id(id): Id) -> Result<(StatusCode, Json<Checkpointed>), Problem> {
    Ok((StatusCode::CREATED, Json(Checkpointed { checkpoint: app.coordinator.checkpoint(id.parse()?).await? })))
}

/// A checkpoint that was made.
#[derive(serde::Serialize, utoipa::ToSchema)]
pub struct Checkpointed {
    /// its number
    checkpoint: u64,
}

/// Drain a job: it finishes what it has read, and ends
#[utoipa::path(
    post, path = "/v1/jobs/{id}/stop", tag = "jobs",
    params(("id" = String, Path, description = "`job_…`")),
    responses(
        (status = 202, description = "it was told", body = JobSummary),
        (status = 404, description = "there is none with this id", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it has ended", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn stop(State(app): State<App>, Id(id): Id) -> Result<(StatusCode, Json<JobSummary>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(app.coordinator.stop(id.parse()?).await?)))
}

/// End a job now
///
/// A job that has failed, since it could not go on when the server started again, is tried again at its next start, unless it is cancelled.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/cancel", tag = "jobs",
    params(("id" = String, Path, description = "`job_…`")),
    responses(
        (status = 202, description = "it was told", body = JobSummary),
        (status = 404, description = "there is none with this id", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it has ended for good", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(State(app): State<App>, Id(id): Id) -> Result<(StatusCode, Json<JobSummary>), Problem> {
    Ok((StatusCode::ACCEPTED, Json(app.coordinator.cancel(id.parse()?).await?)))
}
