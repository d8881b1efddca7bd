//! What Prometheus scrapes.
//!
//! Two kinds of numbers: events that only this process has seen are counted as they happen ([`Counters`]); everything else is
//! read from the engine's snapshot at the moment of the scrape ([`of_snapshot`]), so that it cannot drift from the truth.

mod snapshot;
mod wireguard;

use ebb_core::record::Record;
use ebb_core::state::State;
use prometheus::core::Collector;
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

use crate::engine::Snapshot;

/// Media type of the exposition.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Passes take microseconds with a few sessions and a tenth of a second with ten thousand.
const PASS_BUCKETS: [f64; 8] = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0];

/// From a fast local start to the end of anybody's patience.
const START_BUCKETS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 600.0];

/// Counts what happens. Cloning shares the counts.
#[derive(Clone)]
pub struct Counters {
    registry: Registry,
    pub(crate) passes: IntCounter,
    pub(crate) pass_seconds: Histogram,
    pub(crate) actions: IntCounterVec,
    pub(crate) action_failures: IntCounterVec,
    pub(crate) transitions: IntCounterVec,
    pub(crate) teardowns: IntCounterVec,
    pub(crate) start_seconds: Histogram,
    pub(crate) source_failures: IntCounter,
    pub(crate) documents: IntCounterVec,
    pub(crate) deliveries: IntCounterVec,
    pub(crate) last_pass: IntGauge,
}

impl Counters {
    /// Counters at zero.
    ///
    /// # Panics
    /// Never: the names below are valid, which a test checks.
    #[must_use]
    #[expect(clippy::unwrap_used, reason = "fixed names; a test builds it")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let count = |name: &str, help: &str| keep(&registry, IntCounter::new(name, help).unwrap());
        let vector = |name: &str, help: &str, labels: &[&str]| {
            keep(&registry, IntCounterVec::new(Opts::new(name, help), labels).unwrap())
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            keep(&registry, Histogram::with_opts(options).unwrap())
        };
        Self {
            passes: count("ebb_reconcile_total", "Passes of the reconcile loop."),
            pass_seconds: histogram(
                "ebb_reconcile_duration_seconds",
                "Time to plan one pass.",
                &PASS_BUCKETS,
            ),
            actions: vector("ebb_actions_total", "Actions carried out.", &["action"]),
            action_failures: vector(
                "ebb_action_failures_total",
                "Actions that failed.",
                &["failure", "class"],
            ),
            transitions: vector(
                "ebb_session_transitions_total",
                "State changes of sessions, summed over sessions.",
                &["from", "to"],
            ),
            teardowns: vector("ebb_session_teardowns_total", "Teardowns begun.", &["reason"]),
            start_seconds: histogram(
                "ebb_session_start_duration_seconds",
                "Time from the decision to provision to the first handshake through the tunnel.",
                &START_BUCKETS,
            ),
            source_failures: count(
                "ebb_source_fetch_failures_total",
                "Fetches of the desired state that failed.",
            ),
            documents: vector("ebb_desired_documents_total", "Documents judged.", &["result"]),
            deliveries: vector("ebb_webhook_deliveries_total", "Deliveries of webhooks.", &["result"]),
            last_pass: keep(
                &registry,
                IntGauge::new(
                    "ebb_reconcile_last_success_timestamp_seconds",
                    "When the last pass was made, in seconds since the epoch.",
                )
                .unwrap(),
            ),
            registry,
        }
    }

    /// Counts what a session's new record says that the old one did not.
    pub(crate) fn count_change(&self, old: Option<&Record>, new: &Record) {
        let from = old.map_or("none", |record| record.state.name().as_str());
        let to = new.state.name().as_str();
        if from == to {
            return;
        }
        self.transitions.with_label_values(&[from, to]).inc();
        if let State::Terminating { why } = &new.state {
            self.teardowns.with_label_values(&[why.as_str()]).inc();
        }
        let run = new.run.as_ref().filter(|_| from == "starting" && to == "active");
        if let Some((began_at, Some(active_at))) = run.map(|run| (run.began_at, run.active_at)) {
            self.start_seconds.observe(active_at.duration_since(began_at).as_secs_f64());
        }
    }

    /// Everything, in Prometheus' text format.
    #[must_use]
    pub fn render(&self, snapshot: &Snapshot) -> String {
        let mut families = self.registry.gather();
        families.extend(snapshot::families(snapshot));
        families.extend(wireguard::families(snapshot, None));
        encode(&families)
    }

    /// The WireGuard numbers of one session alone, for dashboards that expect one interface for each target.
    #[must_use]
    pub fn render_session(&self, snapshot: &Snapshot, session: &ebb_desired_state::SessionName) -> String {
        encode(&wireguard::families(snapshot, Some(session)))
    }
}

/// What a daemon that stands by has to say.
#[must_use]
pub fn standing_by() -> String {
    let sheet = Sheet::new();
    snapshot::lead(&sheet, false);
    snapshot::build(&sheet);
    encode(&sheet.families())
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

fn encode(families: &[prometheus::proto::MetricFamily]) -> String {
    let mut text = Vec::new();
    // Encoding fails only for families without metrics, which are not among them, and for writers that fail.
    let _ = TextEncoder::new().encode(families, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn keep<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    // A name that is taken twice is a mistake of this file, which a test finds.
    let registered = registry.register(Box::new(collector.clone()));
    debug_assert!(registered.is_ok(), "{registered:?}");
    collector
}

/// Gauges and counters for one scrape.
pub(crate) struct Sheet {
    registry: Registry,
}

impl Sheet {
    pub(crate) fn new() -> Self {
        Self { registry: Registry::new() }
    }

    /// A family of gauges; rows are label values and the number.
    pub(crate) fn gauge(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        rows: impl IntoIterator<Item = (Vec<String>, f64)>,
    ) {
        let Ok(family) = prometheus::GaugeVec::new(Opts::new(name, help), labels) else { return };
        for (values, number) in rows {
            family.with_label_values(&values).set(number);
        }
        let _ = self.registry.register(Box::new(family));
    }

    /// A family of counters; rows are label values and the number.
    pub(crate) fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        rows: impl IntoIterator<Item = (Vec<String>, u64)>,
    ) {
        let Ok(family) = IntCounterVec::new(Opts::new(name, help), labels) else { return };
        for (values, number) in rows {
            family.with_label_values(&values).inc_by(number);
        }
        let _ = self.registry.register(Box::new(family));
    }

    pub(crate) fn families(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_a_name_of_its_own_and_a_help_text() {
        let counters = Counters::new();
        counters.actions.with_label_values(&["create"]).inc();
        let families = counters.registry.gather();
        assert!(families.iter().all(|family| !family.help().is_empty() && family.name().starts_with("ebb_")));
        assert!(encode(&families).ends_with('\n'));
    }
}
