//! The control channel between a launcher and PID 1: a pair of sequenced-packet sockets that also carry descriptors
//! (unix(7)). Neither side allocates.
#![expect(unsafe_code, reason = "SCM_RIGHTS control messages are laid out by hand so that a child can send them")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::errno::{Call, CallError, Errno, check};

/// How many descriptors one message can carry.
pub const MOST_DESCRIPTORS: usize = 3;

const CONTROL_LENGTH: usize = 64;
#[repr(C, align(8))]
struct Control([u8; CONTROL_LENGTH]);

/// Two connected ends, both close-on-exec. A message is received whole or not at all; the peer's end is an empty read.
///
/// # Errors
/// As socketpair(2).
pub fn pair() -> Result<(OwnedFd, OwnedFd), CallError> {
    let mut ends = [-1; 2];
    check(
        Call::socketpair,
        // SAFETY: a valid place for two descriptors.
        unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, ends.as_mut_ptr()) }
            .into(),
    )?;
    // SAFETY: two new descriptors of ours.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Sends one message with up to [`MOST_DESCRIPTORS`] descriptors.
///
/// # Errors
/// EPIPE when the peer is gone; as sendmsg(2).
///
/// # Panics
/// With more descriptors than that.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), CallError> {
    assert!(descriptors.len() <= MOST_DESCRIPTORS, "at most {MOST_DESCRIPTORS} descriptors in a message");
    let mut numbers = [-1; MOST_DESCRIPTORS];
    for (number, descriptor) in numbers.iter_mut().zip(descriptors) {
        *number = descriptor.as_raw_fd();
    }
    let mut control = Control([0; CONTROL_LENGTH]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain integers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let payload = (size_of::<i32>() * descriptors.len()) as u32;
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: pure arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(payload) } as usize;
        // SAFETY: the control buffer is aligned, zeroed, and large enough for one header and three descriptors, so the
        // first header and its data lie within it.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
            std::ptr::copy_nonoverlapping(numbers.as_ptr().cast::<u8>(), libc::CMSG_DATA(header), payload as usize);
        }
    }
    loop {
        // SAFETY: everything that the message points to is alive here.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match check(Call::sendmsg, sent as libc::c_long) {
            Ok(_) => return Ok(()),
            Err(error) if error.errno == Errno::EINTR => {}
            Err(error) => return Err(error),
        }
    }
}

/// Ends the connection for both sides; descriptors of it stay open.
pub fn hang_up(socket: BorrowedFd<'_>) {
    // SAFETY: an open descriptor and an integer. It fails only when the peer is gone, which is as good.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

/// One received message.
#[derive(Debug, Default)]
pub struct Received {
    /// How many bytes of the buffer it filled; 0 when the peer is gone.
    pub length: usize,
    /// The descriptors that came with it, close-on-exec.
    pub descriptors: [Option<OwnedFd>; MOST_DESCRIPTORS],
}

/// Receives one message without waiting; `None` when there is none yet.
///
/// # Errors
/// As recvmsg(2).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Received>, CallError> {
    let mut control = Control([0; CONTROL_LENGTH]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain integers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    // SAFETY: pure arithmetic. Room for as many as we take and, for it is rounded up to a long, one more at most, which
    // is closed below; the kernel closes what does not fit.
    message.msg_controllen = unsafe { libc::CMSG_SPACE((size_of::<i32>() * MOST_DESCRIPTORS) as u32) } as usize;
    let length = loop {
        // SAFETY: everything that the message points to is alive and writable here.
        let got =
            unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT) };
        match check(Call::recvmsg, got as libc::c_long) {
            Ok(length) => break length as usize,
            Err(error) if error.errno == Errno::EINTR => {}
            Err(error) if error.errno == Errno::EAGAIN => return Ok(None),
            // The peer ended with a message of ours unread.
            Err(error) if error.errno == Errno(libc::ECONNRESET) => break 0,
            Err(error) => return Err(error),
        }
    };
    let mut received = Received { length, ..Received::default() };
    // SAFETY: the kernel wrote well-formed headers into the control buffer; each SCM_RIGHTS payload is an array of new
    // descriptors that belong to us, read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        let mut place = 0;
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let count = ((*header).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<i32>();
                for index in 0..count {
                    let number = libc::CMSG_DATA(header).cast::<i32>().add(index).read_unaligned();
                    let descriptor = OwnedFd::from_raw_fd(number);
                    if let Some(slot) = received.descriptors.get_mut(place) {
                        *slot = Some(descriptor);
                        place += 1;
                    }
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Some(received))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_arrive_and_work() {
        let (here, there) = pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        send(here.as_fd(), b"hello", &[file.as_fd(), here.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let received = receive(there.as_fd(), &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..received.length], b"hello");
        let [Some(copy), Some(_), None] = received.descriptors else { panic!("two descriptors") };
        std::fs::File::from(copy).write_all(b"x").unwrap();
        let mut text = String::new();
        use std::io::Seek;
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn an_empty_channel_says_so_and_a_closed_one_ends() {
        let (here, there) = pair().unwrap();
        assert!(receive(here.as_fd(), &mut [0; 4]).unwrap().is_none());
        drop(there);
        assert_eq!(receive(here.as_fd(), &mut [0; 4]).unwrap().unwrap().length, 0);
        assert_eq!(send(here.as_fd(), b"x", &[]).unwrap_err().errno, Errno(libc::EPIPE));
    }
}
