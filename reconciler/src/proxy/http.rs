//! An HTTP proxy: CONNECT (RFC 9110, section 9.3.6), and requests in absolute form (RFC 9112, section 3.2.2) for plain HTTP.

use std::fmt::Write as _;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Destination, Uplink, join, nodelay, open, within};

/// Longest head of a request; browsers stay under 16 KiB.
const LONGEST_HEAD: usize = 64 * 1024;

const MOST_HEADERS: usize = 128;

pub(super) async fn serve(mut client: TcpStream, uplink: &dyn Uplink) -> io::Result<()> {
    nodelay(&client);
    let (head, rest) = within(read_head(&mut client)).await?;
    let Some(request) = Request::parse(&head) else {
        return refuse(&mut client, "400 Bad Request", "this is no request to a proxy").await;
    };
    let mut stream = match open(uplink, &request.destination, request.port).await {
        Ok(stream) => stream,
        Err(error) => {
            let status = match error.kind() {
                io::ErrorKind::TimedOut => "504 Gateway Timeout",
                _ => "502 Bad Gateway",
            };
            refuse(&mut client, status, &error.to_string()).await?;
            return Err(error);
        }
    };
    match request.forward {
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?,
        Some(head) => stream.write_all(head.as_bytes()).await?,
    }
    stream.write_all(&rest).await?;
    join(client, stream).await
}

/// Reads up to the empty line; what came behind it belongs to the body or to the tunnel.
async fn read_head(client: &mut TcpStream) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((bytes, rest));
        }
        if bytes.len() > LONGEST_HEAD {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the head of the request is too long"));
        }
        if client.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

async fn refuse(client: &mut TcpStream, status: &str, why: &str) -> io::Result<()> {
    let length = why.len() + 1;
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n"
    );
    client.write_all(format!("{head}{why}\n").as_bytes()).await
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    destination: Destination,
    port: u16,
    /// The head to send on; `None` for CONNECT.
    forward: Option<String>,
}

impl Request {
    fn parse(head: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut parsed = httparse::Request::new(&mut headers);
        parsed.parse(head).ok()?.is_complete().then_some(())?;
        let (method, target) = (parsed.method?, parsed.path?);
        if method == "CONNECT" {
            let (destination, port) = authority(target, None)?;
            return Some(Self { destination, port, forward: None });
        }
        let rest = target.strip_prefix("http://")?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (destination, port) = authority(host, Some(80))?;
        let path = if path.is_empty() { "/" } else { path };
        let mut forward = format!("{method} {path} HTTP/1.1\r\n");
        for header in parsed.headers.iter() {
            // These concern the hop to the proxy (RFC 9110, section 7.6.1). One request for each connection keeps the
            // proxy from having to understand bodies.
            let own = ["connection", "proxy-connection", "proxy-authorization", "keep-alive"];
            if !own.iter().any(|name| header.name.eq_ignore_ascii_case(name)) {
                let _ = write!(forward, "{}: {}\r\n", header.name, std::str::from_utf8(header.value).ok()?);
            }
        }
        forward.push_str("Connection: close\r\n\r\n");
        Some(Self { destination, port, forward: Some(forward) })
    }
}

/// `host:port`, `host` with a default port, or either with an IPv6 address in brackets.
fn authority(text: &str, default: Option<u16>) -> Option<(Destination, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(default, |port| port.parse().ok())?;
    let destination = host.parse().map_or_else(|_| Destination::Name(host.to_owned()), Destination::Address);
    (!host.is_empty()).then_some((destination, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_names_host_and_port() {
        let request =
            Request::parse(b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n").unwrap();
        assert_eq!(
            request,
            Request { destination: Destination::Name("example.org".into()), port: 443, forward: None }
        );
        let v6 = Request::parse(b"CONNECT [2001:db8::1]:8443 HTTP/1.1\r\n\r\n").unwrap();
        assert_eq!((v6.destination, v6.port), (Destination::Address("2001:db8::1".parse().unwrap()), 8443));
    }

    #[test]
    fn a_request_in_absolute_form_goes_on_in_origin_form_without_the_hop_s_headers() {
        let head = b"GET http://example.org/a?b HTTP/1.1\r\nHost: example.org\r\nProxy-Connection: keep-alive\r\nX: y\r\n\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!((request.destination, request.port), (Destination::Name("example.org".into()), 80));
        assert_eq!(
            request.forward.unwrap(),
            "GET /a?b HTTP/1.1\r\nHost: example.org\r\nX: y\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn anything_else_is_no_request_to_a_proxy() {
        let heads: [&[u8]; 6] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"CONNECT example.org HTTP/1.1\r\n\r\n",
            b"CONNECT :443 HTTP/1.1\r\n\r\n",
            b"CONNECT example.org:99999 HTTP/1.1\r\n\r\n",
            b"GET https://example.org/ HTTP/1.1\r\n\r\n",
            b"\x05\x01\x00\r\n\r\n",
        ];
        for head in heads {
            assert_eq!(Request::parse(head), None, "{}", String::from_utf8_lossy(head));
        }
    }
}
