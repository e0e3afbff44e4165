//! What the pool and those who ask it say to each other: one request and one answer on each connection, each a message of a
//! fixed size.

use std::fmt;

use crate::sys::errno::{Call, CallError, Errno};

/// The version of everything below. An older or newer pool is as good as none.
pub const VERSION: u16 = 1;
/// The length of a request in bytes.
pub const REQUEST: usize = 16;
/// The length of an answer in bytes.
pub const ANSWER: usize = 128;
/// The largest number of pairs that can be asked for.
pub const MOST: u32 = 1024;

const MAGIC: [u8; 4] = *b"sbxp";

/// What the pool is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Hand a pair out.
    Take,
    /// Say how it is.
    Status,
    /// End.
    Stop,
    /// Keep this many pairs ready from now on.
    Warm(u32),
}

/// Why bytes are no request, or no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// They are of another version.
    Version(u16),
    /// They are nothing.
    Garbage,
}

fn header(kind: u8, version: u16) -> [u8; 8] {
    let [low, high] = version.to_le_bytes();
    [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], low, high, kind, 0]
}

/// The kind of message of this header. The version comes first: the rest of another version's may look as it likes.
fn kind(bytes: &[u8]) -> Result<u8, Fault> {
    match *bytes {
        [a, b, c, d, low, high, kind, zero, ..] if [a, b, c, d] == MAGIC => match u16::from_le_bytes([low, high]) {
            VERSION if zero == 0 => Ok(kind),
            VERSION => Err(Fault::Garbage),
            other => Err(Fault::Version(other)),
        },
        _ => Err(Fault::Garbage),
    }
}

impl Request {
    /// The bytes.
    pub fn encode(self) -> [u8; REQUEST] {
        let (kind, argument) = match self {
            Self::Take => (1, 0),
            Self::Status => (2, 0),
            Self::Stop => (3, 0),
            Self::Warm(size) => (4, size),
        };
        let mut bytes = [0; REQUEST];
        bytes[..8].copy_from_slice(&header(kind, VERSION));
        bytes[8..12].copy_from_slice(&argument.to_le_bytes());
        bytes
    }

    /// The request of these bytes.
    ///
    /// # Errors
    /// When they are none of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let kind = kind(bytes)?;
        let Ok(&[.., a, b, c, d, 0, 0, 0, 0]) = <&[u8; REQUEST]>::try_from(bytes) else { return Err(Fault::Garbage) };
        match (kind, u32::from_le_bytes([a, b, c, d])) {
            (1, 0) => Ok(Self::Take),
            (2, 0) => Ok(Self::Status),
            (3, 0) => Ok(Self::Stop),
            (4, size @ 1..=MOST) => Ok(Self::Warm(size)),
            _ => Err(Fault::Garbage),
        }
    }
}

/// What keeps a pool smaller than it was asked to be, and to how many pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `user.max_net_namespaces`, this is its value.
    NetNamespaces(u32),
    /// `user.max_user_namespaces`, this is its value.
    UserNamespaces(u32),
    /// The soft limit of open files, this is its value.
    OpenFiles(u32),
}

impl Limit {
    /// How to have more.
    pub fn remedy(self) -> String {
        match self {
            Self::NetNamespaces(_) => "raise it: `sudo sysctl user.max_net_namespaces=15000`".into(),
            Self::UserNamespaces(_) => "raise it: `sudo sysctl user.max_user_namespaces=15000`".into(),
            Self::OpenFiles(_) => "raise it: `ulimit -n 4096`".into(),
        }
    }

    fn encode(limit: Option<Self>) -> (u64, u64) {
        match limit {
            None => (0, 0),
            Some(Self::NetNamespaces(value)) => (1, value.into()),
            Some(Self::UserNamespaces(value)) => (2, value.into()),
            Some(Self::OpenFiles(value)) => (3, value.into()),
        }
    }

