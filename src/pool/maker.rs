//! Making a pair, away from the pool's own process and at the lowest priority: the kernel's work for a net namespace is done
//! by the one who asks for it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Item;
use crate::sys::clone::{self, CloneFlags, Ended, Forked, exit_now};
use crate::sys::errno::{Call, CallError, Errno};
use crate::sys::{fdpass, mount, ns, process};

/// A pair in the making.
#[derive(Debug)]
pub struct Making {
    pid: i32,
    socket: OwnedFd,
}

/// What the maker says: nothing, or a call's number and an errno.
const LENGTH: usize = 8;

impl Making {
    /// Starts a process that makes one pair, says so, and ends. The caller reaps it. It dies with the calling thread.
    ///
    /// # Errors
    /// As socketpair(2), fork(2).
    pub fn start() -> Result<Self, CallError> {
        let (socket, theirs) = fdpass::pair()?;
        match clone::fork()? {
            0 => {
                drop(socket);
                if let Err(error) = process::die_with_parent().and_then(|()| make(theirs.as_fd())) {
                    let mut bytes = [0; LENGTH];
                    bytes[0] = error.call as u8;
                    bytes[4..].copy_from_slice(&error.errno.0.to_le_bytes());
                    // If this fails, the pool sees the end of the socket and says that much.
                    let _ = fdpass::send(theirs.as_fd(), &bytes, &[]);
                }
                exit_now(0)
            }
            pid => Ok(Self { pid, socket }),
        }
    }

    /// The descriptor to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The pair, if it is made; `None` while it isn't.
    ///
    /// # Errors
    /// The call that failed; EINTR when something killed the maker.
    pub fn take(&self) -> Option<Result<Item, CallError>> {
        let mut bytes = [0; LENGTH];
        let received = match fdpass::receive(self.fd(), &mut bytes) {
            Ok(None) => return None,
            Ok(Some(received)) => received,
            Err(error) => return Some(Err(error)),
        };
        let killed = CallError { call: Call::clone3, errno: Errno::EINTR };
        Some(match (received.length, received.descriptors) {
            (LENGTH, [Some(user), Some(net), None]) => Ok(Item { user, net }),
            (LENGTH, _) => {
                let errno = Errno(i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]));
                Err(Call::from_number(bytes[0]).map_or(killed, |call| CallError { call, errno }))
            }
            _ => Err(killed),
        })
    }

    /// Ends it, be it done or not.
    pub fn kill(&self) {
        clone::kill(self.pid, crate::sys::event::signal::KILL);
    }
}

/// Makes the pair and sends its descriptors, in a process of the pair's own that then ends: only they keep it alive.
fn make(socket: BorrowedFd<'_>) -> Result<(), CallError> {
    process::yield_to_all();
    match clone::clone3(CloneFlags::USER.and(CloneFlags::NET))? {
        Forked::Child => {
            let made = process::die_with_parent().and_then(|()| ns::loopback_up()).and_then(|()| {
                let user = mount::open_file(c"/proc/self/ns/user", false)?;
                let net = mount::open_file(c"/proc/self/ns/net", false)?;
                fdpass::send(socket, &[0; LENGTH], &[user.as_fd(), net.as_fd()])
            });
            // Errnos are below 256.
            exit_now(made.map_or_else(|error| error.errno.0, |()| 0))
        }
        Forked::Parent { pid, .. } => match clone::wait_for(pid)?.decode() {
            Ended::Exited(0) => Ok(()),
            Ended::Exited(errno) => Err(CallError { call: Call::ioctl, errno: Errno(errno) }),
            Ended::Signalled(_) => Err(CallError { call: Call::clone3, errno: Errno::EINTR }),
        },
    }
}
