//! How long things take.

use jiff::SignedDuration;
use rand::RngExt as _;
use rand::rngs::StdRng;

/// Durations of everything that takes time. The defaults are round numbers near what Azure shows, so that golden files read well.
#[derive(Debug, Clone)]
pub struct Pace {
    /// A listing.
    pub list: SignedDuration,
    /// A call that creates or deletes, until it has its effect, and the same again until it is answered.
    pub call: SignedDuration,
    /// From an accepted create to a running gateway.
    pub boot: SignedDuration,
    /// From an accepted delete to nothing.
    pub gone: SignedDuration,
    /// A question to a gateway and its answer.
    pub ask: SignedDuration,
    /// Until a caller gives up on a call without an answer.
    pub give_up: SignedDuration,
    /// From a trigger to the pass, so that triggers that come together cause one pass.
    pub coalesce: SignedDuration,
    /// Between listings while anything moves.
    pub list_while_moving: SignedDuration,
    /// Between listings otherwise.
    pub list_at_rest: SignedDuration,
    /// A pass is made at least this often.
    pub resync: SignedDuration,
    /// From a crash of the daemon to its next start.
    pub restart: SignedDuration,
    /// Scale durations at random, each time anew.
    pub vary: bool,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            list: SignedDuration::from_millis(100),
            call: SignedDuration::from_millis(500),
            boot: SignedDuration::from_secs(20),
            gone: SignedDuration::from_secs(5),
            ask: SignedDuration::from_millis(40),
            give_up: SignedDuration::from_secs(5),
            coalesce: SignedDuration::from_millis(10),
            list_while_moving: SignedDuration::from_secs(2),
            list_at_rest: SignedDuration::from_secs(30),
            resync: SignedDuration::from_secs(60),
            restart: SignedDuration::from_secs(3),
            vary: false,
        }
    }
}

impl Pace {
    /// The duration as it is this time: between a fifth of `usual` and three times as long.
    pub fn this_time(&self, usual: SignedDuration, rng: &mut StdRng) -> SignedDuration {
        if !self.vary {
            return usual;
        }
        let millis = u64::try_from(usual.as_millis()).unwrap_or(0);
        let scaled = rng.random_range(millis / 5..=millis * 3);
        SignedDuration::from_millis(i64::try_from(scaled).unwrap_or(i64::MAX))
    }
}
