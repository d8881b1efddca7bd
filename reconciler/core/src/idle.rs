//! The idle verdict: is anybody using this session?
//!
//! Three answers, not two. `Unknown` never ends a session: missing, stale or contradictory telemetry says nothing about use,
//! and a session that is torn down under its user costs more than one that bills a little longer.

use ebb_desired_state::{Idle, Signal};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::evidence::{Disagreement, Evidence, Moment, Place, Report};

/// Three polls at the slowest pace ([`POLL_INTERVAL`]) may fail before telemetry counts as stale.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_secs(45);

/// The gateway prints a line a minute, and the log is read about as often; twice that, and a little.
pub const STALE_LOGS_AFTER: SignedDuration = SignedDuration::from_secs(150);

/// Slowest pace at which gateways are asked. Together with [`IDLE_GRACE`] it keeps an idle session from outliving its timeout
/// by more than half a minute, and three gateways asked at this pace stay well under the 1,000 bytes a second below which
/// Container Apps bills the daemon as idle.
pub const POLL_INTERVAL: SignedDuration = SignedDuration::from_secs(15);

/// Between "silent for its timeout" and the teardown there is one more look at fresh telemetry, this much later.
pub const IDLE_GRACE: SignedDuration = SignedDuration::from_secs(10);

/// How long a session that has just become usable waits for its first user. People fetch a config or scan a QR code first.
pub const FIRST_HANDSHAKE_GRACE: SignedDuration = SignedDuration::from_mins(5);

/// A report from the future by more than this means that the clock was set back.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// What the record remembers, as far as it bears on use. Moments of the present run are on the gateway's clock, so that setting
/// the daemon's clock makes nobody idle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory<'a> {
    /// When the session became usable.
    pub ready: Option<&'a Moment>,
    /// When a user's first handshake was seen.
    pub first_handshake: Option<&'a Moment>,
    /// When somebody last asked for the session or changed it. Whoever did so has a whole timeout to make use of it.
    pub renewed_at: Timestamp,
}

/// Whether a session is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum Verdict {
    /// It is, or was too recently to say otherwise.
    Active {
        /// When the verdict can turn at the earliest. `None` while something is open that need not be asked about sooner
        /// than usual.
        until: Option<Timestamp>,
        /// What shows it.
        proof: Proof,
    },
    /// It is not.
    Idle {
        /// Since when.
        since: Timestamp,
        /// What shows it.
        evidence: Proof,
    },
    /// Nobody can say.
    Unknown {
        /// Why not.
        why: Doubt,
    },
}

/// The observation behind a verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "seen", rename_all = "camelCase")]
pub enum Proof {
    /// TCP connections of users are open.
    OpenFlows {
        /// How many.
        flows: u32,
    },
    /// The last data packet of any user.
    Data {
        /// When.
        at: Timestamp,
    },
    /// The last handshake of any user.
    Handshake {
        /// When.
        at: Timestamp,
    },
    /// A user connected and sent nothing.
    NoDataSinceHandshake {
        /// When the user's first handshake was seen.
        at: Timestamp,
    },
    /// Somebody asked for the session or changed it, and nobody has used it since.
    Renewed {
        /// When.
        at: Timestamp,
    },
    /// No user has connected.
    NoHandshake {
        /// When the session became usable.
        since: Timestamp,
    },
}

/// Why nobody can say whether a session is in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doubt", rename_all = "camelCase")]
pub enum Doubt {
    /// The gateway has not reported.
    NoTelemetry,
    /// Its last report is too old.
    Stale {
        /// When that was.
        taken_at: Timestamp,
    },
    /// The report comes from the future: the daemon's clock was set back.
    ClockJump {
        /// The time on the report.
        taken_at: Timestamp,
    },
    /// The gateway restarted and has not been up for a whole idle timeout, so it cannot know.
    Restarted {
        /// When it restarted.
        at: Timestamp,
    },
    /// Two reports exclude each other; nobody can say which one is the gateway's.
    Contradiction {
        /// In what.
        what: String,
    },
}

impl std::fmt::Display for Doubt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTelemetry => f.write_str("the gateway has not reported yet"),
            Self::Stale { taken_at } => write!(f, "its last report is of {taken_at}"),
            Self::ClockJump { taken_at } => {
                write!(
                    f,
                    "its last report is of {taken_at}, in the future: this machine's clock was set back"
                )
            }
            Self::Restarted { at } => {
                write!(f, "the gateway restarted at {at} and has not been up for a whole idle timeout")
            }
            Self::Contradiction { what } => f.write_str(what),
        }
    }
}

