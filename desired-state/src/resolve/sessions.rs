//! Checks of sessions, and their resolved form.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;

use super::settings::{Effective, Merged};
use super::{Unique, nets, settings, suspension, values};
use crate::reader::{At, Cx};
use crate::similar::closest;
use crate::text::Mark;
use crate::written::{self, Settings};
use crate::{Network, Session, Signal, UserName, duration};

/// A client in use makes a handshake every 2 minutes (REKEY_AFTER_TIME in the WireGuard paper, section 6.1); below 3 minutes
/// its age says nothing.
const LEAST_HANDSHAKE_TIMEOUT: Duration = Duration::from_mins(3);

/// The region in which all gateways share one machine, and with it the ports.
const LOCAL: &str = "local";

/// Checks all sessions. Without `users`, names are not compared with it.
pub(super) fn check(
    sessions: &[(usize, At<written::Session>)],
    defaults: &Settings,
    users: Option<&BTreeSet<&UserName>>,
    cx: &mut Cx<'_>,
) {
    let mut names = Unique::default();
    let mut all = Vec::with_capacity(sessions.len());
    for (index, At { value: session, mark }) in sessions {
        let checked = Checked {
            index: *index,
            mark: *mark,
            session,
            merged: Merged { own: &session.settings, default: defaults },
        };
        checked.inside(cx, |cx| {
            if let Some(At { value, mark }) = &session.name {
                cx.field("name", |cx| {
                    names.check(cx, value, *mark, |line| {
                        let message = format!("session {value} is declared twice, first on line {line}");
                        (message, "rename or remove one of the two")
                    });
                });
            }
            if let Some(list) = &session.users {
                cx.field("users", |cx| check_members(&list.value.0, users, cx));
            }
            settings::check(&session.settings, cx);
        });
        checked.check_region(cx);
        checked.check_placement(cx);
        checked.check_network(cx);
        checked.check_idle(cx);
        checked.check_addresses(cx);
        all.push(checked);
    }
    check_shared_ports(&all, cx);
}

fn check_members(members: &[(usize, At<UserName>)], users: Option<&BTreeSet<&UserName>>, cx: &mut Cx<'_>) {
    super::check_duplicates(members, cx);
    let Some(users) = users else { return };
    for (index, At { value, mark }) in members {
        if !users.contains(value) {
            cx.index(*index, |cx| {
                cx.report_with(*mark, || {
                    let known = closest(value.as_str(), users.iter().map(|user| user.as_str()));
                    let help = match known {
                        Some(known) => format!("did you mean `{known}`?"),
                        None => format!("add `- name: {value}` to `users`"),
                    };
                    (format!("no user {value} is declared"), help)
                });
            });
        }
    }
}

/// A session under examination.
struct Checked<'a> {
    index: usize,
    mark: Mark,
    session: &'a written::Session,
    merged: Merged<'a>,
}

