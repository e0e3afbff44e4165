//! The network of one run with rules: its published ports, bound before anything is started, and its relay, which begins
//! when PID 1 hands its net namespace over.

use std::fs::File;
use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, Receiver};

use super::message::GO;
use super::{News, Tell};
use crate::config::model::{self, Rules};
use crate::net::inside::Maker;
use crate::net::publish::{self, Published};
use crate::net::relay::{self, Relay};
use crate::net::{Event, NetError, Traffic};

/// The outer half of a run's network; with the host's, or with none, there is nothing to it.
#[derive(Debug)]
pub enum Network {
    /// Nothing is carried.
    Idle,
    /// Waiting for PID 1.
    Ready {
        /// What the relay will let through.
        rules: Rules,
        /// The ports that are bound already.
        published: Vec<Published>,
    },
    /// At work.
    Carrying {
        /// The relay.
        relay: Relay,
        /// A byte for each event.
        bell: PipeReader,
        /// What the relay has to say.
        events: Receiver<Event>,
    },
}

impl Network {
    /// Binds what `settings` publish.
    ///
    /// # Errors
    /// When a published port can't be had; nothing is bound then.
    pub fn prepare(settings: &model::Network) -> Result<Self, NetError> {
        match settings {
            model::Network::None | model::Network::Host => Ok(Self::Idle),
            model::Network::Rules(rules) => {
                let published = publish::bind_published(&rules.publish)?;
                Ok(Self::Ready { rules: rules.clone(), published })
            }
        }
    }

    /// Starts the relay in PID 1's net namespace, then lets PID 1 go on.
    ///
    /// # Errors
    /// When the relay can't begin.
    pub fn attach(&mut self, user: &OwnedFd, net: &OwnedFd, reply: OwnedFd) -> Result<(), NetError> {
        let Self::Ready { rules, published } = std::mem::replace(self, Self::Idle) else {
            // PID 1 asks once, and only with rules; without an answer it gives up.
            return Ok(());
        };
        let set_up = |source| NetError::SetUp { doing: "its pipe", source };
        let (bell, ring) = io::pipe().map_err(set_up)?;
        let (sender, events) = mpsc::channel();
        let tell = move |event| {
            // Nobody listens any more when the run is over.
            let _ = sender.send(event).map(|()| (&ring).write_all(&[0]));
        };
        let maker = Maker::start(user.as_fd(), net.as_fd())?;
        let relay = relay::start(rules, Box::new(maker), published, Box::new(tell))?;
        *self = Self::Carrying { relay, bell, events };
        // If PID 1 is gone, the end of its control socket says so.
        let _ = File::from(reply).write_all(&[GO]);
        Ok(())
    }

    /// What becomes readable when [`Network::next_event`] has something to give.
    pub fn bell(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Carrying { bell, .. } => Some(bell.as_fd()),
            Self::Idle | Self::Ready { .. } => None,
        }
    }

    /// The next event; to be called when the bell is readable, else it waits for one.
    pub fn next_event(&mut self) -> Option<Event> {
        let Self::Carrying { bell, events, .. } = self else { return None };
        // Each event is sent before its byte.
        bell.read_exact(&mut [0]).ok()?;
        events.try_recv().ok()
    }

    /// Ends the relay, tells what it still had to say, and gives what it carried.
    pub fn stop(self, tell: Tell<'_>) -> Traffic {
        let Self::Carrying { relay, bell: _bell, events } = self else { return Traffic::default() };
        let traffic = relay.stop();
        events.try_iter().for_each(|event| tell(&News::Network(&event)));
        traffic
    }
}