    fn decode(kind: u64, value: u64) -> Option<Option<Self>> {
        let value = u32::try_from(value).ok()?;
        match kind {
            0 => Some(None),
            1 => Some(Some(Self::NetNamespaces(value))),
            2 => Some(Some(Self::UserNamespaces(value))),
            3 => Some(Some(Self::OpenFiles(value))),
            _ => None,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetNamespaces(value) => write!(f, "user.max_net_namespaces is {value}"),
            Self::UserNamespaces(value) => write!(f, "user.max_user_namespaces is {value}"),
            Self::OpenFiles(value) => write!(f, "the limit of open files is {value}"),
        }
    }
}

/// How a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its process.
    pub pid: u32,
    /// How many pairs it keeps ready.
    pub size: u32,
    /// How many it was asked to keep.
    pub wanted: u32,
    /// How many are ready now.
    pub ready: u32,
    /// What keeps `size` below `wanted`.
    pub limit: Option<Limit>,
    /// How many pairs were handed out.
    pub handed_out: u64,
    /// How many requests found none ready.
    pub missed: u64,
    /// How many pairs were made.
    pub made: u64,
    /// How many attempts to make one failed.
    pub failed: u64,
    /// How many connections of others were refused.
    pub refused: u64,
    /// Since its start, in seconds.
    pub up: u64,
    /// Since a pair was last asked for, in seconds.
    pub idle: u64,
    /// After how long without a request it ends, in seconds; never without.
    pub idle_limit: Option<u64>,
    /// Why the last attempt to make a pair failed, unless one has succeeded since.
    pub failure: Option<CallError>,
}

/// What the pool answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The descriptors of a user and a net namespace come with it.
    Item,
    /// No pair is ready.
    Empty,
    /// How it is; to `Warm` too.
    Status(Status),
    /// It ends; the end of the connection says that it has.
    Stopping,
    /// The request was of another version; the pool's own is in the header.
    OtherVersion,
}

impl Answer {
    /// The bytes.
    pub fn encode(&self) -> [u8; ANSWER] {
        let mut bytes = [0; ANSWER];
        let kind = match self {
            Self::Item => 1,
            Self::Empty => 2,
            Self::Status(_) => 3,
            Self::Stopping => 4,
            Self::OtherVersion => 5,
        };
        bytes[..8].copy_from_slice(&header(kind, VERSION));
        if let Self::Status(status) = self {
            let (limit, limit_value) = Limit::encode(status.limit);
            let failure = status.failure.map_or(0, |error| {
                1 | u64::from(error.call as u8) << 8 | u64::from(error.errno.0.unsigned_abs()) << 32
            });
            let numbers = [
                u64::from(status.pid),
                u64::from(status.size) | u64::from(status.wanted) << 32,
                u64::from(status.ready),
                limit,
                limit_value,
                status.handed_out,
                status.missed,
                status.made,
                status.failed,
                status.refused,
                status.up,
                status.idle,
                status.idle_limit.map_or(u64::MAX, |limit| limit.min(u64::MAX - 1)),
                failure,
            ];
            for (place, number) in bytes[8..].chunks_exact_mut(8).zip(numbers) {
                place.copy_from_slice(&number.to_le_bytes());
            }
        }
        bytes
    }

    /// The answer of these bytes.
    ///
    /// # Errors
    /// When they are none of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let kind = kind(bytes)?;
        if bytes.len() != ANSWER {
            return Err(Fault::Garbage);
        }
        match kind {
            1 => Ok(Self::Item),
            2 => Ok(Self::Empty),
            3 => status(&bytes[8..]).map(Self::Status).ok_or(Fault::Garbage),
            4 => Ok(Self::Stopping),
            5 => Ok(Self::OtherVersion),
            _ => Err(Fault::Garbage),
        }
    }
}

