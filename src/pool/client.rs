//! Asking the pool. For a run nothing here is an error and nothing waits: no pool, an empty, dead, wedged or strange one
//! just means a pair made on the spot.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::place::{Place, SOCKET};
use super::protocol::{ANSWER, Answer, Fault, Request, Status};
use super::{Item, PoolError};
use crate::sys::event::{self, Interest};
use crate::sys::fdpass::{self, Received};
use crate::sys::{files, local, ns};

/// How long a launch waits for an answer that should have been there long ago.
const PATIENCE: Duration = Duration::from_millis(1);
/// How long a command that is about the pool waits for it.
const ANSWER_TIME: Duration = Duration::from_secs(2);

/// Why a run got no pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Missed {
    /// Nobody listens, or not where the caller can trust it.
    #[error("no pool")]
    NoPool,
    /// The pool has none ready.
    #[error("the pool is empty")]
    Empty,
    /// It did not answer in time.
    #[error("the pool does not answer")]
    Silent,
    /// It is of another version.
    #[error("the pool is of another version")]
    Version,
    /// Its answer was none.
    #[error("the pool speaks another language")]
    Garbage,
    /// What it gave is no fresh pair of namespaces of the caller's.
    #[error("the pool's namespaces are not fit")]
    Unfit,
}

/// A pair that was asked for; the answer comes while the caller does something else.
#[derive(Debug)]
pub struct Asked {
    socket: Option<OwnedFd>,
}

impl Asked {
    /// Asks. It waits for nothing; what goes wrong is told when the answer is wanted.
    pub fn ask(place: &Place) -> Self {
        Self { socket: place.open().ok().and_then(|dir| connect(&dir, Request::Take).ok()) }
    }

    /// The pair, which nobody else has or had.
    ///
    /// # Errors
    /// Why there is none, after a millisecond at most.
    pub fn answer(self) -> Result<Item, Missed> {
        let socket = self.socket.ok_or(Missed::NoPool)?;
        let (answer, received) = receive(&socket, PATIENCE)?;
        match (answer, received.descriptors) {
            (Answer::Item, [Some(user), Some(net), None]) => {
                let item = Item { user, net };
                if is_ours(&item) { Ok(item) } else { Err(Missed::Unfit) }
            }
            (Answer::Empty, _) => Err(Missed::Empty),
            (Answer::OtherVersion, _) => Err(Missed::Version),
            _ => Err(Missed::Garbage),
        }
    }
}

/// Whether it is a net namespace owned by a user namespace that this user made below this process's own. That no id is
/// mapped in it shows when it is entered.
fn is_ours(item: &Item) -> bool {
    let checked = || {
        let user = ns::identity(item.user.as_fd(), ns::Kind::User).ok()?;
        ns::identity(item.net.as_fd(), ns::Kind::Net).ok()?;
        let owner = ns::owner(item.net.as_fd()).ok()?;
        let parent = ns::parent(item.user.as_fd()).ok()?;
        let own = ns::identity_at("/proc/self/ns/user".as_ref()).ok()?;
        let owned = ns::identity(owner.as_fd(), ns::Kind::User).ok()? == user;
        let below = ns::identity(parent.as_fd(), ns::Kind::User).ok()? == own;
        Some(owned && below && ns::owner_uid(item.user.as_fd()).ok()? == files::effective_uid())
    };
    checked().unwrap_or(false)
}

/// Connects to the socket in `dir` and sends `request`.
fn connect(dir: &std::fs::File, request: Request) -> Result<OwnedFd, PoolError> {
    let socket = local::connect_in(dir, SOCKET).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => PoolError::Wedged,
        _ => PoolError::None,
    })?;
    // Whoever may write to the directory is the same user; this holds should that ever be untrue.
    if !local::peer(&socket).is_ok_and(|(_, uid)| uid == files::effective_uid()) {
        return Err(PoolError::Foreign);
    }
    fdpass::send(socket.as_fd(), &request.encode(), &[]).map_err(|_| PoolError::None)?;
    Ok(socket)
}

fn receive(socket: &OwnedFd, patience: Duration) -> Result<(Answer, Received), Missed> {
    let deadline = Instant::now() + patience;
    // Longer than any answer, so that one that is too long is known.
    let mut bytes = [0; ANSWER + 1];
    loop {
        match fdpass::receive(socket.as_fd(), &mut bytes) {
            Ok(Some(received)) if received.length == 0 => return Err(Missed::NoPool),
            Ok(Some(received)) => {
                return match Answer::decode(&bytes[..received.length]) {
                    Ok(answer) => Ok((answer, received)),
                    Err(Fault::Version(_)) => Err(Missed::Version),
                    Err(Fault::Garbage) => Err(Missed::Garbage),
                };
            }
            Ok(None) => {}
            Err(_) => return Err(Missed::NoPool),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let readable = Interest { read: true, write: false };
        if left.is_zero() || event::wait(&[Some((socket.as_fd(), readable))], Some(left)).is_err() {
            return Err(Missed::Silent);
        }
    }
}

fn request(place: &Place, request: Request) -> Result<(Answer, OwnedFd), PoolError> {
    let socket = connect(&place.open()?, request)?;
    match receive(&socket, ANSWER_TIME) {
        Ok((Answer::OtherVersion, _)) | Err(Missed::Version | Missed::Garbage) => Err(PoolError::Foreign),
        Ok((answer, _)) => Ok((answer, socket)),
        Err(Missed::Silent) => Err(PoolError::Wedged),
        Err(_) => Err(PoolError::None),
    }
}

/// How the pool is.
///
/// # Errors
/// When there is none, or it does not answer within two seconds.
pub fn status(place: &Place) -> Result<Status, PoolError> {
    match request(place, Request::Status)? {
        (Answer::Status(status), _) => Ok(status),
        _ => Err(PoolError::Foreign),
    }
}

/// Asks the pool to keep `size` pairs ready.
///
/// # Errors
/// As [`status`].
pub fn warm(place: &Place, size: u32) -> Result<Status, PoolError> {
    match request(place, Request::Warm(size))? {
        (Answer::Status(status), _) => Ok(status),
        _ => Err(PoolError::Foreign),
    }
}

/// Ends the pool, and waits until it has ended.
///
/// # Errors
/// As [`status`].
pub fn stop(place: &Place) -> Result<(), PoolError> {
    let (Answer::Stopping, socket) = request(place, Request::Stop)? else { return Err(PoolError::Foreign) };
    match receive(&socket, ANSWER_TIME) {
        Err(Missed::NoPool) => Ok(()),
        _ => Err(PoolError::Wedged),
    }
}