impl Checked<'_> {
    fn inside<R>(&self, cx: &mut Cx<'_>, check: impl FnOnce(&mut Cx<'_>) -> R) -> R {
        cx.field("sessions", |cx| cx.index(self.index, check))
    }

    /// Reports where a setting is written: in this session or in `defaults`.
    fn report<T>(
        &self,
        cx: &mut Cx<'_>,
        name: &str,
        setting: Effective<'_, T>,
        message: String,
        help: impl Into<String>,
    ) {
        let mark = setting.at.mark;
        let help = help.into();
        if setting.own {
            self.inside(cx, |cx| cx.field(name, |cx| cx.report(mark, message, help)));
        } else {
            cx.field("defaults", |cx| cx.field(name, |cx| cx.report(mark, message, help)));
        }
    }

    fn check_region(&self, cx: &mut Cx<'_>) {
        let unreadable =
            cx.is_reported("defaults.region") || cx.is_reported(&format!("sessions[{}].region", self.index));
        if self.merged.region().is_none() && !unreadable {
            let help =
                "add `region: local` to run on this machine, or an Azure region such as `region: eastus2`";
            self.inside(cx, |cx| cx.report(self.mark, "`region` is missing, here and in `defaults`", help));
        }
    }

    fn check_placement(&self, cx: &mut Cx<'_>) {
        // From `defaults` they are meant for the sessions of which they can be true.
        let Settings { subscription, resource_group, .. } = &self.session.settings;
        let marks = [
            ("subscription", subscription.as_ref().map(|at| at.mark)),
            ("resourceGroup", resource_group.as_ref().map(|at| at.mark)),
        ];
        for (name, mark) in marks {
            if let Some(mark) = mark.filter(|_| self.merged.region() == Some(LOCAL)) {
                let message = format!("a gateway on this machine has no `{name}`");
                let help = "name an Azure region, or leave it out";
                self.inside(cx, |cx| cx.field(name, |cx| cx.report(mark, message, help)));
            }
        }
    }

    fn check_network(&self, cx: &mut Cx<'_>) {
        let Some(network) = self.merged.pick(|s| &s.network) else { return };
        if self.merged.region() == Some(LOCAL) && matches!(self.merged.network(), Network::Vnet { .. }) {
            let message = "a gateway on this machine is in no virtual network".to_owned();
            self.report(cx, "network", network, message, "name an Azure region, or leave `network` out");
        }
    }

    fn check_idle(&self, cx: &mut Cx<'_>) {
        let Some(timeout) = self.merged.pick(|s| &s.idle_timeout) else {
            return self.check_lifetime(None, cx);
        };
        let written = duration::format(timeout.at.value.0);
        if let Some(signal) = self.merged.pick(|s| &s.idle_signal)
            && signal.at.value == Signal::Handshake
            && timeout.at.value.0 < LEAST_HANDSHAKE_TIMEOUT
        {
            let message = format!("with `idleSignal: handshake` an idle timeout of {written} is too short");
            let least = duration::format(LEAST_HANDSHAKE_TIMEOUT);
            let help = format!(
                "a client in use makes a handshake only about every 2 minutes; use at least {least}, or `idleSignal: traffic`"
            );
            if signal.own && !timeout.own {
                self.report(cx, "idleSignal", signal, message, help);
            } else {
                self.report(cx, "idleTimeout", timeout, message, help);
            }
        }
        self.check_lifetime(Some(timeout), cx);
    }

    fn check_lifetime(&self, timeout: Option<Effective<'_, crate::values::IdleTimeout>>, cx: &mut Cx<'_>) {
        let Some(lifetime) = self.merged.pick(|s| &s.max_lifetime) else { return };
        let (Some(most), idle) = (self.merged.max_lifetime(), self.merged.idle().timeout) else { return };
        if most > idle {
            return;
        }
        let [most, idle] = [most, idle].map(duration::format);
        let message = format!("a `maxLifetime` of {most} is not longer than the `idleTimeout` of {idle}");
        let help = "the session would always end before it could be idle";
        match timeout {
            Some(timeout) if timeout.own && !lifetime.own => {
                self.report(cx, "idleTimeout", timeout, message, help);
            }
            _ => self.report(cx, "maxLifetime", lifetime, message, help),
        }
    }

    fn check_addresses(&self, cx: &mut Cx<'_>) {
        let own = self.merged.addresses();
        let members = self.session.users.as_ref().map_or(0, |users| users.value.0.len());
        let (capacity, net) = nets::capacity(own.ipv4, own.ipv6);
        if let Some(users) = &self.session.users
            // A network without room for anybody was reported for its prefix.
            && (1..members).contains(&capacity)
        {
            let message = format!("this session has {members} users, but {net} holds only {capacity}");
            let help = "give it larger networks in `addresses`, or split it";
            self.inside(cx, |cx| cx.field("users", |cx| cx.report(users.mark, message, help)));
        }
        let Some(routes) = self.merged.pick(|s| &s.routes) else { return };
        for (index, route) in &routes.at.value.0 {
            for net in [IpNet::V4(own.ipv4), IpNet::V6(own.ipv6)] {
                if nets::collides(route.value, net) {
                    let message =
                        format!("the route {} overlaps {net}, the session's own network", route.value);
                    let name = format!("routes[{index}]");
                    self.report(
                        cx,
                        &name,
                        Effective { at: route, own: routes.own },
                        message,
                        self.way_out(net),
                    );
                }
            }
        }
    }

    /// How to keep the session's own network out of the way of its routes.
    fn way_out(&self, net: IpNet) -> String {
        let free = nets::free_ipv4(&self.merged.routes());
        match (net, free) {
            (IpNet::V4(_), Some(free)) => format!("set `addresses: {{ ipv4: {free} }}`, or narrow the route"),
            (IpNet::V4(_), None) => {
                "narrow the route, or set `addresses: { ipv4: … }` to a network beside it".to_owned()
            }
            (IpNet::V6(_), _) => {
                "narrow the route, or set `addresses: { ipv6: … }` to a network beside it".to_owned()
            }
        }
    }

    /// Whose port it takes, where that is not its own: this machine's or a load balancer's.
    fn port_of(&self) -> Option<PortOf> {
        if self.merged.region() == Some(LOCAL) {
            return Some(PortOf::Machine);
        }
        match self.merged.network() {
            // ARM compares ids without regard to case.
            Network::Vnet { load_balancer: Some(id), .. } => {
                Some(PortOf::LoadBalancer(id.to_ascii_lowercase()))
            }
            Network::Vnet { load_balancer: None, .. } | Network::Public => None,
        }
    }
}

