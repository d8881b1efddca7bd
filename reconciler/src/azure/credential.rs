//! As whom requests are made.

use std::env;
use std::sync::Arc;

use azure_core::cloud::{CloudConfiguration, CustomConfiguration};
use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, Transport};
use azure_identity::{
    ClientAssertionCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use clap::ValueEnum;

use super::settings::{AzureError, AzureSettings};
use super::{Cloud, Endpoints};

/// How to identify oneself to Azure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CredentialKind {
    /// By what the surroundings offer.
    #[default]
    Auto,
    /// As a managed identity: that of Container Apps, App Service, Container Instances or a virtual machine.
    Managed,
    /// As a workload identity: a federated token in a file, as on Kubernetes.
    Workload,
    /// As whoever is logged in to `az` or `azd`.
    Developer,
}

/// What the surroundings say.
#[derive(Debug, Clone, Copy)]
struct Surroundings {
    federated_token: bool,
    identity_endpoint: bool,
}

impl Surroundings {
    fn look() -> Self {
        let has = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
        Self {
            federated_token: has("AZURE_FEDERATED_TOKEN_FILE"),
            identity_endpoint: has("IDENTITY_ENDPOINT"),
        }
    }
}

impl CredentialKind {
    /// What `auto` means here.
    const fn decide(self, around: Surroundings, has_client_id: bool) -> Self {
        match self {
            Self::Auto if around.federated_token => Self::Workload,
            Self::Auto if around.identity_endpoint || has_client_id => Self::Managed,
            Self::Auto => Self::Developer,
            chosen => chosen,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Managed => "managed identity",
            Self::Workload => "workload identity",
            Self::Developer => "developer tools",
        }
    }
}

pub(super) fn open(
    settings: &AzureSettings,
    endpoints: &Endpoints,
    transport: &Transport,
) -> Result<Arc<dyn TokenCredential>, AzureError> {
    let kind = settings.credential.decide(Surroundings::look(), settings.client_id.is_some());
    let client_options = ClientOptions {
        transport: Some(transport.clone()),
        cloud: Some(Arc::new(configuration(settings, endpoints))),
        ..ClientOptions::default()
    };
    let credential = match kind {
        CredentialKind::Managed => {
            let user_assigned_id = settings.client_id.clone().map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, client_options };
            ManagedIdentityCredential::new(Some(options))
                .map(|credential| credential as Arc<dyn TokenCredential>)
        }
        CredentialKind::Workload => {
            let mut options = WorkloadIdentityCredentialOptions::default();
            options.client_id.clone_from(&settings.client_id);
            options.credential_options = ClientAssertionCredentialOptions { client_options };
            WorkloadIdentityCredential::new(Some(options))
                .map(|credential| credential as Arc<dyn TokenCredential>)
        }
        CredentialKind::Developer | CredentialKind::Auto => {
            DeveloperToolsCredential::new(None).map(|credential| credential as Arc<dyn TokenCredential>)
        }
    };
    credential.map_err(|error| AzureError::Credential { kind: kind.as_str(), why: error.to_string() })
}

fn configuration(settings: &AzureSettings, endpoints: &Endpoints) -> CloudConfiguration {
    match (settings.cloud, &settings.authority) {
        (_, Some(_)) => {
            let mut custom = CustomConfiguration::default();
            custom.authority_host = endpoints.authority.as_str().trim_end_matches('/').to_owned();
            custom.into()
        }
        (Cloud::Public, None) => CloudConfiguration::AzurePublic,
        (Cloud::UsGovernment, None) => CloudConfiguration::AzureGovernment,
        (Cloud::China, None) => CloudConfiguration::AzureChina,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_takes_what_the_surroundings_offer() {
        let decide = |federated_token, identity_endpoint, has_client_id| {
            let around = Surroundings { federated_token, identity_endpoint };
            CredentialKind::Auto.decide(around, has_client_id)
        };
        // On Kubernetes, with both at hand: the token file is there for this very purpose.
        assert_eq!(decide(true, true, true), CredentialKind::Workload);
        // On Container Apps.
        assert_eq!(decide(false, true, true), CredentialKind::Managed);
        // On Container Instances, where nothing but the metadata service says so.
        assert_eq!(decide(false, false, true), CredentialKind::Managed);
        // On somebody's own machine.
        assert_eq!(decide(false, false, false), CredentialKind::Developer);
    }

    #[test]
    fn a_choice_is_not_overruled_by_the_surroundings() {
        let around = Surroundings { federated_token: true, identity_endpoint: true };
        for kind in [CredentialKind::Managed, CredentialKind::Workload, CredentialKind::Developer] {
            assert_eq!(kind.decide(around, true), kind);
        }
    }
}
