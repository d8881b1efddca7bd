//! The settings that sessions share with `defaults`.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::nets;
use crate::reader::{At, Cx};
use crate::values::Mode;
use crate::written::{self, Settings};
use crate::{Addresses, Days, Dns, Hours, Idle, Network, Placement, Schedule, Session, Signal, Size};

pub(super) fn none() -> Settings {
    Settings {
        region: None,
        subscription: None,
        resource_group: None,
        idle_timeout: None,
        idle_signal: None,
        max_lifetime: None,
        schedule: None,
        dns: None,
        routes: None,
        addresses: None,
        size: None,
        port: None,
        network: None,
    }
}

/// Checks settings that stand together, in `defaults` or in a session.
pub(super) fn check(settings: &Settings, cx: &mut Cx<'_>) {
    if let Some(routes) = &settings.routes {
        cx.field("routes", |cx| {
            super::check_duplicates(&routes.value.0, cx);
            for (index, At { value, mark }) in &routes.value.0 {
                cx.index(*index, |cx| nets::check_route(*value, *mark, cx));
            }
        });
    }
    if let Some(addresses) = &settings.addresses {
        cx.field("addresses", |cx| nets::check_addresses(&addresses.value, cx));
    }
    if let Some(At { value: written::Dns { upstream: Some(upstream), .. }, .. }) = &settings.dns {
        cx.field("dns", |cx| {
            cx.field("upstream", |cx| {
                super::check_duplicates(&upstream.value.0, cx);
                for (index, At { value, mark }) in &upstream.value.0 {
                    cx.index(*index, |cx| {
                        if !is_reachable(*value) {
                            let message = format!("no resolver can be asked at {value}");
                            cx.report(*mark, message, "the gateway asks it, from where the gateway runs");
                        }
                    });
                }
            });
        });
    }
    if let Some(network) = &settings.network {
        cx.field("network", |cx| check_network(&network.value, cx));
    }
}

fn is_reachable(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

/// Most characters of a tag's value ("Use tags to organize your Azure resources").
const LONGEST_TAG: usize = 256;

fn check_network(network: &written::Network, cx: &mut Cx<'_>) {
    let Some(mode) = &network.mode else { return };
    match mode.value {
        Mode::Public => {
            let ids = [
                ("subnet", network.subnet.as_ref().map(|at| at.mark)),
                ("loadBalancer", network.load_balancer.as_ref().map(|at| at.mark)),
            ];
            for (name, mark) in ids {
                if let Some(mark) = mark {
                    let help =
                        "Azure gives a group in a virtual network no public address; write `mode: vnet`";
                    cx.field(name, |cx| cx.report(mark, format!("`{name}` needs `mode: vnet`"), help));
                }
            }
        }
        Mode::Vnet => {
            cx.field("subnet", |cx| {
                if network.subnet.is_none() && !cx.is_reported_here() {
                    cx.report(
                        mode.mark,
                        "`subnet` is missing here",
                        "`mode: vnet` needs the ARM id of a subnet",
                    );
                }
            });
            let long = network.load_balancer.as_ref().filter(|id| id.value.0.len() > LONGEST_TAG);
            if let Some(id) = long {
                let message = format!("an ARM id of {} characters is too long here", id.value.0.len());
                let help = "gateways carry it in a tag, and Azure allows 256 characters; shorten the name of the load balancer or \
                            of its resource group";
                cx.field("loadBalancer", |cx| cx.report(id.mark, message, help));
            }
        }
    }
}

/// A setting as it holds for one session.
pub(super) struct Effective<'a, T> {
    pub at: &'a At<T>,
    /// Written in the session; else in `defaults`.
    pub own: bool,
}

impl<T> Clone for Effective<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Effective<'_, T> {}

/// The session's own setting, or that of `defaults`.
fn effective<'a, T>(own: Option<&'a At<T>>, default: Option<&'a At<T>>) -> Option<Effective<'a, T>> {
    own.map(|at| Effective { at, own: true }).or_else(|| default.map(|at| Effective { at, own: false }))
}

/// What holds for one session: its own settings, else those of `defaults`, else the built-in ones. `size`, `addresses` and `dns`
/// fall back field by field, everything else as a whole.
pub(super) struct Merged<'a> {
    pub own: &'a Settings,
    pub default: &'a Settings,
}

impl<'a> Merged<'a> {
    /// One of the settings.
    pub(super) fn pick<T>(&self, of: impl Fn(&'a Settings) -> &'a Option<At<T>>) -> Option<Effective<'a, T>> {
        effective(of(self.own).as_ref(), of(self.default).as_ref())
    }

