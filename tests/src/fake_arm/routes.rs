//! Which request means what.

use axum::http::Method;
use serde_json::{Value, json};

use super::calls::Kind;
use super::groups::{Group, Refused, Standing};
use super::http::{Answer, Asked};
use super::{IDENTITY_HEADER, OTHER_SUBSCRIPTION, SUBSCRIPTION, State, TOKEN, schema};

/// API versions that the service knows, as far as anybody here uses them.
const VERSIONS: [&str; 2] = ["2023-05-01", "2025-09-01"];

/// The same of other services, by a part of their paths.
const OTHER_VERSIONS: [(&str, &str); 4] = [
    ("/providers/microsoft.network/", "2024-07-01"),
    ("/providers/microsoft.authorization/permissions", "2022-04-01"),
    ("/providers/microsoft.containerinstance", "2021-04-01"),
    ("/resourcegroups/", "2021-04-01"),
];

const RETRY_AFTER: u64 = 1;

/// What a request is about, and which group it names.
pub(super) fn kind(asked: &Asked) -> (Kind, String) {
    let segments: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    let lower: Vec<String> = segments.iter().map(|segment| segment.to_ascii_lowercase()).collect();
    let lower: Vec<&str> = lower.iter().map(String::as_str).collect();
    let name = |index: usize| segments.get(index).map(|&name| name.to_owned()).unwrap_or_default();
    match lower.as_slice() {
        ["msi", "token"] => (Kind::Token, String::new()),
        [
            "subscriptions",
            _,
            "resourcegroups",
            _,
            "providers",
            "microsoft.containerinstance",
            "containergroups",
        ] => (Kind::List, String::new()),
        [
            "subscriptions",
            _,
            "resourcegroups",
            _,
            "providers",
            "microsoft.containerinstance",
            "containergroups",
            _,
        ] => {
            let kind = match asked.method {
                Method::GET => Kind::Get,
                Method::PUT => Kind::Put,
                Method::PATCH => Kind::Patch,
                Method::DELETE => Kind::Delete,
                _ => Kind::Other,
            };
            (kind, name(7))
        }
        [_, _, _, _, _, _, "containergroups", _, "stop" | "start" | "restart"] => (Kind::Post, name(7)),
        [_, _, _, _, _, _, "containergroups", _, "containers", _, "logs"] => (Kind::Logs, name(7)),
        ["subscriptions", _, "providers", "microsoft.containerinstance", "locations", _, "operations", _] => {
            (Kind::Operation, String::new())
        }
        ["subscriptions", _, "providers", "microsoft.containerinstance", "locations", _, "usages"] => {
            (Kind::Usage, String::new())
        }
        [.., "providers", "microsoft.network", "loadbalancers", _] => {
            let kind = if asked.method == Method::PUT { Kind::PutLoadBalancer } else { Kind::LoadBalancer };
            (kind, name(7))
        }
        [.., "providers", "microsoft.network", "virtualnetworks", _, "subnets", _] => (Kind::Subnet, name(9)),
        [.., "providers", "microsoft.network", "publicipaddresses", _] => (Kind::PublicAddress, name(7)),
        [.., "providers", "microsoft.authorization", "permissions"] => (Kind::Permissions, String::new()),
        ["subscriptions", _, "providers", "microsoft.containerinstance"] => {
            (Kind::Registration, String::new())
        }
        ["subscriptions", _, "resourcegroups", _] => (Kind::ResourceGroup, name(3)),
        _ => (Kind::Other, String::new()),
    }
}

/// Whether some service knows this version.
fn is_known(asked: &Asked, version: &str) -> bool {
    let path = asked.path.to_ascii_lowercase();
    let of_other = OTHER_VERSIONS.iter().any(|(part, known)| path.contains(part) && *known == version);
    of_other || (path.contains("/providers/microsoft.containerinstance/") && VERSIONS.contains(&version))
}

