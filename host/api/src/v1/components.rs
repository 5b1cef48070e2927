//! `/v1/components`

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use weir_coordinator::TenantId;
use weir_coordinator::component::ComponentView;

use super::content_type;
use super::id::Id;
use crate::App;
use crate::problem::Problem;

/// Upload a component
///
/// It is checked, compiled and stored under the digest of its bytes; uploading it again changes nothing.
#[utoipa::path(
    post, path = "/v1/components", tag = "components",
    request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "the component's bytes"),
    responses(
        (status = 201, description = "it is stored", body = ComponentView),
        (status = 400, description = "the body broke off", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "it is too large", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "the body is of another type", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "it is no component of a job", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn upload(
    State(app): State<App>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<ComponentView>), Problem> {
    if !matches!(content_type(&headers), "application/octet-stream" | "application/wasm") {
        return Err(Problem::wrong_type("application/octet-stream"));
    }
    let wasm = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::too_large(&app.coordinator.component_limit()),
        _ => Problem::malformed(rejection.body_text()),
    })?;
    let view = app.coordinator.put_component(&TenantId::default(), wasm.into()).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// List components
#[utoipa::path(
    get, path = "/v1/components", tag = "components",
    responses((status = 200, description = "ids and sizes, by id", body = Vec<ComponentView>))
)]
pub async fn list(State(app): State<App>) -> Result<Json<Vec<ComponentView>>, Problem> {
    Ok(Json(app.coordinator.components(&TenantId::default())?))
}

/// Show a component and its graph
#[utoipa::path(
    get, path = "/v1/components/{id}", tag = "components",
    params(("id" = String, Path, description = "`sha256:…`")),
    responses(
        (status = 200, description = "the component", body = ComponentView),
        (status = 404, description = "there is none with this id", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "that is no id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn get(State(app): State<App>, Id(id): Id) -> Result<Json<ComponentView>, Problem> {
    Ok(Json(app.coordinator.component(&TenantId::default(), &id).await?))
}

/// Delete a component
///
/// A job that has not ended keeps its components.
#[utoipa::path(
    delete, path = "/v1/components/{id}", tag = "components",
    params(("id" = String, Path, description = "`sha256:…`")),
    responses(
        (status = 204, description = "it is gone"),
        (status = 404, description = "there is none with this id", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "a job uses it", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "that is no id", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn delete(State(app): State<App>, Id(id): Id) -> Result<StatusCode, Problem> {
    app.coordinator.delete_component(&TenantId::default(), &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
