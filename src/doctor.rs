//! What this machine allows, found out by trying it in a child.

use serde::Serialize;

/// Stub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "stub")]
pub struct Finding {
    pub name: &'static str,
    pub status: Status,
    pub detail: String,
    pub consequence: Option<String>,
    pub fix: Option<String>,
}

/// Stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "stub")]
pub enum Status {
    Ok,
    Limited,
    Missing,
}

/// Stub.
pub fn examine() -> Vec<Finding> {
    Vec::new()
}