pub(super) fn answer(state: &mut State, kind: Kind, asked: &Asked) -> Answer {
    if kind == Kind::Token {
        return token(asked);
    }
    if let Some(refusal) = refusal(state, asked) {
        return refusal;
    }
    state.groups.settle(&state.behaviour);
    let id = asked.path.trim_end_matches('/');
    let group = id.split("/containers/").next().unwrap_or(id);
    let group = ["/stop", "/start", "/restart"].iter().fold(group, |id, verb| id.trim_end_matches(verb));
    match kind {
        Kind::List => list(state, asked),
        Kind::Get => match state.groups.get(group) {
            Some(group) => Answer::new(200, group.shown(true)),
            None => not_found(group),
        },
        Kind::Put => put(state, group, &asked.body),
        Kind::Patch => match state.groups.tag(group, &asked.body["tags"]) {
            Some(shown) => Answer::new(200, shown),
            None => not_found(group),
        },
        Kind::Delete => delete(state, group),
        Kind::Post => match state.groups.act(group, &asked.path) {
            true => Answer::empty(204),
            false => not_found(group),
        },
        Kind::Operation => match state.groups.operation(asked.path.rsplit('/').next().unwrap_or_default()) {
            Some(body) => Answer::new(200, body).with("retry-after", RETRY_AFTER),
            None => Answer::error(404, "OperationNotFound", "there is no such operation"),
        },
        Kind::Logs => match state.groups.get(group) {
            Some(group) => {
                let tail = asked.query("tail").and_then(|tail| tail.parse().ok()).unwrap_or(1000);
                let log = group.log();
                let lines: Vec<_> = log.lines().collect();
                let lines = &lines[lines.len().saturating_sub(tail)..];
                Answer::new(200, json!({ "content": lines.join("\n") }))
            }
            None => not_found(group),
        },
        Kind::Usage => {
            let usage = |name: &str, current: usize, limit: usize| json!({ "unit": "Count", "currentValue": current, "limit": limit, "name": { "value": name, "localizedValue": name } });
            let groups = state.groups.all().count();
            let usages = [
                usage("ContainerGroups", groups, state.behaviour.quota),
                usage("StandardCores", groups, 100),
            ];
            Answer::new(200, json!({ "value": usages }))
        }
        Kind::LoadBalancer => match state.balancers.shown(id) {
            Some(shown) => Answer::new(200, shown),
            None => not_found(id),
        },
        Kind::PutLoadBalancer => {
            let etag = asked.headers.get("if-match").and_then(|value| value.to_str().ok());
            match state.balancers.put(id, &asked.body, etag) {
                Ok(shown) => Answer::new(200, shown).with("retry-after", RETRY_AFTER),
                Err((status, code, message)) => Answer::error(status, code, message),
            }
        }
        Kind::Subnet => {
            let service = json!({ "serviceName": "Microsoft.ContainerInstance/containerGroups" });
            let delegations =
                if state.behaviour.delegated { json!([{ "properties": service }]) } else { json!([]) };
            let properties = json!({ "delegations": delegations, "natGateway": { "id": "/exit" } });
            Answer::new(200, json!({ "id": id, "properties": properties }))
        }
        Kind::PublicAddress => match state.balancers.address(id) {
            Some(shown) => Answer::new(200, shown),
            None => not_found(id),
        },
        Kind::Permissions => {
            let allowed = json!({ "actions": state.behaviour.actions, "notActions": [] });
            Answer::new(200, json!({ "value": [allowed] }))
        }
        Kind::Registration => {
            let registered = if state.behaviour.registered { "Registered" } else { "NotRegistered" };
            Answer::new(
                200,
                json!({ "namespace": "Microsoft.ContainerInstance", "registrationState": registered }),
            )
        }
        Kind::ResourceGroup => Answer::new(200, json!({ "id": id, "location": "eastus2" })),
        Kind::Token | Kind::Other => Answer::error(404, "InvalidResourceType", "there is no such thing"),
    }
}

/// "How to use managed identities for App Service": what Container Apps offers in its place.
fn token(asked: &Asked) -> Answer {
    let header = asked.headers.get("x-identity-header").and_then(|value| value.to_str().ok());
    if header != Some(IDENTITY_HEADER) || asked.query("api-version") != Some("2019-08-01") {
        return Answer::new(400, json!({ "statusCode": 400, "message": "no header, or another API" }));
    }
    let token = json!({
        "access_token": TOKEN, "expires_on": "4102444800", "resource": asked.query("resource"), "token_type": "Bearer",
        "client_id": asked.query("client_id"),
    });
    Answer::new(200, token)
}

