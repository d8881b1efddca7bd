//! What a load balancer has to say about gateways. Load balancers are kept as Azure shows them: whatever is not the deployment's
//! goes back exactly as it came.
//!
//! Every session has one UDP rule and one pool with one address. Rules have no probe. There is none for UDP, one for TCP or HTTP
//! would need a port on which the gateway answers strangers, and with a single address there is nobody to turn to when it fails:
//! what a probe could find out, the daemon's handshakes through this very rule do. Microsoft's own load balancing for Kubernetes
//! leaves UDP rules without a probe too.

use std::collections::BTreeMap;

use ebb_core::outcome::{Class, Failure};
use ebb_desired_state::{DeploymentName, SessionName};
use serde_json::{Value, json};

/// Where the rule of a session has to lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// Private address of the group.
    pub(super) ip: String,
    /// ARM id of its subnet.
    pub(super) subnet: String,
    /// UDP port, the same outside and inside.
    pub(super) port: u16,
}

/// What a session's part of a load balancer should be. That of a session that is not asked for stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A rule that leads there.
    Leads(Target),
    /// Nothing.
    Nothing,
}

/// The address under which a load balancer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Front {
    /// That of a public IP address, by its ARM id.
    Public(String),
    /// A private one, by itself.
    Private(String),
}

/// Name of a session's rule and pool. Neither name has a dot, so no other pair of deployment and session has the same one.
pub(super) fn entry(deployment: &DeploymentName, session: &SessionName) -> String {
    format!("ebb-{deployment}.{session}")
}

/// The frontend that rules lead from, and where it is: the first with a public address, else the first.
pub(super) fn front(shown: &Value) -> Result<(String, Front), Failure> {
    let all: Vec<_> = list(shown, "frontendIPConfigurations").collect();
    let public = |one: &&Value| one["properties"]["publicIPAddress"]["id"].as_str().map(str::to_owned);
    let private = |one: &&Value| one["properties"]["privateIPAddress"].as_str().map(str::to_owned);
    let found = all.iter().find_map(|one| Some((one, Front::Public(public(one)?))));
    let found = found.or_else(|| all.iter().find_map(|one| Some((one, Front::Private(private(one)?)))));
    let id = |one: &Value| one["id"].as_str().map(str::to_owned);
    found.and_then(|(one, front)| Some((id(one)?, front))).ok_or_else(|| {
        let message = format!("the load balancer {} has no frontend with an address", text(shown, "name"));
        Failure::new(Class::Stalled, message)
    })
}

/// Whether a session's rule leads where it should.
pub(super) fn leads(shown: &Value, entry: &str, target: &Target) -> bool {
    let Ok((frontend, _)) = front(shown) else { return false };
    let pool_id = pool_id(shown, entry);
    let of_rule = |rule: &Value| {
        let rule = &rule["properties"];
        let port = json!(target.port);
        same(&rule["frontendIPConfiguration"]["id"], &frontend)
            && same(&rule["backendAddressPool"]["id"], &pool_id)
            && same(&rule["protocol"], "Udp")
            && (&rule["frontendPort"], &rule["backendPort"]) == (&port, &port)
    };
    let of_pool = |pool: &Value| {
        let addresses = pool["properties"]["loadBalancerBackendAddresses"].as_array();
        addresses.is_some_and(|all| matches!(all.as_slice(), [one] if is_at(&one["properties"], target)))
    };
    list(shown, RULES).any(|rule| is_named(rule, entry) && of_rule(rule))
        && list(shown, POOLS).any(|pool| is_named(pool, entry) && of_pool(pool))
}

