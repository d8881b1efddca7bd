//! What every provider promises, and what the one for Azure promises beyond.

use std::collections::BTreeMap;
use std::time::Duration;

use ebb::provider::{LocalProvider, LocalSettings, Provider};
use ebb_core::names::{GatewayName, Generation, Hash, RunId};
use ebb_core::observed::{Gateway, Observed, Phase, Scope};
use ebb_core::outcome::Class;
use ebb_core::spec::{GatewaySpec, Template};
use ebb_desired_state::{Placement, Session};
use ebb_tests::fake_arm::{Behaviour, FakeArm, Fault, Kind, OTHER_SUBSCRIPTION, SUBSCRIPTION, schema};
use ebb_wire::{Boot, PrivateKey};

use super::{aci, notice};

pub(crate) fn spec(session: &str, region: &str, run: &str) -> GatewaySpec {
    let mut declared = Session::new(session.parse().unwrap(), vec!["alice".parse().unwrap()], region);
    declared.port = 41820;
    of(&declared, run)
}

fn of(session: &Session, run: &str) -> GatewaySpec {
    let template = Template::of(session);
    let deployment = "home".parse().unwrap();
    GatewaySpec {
        name: GatewayName::new(&deployment, &session.name),
        deployment,
        session: session.name.clone(),
        run: RunId::from(run.to_owned()),
        generation: Generation(1),
        hash: Hash::of(&template),
        template,
    }
}

pub(crate) fn boot(port: u16) -> Boot {
    Boot {
        version: ebb_wire::VERSION,
        session: "alice".into(),
        listen_port: port,
        private_key: PrivateKey::from_random([7; 32]),
        control_key: PrivateKey::from_random([9; 32]).public(),
        ipv4: "10.8.0.0/24".parse().unwrap(),
        ipv6: "fd65:6262:0:1::/64".parse().unwrap(),
        lease_seconds: 900,
    }
}

pub(crate) fn scope(sessions: &[&str]) -> Scope {
    let places = sessions.iter().map(|session| (session.parse().unwrap(), [Placement::default()].into()));
    Scope {
        deployment: "home".parse().unwrap(),
        places: places.collect(),
        load_balancers: Default::default(),
    }
}

