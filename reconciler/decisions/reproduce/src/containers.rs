//! `azure_mgmt_containerinstance` 0.21.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use azure_core::auth::{AccessToken, TokenCredential};
use azure_core::{RetryOptions, Url};
use azure_mgmt_containerinstance::package_preview_2024_05::{Client, models::ContainerGroup};
use serde_json::json;
use tokio::time::timeout;

use crate::Shown;
use crate::server::Server;

#[derive(Debug)]
struct Nobody;

#[async_trait]
impl TokenCredential for Nobody {
    async fn get_token(&self, _: &[&str]) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new("token", time::OffsetDateTime::now_utc() + Duration::from_secs(3600)))
    }

    async fn clear_cache(&self) -> azure_core::Result<()> {
        Ok(())
    }
}

fn client(server: &Server) -> Client {
    let url: Url = server.url.parse().expect("an address");
    Client::builder(Arc::new(Nobody))
        .endpoint(url)
        .scopes(&["https://management.azure.com/.default"])
        .retry(RetryOptions::none())
        .build()
        .expect("a client")
}

/// A group as Azure shows it while it is at work on it.
fn group(state: &str) -> String {
    json!({ "id": "/g", "name": "g", "location": "eastus2", "properties": { "provisioningState": state, "osType": "Linux",
            "containers": [] } })
    .to_string()
}

/// Longer than any poll that a `Retry-After` of nothing leaves.
const WITHIN: Duration = Duration::from_secs(10);

pub async fn show() -> Vec<Shown> {
    vec![create("Pending").await, create("Failed").await, delete().await, refused().await]
}

/// The create poller, with 201 and then 200 with this state.
async fn create(state: &'static str) -> Shown {
    let accepted = ("HTTP/1.1 201 Created\r\nretry-after: 0", group("Pending"));
    let server = Server::start(vec![accepted, ("HTTP/1.1 200 OK\r\nretry-after: 0", group(state))]).await;
    let body: ContainerGroup = serde_json::from_str(&group("")).expect("a group");
    let created = client(&server).container_groups_client().create_or_update("s", "r", "g", body);
    let outcome = timeout(WITHIN, async { created.await.map(drop) }).await;
    let puts = server.asked().iter().filter(|line| line.starts_with("PUT")).count();
    Shown {
        claim: match state {
            "Pending" => "azure_mgmt_containerinstance: create sends the PUT again, and is Ok while the state is Pending",
            _ => "azure_mgmt_containerinstance: create is Ok although the state is Failed",
        },
        seen: format!("{puts} PUTs; {}", words(&outcome)),
        holds: puts == 2 && matches!(outcome, Ok(Ok(()))),
    }
}

/// The delete poller, with 202 and no body.
async fn delete() -> Shown {
    let server = Server::start(vec![("HTTP/1.1 202 Accepted\r\nretry-after: 0", String::new())]).await;
    let deleted = client(&server).container_groups_client().delete("s", "r", "g");
    let outcome = timeout(WITHIN, async { deleted.await.map(drop) }).await;
    Shown {
        claim: "azure_mgmt_containerinstance: delete that is accepted with 202 is an error, and never polled",
        seen: format!("asked {:?}; {}", server.asked().len(), words(&outcome)),
        holds: matches!(outcome, Ok(Err(_))) && server.asked().len() == 1,
    }
}

/// What is left of `Retry-After` when a call is refused.
async fn refused() -> Shown {
    let body = json!({ "error": { "code": "TooManyRequests", "message": "later" } }).to_string();
    let server = Server::start(vec![("HTTP/1.1 429 Too Many Requests\r\nretry-after: 17", body)]).await;
    let got = client(&server).container_groups_client().get("s", "r", "g").await;
    let (status, header) = match &got {
        Err(error) => match error.as_http_error() {
            // Its headers are private; only the text that people read has them.
            Some(http) => (u16::from(http.status()), http.to_string().contains("17")),
            None => (0, false),
        },
        Ok(_) => (200, false),
    };
    Shown {
        claim: "azure_mgmt_containerinstance: Retry-After of a refused call is only in the error's text",
        seen: format!("status {status}; in the text: {header}"),
        holds: status == 429 && header,
    }
}

fn words(outcome: &Result<azure_core::Result<()>, tokio::time::error::Elapsed>) -> String {
    match outcome {
        Ok(Ok(())) => "Ok".to_owned(),
        Ok(Err(error)) => format!("Err: {error}"),
        Err(_) => format!("nothing within {} s", WITHIN.as_secs()),
    }
}
