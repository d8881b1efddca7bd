//! The parts of a measurement. What fails is a result too, and the next part goes on.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ebb_gateway::host_resolvers;
use serde_json::json;
use tokio::task::JoinSet;

use super::groups::{Groups, Running, TAG};
use super::probe::Probe;
use super::{Measure, seconds, ttl};
use crate::clock;

/// Pauses, as parts of the longest one.
const PAUSES: [f64; 6] = [0.05, 0.1, 0.2, 0.4, 0.7, 1.0];

/// Sizes of datagrams: two that fit any path, the most for Ethernet, one that has to be cut, and much more.
const SIZES: [usize; 7] = [1200, 1400, 1472, 1473, 1600, 4000, 9000];

/// Rounds of delete and create.
const ROUNDS: usize = 3;

/// Seconds of sending as fast as it goes.
const FLOOD: u64 = 3;

/// A report in Markdown.
struct Report(String);

impl Report {
    fn section(&mut self, title: &str) {
        let _ = write!(self.0, "\n### {title}\n\n");
    }

    fn line(&mut self, what: &str, found: impl std::fmt::Display) {
        eprintln!("{what}: {found}");
        let _ = writeln!(self.0, "- {what}: {found}");
    }
}

pub(super) async fn all(groups: &Groups, options: &Measure) -> String {
    let mut report = Report(format!(
        "## Container Instances, measured\n\n{} in {}, API {}, ebb {}, run {}\n",
        clock::now(),
        groups.region,
        crate::azure::arm::API_VERSION,
        env!("CARGO_PKG_VERSION"),
        groups.run
    ));
    let port = ports(groups, options, &mut report).await;
    capabilities(groups, port, options, &mut report).await;
    rounds(groups, port, options, &mut report).await;
    restarts(groups, port, options, &mut report).await;
    config_map(groups, port, options, &mut report).await;
    endings(groups, port, options, &mut report).await;
    report.0
}

/// Makes a group with the probe and waits for its first answer.
async fn up(groups: &Groups, name: &str, port: u16, options: &Measure) -> Result<(Running, Probe), String> {
    groups.put(name, &groups.body(name, port)).await?;
    answering(groups, name, port, options).await
}

async fn answering(
    groups: &Groups,
    name: &str,
    port: u16,
    options: &Measure,
) -> Result<(Running, Probe), String> {
    let running = groups.await_running(name).await?;
    let probe = Probe::at(&running.ip, port).await?;
    match probe.ask("boot", Duration::from_secs(options.patience)).await {
        Some(_) => Ok((running, probe)),
        None => Err(format!("no answer over UDP within {} s", options.patience)),
    }
}

async fn down(groups: &Groups, name: &str) {
    if let Err(why) = groups.delete(name).await {
        eprintln!("{name}: {why}");
    }
}

/// Which ports pass, and what the first that does is like. Without any, the first is used for what needs no traffic.
async fn ports(groups: &Groups, options: &Measure, report: &mut Report) -> u16 {
    report.section("UDP");
    let mut works = None;
    for (index, &port) in options.ports.iter().enumerate() {
        let name = format!("port{index}");
        let begun = clock::monotonic();
        let (what, found) = (format!("port {port}/udp"), up(groups, &name, port, options).await);
        match found {
            Ok((running, probe)) => {
                let answered = seconds(clock::monotonic().since(begun));
                report.line(
                    &what,
                    format!(
                        "passes; an address after {}, the first answer after {answered}",
                        seconds(running.after)
                    ),
                );
                if works.is_none() {
                    works = Some(port);
                    path(&probe, &running, port, options, report).await;
                }
            }
            Err(why) => report.line(&what, why),
        }
        down(groups, &name).await;
    }
    works.or(options.ports.first().copied()).unwrap_or(41820)
}

async fn path(probe: &Probe, running: &Running, port: u16, options: &Measure, report: &mut Report) {
    let patience = Duration::from_secs(options.patience);
    let seen = probe.ask("whoami", patience).await;
    report.line(
        "source address that the container sees",
        seen.as_deref().map_or("no answer".to_owned(), masked),
    );
    let exit = probe.ask("exit", patience).await;
    let exit = match exit.as_deref() {
        Some(exit) if exit == running.ip => "the same as the endpoint's".to_owned(),
        Some(exit) if exit.parse::<IpAddr>().is_ok() => {
            format!("{}, the endpoint is {}", masked(exit), masked(&running.ip))
        }
        other => format!("not found out ({})", other.unwrap_or("no answer")),
    };
    report.line("address of what leaves the container", exit);
    let mut echoed = Vec::new();
    for size in SIZES {
        let mut datagram = b"echo ".to_vec();
        datagram.resize(size, b'x');
        let mut back = false;
        for _ in 0..3 {
            back |= probe
                .once(&datagram, Duration::from_secs(1))
                .await
                .is_some_and(|answer| answer.len() == size);
        }
        echoed.push(format!("{size} {}", if back { "yes" } else { "no" }));
    }
    report.line("bytes of payload that come back whole", echoed.join(", "));
    let rate = probe.flood(FLOOD).await * 8.0 / 1e6;
    report.line("down, one vCPU that runs Python", format!("{rate:.0} Mbit/s in datagrams of 1200 bytes"));
    report.line("answers after a pause", pauses(&running.ip, port, options).await);
}

