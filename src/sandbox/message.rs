//! What PID 1 and its launcher say to each other: fixed-size messages that a child can write without allocating.

use crate::sys::clone::WaitStatus;
use crate::sys::errno::{Call, CallError, Errno};

/// The size of every message from inside, in bytes.
pub const LENGTH: usize = 16;

/// Which list of the plan a step is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// [`Plan::setup`](crate::plan::Plan::setup)
    Setup,
    /// [`Plan::start`](crate::plan::Plan::start)
    Start,
}

/// A message from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A step failed; nothing was executed.
    Failed {
        /// Which list.
        list: List,
        /// Its place in the list.
        step: u16,
        /// What the kernel said.
        error: CallError,
    },
    /// The set-up is done; the message carries the root as the command will see it, and the upper layer.
    Ready,
    /// The message carries the outer end of the sandbox's terminal.
    Terminal,
    /// The message carries the user namespace, the net namespace, and the write end of a pipe from which PID 1 waits for
    /// [`GO`] before it goes on.
    Network,
    /// Every process of the command is dead and reaped.
    Ended(WaitStatus),
}

/// The byte that lets PID 1 go on after [`Message::Network`].
pub const GO: u8 = 1;

impl Message {
    /// The bytes of the message.
    pub fn encode(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        match self {
            Self::Failed { list, step, error } => {
                bytes[0] = 1;
                bytes[1] = u8::from(list == List::Start);
                bytes[2..4].copy_from_slice(&step.to_le_bytes());
                bytes[4] = error.call as u8;
                bytes[8..12].copy_from_slice(&error.errno.0.to_le_bytes());
            }
            Self::Ready => bytes[0] = 2,
            Self::Ended(status) => {
                bytes[0] = 3;
                bytes[8..12].copy_from_slice(&status.0.to_le_bytes());
            }
            Self::Network => bytes[0] = 4,
            Self::Terminal => bytes[0] = 5,
        }
        bytes
    }

    /// The message of these bytes, if they are one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let number = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
        match bytes[0] {
            1 => Some(Self::Failed {
                list: if bytes[1] == 0 { List::Setup } else { List::Start },
                step: u16::from_le_bytes([bytes[2], bytes[3]]),
                error: CallError { call: Call::from_number(bytes[4])?, errno: Errno(number) },
            }),
            2 => Some(Self::Ready),
            3 => Some(Self::Ended(WaitStatus(number))),
            4 => Some(Self::Network),
            5 => Some(Self::Terminal),
            _ => None,
        }
    }
}

/// A request to PID 1, one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Send this signal to the command's process group.
    Signal(u8),
    /// Stop every process.
    Freeze,
    /// Continue every process.
    Thaw,
}

impl Request {
    const FREEZE: u8 = 0xf0;
    const THAW: u8 = 0xf1;

    /// The byte.
    pub fn encode(self) -> u8 {
        match self {
            Self::Signal(number) => number,
            Self::Freeze => Self::FREEZE,
            Self::Thaw => Self::THAW,
        }
    }

    /// The request of this byte.
    pub fn decode(byte: u8) -> Self {
        match byte {
            Self::FREEZE => Self::Freeze,
            Self::THAW => Self::Thaw,
            number => Self::Signal(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_its_bytes() {
        let error = CallError { call: Call::mount, errno: Errno::EPERM };
        for message in [
            Message::Failed { list: List::Setup, step: 7, error },
            Message::Failed { list: List::Start, step: 300, error },
            Message::Ready,
            Message::Terminal,
            Message::Network,
            Message::Ended(WaitStatus(0x8b)),
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
        assert_eq!(Message::decode(&[]), None);
        assert_eq!(Message::decode(&[9; LENGTH]), None);
        for request in [Request::Signal(15), Request::Freeze, Request::Thaw] {
            assert_eq!(Request::decode(request.encode()), request);
        }
    }
}
