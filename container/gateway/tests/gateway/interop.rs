//! With a client that nobody here wrote: wireguard-go on a TUN device, the kernel's own TCP, UDP and ping above it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Stdio};

use crate::bed::{Bed, GATEWAY_OUTER, PATIENCE, Place, SERVER_V4, SERVER_V6, bed, clock, output};
use crate::daemon::{Daemon, addresses, key, live};
use crate::tcp::server;

/// Bytes of each transfer.
const BYTES: usize = 10_000_000;

/// wireguard-go in the client's namespace; ended when dropped.
struct WireGuardGo {
    child: Child,
}

impl WireGuardGo {
    fn start(bed: &Bed, user: u8) -> Self {
        let name = format!("ebb{}", std::process::id());
        let mut command = bed.command(Place::Client, "wireguard-go");
        command.args(["-f", &name]).env("LOG_LEVEL", "error").stdout(Stdio::null()).stderr(Stdio::null());
        let go = Self { child: command.spawn().unwrap() };
        let namespace = bed.namespace(Place::Client);
        let deadline = clock() + PATIENCE;
        let socket = format!("/var/run/wireguard/{name}.sock");
        while !std::path::Path::new(&socket).exists() {
            assert!(clock() < deadline, "wireguard-go does not come up");
            std::thread::yield_now();
        }
        let key_file = bed.write_secret("client.key", key(user).reveal().as_str());
        let gateway = bed.gateway_key.public().to_string();
        let mut wg = bed.command(Place::Client, "wg");
        wg.args(["set", &name, "private-key"]).arg(key_file);
        wg.args(["peer", &gateway, "endpoint", &GATEWAY_OUTER.to_string()]);
        wg.args(["allowed-ips", "0.0.0.0/0,::/0"]);
        assert!(wg.status().unwrap().success());
        let [v4, v6] = addresses(user);
        for line in [
            format!("addr add {v4}/24 dev {name}"),
            format!("addr add {v6}/64 dev {name} nodad"),
            format!("link set {name} mtu 1420 up"),
            format!("route add 172.31.2.0/24 dev {name}"),
            format!("route add fd31:2::/64 dev {name}"),
        ] {
            let arguments: Vec<_> = ["-n", &namespace].into_iter().chain(line.split(' ')).collect();
            output("ip", &arguments);
        }
        go
    }
}

impl Drop for WireGuardGo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pattern() -> Vec<u8> {
    (0..BYTES).map(|at| (at ^ (at >> 11)) as u8).collect()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_kernel_behind_wireguard_go_transfers_pings_and_sends_datagrams() {
    let Some(bed) = bed() else { return };
    let download = server(&bed, |mut stream| {
        stream.write_all(&pattern()).unwrap();
    });
    let upload = server(&bed, |mut stream| {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let verdict = if bytes == pattern() { b"same" } else { b"else" };
        stream.write_all(verdict).unwrap();
    });
    let datagrams = bed.inside(Place::Server, || UdpSocket::bind("[::]:0").unwrap());
    let datagram_port = datagrams.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, from)) = datagrams.recv_from(&mut buffer) {
            datagrams.send_to(&buffer[..length], from).unwrap();
        }
    });
    let _gateway = bed.start();
    let mut daemon = Daemon::new(&bed);
    daemon.configure(&live(1, &[2]));
    let _go = WireGuardGo::start(&bed, 2);

    for server in [std::net::IpAddr::from(SERVER_V4), SERVER_V6.into()] {
        bed.inside(Place::Client, || {
            let mut bytes = Vec::new();
            connect((server, download).into()).read_to_end(&mut bytes).unwrap();
            assert!(bytes == pattern(), "download from {server}");

            let mut stream = connect((server, upload).into());
            stream.write_all(&pattern()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut verdict = String::new();
            stream.read_to_string(&mut verdict).unwrap();
            assert_eq!(verdict, "same", "upload to {server}");

            let refused = TcpStream::connect_timeout(&(server, 9).into(), PATIENCE).unwrap_err();
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

            let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect((server, datagram_port)).unwrap();
            // The last one does not fit the tunnel's MTU and comes and goes in fragments.
            for length in [0, 100, 1372, 9000] {
                socket.send(&pattern()[..length]).unwrap();
                let mut buffer = [0; 65_536];
                let received = socket.recv(&mut buffer).unwrap();
                assert!(buffer[..received] == pattern()[..length], "{length} bytes to {server}");
            }
            socket.connect((server, 9)).unwrap();
            socket.send(b"x").unwrap();
            let error = socket.recv(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{server}");
        });
        for size in ["56", "3000"] {
            let mut ping = bed.command(Place::Client, "ping");
            ping.args(["-c", "3", "-i", "0.1", "-W", "20", "-s", size, &server.to_string()]);
            let result = ping.output().unwrap();
            assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stdout));
        }
    }
    let [peer] = daemon.telemetry().peers.try_into().unwrap();
    assert!(peer.sent_bytes as usize > 2 * BYTES && peer.received_bytes as usize > 2 * BYTES);
}
