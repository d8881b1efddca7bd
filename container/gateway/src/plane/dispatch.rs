//! From a decrypted packet to whoever it is for.

use std::net::{IpAddr, SocketAddr};

use ebb_tunnel::Time;
use ebb_tunnel::dns::{Client, Transport, frame};
use ebb_tunnel::packet::{Packet, icmp, protocol, take_hop, udp};
use ebb_tunnel::wireguard::PeerId;
use ebb_wire::{CONTROL_PORT, GATEWAY_ADDRESS, encode};

use super::Plane;
use super::rules::Rules;
use super::table::Handle;
use super::tcp::{Answer, Context, Question};

/// Port of the resolver on the gateway's own addresses.
const DNS: u16 = 53;

impl Plane {
    /// Takes a packet from a peer.
    #[inline]
    pub(super) fn packet(&mut self, peer: PeerId, packet: &Packet<'_>, now: Time) {
        if packet.fragment.is_some() {
            return self.fragment(peer, packet, now);
        }
        if self.is_pool(packet.destination) && !self.is_own(packet.destination) {
            return self.forward(peer, packet, now);
        }
        match packet.protocol {
            protocol::TCP => {
                let (rules, control, own) = (&mut self.rules, self.control, self.link.own());
                let answer = |to| answer(rules, own, Some(peer) == control, to);
                let mut cx = Context { link: &mut self.link, poller: &self.poller, now };
                self.tcp.receive(peer, packet, answer, &mut cx);
            }
            protocol::UDP => self.datagram(peer, packet, now),
            protocol::ICMP | protocol::ICMPV6 => self.icmp(peer, packet, now),
            _ => self.link.report(peer, icmp::Error::Protocol, packet, now),
        }
    }

    fn datagram(&mut self, peer: PeerId, packet: &Packet<'_>, now: Time) {
        let Some(datagram) = udp::Datagram::parse(packet.payload) else { return };
        if self.is_own(packet.destination) || self.is_control(peer) {
            if datagram.destination_port != DNS || self.is_control(peer) {
                return self.link.report(peer, icmp::Error::Port, packet, now);
            }
            let source = SocketAddr::new(packet.source, datagram.source_port);
            let client = Client { peer: peer.to_bits(), flow: 0, source, transport: Transport::Udp };
            return self.names.query(client, datagram.data, now);
        }
        if self.may_leave(peer, packet, now) {
            let mut cx = Context { link: &mut self.link, poller: &self.poller, now };
            self.udp.send(peer, packet, &datagram, &mut cx);
        }
    }

    fn icmp(&mut self, peer: PeerId, packet: &Packet<'_>, now: Time) {
        // Replies answer nothing that we asked, and errors are about packets that are gone.
        let Some(echo) = icmp::Echo::parse(packet.source, packet.payload).filter(|echo| echo.request) else {
            return;
        };
        let to_control = self.is_control(peer) && packet.destination == IpAddr::from(GATEWAY_ADDRESS);
        if self.is_own(packet.destination) || to_control {
            let reply = icmp::Echo { request: false, ..echo };
            return self.link.send_echo(peer, &reply, packet.destination, packet.source, now);
        }
        if self.may_leave(peer, packet, now) {
            let mut cx = Context { link: &mut self.link, poller: &self.poller, now };
            self.pings.send(peer, packet, &echo, &mut cx);
        }
    }

    /// Whether a packet may go out into the world; its sender is told if not.
    #[inline]
    fn may_leave(&mut self, peer: PeerId, packet: &Packet<'_>, now: Time) -> bool {
        if self.is_control(peer) || self.rules.check(packet.destination).is_err() {
            self.refused += 1;
            self.link.report(peer, icmp::Error::Prohibited, packet, now);
            return false;
        }
        // TCP connections end here and have no hops to lose. For what is carried on packet by packet, the gateway is one
        // hop, as a router would be.
        if packet.hop_limit <= 1 {
            self.link.report(peer, icmp::Error::HopLimit, packet, now);
            return false;
        }
        true
    }

