//! The interface's description in OpenAPI.

use axum::http::header;
use axum::response::IntoResponse;
use utoipa::OpenApi;

use crate::v1;

#[derive(OpenApi)]
#[openapi(
    info(title = "Weir", description = "Stream processing with WebAssembly components."),
    paths(
        v1::components::upload,
        v1::components::list,
        v1::components::get,
        v1::components::delete,
        v1::jobs::submit,
        v1::jobs::list,
        v1::jobs::get,
        v1::jobs::checkpoints,
        v1::jobs::checkpoint,
        v1::jobs::stop,
        v1::jobs::cancel,
        v1::lines::output,
        v1::lines::logs,
        v1::savepoints::create,
        v1::savepoints::list,
        v1::savepoints::get,
        v1::savepoints::delete,
    )
)]
struct Description;

pub fn json() -> String {
    Description::openapi().to_pretty_json().expect("a description is made of strings and maps")
}

pub async fn get() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], json())
}
