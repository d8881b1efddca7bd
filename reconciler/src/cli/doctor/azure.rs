//! What the provider for Azure needs: a clock, an identity and what it may do, room, and networks.

use std::collections::{BTreeMap, BTreeSet};

use azure_core::http::{Method, Request};
use ebb_desired_state::{Document, Network, Session};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::permissions::Permissions;
use super::{Finding, Patient, image};
use crate::azure::Azure;
use crate::azure::arm::{Arm, NETWORK_API_VERSION};
use crate::clock;
use crate::provider::AciSettings;

/// Versions of the APIs that only this command asks.
const AUTHORIZATION: &str = "2022-04-01";
const RESOURCES: &str = "2021-04-01";
const CONTAINERS: &str = crate::azure::arm::API_VERSION;

/// Tokens and signatures are refused by clocks that are further apart than this.
const CLOCK_FAILS: i64 = 300;
/// A machine that keeps time is not this far off; answers have a resolution of one second.
const CLOCK_WARNS: i64 = 10;

/// What the daemon does to container groups.
const ON_GROUPS: [&str; 4] = [
    "Microsoft.ContainerInstance/containerGroups/read",
    "Microsoft.ContainerInstance/containerGroups/write",
    "Microsoft.ContainerInstance/containerGroups/delete",
    "Microsoft.ContainerInstance/containerGroups/containers/logs/read",
];
const ON_BALANCERS: [&str; 2] =
    ["Microsoft.Network/loadBalancers/read", "Microsoft.Network/loadBalancers/write"];
const ON_SUBNETS: [&str; 1] = ["Microsoft.Network/virtualNetworks/subnets/join/action"];
const ON_IDENTITIES: [&str; 1] = ["Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"];

#[derive(Deserialize)]
struct Usages {
    value: Vec<Usage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    current_value: f64,
    limit: f64,
    name: UsageName,
}

