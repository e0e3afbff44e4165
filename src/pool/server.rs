//! The pool itself: one thread, one poll over its socket, those who ask, and the pair in the making.

use std::collections::VecDeque;
use std::fs::{self, File, TryLockError};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use super::maker::Making;
use super::place::{LOCK, Place, SOCKET, failed};
use super::protocol::{Answer, Fault, Limit, REQUEST, Request, Status};
use super::{Item, PoolError, client};
use crate::sys::clone::{self, CloneFlags, Ended, Wait, exit_now};
use crate::sys::door::{Door, clone3_through};
use crate::sys::errno::{Call, CallError, Errno};
use crate::sys::event::{self, Interest, Signals, signal};
use crate::sys::ns::Identity;
use crate::sys::process::{self, Resource};
use crate::sys::{fdpass, files, local, mount, ns};

/// How many who have connected and not asked yet are waited for; the oldest goes when there are more.
const MOST_CLIENTS: usize = 5;
/// How long each of them is waited for.
const CLIENT_TIME: Duration = Duration::from_secs(1);
/// How many connections are taken before the loop looks at everything else.
const ACCEPTED_AT_ONCE: usize = 16;
/// While pairs are being taken, new ones are made only when half are gone: the makers' builds have the machine then.
const QUIET: Duration = Duration::from_millis(10);
/// How long making one pair may take.
const MAKER_TIME: Duration = Duration::from_secs(30);
/// The first pause after a failure, and the longest; each is twice the one before.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// Descriptors that are not the pairs'.
const OWN_DESCRIPTORS: u64 = 32;
/// How long a start waits for another one that is under way.
const START_TIME: Duration = Duration::from_secs(2);

/// How a pool is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How many pairs are kept ready.
    pub size: u32,
    /// After how long without a request it ends.
    pub idle: Option<Duration>,
}

/// What a start came to.
#[derive(Debug)]
pub enum Start {
    /// This process can be the pool.
    Ready(Box<Server>),
    /// Another one is.
    Running(Status),
}

/// A pool that listens.
#[derive(Debug)]
pub struct Server {
    dir: File,
    _lock: File,
    listener: OwnedFd,
    /// The socket's name is ours to remove.
    named: bool,
    own: [Identity; 2],
    idle: Option<Duration>,
    wanted: u32,
    size: u32,
    limit: Option<Limit>,
    items: VecDeque<Item>,
    making: Option<(Making, Instant)>,
    clients: VecDeque<(OwnedFd, Instant)>,
    /// No attempt to make a pair before.
    not_before: Instant,
    pause: Duration,
    started: Instant,
    asked: Instant,
    handed_out: u64,
    missed: u64,
    made: u64,
    failed: u64,
    refused: u64,
    failure: Option<CallError>,
}