/// Whether an answer still finds its way after so long without a datagram: all pauses side by side, each from its own socket.
async fn pauses(ip: &str, port: u16, options: &Measure) -> String {
    let mut tasks = JoinSet::new();
    #[expect(clippy::cast_precision_loss, reason = "seconds are few")]
    let longest = options.idle as f64;
    for part in PAUSES {
        let (ip, pause) = (ip.to_owned(), longest * part);
        tasks.spawn(async move {
            let Ok(probe) = Probe::at(&ip, port).await else { return (pause, false) };
            let answer =
                probe.once(format!("later {pause}").as_bytes(), Duration::from_secs_f64(pause + 5.0)).await;
            (pause, answer.is_some())
        });
    }
    let mut found = tasks.join_all().await;
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    let found =
        found.into_iter().map(|(pause, came)| format!("{pause:.1} s {}", if came { "yes" } else { "no" }));
    found.collect::<Vec<_>>().join(", ")
}

async fn capabilities(groups: &Groups, port: u16, options: &Measure, report: &mut Report) {
    report.section("Privileges");
    let mut body = groups.body("caps", port);
    body["properties"]["containers"][0]["properties"]["securityContext"] =
        json!({ "capabilities": { "add": ["NET_ADMIN"] } });
    let found = match groups.put("caps", &body).await {
        Ok(begun) => {
            let said = match answering(groups, "caps", port, options).await {
                Ok((_, probe)) => {
                    probe.ask("tun", Duration::from_secs(options.patience)).await.unwrap_or_default()
                }
                Err(why) => why,
            };
            format!("accepted, {begun}; {said}")
        }
        Err(why) => why,
    };
    report.line("securityContext with NET_ADMIN on the SKU Standard", found);
    down(groups, "caps").await;
}

async fn rounds(groups: &Groups, port: u16, options: &Measure, report: &mut Report) {
    report.section("Create, delete, and names");
    let (mut names, mut ttls) = (BTreeSet::new(), Vec::new());
    for round in 1..=ROUNDS {
        let found = async {
            let begun = groups.put("round", &groups.body("round", port)).await?;
            let running = groups.await_running("round").await?;
            let resolved = resolves(&running).await;
            ttls.push(remembered(&running, options).await);
            let deleted = groups.delete("round").await?;
            let gone = groups.await_gone("round").await?;
            names.insert(running.fqdn.clone());
            Ok::<_, String>(format!(
                "PUT {begun}, running after {}, the name {resolved}; DELETE {deleted}, gone after {}",
                seconds(running.after),
                seconds(gone)
            ))
        };
        let found = found.await;
        report.line(&format!("round {round}"), found.unwrap_or_else(|why| why));
    }
    report.line("different names in all rounds (ResourceGroupReuse)", names.len());
    report.line(
        "TTL of the name, by round",
        if ttls.is_empty() { "not measured".to_owned() } else { ttls.join(", ") },
    );
}

/// For how long the name may be remembered: a client that does not ask again after that long never finds a gateway that has moved.
async fn remembered(running: &Running, options: &Measure) -> String {
    let of_machine = || host_resolvers().first().map(|server| SocketAddr::new(*server, 53));
    match options.resolver.or_else(of_machine) {
        Some(resolver) => {
            ttl::of(&running.fqdn, resolver).await.map_or_else(|why| why, |ttl| format!("{ttl} s"))
        }
        None => "this machine has no resolver".to_owned(),
    }
}