/// Lists until a gateway is as it should be, and no longer than a gateway takes that comes at all.
async fn await_gateway(
    provider: &dyn Provider,
    name: &GatewayName,
    is: impl Fn(Option<&Gateway>) -> bool,
) -> Observed {
    let mut seen = None;
    for _ in 0..400 {
        let observed = provider.list(&scope(&["alice"])).await.unwrap();
        if is(observed.gateways.get(name)) {
            return observed;
        }
        seen = observed.gateways.get(name).cloned();
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{name} is never as it should be: {seen:?}")
}

fn runs(gateway: Option<&Gateway>) -> bool {
    gateway.is_some_and(|gateway| gateway.phase == Phase::Running && gateway.endpoint.is_some())
}

/// The guarantees of the trait, on any provider.
async fn keeps_its_promises(provider: &dyn Provider, region: &str) {
    let first = spec("alice", region, "run-1");
    let none = provider.list(&scope(&["alice"])).await.unwrap();
    assert_eq!((none.gateways, none.unseen), (BTreeMap::new(), BTreeMap::new()));
    provider.delete(&first.name, &first.run).await.unwrap();

    provider.create(&first, &boot(41820)).await.unwrap();
    provider.create(&first, &boot(41820)).await.unwrap();
    let observed = await_gateway(provider, &first.name, runs).await;
    let gateway = &observed.gateways[&first.name];
    let expected = (first.session.clone(), first.run.clone(), first.generation, first.hash.clone());
    let marks = (gateway.session.clone(), gateway.run.clone(), gateway.generation, gateway.hash.clone());
    assert_eq!(marks, expected);
    provider.create(&first, &boot(41820)).await.unwrap();
    let again = await_gateway(provider, &first.name, runs).await;
    assert_eq!(&again.gateways[&first.name], gateway, "a repeated create changes nothing");

    let other = Scope { deployment: "office".parse().unwrap(), ..scope(&["alice"]) };
    assert_eq!(provider.list(&other).await.unwrap().gateways, BTreeMap::new(), "nobody else's");

    provider.delete(&first.name, &RunId::from("another".to_owned())).await.unwrap();
    assert!(
        runs(provider.list(&scope(&["alice"])).await.unwrap().gateways.get(&first.name)),
        "not the named run"
    );
    provider.delete(&first.name, &first.run).await.unwrap();
    await_gateway(provider, &first.name, |gateway| gateway.is_none()).await;
    provider.delete(&first.name, &first.run).await.unwrap();
}

#[tokio::test]
async fn gateways_in_azure_are_as_every_provider_promises() {
    let fake = FakeArm::on_loopback(Behaviour::default());
    keeps_its_promises(&aci(&fake), "eastus2").await;
    assert_eq!((fake.count(Kind::Put), fake.count(Kind::Delete)), (1, 1), "no call more than it takes");
    if !schema::is_there() {
        notice(&format!("{} is not set, so requests were not checked by Microsoft's schema", schema::FOLDER));
    }
}

#[tokio::test]
async fn gateways_on_this_machine_are_as_every_provider_promises() {
    let directory = tempfile::tempdir().unwrap();
    // What it runs does not matter here, as long as it runs until it is told to end.
    let program = ["sh", "-c", "exec sleep 600"].map(Into::into).to_vec();
    let settings =
        LocalSettings { state: directory.path().to_owned(), advertise: "127.0.0.1".into(), program };
    keeps_its_promises(&LocalProvider::open(settings).unwrap(), "local").await;
}

#[tokio::test]
async fn a_listing_that_azure_gives_out_late_hides_nothing_that_ebb_did() {
    let fake = FakeArm::on_loopback(Behaviour { list_lag: Duration::from_secs(20), ..Behaviour::default() });
    keeps_its_promises(&aci(&fake), "eastus2").await;
}

#[tokio::test]
async fn a_listing_of_many_pages_is_read_to_its_end_or_not_at_all() {
    let fake = FakeArm::on_loopback(Behaviour { page: 3, create: Duration::ZERO, ..Behaviour::default() });
    let provider = aci(&fake);
    let sessions: Vec<String> = (0..10).map(|number| format!("s{number}")).collect();
    for session in &sessions {
        provider.create(&spec(session, "eastus2", session), &boot(41820)).await.unwrap();
    }
    let sessions: Vec<&str> = sessions.iter().map(String::as_str).collect();
    let provider = aci(&fake);
    assert_eq!(provider.list(&scope(&sessions)).await.unwrap().gateways.len(), 10);
    let busy = Fault::Refuse { status: 503, code: "ServiceUnavailable", retry_after: None };
    // The second page: one page alone would make seven gateways look gone.
    fake.behave(|behaviour| behaviour.page = 3);
    fake.fail_later(Kind::List, 1, busy);
    assert!(provider.list(&scope(&sessions)).await.is_err());
}

#[tokio::test]
async fn a_place_that_cannot_be_looked_at_is_named_and_the_others_are_listed() {
    let fake = FakeArm::on_loopback(Behaviour::default());
    let provider = aci(&fake);
    let elsewhere = Placement { resource_group: Some("rg-missing".into()), ..Placement::default() };
    let mut scope = scope(&["alice"]);
    scope.places.insert("bob".parse().unwrap(), [elsewhere].into());
    provider.create(&spec("alice", "eastus2", "r"), &boot(41820)).await.unwrap();
    let observed = provider.list(&scope).await.unwrap();
    assert_eq!(observed.gateways.len(), 1);
    let (session, failure) = observed.unseen.first_key_value().unwrap();
    assert_eq!((session.as_str(), &failure.class, observed.unseen.len()), ("bob", &Class::Stalled, 1));
    assert!(failure.message.contains("rg-missing") && failure.message.contains("What to do"), "{failure}");
}

#[tokio::test]
async fn gateways_of_several_subscriptions_and_resource_groups_are_made_and_found_where_they_belong() {
    let groups = vec!["rg-ebb".to_owned(), "rg-other".to_owned()];
    let fake = FakeArm::on_loopback(Behaviour { resource_groups: groups, ..Behaviour::default() });
    let provider = aci(&fake);
    let mut scope = scope(&[]);
    let places =
        [("alice", "westeurope", SUBSCRIPTION, "RG-Other"), ("bob", "eastus2", OTHER_SUBSCRIPTION, "rg-ebb")];
    for (name, region, subscription, resource_group) in places {
        let mut session = Session::new(name.parse().unwrap(), vec![name.parse().unwrap()], region);
        session.placement = Placement {
            subscription: Some(subscription.to_owned()),
            resource_group: Some(resource_group.to_owned()),
        };
        provider.create(&of(&session, "r"), &boot(41820)).await.unwrap();
        scope.places.insert(session.name, [session.placement].into());
        let id = format!("/subscriptions/{subscription}/resourceGroups/{resource_group}/");
        let made = |group: &serde_json::Value| {
            group["id"].as_str().is_some_and(|own| own.starts_with(&id)) && group["location"] == region
        };
        assert!(fake.groups().iter().any(made), "{id} in {:?}", fake.groups());
    }
    let observed = aci(&fake).list(&scope).await.unwrap();
    let names: Vec<_> = observed.gateways.values().map(|gateway| gateway.session.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);
}

#[tokio::test]
async fn in_one_region_one_gateway_is_created_after_the_other() {
    let fake = FakeArm::on_loopback(Behaviour::default());
    let provider = std::sync::Arc::new(aci(&fake));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..8 {
        let provider = std::sync::Arc::clone(&provider);
        tasks.spawn(async move {
            provider.create(&spec(&format!("s{number}"), "eastus2", "r"), &boot(41820)).await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    // Each looks whether there is one before it makes one, and nobody else begins in between.
    let calls: Vec<_> = fake.calls().into_iter().filter(|call| call.kind != Kind::Token).collect();
    assert_eq!(calls.len(), 16);
    for pair in calls.chunks(2) {
        assert_eq!(
            (pair[0].kind, pair[1].kind, &pair[0].name),
            (Kind::Get, Kind::Put, &pair[1].name),
            "{calls:?}"
        );
    }
}

#[tokio::test]
async fn quota_and_throttling_are_told_apart_and_nothing_is_sent_before_azure_allows_it() {
    let fake = FakeArm::on_loopback(Behaviour { quota: 0, ..Behaviour::default() });
    let provider = aci(&fake);
    let refused = provider.create(&spec("alice", "eastus2", "r"), &boot(41820)).await.unwrap_err();
    assert_eq!(refused.class, Class::Quota);
    assert!(refused.message.contains("ContainerGroupQuotaReached"), "{refused}");

    let throttled = Fault::Refuse { status: 429, code: "TooManyRequests", retry_after: Some(7) };
    fake.fail(Kind::Put, throttled);
    for _ in 0..50 {
        let refused = provider.create(&spec("alice", "eastus2", "r"), &boot(41820)).await.unwrap_err();
        assert!(matches!(refused.class, Class::Throttled { retry_after_seconds: 1..=7 }), "{refused}");
    }
    assert_eq!(fake.count(Kind::Put), 2, "the one for the quota, and one that was throttled");
}

/// An imitation with this many gateways that somebody has made long ago.
async fn with_gateways(number: usize) -> (FakeArm, Vec<String>) {
    let fake = FakeArm::on_loopback(Behaviour {
        create: Duration::ZERO,
        quota: number,
        page: 500,
        ..Behaviour::default()
    });
    aci(&fake).create(&spec("s0", "eastus2", "r"), &boot(41820)).await.unwrap();
    let first = fake.groups()[0].clone();
    let id = first["id"].as_str().unwrap().to_owned();
    for number in 1..number {
        let other = first.to_string().replace("home-s0\"", &format!("home-s{number}\""));
        let other = other.replace("\"ebb-session\":\"s0\"", &format!("\"ebb-session\":\"s{number}\""));
        fake.place(
            &id.replace("home-s0", &format!("home-s{number}")),
            &serde_json::from_str(&other).unwrap(),
        );
    }
    (fake, (0..number).map(|number| format!("s{number}")).collect())
}

/// Listings, and all other calls, that this many looks at this many gateways at rest take.
async fn calls_at_rest(gateways: usize, looks: usize) -> (usize, usize) {
    let (fake, sessions) = with_gateways(gateways).await;
    let sessions: Vec<&str> = sessions.iter().map(String::as_str).collect();
    let (provider, scope, before) = (aci(&fake), scope(&sessions), fake.calls().len());
    for _ in 0..looks {
        assert_eq!(provider.list(&scope).await.unwrap().gateways.len(), gateways);
    }
    let listings = fake.count(Kind::List);
    assert_eq!((fake.count(Kind::Put), fake.count(Kind::Patch), fake.count(Kind::Delete)), (1, 0, 0));
    (listings, fake.calls().len() - before - listings)
}

#[tokio::test]
async fn a_storm_of_throttling_makes_no_storm_of_requests() {
    let fake = FakeArm::on_loopback(Behaviour::default());
    let provider = std::sync::Arc::new(aci(&fake));
    for _ in 0..100 {
        for kind in [Kind::Put, Kind::Get, Kind::List, Kind::Delete] {
            fake.fail(kind, Fault::Refuse { status: 429, code: "TooManyRequests", retry_after: Some(60) });
        }
    }
    // A hundred sessions, each of which tries again at once and as often as it can.
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let provider = std::sync::Arc::clone(&provider);
        tasks.spawn(async move {
            let session = format!("s{number}");
            for _ in 0..20 {
                let spec = spec(&session, "eastus2", "r");
                for refused in [
                    provider.create(&spec, &boot(41820)).await.unwrap_err(),
                    provider.delete(&spec.name, &spec.run).await.unwrap_err(),
                    provider.list(&scope(&[&session])).await.unwrap_err(),
                ] {
                    assert!(
                        matches!(refused.class, Class::Throttled { retry_after_seconds: 1..=60 }),
                        "{refused}"
                    );
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    // Those that were on their way before the first answer arrived; the bucket of reads holds 250.
    let calls = fake.calls().into_iter().filter(|call| call.kind != Kind::Token).count();
    assert!((1..=250).contains(&calls), "6,000 attempts made {calls} requests");
}

#[tokio::test]
async fn at_rest_a_look_costs_one_call_a_page_and_no_write() {
    assert_eq!(calls_at_rest(3, 100).await, (100, 3), "the first look is a thorough one");
    assert_eq!(calls_at_rest(1000, 100).await, (200, 0), "two pages");
}