/// What has every port once for all its sessions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum PortOf {
    Machine,
    LoadBalancer(String),
}

/// Reports ports that two sessions want of the same machine or load balancer.
fn check_shared_ports(sessions: &[Checked<'_>], cx: &mut Cx<'_>) {
    let shared = |session: &Checked<'_>| Some((session.port_of()?, session.merged.port()));
    let wanted: BTreeSet<_> = sessions.iter().filter_map(shared).collect();
    let mut first_at = BTreeMap::new();
    let mut proposed = BTreeSet::new();
    for session in sessions {
        let Some((of, port)) = shared(session) else { continue };
        let Some(first) = first_at.get(&(of.clone(), port)) else {
            first_at.insert((of, port), session.mark.line);
            continue;
        };
        let mark = session.session.settings.port.as_ref().map_or(session.mark, |at| at.mark);
        session.inside(cx, |cx| {
            cx.field("port", |cx| {
                cx.report_with(mark, || {
                    let why = match &of {
                        PortOf::Machine => "run on this machine",
                        PortOf::LoadBalancer(_) => "are behind this load balancer",
                    };
                    let message =
                        format!("port {port} is taken by the session on line {first}, and both {why}");
                    let mut free = (Session::DEFAULT_PORT..)
                        .map(|port| (of.clone(), port))
                        .filter(|one| !wanted.contains(one) && !proposed.contains(one));
                    let free = free.next();
                    proposed.extend(free.clone());
                    (message, free.map(|(_, port)| format!("write `port: {port}`")).unwrap_or_default())
                });
            });
        });
    }
}

/// The session as it is meant. `None` when something was reported about it.
pub(super) fn session(written: written::Session, defaults: &Settings) -> Option<Session> {
    let written::Session { name, users, until, wake, suspended, settings } = written;
    let merged = Merged { own: &settings, default: defaults };
    Some(Session {
        name: name?.value,
        users: values(users?.value),
        region: merged.region()?.to_owned(),
        placement: merged.placement(),
        idle: merged.idle(),
        max_lifetime: merged.max_lifetime(),
        until: until.map(|at| at.value),
        schedule: merged.schedule(),
        wake: wake.map(|at| at.value.0),
        suspended: match suspended {
            Some(at) => Some(suspension(at.value)?),
            None => None,
        },
        dns: merged.dns(),
        routes: merged.routes(),
        addresses: merged.addresses(),
        size: merged.size(),
        port: merged.port(),
        network: merged.network(),
    })
}
