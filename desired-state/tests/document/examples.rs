//! Documents that must be understood.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use ebb_desired_state::{Document, Drift, Network, SCHEMA, Signal, parse};

pub(crate) fn files() -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir("examples").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.push("desired-state.yaml".into());
    files.sort();
    assert!(files.len() >= 6);
    files
}

fn example(name: &str) -> Document {
    parse(&fs::read_to_string(name).unwrap())
        .unwrap_or_else(|problems| panic!("{}", problems.render(name, false)))
}

fn json(document: &Document) -> String {
    serde_json::to_string_pretty(document).unwrap()
}

/// Every setting there is.
pub(crate) const COMPLETE: &str = r#"version: 1
deployment: home              # marks everything this file owns; nothing else is ever touched
limits:
  activeUsers: 3              # more than this queue, with a reason
  activeSessions: 3
  maxTeardownsPerPass: 3      # more than this in one change needs `ebb approve`
defaults:
  region: eastus2
  idleTimeout: 10m
  idleSignal: traffic         # or: handshake
  routes: [0.0.0.0/0, "::/0"]
users:
  - name: alice
    publicKey: "IeHA7FgDFBQqH9W0WcqIOUSzkQSbIpowPYLh79VKv3s="
    apiKeySha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    sourceIps: [203.0.113.0/24]
sessions:
  - name: alice-east
    users: [alice]
    region: eastus2
    subscription: 3F2504E0-4F89-11D3-9A0C-0305E82C3301
    resourceGroup: rg-ebb
    idleTimeout: 10m
    maxLifetime: 12h
    until: 2026-12-31T00:00:00Z
    schedule: { days: Mon-Fri, hours: "06:00-22:00", timezone: America/New_York }
    wake: "2026-11-21"        # any new value starts a parked session again
    suspended: { reason: "incident 42", until: 2026-11-22T09:00:00Z }
    dns: { names: { wiki: 10.0.0.7 }, upstream: [1.1.1.1] }
    size: { cpu: 1, memoryGiB: 1 }
    port: 41820
    network: { mode: vnet, subnet: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/n", loadBalancer: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/loadBalancers/l" }
"#;

#[test]
fn a_document_with_every_setting_is_read_as_written() {
    let document = parse(COMPLETE).unwrap();
    let session = &document.sessions[0];
    assert_eq!(session.placement.subscription.as_deref(), Some("3f2504e0-4f89-11d3-9a0c-0305e82c3301"));
    assert_eq!(session.placement.resource_group.as_deref(), Some("rg-ebb"));
    assert_eq!(session.max_lifetime, Some(Duration::from_hours(12)));
    assert_eq!(session.until, Some("2026-12-31T00:00:00Z".parse().unwrap()));
    assert_eq!(session.wake.as_deref(), Some("2026-11-21"));
    assert_eq!(session.suspended.as_ref().unwrap().reason, "incident 42");
    assert_eq!(session.schedule.as_ref().unwrap().to_string(), "Mon-Fri 06:00-22:00 America/New_York");
    assert_eq!(session.dns.names["wiki"], ["10.0.0.7".parse::<std::net::IpAddr>().unwrap()]);
    assert!(matches!(&session.network, Network::Vnet { load_balancer: Some(_), .. }));
    assert_eq!(document.users[0].source_ips, ["203.0.113.0/24".parse().unwrap()]);
}

#[test]
fn every_example_is_understood_and_names_the_schema() {
    for path in files() {
        let name = path.to_str().unwrap();
        let document = example(name);
        assert!(!document.sessions.is_empty(), "{name}");
        let first = fs::read_to_string(&path).unwrap();
        let line = first.lines().next().unwrap();
        let schema =
            line.strip_prefix("# yaml-language-server: $schema=").unwrap_or_else(|| panic!("{name}: {line}"));
        let target = path.parent().unwrap().join(schema);
        assert_eq!(fs::read_to_string(target).unwrap(), SCHEMA, "{name}");
    }
}

#[test]
fn the_readme_introduces_every_example() {
    let readme = fs::read_to_string("README.md").unwrap();
    for path in files() {
        let name = path.to_str().unwrap();
        assert!(readme.contains(name), "{name}");
    }
}

#[test]
fn the_document_that_ebb_runs_by_default_needs_nothing_but_this_machine() {
    let document = example("desired-state.yaml");
    assert_eq!(document.deployment.as_str(), "home");
    assert_eq!(document.sessions.len(), 1);
    let session = &document.sessions[0];
    assert_eq!((session.name.as_str(), session.region.as_str()), ("alice-home", "local"));
    assert_eq!(document.users[0].public_key, None, "Ebb makes alice's keys");
    assert_eq!(session.network, Network::Public);
}

