//! Azure Resource Manager as far as container groups go, on a port of this machine.
//!
//! It behaves as Microsoft documents the service and as people report it: a listing lacks `instanceView` and may be old, a PUT
//! restarts what runs, a group can be made and have no address yet, operations are announced by `Azure-AsyncOperation`, and an
//! answer can get lost after the deed. The containers of its groups are real processes where it is told how to start them, so
//! that real traffic runs through what it "deploys".
//!
//! It knows nothing of Ebb except how its image is started.

mod balancers;
mod calls;
mod containers;
mod forwarder;
mod groups;
mod http;
mod routes;
pub mod schema;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::Pid;
use serde_json::Value;

pub use balancers::{LOAD_BALANCER, SUBNET};
pub use calls::{Call, Fault, Kind};
pub use containers::Image;
pub use forwarder::Forwarder;
pub use groups::Fate;

use self::balancers::Balancers;
use self::calls::Calls;
use self::groups::Groups;

/// The subscription that everything is in, unless somebody says otherwise.
pub const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000001";

/// Another one that exists, with the same resource groups.
pub const OTHER_SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000002";

/// The resource group that exists, unless others are named.
pub const RESOURCE_GROUP: &str = "rg-ebb";

/// The token that its identity endpoint gives out.
pub const TOKEN: &str = "a-token-of-the-fake";

/// The secret by which a program shows that it may ask for tokens.
pub const IDENTITY_HEADER: &str = "a-header-of-the-fake";

/// What the role of a daemon allows ([`Behaviour::actions`]).
pub const ACTIONS: [&str; 6] = [
    "Microsoft.ContainerInstance/containerGroups/*",
    "Microsoft.ContainerInstance/locations/*/read",
    "Microsoft.Network/loadBalancers/*",
    "Microsoft.Network/virtualNetworks/subnets/*",
    "Microsoft.Network/publicIPAddresses/*",
    "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action",
];

/// How the service behaves.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// From the PUT to `Succeeded`.
    pub create: Duration,
    /// From the DELETE to 404.
    pub delete: Duration,
    /// How long a group that is made has no address.
    pub addressless: Duration,
    /// How old listings are.
    pub list_lag: Duration,
    /// Groups on one page of a listing.
    pub page: usize,
    /// Groups that the subscription may have.
    pub quota: usize,
    /// Resource groups that exist.
    pub resource_groups: Vec<String>,
    /// Whether requests need the token.
    pub authenticated: bool,
    /// The address that groups get.
    pub address: String,
    /// Addresses that groups in a subnet get, each another one, in turn.
    pub private: Vec<String>,
    /// What the caller may do.
    pub actions: Vec<String>,
    /// Whether the subscription uses container instances.
    pub registered: bool,
    /// Whether the subnet is delegated to container groups.
    pub delegated: bool,
    /// How far its clock is ahead, in seconds.
    pub ahead: i64,
    /// A file in the form of `/etc/hosts`, in which their names are made known.
    pub hosts: Option<std::path::PathBuf>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            create: Duration::from_millis(300),
            delete: Duration::from_millis(300),
            addressless: Duration::ZERO,
            list_lag: Duration::ZERO,
            page: 100,
            quota: 100,
            resource_groups: vec![RESOURCE_GROUP.to_owned()],
            authenticated: true,
            address: "127.0.0.1".to_owned(),
            private: (4..=250).map(|host| format!("10.1.0.{host}")).collect(),
            actions: ACTIONS.map(str::to_owned).to_vec(),
            registered: true,
            delegated: true,
            ahead: 0,
            hosts: None,
        }
    }
}

/// Everything behind the lock.
struct State {
    behaviour: Behaviour,
    groups: Groups,
    balancers: Balancers,
    calls: Calls,
    own: String,
}

/// The service. Dropping it ends its containers.
pub struct FakeArm {
    address: SocketAddr,
    shared: Shared,
}

