//! Which loop's socket a datagram is for: a rule that the kernel follows (`SO_ATTACH_REUSEPORT_CBPF`, socket(7), Linux 4.5).

use std::io;
use std::net::UdpSocket;

use libc::{BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_MOD, BPF_RET, sock_filter};
use nix::sys::socket::{setsockopt, sockopt};

/// Where the low byte of the receiver index lies in data and cookie messages, and in responses (WireGuard paper, sections
/// 5.4.3, 5.4.6 and 5.4.7).
const RECEIVER: u32 = 4;
const RECEIVER_OF_RESPONSE: u32 = 8;

const fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn unless_equal(value: u32, skip: u8) -> sock_filter {
    sock_filter { code: (BPF_JMP | BPF_JEQ | BPF_K) as u16, jt: 0, jf: skip, k: value }
}

/// Lets the kernel choose among the sockets of a port, in the order in which they were bound: by the receiver index where a
/// message has one ([`Share`](ebb_tunnel::wireguard::Share)), else the first.
///
/// # Errors
/// When the kernel does not know the option.
pub fn steer(socket: &UdpSocket, sockets: usize) -> io::Result<()> {
    let byte = |at| statement(BPF_LD | BPF_B | BPF_ABS, at);
    let modulo = statement(BPF_ALU | BPF_MOD | BPF_K, sockets as u32);
    let answer = statement(BPF_RET | BPF_A, 0);
    let mut program = [
        byte(0),
        unless_equal(4, 3),
        byte(RECEIVER),
        modulo,
        answer,
        unless_equal(3, 3),
        byte(RECEIVER),
        modulo,
        answer,
        unless_equal(2, 3),
        byte(RECEIVER_OF_RESPONSE),
        modulo,
        answer,
        statement(BPF_RET | BPF_K, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}