/// Judges the use of one session.
///
/// # Guarantees
/// [`Verdict::Idle`] is returned only if a report no older than [`STALE_AFTER`] (from the log: [`STALE_LOGS_AFTER`]) shows
/// that for the whole idle timeout before the report no user sent or received what the signal counts, and the gateway was up
/// for that whole time.
#[must_use]
pub fn verdict(idle: &Idle, memory: &Memory<'_>, evidence: Option<&Evidence>, now: Timestamp) -> Verdict {
    let Some(report) = evidence.and_then(|evidence| evidence.report.as_ref()) else {
        return Verdict::Unknown { why: Doubt::NoTelemetry };
    };
    let contradiction = evidence.and_then(Evidence::disagreement).filter(|found| match found {
        // The log alone is evidence enough.
        Disagreement::Unreachable { .. } => false,
        Disagreement::TwoGateways { .. } | Disagreement::Rewound => true,
    });
    if let Some(found) = contradiction {
        return Verdict::Unknown { why: Doubt::Contradiction { what: found.to_string() } };
    }
    if let Some(why) = distrust(report, now) {
        return Verdict::Unknown { why };
    }
    if idle.signal == Signal::Traffic && report.open_flows() > 0 {
        return Verdict::Active { until: None, proof: Proof::OpenFlows { flows: report.open_flows() } };
    }
    // A timeout is at most a day.
    let timeout = SignedDuration::try_from(idle.timeout).unwrap_or(SignedDuration::MAX);
    let (used_at, proof) = last_use(idle.signal, memory, report);
    // A gateway knows nothing of the time before it started.
    let used_at = used_at.max(report.started_at);
    let timeout = match proof {
        Proof::NoHandshake { .. } => timeout.max(FIRST_HANDSHAKE_GRACE),
        Proof::OpenFlows { .. }
        | Proof::Data { .. }
        | Proof::Handshake { .. }
        | Proof::Renewed { .. }
        | Proof::NoDataSinceHandshake { .. } => timeout,
    };
    let (since, proof) = if memory.renewed_at > used_at {
        (memory.renewed_at, Proof::Renewed { at: memory.renewed_at })
    } else {
        (used_at, proof)
    };
    if report.taken_at.duration_since(since) >= timeout {
        return Verdict::Idle { since, evidence: proof };
    }
    let restarted = memory.ready.is_some_and(|ready| ready.boot != report.boot);
    if restarted && since == report.started_at {
        return Verdict::Unknown { why: Doubt::Restarted { at: report.started_at } };
    }
    Verdict::Active { until: since.checked_add(timeout).ok(), proof }
}

fn distrust(report: &Report, now: Timestamp) -> Option<Doubt> {
    let age = now.duration_since(report.taken_at);
    let bound = match report.place {
        Place::Tunnel => STALE_AFTER,
        Place::Logs => STALE_LOGS_AFTER,
    };
    if age > bound {
        Some(Doubt::Stale { taken_at: report.taken_at })
    } else if age < -CLOCK_TOLERANCE {
        Some(Doubt::ClockJump { taken_at: report.taken_at })
    } else {
        None
    }
}