/// The load balancer as it has to be for these sessions; `None` when it is so already.
pub(super) fn edited(
    shown: &Value,
    deployment: &DeploymentName,
    wanted: &BTreeMap<SessionName, Wanted>,
) -> Result<Option<Value>, Failure> {
    let mut body = shown.clone();
    for (session, wanted) in wanted {
        let entry = entry(deployment, session);
        match wanted {
            Wanted::Leads(target) if leads(shown, &entry, target) => {}
            Wanted::Leads(target) => {
                let (frontend, _) = front(shown)?;
                put(&mut body, POOLS, pool(&entry, target));
                put(&mut body, RULES, rule(&entry, &frontend, &pool_id(shown, &entry), target.port));
            }
            Wanted::Nothing => {
                remove(&mut body, RULES, &entry);
                remove(&mut body, POOLS, &entry);
            }
        }
    }
    Ok((body != *shown).then_some(body))
}

const RULES: &str = "loadBalancingRules";
const POOLS: &str = "backendAddressPools";

fn rule(entry: &str, frontend: &str, pool: &str, port: u16) -> Value {
    json!({ "name": entry, "properties": {
        "frontendIPConfiguration": { "id": frontend },
        "backendAddressPool": { "id": pool },
        "protocol": "Udp",
        "frontendPort": port,
        "backendPort": port,
        // Users' connections leave through the subnet's NAT gateway.
        "disableOutboundSnat": true,
    } })
}

fn pool(entry: &str, target: &Target) -> Value {
    json!({ "name": entry, "properties": { "loadBalancerBackendAddresses": [{
        "name": entry,
        "properties": { "ipAddress": target.ip, "subnet": { "id": target.subnet } },
    }] } })
}

fn pool_id(shown: &Value, entry: &str) -> String {
    format!("{}/{POOLS}/{entry}", text(shown, "id"))
}

/// Azure may show the network of an address and not its subnet.
fn is_at(address: &Value, target: &Target) -> bool {
    let network = target.subnet.to_ascii_lowercase();
    let network = network.split("/subnets/").next().unwrap_or_default();
    let inside = match (&address["subnet"]["id"], &address["virtualNetwork"]["id"]) {
        (Value::String(subnet), _) => subnet.eq_ignore_ascii_case(&target.subnet),
        (_, Value::String(id)) => id.eq_ignore_ascii_case(network),
        _ => false,
    };
    inside && address["ipAddress"] == json!(target.ip)
}

fn list<'a>(shown: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    shown["properties"][name].as_array().into_iter().flatten()
}

fn put(body: &mut Value, name: &str, one: Value) {
    let all = &mut body["properties"][name];
    if !all.is_array() {
        *all = json!([]);
    }
    let Value::Array(all) = all else { return };
    let entry = text(&one, "name").to_owned();
    match all.iter_mut().find(|other| is_named(other, &entry)) {
        Some(other) => *other = one,
        None => all.push(one),
    }
}

fn remove(body: &mut Value, name: &str, entry: &str) {
    if let Some(Value::Array(all)) = body["properties"].get_mut(name) {
        all.retain(|one| !is_named(one, entry));
    }
}

fn is_named(one: &Value, name: &str) -> bool {
    same(&one["name"], name)
}