    /// Hands a packet of one user to another, where the routes allow it.
    #[cold]
    fn forward(&mut self, peer: PeerId, packet: &Packet<'_>, now: Time) {
        if !self.may_leave(peer, packet, now) {
            return;
        }
        match self.link.tunnel.owner(packet.destination) {
            Some(other) => {
                self.link.send(other, now, |out| {
                    let out = out.get_mut(..packet.bytes.len())?;
                    out.copy_from_slice(packet.bytes);
                    take_hop(out).then_some(out.len())
                });
            }
            None => {
                let mut bytes = packet.bytes.to_vec();
                if take_hop(&mut bytes) && !self.hand_over(packet.destination, &bytes) {
                    self.link.report(peer, icmp::Error::Host, packet, now);
                }
            }
        }
    }

    #[cold]
    fn fragment(&mut self, peer: PeerId, packet: &Packet<'_>, now: Time) {
        if let Some(whole) = self.fragments.add(peer, packet, now)
            && let Ok(whole) = Packet::parse(&whole)
        {
            self.packet(peer, &whole, now);
        }
    }

    /// Gives up fragments whose rest stays away, and tells their sender.
    pub(super) fn expire_fragments(&mut self, now: Time) {
        while let Some((peer, first)) = self.fragments.expire(now) {
            if let Ok(packet) = Packet::parse(&first) {
                self.link.report(peer, icmp::Error::Reassembly, &packet, now);
            }
        }
    }

    /// Answers what was asked of the gateway itself: by the daemon, and by users who look up names.
    pub(super) fn answer_questions(&mut self, now: Time) {
        while let Some(asked) = self.tcp.take_asked() {
            match asked.what {
                Question::Control(request) => {
                    let reply = self.control(request);
                    // Only a report on thousands of users would not fit a frame; the daemon then sees no reply.
                    if let Ok(frame) = encode(&reply) {
                        self.tcp.reply(asked.flow, &frame);
                    }
                }
                Question::Name(message) => {
                    let client = Client {
                        peer: asked.peer.to_bits(),
                        flow: asked.flow.to_bits(),
                        source: asked.from,
                        transport: Transport::Tcp,
                    };
                    self.names.query(client, &message, now);
                }
            }
        }
        self.names.ask_upstreams(&self.poller, now);
        while let Some((client, message)) = self.names.answer() {
            match client.transport {
                Transport::Tcp => self.tcp.reply(Handle::from_bits(client.flow), &frame(&message)),
                Transport::Udp => {
                    let [v4, v6] = self.link.own();
                    let own = if client.source.is_ipv4() { v4 } else { v6 };
                    let (from, peer) = (SocketAddr::new(own, DNS), PeerId::from_bits(client.peer));
                    self.link.send(peer, now, |out| udp::write(out, from, client.source, &message));
                }
            }
        }
    }

    #[inline]
    fn is_control(&self, peer: PeerId) -> bool {
        self.control == Some(peer)
    }

    #[inline]
    fn is_own(&self, address: IpAddr) -> bool {
        self.link.own().contains(&address)
    }

    /// Whether an address belongs to the session's networks inside the tunnel.
    #[inline]
    fn is_pool(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.boot.ipv4.contains(&address),
            IpAddr::V6(address) => self.boot.ipv6.contains(&address),
        }
    }
}

/// Who answers a new connection.
fn answer(rules: &mut Rules, own: [IpAddr; 2], control: bool, to: SocketAddr) -> Result<Answer, icmp::Error> {
    if control {
        let is_control = to == SocketAddr::from((GATEWAY_ADDRESS, CONTROL_PORT));
        return Ok(if is_control { Answer::Control } else { Answer::Nobody });
    }
    if own.contains(&to.ip()) {
        return Ok(if to.port() == DNS { Answer::Resolver } else { Answer::Nobody });
    }
    rules.check(to.ip()).map(|()| Answer::Host).map_err(|_| icmp::Error::Prohibited)
}
