//! Whose a job and a component are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A tenant: the boundary of isolation. There is one, but its id travels in every record and every path, so that others can come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct TenantId(String);

impl TenantId {
    /// The id as text; it is fit to be the name of a folder.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".into())
    }
}

impl std::fmt::Display for TenantId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
