//! Several loops beside each other, one for each core: who owns which peer, and what loops tell each other.
//!
//! A peer belongs to one loop, with its sessions, flows and mappings. The kernel hands a datagram to the loop whose number is in
//! the receiver index, which that loop chose ([`steer`](super::steer)). Initiations have no index and come to the first loop,
//! which passes them on when they claim the key of another loop's peer. Nothing but counters of memory and flows is shared.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use ebb_tunnel::packet::Packet;
use ebb_tunnel::wireguard::Path;
use ebb_wire::{Live, PublicKey, Telemetry};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::Plane;

/// Loops of one gateway at most. More cores than this have never carried a session, and the kernel's rule tells 128 apart.
pub const LOOPS_MAX: usize = 16;

/// Letters that wait for one loop; more are lost, as datagrams would be.
const LETTERS: usize = 1024;

/// How long the first loop waits for an answer. A turn takes a millisecond; this is for cores that are taken away.
const PATIENCE: Duration = Duration::from_secs(1);

/// What one loop tells another.
pub enum Letter {
    /// An initiation that claims the key of one of your peers.
    Initiation(Box<[u8]>, Path),
    /// A packet of a user of mine for a user of yours.
    Packet(Box<[u8]>),
    /// This is in force from here on.
    Configure(Arc<Agreed>, SyncSender<bool>),
    /// How are your users?
    Report(SyncSender<Telemetry>),
    /// Say goodbye.
    Stop(SyncSender<()>),
}

/// A configuration, and which loop serves whom.
pub struct Agreed {
    pub live: Live,
    owners: BTreeMap<PublicKey, usize>,
    addresses: BTreeMap<IpAddr, usize>,
}

impl Agreed {
    /// Who has an owner keeps it, and a new peer gets the loop with the fewest; of equals the last, because the first has the
    /// initiations of everybody.
    pub fn new(live: &Live, before: Option<&Self>, loops: usize) -> Self {
        let kept = |key| before.and_then(|before| before.owner(key)).filter(|owner| *owner < loops);
        let mut owners: BTreeMap<_, _> =
            live.peers.iter().filter_map(|peer| Some((peer.public_key, kept(&peer.public_key)?))).collect();
        let mut counts = vec![0_usize; loops];
        for owner in owners.values() {
            counts[*owner] += 1;
        }
        for peer in &live.peers {
            owners.entry(peer.public_key).or_insert_with(|| {
                let emptiest = (0..loops).rev().min_by_key(|number| counts[*number]).unwrap_or(0);
                counts[emptiest] += 1;
                emptiest
            });
        }
        let addresses = live.peers.iter().flat_map(|peer| {
            let owner = owners[&peer.public_key];
            peer.addresses.iter().map(move |address| (*address, owner))
        });
        Self { addresses: addresses.collect(), live: live.clone(), owners }
    }

    /// The loop of a peer.
    pub fn owner(&self, key: &PublicKey) -> Option<usize> {
        self.owners.get(key).copied()
    }
}

/// One loop's letter box, and those of all.
pub struct Post {
    number: usize,
    letters: Receiver<Letter>,
    boxes: Arc<[(SyncSender<Letter>, EventFd)]>,
}

impl Post {
    /// One for each loop.
    ///
    /// # Errors
    /// When the kernel gives no file.
    pub fn new(loops: usize) -> io::Result<Vec<Self>> {
        let mut boxes = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..loops {
            let (sender, receiver) = sync_channel(LETTERS);
            let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
            boxes.push((sender, bell));
            receivers.push(receiver);
        }
        let boxes: Arc<[_]> = boxes.into();
        let each = receivers.into_iter().enumerate();
        Ok(each.map(|(number, letters)| Self { number, letters, boxes: Arc::clone(&boxes) }).collect())
    }

    /// Which loop this is.
    pub fn number(&self) -> usize {
        self.number
    }

    /// How many loops there are.
    pub fn loops(&self) -> usize {
        self.boxes.len()
    }

    /// Readable when there are letters.
    pub fn bell(&self) -> &EventFd {
        &self.boxes[self.number].1
    }

    fn send(&self, to: usize, letter: Letter) {
        let Some((sender, bell)) = self.boxes.get(to) else { return };
        if let Err(TrySendError::Full(_)) = sender.try_send(letter) {
            tracing::debug!(to, "a letter to another loop is lost: its box is full");
        }
        // Fails only when it has been rung 2^64 times and nobody looked.
        let _ = bell.write(1);
    }

    /// Asks all others; `None` when one of them does not answer in time.
    pub fn ask<T>(&self, letter: impl Fn(SyncSender<T>) -> Letter) -> Option<Vec<T>> {
        let others = (0..self.loops()).filter(|number| *number != self.number);
        let answers: Vec<_> = others
            .map(|other| {
                let (sender, receiver) = sync_channel(1);
                self.send(other, letter(sender));
                receiver
            })
            .collect();
        answers.into_iter().map(|answer| answer.recv_timeout(PATIENCE).ok()).collect()
    }
}

