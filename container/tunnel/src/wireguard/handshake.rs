//! The handshake Noise_IKpsk2 (WireGuard paper, sections 5.4.1 to 5.4.5): two messages, and the keys that come of them.
//! Pure: ephemeral keys, indices and timestamps are arguments. Nobody uses a preshared key here, so Q is zero (5.4.3).
//!
//! The comments name the paper's variables: C chaining key, H hash, S static key, E ephemeral key; i initiator, r responder.

use ebb_wire::{PrivateKey, PublicKey};
use x25519_dalek::StaticSecret;

use super::crypto::{self, Secret, TAG, dh, hash, kdf};
use super::message::{INITIATION, RESPONSE, TYPE_INITIATION, TYPE_RESPONSE, part, word};

const CONSTRUCTION: &[u8] = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
const NO_PRESHARED_KEY: [u8; 32] = [0; 32];

/// A time as 12 bytes that sort as it does (TAI64N).
pub(super) type Timestamp = [u8; 12];

/// Who we are.
pub(super) struct Identity {
    secret: StaticSecret,
    pub public: [u8; 32],
}

impl Identity {
    pub fn new(key: &PrivateKey) -> Self {
        let secret = StaticSecret::from(*key.reveal_bytes());
        Self { public: x25519_dalek::PublicKey::from(&secret).to_bytes(), secret }
    }

    /// What can be computed once about a peer. `None` for a key that allows no secret.
    pub fn towards(&self, peer: &PublicKey) -> Option<Remote> {
        Some(Remote { public: *peer.as_bytes(), shared: dh(&self.secret, peer.as_bytes())? })
    }
}

/// Who the other side is.
pub(super) struct Remote {
    pub public: [u8; 32],
    /// DH of both static keys.
    shared: Secret,
}

/// C and H, as far as the handshake has come.
#[derive(Clone)]
struct State {
    chain: Secret,
    hash: [u8; 32],
}

impl State {
    /// The start, which is made of names and the responder's static key.
    fn new(responder: &[u8; 32]) -> Self {
        let chain = hash(CONSTRUCTION, &[]);
        let hash = hash(&hash(&chain, IDENTIFIER), responder);
        Self { chain: Secret::new(chain), hash }
    }

    fn mix_hash(&mut self, data: &[u8]) {
        self.hash = hash(&self.hash, data);
    }

    /// An ephemeral key goes into both.
    fn mix_ephemeral(&mut self, public: &[u8; 32]) {
        self.mix_hash(public);
        self.mix_secret(public);
    }

    fn mix_secret(&mut self, input: &[u8; 32]) {
        let [chain] = kdf(&self.chain, input);
        self.chain = chain;
    }

    /// The same with a key for the next field.
    fn mix_key(&mut self, input: &[u8; 32]) -> Secret {
        let [chain, key] = kdf(&self.chain, input);
        self.chain = chain;
        key
    }

    /// Encrypts a field into its place in a message and takes note of it.
    fn seal(&mut self, key: &Secret, text: &[u8], place: &mut [u8]) {
        let (encrypted, tag) = place.split_at_mut(text.len());
        encrypted.copy_from_slice(text);
        tag.copy_from_slice(&crypto::seal(key, encrypted, &self.hash));
        self.mix_hash(place);
    }

    /// Decrypts a field of `N` bytes and takes note of it.
    fn open<const N: usize>(&mut self, key: &Secret, text: &[u8; N], tag: &[u8; TAG]) -> Option<[u8; N]> {
        let mut plain = *text;
        if !crypto::open(key, &mut plain, tag, &self.hash) {
            return None;
        }
        let mut field = [0; 64];
        field[..N].copy_from_slice(text);
        field[N..N + TAG].copy_from_slice(tag);
        self.mix_hash(&field[..N + TAG]);
        Some(plain)
    }

    /// The second message's part of both sides after the DHs: the preshared key (5.4.3).
    fn mix_preshared(&mut self) -> Secret {
        let [chain, mixed, key] = kdf(&self.chain, &NO_PRESHARED_KEY);
        self.chain = chain;
        self.mix_hash(&*mixed);
        key
    }

    /// Keys for data (5.4.5): of what the initiator sends, and of what the responder sends.
    fn split(&self) -> [Secret; 2] {
        kdf(&self.chain, &[])
    }
}

/// The keys of a session, and the other side's name for it.
pub(super) struct Keys {
    pub send: Secret,
    pub receive: Secret,
    /// Index that the peer wants to see.
    pub remote: u32,
}

/// An initiation of ours that waits for its response.
pub(super) struct Pending {
    state: State,
    ephemeral: StaticSecret,
    /// Index that we wrote into it.
    pub index: u32,
}

