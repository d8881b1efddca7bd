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

    /// The header in which Azure says how many requests of this kind are left in the caller's bucket (the same page).
    pub(super) const fn remaining(self) -> &'static str {
        match self {
            Self::Read => "x-ms-ratelimit-remaining-subscription-reads",
            Self::Write => "x-ms-ratelimit-remaining-subscription-writes",
            Self::Delete => "x-ms-ratelimit-remaining-subscription-deletes",
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

impl Bucket {
    fn fill(&mut self, kind: Kind, now: Time) {
        let (most, rate) = kind.limits();
        let tokens = self.tokens + now.since(self.filled_at).as_secs_f64() * rate;
        (self.tokens, self.filled_at) = (tokens.min(most), now);
    }
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
            bucket.fill(kind, now);
            if bucket.tokens < 1.0 {
                let (_, rate) = kind.limits();
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

    /// Takes over what Azure says is left, where that is less than what is known here: others with the same identity, or this
    /// daemon before it was restarted, have taken from the bucket too.
    pub(super) fn heed(&self, subscription: &str, kind: Kind, remaining: &str, now: Time) {
        // What is no number says nothing.
        let Ok(remaining) = remaining.parse::<u32>() else { return };
        self.with(subscription, kind, now, |bucket| {
            bucket.fill(kind, now);
            bucket.tokens = bucket.tokens.min(remaining.into());
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
    fn what_azure_says_is_left_is_believed_when_it_is_less() {
        let budget = Budget::default();
        let left = |now| (0..500).take_while(|_| budget.take("s", Kind::Write, now).is_ok()).count();
        budget.heed("s", Kind::Write, "3", START);
        assert_eq!(left(START), 3, "others have taken the rest");
        budget.heed("s", Kind::Write, "199", START);
        assert_eq!(left(START), 0, "answers arrive late; what was sent since is not in them");
        let later = START + Duration::from_secs(1);
        budget.heed("s", Kind::Write, "many", later);
        assert_eq!(left(later), 10, "the bucket fills as it always does");
    }

    #[test]
    fn the_wait_for_a_turn_is_long_enough() {
        let budget = Budget::default();
        while budget.take("s", Kind::Delete, START).is_ok() {}
        let Err(Wait::ForTurn(wait)) = budget.take("s", Kind::Delete, START) else { panic!("it is empty") };
        assert_eq!(budget.take("s", Kind::Delete, START + wait), Ok(()));
    }
}
