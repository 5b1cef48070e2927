//! The REST interface: components and jobs under `/v1`, and what operators of a server ask for.
//!
//! | | |
//! |---|---|
//! | `POST /v1/components` | uploads a component (its bytes); answers its id and its graph in short |
//! | `GET /v1/components`, `GET /v1/components/{id}`, `DELETE …` | what was uploaded |
//! | `POST /v1/jobs` | starts a job: a spec as JSON or TOML; with `from_savepoint=…`, from a savepoint |
//! | `GET /v1/jobs`, `GET /v1/jobs/{id}` | jobs: state, failure, metrics, checkpoints, plan |
//! | `POST /v1/jobs/{id}/diff` | what becomes of a job's state if one of another spec goes on with it |
//! | `POST /v1/jobs/{id}/stop`, `…/cancel` | ends a job: after what it has read, or now |
//! | `GET /v1/jobs/{id}/output`, `…/logs` | the last lines; with `follow=true` also those to come, as server-sent events |
//! | `GET /v1/jobs/{id}/checkpoints` | the last checkpoints |
//! | `POST /v1/jobs/{id}/savepoints` | makes a savepoint, and ends the job with it if it is to |
//! | `GET /v1/savepoints`, `GET /v1/savepoints/{id}`, `DELETE …` | savepoints |
//! | `GET /healthz`, `/metrics`, `/openapi.json` | for operators and tools |
//!
//! An error is an `application/problem+json` (RFC 9457) with a stable `code`. This crate translates; the
//! [coordinator](weir_coordinator) decides. Who asks is not known yet: every request is the default tenant's, so a server is to be bound to an
//! address that only friends can reach.

mod health;
mod metrics;
mod openapi;
mod origin;
mod problem;
mod v1;

use std::future::Future;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tower_http::trace::TraceLayer;
use weir_base::Clock;
use weir_coordinator::Handle;

use crate::problem::Problem;

/// What every route knows.
#[derive(Clone)]
struct App {
    coordinator: Handle,
    clock: Clock,
}

/// All routes.
pub fn router(coordinator: Handle, clock: Clock) -> Router {
    let component_bytes_max = coordinator.component_bytes_max();
    Router::new()
        .nest("/v1", v1::router(component_bytes_max))
        .route("/healthz", get(health::get))
        .route("/metrics", get(metrics::get))
        .route("/openapi.json", get(openapi::get))
        .fallback(|| async { Problem::no_such_route().into_response() })
        .method_not_allowed_fallback(|| async { Problem::wrong_method().into_response() })
        .layer(TraceLayer::new_for_http())
        .with_state(App { coordinator, clock })
}

/// Serves until `shutdown` completes and the requests that are under way have been answered. Streams of lines end when their jobs do.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    coordinator: Handle,
    clock: Clock,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let strangers = from_fn_with_state(listener.local_addr()?, origin::check);
    axum::serve(listener, router(coordinator, clock).layer(strangers)).with_graceful_shutdown(shutdown).await
}

/// The description of this interface in OpenAPI, as JSON.
pub fn openapi_json() -> String {
    openapi::json()
}
