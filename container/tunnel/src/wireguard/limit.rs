//! How much is computed for handshakes: the load that demands cookies, and a limit per source address for senders that
//! answered one and so own their address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::Time;

/// Handshakes that one address may start in one go.
const BURST: u64 = 5;
/// Time that one more takes; with [`BURST`] the numbers of the Linux module (`ratelimiter.c`: 20 a second, 5 in a burst).
const INTERVAL: Duration = Duration::from_millis(50);
/// Addresses remembered. Beyond it unknown addresses are refused: whoever owns that many can afford to wait.
const ENTRIES: usize = 4096;

/// Handshake messages with a valid first MAC in one second before senders must prove their address with a cookie. Each costs
/// 0.2 ms of computation, so a flood takes a fiftieth of one core until then; and with this many honest handshakes a second a
/// gateway would have 12,000 users.
const PER_SECOND: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// Counts handshake messages. Load lasts until a whole second has passed with few of them.
#[derive(Debug)]
pub(super) struct Load {
    since: Time,
    count: u32,
    /// Whether the second before was one of load.
    before: bool,
}

impl Load {
    pub fn new(now: Time) -> Self {
        Self { since: now, count: 0, before: false }
    }

    /// Counts a message and tells whether there is load.
    pub fn count(&mut self, now: Time) -> bool {
        let passed = now.since(self.since);
        if passed >= SECOND {
            self.before = passed < 2 * SECOND && self.count > PER_SECOND;
            self.since = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.before || self.count > PER_SECOND
    }
}

/// Token buckets by address; IPv6 by /64, which is what one host gets.
#[derive(Debug, Default)]
pub(super) struct SourceLimiter {
    /// When the bucket will be full again.
    full_at: BTreeMap<IpAddr, Time>,
}

impl SourceLimiter {
    /// Whether one more handshake from `from` may be computed; counts it.
    pub fn allow(&mut self, from: IpAddr, now: Time) -> bool {
        let key = match from {
            IpAddr::V4(_) => from,
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & !u128::from(u64::MAX)).into()),
        };
        if self.full_at.len() >= ENTRIES && !self.full_at.contains_key(&key) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= ENTRIES {
                return false;
            }
        }
        let full_at = self.full_at.entry(key).or_insert(now);
        let next = (*full_at).max(now) + INTERVAL;
        let allowed = next <= now + INTERVAL * BURST as u32;
        if allowed {
            *full_at = next;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_begins_with_too_many_and_ends_a_second_after_the_last_of_them() {
        let mut load = Load::new(Time::ZERO);
        assert_eq!((0..150).filter(|ms| load.count(Time::from_millis(*ms))).count(), 50);
        assert!(load.count(Time::from_millis(1000)));
        assert!(load.count(Time::from_millis(1999)));
        assert!(!load.count(Time::from_millis(2000)));
        (0..150).for_each(|_| _ = load.count(Time::from_millis(3000)));
        assert!(!load.count(Time::from_millis(9000)));
    }

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
        let mut limiter = SourceLimiter::default();
        let from = IpAddr::from([192, 0, 2, 1]);
        let now = Time::from_millis(1000);
        assert_eq!((0..100).filter(|_| limiter.allow(from, now)).count(), 5);
        assert!(limiter.allow(IpAddr::from([192, 0, 2, 2]), now));
        let passed = (0..1000).filter(|ms| limiter.allow(from, now + Duration::from_millis(*ms))).count();
        assert_eq!(passed, 19);
    }

    #[test]
    fn addresses_of_one_ipv6_network_share_a_bucket() {
        let mut limiter = SourceLimiter::default();
        let now = Time::ZERO;
        let passed = (0..100_u128)
            .filter(|host| limiter.allow(IpAddr::V6(((0x2001_0db8_u128 << 96) | host).into()), now));
        assert_eq!(passed.count(), 5);
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let mut limiter = SourceLimiter::default();
        let address = |n: u32| IpAddr::V4(n.into());
        for n in 0..10_000 {
            limiter.allow(address(n), Time::ZERO);
        }
        assert_eq!(limiter.full_at.len(), ENTRIES);
        assert!(!limiter.allow(address(20_000), Time::ZERO));
        assert!(limiter.allow(address(20_000), Time::from_millis(100)));
    }
}
