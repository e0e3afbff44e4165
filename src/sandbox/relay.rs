//! Carries one byte stream out of (or into) the sandbox: as the bytes come, exactly, in bounded memory.
//!
//! A relay never blocks and owns no loop. The supervisor waits for what [`Relay::waiting_for`] names and calls
//! [`Relay::advance`]. While the destination takes nothing the source is not read, so the command is slowed down as it
//! would be without sbx between. When the destination is gone (`EPIPE`), the relay drops its end of the source, and the
//! command gets its `SIGPIPE` from its next write.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::{SpooledTempFile, spooled_tempfile_in};

use crate::digest::Digest;
use crate::record::Stream;
use crate::sys::stream::{self, Direction};

/// How many bytes a relay holds at most, in bytes.
const BUFFER: usize = 64 * 1024;

/// How much of a copy stays in memory, in bytes.
const IN_MEMORY: usize = 256 * 1024;

/// `PIPE_BUF`: a pipe that says it is writable takes that many bytes without blocking (pipe(7)).
const PIPE_BUF: usize = 4096;

/// A stream could not be carried.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The sandbox's side failed.
    #[error("can't read from the command")]
    Read(#[source] io::Error),
    /// The caller's side failed, for example because its disk is full.
    #[error("can't write what the command printed")]
    Write(#[source] io::Error),
    /// The caller's terminal could not be joined to the sandbox's.
    #[error("can't use the terminal")]
    Terminal(#[source] io::Error),
}

/// One stream on its way.
#[derive(Debug)]
pub struct Relay {
    /// `None` once it has ended.
    from: Option<File>,
    to: File,
    /// How much one `write` may carry without blocking.
    chunk: usize,
    /// Room for [`BUFFER`] bytes, which takes no memory before they come.
    buffer: Vec<u8>,
    /// What of the buffer is still to be written.
    pending: std::ops::Range<usize>,
    /// The last byte that was delivered; a line's end before the first.
    last: u8,
    hash: Sha256,
    bytes: u64,
    copy: Option<Copied>,
}

/// What a stream has carried, kept beside: in memory, and in a file without a name when it is more than that.
#[derive(Debug)]
pub struct Copied {
    file: SpooledTempFile,
    /// Why not all of it is there.
    failure: Option<io::Error>,
}

impl Copied {
    /// Nothing yet; what is too much for memory goes to a file in `directory`.
    pub fn new(directory: &Path) -> Self {
        Self { file: spooled_tempfile_in(IN_MEMORY, directory), failure: None }
    }

    fn add(&mut self, bytes: &[u8]) {
        if self.failure.is_none()
            && let Err(error) = self.file.write_all(bytes)
        {
            self.failure = Some(error);
        }
    }

    /// All of it, from the beginning.
    ///
    /// # Errors
    /// When it could not be written.
    pub fn into_reader(mut self) -> io::Result<impl io::Read> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        self.file.rewind()?;
        Ok(self.file)
    }
}

impl Relay {
    /// A relay out of the sandbox: from `from`, which nobody else reads, to `to`, which may be the caller's and shared
    /// with any process.
    ///
    /// # Errors
    /// When the destination can't be looked at.
    pub fn outward(from: OwnedFd, to: OwnedFd) -> io::Result<Self> {
        let (to, chunk) = shared_destination(to)?;
        Ok(Self::new(from, to, chunk))
    }

    /// A relay into the sandbox: from `from`, which may be the caller's, to `to`, whose description nobody else uses (it
    /// becomes non-blocking). The command sees the end of the stream when the relay is dropped.
    ///
    /// # Errors
    /// When the destination can't be made non-blocking.
    pub fn inward(from: OwnedFd, to: OwnedFd) -> io::Result<Self> {
        stream::set_nonblocking(&to)?;
        Ok(Self::new(from, File::from(to), BUFFER))
    }

    fn new(from: OwnedFd, to: File, chunk: usize) -> Self {
        Self {
            from: Some(File::from(from)),
            to,
            chunk,
            buffer: Vec::with_capacity(BUFFER),
            pending: 0..0,
            last: b'\n',
            hash: Sha256::new(),
            bytes: 0,
            copy: None,
        }
    }

    /// From now on a copy is kept of all that it carries.
    pub fn keep_copy(&mut self, copy: Copied) {
        self.copy = Some(copy);
    }

    /// The copy, if one was kept.
    pub fn take_copy(&mut self) -> Option<Copied> {
        self.copy.take()
    }

    /// What must become ready before [`Relay::advance`] can do anything; `None` when the stream is over and every byte
    /// is delivered.
    pub fn waiting_for(&self) -> Option<(BorrowedFd<'_>, Direction)> {
        if !self.pending.is_empty() {
            return Some((self.to.as_fd(), Direction::Write));
        }
        self.from.as_ref().map(|from| (from.as_fd(), Direction::Read))
    }

    /// Does what can be done without blocking, at most one buffer full, so that the caller's loop stays responsive.
    ///
    /// # Errors
    /// When either side fails other than by its end; the relay is over then, and undelivered bytes are lost.
    pub fn advance(&mut self) -> Result<(), RelayError> {
        if self.pending.is_empty() {
            self.fill().map_err(RelayError::Read).inspect_err(|_| self.stop())?;
        }
        self.drain().map_err(RelayError::Write).inspect_err(|_| self.stop())
    }

    /// Whether the last byte that was delivered ends a line, if there was one.
    pub fn is_at_line_start(&self) -> bool {
        self.last == b'\n'
    }

    /// Length and hash of all that was read so far.
    pub fn summary(&self) -> Stream {
        let hash = self.hash.clone().finalize().into();
        Stream { bytes: self.bytes, sha256: Digest { hash, size: self.bytes }.hex() }
    }

    fn fill(&mut self) -> io::Result<()> {
        let Some(from) = &mut self.from else { return Ok(()) };
        if !stream::ready(from.as_fd(), Direction::Read)? {
            return Ok(());
        }
        self.buffer.clear();
        match stream::read(from.as_fd(), &mut self.buffer) {
            Ok(0) => self.from = None,
            Ok(count) => {
                self.hash.update(&self.buffer);
                self.bytes += count as u64;
                self.pending = 0..count;
                if let Some(copy) = &mut self.copy {
                    copy.add(&self.buffer);
                }
            }
            Err(error) if is_temporary(&error) => {}
            // Linux's word for "the last slave of this pty is closed" (EIO, which has no ErrorKind of its own).
            Err(_) if from.is_terminal() => self.from = None,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        // Asked before every write, however the caller was woken: two relays may share one pipe, and the first of them
        // may just have filled it.
        while !self.pending.is_empty() && stream::ready(self.to.as_fd(), Direction::Write)? {
            let end = self.pending.end.min(self.pending.start + self.chunk);
            match self.to.write(&self.buffer[self.pending.start..end]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.pending.start += count;
                    self.last = self.buffer[self.pending.start - 1];
                }
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.stop(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn stop(&mut self) {
        if self.from.take().is_some()
            && let Some(copy) = &mut self.copy
        {
            // What the command would have gone on to say is not known.
            copy.failure.get_or_insert(ErrorKind::BrokenPipe.into());
        }
        self.pending = 0..0;
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock)
}

/// Where to write, and how much at once: for pipes and terminals a description of our own if there is one to be had
/// (then `write` takes what there is room for), else one that must be handed no more than it surely takes.
fn shared_destination(to: OwnedFd) -> io::Result<(File, usize)> {
    let to = File::from(to);
    let kind = to.metadata()?.file_type();
    if kind.is_fifo() || to.is_terminal() {
        return Ok(match stream::reopen_for_writing(to.as_fd()) {
            Ok(own) => (File::from(own), BUFFER),
            Err(_) => (to, PIPE_BUF),
        });
    }
    let chunk = if kind.is_socket() { PIPE_BUF } else { BUFFER };
    Ok((to, chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{PipeReader, PipeWriter, Read as _, pipe};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;
    use std::thread;

    fn through(to: impl Into<OwnedFd>) -> (PipeWriter, Relay) {
        let (reader, writer) = pipe().unwrap();
        (writer, Relay::outward(reader.into(), to.into()).unwrap())
    }

    /// Advances until the relay is over; the other ends are served by threads.
    fn run(relay: &mut Relay) -> Result<(), RelayError> {
        while relay.waiting_for().is_some() {
            relay.advance()?;
            thread::yield_now();
        }
        Ok(())
    }

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|index| u8::try_from(index * 7 % 251).unwrap()).collect()
    }

    fn feed(mut writer: PipeWriter, bytes: Vec<u8>) -> thread::JoinHandle<io::Result<()>> {
        thread::spawn(move || bytes.chunks(1009).try_for_each(|chunk| writer.write_all(chunk)))
    }

    fn drink(mut reader: impl io::Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        })
    }

    fn fill_up(writer: &PipeWriter) {
        let mut writer = writer.try_clone().unwrap();
        while stream::ready(writer.as_fd(), Direction::Write).unwrap() {
            writer.write_all(&[b'x'; PIPE_BUF]).unwrap();
        }
    }

    #[test]
    fn carries_every_byte_to_a_pipe_a_socket_and_a_file() {
        let bytes = sample(3_000_017);
        let (reader, pipe) = pipe().unwrap();
        let (socket, peer) = UnixStream::pair().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let targets: [OwnedFd; 3] = [pipe.into(), socket.into(), file.reopen().unwrap().into()];
        let drinks = [Some(drink(reader)), Some(drink(peer)), None];
        for (target, drink) in targets.into_iter().zip(drinks) {
            let (writer, mut relay) = through(target);
            let feeder = feed(writer, bytes.clone());
            run(&mut relay).unwrap();
            feeder.join().unwrap().unwrap();
            let summary = relay.summary();
            drop(relay);
            let arrived = drink.map_or_else(|| std::fs::read(file.path()).unwrap(), |drink| drink.join().unwrap());
            assert!(arrived == bytes);
            assert_eq!(summary, Stream { bytes: bytes.len() as u64, sha256: Digest::of(&bytes).hex() });
        }
    }

    #[test]
    fn an_empty_stream_has_the_hash_of_nothing() {
        let (writer, mut relay) = through(File::options().write(true).open("/dev/null").unwrap());
        drop(writer);
        run(&mut relay).unwrap();
        assert_eq!(relay.summary(), Stream { bytes: 0, sha256: Digest::of(b"").hex() });
    }

    #[test]
    fn a_full_destination_stops_the_reading_and_blocks_nobody() {
        let (mut reader, shared) = pipe().unwrap();
        fill_up(&shared);
        let (mut first, mut one) = through(shared.try_clone().unwrap());
        let (mut second, mut two) = through(shared.try_clone().unwrap());
        first.write_all(&sample(5000)).unwrap();
        second.write_all(&sample(5000)).unwrap();
        for relay in [&mut one, &mut two] {
            relay.advance().unwrap();
            relay.advance().unwrap();
            assert_eq!(relay.waiting_for().unwrap().1, Direction::Write);
            assert_eq!(relay.summary().bytes, 5000);
        }
        first.write_all(b"later").unwrap();
        one.advance().unwrap();
        assert_eq!(one.summary().bytes, 5000, "nothing more is read while bytes are waiting");

        // Room for one page: whoever writes it, the other must not block in `write`.
        reader.read_exact(&mut [0; PIPE_BUF]).unwrap();
        one.advance().unwrap();
        two.advance().unwrap();
    }

    #[test]
    fn without_a_description_of_its_own_a_relay_to_a_pipe_still_never_blocks() {
        let (mut reader, shared) = pipe().unwrap();
        let fill = sample(40_000);
        let (source, mut writer) = pipe().unwrap();
        fill_up(&shared);
        let mut relay = Relay::new(source.into(), File::from(OwnedFd::from(shared)), PIPE_BUF);
        writer.write_all(&fill).unwrap();
        relay.advance().unwrap();
        reader.read_exact(&mut [0; 3 * PIPE_BUF]).unwrap();
        relay.advance().unwrap();
        assert_eq!(relay.pending, 3 * PIPE_BUF..40_000);
    }

    #[test]
    fn when_the_reader_is_gone_the_command_gets_its_broken_pipe() {
        let (reader, to) = pipe().unwrap();
        let (mut writer, mut relay) = through(to);
        drop(reader);
        writer.write_all(b"lost").unwrap();
        run(&mut relay).unwrap();
        assert_eq!(writer.write_all(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(relay.summary().bytes, 4);
    }

    #[test]
    fn a_copy_is_what_was_carried_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let bytes = sample(3 * IN_MEMORY);
        let (reader, to) = pipe().unwrap();
        let (mut writer, mut relay) = through(to);
        relay.keep_copy(Copied::new(directory.path()));
        let drink = drink(reader);
        let written = bytes.clone();
        let write = thread::spawn(move || writer.write_all(&written).unwrap());
        run(&mut relay).unwrap();
        write.join().unwrap();
        let mut copied = Vec::new();
        relay.take_copy().unwrap().into_reader().unwrap().read_to_end(&mut copied).unwrap();
        drop(relay);
        assert!(copied == bytes && drink.join().unwrap() == bytes);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);

        // The reader left before the command had said all: what is there is not what it would have said.
        let (reader, to) = pipe().unwrap();
        let (mut writer, mut relay) = through(to);
        relay.keep_copy(Copied::new(directory.path()));
        drop(reader);
        writer.write_all(b"lost").unwrap();
        run(&mut relay).unwrap();
        assert!(relay.take_copy().unwrap().into_reader().is_err());
    }

    #[test]
    fn a_full_disk_is_an_error_and_not_silence() {
        let (mut writer, mut relay) = through(File::options().write(true).open("/dev/full").unwrap());
        writer.write_all(b"lost").unwrap();
        let error = run(&mut relay).unwrap_err();
        assert!(matches!(&error, RelayError::Write(source) if source.kind() == ErrorKind::StorageFull), "{error:?}");
        assert!(relay.waiting_for().is_none());
    }

    #[test]
    fn the_callers_description_stays_blocking() {
        let flags = |fd: &PipeWriter| {
            let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
            info.lines().find(|line| line.starts_with("flags:")).unwrap().to_owned()
        };
        let (_reader, to): (PipeReader, PipeWriter) = pipe().unwrap();
        let before = flags(&to);
        let (_writer, relay) = through(to.try_clone().unwrap());
        assert_eq!(flags(&to), before);
        assert!(relay.waiting_for().is_some());
    }

    #[test]
    fn a_relay_into_the_sandbox_waits_for_a_command_that_does_not_read() {
        let input = tempfile::NamedTempFile::new().unwrap();
        let bytes = sample(300_000);
        std::fs::write(input.path(), &bytes).unwrap();
        let (reader, to) = pipe().unwrap();
        let mut relay = Relay::inward(input.reopen().unwrap().into(), to.into()).unwrap();
        for _ in 0..10 {
            relay.advance().unwrap();
        }
        assert_eq!(relay.waiting_for().unwrap().1, Direction::Write);
        let drink = drink(reader);
        run(&mut relay).unwrap();
        drop(relay);
        assert!(drink.join().unwrap() == bytes);
    }
}
