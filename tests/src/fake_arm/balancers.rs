//! Load balancers: one resource that several people keep rules in.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::schema;

/// ARM id of the subnet of groups.
pub const SUBNET: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ebb/providers/Microsoft.Network/\
                          virtualNetworks/vnet/subnets/gateways";

/// ARM id of the load balancer.
pub const LOAD_BALANCER: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ebb/providers/\
                                 Microsoft.Network/loadBalancers/lb";

const ADDRESS: &str = "/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg-ebb/providers/Microsoft.Network/\
                       publicIPAddresses/entry";

type Refusal = (u16, &'static str, String);

#[derive(Default)]
pub(super) struct Balancers {
    balancer: Option<Value>,
    address: String,
    version: u64,
}

impl Balancers {
    pub(super) fn add(&mut self, address: &str) {
        self.address = address.to_owned();
        let part = |kind: &str, name: &str| json!({ "id": format!("{LOAD_BALANCER}/{kind}/{name}") });
        let theirs = json!({ "name": "theirs", "properties": { "loadBalancerBackendAddresses": [{
            "name": "web", "properties": { "ipAddress": "10.1.0.250", "subnet": { "id": SUBNET } } }] } });
        self.balancer = Some(json!({
            "name": "lb", "type": "Microsoft.Network/loadBalancers", "location": "eastus2", "tags": { "Owner": "others" },
            "sku": { "name": "Standard", "tier": "Regional" },
            "properties": {
                "frontendIPConfigurations": [{ "name": "public", "properties": { "publicIPAddress": { "id": ADDRESS } } }],
                "backendAddressPools": [theirs],
                "probes": [{ "name": "web", "properties": { "protocol": "Tcp", "port": 443, "intervalInSeconds": 5 } }],
                "loadBalancingRules": [{ "name": "theirs", "properties": {
                    "frontendIPConfiguration": part("frontendIPConfigurations", "public"),
                    "backendAddressPool": part("backendAddressPools", "theirs"),
                    "probe": part("probes", "web"),
                    "protocol": "Udp", "frontendPort": 443, "backendPort": 443,
                } }],
                "inboundNatRules": [], "outboundRules": [],
            },
        }));
        self.settle();
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut Value)) {
        change(self.balancer.as_mut().expect("there is a load balancer"));
        self.settle();
    }

    pub(super) fn shown(&self, id: &str) -> Option<Value> {
        self.balancer.clone().filter(|_| id.eq_ignore_ascii_case(LOAD_BALANCER))
    }

    pub(super) fn address(&self, id: &str) -> Option<Value> {
        let shown = || json!({ "id": ADDRESS, "name": "entry", "properties": { "ipAddress": self.address } });
        (id.eq_ignore_ascii_case(ADDRESS) && !self.address.is_empty()).then(shown)
    }

    pub(super) fn put(&mut self, id: &str, body: &Value, etag: Option<&str>) -> Result<Value, Refusal> {
        let Some(before) = self.shown(id) else {
            return Err((404, "ResourceNotFound", "there is no such load balancer".to_owned()));
        };
        if etag.is_some_and(|etag| before["etag"] != json!(etag)) {
            let message = "Precondition failed: the resource was changed.".to_owned();
            return Err((412, "PreconditionFailed", message));
        }
        schema::check_load_balancer("lb", body).map_err(|wrong| (400, "InvalidRequestFormat", wrong))?;
        consistent(body)?;
        self.balancer = Some(body.clone());
        self.settle();
        Ok(self.shown(id).unwrap_or_default())
    }

    /// Gives everything its id, and the whole another ETag.
    fn settle(&mut self) {
        self.version += 1;
        let etag = json!(format!("W/\"{:08}\"", self.version));
        let Some(balancer) = &mut self.balancer else { return };
        balancer["id"] = json!(LOAD_BALANCER);
        balancer["etag"] = etag.clone();
        balancer["properties"]["provisioningState"] = json!("Succeeded");
        for kind in ["frontendIPConfigurations", "backendAddressPools", "loadBalancingRules", "probes"] {
            for part in balancer["properties"][kind].as_array_mut().into_iter().flatten() {
                let name = part["name"].as_str().unwrap_or_default().to_owned();
                part["id"] = json!(format!("{LOAD_BALANCER}/{kind}/{name}"));
                part["etag"] = etag.clone();
                part["properties"]["provisioningState"] = json!("Succeeded");
            }
        }
    }

    /// Where UDP rules lead, by the port outside.
    pub(super) fn rules(&self) -> BTreeMap<u16, Vec<SocketAddr>> {
        let Some(balancer) = &self.balancer else { return BTreeMap::new() };
        let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
        let lead = |rule: &Value| {
            let rule = &rule["properties"];
            let inside = port(&rule["backendPort"])?;
            let pool = rule["backendAddressPool"]["id"].as_str()?;
            let pools = balancer["properties"]["backendAddressPools"].as_array()?;
            let pool = pools.iter().find(|one| is(&one["id"], pool))?;
            let addresses = pool["properties"]["loadBalancerBackendAddresses"].as_array()?;
            let addresses =
                addresses.iter().filter_map(|one| one["properties"]["ipAddress"].as_str()?.parse().ok());
            let to = addresses.map(|ip| SocketAddr::new(ip, inside)).collect();
            is(&rule["protocol"], "Udp").then_some((port(&rule["frontendPort"])?, to))
        };
        let rules = balancer["properties"]["loadBalancingRules"].as_array();
        rules.into_iter().flatten().filter_map(lead).collect()
    }
}

fn is(value: &Value, text: &str) -> bool {
    value.as_str().is_some_and(|value| value.eq_ignore_ascii_case(text))
}

/// What Azure checks and no schema says ("Components of Azure Load Balancer").
fn consistent(body: &Value) -> Result<(), Refusal> {
    let part = |kind: &str| body["properties"][kind].as_array().cloned().unwrap_or_default();
    let exists = |kind: &str, reference: &Value| {
        let id = reference["id"].as_str().unwrap_or_default();
        part(kind).iter().any(|one| {
            let name = one["name"].as_str().unwrap_or_default();
            id.eq_ignore_ascii_case(&format!("{LOAD_BALANCER}/{kind}/{name}"))
        })
    };
    let mut taken = Vec::new();
    for rule in part("loadBalancingRules") {
        let (name, rule) = (rule["name"].clone(), &rule["properties"]);
        for (kind, reference) in [
            ("frontendIPConfigurations", "frontendIPConfiguration"),
            ("backendAddressPools", "backendAddressPool"),
        ] {
            if !exists(kind, &rule[reference]) {
                let message = format!("{} of the rule {name} does not exist", rule[reference]);
                return Err((400, "InvalidResourceReference", message));
            }
        }
        let key = [&rule["frontendIPConfiguration"]["id"], &rule["protocol"], &rule["frontendPort"]]
            .map(Value::to_string);
        if taken.contains(&key) {
            let message = format!("the rule {name} uses the same frontend port and protocol as another one");
            return Err((400, "RulesUseSameFrontendPortProtocolAndIPConfig", message));
        }
        taken.push(key);
    }
    for pool in part("backendAddressPools") {
        for address in pool["properties"]["loadBalancerBackendAddresses"].as_array().into_iter().flatten() {
            let properties = &address["properties"];
            let placed =
                ["subnet", "virtualNetwork"].iter().any(|place| properties[*place]["id"].is_string());
            if address["name"].as_str().is_none_or(str::is_empty) || !placed {
                let message = format!("a backend address needs a name and a network: {address}");
                return Err((400, "InvalidBackendAddress", message));
            }
        }
    }
    Ok(())
}
