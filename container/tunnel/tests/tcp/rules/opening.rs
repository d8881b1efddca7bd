//! Handshakes (RFC 9293 3.5, 3.10.7; RFC 7323 2; RFC 2018 2).

use ebb_tunnel::Time;
use ebb_tunnel::tcp::{Budget, Connection, End, HEADER, Options, Segment, Seq, Settings, State, reset_for};

use super::{ACK, FIN, OURS, RST, Rig, SYN, THEIRS, addresses, segment, spans, usual_options};

#[test]
fn a_syn_is_answered_with_what_both_ends_can_do() {
    let mut rig = Rig::answering(usual_options(), &Settings::default());
    let answer = rig.sent_one();
    assert_eq!((answer.seq, answer.ack, answer.flags), (0, 1, SYN | ACK));
    assert_eq!(answer.options.mss, Some(1380));
    // 4 MiB need a shift of 7.
    assert_eq!(answer.options.window_scale, Some(7));
    assert!(answer.options.sack_permitted);
    assert_eq!(answer.options.timestamps, None);
    assert_eq!(answer.window, 0xffff);
}

#[test]
fn options_the_client_did_not_offer_are_not_answered() {
    let mut rig = Rig::answering(Options { mss: Some(1460), ..Options::default() }, &Settings::default());
    let answer = rig.sent_one();
    assert_eq!((answer.options.window_scale, answer.options.sack_permitted), (None, false));
    rig.window = 5_000;
    rig.hear(1, 1, ACK, &[]);
    rig.write(&[1; 8_000]);
    // Unscaled, so 5,000 bytes and not more, in segments of our own limit.
    assert_eq!(spans(&rig.sent()), [(1, 1380), (1381, 1380), (2761, 1380)]);
}

#[test]
fn the_mss_follows_the_mtu_and_the_family() {
    let (local, remote) = ("[fd77::1]:80".parse().unwrap(), "[fd77::2]:40000".parse().unwrap());
    let settings = Settings { mtu: 1280, ..Settings::default() };
    let mut connection = Connection::open(local, remote, &settings, &Budget::new(1 << 20), 1, Time::ZERO);
    let mut out = [0; 2048];
    let length = connection.transmit(&mut out, Time::ZERO).unwrap();
    assert_eq!(Segment::parse(&out[..length]).unwrap().options.mss, Some(1220));
}

#[test]
fn a_client_that_names_no_mss_gets_the_default_of_its_family() {
    let mut rig = Rig::open_with(Options { mss: None, ..usual_options() }, &Settings::default());
    rig.write(&[1; 1_000]);
    assert_eq!(spans(&rig.sent()), [(1, 536), (537, 464)]);
}

#[test]
fn a_repeated_syn_gets_the_same_answer_and_a_different_one_starts_over() {
    let mut rig = Rig::answering(usual_options(), &Settings::default());
    let first = rig.sent_one();
    rig.hear_segment(&segment(0, 0, SYN, &[]));
    assert_eq!(rig.sent_one(), first);
    rig.hear_segment(&segment(70_000, 0, SYN, &[]));
    assert_eq!(rig.connection.ended(), Some(End::Reset));
    assert!(rig.sent().is_empty());
}

#[test]
fn an_unanswered_syn_ack_is_repeated_with_back_off_and_given_up() {
    let mut rig = Rig::answering(usual_options(), &Settings::default());
    rig.sent_one();
    let times: Vec<u64> = rig.pass_and_collect(100_000).iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [1_000, 3_000, 7_000, 15_000, 31_000]);
    assert_eq!(rig.connection.ended(), Some(End::TimedOut));
}

#[test]
fn a_wrong_acknowledgment_of_the_syn_ack_is_reset() {
    let mut rig = Rig::answering(usual_options(), &Settings::default());
    rig.sent_one();
    rig.hear(1, 77, ACK, &[]);
    let reset = rig.sent_one();
    assert_eq!((reset.flags, reset.seq), (RST, 77));
    assert_eq!(rig.connection.state(), State::SynReceived);
    rig.hear(1, 1, ACK, &[]);
    assert!(rig.connection.is_open());
}

#[test]
fn data_on_the_acknowledgment_of_the_syn_ack_counts() {
    let mut rig = Rig::answering(usual_options(), &Settings::default());
    rig.sent_one();
    rig.hear(1, 1, ACK, b"GET /");
    assert_eq!(rig.read(), b"GET /");
}

fn opened() -> Rig {
    let (local, remote) = addresses();
    let budget = Budget::new(64 << 20);
    let now = Time::from_millis(1_000);
    let connection = Connection::open(local, remote, &Settings::default(), &budget, OURS, now);
    Rig { connection, now, budget, window: 0xffff }
}

#[test]
fn opening_sends_a_syn_and_completes_with_the_answer() {
    let mut rig = opened();
    let syn = rig.sent_one();
    assert_eq!((syn.seq, syn.flags), (0, SYN));
    assert!(
        syn.options.sack_permitted && syn.options.window_scale == Some(7) && syn.options.mss == Some(1380)
    );
    rig.write(b"hello");
    assert!(rig.sent().is_empty());
    rig.pass(10);
    rig.hear_segment(&Segment { options: usual_options(), ..segment(0, 1, SYN | ACK, &[]) });
    let first = rig.sent_one();
    assert_eq!((first.seq, first.ack, first.payload.as_slice()), (1, 1, b"hello".as_slice()));
    assert_eq!(rig.connection.statistics().srtt.unwrap().as_millis(), 10);
}

