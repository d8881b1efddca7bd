//! Azure Resource Manager: container groups and little else.
//!
//! What Microsoft's service does that its clients get wrong is handled here once: a listing without `instanceView`, operations
//! that are announced in three different ways, throttling that gets worse when it is ignored, and words that did not exist when
//! this was written.

mod budget;
mod error;
mod group;
mod operation;

use std::sync::Arc;

use azure_core::http::headers::{CONTENT_TYPE, IF_MATCH};
use azure_core::http::{Method, Request, Url};
use ebb_core::outcome::{Class, Failure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use self::budget::{Budget, Kind};
use super::{Answer, Client};
use crate::clock;
use crate::leadership::Fence;

pub use error::{Code, Refusal};
pub use group::ContainerGroup;
pub use group::{Container, ContainerState, Event, GroupId, GroupState, IpAddress, ProvisioningState, View};
pub use operation::{Operation, Progress};

/// Version of the container group API: the newest stable one that Microsoft's own SDKs use by default.
pub const API_VERSION: &str = "2025-09-01";

/// Version of the API of virtual networks and load balancers.
pub const NETWORK_API_VERSION: &str = "2024-07-01";

/// Pages of a listing; more than this is a link that leads in circles.
const MOST_PAGES: usize = 1000;

/// A client for Azure Resource Manager. Clones share connections, tokens and budget.
#[derive(Debug, Clone)]
pub struct Arm {
    client: Client,
    management: Url,
    budget: Arc<Budget>,
    fence: Option<Fence>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default)]
    value: Vec<ContainerGroup>,
    next_link: Option<String>,
}

/// A request for something to be done.
struct Call<'a> {
    method: Method,
    url: Url,
    body: Option<&'a Value>,
    /// Only if the resource still has this ETag.
    etag: Option<&'a str>,
    subscription: &'a str,
    /// In words for people: "create the container group x".
    what: &'a str,
}

impl Arm {
    pub(super) fn new(client: Client, management: Url) -> Self {
        Self { client, management, budget: Arc::default(), fence: None }
    }

    /// The same client for changes that only the holder of this fence may make: once it is closed, nothing but questions is sent.
    #[must_use]
    pub fn behind(&self, fence: Fence) -> Self {
        Self { fence: Some(fence), ..self.clone() }
    }

    /// All container groups of a resource group, without `instanceView`, which only [`Arm::group`] has.
    ///
    /// # Errors
    /// When any page of the listing cannot be had: half a listing would make gateways look gone.
    pub async fn groups(
        &self,
        subscription: &str,
        resource_group: &str,
    ) -> Result<Vec<ContainerGroup>, Failure> {
        let what = format!("list the container groups of {resource_group}");
        let path = format!(
            "{}/providers/Microsoft.ContainerInstance/containerGroups",
            scope(subscription, resource_group)
        );
        let mut groups = Vec::new();
        let mut url = Some(self.url(&path, &[]));
        for _ in 0..MOST_PAGES {
            let Some(next) = url.take() else { return Ok(groups) };
            let page: Page = self.ask(Method::Get, next, None, subscription, &what).await?.json()?;
            groups.extend(page.value);
            url = page.next_link.filter(|link| !link.is_empty()).map(|link| self.own(&link)).transpose()?;
        }
        Err(Failure::new(Class::Transient, format!("cannot {what}: the listing has no end")))
    }

    /// One container group, with `instanceView`; `None` if there is none.
    ///
    /// # Errors
    /// When nobody knows.
    pub async fn group(&self, id: &GroupId) -> Result<Option<ContainerGroup>, Failure> {
        self.find(&self.url(&id.path(), &[]), &id.subscription, &format!("look at the container group {id}"))
            .await
    }

    /// Creates or replaces a container group. Properties that are left out get their defaults, and the containers of an existing
    /// group restart even if nothing has changed.
    ///
    /// # Errors
    /// When it was refused, or nobody knows.
    pub async fn put_group(&self, id: &GroupId, body: &Value) -> Result<Option<Operation>, Failure> {
        let what = format!("create the container group {id}");
        let answer =
            self.ask(Method::Put, self.url(&id.path(), &[]), Some(body), &id.subscription, &what).await?;
        Ok(Operation::announced(&answer, |link| self.own(link).ok()))
    }

