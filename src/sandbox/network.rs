//! The network of one run with rules: its published ports, bound before anything is started, and its relay, which begins
//! when PID 1 hands its net namespace over.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};

use super::message::GO;
use crate::config::model::{self, Rules};
use crate::net::inside::Maker;
use crate::net::publish::{self, Published};
use crate::net::relay::{self, Relay};
use crate::net::{Event, NetError, Traffic};

/// Whom the relay tells what the user should know at once. It is called on the relay's thread.
pub type Tell = Box<dyn Fn(Event) + Send>;

/// The outer half of a run's network; with the host's, or with none, there is nothing to it.
#[derive(Debug)]
pub enum Network {
    /// Nothing is carried.
    Idle,
    /// Waiting for PID 1.
    Ready(Prepared),
    /// At work.
    Carrying(Relay),
}

/// What the relay will begin with.
pub struct Prepared {
    rules: Rules,
    published: Vec<Published>,
    tell: Tell,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("rules", &self.rules)
            .field("published", &self.published)
            .finish_non_exhaustive()
    }
}

impl Network {
    /// Binds what `settings` publish.
    ///
    /// # Errors
    /// When a published port can't be had; nothing is bound then.
    pub fn prepare(settings: &model::Network, tell: Tell) -> Result<Self, NetError> {
        match settings {
            model::Network::None | model::Network::Host => Ok(Self::Idle),
            model::Network::Rules(rules) => {
                let published = publish::bind_published(&rules.publish)?;
                Ok(Self::Ready(Prepared { rules: rules.clone(), published, tell }))
            }
        }
    }

    /// Starts the relay in PID 1's net namespace, then lets PID 1 go on.
    ///
    /// # Errors
    /// When the relay can't begin.
    pub fn attach(&mut self, user: &OwnedFd, net: &OwnedFd, reply: OwnedFd) -> Result<(), NetError> {
        let Self::Ready(Prepared { rules, published, tell }) = std::mem::replace(self, Self::Idle) else {
            // PID 1 asks once, and only with rules; without an answer it gives up.
            return Ok(());
        };
        let maker = Maker::start(user.as_fd(), net.as_fd())?;
        *self = Self::Carrying(relay::start(rules, Box::new(maker), published, tell)?);
        // If PID 1 is gone, the end of its control socket says so.
        let _ = File::from(reply).write_all(&[GO]);
        Ok(())
    }

    /// Ends the relay; what it carried.
    pub fn stop(self) -> Traffic {
        match self {
            Self::Carrying(relay) => relay.stop(),
            Self::Idle | Self::Ready(_) => Traffic::default(),
        }
    }
}
