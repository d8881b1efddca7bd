//! Which deliveries count: signed ones, once, and not too many. Pure: the time is an argument.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ebb_tunnel::Time;
use hmac::{Hmac, Mac as _};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// An organisation that pushes all the time stays below one delivery a second; a release pushes dozens of tags at once.
const BURST: u32 = 60;
const ONE_MORE_AFTER: Duration = Duration::from_secs(1);

/// Senders whose pace is remembered. Whoever uses more addresses than that is no sender of webhooks.
const MOST_SENDERS: usize = 1024;

/// Deliveries that are remembered. GitHub redelivers by hand and for three days.
const MOST_REMEMBERED: usize = 4096;

/// Clocks of senders differ by less; a delivery that was caught on its way is worth nothing later.
const WINDOW: SignedDuration = SignedDuration::from_mins(5);

/// HMAC-SHA256 of a delivery.
type Code = [u8; 32];

/// Why a delivery does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// There is no signature, or one in another form than `sha256=` and 64 hexadecimal digits.
    NoSignature,
    /// It was not made with our secret.
    WrongSignature,
    /// It says a time that is too far from ours.
    OutOfTime,
}

/// What came of a delivery that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// It is new.
    New,
    /// It has been here before.
    Repeated,
}

/// What is remembered between deliveries.
pub(super) struct Guard {
    secret: Zeroizing<Vec<u8>>,
    seen: HashSet<Code>,
    order: VecDeque<Code>,
    senders: HashMap<IpAddr, Bucket>,
}

struct Bucket {
    left: u32,
    filled_at: Time,
}

impl Guard {
    pub(super) fn new(secret: Zeroizing<Vec<u8>>) -> Self {
        Self { secret, seen: HashSet::new(), order: VecDeque::new(), senders: HashMap::new() }
    }

    /// Whether a sender may deliver now; if not, when again.
    pub(super) fn admit(&mut self, sender: IpAddr, now: Time) -> Result<(), Duration> {
        if self.senders.len() >= MOST_SENDERS && !self.senders.contains_key(&sender) {
            let full = |bucket: &Bucket| now.since(bucket.filled_at) >= ONE_MORE_AFTER * BURST;
            self.senders.retain(|_, bucket| !full(bucket));
            if self.senders.len() >= MOST_SENDERS {
                return Err(ONE_MORE_AFTER);
            }
        }
        let bucket = self.senders.entry(sender).or_insert(Bucket { left: BURST, filled_at: now });
        let waited = now.since(bucket.filled_at);
        let more = u32::try_from(waited.as_millis() / ONE_MORE_AFTER.as_millis()).unwrap_or(BURST).min(BURST);
        if more > 0 {
            bucket.left = (bucket.left + more).min(BURST);
            bucket.filled_at = now;
        }
        bucket.left = bucket.left.checked_sub(1).ok_or(ONE_MORE_AFTER)?;
        Ok(())
    }

    /// Whether a sender that signs nothing knows the secret. Comparing hashes leaks nothing about it, however long the comparison
    /// takes.
    pub(super) fn knows(&self, secret: &str) -> bool {
        Sha256::digest(&*self.secret) == Sha256::digest(secret)
    }

    /// Judges a delivery of GitHub: the body is signed (`X-Hub-Signature-256`).
    pub(super) fn judge(&mut self, signature: Option<&str>, body: &[u8]) -> Result<Accepted, Refused> {
        self.judge_parts(signature, &[body])
    }

    /// Judges a delivery of anybody else: `timestamp`, a full stop and the body are signed, and the time has to be about now.
    pub(super) fn judge_timed(
        &mut self,
        signature: Option<&str>,
        timestamp: &str,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Accepted, Refused> {
        let accepted = self.judge_parts(signature, &[timestamp.as_bytes(), b".", body])?;
        let at = timestamp.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let in_time = at.is_some_and(|at| now.duration_since(at).abs() <= WINDOW);
        if in_time { Ok(accepted) } else { Err(Refused::OutOfTime) }
    }

    fn judge_parts(&mut self, signature: Option<&str>, parts: &[&[u8]]) -> Result<Accepted, Refused> {
        let code = signature.and_then(read).ok_or(Refused::NoSignature)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).map_err(|_| Refused::WrongSignature)?;
        parts.iter().for_each(|part| mac.update(part));
        // Takes as long for a code that is wrong at its end as for one that is wrong at its beginning.
        mac.verify_slice(&code).map_err(|_| Refused::WrongSignature)?;
        if !self.seen.insert(code) {
            return Ok(Accepted::Repeated);
        }
        self.order.push_back(code);
        if self.order.len() > MOST_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        Ok(Accepted::New)
    }
}