    /// Sets the tags of a container group and nothing else, which restarts nothing.
    ///
    /// # Errors
    /// When it was refused, or nobody knows.
    pub async fn tag_group(&self, id: &GroupId, tags: &Value) -> Result<(), Failure> {
        let body = serde_json::json!({ "tags": tags });
        let what = format!("tag the container group {id}");
        self.ask(Method::Patch, self.url(&id.path(), &[]), Some(&body), &id.subscription, &what)
            .await
            .map(drop)
    }

    /// Has a container group deleted. It is gone when [`Arm::group`] says so.
    ///
    /// # Errors
    /// When it was refused, or nobody knows.
    pub async fn delete_group(&self, id: &GroupId) -> Result<Option<Operation>, Failure> {
        let what = format!("delete the container group {id}");
        let call = self.call(Method::Delete, self.url(&id.path(), &[]), &id.subscription, &what);
        let answer = self.send(&call).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        let answer = accepted(answer, &what)?;
        Ok(Operation::announced(&answer, |link| self.own(link).ok()))
    }

    /// Has the containers of a group stopped, which ends the bill and keeps the group.
    ///
    /// # Errors
    /// When it was refused, or nobody knows.
    pub async fn stop_group(&self, id: &GroupId) -> Result<(), Failure> {
        let url = self.url(&format!("{}/stop", id.path()), &[]);
        let what = format!("stop the container group {id}");
        self.ask(Method::Post, url, None, &id.subscription, &what).await.map(drop)
    }

    /// The last lines that a container has printed.
    ///
    /// # Errors
    /// When they cannot be had.
    pub async fn log(&self, id: &GroupId, container: &str, lines: u32) -> Result<String, Failure> {
        #[derive(Deserialize)]
        struct Logs {
            content: Option<String>,
        }
        let path = format!("{}/containers/{}/logs", id.path(), segment(container));
        let what = format!("read the log of the container group {id}");
        let url = self.url(&path, &[("tail", &lines.to_string())]);
        let logs: Logs = self.ask(Method::Get, url, None, &id.subscription, &what).await?.json()?;
        Ok(logs.content.unwrap_or_default())
    }

    /// How far an operation is.
    ///
    /// # Errors
    /// When nobody knows.
    pub async fn progress(&self, operation: &Operation, id: &GroupId) -> Result<Progress, Failure> {
        let what = format!("ask about the operation on the container group {id}");
        let call = self.call(Method::Get, operation.url.clone(), &id.subscription, &what);
        let answer = self.send(&call).await?;
        operation.progress(&answer, &what)
    }

    /// Anything of Azure Resource Manager at `path`, in the form of the given API version.
    ///
    /// # Errors
    /// When it cannot be had, or has another form.
    pub async fn read<T: DeserializeOwned>(
        &self,
        subscription: &str,
        path: &str,
        api_version: &str,
        what: &str,
    ) -> Result<Option<T>, Failure> {
        let mut url = self.management.clone();
        url.set_path(path);
        url.set_query(Some(&format!("api-version={api_version}")));
        self.find(&url, subscription, what).await
    }

    /// Replaces something of Azure Resource Manager by `body`, in the form of the given API version, if it still has this ETag;
    /// what it has become.
    ///
    /// # Errors
    /// When it was refused, or nobody knows. [`Class::Conflict`] when somebody else has changed it.
    pub async fn replace(
        &self,
        subscription: &str,
        path: &str,
        api_version: &str,
        (body, etag): (&Value, &str),
        what: &str,
    ) -> Result<Value, Failure> {
        let mut url = self.management.clone();
        url.set_path(path);
        url.set_query(Some(&format!("api-version={api_version}")));
        let call =
            Call { body: Some(body), etag: Some(etag), ..self.call(Method::Put, url, subscription, what) };
        accepted(self.send(&call).await?, what)?.json()
    }