fn refusal(state: &State, asked: &Asked) -> Option<Answer> {
    let authorization = asked.headers.get("authorization").and_then(|value| value.to_str().ok());
    if state.behaviour.authenticated && authorization != Some(&format!("Bearer {TOKEN}")) {
        return Some(Answer::error(401, "InvalidAuthenticationToken", "The access token is invalid."));
    }
    match asked.query("api-version") {
        None => {
            return Some(Answer::error(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter is required.",
            ));
        }
        Some(version) if !is_known(asked, version) => {
            return Some(Answer::error(400, "InvalidApiVersionParameter", format!("{version} is not known")));
        }
        Some(_) => {}
    }
    let segments: Vec<&str> = asked.path.trim_matches('/').split('/').collect();
    if segments.get(1).is_none_or(|subscription| ![SUBSCRIPTION, OTHER_SUBSCRIPTION].contains(subscription)) {
        return Some(Answer::error(404, "SubscriptionNotFound", "The subscription could not be found."));
    }
    let group = segments
        .get(3)
        .filter(|_| segments.get(2).is_some_and(|word| word.eq_ignore_ascii_case("resourceGroups")))?;
    let known = state.behaviour.resource_groups.iter().any(|known| known.eq_ignore_ascii_case(group));
    (!known).then(|| {
        Answer::error(404, "ResourceGroupNotFound", format!("Resource group '{group}' could not be found."))
    })
}

fn not_found(id: &str) -> Answer {
    let name = id.rsplit('/').next().unwrap_or_default();
    let message = format!("The Resource 'Microsoft.ContainerInstance/containerGroups/{name}' was not found.");
    Answer::error(404, "ResourceNotFound", message)
}

fn list(state: &mut State, asked: &Asked) -> Answer {
    let scope = asked.path.trim_end_matches('/').to_ascii_lowercase();
    let skip: usize = asked.query("$skiptoken").and_then(|skip| skip.parse().ok()).unwrap_or(0);
    let (page, more) = state.groups.listing(state.behaviour.list_lag, &scope, skip, state.behaviour.page);
    let next = skip + page.len();
    let mut body = json!({ "value": page });
    if more {
        let version = asked.query("api-version").unwrap_or_default();
        body["nextLink"] =
            json!(format!("{}{}?api-version={version}&$skiptoken={next}", state.own, asked.path));
    }
    Answer::new(200, body)
}

fn put(state: &mut State, id: &str, body: &Value) -> Answer {
    if let Err(wrong) = schema::check(id, body) {
        return Answer::error(400, "InvalidRequestContent", wrong);
    }
    let is_new = state.groups.get(id).is_none();
    match state.groups.get(id).map(Group::standing) {
        Some(Standing::Moving) => return transitioning(id),
        None if state.groups.all().count() >= state.behaviour.quota => {
            let message = format!(
                "Resource type 'Microsoft.ContainerInstance/containerGroups' container group quota '{}' exceeded",
                state.behaviour.quota
            );
            return Answer::error(400, "ContainerGroupQuotaReached", message);
        }
        Some(Standing::Settled) | None => {}
    }
    let operation = state.groups.create(id, body, &state.behaviour);
    let shown = state.groups.get(id).map(|group| group.shown(true)).unwrap_or_default();
    let answer = Answer::new(if is_new { 201 } else { 200 }, shown);
    announced(answer, state, body["location"].as_str().unwrap_or("eastus2"), &operation)
}

fn delete(state: &mut State, id: &str) -> Answer {
    match state.groups.delete(id, &state.behaviour) {
        Ok((operation, location)) => announced(Answer::empty(202), state, &location, &operation),
        Err(Refused::Absent) => Answer::empty(204),
        Err(Refused::Moving) => transitioning(id),
    }
}

fn announced(answer: Answer, state: &State, location: &str, operation: &str) -> Answer {
    let path = format!(
        "subscriptions/{SUBSCRIPTION}/providers/Microsoft.ContainerInstance/locations/{location}/operations"
    );
    let url = format!("{}/{path}/{operation}?api-version=2018-06-01", state.own);
    // The service's own operations have an API version of another day; this one is known.
    let url = url.replace("2018-06-01", VERSIONS[1]);
    answer.with("azure-asyncoperation", url).with("retry-after", RETRY_AFTER)
}

fn transitioning(id: &str) -> Answer {
    let name = id.rsplit('/').next().unwrap_or_default();
    let message = format!("The container group '{name}' is still transitioning, please retry later.");
    Answer::error(409, "ContainerGroupTransitioning", message)
}