#[derive(Deserialize)]
struct UsageName {
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Registration {
    registration_state: String,
}

pub(super) async fn examine(patient: &Patient<'_>) -> Vec<Finding> {
    let settings = match AciSettings::of(&patient.settings.azure) {
        Ok(settings) => settings,
        Err(error) => {
            return vec![Finding::fail("settings", error.to_string(), "set it; `ebb run --help` says how")];
        }
    };
    let azure = match Azure::open(&patient.settings.azure) {
        Ok(azure) => azure,
        Err(error) => {
            let fix = "choose another --azure-credential, or log in with `az login`";
            return vec![Finding::fail("identity", error.to_string(), fix)];
        }
    };
    let mut findings = vec![clock(&azure).await];
    let identity = identity(&azure).await;
    let is_known = identity.fix.is_none();
    findings.push(identity);
    if !is_known {
        // Everything else would say the same again.
        return findings;
    }
    let arm = azure.arm();
    let home = &settings.home;
    let group = format!("/subscriptions/{}/resourceGroups/{}", home.subscription, home.resource_group);
    findings.push(match arm.groups(&home.subscription, &home.resource_group).await {
        Ok(groups) => {
            let ours = groups.iter().filter(|group| group.tags.contains_key("ebb-deployment")).count();
            let message =
                format!("{}: {} container group(s), {ours} of Ebb", home.resource_group, groups.len());
            Finding::ok("resource group", message)
        }
        Err(failure) => Finding::failed("resource group", failure.message),
    });
    findings
        .push(may(&arm, &group, &ON_GROUPS, "the custom role of infra/modules/gateway-access.bicep").await);
    if let Some(identity) = &settings.identity {
        findings.push(may(&arm, identity, &ON_IDENTITIES, "the role Managed Identity Operator").await);
    }
    findings.push(registered(&arm, &home.subscription).await);
    match &patient.document {
        Some(document) => {
            findings.extend(quotas(&arm, &home.subscription, document).await);
            findings.extend(networks(&arm, document).await);
        }
        None => findings.push(Finding::skipped("quota", "needs a valid document, for its regions")),
    }
    findings.push(image::examine(&azure, &settings.image).await);
    findings
}

/// The clock, against what Azure's answers say.
async fn clock(azure: &Azure) -> Finding {
    const CHECK: &str = "clock";
    let request = Request::new(azure.endpoints().management.clone(), Method::Get);
    let answer = match azure.anonymous().send(request).await {
        Ok(answer) => answer,
        Err(error) => {
            let fix = "let https to it out of this network; a proxy is taken from HTTPS_PROXY";
            return Finding::fail("Azure", error.to_string(), fix);
        }
    };
    let date = answer.header("date").and_then(|date| azure_core::time::parse_rfc7231(date).ok());
    let date = date.and_then(|date| Timestamp::from_second(date.unix_timestamp()).ok());
    let Some(date) = date else {
        return Finding::warn(
            CHECK,
            "Azure's answer does not say what time it is",
            "compare the clock with another one",
        );
    };
    let ahead = clock::now().duration_since(date).as_secs();
    let message = match ahead {
        0.. => format!("{ahead} s ahead of Azure's"),
        _ => format!("{} s behind Azure's", -ahead),
    };
    let fix = "switch on time synchronisation: `timedatectl set-ntp true`";
    match ahead.abs() {
        CLOCK_FAILS.. => Finding::fail(CHECK, message, fix),
        CLOCK_WARNS.. => Finding::warn(CHECK, message, fix),
        _ => Finding::ok(CHECK, message),
    }
}

/// A token, and whose it is.
async fn identity(azure: &Azure) -> Finding {
    const CHECK: &str = "identity";
    let scope = azure.endpoints().management_scope();
    match azure.credential().get_token(&[&scope], None).await {
        Ok(token) => Finding::ok(CHECK, format!("a token for {scope}{}", whose(token.token.secret()))),
        Err(error) => {
            let fix = "check EBB_AZURE_CREDENTIAL and EBB_AZURE_CLIENT_ID, and that the identity is assigned; on a person's \
                       machine `az account show` says who is logged in";
            Finding::fail(CHECK, format!("no token for {scope}: {error}"), fix)
        }
    }
}

/// Whose a token is, from the part of it that is no secret. One that cannot be read is none of ours to judge.
fn whose(token: &str) -> String {
    use base64::Engine as _;
    let read = || {
        let payload = token.split('.').nth(1)?;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).ok()?;
        serde_json::from_slice::<Value>(&payload).ok()
    };
    let claims = read().unwrap_or_default();
    let named = [("appid", "application"), ("oid", "object"), ("tid", "tenant")];
    let named = named.iter().filter_map(|(claim, name)| Some(format!("{name} {}", claims[*claim].as_str()?)));
    let named: Vec<_> = named.collect();
    if named.is_empty() { String::new() } else { format!(", as {}", named.join(", ")) }
}

/// Whether the identity may do these things to a resource.
async fn may(arm: &Arm, resource: &str, actions: &[&str], role: &str) -> Finding {
    const CHECK: &str = "permissions";
    let path = format!("{resource}/providers/Microsoft.Authorization/permissions");
    let what = format!("read what the identity may do to {}", last(resource));
    let permissions: Permissions = match arm.read(subscription(resource), &path, AUTHORIZATION, &what).await {
        Ok(Some(permissions)) => permissions,
        Ok(None) => {
            let message = format!("{resource} does not exist");
            return Finding::fail(
                CHECK,
                message,
                "make it, or correct its name in the settings or the document",
            );
        }
        Err(failure) => {
            let fix = format!(
                "give the identity {role}; without Microsoft.Authorization/permissions/read nobody can tell"
            );
            return Finding::warn(CHECK, failure.message, fix);
        }
    };
    match permissions.missing(actions).as_slice() {
        [] => Finding::ok(CHECK, format!("on {}: everything that the daemon does", last(resource))),
        missing => {
            let message = format!("on {} the identity may not {}", last(resource), missing.join(", "));
            let fix = format!("give it {role} on {resource}; that can take some minutes to count");
            Finding::fail(CHECK, message, fix)
        }
    }
}

