//! The relay: one thread, outside of the sandbox, that carries what the rules allow.

use crate::config::rules::Rules;

use super::publish::Published;
use super::{Event, Inside, NetError, Traffic};

/// A relay that runs.
#[derive(Debug)]
pub struct Relay {}

/// Starts the relay. When it returns, names are answered and every address that the rules allow by number is listened
/// at. `tell` is called on the relay's thread.
///
/// # Errors
/// When a socket can't be made.
pub fn start(
    _rules: Rules,
    _inside: Box<dyn Inside>,
    _published: Vec<Published>,
    _tell: Box<dyn Fn(Event) + Send>,
) -> Result<Relay, NetError> {
    Ok(Relay {})
}

impl Relay {
    /// Ends everything: connections are cut off, no thread and no descriptor remains.
    pub fn stop(self) -> Traffic {
        Traffic::default()
    }
}