fn last_use(signal: Signal, memory: &Memory<'_>, report: &Report) -> (Timestamp, Proof) {
    let ready_at = memory.ready.map_or(report.started_at, |ready| report.time_of(ready));
    let first = memory.first_handshake.map(|moment| report.time_of(moment));
    let Some(connected_at) = first.or(report.last_handshake()) else {
        return (ready_at, Proof::NoHandshake { since: ready_at });
    };
    let floor = ready_at.max(connected_at);
    match signal {
        Signal::Traffic => match report.last_data() {
            Some(at) => (floor.max(at), Proof::Data { at }),
            None => (floor, Proof::NoDataSinceHandshake { at: connected_at }),
        },
        Signal::Handshake => {
            let at = report.last_handshake().unwrap_or(connected_at);
            (floor.max(at), Proof::Handshake { at })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ebb_wire::PublicKey;
    use proptest::prelude::*;

    use super::*;
    use crate::evidence::PeerReport;

    const TIMEOUT: i64 = 600;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + second).unwrap()
    }

    fn idle(signal: Signal) -> Idle {
        Idle { timeout: Duration::from_secs(TIMEOUT.unsigned_abs()), signal }
    }

    /// A moment of a gateway that started 10 s before the session became usable at 0.
    fn moment(second: u64) -> Moment {
        Moment { boot: "one".into(), uptime_ms: (10 + second) * 1000 }
    }

    /// What is remembered of a run whose first handshake was seen at `first_handshake`.
    fn with_memory<T>(first_handshake: Option<u64>, renewed: i64, test: impl FnOnce(&Memory<'_>) -> T) -> T {
        let (ready, first) = (moment(0), first_handshake.map(moment));
        test(&Memory { ready: Some(&ready), first_handshake: first.as_ref(), renewed_at: at(renewed) })
    }

    fn peer(handshake: Option<i64>, data: Option<i64>, open_flows: u32) -> PeerReport {
        PeerReport {
            handshake_at: handshake.map(at),
            data_at: data.map(at),
            received_bytes: 0,
            sent_bytes: 0,
            open_flows,
            endpoint: None,
        }
    }

    fn evidence(taken: i64, started: i64, peers: &[PeerReport]) -> Evidence {
        let peers = (1_u8..).zip(peers).map(|(n, peer)| (PublicKey::from([n; 32]), peer.clone())).collect();
        Evidence {
            run: "run".to_owned().into(),
            handshake_at: Some(at(taken)),
            report: Some(Report {
                taken_at: at(taken),
                place: Place::Tunnel,
                boot: "one".into(),
                started_at: at(started),
                generation: None,
                digest: None,
                peers,
                flows: 0,
                buffered_bytes: 0,
                refused: 0,
            }),
            other: None,
            error: None,
        }
    }

    fn judge(signal: Signal, evidence: &Evidence, now: i64) -> Verdict {
        with_memory(Some(5), -10, |memory| verdict(&idle(signal), memory, Some(evidence), at(now)))
    }

    fn is_idle(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Idle { .. })
    }

    #[test]
    fn no_telemetry_is_unknown() {
        let verdict =
            with_memory(Some(5), 0, |memory| verdict(&idle(Signal::Traffic), memory, None, at(99_999)));
        assert_eq!(verdict, Verdict::Unknown { why: Doubt::NoTelemetry });
    }

    #[test]
    fn stale_telemetry_is_unknown_however_idle_it_looked() {
        let evidence = evidence(5000, -10, &[peer(Some(100), Some(100), 0)]);
        assert!(is_idle(&judge(Signal::Traffic, &evidence, 5045)));
        assert_eq!(
            judge(Signal::Traffic, &evidence, 5046),
            Verdict::Unknown { why: Doubt::Stale { taken_at: at(5000) } }
        );
    }

    #[test]
    fn a_clock_that_was_set_back_is_unknown() {
        let evidence = evidence(5000, -10, &[peer(Some(100), Some(100), 0)]);
        assert_eq!(
            judge(Signal::Traffic, &evidence, 4000),
            Verdict::Unknown { why: Doubt::ClockJump { taken_at: at(5000) } }
        );
    }

    #[test]
    fn a_clock_that_was_set_forward_makes_nobody_idle() {
        // At 60 the clock was set forward by an hour. The user's first handshake was at 50; half a minute has passed since.
        let evidence = evidence(3680, 3590, &[peer(Some(3650), None, 0)]);
        let verdict = with_memory(Some(50), -10, |memory| {
            verdict(&idle(Signal::Traffic), memory, Some(&evidence), at(3680))
        });
        let proof = Proof::NoDataSinceHandshake { at: at(3650) };
        assert_eq!(verdict, Verdict::Active { until: Some(at(3650 + TIMEOUT)), proof });
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_no_silent_session_alive() {
        // At 1000 the clock was set back by 900 seconds, that is to 100; the user has been silent since 5, now -895.
        let evidence = evidence(100, -910, &[peer(Some(-895), Some(-895), 0)]);
        let verdict = with_memory(Some(5), -910, |memory| {
            verdict(&idle(Signal::Traffic), memory, Some(&evidence), at(100))
        });
        assert!(is_idle(&verdict), "{verdict:?}");
    }

    #[test]
    fn whoever_asked_for_a_session_has_a_whole_timeout_to_use_it() {
        let evidence = evidence(5000, -10, &[peer(Some(100), Some(100), 0)]);
        let judge = |renewed| {
            with_memory(Some(5), renewed, |memory| {
                verdict(&idle(Signal::Traffic), memory, Some(&evidence), at(5000))
            })
        };
        assert!(is_idle(&judge(5000 - TIMEOUT)));
        let renewed = 5001 - TIMEOUT;
        assert_eq!(
            judge(renewed),
            Verdict::Active { until: Some(at(5001)), proof: Proof::Renewed { at: at(renewed) } }
        );
    }

    #[test]
    fn a_first_handshake_after_a_restart_counts_from_the_handshake() {
        // The gateway restarted at 1000; the first handshake of anybody came at 4900.
        let mut evidence = evidence(5000, 1000, &[peer(Some(4900), None, 0)]);
        evidence.report.as_mut().unwrap().boot = "two".into();
        let (ready, first) = (moment(0), Moment { boot: "two".into(), uptime_ms: 3_900_000 });
        let memory = Memory { ready: Some(&ready), first_handshake: Some(&first), renewed_at: at(-10) };
        let verdict = verdict(&idle(Signal::Traffic), &memory, Some(&evidence), at(5000));
        let proof = Proof::NoDataSinceHandshake { at: at(4900) };
        assert_eq!(verdict, Verdict::Active { until: Some(at(4900 + TIMEOUT)), proof });
    }

    #[test]
    fn keepalives_do_not_keep_a_session_alive_under_traffic() {
        // Handshakes every two minutes, no data.
        let evidence = evidence(700, -10, &[peer(Some(690), None, 0)]);
        assert_eq!(
            judge(Signal::Traffic, &evidence, 700),
            Verdict::Idle { since: at(5), evidence: Proof::NoDataSinceHandshake { at: at(5) } }
        );
        assert!(!is_idle(&judge(Signal::Handshake, &evidence, 700)));
    }

    #[test]
    fn one_busy_user_keeps_the_session_for_all() {
        let evidence = evidence(5000, -10, &[peer(Some(100), Some(100), 0), peer(Some(4900), Some(4990), 0)]);
        assert_eq!(
            judge(Signal::Traffic, &evidence, 5000),
            Verdict::Active { until: Some(at(4990 + TIMEOUT)), proof: Proof::Data { at: at(4990) } }
        );
    }

    #[test]
    fn an_open_flow_is_use_even_in_silence() {
        let evidence = evidence(5000, -10, &[peer(Some(4900), Some(100), 1)]);
        assert_eq!(
            judge(Signal::Traffic, &evidence, 5000),
            Verdict::Active { until: None, proof: Proof::OpenFlows { flows: 1 } }
        );
    }

    #[test]
    fn nobody_is_idle_before_the_first_handshake_grace_ends() {
        let short = Idle { timeout: Duration::from_secs(5), signal: Signal::Traffic };
        let grace = FIRST_HANDSHAKE_GRACE.as_secs();
        let judge = |taken| {
            let evidence = evidence(taken, -10, &[peer(None, None, 0)]);
            with_memory(None, -10, |memory| verdict(&short, memory, Some(&evidence), at(taken)))
        };
        assert_eq!(
            judge(grace - 1),
            Verdict::Active { until: Some(at(grace)), proof: Proof::NoHandshake { since: at(0) } }
        );
        assert!(is_idle(&judge(grace)));
    }

    #[test]
    fn silence_counts_from_the_first_handshake_when_no_data_ever_came() {
        let short = Idle { timeout: Duration::from_secs(5), signal: Signal::Traffic };
        let evidence = evidence(203, -10, &[peer(Some(200), None, 0)]);
        let verdict = with_memory(Some(200), -10, |memory| verdict(&short, memory, Some(&evidence), at(203)));
        assert!(
            matches!(verdict, Verdict::Active { until: Some(until), .. } if until == at(205)),
            "{verdict:?}"
        );
    }

    #[test]
    fn a_restarted_gateway_is_unknown_until_it_has_watched_for_a_whole_timeout() {
        let mut early = evidence(5000, 4800, &[peer(None, None, 0)]);
        let mut late = evidence(4800 + TIMEOUT, 4800, &[peer(None, None, 0)]);
        for evidence in [&mut early, &mut late] {
            evidence.report.as_mut().unwrap().boot = "two".into();
        }
        assert_eq!(
            judge(Signal::Traffic, &early, 5000),
            Verdict::Unknown { why: Doubt::Restarted { at: at(4800) } }
        );
        assert!(is_idle(&judge(Signal::Traffic, &late, 4800 + TIMEOUT)));
    }

    proptest! {
        /// The oracle is the definition: some report shows a whole timeout of silence with the gateway up throughout.
        #[test]
        fn idle_is_said_only_of_a_whole_timeout_of_watched_silence(
            taken in 0_i64..4000,
            lag in -60_i64..200,
            started in -50_i64..4000,
            same_boot: bool,
            peers in proptest::collection::vec((0_i64..4000, proptest::option::of(0_i64..4000), 0_u32..2), 0..4),
            handshake_signal: bool,
        ) {
            let signal = if handshake_signal { Signal::Handshake } else { Signal::Traffic };
            let started = started.min(taken);
            let reports: Vec<_> = peers
                .iter()
                .map(|(handshake, data, flows)| {
                    peer(Some((*handshake).min(taken)), data.map(|data| data.min(taken)), *flows)
                })
                .collect();
            let mut evidence = evidence(taken, started, &reports);
            evidence.report.as_mut().unwrap().boot = if same_boot { "one".into() } else { "two".into() };
            if is_idle(&judge(signal, &evidence, taken + lag)) {
                let begin = taken - TIMEOUT;
                prop_assert!((-2..=45).contains(&lag));
                prop_assert!(started <= begin);
                for report in &reports {
                    match signal {
                        Signal::Traffic => {
                            prop_assert_eq!(report.open_flows, 0);
                            prop_assert!(report.data_at.is_none_or(|data| data <= at(begin)));
                        }
                        Signal::Handshake => {
                            prop_assert!(report.handshake_at.is_none_or(|handshake| handshake <= at(begin)));
                        }
                    }
                }
            }
        }
    }
}