#[test]
fn a_refused_connection_says_so() {
    let mut rig = opened();
    rig.sent_one();
    // Not ours: no acknowledgment of our SYN.
    rig.hear(0, 55, RST | ACK, &[]);
    assert_eq!(rig.connection.ended(), None);
    rig.hear(0, 1, RST | ACK, &[]);
    assert_eq!(rig.connection.ended(), Some(End::Refused));
    assert!(rig.sent().is_empty());
}

#[test]
fn an_old_syn_ack_is_reset_and_the_right_one_still_opens() {
    let mut rig = opened();
    rig.sent_one();
    rig.hear_segment(&Segment { options: usual_options(), ..segment(0, 999, SYN | ACK, &[]) });
    let reset = rig.sent_one();
    assert_eq!((reset.flags, reset.seq), (RST, 999));
    rig.hear_segment(&Segment { options: usual_options(), ..segment(0, 1, SYN | ACK, &[]) });
    assert!(rig.connection.is_open());
}

#[test]
fn two_syns_that_cross_open_one_connection() {
    let mut rig = opened();
    rig.sent_one();
    rig.hear_segment(&Segment { options: usual_options(), ..segment(0, 0, SYN, &[]) });
    let answer = rig.sent_one();
    assert_eq!((answer.seq, answer.ack, answer.flags), (0, 1, SYN | ACK));
    rig.hear_segment(&Segment { options: usual_options(), ..segment(0, 1, SYN | ACK, &[]) });
    assert_eq!(rig.connection.state(), State::Established);
}

#[test]
fn finishing_before_the_handshake_is_over_sends_the_fin_after_it() {
    let mut rig = opened();
    rig.sent_one();
    rig.write(b"x");
    rig.connection.finish();
    rig.hear_segment(&Segment { options: usual_options(), ..segment(0, 1, SYN | ACK, &[]) });
    let last = rig.sent_one();
    assert!(last.is(FIN) && last.payload == b"x");
    assert_eq!(rig.connection.state(), State::FinWait1);
}

#[test]
fn a_segment_without_a_connection_is_reset_in_a_way_its_sender_believes() {
    let (local, remote) = addresses();
    let mut out = [0; 64];
    let mut answer = |segment: &Segment<'_>| {
        let length = reset_for(segment, local, remote, &mut out)?;
        let reset = Segment::parse(&out[..length]).unwrap();
        Some((reset.flags, reset.seq, reset.ack))
    };
    // With an acknowledgment: its number (RFC 9293 3.10.7.1).
    assert_eq!(answer(&segment(5, 9, ACK, b"abc")), Some((RST, Seq(OURS.wrapping_add(9)), Seq(0))));
    // Without: everything the segment occupies is acknowledged.
    let acked = Seq(THEIRS.wrapping_add(5 + 1));
    assert_eq!(answer(&segment(5, 0, SYN, &[])), Some((RST | ACK, Seq(0), acked)));
    assert_eq!(answer(&segment(5, 0, RST, &[])), None);
    assert_eq!(reset_for(&segment(5, 9, ACK, &[]), local, remote, &mut [0; HEADER - 1]), None);
}

#[test]
fn timestamps_are_negotiated_echoed_and_guard_against_old_segments() {
    use ebb_tunnel::tcp::Timestamps;
    let settings = Settings { timestamps: true, ..Settings::default() };
    let stamp = |value, echo| Some(Timestamps { value, echo });
    let options = Options { timestamps: stamp(5_000, 0), ..usual_options() };
    let mut rig = Rig::answering(options, &settings);
    let answer = rig.sent_one();
    let ours = answer.options.timestamps.unwrap();
    assert_eq!(ours.echo, 5_000);
    let with = |value, seq, payload: &'static [u8]| {
        let mut segment = segment(seq, 1, ACK, payload);
        segment.options.timestamps = stamp(value, ours.value);
        segment
    };
    rig.pass(30);
    rig.hear_segment(&with(5_030, 1, b"new"));
    assert_eq!(rig.read(), b"new");
    // PAWS (RFC 7323 5.3): a segment from before.
    rig.hear_segment(&with(4_999, 4, b"old"));
    assert_eq!(rig.read(), b"");
    let demand = rig.sent_one();
    assert_eq!((demand.ack, demand.options.timestamps.unwrap().echo), (4, 5_030));
    // RFC 7323 3.2: without a timestamp it is not from this connection.
    rig.hear(4, 1, ACK, b"bare");
    assert_eq!(rig.read(), b"");
    rig.hear_segment(&with(5_031, 4, b"more"));
    assert_eq!(rig.read(), b"more");
    // The option takes 12 octets of every segment.
    rig.write(&[1; 5_000]);
    assert_eq!(spans(&rig.sent())[0], (1, 988));
}
