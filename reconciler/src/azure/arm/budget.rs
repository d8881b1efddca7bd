//! How many requests Azure Resource Manager takes.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use azure_core::http::Method;
use ebb_tunnel::Time;

/// How long to wait after a 429 that does not say.
pub(super) const UNSAID: Duration = Duration::from_secs(15);

/// What Azure counts separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Read,
    Write,
    Delete,
}

impl Kind {
    pub(super) fn of(method: Method) -> Self {
        match method {
            Method::Get | Method::Head => Self::Read,
            Method::Delete => Self::Delete,
            // Whatever is not known to be harmless counts as what Azure allows less of.
            _ => Self::Write,
        }
    }

    /// Size of the bucket and tokens a second ("Understand how Azure Resource Manager throttles requests": per subscription,
    /// principal and kind, in every region).
    const fn limits(self) -> (f64, f64) {
        match self {
            Self::Read => (250.0, 25.0),
            Self::Write | Self::Delete => (200.0, 10.0),
        }
    }
}

/// Why a request has to wait, and how long.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// For a token, of which there is one every fraction of a second.
    ForTurn(Duration),
    /// Azure said so. A request before that is refused again and counts.
    AsAzureSaid(Duration),
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Time,
    blocked_until: Option<Time>,
}

/// Buckets as Azure has them, so that no storm of ours ever meets the real ones.
#[derive(Debug, Default)]
pub(super) struct Budget {
    buckets: Mutex<BTreeMap<(String, Kind), Bucket>>,
}

impl Budget {
    /// Takes a token.
    pub(super) fn take(&self, subscription: &str, kind: Kind, now: Time) -> Result<(), Wait> {
        self.with(subscription, kind, now, |bucket| {
            if let Some(until) = bucket.blocked_until.filter(|until| *until > now) {
                return Err(Wait::AsAzureSaid(until.since(now)));
            }
            bucket.blocked_until = None;
            let (most, rate) = kind.limits();
            let tokens = bucket.tokens + now.since(bucket.filled_at).as_secs_f64() * rate;
            (bucket.tokens, bucket.filled_at) = (tokens.min(most), now);
            if bucket.tokens < 1.0 {
                let missing = (1.0 - bucket.tokens) / rate;
                return Err(Wait::ForTurn(Duration::from_secs_f64(missing) + Duration::from_millis(1)));
            }
            bucket.tokens -= 1.0;
            Ok(())
        })
    }

    /// Sends nothing more of this kind for a while.
    pub(super) fn obey(&self, subscription: &str, kind: Kind, wait: Duration, now: Time) {
        self.with(subscription, kind, now, |bucket| {
            bucket.blocked_until = bucket.blocked_until.max(Some(now + wait));
        });
    }

    fn with<T>(&self, subscription: &str, kind: Kind, now: Time, work: impl FnOnce(&mut Bucket) -> T) -> T {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = || Bucket { tokens: kind.limits().0, filled_at: now, blocked_until: None };
        work(buckets.entry((subscription.to_owned(), kind)).or_insert_with(full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::ZERO;

    /// Requests that are let through in `seconds`, if everybody asks all the time.
    fn passed(budget: &Budget, kind: Kind, seconds: u64) -> usize {
        let instants = (0..seconds * 100).map(|hundredth| START + Duration::from_millis(hundredth * 10));
        instants.map(|now| (0..500).take_while(|_| budget.take("s", kind, now).is_ok()).count()).sum()
    }

    #[test]
    fn a_storm_never_exceeds_the_documented_buckets() {
        for (kind, most) in [(Kind::Read, 250 + 25 * 60), (Kind::Write, 200 + 600), (Kind::Delete, 200 + 600)]
        {
            let passed = passed(&Budget::default(), kind, 60);
            assert!((most - 30..=most).contains(&passed), "{kind:?}: {passed}");
        }
    }

    #[test]
    fn after_a_429_nothing_of_that_kind_is_sent_until_azure_allows_it() {
        let budget = Budget::default();
        budget.obey("s", Kind::Write, Duration::from_secs(17), START);
        budget.obey("s", Kind::Write, Duration::from_secs(3), START);
        let later = START + Duration::from_secs(16);
        assert_eq!(budget.take("s", Kind::Write, later), Err(Wait::AsAzureSaid(Duration::from_secs(1))));
        assert_eq!(budget.take("s", Kind::Read, later), Ok(()));
        assert_eq!(budget.take("other", Kind::Write, later), Ok(()));
        assert_eq!(budget.take("s", Kind::Write, START + Duration::from_secs(17)), Ok(()));
    }

    #[test]
    fn the_wait_for_a_turn_is_long_enough() {
        let budget = Budget::default();
        while budget.take("s", Kind::Delete, START).is_ok() {}
        let Err(Wait::ForTurn(wait)) = budget.take("s", Kind::Delete, START) else { panic!("it is empty") };
        assert_eq!(budget.take("s", Kind::Delete, START + wait), Ok(()));
    }
}
