//! The loop around a living sandbox: one thread, one poll over signals, the control socket and the streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::launch::Init;
use super::message::{LENGTH, List, Message, Request};
use super::network::Network;
use super::relay::{Copied, Relay, RelayError};
use super::{News, SandboxError, Tell};
use crate::net::Event;
use crate::record::Stream;
use crate::sys::clone::WaitStatus;
use crate::sys::errno::{Call, CallError, Errno};
use crate::sys::event::{self, Interest, Signals, signal};
use crate::sys::fdpass;
use crate::sys::stream::Direction;

/// What sbx passes on to the command, and what it acts on itself.
pub const ROUTED: [i32; 8] =
    [signal::HUP, signal::INT, signal::QUIT, signal::TERM, signal::USR1, signal::USR2, signal::TSTP, signal::WINCH];

/// Between TERM and KILL when the time limit is reached.
const GRACE: Duration = Duration::from_secs(5);

/// How long a line of the command's may stay unfinished before one of ours comes between.
const PATIENCE: Duration = Duration::from_millis(200);

/// How a sandbox came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The command ended; everything it started is dead.
    Command(WaitStatus),
    /// A step failed; the command never ran.
    Failed {
        /// Of which list.
        list: List,
        /// Which step.
        step: u16,
        /// Why.
        error: CallError,
    },
    /// The time limit was reached.
    TimeLimit,
    /// The user asked twice with SIGINT, or with this signal when the command was over and its output was not taken.
    Abandoned {
        /// The signal.
        signal: i32,
    },
    /// PID 1 is gone without a word: something outside killed it, or it could not even send what went wrong.
    Vanished,
}

/// The streams between the caller and the command.
#[derive(Debug)]
pub struct Carried {
    /// Towards the command.
    pub stdin: Option<Relay>,
    /// From the command.
    pub stdout: Relay,
    /// From the command; with a terminal there is only one stream.
    pub stderr: Option<Relay>,
}

/// What can be looked at from outside as long as it is held, the sandbox's end included: its mounts stay until then.
#[derive(Debug)]
pub struct Inside {
    /// The root, as the command sees it.
    pub root: OwnedFd,
    /// Its upper layer.
    pub upper: OwnedFd,
}

/// What is left when the sandbox is over.
#[derive(Debug)]
pub struct Remains {
    /// How it ended.
    pub end: End,
    /// Whether it was ready for the command.
    pub ready: bool,
    /// What went to standard output.
    pub stdout: Stream,
    /// What went to standard error.
    pub stderr: Stream,
    /// PID 1, which may still be at its end: it is the last of the sandbox's processes then.
    pub init: Init,
    /// Copies of standard output and standard error, where they were asked for.
    pub copies: Option<(Copied, Copied)>,
    /// Whether SIGINT came.
    pub interrupted: bool,
    /// Whether any signal was passed on to the command.
    pub disturbed: bool,
}

/// A supervised sandbox.
#[derive(Debug)]
pub struct Supervisor<'a> {
    init: Init,
    signals: &'a Signals,
    carried: Option<Carried>,
    terminal: Option<OwnedFd>,
    /// The command is about to begin, or has.
    ready: bool,
    deadline: Option<Instant>,
    interrupts: u32,
    /// The command was sent a signal.
    disturbed: bool,
    /// What the network's relay said and the user was not told yet.
    heard: Vec<Event>,
    /// Until when that may wait for the end of a line; none when there is nothing to tell.
    held_back: Option<Instant>,
    /// Set by what we do ourselves, before PID 1's own word arrives.
    verdict: Option<End>,
    /// PID 1 is done.
    over: bool,
    /// It has said that all the others are dead.
    alone: bool,
    /// Nobody waits for the rest of the output any more.
    abandoned: bool,
}

/// The caller's terminal, as the loop needs it when the sandbox has one of its own.
pub trait Terminal {
    /// The sandbox's terminal is there: `master` is its outer end.
    ///
    /// # Errors
    /// When the caller's terminal can't be used.
    fn attach(&mut self, master: &OwnedFd) -> Result<Carried, RelayError>;
    /// The caller's window has another size.
    fn resized(&mut self, master: &OwnedFd);
    /// sbx is about to be stopped: the caller's terminal goes back to how it was.
    fn paused(&mut self);
    /// sbx goes on.
    fn resumed(&mut self, master: &OwnedFd);
}

