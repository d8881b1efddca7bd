//! What a daemon can still do that does not lead any more, or not alone: nothing, or only what the others know of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use azure_core::http::Method;
use ebb::azure::lead::Lead;
use ebb::azure::lease::BlobLock;
use ebb::azure::tables::Tables;
use ebb::leadership::{Clock, Fence, Leadership, Shard};
use ebb::provider::Provider;
use ebb::source::Provenance;
use ebb::store::{Accepted, PlanSummary, Store, StoreError, TablesStore, Version};
use ebb_core::plan::Revision;
use ebb_core::record::Record;
use ebb_core::state::State;
use ebb_tests::azurite::Azurite;
use ebb_tests::fake_arm::{Behaviour, FakeArm, Kind};
use ebb_tunnel::Time;
use jiff::SignedDuration;

use super::provider::{boot, scope, spec};
use super::storage::{storage, with_container};
use super::store::{ended, note, now, record};
use super::{aci_of, azure, notice};

/// A clock that the test sets, in seconds.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Hand {
    fn set(&self, second: u64) {
        self.0.store(second, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let own = self.clone();
        Arc::new(move || Time::ZERO + Duration::from_secs(own.0.load(Ordering::SeqCst)))
    }
}

/// What a leader of one shard in an epoch may do until second 25.
fn leader(hand: &Hand, shard: u16, count: u16, epoch: u64) -> (Arc<Leadership>, Fence) {
    let leadership = Leadership::of(count);
    let fence = Fence::new(Shard(shard), epoch, Time::ZERO + Duration::from_secs(25), hand.clock());
    leadership.gain(fence.clone());
    (leadership, fence)
}

fn store(azurite: &Azurite, leadership: Arc<Leadership>) -> TablesStore {
    let tables = Tables::open(&azure("https://unused.example").0, "EBB_STORE", &azurite.tables()).unwrap();
    TablesStore::new(tables, leadership)
}

fn document() -> Accepted {
    Accepted {
        revision: Revision("r".into()),
        generation: 1,
        at: now(),
        origin: "here".into(),
        provenance: Provenance::default(),
        changes: Vec::new(),
        plan: PlanSummary::default(),
        text: "version: 1\n".into(),
    }
}

fn says_deposed<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let error = result.unwrap_err().to_string();
    assert!(error.contains("does not lead shard 0 any more (epoch 7)"), "{error}");
}

#[tokio::test]
async fn a_leader_of_an_earlier_epoch_writes_no_record_and_no_document_although_its_clock_says_that_it_leads()
{
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    let hand = Hand::default();
    let ((old, of_old), (new, of_new)) = (leader(&hand, 0, 1, 7), leader(&hand, 0, 1, 8));
    let (old, new) = (store(&azurite, old), store(&azurite, new));
    old.take_over(&of_old).await.unwrap();
    let first = old.put_record(&record("alice"), None, None).await.unwrap();
    let second = old.put_record(&record("alice"), Some(first), None).await.unwrap();
    let gone = old.put_record(&record("carol"), None, None).await.unwrap();
    old.remove_record(&"carol".parse().unwrap(), gone, None).await.unwrap();
    old.accept(&document()).await.unwrap();

    new.take_over(&of_new).await.unwrap();
    // It has not heard yet: each of these is refused by the tables alone, the first of a name as well.
    let (at, name) = (now(), |session: &str| session.parse().unwrap());
    says_deposed(old.put_record(&record("bob"), None, Some(&ended("bob", "late", at))).await);
    assert!(of_old.check().is_err(), "from then on it knows");
    for (attempt, reopened) in
        [(0, 7), (1, 7), (2, 7), (3, 7)].map(|(n, epoch)| (n, leader(&hand, 0, 1, epoch)))
    {
        let again = store(&azurite, reopened.0);
        match attempt {
            0 => says_deposed(
                again.put_record(&record("alice"), Some(second), Some(&ended("alice", "late", at))).await,
            ),
            1 => says_deposed(again.remove_record(&"alice".parse().unwrap(), second, None).await),
            2 => says_deposed(again.accept(&document()).await),
            _ => says_deposed(again.take_over(&reopened.1).await),
        }
    }
    says_deposed(old.approve(&Revision("r".into())).await);
    assert_eq!(new.records().await.unwrap(), [(record("alice"), second)]);
    assert_eq!(new.runs(&name("alice"), 9).await.unwrap(), []);
    assert_eq!(new.runs(&name("bob"), 9).await.unwrap(), []);
    assert_eq!(new.accepted(9).await.unwrap().len(), 1);
    assert_eq!(new.approved().await.unwrap(), None);
    let last = ended("alice", "last", at);
    let third = new.put_record(&record("alice"), Some(second), Some(&last)).await.unwrap();
    assert_eq!(third, Version(3));
    let fourth = new.put_record(&record("alice"), Some(third), None).await.unwrap();
    new.remove_record(&name("alice"), fourth, Some(&ended("alice", "very last", at))).await.unwrap();
    let kept = new.runs(&name("alice"), 9).await.unwrap();
    assert!(kept.len() == 2 && kept.contains(&last), "{kept:?}");
    assert_eq!(new.sweep_runs(at + SignedDuration::from_secs(1)).await.unwrap(), 2);
    new.put_record(&record("alice"), None, None).await.unwrap();
    let (_, of_old) = leader(&hand, 0, 1, 7);
    says_deposed(store(&azurite, leader(&hand, 0, 1, 7).0).take_over(&of_old).await);
}

