//! Ebb's own numbers that are read from the engine's snapshot.

use ebb_core::condition::Status;
use ebb_core::names::GatewayName;
use ebb_core::observed::Gateway;
use ebb_core::record::Record;
use ebb_core::state::StateName;
use jiff::Timestamp;
use prometheus::proto::MetricFamily;

use super::Sheet;
use crate::deployment;
use crate::engine::Snapshot;

pub(super) fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let sheet = Sheet::new();
    deployment(&sheet, snapshot);
    sessions(&sheet, snapshot);
    sheet.families()
}

fn deployment(sheet: &Sheet, snapshot: &Snapshot) {
    let one = |number: f64| [(Vec::new(), number)];
    let states = StateName::ALL.map(|name| {
        let count = own(snapshot).filter(|record| record.state.name() == name).count();
        (vec![name.as_str().to_owned()], as_number(count))
    });
    sheet.gauge("ebb_sessions", "Sessions by state.", &["state"], states);
    build(sheet);
    sheet.gauge(
        "ebb_desired_rejected",
        "1 while the newest version of the document is not the one in force.",
        &[],
        one(f64::from(u8::from(snapshot.source.error.is_some()))),
    );
    sheet.gauge(
        "ebb_desired_generation",
        "Documents taken into force so far.",
        &[],
        one(as_number(usize::try_from(snapshot.source.generation).unwrap_or(usize::MAX))),
    );
    sheet.gauge(
        "ebb_deployment_condition",
        "1 while a condition of the whole deployment holds, 0 while it does not, -1 while nobody can say.",
        &["type", "reason"],
        deployment::conditions(snapshot).iter().map(|condition| {
            (vec![condition.kind.as_str().to_owned(), condition.reason.to_string()], status(condition.status))
        }),
    );
    if let Some(at) = snapshot.source.accepted_at {
        sheet.gauge(
            "ebb_desired_accepted_timestamp_seconds",
            "When the document in force was accepted.",
            &[],
            one(seconds(at)),
        );
    }
    sheet.gauge(
        "ebb_provider_available",
        "1 while the provider can be asked.",
        &[],
        one(f64::from(u8::from(snapshot.observed.is_some()))),
    );
    sheet.gauge(
        "ebb_store_available",
        "1 while the store can be read and written.",
        &[],
        one(f64::from(u8::from(snapshot.store_error.is_none()))),
    );
    sheet.gauge(
        "ebb_strays",
        "Gateways of the deployment that no session has. They are deleted when they are seen.",
        &[],
        one(as_number(strays(snapshot))),
    );
    lead(sheet, !snapshot.led.is_empty());
    sheet.gauge(
        "ebb_shards",
        "Parts that the sessions are divided into.",
        &[],
        one(f64::from(snapshot.shards)),
    );
    sheet.gauge(
        "ebb_shard_led",
        "1 for each part of the sessions that this daemon takes care of.",
        &["shard"],
        snapshot.led.iter().map(|shard| (vec![shard.to_string()], 1.0)),
    );
    let held = snapshot.report.as_ref().map_or(0, |report| report.held_teardowns);
    sheet.gauge("ebb_held_teardowns", "Teardowns that wait for approval.", &[], one(as_number(held)));
}

pub(super) fn build(sheet: &Sheet) {
    let build = [(vec![env!("CARGO_PKG_VERSION").to_owned()], 1.0)];
    sheet.gauge("ebb_build_info", "Version of the daemon.", &["version"], build);
}

/// Whether this daemon leads, or one of several shards.
pub(super) fn lead(sheet: &Sheet, leads: bool) {
    sheet.gauge(
        "ebb_leader",
        "1 for a daemon that leads, alone or with others, 0 for one that stands by.",
        &[],
        [(Vec::new(), f64::from(u8::from(leads)))],
    );
}

/// Records of sessions that this daemon takes care of. Those of others are shown by others.
fn own(snapshot: &Snapshot) -> impl Iterator<Item = &Record> {
    snapshot.records.values().filter(|record| snapshot.leads(&record.session))
}

fn strays(snapshot: &Snapshot) -> usize {
    let Some((desired, observed)) = snapshot.desired.as_ref().zip(snapshot.observed.as_ref()) else {
        return 0;
    };
    let document = &desired.document;
    let is_stray = |(name, gateway): &(&GatewayName, &Gateway)| {
        let known = snapshot.records.contains_key(&gateway.session);
        let wanted = known || document.session(&gateway.session).is_some();
        !(wanted && name.is_of(&document.deployment, &gateway.session))
    };
    observed.gateways.iter().filter(is_stray).count()
}

fn sessions(sheet: &Sheet, snapshot: &Snapshot) {
    let reports = || {
        let all = snapshot.report.iter().flat_map(|report| report.sessions.values());
        all.filter(|report| snapshot.leads(&report.session))
    };
    let name = |session: &ebb_desired_state::SessionName| vec![session.to_string()];
    sheet.gauge(
        "ebb_session_generation",
        "Generation of a session's spec.",
        &["session"],
        reports().map(|report| {
            (name(&report.session), as_number(usize::try_from(report.generation.0).unwrap_or(usize::MAX)))
        }),
    );
    sheet.gauge(
        "ebb_session_state",
        "1 for the state that a session is in.",
        &["session", "state"],
        reports().map(|report| (vec![report.session.to_string(), report.state.name().to_string()], 1.0)),
    );
    sheet.gauge(
        "ebb_condition",
        "1 while a condition holds, 0 while it does not, -1 while nobody can say.",
        &["session", "type", "reason"],
        reports().flat_map(|report| {
            report.conditions.iter().map(|condition| {
                let kind = condition.kind.as_str().to_owned();
                (
                    vec![report.session.to_string(), kind, condition.reason.to_string()],
                    status(condition.status),
                )
            })
        }),
    );
    sheet.gauge(
        "ebb_session_next_change_timestamp_seconds",
        "When a session changes by the passing of time alone, as far as known.",
        &["session"],
        reports().filter_map(|report| Some((name(&report.session), seconds(report.next?)))),
    );
    sheet.gauge(
        "ebb_telemetry_age_seconds",
        "Age of the last report of a session's gateway.",
        &["session"],
        snapshot.evidence.iter().filter_map(|(session, evidence)| {
            let age = snapshot.at.duration_since(evidence.report.as_ref()?.taken_at);
            Some((name(session), age.as_secs_f64()))
        }),
    );
    sheet.counter(
        "ebb_session_billable_seconds_total",
        "Seconds for which a session's gateways existed, the present one included.",
        &["session"],
        own(snapshot).map(|record| {
            let created = record.run.as_ref().and_then(|run| run.created_at);
            let present = created.map_or(0, |at| snapshot.at.duration_since(at).as_secs());
            let present = u64::try_from(present).unwrap_or(0);
            (name(&record.session), record.totals.billable_seconds + present)
        }),
    );
    sheet.counter(
        "ebb_session_runs_total",
        "Runs of a session that have ended.",
        &["session"],
        own(snapshot).map(|record| (name(&record.session), record.totals.runs)),
    );
}

fn status(status: Status) -> f64 {
    match status {
        Status::True => 1.0,
        Status::False => 0.0,
        Status::Unknown => -1.0,
    }
}

/// Seconds since the epoch.
pub(super) fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
fn as_number(count: usize) -> f64 {
    count as f64
}
