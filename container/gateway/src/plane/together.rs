//! Several datagrams, or chains of them, in one system call (sendmmsg(2)).

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

/// Messages of one call at most. More would save little: the call itself is a small part of what each message costs.
pub const MESSAGES: usize = 16;

/// What all messages of a call share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// Bytes of each datagram that the kernel cuts a message into (UDP_SEGMENT, udp(7)); `None` for a datagram.
    pub segment: Option<u16>,
    /// The local address to send from, in the family of the socket.
    pub source: Option<IpAddr>,
}

impl Manner {
    const KINDS: usize = 6;

    /// Which headers it needs: their control messages differ in length.
    fn kind(self) -> usize {
        let source = self.source.map_or(0, |source| if source.is_ipv4() { 1 } else { 2 });
        source * 2 + usize::from(self.segment.is_some())
    }

    fn headers(self) -> MultiHeaders<SockaddrStorage> {
        let control = match (self.segment, self.source) {
            (None, None) => None,
            (Some(_), None) => Some(cmsg_space!(u16)),
            (None, Some(IpAddr::V4(_))) => Some(cmsg_space!(libc::in_pktinfo)),
            (None, Some(IpAddr::V6(_))) => Some(cmsg_space!(libc::in6_pktinfo)),
            (Some(_), Some(IpAddr::V4(_))) => Some(cmsg_space!(u16, libc::in_pktinfo)),
            (Some(_), Some(IpAddr::V6(_))) => Some(cmsg_space!(u16, libc::in6_pktinfo)),
        };
        MultiHeaders::preallocate(MESSAGES, control)
    }
}

thread_local! {
    /// Headers that were used before. They hold pointers and so belong to the thread of their loop.
    static HEADERS: RefCell<[Option<MultiHeaders<SockaddrStorage>>; Manner::KINDS]> = RefCell::default();
}

/// Sends the first [`MESSAGES`] of `messages`, each with its destination, and returns how many the kernel took.
///
/// # Errors
/// What is wrong with the first of them; nothing was sent then. What is wrong with a later one is found when it is the first.
pub fn send<'a>(
    socket: &UdpSocket,
    messages: impl IntoIterator<Item = (&'a [u8], SocketAddr)>,
    manner: Manner,
) -> io::Result<usize> {
    let mut slices = [[IoSlice::new(&[])]; MESSAGES];
    let mut destinations = [None; MESSAGES];
    let mut count = 0;
    for (place, (contents, destination)) in slices.iter_mut().zip(&mut destinations).zip(messages) {
        *place.0 = [IoSlice::new(contents)];
        *place.1 = Some(SockaddrStorage::from(destination));
        count += 1;
    }
    let segment = manner.segment.as_ref().map(ControlMessage::UdpGsoSegments);
    let (v4, v6);
    let source = match manner.source {
        Some(IpAddr::V4(ip)) => {
            let none = libc::in_addr { s_addr: 0 };
            let source = libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
            v4 = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: none };
            Some(ControlMessage::Ipv4PacketInfo(&v4))
        }
        Some(IpAddr::V6(ip)) => {
            let source = libc::in6_addr { s6_addr: ip.octets() };
            v6 = libc::in6_pktinfo { ipi6_addr: source, ipi6_ifindex: 0 };
            Some(ControlMessage::Ipv6PacketInfo(&v6))
        }
        None => None,
    };
    let (slices, destinations, fd) = (&slices[..count], &destinations[..count], socket.as_raw_fd());
    HEADERS.with_borrow_mut(|headers| {
        let headers = headers[manner.kind()].get_or_insert_with(|| manner.headers());
        let sent = match (segment, source) {
            (None, None) => sendmmsg(fd, headers, slices, destinations, [], MsgFlags::empty()),
            (Some(one), None) | (None, Some(one)) => {
                sendmmsg(fd, headers, slices, destinations, [one], MsgFlags::empty())
            }
            (Some(one), Some(other)) => {
                sendmmsg(fd, headers, slices, destinations, [one, other], MsgFlags::empty())
            }
        };
        Ok(sent?.count())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three chains of two segments each to every destination arrive, cut and with the source that was asked for.
    #[test]
    fn every_form_of_message_arrives_whole_and_from_where_it_was_told_to() {
        for (local, ours) in [("127.0.0.1:0", "0.0.0.0:0"), ("[::1]:0", "[::]:0"), ("127.0.0.1:0", "[::]:0")]
        {
            let receivers = [(); 2].map(|()| UdpSocket::bind(local).unwrap());
            let socket = UdpSocket::bind(ours).unwrap();
            let place = |receiver: &UdpSocket| match (receiver.local_addr().unwrap(), ours) {
                (SocketAddr::V4(v4), "[::]:0") => SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port()),
                (address, _) => address,
            };
            let bytes: Vec<u8> = (0..180).collect();
            for segment in [None, Some(20)] {
                for source in [None, Some(place(&receivers[0]).ip())] {
                    let messages = bytes.chunks(30).zip(receivers.iter().cycle().map(place));
                    let sent = send(&socket, messages, Manner { segment, source }).unwrap();
                    assert_eq!(sent, 6);
                    let mut buffer = [0; 64];
                    let mut received = [Vec::new(), Vec::new()];
                    let datagrams = if segment.is_some() { 6 } else { 3 };
                    for (receiver, received) in receivers.iter().zip(&mut received) {
                        for _ in 0..datagrams {
                            let (length, from) = receiver.recv_from(&mut buffer).unwrap();
                            assert!(length <= segment.map_or(30, usize::from));
                            assert_eq!(from.ip(), receiver.local_addr().unwrap().ip());
                            received.extend_from_slice(&buffer[..length]);
                        }
                    }
                    let expected =
                        |which| bytes.chunks(30).skip(which).step_by(2).collect::<Vec<_>>().concat();
                    assert_eq!(received, [expected(0), expected(1)]);
                }
            }
        }
    }

    #[test]
    fn what_the_kernel_does_not_take_is_not_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let good = receiver.local_addr().unwrap();
        let too_long = vec![0; 70_000];
        let manner = Manner { segment: None, source: None };
        let messages = [(&b"one"[..], good), (b"two", good), (&too_long, good), (b"four", good)];
        assert_eq!(send(&socket, messages, manner).unwrap(), 2);
        let error = send(&socket, messages[2..].iter().copied(), manner).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        assert_eq!(send(&socket, std::iter::repeat_n(messages[3], 100), manner).unwrap(), MESSAGES);
    }
}
