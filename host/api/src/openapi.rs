//! The interface's description in OpenAPI.

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use crate::v1;

#[derive(OpenApi)]
#[openapi(
    info(title = "Weir", description = "Stream processing with WebAssembly components."),
    paths(
        crate::health::get,
        crate::metrics::get,
        crate::openapi::get,
        v1::components::upload,
        v1::components::list,
        v1::components::get,
        v1::components::delete,
        v1::jobs::submit,
        v1::jobs::diff,
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

/// What any route may answer, whatever it is asked.
const ANYWHERE: [(&str, &str); 3] = [
    ("403", "a page of another site asks, or the server is asked by a name that is not its own"),
    ("500", "the server's disk, or one of its own parts, failed"),
    ("503", "the server is going down, or cannot do it now"),
];

/// What a route with an id in its path may answer besides.
const WITH_ID: (&str, &str) = ("400", "the id in the path is not UTF-8");

/// The description as JSON.
pub fn json() -> String {
    let mut description = serde_json::to_value(Description::openapi()).expect("a description is made of strings and maps");
    for (path, route) in description["paths"].as_object_mut().into_iter().flatten() {
        for (method, operation) in route.as_object_mut().into_iter().flatten() {
            if let Some(operation) = operation.as_object_mut() {
                complete(method, path, operation);
            }
        }
    }
    format!("{description:#}")
}

/// Gives an operation a name of its own, and the answers that it has in common with all others.
fn complete(method: &str, path: &str, operation: &mut Map<String, Value>) {
    let name = format!("{method}{}", path.replace(['/', '.'], "_").replace(['{', '}'], ""));
    operation.insert("operationId".into(), name.into());
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
    for (status, why) in ANYWHERE.into_iter().chain(path.contains("{id}").then_some(WITH_ID)) {
        // A route that says more of it has its own words.
        responses.entry(status).or_insert_with(|| {
            json!({
                "description": why,
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            })
        });
    }
}

/// Describe this interface
#[utoipa::path(
    get, path = "/openapi.json", tag = "server",
    responses((status = 200, description = "this document", body = Object))
)]
pub async fn get() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], json())
}
