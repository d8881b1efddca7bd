//! Every scenario in `tests/scenarios`, each against the golden file beside it.
//!
//! `EXPECTORATE=overwrite cargo nextest run -p ebb-tests scenarios` writes the golden files anew.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ebb_tests::sim::script;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn play(test: &str) {
    let name = test.replace('_', "-");
    let text = std::fs::read_to_string(directory().join(format!("{name}.txt"))).unwrap();
    let output = script::run(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    expectorate::assert_contents(directory().join(format!("{name}.out")), &output);
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                play(stringify!($name));
            }
        )*

        #[test]
        fn every_scenario_is_played() {
            let listed: BTreeSet<String> =
                [$(stringify!($name)),*].iter().map(|name| format!("{}.txt", name.replace('_', "-"))).collect();
            let files = std::fs::read_dir(directory()).unwrap();
            let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
            let found: BTreeSet<String> = names.filter(|name| name.ends_with(".txt")).collect();
            assert_eq!(listed, found);
        }

        #[test]
        fn every_scenario_ends_where_nothing_is_left_to_do() {
            for name in [$(stringify!($name)),*] {
                let path = directory().join(format!("{}.txt", name.replace('_', "-")));
                let text = std::fs::read_to_string(path).unwrap();
                assert_eq!(text.lines().last(), Some("assert-fixpoint"), "{name}");
            }
        }
    };
}

scenarios! {
    a_bad_document
    a_few_teardowns
    a_gateway_breaks
    a_gateway_vanishes
    a_lease_ends
    a_plan_of_what_time_brings
    a_renamed_session
    an_earlier_document_comes_back
    answers_get_lost
    capacity_sessions
    capacity_users
    changes_with_a_restart
    changes_without_a_restart
    creating_fails
    creating_hangs
    creating_is_throttled
    deleting_does_not_last
    deleting_fails
    detached_and_adopted
    drift_is_corrected
    drift_is_ignored
    drift_is_warned_of
    evidence_from_logs
    first_handshake_grace
    gateway_restarts
    grace_saved_by_traffic
    handshake_signal
    idle_by_traffic
    keepalive_is_no_traffic
    limits_are_lowered
    mass_teardown
    max_lifetime
    newest_wins_while_provisioning
    old_listings
    one_session_per_user
    open_connection_is_use
    schedule
    schedule_and_the_missing_hour
    schedule_and_the_repeated_hour
    source_networks_change
    suspended_by_an_operator
    suspended_deployment
    suspended_session
    the_clock_is_set
    the_daemon_dies
    the_daemon_freezes
    the_provider_is_down
    the_store_is_lost
    unknown_telemetry
    until
    waking_a_parked_session
    waking_while_it_goes
    what_is_not_ours
}