#[test]
fn what_is_commented_out_in_the_default_document_would_be_valid() {
    let text = fs::read_to_string("desired-state.yaml").unwrap();
    let mut used = 0;
    for (number, line) in text.lines().enumerate() {
        let Some((indent, setting)) = line.split_once("# ") else { continue };
        if indent.len() < 4 || !indent.trim().is_empty() || setting.contains('…') {
            continue;
        }
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines[number] = format!("{indent}{setting}");
        parse(&lines.join("\n")).unwrap_or_else(|problems| panic!("{problems}"));
        used += 1;
    }
    assert!(used >= 4, "{used}");
}

#[test]
fn the_json_of_a_document_is_a_document_that_means_the_same() {
    for document in
        files().iter().map(|path| example(path.to_str().unwrap())).chain([parse(COMPLETE).unwrap()])
    {
        let text = json(&document);
        assert_eq!(parse(&text).unwrap_or_else(|problems| panic!("{problems}")), document);
        assert_eq!(serde_json::from_str::<Document>(&text).unwrap(), document, "and it can be stored");
    }
}

#[test]
fn sessions_take_what_they_do_not_say_from_the_defaults() {
    let document = example("examples/gitops-regions.yaml");
    let asia = &document.sessions[2];
    assert_eq!((asia.name.as_str(), asia.port), ("asia-east", 443));
    assert_eq!(
        (asia.size.cpu.milli(), asia.size.memory_gib.milli()),
        (2000, 4000),
        "sizes fall back field by field"
    );
    assert_eq!(asia.dns.upstream.len(), 2, "a merged anchor counts as the session's own settings");
    assert_eq!(asia.users.len(), 1, "and gives way to what stands beside it");
    assert_eq!(asia.idle.signal, Signal::Traffic);
}

#[test]
fn a_session_can_undo_a_default() {
    let document = parse(
        "version: 1
deployment: home
defaults: { region: r, maxLifetime: 1h, persistentKeepalive: 25s, schedule: { timezone: UTC }, dns: { upstream: [1.1.1.1] } }
users: [{ name: alice, persistentKeepalive: none }, { name: bob }]
sessions:
  - { name: one, users: [alice], maxLifetime: none, schedule: always, dns: { upstream: [] } }
  - { name: two, users: [bob] }
",
    )
    .unwrap();
    let [one, two] = &document.sessions[..] else { panic!() };
    assert_eq!((one.max_lifetime, &one.schedule, one.dns.upstream.len()), (None, &None, 0));
    assert!(two.max_lifetime.is_some() && two.schedule.is_some() && two.dns.upstream.len() == 1);
    let keepalives: Vec<_> = document.users.iter().map(|user| user.persistent_keepalive).collect();
    assert_eq!(keepalives, [None, Some(Duration::from_secs(25))]);
}

#[test]
fn without_settings_the_documented_defaults_hold() {
    let document = example("examples/minimal.yaml");
    let session = &document.sessions[0];
    assert_eq!(document.drift, Drift::Correct);
    let limits = document.limits;
    assert_eq!((limits.active_users, limits.active_sessions, limits.max_teardowns_per_pass), (3, 3, 3));
    assert_eq!((session.idle.timeout, session.port), (Duration::from_mins(10), 41820));
    assert_eq!(session.addresses.ipv4.to_string(), "10.8.0.0/24");
    assert_eq!(session.addresses.ipv6.to_string(), "fd65:6262:0:1::/64");
    assert_eq!(session.routes.len(), 2);
    assert_eq!(
        *session,
        ebb_desired_state::Session::new(session.name.clone(), session.users.clone(), "eastus2")
    );
}

#[test]
fn no_sessions_on_purpose_is_a_valid_wish() {
    let document = parse("version: 1\ndeployment: home\nusers: []\nsessions: []\n").unwrap();
    assert!(document.sessions.is_empty());
}

#[test]
fn the_halves_of_the_internet_may_surround_the_sessions_own_network() {
    let text = "version: 1
deployment: home
users: [{ name: a }]
sessions: [{ name: s, users: [a], region: r, routes: [0.0.0.0/1, 128.0.0.0/1, \"::/1\", \"8000::/1\"] }]
";
    assert_eq!(parse(text).unwrap().sessions[0].routes.len(), 4);
}

#[test]
fn a_session_of_a_slash_24_holds_253_users() {
    let text = |count: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("u{n}")).collect();
        let users: String = names.iter().map(|name| format!("  - name: {name}\n")).collect();
        let members = names.join(", ");
        format!(
            "version: 1\ndeployment: home\nusers:\n{users}sessions:\n  - {{ name: s, users: [{members}], region: r }}\n"
        )
    };
    assert!(parse(&text(253)).is_ok());
    assert!(parse(&text(254)).unwrap_err().to_string().contains("holds only 253"));
}
