//! Adapters for Azure against the nearest real thing: the imitation of Azure Resource Manager, Microsoft's own SDK, and Azurite.

#![allow(clippy::unwrap_used, reason = "a test ends where its world is not as it says")]

mod blob;
mod doctor;
mod fencing;
mod measure;
mod provider;
mod sdk;
mod storage;
mod store;
mod vault;

use std::sync::Arc;

use async_trait::async_trait;
use azure_core::credentials::{AccessToken, TokenCredential, TokenRequestOptions};
use azure_core::time::{Duration, OffsetDateTime};
use ebb::azure::{Azure, AzureSettings, Trust};
use ebb::leadership::Leadership;
use ebb::provider::{AciProvider, AciSettings};
use ebb_tests::fake_arm::{FakeArm, RESOURCE_GROUP, SUBSCRIPTION, TOKEN};

/// Gives out the token that the imitations know.
#[derive(Debug)]
struct Known;

#[async_trait]
impl TokenCredential for Known {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        Ok(AccessToken::new(TOKEN, OffsetDateTime::now_utc() + Duration::hours(1)))
    }
}

/// Azure with its management at `management`.
fn azure(management: &str) -> (Azure, AzureSettings) {
    let settings = AzureSettings {
        subscription: Some(SUBSCRIPTION.to_owned()),
        resource_group: Some(RESOURCE_GROUP.to_owned()),
        management: Some(management.to_owned()),
        gateway_image: Some("ebb.azurecr.io/ebb-gateway:test".to_owned()),
        gateway_identity: Some(format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/{RESOURCE_GROUP}/providers/Microsoft.ManagedIdentity/\
             userAssignedIdentities/pull"
        )),
        tags: "Project=ebb,Environment=test,Owner=o,CostCenter=c".parse().unwrap(),
        ..AzureSettings::default()
    };
    (Azure::open_with(&settings, Trust::OfMachine, Some(Arc::new(Known))).unwrap(), settings)
}

/// The provider `aci` on an imitation, of a daemon that shares nothing.
fn aci(fake: &FakeArm) -> AciProvider {
    aci_of(fake, Leadership::alone())
}

/// The same for a daemon that leads what is said.
fn aci_of(fake: &FakeArm, leadership: Arc<Leadership>) -> AciProvider {
    let (azure, settings) = azure(&fake.url());
    AciProvider::new(&azure, AciSettings::of(&settings).unwrap(), leadership)
}

#[expect(clippy::print_stderr, reason = "a test that does nothing must not look like one that passed")]
fn notice(text: &str) {
    eprintln!("SKIPPED: {text}");
}
