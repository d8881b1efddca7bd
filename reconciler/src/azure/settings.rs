//! What people can set about Azure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use azure_core::http::Url;

use super::credential::CredentialKind;
use super::{Cloud, Endpoints};

/// Azure: where, as whom, and with which image.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Azure")]
pub struct AzureSettings {
    /// Subscription of sessions that name none.
    #[arg(long = "azure-subscription", env = "EBB_AZURE_SUBSCRIPTION", value_name = "ID")]
    pub subscription: Option<String>,
    /// Resource group of sessions that name none.
    #[arg(long = "azure-resource-group", env = "EBB_AZURE_RESOURCE_GROUP", value_name = "NAME")]
    pub resource_group: Option<String>,
    /// As whom to call Azure: `auto` takes workload identity where AZURE_FEDERATED_TOKEN_FILE is set, else the developer's
    /// `az` or `azd` login where neither IDENTITY_ENDPOINT nor --azure-client-id points to a managed identity, else the
    /// managed identity.
    #[arg(
        long = "azure-credential",
        env = "EBB_AZURE_CREDENTIAL",
        value_enum,
        default_value_t,
        value_name = "KIND"
    )]
    pub credential: CredentialKind,
    /// Client id of the user-assigned managed identity to use; without it, the system-assigned one.
    #[arg(long = "azure-client-id", env = "EBB_AZURE_CLIENT_ID", value_name = "ID")]
    pub client_id: Option<String>,
    /// Which cloud.
    #[arg(long = "azure-cloud", env = "EBB_AZURE_CLOUD", value_enum, default_value_t, value_name = "CLOUD")]
    pub cloud: Cloud,
    /// Azure Resource Manager somewhere else, for other clouds and for tests: https, or http on this machine.
    #[arg(long = "azure-management", env = "EBB_AZURE_MANAGEMENT", value_name = "URL")]
    pub management: Option<String>,
    /// Microsoft Entra somewhere else.
    #[arg(long = "azure-authority", env = "EBB_AZURE_AUTHORITY", value_name = "URL")]
    pub authority: Option<String>,
    /// Image of the gateways, best by digest: REGISTRY/NAME@sha256:…
    #[arg(long = "gateway-image", env = "EBB_GATEWAY_IMAGE", value_name = "IMAGE")]
    pub gateway_image: Option<String>,
    /// ARM id of the user-assigned identity with which gateways pull their image from a private registry.
    #[arg(long = "gateway-identity", env = "EBB_GATEWAY_IDENTITY", value_name = "ARM-ID")]
    pub gateway_identity: Option<String>,
    /// Tags of every gateway: Project=…,Environment=…,Owner=…,CostCenter=…
    #[arg(long = "tags", env = "EBB_TAGS", default_value = "", value_name = "NAME=VALUE,…")]
    pub tags: Tags,
}

/// Why Azure cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AzureError {
    /// Something has to be set.
    #[error("{variable} is not set: {why}")]
    Missing {
        /// The variable.
        variable: &'static str,
        /// What it is needed for.
        why: &'static str,
    },
    /// Something is set to what it cannot be.
    #[error("{variable} is set to {value:?}: {why}")]
    Wrong {
        /// The variable.
        variable: &'static str,
        /// What it is set to.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// No certificate is trusted, or TLS cannot be set up.
    #[error("no https connection can be made: {0}")]
    Tls(String),
    /// The credential cannot be had.
    #[error("no credential for Azure ({kind}): {why}")]
    Credential {
        /// The kind that was tried.
        kind: &'static str,
        /// Why not.
        why: String,
    },
}

impl AzureSettings {
    /// Where the chosen cloud's services are.
    ///
    /// # Errors
    /// When an address is none, or not of https.
    pub fn endpoints(&self) -> Result<Endpoints, AzureError> {
        let (management, authority) = self.cloud.addresses();
        let own = |own: &Option<String>, usual: &str| own.clone().unwrap_or_else(|| usual.to_owned());
        Ok(Endpoints {
            management: address("EBB_AZURE_MANAGEMENT", own(&self.management, management))?,
            authority: address("EBB_AZURE_AUTHORITY", own(&self.authority, authority))?,
        })
    }
}