/// Writes an initiation (5.4.2), without its MACs.
pub(super) fn initiate(
    identity: &Identity,
    remote: &Remote,
    ephemeral: &Secret,
    index: u32,
    timestamp: &Timestamp,
    message: &mut [u8; INITIATION],
) -> Option<Pending> {
    let ephemeral = StaticSecret::from(**ephemeral);
    let public = x25519_dalek::PublicKey::from(&ephemeral).to_bytes();
    let mut state = State::new(&remote.public);
    message[..4].copy_from_slice(&TYPE_INITIATION);
    message[4..8].copy_from_slice(&index.to_le_bytes());
    message[8..40].copy_from_slice(&public);
    state.mix_ephemeral(&public);
    let key = state.mix_key(&*dh(&ephemeral, &remote.public)?);
    state.seal(&key, &identity.public, &mut message[40..88]);
    let key = state.mix_key(&remote.shared);
    state.seal(&key, timestamp, &mut message[88..116]);
    Some(Pending { state, ephemeral, index })
}

/// An initiation whose sender is known by name, but not yet by proof.
pub(super) struct Claim<'a> {
    state: State,
    message: &'a [u8; INITIATION],
    /// Static key of the sender.
    pub initiator: PublicKey,
}

/// An initiation that only this peer can have made; it may be an old one.
pub(super) struct Initiation {
    state: State,
    ephemeral: [u8; 32],
    remote: u32,
    /// Must be greater than that of every earlier initiation of this peer (5.1).
    pub timestamp: Timestamp,
}

/// Reads who claims to have sent an initiation. Costs one DH.
pub(super) fn claim<'a>(identity: &Identity, message: &'a [u8; INITIATION]) -> Option<Claim<'a>> {
    let ephemeral = part::<8, 32, _>(message);
    let mut state = State::new(&identity.public);
    state.mix_ephemeral(ephemeral);
    let key = state.mix_key(&*dh(&identity.secret, ephemeral)?);
    let initiator = state.open(&key, part::<40, 32, _>(message), part::<72, TAG, _>(message))?;
    Some(Claim { state, message, initiator: initiator.into() })
}

impl Claim<'_> {
    /// Proves the claim, whose peer is `remote`.
    pub fn prove(mut self, remote: &Remote) -> Option<Initiation> {
        let key = self.state.mix_key(&remote.shared);
        let (text, tag) = (part::<88, 12, _>(self.message), part::<100, TAG, _>(self.message));
        let timestamp = self.state.open(&key, text, tag)?;
        let ephemeral = *part::<8, 32, _>(self.message);
        Some(Initiation { state: self.state, ephemeral, remote: word(self.message, 4), timestamp })
    }
}

impl Initiation {
    /// Writes the response (5.4.3), without its MACs.
    pub fn respond(
        mut self,
        remote: &Remote,
        ephemeral: &Secret,
        index: u32,
        message: &mut [u8; RESPONSE],
    ) -> Option<Keys> {
        let ephemeral = StaticSecret::from(**ephemeral);
        let public = x25519_dalek::PublicKey::from(&ephemeral).to_bytes();
        let state = &mut self.state;
        message[..4].copy_from_slice(&TYPE_RESPONSE);
        message[4..8].copy_from_slice(&index.to_le_bytes());
        message[8..12].copy_from_slice(&self.remote.to_le_bytes());
        message[12..44].copy_from_slice(&public);
        state.mix_ephemeral(&public);
        state.mix_secret(&*dh(&ephemeral, &self.ephemeral)?);
        state.mix_secret(&*dh(&ephemeral, &remote.public)?);
        let key = state.mix_preshared();
        state.seal(&key, &[], &mut message[44..60]);
        let [receive, send] = state.split();
        Some(Keys { send, receive, remote: self.remote })
    }
}