fn status(bytes: &[u8]) -> Option<Status> {
    let mut numbers = [0_u64; 14];
    for (number, place) in numbers.iter_mut().zip(bytes.chunks_exact(8)) {
        *number = u64::from_le_bytes(place.try_into().ok()?);
    }
    let [
        pid,
        sizes,
        ready,
        limit,
        limit_value,
        handed_out,
        missed,
        made,
        failed,
        refused,
        up,
        idle,
        idle_limit,
        failure,
    ] = numbers;
    let failure = match failure.to_le_bytes() {
        [0, 0, 0, 0, 0, 0, 0, 0] => None,
        [1, call, 0, 0, a, b, c, d] => {
            let number = i32::from_le_bytes([a, b, c, d]);
            let errno = (number > 0).then_some(Errno(number))?;
            Some(CallError { call: Call::from_number(call)?, errno })
        }
        _ => return None,
    };
    Some(Status {
        pid: u32::try_from(pid).ok()?,
        size: u32::try_from(sizes & 0xffff_ffff).ok()?,
        wanted: u32::try_from(sizes >> 32).ok()?,
        ready: u32::try_from(ready).ok()?,
        limit: Limit::decode(limit, limit_value)?,
        handed_out,
        missed,
        made,
        failed,
        refused,
        up,
        idle,
        idle_limit: (idle_limit != u64::MAX).then_some(idle_limit),
        failure,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_survives_its_bytes_and_nothing_else_is_one() {
        for request in [Request::Take, Request::Status, Request::Stop, Request::Warm(1), Request::Warm(MOST)] {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Ok(request));
            for length in 0..REQUEST {
                assert_eq!(Request::decode(&bytes[..length]), Err(Fault::Garbage), "{length} bytes");
            }
            assert_eq!(Request::decode(&[&bytes[..], &[0]].concat()), Err(Fault::Garbage));
            for place in [0, 7, 12, 15] {
                let mut broken = bytes;
                broken[place] ^= 1;
                assert_eq!(Request::decode(&broken), Err(Fault::Garbage), "byte {place}");
            }
        }
        for request in [Request::Warm(0), Request::Warm(MOST + 1)] {
            assert_eq!(Request::decode(&request.encode()), Err(Fault::Garbage));
        }
        let mut argument = Request::Take.encode();
        argument[8] = 1;
        assert_eq!(Request::decode(&argument), Err(Fault::Garbage));
        let mut newer = Request::Take.encode();
        newer[4] = 2;
        assert_eq!(Request::decode(&newer), Err(Fault::Version(2)));
        assert_eq!(Request::decode(&newer[..8]), Err(Fault::Version(2)));
    }

    #[test]
    fn every_answer_survives_its_bytes_and_nothing_else_is_one() {
        let status = Status {
            pid: 4711,
            size: 4,
            wanted: 8,
            ready: 3,
            limit: Some(Limit::NetNamespaces(8)),
            handed_out: 10,
            missed: 1,
            made: 13,
            failed: 2,
            refused: 5,
            up: 99,
            idle: 7,
            idle_limit: Some(1800),
            failure: Some(CallError { call: Call::clone3, errno: Errno::ENOSPC }),
        };
        let least = Status { limit: None, idle_limit: None, failure: None, ..status };
        for answer in [
            Answer::Item,
            Answer::Empty,
            Answer::Status(status),
            Answer::Status(least),
            Answer::Stopping,
            Answer::OtherVersion,
        ] {
            let bytes = answer.encode();
            assert_eq!(Answer::decode(&bytes), Ok(answer));
            for length in 0..ANSWER {
                assert_eq!(Answer::decode(&bytes[..length]), Err(Fault::Garbage), "{length} bytes");
            }
        }
        assert_eq!(Answer::decode(&[0xff; ANSWER]), Err(Fault::Garbage));
        let mut older = Answer::Empty.encode();
        older[4] = 0;
        assert_eq!(Answer::decode(&older), Err(Fault::Version(0)));
    }
}