/// How long it takes until the name means the address.
async fn resolves(running: &Running) -> String {
    let (began, ip) = (clock::monotonic(), running.ip.parse::<IpAddr>().ok());
    while clock::monotonic().since(began) < Duration::from_secs(60) {
        if let Ok(mut found) = tokio::net::lookup_host((running.fqdn.as_str(), 0)).await
            && found.any(|one| Some(one.ip()) == ip)
        {
            return format!("resolves after {}", seconds(clock::monotonic().since(began)));
        }
        if running.fqdn.is_empty() {
            return "is missing".to_owned();
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        if ip.is_some_and(|ip| ip.is_loopback()) {
            break;
        }
    }
    "does not resolve to it".to_owned()
}

/// Whether writing restarts what runs.
async fn restarts(groups: &Groups, port: u16, options: &Measure, report: &mut Report) {
    report.section("What restarts containers");
    let patience = Duration::from_secs(options.patience);
    let (running, probe) = match up(groups, "writes", port, options).await {
        Ok(found) => found,
        Err(why) => return report.line("not measured", why),
    };
    let mut boot = probe.ask("boot", patience).await;
    let tags = json!({ "tags": { TAG: groups.run, "another": "tag" } });
    for what in ["PATCH of a tag", "PUT of the same properties"] {
        let begun = match what {
            "PATCH of a tag" => groups.patch("writes", &tags).await,
            _ => groups.put("writes", &groups.body("writes", port)).await,
        };
        let found = async {
            let begun = begun?;
            // A restart takes some time to begin.
            tokio::time::sleep(patience.min(Duration::from_secs(30))).await;
            let (after, probe) = answering(groups, "writes", port, options).await?;
            let now = probe.ask("boot", patience).await;
            let restarted = if now == boot { "does not restart" } else { "restarts" };
            let moved = if after.ip == running.ip { "keeps the address" } else { "changes the address" };
            boot = now;
            Ok::<_, String>(format!("{begun}; {restarted}, {moved}"))
        };
        let found = found.await;
        report.line(what, found.unwrap_or_else(|why| why));
    }
    down(groups, "writes").await;
}

async fn config_map(groups: &Groups, port: u16, options: &Measure, report: &mut Report) {
    report.section("Config maps");
    let with = |value: &str| {
        let mut body = groups.body("map", port);
        body["properties"]["containers"][0]["properties"]["configMap"] =
            json!({ "keyValuePairs": { "peers": value } });
        body
    };
    let found = async {
        groups.put("map", &with("first")).await?;
        let (_, probe) = answering(groups, "map", port, options).await?;
        let patience = Duration::from_secs(options.patience);
        let (boot, first) = (probe.ask("boot", patience).await, probe.ask("config peers", patience).await);
        report.line("value at the start", first.unwrap_or_default());
        groups.put("map", &with("second")).await?;
        let began = clock::monotonic();
        while clock::monotonic().since(began) < patience {
            let (_, probe) = answering(groups, "map", port, options).await?;
            if probe.ask("config peers", patience).await.as_deref() == Some("second") {
                let same = if probe.ask("boot", patience).await == boot { "without" } else { "with" };
                return Ok(format!(
                    "seen after {}, {same} a restart",
                    seconds(clock::monotonic().since(began))
                ));
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok::<_, String>(format!("not seen within {} s", options.patience))
    };
    let found = found.await;
    report.line("a changed value", found.unwrap_or_else(|why| why));
    for size in [16_384, 65_536, 262_144, 1_048_576] {
        let found = match groups.put("map", &with(&"x".repeat(size))).await {
            Ok(begun) => format!("accepted, {begun}"),
            Err(why) => why,
        };
        report.line(&format!("a value of {} KiB", size / 1024), found);
        // It is another change, and the next one would meet it half-way.
        let _ = groups.await_running("map").await;
    }
    down(groups, "map").await;
}

/// Whether a container hears that it is to end.
async fn endings(groups: &Groups, port: u16, options: &Measure, report: &mut Report) {
    report.section("Signals");
    let patience = Duration::from_secs(options.patience);
    for (what, stop) in [("stop", true), ("delete", false)] {
        let found = async {
            let (running, probe) = up(groups, what, port, options).await?;
            probe.ask("boot", patience).await;
            let began = clock::monotonic();
            let begun = if stop { groups.act(what, "stop").await? } else { groups.delete(what).await? };
            let heard = match probe.receive(patience).await {
                Some(word) if word == b"sigterm" => {
                    format!("SIGTERM after {}", seconds(clock::monotonic().since(began)))
                }
                _ => format!("no SIGTERM within {} s", options.patience),
            };
            let mut found = format!("{begun}; {heard}");
            if stop {
                groups.act(what, "start").await?;
                let again = groups.await_running(what).await?;
                let moved = if again.ip == running.ip { "the same address" } else { "another address" };
                found.push_str(&format!("; {moved} after start"));
            }
            Ok::<_, String>(found)
        };
        let found = found.await;
        report.line(what, found.unwrap_or_else(|why| why));
        down(groups, what).await;
    }
}

/// An address as it may stand in a public issue.
fn masked(address: &str) -> String {
    match address.parse() {
        Ok(IpAddr::V4(v4)) => {
            let kind = if v4.is_private() || v4.is_loopback() { "private" } else { "public" };
            let [first, second, ..] = v4.octets();
            format!("{first}.{second}.x.x ({kind})")
        }
        Ok(IpAddr::V6(v6)) => format!("{:x}:{:x}:… (IPv6)", v6.segments()[0], v6.segments()[1]),
        Err(_) => format!("{address:.40}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_s_address_stands_in_a_report() {
        assert_eq!(masked("203.0.113.7"), "203.0.x.x (public)");
        assert_eq!(masked("10.1.2.3"), "10.1.x.x (private)");
        assert_eq!(masked("2001:db8:1:2::3"), "2001:db8:… (IPv6)");
    }
}