fn interest(relay: Option<&Relay>) -> Option<(BorrowedFd<'_>, Interest)> {
    let (fd, direction) = relay?.waiting_for()?;
    let write = direction == Direction::Write;
    Some((fd, Interest { read: !write, write }))
}

impl<'a> Supervisor<'a> {
    /// Supervises `init`. `carried` is `None` with a terminal: the streams come with it.
    pub fn new(init: Init, signals: &'a Signals, carried: Option<Carried>, limit: Option<Duration>) -> Self {
        Self {
            init,
            signals,
            carried,
            terminal: None,
            ready: false,
            deadline: limit.map(|limit| Instant::now() + limit),
            interrupts: 0,
            disturbed: false,
            heard: Vec::new(),
            held_back: None,
            verdict: None,
            over: false,
            alone: false,
            abandoned: false,
        }
    }

    /// Runs until every process of the sandbox but PID 1 is dead and every byte is delivered. The kernel takes PID 1 and the
    /// namespaces down meanwhile, which takes its time. `begins` is called once, when the command is about to begin.
    ///
    /// # Errors
    /// When a stream can't be carried or the network can't be set up; the sandbox is killed then.
    pub fn run(
        mut self,
        terminal: &mut dyn Terminal,
        network: &mut Network,
        tell: Tell<'_>,
        begins: &mut dyn FnMut(Inside),
    ) -> Result<Remains, SandboxError> {
        while !self.abandoned && (!self.over || self.streams_open()) {
            let ready = self.wait(network);
            if ready[0].read {
                while let Some(number) = self.signals.next() {
                    self.handle(number, terminal);
                }
            }
            if ready[1].read {
                self.listen(terminal, network, begins)?;
            }
            if ready[5].read {
                self.heard.extend(network.next_event());
                self.held_back.get_or_insert_with(|| Instant::now() + PATIENCE);
            }
            self.carry()?;
            self.speak(terminal, tell);
            self.watch_clock();
        }
        self.heard.drain(..).for_each(|event| tell(&News::Network(&event)));
        if !self.alone {
            self.init.wait();
        }
        let (stdout, stderr) = match &self.carried {
            Some(carried) => {
                (carried.stdout.summary(), carried.stderr.as_ref().map(Relay::summary).unwrap_or_default())
            }
            None => (Stream::default(), Stream::default()),
        };
        let copies = self
            .carried
            .as_mut()
            .and_then(|carried| Some((carried.stdout.take_copy()?, carried.stderr.as_mut()?.take_copy()?)));
        Ok(Remains {
            end: self.verdict.unwrap_or(End::Vanished),
            ready: self.ready,
            stdout,
            stderr,
            init: self.init,
            copies,
            interrupted: self.interrupts > 0,
            disturbed: self.disturbed,
        })
    }

    fn streams_open(&self) -> bool {
        let open = |relay: &Relay| relay.waiting_for().is_some();
        self.carried.as_ref().is_some_and(|carried| open(&carried.stdout) || carried.stderr.as_ref().is_some_and(open))
    }

    /// Tells what was heard: between two lines of the command's standard error, where they come soon enough.
    fn speak(&mut self, terminal: &mut dyn Terminal, tell: Tell<'_>) {
        let Some(held_back) = self.held_back else { return };
        let stderr = self.carried.as_ref().and_then(|carried| carried.stderr.as_ref());
        if stderr.is_some_and(|stderr| !stderr.is_at_line_start()) && Instant::now() < held_back {
            return;
        }
        self.held_back = None;
        if self.terminal.is_some() {
            terminal.paused();
        }
        self.heard.drain(..).for_each(|event| tell(&News::Network(&event)));
        if let Some(master) = &self.terminal {
            terminal.resumed(master);
        }
    }

    fn wait(&self, network: &Network) -> [Interest; 8] {
        let read = Interest { read: true, write: false };
        let carried = self.carried.as_ref();
        let next = self.deadline.into_iter().chain(self.held_back).min();
        let timeout = next.map(|at| at.saturating_duration_since(Instant::now()));
        let wanted = [
            Some((self.signals.fd(), read)),
            (!self.over).then(|| (self.init.control.as_fd(), read)),
            interest(carried.and_then(|carried| carried.stdin.as_ref())),
            interest(carried.map(|carried| &carried.stdout)),
            interest(carried.and_then(|carried| carried.stderr.as_ref())),
            network.bell().map(|bell| (bell, read)),
        ];
        // poll(2) fails only for want of memory; then look at everything, which is what a spurious wake does too.
        event::wait(&wanted, timeout).unwrap_or([Interest { read: true, write: true }; 8])
    }

