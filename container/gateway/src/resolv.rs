//! The host's resolvers, for sessions that name none.

use std::net::IpAddr;
use std::path::Path;

/// Where Linux programs look (resolv.conf(5)).
pub const FILE: &str = "/etc/resolv.conf";

/// Resolvers that the C library would use at most (`MAXNS` in resolv.conf(5)).
const MAX: usize = 3;

/// The host's resolvers in order of preference. They may be on loopback or in a private range: it is the gateway that asks
/// them, not its users. Empty when the file is missing.
pub fn host_resolvers() -> Vec<IpAddr> {
    std::fs::read_to_string(Path::new(FILE)).map(|text| parse(&text)).unwrap_or_default()
}

fn parse(text: &str) -> Vec<IpAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        // A scope (`fe80::1%eth0`) needs an interface that nothing here carries on.
        (words.next()? == "nameserver").then(|| words.next()?.parse().ok()).flatten()
    });
    servers.take(MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameservers_are_read_and_everything_else_is_skipped() {
        let text = "# made by hand\nsearch example.org\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\n\
                    nameserver  2001:db8::53 # two spaces\noptions edns0\n;nameserver 9.9.9.9\nnameserver\nnameserver x\n";
        let expected: Vec<IpAddr> = ["127.0.0.53", "2001:db8::53"].map(|a| a.parse().unwrap()).into();
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn no_more_are_used_than_the_c_library_uses() {
        let text = "nameserver 192.0.2.1\n".repeat(9);
        assert_eq!(parse(&text).len(), 3);
    }
}
