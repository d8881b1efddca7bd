//! What Azure says when it says no.

use ebb_core::outcome::{Class, Failure};
use serde::Deserialize;

use super::super::Answer;
use super::budget::UNSAID;
use super::throttled;

/// The `code` of an error, as far as it makes a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// Another operation on the group is in progress ("Container group transitioning state").
    Transitioning,
    /// No capacity in the region, or a limit against abuse.
    NoCapacity,
    /// Too many requests.
    TooManyRequests,
    /// The registry did not answer, or refused for now.
    Registry,
    /// A fault of Azure.
    Internal,
    /// Refused for now.
    NotAllowedNow,
    /// A quota of the subscription is used up.
    Quota,
    /// The image does not exist, or may not be pulled.
    Image,
    /// The DNS name belongs to somebody else.
    DnsName,
    /// The port of a load balancer leads somewhere else.
    PortTaken,
    /// The request contradicts itself or the API.
    Invalid,
    /// The caller may not do this.
    Forbidden,
    /// The caller is not known.
    Unauthenticated,
    /// The resource does not exist.
    NotFound,
    /// The resource group does not exist.
    NoResourceGroup,
    /// The subscription does not exist, is disabled, or is not visible to the caller.
    NoSubscription,
    /// The subscription does not use container instances yet.
    NotRegistered,
    /// The resource group is being deleted.
    GroupGoing,
    /// A wrapper around what is in the details.
    Wrapper,
    /// A word that this Ebb does not know.
    Unknown(String),
}

impl From<&str> for Code {
    fn from(code: &str) -> Self {
        match code.trim_end_matches('.') {
            "ContainerGroupTransitioning"
            | "AnotherOperationInProgress"
            | "Conflict"
            | "PreconditionFailed"
            | "RetryableError" => Self::Transitioning,
            "ServiceUnavailable" | "InsufficientCapacity" | "ResourcesNotAvailable" | "SkuNotAvailable" => {
                Self::NoCapacity
            }
            "TooManyRequests"
            | "SubscriptionRequestsThrottled"
            | "ResourceRequestsThrottled"
            | "ResourceCollectionRequestsThrottled" => Self::TooManyRequests,
            "RegistryErrorResponse" => Self::Registry,
            "InternalServerError"
            | "InternalError"
            | "ServerTimeout"
            | "GatewayTimeout"
            | "BadGateway"
            | "OperationPreempted" => Self::Internal,
            "OperationNotAllowed" => Self::NotAllowedNow,
            "ContainerGroupQuotaReached" | "QuotaExceeded" | "ResourceQuotaExceeded" => Self::Quota,
            "InaccessibleImage" | "ImagePullFailure" | "InvalidImageRegistryCredentialType" => Self::Image,
            "DnsNameLabelNotAvailable" | "DnsRecordInUse" => Self::DnsName,
            "RulesUseSameFrontendPortProtocolAndIPConfig" => Self::PortTaken,
            "BadRequest"
            | "InvalidRequestContent"
            | "InvalidTemplate"
            | "InvalidParameter"
            | "InvalidApiVersionParameter"
            | "MissingIpAddressPorts"
            | "OsVersionNotSupported"
            | "LocationNotAvailableForResourceType"
            | "SpotPriorityContainerGroupNotSupportedForInboundConnectivity" => Self::Invalid,
            "AuthorizationFailed"
            | "LinkedAuthorizationFailed"
            | "RequestDisallowedByPolicy"
            | "Forbidden" => Self::Forbidden,
            "InvalidAuthenticationToken"
            | "ExpiredAuthenticationToken"
            | "InvalidAuthenticationTokenTenant"
            | "AuthenticationFailed" => Self::Unauthenticated,
            "ResourceNotFound" | "NotFound" => Self::NotFound,
            "ResourceGroupNotFound" => Self::NoResourceGroup,
            "SubscriptionNotFound" | "InvalidSubscriptionId" | "ReadOnlyDisabledSubscription" => {
                Self::NoSubscription
            }
            "MissingSubscriptionRegistration" => Self::NotRegistered,
            "ResourceGroupBeingDeleted" => Self::GroupGoing,
            "ResourceOperationFailure" | "DeploymentFailed" => Self::Wrapper,
            other => Self::Unknown(other.chars().take(100).collect()),
        }
    }
}