    fn handle(&mut self, number: i32, terminal: &mut dyn Terminal) {
        match number {
            signal::WINCH => {
                if let Some(master) = &self.terminal {
                    terminal.resized(master);
                }
            }
            signal::TSTP => {
                self.ask(Request::Freeze);
                terminal.paused();
                event::stop_self();
                if let Some(master) = &self.terminal {
                    terminal.resumed(master);
                }
                self.ask(Request::Thaw);
            }
            // Nobody is left inside to pass it on to, and whoever should read the output does not.
            signal::INT | signal::TERM | signal::HUP | signal::QUIT if self.over => {
                self.verdict = Some(End::Abandoned { signal: number });
                self.abandoned = true;
            }
            signal::INT if self.interrupts > 0 => {
                self.verdict.get_or_insert(End::Abandoned { signal: number });
                self.init.kill();
            }
            number => {
                if number == signal::INT {
                    self.interrupts += 1;
                }
                self.disturbed = true;
                self.ask(Request::Signal(u8::try_from(number).unwrap_or(0)));
            }
        }
    }

    /// A failure means that PID 1 is gone, which the socket's end is about to say.
    fn ask(&self, request: Request) {
        let _ = fdpass::send(self.init.control.as_fd(), &[request.encode()], &[]);
    }

    fn listen(
        &mut self,
        terminal: &mut dyn Terminal,
        network: &mut Network,
        begins: &mut dyn FnMut(Inside),
    ) -> Result<(), SandboxError> {
        let mut bytes = [0; LENGTH];
        let received = match fdpass::receive(self.init.control.as_fd(), &mut bytes) {
            Ok(None) => return Ok(()),
            Ok(Some(received)) => received,
            Err(error) => return Err(SandboxError::Kernel(error)),
        };
        match Message::decode(&bytes[..received.length]) {
            Some(Message::Ready) => {
                let [Some(root), Some(upper), _] = received.descriptors else {
                    // What there is no room for the kernel leaves out.
                    return Err(SandboxError::Kernel(CallError { call: Call::recvmsg, errno: Errno::EMFILE }));
                };
                self.ready = true;
                begins(Inside { root, upper });
            }
            Some(Message::Terminal) => {
                let [master, ..] = received.descriptors;
                self.terminal = master;
                if let Some(master) = &self.terminal {
                    self.carried = Some(terminal.attach(master)?);
                }
            }
            Some(Message::Network) => {
                if let [Some(user), Some(net), Some(reply)] = received.descriptors {
                    network.attach(&user, &net, reply)?;
                }
            }
            Some(Message::Failed { list, step, error }) => {
                self.verdict.get_or_insert(End::Failed { list, step, error });
            }
            Some(Message::Ended(status)) => {
                self.alone = true;
                self.verdict.get_or_insert(End::Command(status));
                self.finish();
            }
            None => self.finish(),
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.over = true;
        if self.verdict != Some(End::TimeLimit) {
            self.deadline = None;
        }
        if let Some(carried) = &mut self.carried {
            carried.stdin = None;
        }
    }

    fn carry(&mut self) -> Result<(), RelayError> {
        let Some(carried) = &mut self.carried else { return Ok(()) };
        carried.stdout.advance()?;
        if let Some(stderr) = &mut carried.stderr {
            stderr.advance()?;
        }
        if let Some(stdin) = &mut carried.stdin {
            // The command need not read what it is given, and the caller's input may fail: neither ends the run.
            if stdin.advance().is_err() || stdin.waiting_for().is_none() {
                carried.stdin = None;
            }
        }
        Ok(())
    }

    /// At the time limit TERM, then KILL, then no more waiting for whoever reads the output.
    fn watch_clock(&mut self) {
        if self.deadline.is_none_or(|deadline| Instant::now() < deadline) {
            return;
        }
        self.deadline = Some(Instant::now() + GRACE);
        if self.verdict.is_none() {
            self.verdict = Some(End::TimeLimit);
            self.ask(Request::Signal(signal::TERM as u8));
        } else if self.over {
            self.abandoned = true;
        } else {
            self.init.kill();
        }
    }
}
