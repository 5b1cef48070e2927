//! The id in a path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::problem::Problem;

/// What stands for `{id}` in the path of a route. Unlike axum's own [`Path`], it refuses with a [`Problem`].
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            // Any text will do, so it is none.
            Err(_) => {
                Err(Problem::malformed("the id in the path is not UTF-8, with its `%` escapes read: write it as it was answered"))
            }
        }
    }
}