fn same(value: &Value, text: &str) -> bool {
    value.as_str().is_some_and(|value| value.eq_ignore_ascii_case(text))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/loadBalancers/lb";
    const SUBNET: &str =
        "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/virtualNetworks/v/subnets/n";

    fn balancer() -> Value {
        json!({
            "id": ID, "name": "lb", "etag": "W/\"1\"", "location": "eastus2", "novel": { "kept": true },
            "properties": {
                "frontendIPConfigurations": [
                    { "id": format!("{ID}/frontendIPConfigurations/in"), "name": "in",
                      "properties": { "privateIPAddress": "10.0.0.9" } },
                    { "id": format!("{ID}/frontendIPConfigurations/out"), "name": "out",
                      "properties": { "publicIPAddress": { "id": "/pip" } } },
                ],
                "backendAddressPools": [{ "name": "theirs", "properties": { "loadBalancerBackendAddresses": [
                    { "name": "a", "properties": { "ipAddress": "10.0.0.77" } }] } }],
                "loadBalancingRules": [{ "name": "theirs", "properties": { "frontendPort": 443, "protocol": "Tcp" } }],
                "probes": [{ "name": "theirs" }],
            },
        })
    }

    fn session() -> SessionName {
        "alice".parse().unwrap()
    }

    fn deployment() -> DeploymentName {
        "home".parse().unwrap()
    }

    fn target(ip: &str) -> Target {
        Target { ip: ip.to_owned(), subnet: SUBNET.to_owned(), port: 41820 }
    }

    fn after(shown: &Value, wanted: Wanted) -> Option<Value> {
        edited(shown, &deployment(), &[(session(), wanted)].into()).unwrap()
    }

    /// Everything but the entries of this deployment.
    fn foreign(balancer: &Value) -> Value {
        let mut rest = balancer.clone();
        for name in [RULES, POOLS] {
            remove(&mut rest, name, "ebb-home.alice");
        }
        rest
    }

    #[test]
    fn a_session_gets_a_rule_that_leads_to_its_gateway_and_follows_it() {
        let first = after(&balancer(), Wanted::Leads(target("10.1.0.4"))).unwrap();
        assert!(leads(&first, "ebb-home.alice", &target("10.1.0.4")));
        assert_eq!(after(&first, Wanted::Leads(target("10.1.0.4"))), None, "once is enough");
        let second = after(&first, Wanted::Leads(target("10.1.0.5"))).unwrap();
        assert!(leads(&second, "ebb-home.alice", &target("10.1.0.5")));
        assert!(!leads(&second, "ebb-home.alice", &target("10.1.0.4")));
        let other_port = Target { port: 41821, ..target("10.1.0.5") };
        assert!(!leads(&second, "ebb-home.alice", &other_port));
        let last = after(&second, Wanted::Nothing).unwrap();
        assert_eq!(last, balancer());
        assert_eq!(after(&last, Wanted::Nothing), None);
    }

    #[test]
    fn what_is_somebody_else_s_goes_back_as_it_came() {
        let mut shown = balancer();
        for step in [Wanted::Leads(target("10.1.0.4")), Wanted::Leads(target("10.1.0.5")), Wanted::Nothing] {
            shown = after(&shown, step).unwrap();
            assert_eq!(foreign(&shown), balancer());
        }
    }

    #[test]
    fn another_deployment_s_session_is_somebody_else_s_even_if_the_names_join_alike() {
        let (one, other) = (("home", "a-b"), ("home-a", "b"));
        let of = |(deployment, session): (&str, &str)| {
            entry(&deployment.parse().unwrap(), &session.parse().unwrap())
        };
        assert_ne!(of(one), of(other));
    }

    #[test]
    fn an_address_that_azure_shows_by_its_network_is_in_step() {
        let mut shown = after(&balancer(), Wanted::Leads(target("10.1.0.4"))).unwrap();
        let address =
            &mut shown["properties"][POOLS][1]["properties"]["loadBalancerBackendAddresses"][0]["properties"];
        let network = SUBNET.split("/subnets/").next().unwrap().to_uppercase();
        *address = json!({ "ipAddress": "10.1.0.4", "virtualNetwork": { "id": network } });
        assert_eq!(after(&shown, Wanted::Leads(target("10.1.0.4"))), None);
    }

    #[test]
    fn rules_lead_from_a_public_frontend_where_there_is_one() {
        let (id, place) = front(&balancer()).unwrap();
        assert_eq!((id.ends_with("/out"), place), (true, Front::Public("/pip".into())));
        let mut internal = balancer();
        internal["properties"]["frontendIPConfigurations"].as_array_mut().unwrap().pop();
        assert_eq!(front(&internal).unwrap().1, Front::Private("10.0.0.9".into()));
        internal["properties"]["frontendIPConfigurations"] = json!([]);
        assert!(front(&internal).is_err());
    }
}