/// Reads `sha256=` and 64 hexadecimal digits.
fn read(signature: &str) -> Option<Code> {
    let digits = signature.strip_prefix("sha256=")?;
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut code = Code::default();
    for (byte, pair) in code.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of "Validating webhook deliveries" in GitHub's documentation.
    const SECRET: &[u8] = b"It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn guard() -> Guard {
        Guard::new(Zeroizing::new(SECRET.to_vec()))
    }

    fn signed(parts: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
        mac.update(parts.as_bytes());
        let code = mac.finalize().into_bytes();
        format!("sha256={}", code.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }

    #[test]
    fn the_example_of_githubs_documentation_counts_once() {
        let mut guard = guard();
        assert_eq!(guard.judge(Some(SIGNATURE), BODY), Ok(Accepted::New));
        assert_eq!(guard.judge(Some(SIGNATURE), BODY), Ok(Accepted::Repeated));
        assert_eq!(
            guard.judge(Some(&SIGNATURE.to_uppercase().replace("SHA", "sha")), BODY),
            Ok(Accepted::Repeated)
        );
    }

    #[test]
    fn any_other_signature_is_refused() {
        let mut guard = guard();
        let wrong = SIGNATURE.replace("757107", "757108");
        assert_eq!(guard.judge(Some(&wrong), BODY), Err(Refused::WrongSignature));
        assert_eq!(guard.judge(Some(SIGNATURE), b"Hello, World?"), Err(Refused::WrongSignature));
        for odd in [
            "",
            "sha256=",
            "sha1=7571",
            &SIGNATURE[7..],
            &SIGNATURE[..70],
            &format!("{SIGNATURE}0"),
            "sha256=+",
        ] {
            assert_eq!(guard.judge(Some(odd), BODY), Err(Refused::NoSignature), "{odd}");
        }
        assert_eq!(guard.judge(None, BODY), Err(Refused::NoSignature));
        let mut other = Guard::new(Zeroizing::new(b"another secret".to_vec()));
        assert_eq!(other.judge(Some(SIGNATURE), BODY), Err(Refused::WrongSignature));
    }

    #[test]
    fn a_timed_delivery_counts_within_five_minutes_and_once() {
        let mut guard = guard();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let mut judge = |seconds: i64| {
            let timestamp = (1_800_000_000 + seconds).to_string();
            guard.judge_timed(Some(&signed(&format!("{timestamp}.{{}}"))), &timestamp, b"{}", now)
        };
        assert_eq!(judge(0), Ok(Accepted::New));
        assert_eq!(judge(0), Ok(Accepted::Repeated));
        assert_eq!(judge(-300), Ok(Accepted::New));
        assert_eq!(judge(-301), Err(Refused::OutOfTime));
        assert_eq!(judge(301), Err(Refused::OutOfTime));
        let moved = guard.judge_timed(Some(&signed("1800000000.{}")), "1800000001", b"{}", now);
        assert_eq!(moved, Err(Refused::WrongSignature), "the time is signed too");
    }

    #[test]
    fn a_sender_may_deliver_in_bursts_but_not_all_the_time() {
        let mut guard = guard();
        let [fast, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let admitted = (0..1000).filter(|_| guard.admit(fast, Time::ZERO).is_ok()).count();
        assert_eq!(admitted, 60);
        assert_eq!(guard.admit(other, Time::ZERO), Ok(()));
        let later = Time::ZERO + Duration::from_secs(10);
        let admitted = (0..1000).filter(|_| guard.admit(fast, later).is_ok()).count();
        assert_eq!(admitted, 10);
    }

    #[test]
    fn only_the_whole_secret_is_the_secret() {
        let guard = guard();
        assert!(guard.knows("It's a Secret to Everybody"));
        for wrong in
            ["", "It's a Secret to Everybod", "It's a Secret to Everybody ", "it's a Secret to Everybody"]
        {
            assert!(!guard.knows(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut guard = guard();
        for number in 0..2 * MOST_REMEMBERED {
            let body = number.to_string();
            assert_eq!(guard.judge(Some(&signed(&body)), body.as_bytes()), Ok(Accepted::New));
        }
        assert_eq!((guard.seen.len(), guard.order.len()), (MOST_REMEMBERED, MOST_REMEMBERED));
        for number in 0..2 * u32::try_from(MOST_SENDERS).unwrap() {
            let _ = guard.admit(IpAddr::from(number.to_be_bytes()), Time::ZERO);
        }
        assert_eq!(guard.senders.len(), MOST_SENDERS);
        let later = Time::ZERO + Duration::from_secs(60);
        assert_eq!(guard.admit("203.0.113.1".parse().unwrap(), later), Ok(()), "old senders make room");
    }
}