/// An address that tokens may be sent to: https, or http to this machine, where nobody listens in.
///
/// # Errors
/// When it is something else; `variable` is where it came from.
pub fn address(variable: &'static str, value: String) -> Result<Url, AzureError> {
    let wrong = |value: &str, why: String| AzureError::Wrong { variable, value: value.to_owned(), why };
    let url: Url = value.parse().map_err(|error| wrong(&value, format!("it is no address: {error}")))?;
    let here = url.host_str().and_then(|host| host.parse::<IpAddr>().ok()).is_some_and(|ip| ip.is_loopback());
    if url.cannot_be_a_base() || !(url.scheme() == "https" || (url.scheme() == "http" && here)) {
        return Err(wrong(&value, "tokens are sent there, so it has to begin with https://".to_owned()));
    }
    Ok(url)
}

/// Tags that everything gets, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(pub BTreeMap<String, String>);

/// Azure allows 50 tags on a resource; the rest is for ownership marks.
const MOST_TAGS: usize = 40;

impl FromStr for Tags {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut tags = BTreeMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| format!("{pair:?} has no `=`; write NAME=VALUE,NAME=VALUE"))?;
            let (name, value) = (name.trim(), value.trim());
            // "Use tags to organize your Azure resources": limits.
            let fits =
                (1..=512).contains(&name.len()) && !name.contains(['<', '>', '%', '&', '\\', '?', '/']);
            if !fits || value.len() > 256 {
                return Err(format!(
                    "the tag {name:?} does not fit Azure's limits: a name of at most 512 characters without <>%&\\?/, a \
                     value of at most 256"
                ));
            }
            if name.to_ascii_lowercase().starts_with("ebb-") {
                return Err(format!(
                    "the tag {name:?} begins with `ebb-`; such tags mark what belongs to whom"
                ));
            }
            if tags.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(format!("the tag {name:?} is given twice"));
            }
        }
        if tags.len() > MOST_TAGS {
            return Err(format!("{} tags are more than {MOST_TAGS}", tags.len()));
        }
        Ok(Self(tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_as_they_are_written_in_shells_and_templates() {
        let tags: Tags = "Project=ebb, Environment=dev,Owner=a=b,CostCenter=".parse().unwrap();
        let pairs: Vec<_> = tags.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(pairs, [("CostCenter", ""), ("Environment", "dev"), ("Owner", "a=b"), ("Project", "ebb")]);
        assert_eq!("".parse::<Tags>().unwrap(), Tags::default());
    }

    #[test]
    fn tags_that_azure_or_ebb_could_not_bear_are_refused() {
        for (text, part) in [
            ("Project", "no `=`"),
            ("=x", "limits"),
            ("a/b=x", "limits"),
            ("a=1,a=2", "twice"),
            ("ebb-session=x", "belongs"),
            (&format!("a={}", "x".repeat(257)), "limits"),
        ] {
            let error = text.parse::<Tags>().unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn tokens_are_sent_over_https_only() {
        let settings = |management: &str| AzureSettings {
            management: Some(management.to_owned()),
            ..AzureSettings::default()
        };
        assert_eq!(
            settings("https://127.0.0.1:8443").endpoints().unwrap().management_scope(),
            "https://127.0.0.1:8443/.default"
        );
        assert!(settings("http://127.0.0.1:8080").endpoints().is_ok(), "nobody listens in");
        for wrong in
            ["http://192.0.2.1:8080", "http://localhost.example", "management.azure.com", "mailto:a@b"]
        {
            assert!(settings(wrong).endpoints().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_cloud_has_addresses() {
        for cloud in [Cloud::Public, Cloud::UsGovernment, Cloud::China] {
            let settings = AzureSettings { cloud, ..AzureSettings::default() };
            assert!(settings.endpoints().is_ok(), "{cloud:?}");
        }
    }
}