impl Server {
    /// Becomes the pool, unless one is running: takes the lock, makes a first pair, tries it as a run would, and listens; at
    /// `inherited` when a service manager handed a socket over.
    ///
    /// # Errors
    /// When the directory, the lock or the socket can't be had, or the machine makes no such pairs.
    pub fn start(place: &Place, settings: Settings, inherited: Option<OwnedFd>) -> Result<Start, PoolError> {
        let (dir, path) = place.make()?;
        let lock = local::open_lock_in(&dir, LOCK).map_err(failed("open", &path.join(LOCK)))?;
        let deadline = Instant::now() + START_TIME;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed("lock", &path.join(LOCK))(source)),
                // Somebody else is the pool, or is about to be it.
                Err(TryLockError::WouldBlock) => match client::status(place) {
                    Ok(status) => return Ok(Start::Running(status)),
                    Err(PoolError::None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                    Err(PoolError::None) => return Err(PoolError::Wedged),
                    Err(error) => return Err(error),
                },
            }
        }
        let (size, limit) = room(settings.size)?;
        let first = first_pair().map_err(|source| PoolError::Refused { source })?;
        let own = ["user", "pid"].map(|kind| ns::identity_at(Path::new(&format!("/proc/self/ns/{kind}"))));
        let [Ok(user), Ok(pid)] = own else { return Err(PoolError::Kernel(CallError::mismatch(Call::open))) };
        let named = inherited.is_none();
        let listener = match inherited {
            Some(socket) if local::adopt(&socket) => socket,
            Some(_) => return Err(PoolError::Activation),
            None => {
                // We have the lock, so whoever listened there is gone.
                local::remove_in(&dir, SOCKET).map_err(failed("remove", &path.join(SOCKET)))?;
                local::listen_in(&dir, SOCKET).map_err(failed("listen at", &path.join(SOCKET)))?
            }
        };
        let now = Instant::now();
        Ok(Start::Ready(Box::new(Self {
            dir,
            _lock: lock,
            listener,
            named,
            own: [user, pid],
            idle: settings.idle,
            wanted: settings.size,
            size,
            limit,
            items: VecDeque::from([first]),
            making: None,
            clients: VecDeque::new(),
            not_before: now,
            pause: PAUSE.0,
            started: now,
            asked: now,
            handed_out: 0,
            missed: 0,
            made: 1,
            failed: 0,
            refused: 0,
            failure: None,
        })))
    }

    /// How the pool is.
    pub fn status(&self) -> Status {
        Status {
            pid: std::process::id(),
            size: self.size,
            wanted: self.wanted,
            ready: u32::try_from(self.items.len()).unwrap_or(u32::MAX),
            limit: self.limit,
            handed_out: self.handed_out,
            missed: self.missed,
            made: self.made,
            failed: self.failed,
            refused: self.refused,
            up: self.started.elapsed().as_secs(),
            idle: self.asked.elapsed().as_secs(),
            idle_limit: self.idle.map(|limit| limit.as_secs()),
            failure: self.failure,
        }
    }

    /// Serves until it is told to end or nobody has asked for long enough; the socket is gone then.
    ///
    /// # Errors
    /// When the kernel has no memory for a signal descriptor or a poll.
    pub fn run(mut self) -> Result<(), PoolError> {
        let signals = Signals::route(&[signal::TERM, signal::INT, signal::HUP, signal::CHLD])?;
        // Those who connect are told this process, not the one that started it.
        local::relisten(&self.listener).map_err(failed("listen at", Path::new(SOCKET)))?;
        let mut farewell = None;
        while farewell.is_none() && !self.is_idle() {
            self.refill();
            let ready = self.wait(&signals)?;
            if ready[0].read && self.obey(&signals) {
                break;
            }
            if ready[2].read {
                self.collect();
            }
            if ready[1].read {
                farewell = self.accept();
            }
            let waiting: Vec<_> = self.clients.drain(..).collect();
            for (client, since) in waiting {
                if farewell.is_none() && since.elapsed() < CLIENT_TIME {
                    farewell = self.serve(client, since);
                }
            }
        }
        if let Some((making, _)) = &self.making {
            making.kill();
        }
        if self.named {
            // A name that stays is replaced by the next pool.
            let _ = local::remove_in(&self.dir, SOCKET);
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.idle.is_some_and(|limit| self.asked.elapsed() >= limit)
    }

    /// Signals, the listener, the maker, then those who have not asked yet.
    fn wait(&self, signals: &Signals) -> Result<[Interest; 8], CallError> {
        let read = Interest { read: true, write: false };
        let mut wanted = vec![
            Some((signals.fd(), read)),
            Some((self.listener.as_fd(), read)),
            self.making.as_ref().map(|(making, _)| (making.fd(), read)),
        ];
        wanted.extend(self.clients.iter().map(|(client, _)| Some((client.as_fd(), read))));
        let deadlines = [
            self.idle.map(|limit| self.asked + limit),
            self.clients.front().map(|(_, since)| *since + CLIENT_TIME),
            self.making.as_ref().map(|(_, since)| *since + MAKER_TIME),
            self.lacks().then(|| self.refill_time()),
        ];
        let timeout = deadlines.into_iter().flatten().min().map(|at| at.saturating_duration_since(Instant::now()));
        event::wait(&wanted, timeout)
    }

    /// Takes what signals say; true when it is to end.
    fn obey(&self, signals: &Signals) -> bool {
        let mut end = false;
        while let Some(number) = signals.next() {
            end |= number != signal::CHLD;
        }
        while clone::wait_any(Wait::Poll).is_some() {}
        end
    }

    fn lacks(&self) -> bool {
        self.making.is_none() && self.items.len() < self.size as usize
    }

    /// When the next pair may be made.
    fn refill_time(&self) -> Instant {
        let low = self.items.len() * 2 < self.size as usize;
        if low || self.handed_out == 0 { self.not_before } else { self.not_before.max(self.asked + QUIET) }
    }

    fn refill(&mut self) {
        if let Some((making, since)) = &self.making
            && since.elapsed() >= MAKER_TIME
        {
            // Its end is a failure like any other.
            making.kill();
        }
        self.items.truncate(self.size as usize);
        if self.lacks() && Instant::now() >= self.refill_time() {
            match Making::start() {
                Ok(making) => self.making = Some((making, Instant::now())),
                Err(error) => self.fail(error),
            }
        }
    }

    fn fail(&mut self, error: CallError) {
        self.failed += 1;
        self.failure = Some(error);
        self.not_before = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }

    fn collect(&mut self) {
        let Some((making, _)) = &self.making else { return };
        let Some(made) = making.take() else { return };
        self.making = None;
        match made {
            Ok(item) => {
                self.items.push_back(item);
                self.made += 1;
                (self.failure, self.pause) = (None, PAUSE.0);
            }
            Err(error) => self.fail(error),
        }
    }

    fn accept(&mut self) -> Option<OwnedFd> {
        for _ in 0..ACCEPTED_AT_ONCE {
            let client = match local::accept(self.listener.as_fd()) {
                Ok(Some(client)) => client,
                Ok(None) => break,
                Err(_) => {
                    // The system has no descriptor for it. It waits on, and this loop must not turn until then.
                    std::thread::sleep(QUIET);
                    break;
                }
            };
            if !self.is_friend(client.as_fd()) {
                self.refused += 1;
                continue;
            }
            if let Some(farewell) = self.serve(client, Instant::now()) {
                return Some(farewell);
            }
        }
        None
    }

    /// The same user, and not from inside a sandbox: there a process of the same user may be anybody's command.
    fn is_friend(&self, client: BorrowedFd<'_>) -> bool {
        let Ok((pid, uid)) = local::peer(client) else { return false };
        let there = ["user", "pid"].map(|kind| ns::identity_at(Path::new(&format!("/proc/{pid}/ns/{kind}"))).ok());
        pid > 0 && uid == files::effective_uid() && there == self.own.map(Some)
    }

    /// Answers what `client` asks, or keeps it until it does; when it asks for the end, it is given back.
    fn serve(&mut self, client: OwnedFd, since: Instant) -> Option<OwnedFd> {
        // Longer than any request; what comes with it is closed.
        let mut bytes = [0; REQUEST + 1];
        let length = match fdpass::receive(client.as_fd(), &mut bytes) {
            Ok(Some(received)) => received.length,
            Ok(None) => {
                if self.clients.len() >= MOST_CLIENTS {
                    self.clients.pop_front();
                }
                self.clients.push_back((client, since));
                return None;
            }
            Err(_) => return None,
        };
        let answer = |answer: Answer| {
            // What does not arrive is its loss: whoever asked is gone, or asks and never reads.
            let _ = fdpass::send(client.as_fd(), &answer.encode(), &[]);
        };
        match Request::decode(&bytes[..length]) {
            Ok(Request::Take) => {
                self.asked = Instant::now();
                match self.items.pop_front() {
                    Some(item) => {
                        self.handed_out += 1;
                        let both = [item.user.as_fd(), item.net.as_fd()];
                        // Sent or not, it is never handed out again.
                        let _ = fdpass::send(client.as_fd(), &Answer::Item.encode(), &both);
                    }
                    None => {
                        self.missed += 1;
                        answer(Answer::Empty);
                    }
                }
            }
            Ok(Request::Status) => answer(Answer::Status(self.status())),
            Ok(Request::Warm(size)) => {
                self.asked = Instant::now();
                // A limit that has come to leave no room at all leaves the pool as it is.
                if let Ok((possible, limit)) = room(size) {
                    (self.wanted, self.size, self.limit) = (size, possible, limit);
                    (self.not_before, self.pause) = (Instant::now(), PAUSE.0);
                }
                answer(Answer::Status(self.status()));
            }
            Ok(Request::Stop) => {
                answer(Answer::Stopping);
                return Some(client);
            }
            Err(Fault::Version(_)) => answer(Answer::OtherVersion),
            Err(Fault::Garbage) => {}
        }
        None
    }
}