impl Plane {
    /// Serves beside the first loop, until that one says goodbye.
    ///
    /// # Errors
    /// When epoll fails, which it does not.
    pub fn serve_beside(mut self) -> io::Result<()> {
        let mut nothing = Vec::new();
        while !self.stopped {
            // Another loop's letter ends the wait.
            self.turn(self.clock.now() + super::HOUSEKEEPING, &mut nothing)?;
        }
        Ok(())
    }

    /// Whether the other loops turn too.
    pub fn turns(&self) -> bool {
        self.post.ask(Letter::Report).is_some()
    }

    /// Reads what other loops wrote.
    pub(super) fn read_letters(&mut self) {
        let _ = self.post.bell().read();
        while let Ok(letter) = self.post.letters.try_recv() {
            let now = self.clock.now();
            match letter {
                Letter::Initiation(initiation, path) => {
                    self.link.tunnel.receive_vouched(&initiation, path, now);
                }
                Letter::Packet(bytes) => {
                    if let Ok(packet) = Packet::parse(&bytes)
                        && let Some(peer) = self.link.tunnel.owner(packet.destination)
                    {
                        self.link.send(peer, now, |out| {
                            out.get_mut(..bytes.len())?.copy_from_slice(&bytes);
                            Some(bytes.len())
                        });
                    }
                }
                // Whoever asked may have stopped waiting.
                Letter::Configure(agreed, done) => {
                    let _ = done.try_send(self.adopt(agreed).is_ok());
                }
                Letter::Report(answer) => {
                    let _ = answer.try_send(self.report());
                }
                Letter::Stop(done) => {
                    self.say_goodbye();
                    self.stopped = true;
                    let _ = done.try_send(());
                }
            }
        }
    }

    /// Passes an initiation on to the loop of the peer whose key it claims.
    #[cold]
    pub(super) fn pass_on(&self, key: &PublicKey, initiation: &[u8], path: Path) {
        if let Some(owner) = self.in_force.as_ref().and_then(|in_force| in_force.agreed.owner(key)) {
            self.post.send(owner, Letter::Initiation(initiation.into(), path));
        }
    }

    /// Hands a packet to the loop of the user it is for; false when it is for none.
    pub(super) fn hand_over(&self, to: IpAddr, packet: &[u8]) -> bool {
        let owner = self.in_force.as_ref().and_then(|in_force| in_force.agreed.addresses.get(&to));
        if let Some(owner) = owner.filter(|owner| **owner != self.post.number()) {
            self.post.send(*owner, Letter::Packet(packet.into()));
        }
        owner.is_some()
    }
}

#[cfg(test)]
mod tests {
    use ebb_wire::{Peer, PrivateKey};

    use super::*;

    fn live(peers: &[u8]) -> Live {
        let peer = |n: &u8| Peer {
            name: format!("user-{n}"),
            public_key: PrivateKey::from_random([*n; 32]).public(),
            addresses: vec![[10, 8, 0, *n].into()],
            source_ips: Vec::new(),
        };
        Live { peers: peers.iter().map(peer).collect(), ..Live::default() }
    }

    fn owners(agreed: &Agreed) -> Vec<usize> {
        agreed.live.peers.iter().filter_map(|peer| agreed.owner(&peer.public_key)).collect()
    }

    #[test]
    fn users_are_spread_evenly_and_the_first_loop_gets_one_last() {
        assert_eq!(owners(&Agreed::new(&live(&[1, 2, 3, 4]), None, 3)), [2, 1, 0, 2]);
        assert_eq!(owners(&Agreed::new(&live(&[1, 2]), None, 1)), [0, 0]);
    }

    #[test]
    fn who_stays_keeps_its_loop_and_who_comes_gets_the_emptiest() {
        let before = Agreed::new(&live(&[1, 2, 3, 4]), None, 2);
        assert_eq!(owners(&before), [1, 0, 1, 0]);
        let after = Agreed::new(&live(&[5, 1, 3]), Some(&before), 2);
        assert_eq!(owners(&after), [0, 1, 1]);
        assert_eq!(after.addresses[&IpAddr::from([10, 8, 0, 5])], 0);
    }

    #[test]
    fn whoever_does_not_answer_makes_the_whole_answer_missing() {
        let mut posts = Post::new(2).unwrap();
        let other = posts.pop().unwrap();
        let answering = std::thread::spawn(move || {
            let Ok(Letter::Stop(done)) = other.letters.recv() else { panic!("another letter") };
            done.send(()).unwrap();
            other
        });
        assert_eq!(posts[0].ask(Letter::Stop), Some(vec![()]));
        // Its box is still there, and nobody reads what comes.
        let _silent = answering.join().unwrap();
        assert_eq!(posts[0].ask(Letter::Stop), None);
    }
}
