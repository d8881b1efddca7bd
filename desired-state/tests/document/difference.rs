//! What two documents differ in.

use ebb_desired_state::{Change, Document, diff, parse};

const BASE: &str = "version: 1
deployment: home
users:
  - { name: alice }
  - { name: bob }
sessions:
  - { name: one, users: [alice, bob], region: eastus2 }
  - { name: two, users: [bob], region: eastus2, routes: [10.0.0.0/16, 192.168.0.0/16] }
";

fn read(text: &str) -> Document {
    parse(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The changes that replacing a part of the base makes.
fn changes(from: &str, to: &str) -> Vec<Change> {
    assert!(BASE.contains(from), "{from}");
    diff(&read(BASE), &read(&BASE.replacen(from, to, 1))).changes
}

fn lines(from: &str, to: &str) -> Vec<String> {
    changes(from, to).iter().map(ToString::to_string).collect()
}

#[test]
fn changes_name_the_setting_the_old_value_and_the_new_one() {
    for (from, to, line) in [
        (
            "- { name: bob }",
            "- { name: bob, until: 2027-01-01T00:00:00Z }",
            "~ users[bob].until: (absent) -> 2027-01-01T00:00:00Z",
        ),
        ("region: eastus2 }", "region: westeurope }", "~ sessions[one].region: eastus2 -> westeurope"),
        ("region: eastus2 }", "region: eastus2, port: 4500 }", "~ sessions[one].port: 41820 -> 4500"),
        (
            "region: eastus2 }",
            "region: eastus2, idleTimeout: 1h30m }",
            "~ sessions[one].idleTimeout: 10m -> 1h30m",
        ),
        (
            "region: eastus2 }",
            "region: eastus2, maxLifetime: 3d }",
            "~ sessions[one].maxLifetime: none -> 3d",
        ),
        ("region: eastus2 }", "region: eastus2, wake: 2 }", "~ sessions[one].wake: (absent) -> 2"),
        ("[alice, bob]", "[alice]", "~ sessions[one].users: [alice, bob] -> [alice]"),
        (
            "region: eastus2 }",
            "region: eastus2, dns: { names: { wiki.corp: 10.0.0.7 } } }",
            "~ sessions[one].dns.names.wiki.corp: (absent) -> [10.0.0.7]",
        ),
        (
            "region: eastus2 }",
            "region: eastus2, schedule: { timezone: UTC, days: Mon } }",
            "~ sessions[one].schedule: always -> { days: Mon, hours: 00:00-24:00, timezone: UTC }",
        ),
        ("users:\n", "limits: { activeUsers: 5 }\nusers:\n", "~ limits.activeUsers: 3 -> 5"),
        ("users:\n", "drift: warn\nusers:\n", "~ drift: correct -> warn"),
        ("deployment: home", "deployment: work", "~ deployment: home -> work"),
    ] {
        assert_eq!(lines(from, to), [line]);
    }
}

#[test]
fn users_and_sessions_come_and_go_by_name() {
    assert_eq!(lines("name: one", "name: three"), ["- sessions[one]", "+ sessions[three]"]);
    assert_eq!(lines("  - { name: bob }", "  - { name: bob }\n  - { name: carol }"), ["+ users[carol]"]);
}

#[test]
fn order_notation_and_written_out_defaults_are_no_changes() {
    for (from, to) in [
        ("[alice, bob]", "[bob, alice]"),
        ("[10.0.0.0/16, 192.168.0.0/16]", "[192.168.0.0/16, 10.0.0.0/16]"),
        (
            "region: eastus2 }",
            "region: eastus2, port: 41820, idleTimeout: 600s, maxLifetime: none, schedule: always }",
        ),
        ("region: eastus2 }", "region: eastus2, size: { cpu: 1.0 } } # comment"),
        ("  - { name: alice }\n  - { name: bob }", "  - { name: bob }\n  - { name: alice }"),
        ("users:\n", "defaults: { idleTimeout: 10m }\nusers:\n"),
    ] {
        assert_eq!(lines(from, to), Vec::<String>::new(), "{to}");
    }
}

#[test]
fn the_order_of_resolvers_is_a_preference_and_its_change_counts() {
    let with = |upstream: &str| {
        BASE.replacen("region: eastus2 }", &format!("region: eastus2, dns: {{ upstream: {upstream} }} }}"), 1)
    };
    let changes = diff(&read(&with("[1.1.1.1, 9.9.9.9]")), &read(&with("[9.9.9.9, 1.1.1.1]"))).changes;
    assert_eq!(changes.len(), 1);
}

#[test]
fn only_what_is_fixed_while_a_gateway_runs_needs_a_new_gateway() {
    let session = |setting: &str| format!("region: eastus2, {setting} }}");
    for setting in [
        "port: 4500",
        "size: { cpu: 2 }",
        "addresses: { ipv4: 10.9.0.0/24 }",
        "network: { mode: vnet, subnet: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/n }",
    ] {
        let changes = changes("region: eastus2 }", &session(setting));
        assert!(!changes.is_empty() && changes.iter().all(Change::restarts), "{setting}");
    }
    assert!(changes("region: eastus2 }", "region: westeurope }").iter().all(Change::restarts));
    for setting in [
        "idleTimeout: 1h",
        "idleSignal: handshake",
        "maxLifetime: 1h",
        "until: 2027-01-01T00:00:00Z",
        "wake: now",
        "schedule: { timezone: UTC }",
        "suspended: { reason: r, until: 2027-01-01T00:00:00Z }",
        "routes: [192.168.0.0/16]",
        "dns: { upstream: [1.1.1.1] }",
    ] {
        let changes = changes("region: eastus2 }", &session(setting));
        assert!(!changes.is_empty() && !changes.iter().any(Change::restarts), "{setting}");
    }
    assert!(!changes("[alice, bob]", "[alice]").iter().any(Change::restarts));
    assert!(
        !changes("name: one", "name: three").iter().any(Change::restarts),
        "nothing that runs is replaced"
    );
}