/// How many of `wanted` pairs there is room for, and what keeps it from more: half of what the kernel lets this user have,
/// for runs have namespaces too.
fn room(wanted: u32) -> Result<(u32, Option<Limit>), PoolError> {
    let kernel = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/user/max_{name}_namespaces")).ok()?;
        Some(u32::try_from(text.trim().parse::<u64>().ok()?).unwrap_or(u32::MAX))
    };
    let files = process::limit(Resource::OpenFiles).map_or(0, |(soft, _)| soft);
    let for_pairs = u32::try_from(files.saturating_sub(OWN_DESCRIPTORS) / 2).unwrap_or(u32::MAX);
    let limits = [
        kernel("net").map(|value| (value / 2, Limit::NetNamespaces(value))),
        kernel("user").map(|value| (value / 2, Limit::UserNamespaces(value))),
        Some((for_pairs, Limit::OpenFiles(u32::try_from(files).unwrap_or(u32::MAX)))),
    ];
    match limits.into_iter().flatten().min_by_key(|(most, _)| *most) {
        Some((0, limit)) => Err(PoolError::NoRoom { limit }),
        Some((most, limit)) if most < wanted => Ok((most, Some(limit))),
        _ => Ok((wanted, None)),
    }
}

/// A pair, after another one like it has shown that ids can be mapped in it: root's only by a process that had
/// CAP_SETFCAP when the user namespace was made (user_namespaces(7)).
fn first_pair() -> Result<Item, CallError> {
    let trial = pair()?;
    let (_, uid, _) = process::caller_ids();
    let map = format!("{uid} {uid} 1\n");
    let door = Door::Pair { user: trial.user.as_fd(), net: trial.net.as_fd() };
    let (pid, _) = clone3_through(door, CloneFlags::NONE, None, || {
        let mapped = mount::write_file(c"/proc/self/uid_map", map.as_bytes());
        exit_now(mapped.map_or_else(|error| error.errno.0, |()| 0))
    })?;
    match clone::wait_for(pid)?.decode() {
        Ended::Exited(0) => pair(),
        Ended::Exited(errno) => Err(CallError { call: Call::write, errno: Errno(errno) }),
        Ended::Signalled(_) => Err(CallError { call: Call::clone3, errno: Errno::EINTR }),
    }
}

fn pair() -> Result<Item, CallError> {
    let making = Making::start()?;
    let since = Instant::now();
    let read = Interest { read: true, write: false };
    let made = loop {
        if let Some(made) = making.take() {
            break made;
        }
        let left = MAKER_TIME.saturating_sub(since.elapsed());
        if left.is_zero() {
            making.kill();
        }
        event::wait(&[Some((making.fd(), read))], Some(left))?;
    };
    // It has said its last word.
    while clone::wait_any(Wait::Block).is_some() {}
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_decides_and_is_named() {
        let (size, limit) = room(1).unwrap();
        assert_eq!((size, limit), (1, None));
        let (size, limit) = room(u32::MAX).unwrap();
        assert!(size > 0 && size < u32::MAX);
        assert!(limit.is_some());
    }
}