impl Code {
    /// Whether a 404 with this code says that the resource itself is gone, and not what it would be in. Somebody who
    /// mistakes the one for the other forgets gateways that live.
    #[must_use]
    pub fn means_the_resource_is_gone(&self) -> bool {
        match self {
            Self::NotFound => true,
            Self::Unknown(word) => word.is_empty(),
            _ => false,
        }
    }

    fn class(&self, status: u16) -> Class {
        match self {
            Self::Transitioning | Self::GroupGoing => Class::Conflict,
            Self::NoCapacity | Self::Quota => Class::Quota,
            Self::TooManyRequests => throttled(UNSAID),
            Self::Registry | Self::Internal | Self::NotAllowedNow => Class::Transient,
            Self::Image
            | Self::DnsName
            | Self::PortTaken
            | Self::Forbidden
            | Self::Unauthenticated
            | Self::NotFound
            | Self::NoResourceGroup
            | Self::NoSubscription
            | Self::NotRegistered => Class::Stalled,
            Self::Invalid => Class::Fatal,
            Self::Wrapper | Self::Unknown(_) => match status {
                429 => throttled(UNSAID),
                408 | 500.. => Class::Transient,
                409 | 412 => Class::Conflict,
                401 | 403 | 404 => Class::Stalled,
                _ => Class::Fatal,
            },
        }
    }

    /// What a person can do.
    const fn advice(&self) -> Option<&'static str> {
        match self {
            Self::NoCapacity => Some("the region has no capacity at the moment; another region may have"),
            Self::Quota => Some(
                "ask for more quota, or let other container groups of the subscription end; the portal shows the usage at the \
                 subscription, under Usage + quotas",
            ),
            Self::Image => Some(
                "check EBB_GATEWAY_IMAGE, and that EBB_GATEWAY_IDENTITY has the role AcrPull on the registry",
            ),
            Self::DnsName => Some("the name is taken; give the deployment or the session another name"),
            Self::PortTaken => {
                Some("another rule of the load balancer has the port; give the session another `port`")
            }
            Self::Forbidden => Some(
                "give the daemon's identity its role on the resource group; `az role assignment list --all --assignee \
                     CLIENT_ID` shows those it has",
            ),
            Self::Unauthenticated => Some(
                "check EBB_AZURE_CREDENTIAL and EBB_AZURE_CLIENT_ID; `az account show` says who is logged in",
            ),
            Self::NoResourceGroup => {
                Some("create the resource group, or correct `resourceGroup` or EBB_AZURE_RESOURCE_GROUP")
            }
            Self::NoSubscription => Some(
                "correct `subscription` or EBB_AZURE_SUBSCRIPTION, and check that the identity has a role there",
            ),
            Self::NotRegistered => Some("run `az provider register --namespace Microsoft.ContainerInstance`"),
            Self::Invalid => {
                Some("this is a fault of Ebb, or of a setting that it passes on; please report it")
            }
            Self::Transitioning
            | Self::TooManyRequests
            | Self::Registry
            | Self::Internal
            | Self::NotAllowedNow
            | Self::NotFound
            | Self::GroupGoing
            | Self::Wrapper
            | Self::Unknown(_) => None,
        }
    }
}

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// What it is.
    pub code: Code,
    /// The code as Azure wrote it, and its words.
    pub words: String,
    retry_after: Option<std::time::Duration>,
    request: Option<String>,
}

/// `{"error": {"code", "message", "details": […]}}`, or without the outer object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Detail {
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) details: Vec<Detail>,
}

#[derive(Deserialize)]
struct Envelope {
    error: Detail,
}

impl Detail {
    /// The innermost error that says more than a wrapper around it.
    fn telling(&self) -> &Self {
        match self.details.first() {
            Some(inner) if !inner.code.is_empty() && Code::from(self.code.as_str()) == Code::Wrapper => {
                inner.telling()
            }
            _ => self,
        }
    }
}

impl Refusal {
    /// Reads an answer.
    #[must_use]
    pub fn of(answer: &Answer) -> Self {
        let envelope = serde_json::from_slice::<Envelope>(&answer.body).map(|envelope| envelope.error);
        let detail = envelope.or_else(|_| serde_json::from_slice(&answer.body)).unwrap_or_default();
        let mut refusal = Self::from_detail(answer.status, &detail);
        refusal.retry_after = answer.retry_after();
        refusal.request = answer.request_id().map(str::to_owned);
        refusal
    }

