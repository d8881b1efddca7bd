//! What this machine can do: said once at the start, because nobody can log in and look.

use std::net::{Ipv6Addr, SocketAddr};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// Kernel versions that corrupt chains of datagrams of equal length (fixed in 7.1.5; tailscale/tailscale issue 19777).
const BROKEN_SEGMENTATION: std::ops::RangeInclusive<(u32, u32, u32)> = (7, 0, 0)..=(7, 1, 4);

/// What was found.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Version of the kernel as it calls itself.
    pub kernel: String,
    /// Whether that kernel can be trusted with UDP_SEGMENT.
    pub segmentation: bool,
    /// Whether users' IPv4 pings can be carried on (`net.ipv4.ping_group_range`).
    pub ping_v4: bool,
    /// The same for IPv6.
    pub ping_v6: bool,
    /// Whether there is a way to the IPv6 Internet.
    pub route_v6: bool,
    /// Files that may be open, after the limit was raised as far as allowed.
    pub files: usize,
}

impl Machine {
    /// Looks at the machine, and raises the limit on open files to the hard one.
    #[must_use]
    pub fn probe() -> Self {
        let kernel = nix::sys::utsname::uname()
            .map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned());
        Self {
            segmentation: !version(&kernel).is_some_and(|version| BROKEN_SEGMENTATION.contains(&version)),
            ping_v4: can_ping(Domain::IPV4),
            ping_v6: can_ping(Domain::IPV6),
            route_v6: has_route_v6(),
            files: raise_files(),
            kernel,
        }
    }
}

fn version(release: &str) -> Option<(u32, u32, u32)> {
    let numbers = release.split(|c: char| !c.is_ascii_digit()).take(3);
    let mut numbers = numbers.map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next().flatten().unwrap_or(0)))
}

fn can_ping(domain: Domain) -> bool {
    let protocol = if domain == Domain::IPV4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    Socket::new(domain, Type::DGRAM.cloexec(), Some(protocol)).is_ok()
}

/// Connecting a UDP socket asks the routing table and sends nothing.
fn has_route_v6() -> bool {
    // One of the root name servers' networks; any global address would do.
    let somewhere = SocketAddr::from((Ipv6Addr::new(0x2001, 0x500, 0x2f, 0, 0, 0, 0, 0xf), 53));
    Socket::new(Domain::IPV6, Type::DGRAM.cloexec(), Some(Protocol::UDP))
        .and_then(|socket| socket.connect(&somewhere.into()))
        .is_ok()
}

fn raise_files() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
    usize::try_from(raised).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_corrupt_chains_are_recognised() {
        for (release, broken) in [
            ("6.18.44-fc-v595", false),
            ("7.0.0", true),
            ("7.0.12-azure", true),
            ("7.1.4", true),
            ("7.1.5", false),
            ("7.1", true),
            ("7.2.0-rc1", false),
            ("5.15.0-1091-azure", false),
        ] {
            let version = version(release).unwrap();
            assert_eq!(BROKEN_SEGMENTATION.contains(&version), broken, "{release}");
        }
        assert_eq!(version("linux"), None);
    }

    #[test]
    fn the_probe_comes_back_with_the_kernels_name() {
        let machine = Machine::probe();
        assert!(version(&machine.kernel).is_some());
        assert!(machine.files >= 256);
    }
}
