//! SOCKS5 (RFC 1928): no authentication, CONNECT only. It listens on loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Destination, Uplink, join, nodelay, open, within};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_ACCEPTABLE_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Replies of RFC 1928, section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reply {
    Succeeded = 0,
    GeneralFailure = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    ConnectionRefused = 5,
    TtlExpired = 6,
    CommandNotSupported = 7,
    AddressNotSupported = 8,
}

pub(super) async fn serve(mut client: TcpStream, uplink: &dyn Uplink) -> io::Result<()> {
    nodelay(&client);
    let request = match within(greet(&mut client)).await? {
        Ok(request) => request,
        Err(reply) => return answer(&mut client, reply).await,
    };
    match open(uplink, &request.destination, request.port).await {
        Ok(stream) => {
            answer(&mut client, Reply::Succeeded).await?;
            join(client, stream).await
        }
        Err(error) => {
            answer(&mut client, reply_to(&error)).await?;
            Err(error)
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Request {
    destination: Destination,
    port: u16,
}

/// Agrees on a method (section 3) and reads the request (section 4). The inner error is a reply for the client.
async fn greet(client: &mut TcpStream) -> io::Result<Result<Request, Reply>> {
    let [version, methods] = read(client).await?;
    if version != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not SOCKS5"));
    }
    let mut offered = vec![0; methods.into()];
    client.read_exact(&mut offered).await?;
    if !offered.contains(&NO_AUTHENTICATION) {
        client.write_all(&[VERSION, NO_ACCEPTABLE_METHOD]).await?;
        return Err(io::Error::new(io::ErrorKind::Unsupported, "the client insists on a password"));
    }
    client.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    request(client).await
}

async fn request(client: &mut (impl AsyncRead + Unpin)) -> io::Result<Result<Request, Reply>> {
    let [version, command, _, kind] = read(client).await?;
    if version != VERSION {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not SOCKS5"));
    }
    let destination = match kind {
        IPV4 => Destination::Address(IpAddr::V4(Ipv4Addr::from(read::<4>(client).await?))),
        IPV6 => Destination::Address(IpAddr::V6(Ipv6Addr::from(read::<16>(client).await?))),
        NAME => {
            let [length] = read(client).await?;
            let mut name = vec![0; length.into()];
            client.read_exact(&mut name).await?;
            match String::from_utf8(name) {
                // A client may put an address where a name belongs.
                Ok(name) => name.parse().map_or(Destination::Name(name), Destination::Address),
                Err(_) => return Ok(Err(Reply::GeneralFailure)),
            }
        }
        _ => return Ok(Err(Reply::AddressNotSupported)),
    };
    let port = u16::from_be_bytes(read(client).await?);
    if command != CONNECT {
        return Ok(Err(Reply::CommandNotSupported));
    }
    Ok(Ok(Request { destination, port }))
}

async fn read<const N: usize>(client: &mut (impl AsyncRead + Unpin)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The bound address is of no use to anybody (section 6), so it is zero.
async fn answer(client: &mut TcpStream, reply: Reply) -> io::Result<()> {
    client.write_all(&[VERSION, reply as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]).await
}

fn reply_to(error: &io::Error) -> Reply {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Reply::ConnectionRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NotFound => {
            Reply::HostUnreachable
        }
        io::ErrorKind::TimedOut => Reply::TtlExpired,
        io::ErrorKind::PermissionDenied => Reply::NotAllowed,
        _ => Reply::GeneralFailure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read_request(bytes: &[u8]) -> io::Result<Result<Request, Reply>> {
        request(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn requests_name_their_destination_in_three_ways() {
        let wanted = |destination, port| Ok(Request { destination, port });
        let v4 = [5, 1, 0, 1, 192, 0, 2, 7, 0, 80];
        let address = Destination::Address("192.0.2.7".parse().unwrap());
        assert_eq!(read_request(&v4).await.unwrap(), wanted(address.clone(), 80));
        let mut v6 = vec![5, 1, 0, 4];
        v6.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        v6.extend([1, 187]);
        assert_eq!(
            read_request(&v6).await.unwrap(),
            wanted(Destination::Address("2001:db8::1".parse().unwrap()), 443)
        );
        let name = b"\x05\x01\x00\x03\x0bexample.org\x00\x50";
        assert_eq!(read_request(name).await.unwrap(), wanted(Destination::Name("example.org".into()), 80));
        let disguised = b"\x05\x01\x00\x03\x09192.0.2.7\x00\x50";
        assert_eq!(read_request(disguised).await.unwrap(), wanted(address, 80));
    }

    #[tokio::test]
    async fn what_is_not_supported_is_answered_and_what_is_broken_is_not() {
        assert_eq!(
            read_request(&[5, 2, 0, 1, 192, 0, 2, 7, 0, 80]).await.unwrap(),
            Err(Reply::CommandNotSupported)
        );
        assert_eq!(read_request(&[5, 1, 0, 9]).await.unwrap(), Err(Reply::AddressNotSupported));
        for broken in [&b"GET / HTTP/1.1\r\n"[..], &[5, 1], &[5, 1, 0, 1, 192, 0]] {
            assert!(read_request(broken).await.is_err());
        }
    }
}