async fn registered(arm: &Arm, subscription: &str) -> Finding {
    const CHECK: &str = "provider";
    const SERVICE: &str = "Microsoft.ContainerInstance";
    let fix = format!("az provider register --namespace {SERVICE} --subscription {subscription}");
    let path = format!("/subscriptions/{subscription}/providers/{SERVICE}");
    let what = "read whether the subscription uses container instances";
    match arm.read::<Registration>(subscription, &path, RESOURCES, what).await {
        Ok(Some(found)) if found.registration_state.eq_ignore_ascii_case("Registered") => {
            Finding::ok(CHECK, format!("{SERVICE} is registered"))
        }
        Ok(Some(found)) => Finding::fail(CHECK, format!("{SERVICE} is {}", found.registration_state), fix),
        Ok(None) => Finding::fail(CHECK, format!("{SERVICE} is not registered"), fix),
        Err(failure) => Finding::warn(
            CHECK,
            failure.message,
            "give the identity Microsoft.Resources/subscriptions/providers/read",
        ),
    }
}

/// Whether every region of the document has room for its sessions.
async fn quotas(arm: &Arm, home: &str, document: &Document) -> Vec<Finding> {
    const CHECK: &str = "quota";
    let mut regions: BTreeMap<(String, String), Vec<&Session>> = BTreeMap::new();
    for session in document.sessions.iter().filter(|session| session.region != "local") {
        let subscription = session.placement.subscription.clone().unwrap_or_else(|| home.to_owned());
        regions.entry((subscription, session.region.clone())).or_default().push(session);
    }
    if regions.is_empty() {
        return vec![Finding::skipped(CHECK, "no session of the document is in a region of Azure")];
    }
    let mut findings = Vec::new();
    for ((subscription, region), sessions) in regions {
        let path = format!(
            "/subscriptions/{subscription}/providers/Microsoft.ContainerInstance/locations/{region}/usages"
        );
        let what = format!("read the quota of container instances in {region}");
        match arm.read::<Usages>(&subscription, &path, CONTAINERS, &what).await {
            Ok(Some(usages)) => findings.push(room(&region, &usages, &sessions, document)),
            Ok(None) => {
                let message = format!("there is no region {region}");
                findings.push(Finding::fail(
                    CHECK,
                    message,
                    "`az account list-locations -o table` lists the names",
                ));
            }
            Err(failure) => findings.push(Finding::warn(
                CHECK,
                failure.message,
                "give the identity the custom role of infra/modules/subscription-access.bicep",
            )),
        }
    }
    findings
}

fn room(region: &str, usages: &Usages, sessions: &[&Session], document: &Document) -> Finding {
    const CHECK: &str = "quota";
    let at_once = usize::try_from(document.limits.active_sessions).unwrap_or(usize::MAX).min(sessions.len());
    let mut cores: Vec<f64> = sessions.iter().map(|session| session.size.cpu.as_f64()).collect();
    cores.sort_by(|a, b| b.total_cmp(a));
    // Groups that run count among what is used.
    #[expect(clippy::cast_precision_loss, reason = "sessions are few")]
    let wanted = [("ContainerGroups", at_once as f64), ("StandardCores", cores.iter().take(at_once).sum())];
    let mut message = Vec::new();
    let mut tight = Vec::new();
    for (name, wanted) in wanted {
        let Some(usage) = usages.value.iter().find(|usage| usage.name.value == name) else { continue };
        message.push(format!("{name} {} of {}", usage.current_value, usage.limit));
        if usage.limit - usage.current_value < wanted {
            tight.push((name, usage.limit <= usage.current_value));
        }
    }
    let message = format!("{region}: {}", message.join(", "));
    let fix = format!(
        "ask for more in the portal (subscription, Usage + quotas, {region}), or let other groups end"
    );
    match tight.as_slice() {
        [] => Finding::ok(CHECK, message),
        all if all.iter().any(|(_, full)| *full) => Finding::fail(CHECK, format!("{message}: used up"), fix),
        _ => {
            let message = format!("{message}: too little for {at_once} session(s) beside what is there");
            Finding::warn(CHECK, message, fix)
        }
    }
}

