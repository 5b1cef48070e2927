//! `/healthz`

/// Say that the server is there
#[utoipa::path(
    get, path = "/healthz", tag = "server",
    responses((status = 200, description = "it answers", body = String, content_type = "text/plain"))
)]
pub async fn get() -> &'static str {
    "ok\n"
}
