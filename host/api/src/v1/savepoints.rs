//! `/v1/jobs/{id}/savepoints` and `/v1/savepoints`

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;
use weir_coordinator::TenantId;
use weir_coordinator::savepoint::{Summary, View, Wish, Written};
use weir_plan::table::Table;

use super::id::Id;
use crate::App;
use crate::problem::Problem;

/// Make a savepoint of a job
///
/// The answer comes when it is complete. With `stop`, the job ends with it: all that it wrote is published, and a job that starts from the
/// savepoint goes on right behind.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/savepoints", tag = "savepoints",
    params(("id" = String, Path, description = "`job_…`")),
    request_body(content = Wish, content_type = "application/json"),
    responses(
        (status = 201, description = "it is complete", body = Written),
        (status = 400, description = "the id is not UTF-8, or the body is malformed", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is no such job", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "the job has ended or has no checkpoints, or there is such a savepoint", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "the body is of another type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "that cannot be an id, or what is asked for makes no sense", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "the checkpoint failed", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn create(
    State(app): State<App>,
    Id(id): Id,
    wish: Result<Json<Table<Wish>>, JsonRejection>,
) -> Result<(StatusCode, Json<Written>), Problem> {
    let Json(Table(wish)) = wish.map_err(|rejection| match rejection {
        JsonRejection::MissingJsonContentType(_) => Problem::wrong_type("application/json"),
        rejection => Problem::malformed(rejection.body_text()),
    })?;
    Ok((StatusCode::CREATED, Json(app.coordinator.save(id.parse()?, wish).await?)))
}

/// List savepoints
#[utoipa::path(
    get, path = "/v1/savepoints", tag = "savepoints",
    responses((status = 200, description = "all savepoints, by their ids, with those that cannot be used", body = Vec<Summary>))
)]
pub async fn list(State(app): State<App>) -> Result<Json<Vec<Summary>>, Problem> {
    Ok(Json(app.coordinator.savepoints(&TenantId::default()).await?))
}

/// How closely a savepoint is looked at.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Look {
    /// whether all files are read and their checksums compared, which takes as long as that does
    verify: bool,
}

/// Show what a savepoint comprises
#[utoipa::path(
    get, path = "/v1/savepoints/{id}", tag = "savepoints",
    params(("id" = String, Path, description = "the savepoint's id"), Look),
    responses(
        (status = 200, description = "the savepoint", body = View),
        (status = 400, description = "the id is not UTF-8, or the query is malformed", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "there is none with this id, or it is not complete", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "it is damaged", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "that cannot be an id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn get(State(app): State<App>, Id(id): Id, look: Result<Query<Look>, QueryRejection>) -> Result<Json<View>, Problem> {
    let Query(look) = look.map_err(|rejection| Problem::malformed(rejection.body_text()))?;
    Ok(Json(app.coordinator.savepoint(&TenantId::default(), &id, look.verify).await?))
}

/// Delete a savepoint, or what is left of one
#[utoipa::path(
    delete, path = "/v1/savepoints/{id}", tag = "savepoints",
    params(("id" = String, Path, description = "the savepoint's id")),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is none with this id", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "a job has started from it and has no checkpoint of its own yet", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "that cannot be an id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn delete(State(app): State<App>, Id(id): Id) -> Result<StatusCode, Problem> {
    app.coordinator.delete_savepoint(&TenantId::default(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
