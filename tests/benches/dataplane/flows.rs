//! Many connections at a time.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use ebb_tests::e2e::process::Process;
use ebb_tests::e2e::wait::{eventually, now};
use ebb_tests::e2e::world::SERVER;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::gateway::Bed;

/// Runs the echo server; a process of its own, because it needs as many descriptors as the clients.
pub const SERVE: &str = "--serve-echo";
const PORT: u16 = 7007;
/// Connections that are being opened at a time.
const OPENING: usize = 256;
const MESSAGE: usize = 16;
/// A flow that does not answer for this long is lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of the connections.
#[derive(Debug)]
pub struct Outcome {
    /// Seconds until the last of them had opened and exchanged a message.
    pub up: f64,
    /// Those that did not open, or did not answer again once all were open.
    pub lost: usize,
    /// Memory of the gateway with all of them open, in MiB.
    pub memory: f64,
}

/// Opens so many connections through the gateway and uses each twice.
pub fn run(bed: &Bed<'_>, count: usize) -> Outcome {
    let mut server = Command::new(std::env::current_exe().unwrap());
    server.args([SERVE, &format!("{SERVER}:{PORT}")]);
    let _server = Process::spawn(&bed.world.internet, &bed.world.logs(), "echo", server);
    eventually("the echo server listens", PATIENCE, || {
        let reached = bed.world.internet.run(|| std::net::TcpStream::connect((SERVER, PORT)));
        reached.map_err(|error| error.to_string())
    });
    let runtime = || Builder::new_current_thread().enable_all().build().unwrap();
    let (runtime, streams, up) = bed.client.namespace.run(move || {
        let runtime = runtime();
        let began = now();
        let streams = runtime.block_on(open(count));
        (runtime, streams, began.elapsed().as_secs_f64())
    });
    let memory = bed.memory("VmRSS");
    let answered = runtime.block_on(async {
        let again: Vec<_> = streams
            .into_iter()
            .map(|mut stream| tokio::spawn(async move { exchange(&mut stream).await.then_some(stream) }))
            .collect();
        let mut alive = Vec::new();
        for flow in again {
            alive.extend(flow.await.unwrap());
        }
        alive.len()
    });
    Outcome { up, lost: count - answered, memory }
}

async fn open(count: usize) -> Vec<TcpStream> {
    let permits = Arc::new(Semaphore::new(OPENING));
    let opening: Vec<_> = (0..count)
        .map(|_| {
            let permits = Arc::clone(&permits);
            tokio::spawn(async move {
                let _permit = permits.acquire().await.unwrap();
                let mut stream = timeout(PATIENCE, TcpStream::connect((SERVER, PORT))).await.ok()?.ok()?;
                exchange(&mut stream).await.then_some(stream)
            })
        })
        .collect();
    let mut streams = Vec::new();
    for flow in opening {
        streams.extend(flow.await.unwrap());
    }
    streams
}

async fn exchange(stream: &mut TcpStream) -> bool {
    let mut message = [3; MESSAGE];
    let done = timeout(PATIENCE, async {
        stream.write_all(&message).await?;
        stream.read_exact(&mut message).await
    });
    matches!(done.await, Ok(Ok(_)))
}

/// The server's side, until it is killed.
pub fn serve(address: &str) -> ! {
    let address: SocketAddr = address.parse().unwrap();
    Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(address).unwrap();
        let listener = socket.listen(4096).unwrap();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut message = [0; MESSAGE];
                while stream.read_exact(&mut message).await.is_ok()
                    && stream.write_all(&message).await.is_ok()
                {}
            });
        }
    })
}
