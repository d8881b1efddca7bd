//! What routers and hosts said about datagrams that a socket sent, as the kernel keeps it for the socket.

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};

use ebb_tunnel::packet::icmp;
use nix::sys::socket::sockopt::{Ipv4RecvErr, Ipv6RecvErr};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt};
use rustix::io::Errno;

/// `SO_EE_ORIGIN_ICMP` and `SO_EE_ORIGIN_ICMP6` of `linux/errqueue.h`: the error came in a packet.
const FROM_A_PACKET: [u8; 2] = [2, 3];

/// Bytes of the datagram that come back with the error. Enough for an ICMP echo header or a UDP user's first words.
const QUOTED: usize = 64;

/// Space for everything the kernel tells about it: besides the error also where and when it came, if the socket asked for
/// that on receiving.
const CONTROL: usize = 512;

/// An error about one datagram.
#[derive(Clone, Copy, Debug)]
pub struct Undelivered {
    /// Where the datagram went.
    pub to: SocketAddr,
    /// What became of it.
    pub error: icmp::Error,
    data: [u8; QUOTED],
    length: usize,
}

impl Undelivered {
    /// How the datagram began.
    pub fn data(&self) -> &[u8] {
        &self.data[..self.length]
    }
}

/// Asks the kernel to keep errors for a socket.
pub fn keep(socket: impl AsFd, v6: bool) -> nix::Result<()> {
    if v6 { setsockopt(&socket, Ipv6RecvErr, &true) } else { setsockopt(&socket, Ipv4RecvErr, &true) }
}

/// The next error that users can do something with; `None` when there is none.
pub fn take(socket: impl AsFd) -> Option<Undelivered> {
    let mut data = [0; QUOTED];
    let mut control = [0; CONTROL];
    loop {
        let mut slices = [IoSliceMut::new(&mut data)];
        let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
        let fd = socket.as_fd().as_raw_fd();
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags).ok()?;
        let to = message.address.as_ref().and_then(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| SocketAddr::from((v4.ip(), v4.port())));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddr::from((v6.ip(), v6.port()))))
        });
        let length = message.bytes.min(QUOTED);
        let cause = message.cmsgs().ok()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4RecvErr(cause, _) | ControlMessageOwned::Ipv6RecvErr(cause, _) => {
                Some((cause.ee_errno, cause.ee_origin))
            }
            _ => None,
        });
        let (Some(to), Some((errno, origin))) = (to, cause) else { continue };
        if !FROM_A_PACKET.contains(&origin) {
            continue;
        }
        let Some(error) = from_errno(Errno::from_raw_os_error(errno as i32)) else { continue };
        return Some(Undelivered { to, error, data, length });
    }
}

/// The word of ICMP for an error of the kernel.
pub fn from_errno(errno: Errno) -> Option<icmp::Error> {
    match errno {
        Errno::CONNREFUSED => Some(icmp::Error::Port),
        Errno::HOSTUNREACH | Errno::HOSTDOWN => Some(icmp::Error::Host),
        Errno::NETUNREACH | Errno::NETDOWN | Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL => {
            Some(icmp::Error::NoRoute)
        }
        Errno::ACCESS | Errno::PERM => Some(icmp::Error::Prohibited),
        Errno::PROTONOSUPPORT | Errno::NOPROTOOPT => Some(icmp::Error::Protocol),
        _ => None,
    }
}