/// Subnets and load balancers that the document names.
async fn networks(arm: &Arm, document: &Document) -> Vec<Finding> {
    let (mut subnets, mut balancers) = (BTreeSet::new(), BTreeSet::new());
    for session in &document.sessions {
        if let Network::Vnet { subnet, load_balancer } = &session.network {
            subnets.insert(subnet);
            balancers.extend(load_balancer);
        }
    }
    let role = "the custom role of infra/modules/network.bicep";
    let mut findings = Vec::new();
    for subnet in subnets {
        findings.push(delegated(arm, subnet).await);
        findings.push(may(arm, subnet, &ON_SUBNETS, role).await);
    }
    for id in balancers {
        let what = format!("look at the load balancer {}", last(id));
        findings.push(match arm.read::<Value>(subscription(id), id, NETWORK_API_VERSION, &what).await {
            Ok(Some(found)) if found["sku"]["name"] == "Standard" => {
                Finding::ok("load balancer", format!("{} is there", last(id)))
            }
            Ok(Some(_)) => {
                let message =
                    format!("{} is not of the SKU Standard, and only that leads to addresses", last(id));
                Finding::fail("load balancer", message, "make one of the SKU Standard")
            }
            Ok(None) => Finding::fail(
                "load balancer",
                format!("there is no {id}"),
                "make it, or correct `loadBalancer`",
            ),
            Err(failure) => Finding::failed("load balancer", failure.message),
        });
        findings.push(may(arm, id, &ON_BALANCERS, role).await);
    }
    findings
}

async fn delegated(arm: &Arm, id: &str) -> Finding {
    const CHECK: &str = "subnet";
    const SERVICE: &str = "Microsoft.ContainerInstance/containerGroups";
    let what = format!("look at the subnet {}", last(id));
    let found = match arm.read::<Value>(subscription(id), id, NETWORK_API_VERSION, &what).await {
        Ok(Some(found)) => found,
        Ok(None) => return Finding::fail(CHECK, format!("there is no {id}"), "make it, or correct `subnet`"),
        Err(failure) => return Finding::failed(CHECK, failure.message),
    };
    let properties = &found["properties"];
    let delegations = properties["delegations"].as_array();
    let is_ours = |one: &Value| {
        one["properties"]["serviceName"].as_str().is_some_and(|name| name.eq_ignore_ascii_case(SERVICE))
    };
    if !delegations.is_some_and(|all| all.iter().any(is_ours)) {
        let fix = format!("az network vnet subnet update --ids {id} --delegations {SERVICE}");
        return Finding::fail(CHECK, format!("{} is not delegated to {SERVICE}", last(id)), fix);
    }
    if properties["natGateway"]["id"].as_str().is_none() {
        let message = format!("{} has no NAT gateway, so nothing in it reaches the Internet", last(id));
        return Finding::warn(CHECK, message, "give it one, unless users only want the private network");
    }
    Finding::ok(CHECK, format!("{} is delegated and has a way out", last(id)))
}

fn subscription(id: &str) -> &str {
    id.split('/').nth(2).unwrap_or_default()
}

fn last(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_whose_it_is_and_nothing_else_of_it_is_shown() {
        use base64::Engine as _;
        let claims = r#"{"appid":"a","oid":"o","tid":"t","secret":"s"}"#;
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims);
        let shown = whose(&format!("header.{payload}.signature"));
        assert_eq!(shown, ", as application a, object o, tenant t");
        assert_eq!(whose("opaque"), "");
    }
}