#[derive(Clone)]
struct Shared(Arc<Mutex<State>>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FakeArm {
    /// Starts the service on a listener. Containers are started from `image`; without one they exist on paper only.
    ///
    /// # Panics
    /// When the listener is none.
    #[must_use]
    pub fn start(listener: TcpListener, behaviour: Behaviour, image: Option<Image>) -> Self {
        let address = listener.local_addr().expect("it listens");
        let own = format!("http://{address}");
        let state = State {
            behaviour,
            groups: Groups::new(image),
            balancers: Balancers::default(),
            calls: Calls::default(),
            own,
        };
        let shared = Shared(Arc::new(Mutex::new(state)));
        http::serve(listener, shared.clone());
        containers::watch(&shared);
        Self { address, shared }
    }

    /// The same on any free port of loopback.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn on_loopback(behaviour: Behaviour) -> Self {
        Self::start(TcpListener::bind("127.0.0.1:0").expect("a free port"), behaviour, None)
    }

    /// Where it is: what `EBB_AZURE_MANAGEMENT` is set to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a program needs in its environment to be known here.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("IDENTITY_ENDPOINT", format!("{}/msi/token", self.url())),
            ("IDENTITY_HEADER", IDENTITY_HEADER.to_owned()),
            ("EBB_AZURE_MANAGEMENT", self.url()),
            ("EBB_AZURE_SUBSCRIPTION", SUBSCRIPTION.to_owned()),
            ("EBB_AZURE_RESOURCE_GROUP", RESOURCE_GROUP.to_owned()),
            ("EBB_AZURE_CLIENT_ID", "11111111-1111-1111-1111-111111111111".to_owned()),
            ("EBB_GATEWAY_IMAGE", "ebb.azurecr.io/ebb-gateway:test".to_owned()),
        ]
    }

    /// Changes how the service behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.shared.lock().behaviour);
    }

    /// What goes wrong with the next calls of a kind, in order.
    pub fn fail(&self, kind: Kind, fault: Fault) {
        self.shared.lock().calls.fail(kind, fault);
    }

    /// The same after this many calls of the kind that go well.
    pub fn fail_later(&self, kind: Kind, after: usize, fault: Fault) {
        let calls = &mut self.shared.lock().calls;
        (0..after).for_each(|_| calls.fail(kind, Fault::None));
        calls.fail(kind, fault);
    }

    /// How the next creations end, in order; after that they succeed.
    pub fn fate(&self, fate: Fate) {
        self.shared.lock().groups.fates.push_back(fate);
    }

    /// The next groups that are deleted live through this many deletes.
    pub fn survive(&self, deletes: u32) {
        self.shared.lock().groups.survivals.push_back(deletes);
    }

    /// Every call so far, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.made.clone()
    }

    /// Calls of a kind so far.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.shared.lock().calls.made.iter().filter(|call| call.kind == kind).count()
    }

    /// Does `then` when the `number`th call of management, counted from 1, has had its effect; its answer gets lost.
    pub fn interrupt(&self, number: usize, then: impl FnOnce() + Send + 'static) {
        self.shared.lock().calls.interrupt(number, Box::new(then));
    }

    /// Does `then` before the answer to the next call of a kind goes out, which it does afterwards.
    pub fn before_answer(&self, kind: Kind, then: impl FnOnce() + Send + 'static) {
        self.shared.lock().calls.before_answer(kind, Box::new(then));
    }

    /// Every group there is, as a GET shows it.
    #[must_use]
    pub fn groups(&self) -> Vec<Value> {
        let state = &mut *self.shared.lock();
        state.groups.settle(&state.behaviour);
        state.groups.all().map(|group| group.shown(true)).collect()
    }

    /// Puts a group there behind everybody's back: `id` is its path.
    pub fn place(&self, id: &str, body: &Value) {
        let state = &mut *self.shared.lock();
        state.groups.create(id, body, &Behaviour { create: Duration::ZERO, ..state.behaviour.clone() });
    }

    /// Has containers that are started from now on run another command.
    pub fn run_instead(&self, command: Vec<String>) {
        self.shared.lock().groups.run_instead(command);
    }

    /// What the container of a group was told in the values that Azure never shows again.
    #[must_use]
    pub fn secret(&self, name: &str, variable: &str) -> Option<String> {
        self.shared.lock().groups.named(name)?.secret(variable)
    }

    /// Takes a group away behind everybody's back.
    pub fn vanish(&self, name: &str) {
        self.shared.lock().groups.remove(name);
    }

    /// Makes the load balancer [`LOAD_BALANCER`] with this public address, and rules of other people on it.
    pub fn add_load_balancer(&self, address: &str) {
        self.shared.lock().balancers.add(address);
    }

    /// The load balancer as a GET shows it.
    #[must_use]
    pub fn load_balancer(&self) -> Value {
        self.shared.lock().balancers.shown(LOAD_BALANCER).unwrap_or_default()
    }

    /// Changes the load balancer behind everybody's back.
    pub fn change_load_balancer(&self, change: impl FnOnce(&mut Value)) {
        self.shared.lock().balancers.change(change);
    }

    /// Where UDP rules of the load balancer lead: addresses by port.
    #[must_use]
    pub fn rules(&self) -> std::collections::BTreeMap<u16, Vec<SocketAddr>> {
        self.shared.lock().balancers.rules()
    }

    /// Restarts a group as Azure does when it moves one: the container starts again, and in a subnet it has another address.
    pub fn restart(&self, name: &str) {
        let state = &mut *self.shared.lock();
        state.groups.restart(name, &state.behaviour);
    }

    /// Process id of a group's container.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<Pid> {
        self.shared.lock().groups.named(name)?.pid()
    }

    /// How often the container of a group was started.
    #[must_use]
    pub fn starts(&self, name: &str) -> u32 {
        self.shared.lock().groups.named(name).map_or(0, groups::Group::starts)
    }

    /// What the container of a group has printed.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        self.shared.lock().groups.named(name).map(groups::Group::log).unwrap_or_default()
    }
}

impl Drop for FakeArm {
    fn drop(&mut self) {
        self.shared.lock().groups.clear();
    }
}