impl Pending {
    /// Reads the response to our initiation. On failure nothing has changed: it may be forged, and the real one under way.
    pub fn complete(&self, identity: &Identity, message: &[u8; RESPONSE]) -> Option<Keys> {
        let mut state = self.state.clone();
        let ephemeral = part::<12, 32, _>(message);
        state.mix_ephemeral(ephemeral);
        state.mix_secret(&*dh(&self.ephemeral, ephemeral)?);
        state.mix_secret(&*dh(&identity.secret, ephemeral)?);
        let key = state.mix_preshared();
        state.open(&key, &[], part::<44, TAG, _>(message))?;
        let [send, receive] = state.split();
        Some(Keys { send, receive, remote: word(message, 4) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Both messages of Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as noiseprotocol 0.3.1, a general implementation of the Noise
    // Protocol Framework in Python, writes them: prologue IDENTIFIER, static keys of 32 bytes 1 and 2, ephemeral keys of 32
    // bytes 3 and 4 (all clamped), a preshared key of zeros, TIMESTAMP as the first message's payload.
    const TIMESTAMP: Timestamp = [0x40, 0, 0, 0, 0x65, 0x53, 0xf1, 0x0a, 0x07, 0x5b, 0xcd, 0x15];
    const FIRST: &str = "\
        5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef220a26599fb2188bb723276fc173af6761\
        6c817fc32fd04d686d87ec152fac10eed2bda3bb3b6f1eded6977684082284d817fb46b3a99b6be3ba7cf3c3fb1c735e\
        18246a700c43a4d05a1d12d6";
    const SECOND: &str =
        "ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10be4480c6df5f9d92002e8ea5940557750";
    // The first data messages of both sides under the keys that it derives.
    const FROM_INITIATOR: &str = "2509c3befb86c5d3fe460ab2b66dcc6634eea8ad6c7df16b806cd27440a8ceaf6802";
    const FROM_RESPONDER: &str = "aeff35702943dc431a35021cde250a7767e56e23e557f052386cb3ee261fed1e84d6";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn identity(number: u8) -> (Identity, PublicKey) {
        let key = PrivateKey::from_random([number; 32]);
        (Identity::new(&key), key.public())
    }

    fn secret(number: u8) -> Secret {
        Secret::new([number; 32])
    }

    /// Opens a message of data, or makes one, with the key of its direction.
    fn sealed(key: &Secret, text: &[u8]) -> Vec<u8> {
        let mut message = text.to_vec();
        let tag = crypto::seal(key, &mut message, &[]);
        [message, tag.to_vec()].concat()
    }

    #[test]
    fn a_handshake_is_byte_by_byte_what_another_implementation_of_noise_makes() {
        let (initiator, initiator_key) = identity(1);
        let (responder, responder_key) = identity(2);
        let to_responder = initiator.towards(&responder_key).unwrap();
        let to_initiator = responder.towards(&initiator_key).unwrap();

        let mut first = [0; INITIATION];
        let pending =
            initiate(&initiator, &to_responder, &secret(3), 0x0102_0304, &TIMESTAMP, &mut first).unwrap();
        assert_eq!(first[..8], [1, 0, 0, 0, 4, 3, 2, 1]);
        assert_eq!(first[8..116], bytes(FIRST));

        let claim = claim(&responder, &first).unwrap();
        assert_eq!(claim.initiator, initiator_key);
        let initiation = claim.prove(&to_initiator).unwrap();
        assert_eq!(initiation.timestamp, TIMESTAMP);

        let mut second = [0; RESPONSE];
        let theirs = initiation.respond(&to_initiator, &secret(4), 0x0a0b_0c0d, &mut second).unwrap();
        assert_eq!(second[..12], [2, 0, 0, 0, 0x0d, 0x0c, 0x0b, 0x0a, 4, 3, 2, 1]);
        assert_eq!(second[12..60], bytes(SECOND));

        let ours = pending.complete(&initiator, &second).unwrap();
        assert_eq!((ours.remote, theirs.remote), (0x0a0b_0c0d, 0x0102_0304));
        assert_eq!((&*ours.send, &*ours.receive), (&*theirs.receive, &*theirs.send));
        assert_eq!(sealed(&ours.send, b"from the initiator"), bytes(FROM_INITIATOR));
        assert_eq!(sealed(&theirs.send, b"from the responder"), bytes(FROM_RESPONDER));
    }

    #[test]
    fn a_changed_byte_anywhere_is_noticed() {
        let (initiator, initiator_key) = identity(1);
        let (responder, responder_key) = identity(2);
        let to_responder = initiator.towards(&responder_key).unwrap();
        let to_initiator = responder.towards(&initiator_key).unwrap();
        let mut first = [0; INITIATION];
        let pending = initiate(&initiator, &to_responder, &secret(3), 1, &TIMESTAMP, &mut first).unwrap();
        for at in 8..116 {
            let mut changed = first;
            changed[at] ^= 1;
            let proven = claim(&responder, &changed).and_then(|claim| claim.prove(&to_initiator));
            assert!(proven.is_none(), "{at}");
        }
        let initiation = claim(&responder, &first).unwrap().prove(&to_initiator).unwrap();
        let mut second = [0; RESPONSE];
        initiation.respond(&to_initiator, &secret(4), 2, &mut second).unwrap();
        for at in 12..60 {
            let mut changed = second;
            changed[at] ^= 1;
            assert!(pending.complete(&initiator, &changed).is_none(), "{at}");
        }
        assert!(pending.complete(&initiator, &second).is_some());
    }

    #[test]
    fn nobody_can_make_an_initiation_in_the_name_of_another() {
        let (impostor, _) = identity(3);
        let (responder, responder_key) = identity(2);
        let (_, victim_key) = identity(1);
        // With the victim's public key in it, and the impostor's secret behind it.
        let liar = Identity { public: *victim_key.as_bytes(), ..impostor };
        let mut message = [0; INITIATION];
        let to_responder = liar.towards(&responder_key).unwrap();
        initiate(&liar, &to_responder, &secret(4), 1, &TIMESTAMP, &mut message).unwrap();
        let claim = claim(&responder, &message).unwrap();
        assert_eq!(claim.initiator, victim_key);
        assert!(claim.prove(&responder.towards(&victim_key).unwrap()).is_none());
    }
}