    /// A field of one of the settings.
    fn pick_in<O: 'a, T>(
        &self,
        outer: impl Fn(&'a Settings) -> &'a Option<At<O>>,
        inner: impl Fn(&'a O) -> &'a Option<At<T>>,
    ) -> Option<Effective<'a, T>> {
        let field = |settings| outer(settings).as_ref().and_then(|at: &At<O>| inner(&at.value).as_ref());
        effective(field(self.own), field(self.default))
    }

    pub(super) fn region(&self) -> Option<&'a str> {
        Some(&self.pick(|s| &s.region)?.at.value.0)
    }

    pub(super) fn placement(&self) -> Placement {
        Placement {
            subscription: self.pick(|s| &s.subscription).map(|found| found.at.value.0.clone()),
            resource_group: self.pick(|s| &s.resource_group).map(|found| found.at.value.0.clone()),
        }
    }

    pub(super) fn idle(&self) -> Idle {
        let default = Idle::default();
        Idle {
            timeout: self.pick(|s| &s.idle_timeout).map_or(default.timeout, |found| found.at.value.0),
            signal: self.signal(),
        }
    }

    pub(super) fn signal(&self) -> Signal {
        self.pick(|s| &s.idle_signal).map(|found| found.at.value).unwrap_or_default()
    }

    pub(super) fn max_lifetime(&self) -> Option<Duration> {
        self.pick(|s| &s.max_lifetime).and_then(|found| found.at.value.value).map(|lifetime| lifetime.0)
    }

    pub(super) fn schedule(&self) -> Option<Schedule> {
        let setting = &self.pick(|s| &s.schedule)?.at.value;
        let written::Schedule { days, hours, timezone } = setting.value.as_ref()?;
        let days = days.map_or(Days::DAILY, |at| at.value);
        let hours = hours.map_or(Hours::WHOLE_DAY, |at| at.value);
        // The name was looked up when it was read.
        Schedule::new(days, hours, &timezone.as_ref()?.value.0).ok()
    }

    pub(super) fn dns(&self) -> Dns {
        let names = self.pick_in(|s| &s.dns, |dns| &dns.names);
        let upstream = self.pick_in(|s| &s.dns, |dns| &dns.upstream);
        Dns {
            names: names.map_or_else(Default::default, |found| {
                let entry =
                    |(name, addresses): &(At<crate::values::HostName>, crate::values::OneOrMore<IpAddr>)| {
                        (name.value.0.clone(), addresses.0.clone())
                    };
                found.at.value.0.iter().map(entry).collect()
            }),
            upstream: upstream
                .map_or_else(Vec::new, |found| found.at.value.0.iter().map(|(_, at)| at.value).collect()),
        }
    }

    pub(super) fn routes(&self) -> Vec<IpNet> {
        self.pick(|s| &s.routes).map_or_else(Session::default_routes, |found| {
            found.at.value.0.iter().map(|(_, at)| at.value).collect()
        })
    }

    pub(super) fn ipv4(&self) -> Option<Effective<'a, Ipv4Net>> {
        self.pick_in(|s| &s.addresses, |addresses| &addresses.ipv4)
    }

    pub(super) fn ipv6(&self) -> Option<Effective<'a, Ipv6Net>> {
        self.pick_in(|s| &s.addresses, |addresses| &addresses.ipv6)
    }

    pub(super) fn addresses(&self) -> Addresses {
        let default = Addresses::default();
        Addresses {
            ipv4: self.ipv4().map_or(default.ipv4, |found| found.at.value),
            ipv6: self.ipv6().map_or(default.ipv6, |found| found.at.value),
        }
    }

    pub(super) fn size(&self) -> Size {
        let default = Size::default();
        Size {
            cpu: self.pick_in(|s| &s.size, |size| &size.cpu).map_or(default.cpu, |found| found.at.value.0),
            memory_gib: self
                .pick_in(|s| &s.size, |size| &size.memory_gib)
                .map_or(default.memory_gib, |found| found.at.value.0),
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.pick(|s| &s.port).map_or(Session::DEFAULT_PORT, |found| found.at.value.0)
    }

    pub(super) fn network(&self) -> Network {
        let Some(found) = self.pick(|s| &s.network) else { return Network::Public };
        let written::Network { subnet, load_balancer, .. } = &found.at.value;
        // A subnet is there exactly with `mode: vnet`; anything else was reported.
        subnet.as_ref().map_or(Network::Public, |subnet| Network::Vnet {
            subnet: subnet.value.0.clone(),
            load_balancer: load_balancer.as_ref().map(|at| at.value.0.clone()),
        })
    }
}