    pub(super) fn from_detail(status: u16, detail: &Detail) -> Self {
        let Detail { code, message, .. } = detail.telling();
        let message: String = message.chars().take(800).collect();
        let words = match (code.as_str(), message.trim()) {
            ("", "") => format!("HTTP status {status}"),
            ("", message) => message.to_owned(),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        Self { status, code: Code::from(code.as_str()), words, retry_after: None, request: None }
    }

    /// As what it counts.
    #[must_use]
    pub fn class(&self) -> Class {
        match (self.code.class(self.status), self.retry_after) {
            (Class::Throttled { .. }, Some(wait)) => throttled(wait),
            (class, _) => class,
        }
    }

    /// In words for people. `what` is what was to be done.
    #[must_use]
    pub fn failure(&self, what: &str) -> Failure {
        let words = self.words.trim_end_matches('.');
        let advice = self.code.advice().map(|advice| format!(". What to do: {advice}")).unwrap_or_default();
        let request = self.request.as_ref().map(|id| format!(" (request {id})")).unwrap_or_default();
        Failure::new(self.class(), format!("cannot {what}: {words}{request}{advice}"))
    }
}

#[cfg(test)]
mod tests {
    use azure_core::http::headers::Headers;

    use super::*;

    fn refusal(status: u16, body: &str) -> Refusal {
        Refusal::of(&Answer { status, headers: Headers::new(), body: body.as_bytes().to_vec() })
    }

    fn class(status: u16, code: &str) -> Class {
        refusal(status, &format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#)).class()
    }

    #[test]
    fn what_is_known_of_azure_s_codes_decides_and_not_the_status() {
        for (status, code, expected) in [
            (409, "ContainerGroupTransitioning", Class::Conflict),
            (409, "ServiceUnavailable", Class::Quota),
            (409, "InsufficientCapacity.", Class::Quota),
            (409, "RegistryErrorResponse", Class::Transient),
            (409, "OperationNotAllowed", Class::Transient),
            (500, "InternalServerError", Class::Transient),
            (400, "ContainerGroupQuotaReached", Class::Quota),
            (400, "InaccessibleImage", Class::Stalled),
            (400, "OsVersionNotSupported", Class::Fatal),
            (409, "DnsNameLabelNotAvailable", Class::Stalled),
            (400, "MissingIpAddressPorts", Class::Fatal),
            (403, "AuthorizationFailed", Class::Stalled),
            (404, "ResourceGroupNotFound", Class::Stalled),
        ] {
            assert_eq!(class(status, code), expected, "{code}");
        }
    }

    #[test]
    fn an_unknown_code_is_judged_by_its_status() {
        for (status, expected) in
            [(503, Class::Transient), (409, Class::Conflict), (403, Class::Stalled), (400, Class::Fatal)]
        {
            assert_eq!(class(status, "SomethingNew"), expected, "{status}");
        }
        assert!(matches!(class(429, "SomethingNew"), Class::Throttled { .. }));
    }

    #[test]
    fn a_wrapper_is_looked_into() {
        let body = r#"{"error":{"code":"ResourceOperationFailure","message":"see details",
            "details":[{"code":"InaccessibleImage","message":"The image 'x' cannot be pulled."}]}}"#;
        let failure = refusal(409, body).failure("create g");
        assert_eq!(failure.class, Class::Stalled);
        assert!(failure.message.contains("The image 'x' cannot be pulled. What to do:"), "{failure}");
    }

    #[test]
    fn bodies_of_any_form_are_survived() {
        assert_eq!(refusal(502, "<html>Bad Gateway</html>").class(), Class::Transient);
        assert_eq!(
            refusal(409, r#"{"code":"ContainerGroupTransitioning","message":""}"#).class(),
            Class::Conflict
        );
        assert!(refusal(418, "").failure("x").message.contains("418"));
    }

    #[test]
    fn a_missing_resource_group_is_not_taken_for_a_missing_group() {
        let gone = |code| {
            refusal(404, &format!(r#"{{"error":{{"code":"{code}","message":""}}}}"#))
                .code
                .means_the_resource_is_gone()
        };
        assert!(gone("ResourceNotFound"));
        assert!(!gone("ResourceGroupNotFound"));
        assert!(!gone("SubscriptionNotFound"));
        assert!(!gone("InvalidResourceType"));
    }
}
