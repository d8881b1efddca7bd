//! Round-trip time and the retransmission timeout (RFC 6298).

use crate::tcp::clock::{MILLISECOND, SECOND};

/// Before the first sample (RFC 6298 2.1).
const INITIAL: u64 = SECOND;
/// What the variance term is worth at least. RFC 6298 2.4 asks for an RTO of a second; every kernel in use has 200 ms on top
/// of the smoothed RTT, which covers the longest delayed acknowledgment in the field, and tail losses are found by the probe
/// of RFC 8985 long before.
const VARIANCE_MIN: u64 = 200 * MILLISECOND;
/// The longest RTO (RFC 6298 2.5 permits a maximum of at least 60 s).
const MAX: u64 = 60 * SECOND;

/// The estimator; all times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rtt {
    smoothed: Option<u64>,
    variance: u64,
    latest: u64,
    /// How often the timeout has doubled (RFC 6298 5.5).
    backoff: u32,
}

impl Rtt {
    /// Takes a sample of a segment that was sent once (Karn's algorithm, RFC 6298 section 3).
    pub fn sample(&mut self, micros: u64) {
        let micros = micros.max(1);
        self.latest = micros;
        match self.smoothed {
            None => {
                self.smoothed = Some(micros);
                self.variance = micros / 2;
            }
            Some(smoothed) => {
                self.variance = (3 * self.variance + smoothed.abs_diff(micros)) / 4;
                self.smoothed = Some((7 * smoothed + micros) / 8);
            }
        }
    }

    pub fn smoothed(&self) -> Option<u64> {
        self.smoothed
    }

    /// The timeout without back-off.
    pub fn base_timeout(&self) -> u64 {
        self.smoothed.map_or(INITIAL, |smoothed| (smoothed + VARIANCE_MIN.max(4 * self.variance)).min(MAX))
    }

    /// The timeout.
    pub fn timeout(&self) -> u64 {
        self.base_timeout().saturating_mul(1 << self.backoff.min(16)).min(MAX)
    }

    pub fn backoff(&self) -> u32 {
        self.backoff
    }

    pub fn back_off(&mut self) {
        self.backoff += 1;
    }

    /// Something new was acknowledged: the path works (RFC 6298 5.3; Linux does the same without a fresh sample).
    pub fn progress(&mut self) {
        self.backoff = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_follows_the_samples_and_doubles_up_to_a_minute() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout(), SECOND);
        rtt.sample(40 * MILLISECOND);
        assert_eq!(rtt.timeout(), 240 * MILLISECOND);
        rtt.sample(440 * MILLISECOND);
        assert_eq!(rtt.smoothed(), Some(90 * MILLISECOND));
        assert_eq!(rtt.timeout(), (90 + 4 * 115) * MILLISECOND);
        for _ in 0..20 {
            rtt.back_off();
        }
        assert_eq!(rtt.timeout(), MAX);
        rtt.progress();
        assert_eq!(rtt.timeout(), rtt.base_timeout());
    }
}