    async fn find<T: DeserializeOwned>(
        &self,
        url: &Url,
        subscription: &str,
        what: &str,
    ) -> Result<Option<T>, Failure> {
        let answer = self.send(&self.call(Method::Get, url.clone(), subscription, what)).await?;
        if answer.status == 404 && Refusal::of(&answer).code.means_the_resource_is_gone() {
            return Ok(None);
        }
        accepted(answer, what)?.json().map(Some)
    }

    async fn ask(
        &self,
        method: Method,
        url: Url,
        body: Option<&Value>,
        subscription: &str,
        what: &str,
    ) -> Result<Answer, Failure> {
        let call = Call { body, ..self.call(method, url, subscription, what) };
        accepted(self.send(&call).await?, what)
    }

    fn call<'a>(&self, method: Method, url: Url, subscription: &'a str, what: &'a str) -> Call<'a> {
        Call { method, url, body: None, etag: None, subscription, what }
    }

    /// Sends a request once, when its turn comes.
    async fn send(&self, call: &Call<'_>) -> Result<Answer, Failure> {
        let Call { what, subscription, .. } = call;
        let kind = Kind::of(call.method);
        loop {
            match self.budget.take(subscription, kind, clock::monotonic()) {
                Ok(()) => break,
                Err(budget::Wait::ForTurn(wait)) => tokio::time::sleep(wait).await,
                Err(budget::Wait::AsAzureSaid(wait)) => {
                    let message = format!(
                        "cannot {what}: Azure wants no requests of this kind for another {} s",
                        wait.as_secs()
                    );
                    return Err(Failure::new(throttled(wait), message));
                }
            }
        }
        let mut request = Request::new(call.url.clone(), call.method);
        if let Some(body) = call.body {
            request.insert_header(CONTENT_TYPE, "application/json");
            request.set_body(body.to_string());
        }
        if let Some(etag) = call.etag {
            request.insert_header(IF_MATCH, etag.to_owned());
        }
        let sending = self.client.send(request);
        let sent = match self.fence.as_ref().filter(|_| kind != Kind::Read) {
            Some(fence) => fence
                .guard(sending)
                .await
                .map_err(|deposed| Failure::new(Class::Transient, format!("cannot {what}: {deposed}")))?,
            None => sending.await,
        };
        let answer = sent.map_err(|error| {
            let failure = Failure::from(error);
            Failure { message: format!("cannot {what}: {}", failure.message), ..failure }
        })?;
        if let Some(remaining) = answer.header(kind.remaining()) {
            self.budget.heed(subscription, kind, remaining, clock::monotonic());
        }
        if answer.status == 429 {
            let wait = answer.retry_after().unwrap_or(budget::UNSAID);
            self.budget.obey(subscription, kind, wait, clock::monotonic());
        }
        Ok(answer)
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.management.clone();
        url.set_path(path);
        url.query_pairs_mut().append_pair("api-version", API_VERSION).extend_pairs(query);
        url
    }

    /// A link from an answer, if it leads to where the token belongs.
    fn own(&self, link: &str) -> Result<Url, Failure> {
        let url: Option<Url> = link.parse().ok();
        url.filter(|url| url.origin() == self.management.origin()).ok_or_else(|| {
            let message =
                format!("Azure answered with a link to {link:.200}, which is not on {}", self.management);
            Failure::new(Class::Fatal, message)
        })
    }
}

fn accepted(answer: Answer, what: &str) -> Result<Answer, Failure> {
    if answer.is_success() { Ok(answer) } else { Err(Refusal::of(&answer).failure(what)) }
}

fn throttled(wait: std::time::Duration) -> Class {
    // Whoever waits a whole number of seconds must not be early.
    Class::Throttled { retry_after_seconds: wait.as_secs() + u64::from(wait.subsec_nanos() > 0) }
}

/// Path of a resource group.
fn scope(subscription: &str, resource_group: &str) -> String {
    format!("/subscriptions/{}/resourceGroups/{}", segment(subscription), segment(resource_group))
}

/// One segment of a path. Everything that gets here has been checked; this keeps a mistake in the check from naming another
/// resource.
fn segment(text: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "-_.()".contains(c);
    text.chars().map(|c| if safe(c) { c } else { '_' }).collect()
}
