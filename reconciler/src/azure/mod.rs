//! What every adapter for Azure shares: which cloud, as whom, and one way to send a request.
//!
//! ```text
//!   AzureSettings ─▶ Azure ─▶ Client (one for each audience of tokens) ─▶ Answer, or why there is none
//!                      └── credential, TLS, timeouts, User-Agent
//! ```
//!
//! Nothing here repeats a request. Whether one may be repeated, and when, is known only where its meaning is known.

pub mod arm;
mod client;
mod cloud;
mod credential;
pub mod lead;
pub mod lease;
mod settings;
pub mod sharing;
pub mod storage;
pub mod tables;
mod transport;

use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_core::http::Transport;

pub use client::{Answer, Client, Unanswered};
pub use cloud::{Cloud, Endpoints};
pub use credential::CredentialKind;
pub use settings::{AzureError, AzureSettings, Tags, address};
pub use transport::Trust;
pub(crate) use transport::http_client;

/// A way into Azure.
#[derive(Debug, Clone)]
pub struct Azure {
    endpoints: Endpoints,
    credential: Arc<dyn TokenCredential>,
    transport: Transport,
}

impl Azure {
    /// Gets ready. Nothing is sent before the first request.
    ///
    /// # Errors
    /// When the settings contradict each other or the machine has no trusted certificates.
    pub fn open(settings: &AzureSettings) -> Result<Self, AzureError> {
        Self::open_with(settings, Trust::OfMachine, None)
    }

    /// The same, trusting other certificates than the machine does, or as somebody of the caller's.
    ///
    /// # Errors
    /// As [`Azure::open`].
    pub fn open_with(
        settings: &AzureSettings,
        trust: Trust,
        credential: Option<Arc<dyn TokenCredential>>,
    ) -> Result<Self, AzureError> {
        let endpoints = settings.endpoints()?;
        let transport = transport::open(trust)?;
        let credential = match credential {
            Some(credential) => credential,
            None => credential::open(settings, &endpoints, &transport)?,
        };
        Ok(Self { endpoints, credential, transport })
    }

    /// Where the cloud's services are.
    #[must_use]
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// As whom requests are made.
    #[must_use]
    pub fn credential(&self) -> &Arc<dyn TokenCredential> {
        &self.credential
    }

    /// A client for the service whose tokens have this scope, for example `https://management.azure.com/.default`.
    #[must_use]
    pub fn client(&self, scope: &str) -> Client {
        let bearer = client::Bearer { credential: Arc::clone(&self.credential), scope: scope.to_owned() };
        Client::new(self.transport.clone(), Some(Arc::new(bearer)))
    }

    /// A client that identifies itself in no way, for example for addresses that carry a signature.
    #[must_use]
    pub fn anonymous(&self) -> Client {
        Client::new(self.transport.clone(), None)
    }

    /// A client for Azure's management.
    #[must_use]
    pub fn arm(&self) -> arm::Arm {
        arm::Arm::new(self.client(&self.endpoints.management_scope()), self.endpoints.management.clone())
    }
}