#[tokio::test]
async fn a_daemon_that_cannot_take_the_store_over_keeps_nobody_waiting_for_its_lease() {
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    with_container(&azurite, "ebb").await;
    let place = storage(&azurite.blob("ebb/lock"));
    let (leadership, fence) = leader(&Hand::default(), 0, 1, u64::MAX >> 1);
    store(&azurite, leadership).take_over(&fence).await.unwrap();
    // The tables know of a later leader than the lock does, so each of these ends as deposed.
    let whole = Leadership::of(1);
    let error =
        Lead::new(place.clone(), &whole).begin(&store(&azurite, Arc::clone(&whole))).await.unwrap_err();
    assert!(error.to_string().contains("does not lead shard 0 any more"), "{error}");
    assert!(!BlobLock::new(place).is_held().await.unwrap(), "the next one can begin at once");
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_costs_the_leader_nothing_but_a_question() {
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    let (leadership, fence) = leader(&Hand::default(), 0, 1, 7);
    let one = store(&azurite, Arc::clone(&leadership));
    one.take_over(&fence).await.unwrap();
    // Another handle of the same leader writes, so that this one's ETags are old, as after a lost answer.
    let same = store(&azurite, leadership);
    let first = same.put_record(&record("alice"), None, None).await.unwrap();
    assert!(matches!(one.put_record(&record("bob"), None, None).await, Err(StoreError::Conflict { .. })));
    one.put_record(&record("bob"), None, None).await.unwrap();
    one.put_record(&record("alice"), Some(first), None).await.unwrap();
}

#[tokio::test]
async fn when_the_lease_may_have_ended_nothing_is_sent_to_the_tables_or_to_azure() {
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    let hand = Hand::default();
    let (leadership, fence) = leader(&hand, 0, 1, 7);
    let store = store(&azurite, Arc::clone(&leadership));
    store.take_over(&fence).await.unwrap();
    let fake = FakeArm::on_loopback(Behaviour::default());
    let provider = aci_of(&fake, leadership);
    provider.create(&spec("alice", "eastus2", "r"), &boot(41820)).await.unwrap();
    assert_eq!(fake.groups()[0]["tags"]["ebb-epoch"], "0.7");
    let first = store.put_record(&record("alice"), None, None).await.unwrap();
    let before = writes(&azurite, 1).await;
    assert!(before > 3, "requests are counted: {before}");

    hand.set(25);
    says_deposed(store.put_record(&record("alice"), Some(first), None).await);
    says_deposed(store.put_record(&record("bob"), None, None).await);
    says_deposed(store.append(&[note("alice", now(), "a line")]).await);
    says_deposed(store.accept(&document()).await);
    let refused = provider.create(&spec("bob", "eastus2", "r"), &boot(41820)).await.unwrap_err();
    assert!(refused.message.contains("changes nothing"), "{refused}");
    let name = spec("alice", "eastus2", "r").name;
    let refused = provider.delete(&name, &"r".to_owned().into()).await.unwrap_err();
    assert!(refused.message.contains("changes nothing"), "{refused}");
    assert_eq!((fake.count(Kind::Put), fake.count(Kind::Delete)), (1, 0));
    assert_eq!(writes(&azurite, 2).await, before);
    // Looking is allowed.
    assert_eq!(store.records().await.unwrap().len(), 1);
    assert_eq!(provider.list(&scope(&["alice"])).await.unwrap().gateways.len(), 1);
}

/// Requests so far that have changed something in the storage account.
async fn writes(azurite: &Azurite, marker: usize) -> usize {
    let marked = storage(&azurite.marker(marker));
    assert_eq!(marked.send(marked.request(Method::Get, "", &[])).await.unwrap().status, 404);
    azurite.requests_of(0, marker).into_iter().filter(|request| Azurite::is_write(request)).count()
}

/// Names of sessions in shard 0 and in shard 1 of two.
fn names() -> [Vec<String>; 2] {
    let all: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    let of = |shard| {
        all.iter().filter(|name| Shard::of(&name.parse().unwrap(), 2) == Shard(shard)).cloned().collect()
    };
    [of(0), of(1)]
}

#[tokio::test]
async fn of_two_daemons_that_see_one_free_slot_one_gets_it() {
    let azurite = match Azurite::start() {
        Ok(azurite) => azurite,
        Err(why) => return notice(&why),
    };
    let hand = Hand::default();
    let [(one, of_one), (two, of_two)] = [leader(&hand, 0, 2, 3), leader(&hand, 1, 2, 9)];
    let (one, two) = (store(&azurite, one), store(&azurite, two));
    one.take_over(&of_one).await.unwrap();
    two.take_over(&of_two).await.unwrap();
    let [first, second] = names();
    let taking = |session: &str| Record { state: State::Provisioning, ..record(session) };
    assert_eq!((one.records().await.unwrap().len(), two.records().await.unwrap().len()), (0, 0));

    one.put_record(&taking(&first[0]), None, None).await.unwrap();
    let late = two.put_record(&taking(&second[0]), None, None).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "it has not seen the slot taken: {late:?}");
    let late = two.put_record(&taking(&second[0]), None, None).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "and has not looked since: {late:?}");
    // What takes nothing is written all the same.
    let waiting = two.put_record(&record(&second[1]), None, None).await.unwrap();
    assert_eq!(two.records().await.unwrap().len(), 2);
    let held = two.put_record(&taking(&second[0]), None, None).await.unwrap();
    // A second one, and one that goes on with the slot that it has, without another look.
    two.put_record(&taking(&second[1]), Some(waiting), None).await.unwrap();
    two.put_record(&taking(&second[0]), Some(held), None).await.unwrap();
    let late = one.put_record(&taking(&first[1]), None, None).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    one.records().await.unwrap();
    one.put_record(&taking(&first[1]), None, None).await.unwrap();
}

#[tokio::test]
async fn a_daemon_changes_no_gateway_of_another_daemon_s_shard() {
    let fake = FakeArm::on_loopback(Behaviour::default());
    let hand = Hand::default();
    let [first, second] = names();
    let (one, two) = (aci_of(&fake, leader(&hand, 0, 2, 3).0), aci_of(&fake, leader(&hand, 1, 2, 3).0));
    let theirs = spec(&second[0], "eastus2", "r");
    assert!(one.create(&theirs, &boot(41820)).await.is_err());
    two.create(&theirs, &boot(41820)).await.unwrap();
    assert!(one.delete(&theirs.name, &theirs.run).await.is_err());
    one.create(&spec(&first[0], "eastus2", "r"), &boot(41820)).await.unwrap();
    assert_eq!((fake.count(Kind::Put), fake.count(Kind::Delete)), (2, 0));
}
