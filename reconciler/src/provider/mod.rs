//! Where gateways run.

#[cfg(feature = "azure")]
mod aci;
mod local;

use std::time::Duration;

use async_trait::async_trait;
use ebb_core::names::{GatewayName, RunId};
use ebb_core::observed::{Observed, Scope};
use ebb_core::outcome::Failure;
use ebb_core::spec::GatewaySpec;
use ebb_wire::Boot;

#[cfg(feature = "azure")]
pub use aci::{AciProvider, AciSettings, Home};
pub use local::{LocalProvider, LocalSettings};

/// A place that runs gateways.
///
/// # Guarantees
/// - Every call may be repeated, at once or after a crash, and does no harm.
/// - [`Provider::create`] leaves a gateway of the same name and run as it is, and never makes a second one of that name.
/// - [`Provider::delete`] deletes the gateway of the named run or none.
/// - [`Provider::list`] shows every gateway of the deployment and none of another. What it shows may lag behind; when it
///   shows nothing under a name, a later list that shows something is possible.
/// - Nothing is asked of the place that would restart a running gateway.
///
/// # Assumptions
/// - One daemon at a time acts for a deployment.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Everything in `scope` that exists. A part that cannot be looked at is named in [`Observed::unseen`]; it is a failure
    /// when nothing could be.
    async fn list(&self, scope: &Scope) -> Result<Observed, Failure>;

    /// Has a gateway created. Returns once that is accepted, which is before it runs.
    async fn create(&self, spec: &GatewaySpec, boot: &Boot) -> Result<(), Failure>;

    /// Has a gateway deleted. Returns once that is accepted. A gateway that is not there counts as deleted.
    async fn delete(&self, name: &GatewayName, run: &RunId) -> Result<(), Failure>;

    /// The last lines that the gateway of the named run has printed, at least a few minutes' worth of telemetry.
    async fn log_tail(&self, name: &GatewayName, run: &RunId) -> Result<String, Failure>;

    /// Brings what this place keeps between gateways and their users, such as the rules of a load balancer, into line with what
    /// it has just listed, and writes into `observed` what became of it. Whoever only wants to look does not call it.
    async fn tend(&self, _: &Scope, _: &mut Observed) {}

    /// Something suggests that this gateway is not as it was last seen; the next lists are to look at it itself. Whoever has
    /// a doubt may say so as often as it comes up.
    fn look_at(&self, name: &GatewayName);

    /// Another daemon has acted for some of the sessions until a moment ago: what it did last may be missing from the next lists.
    fn took_over(&self) {}

    /// Resolves when a list would probably show something new. It may never do so, and it may be wrong.
    async fn changed(&self);

    /// How often to list while everything is at rest, and while something is being created or deleted.
    fn pace(&self) -> Pace;
}

/// How often a provider wants to be asked.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// While everything is at rest.
    pub settled: Duration,
    /// While something is being created or deleted.
    pub moving: Duration,
}
