//! UDP ports of local gateways. On Azure every gateway has an address of its own; here they share one, so each session gets a
//! port of its own and keeps it, because the port stands in client configurations.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;

use ebb_desired_state::SessionName;

use super::process::write_private;

/// The session's port: the one it had, else `wanted`, else the next one above that nobody uses.
pub(super) fn assign(directory: &Path, session: &SessionName, wanted: u16) -> io::Result<u16> {
    let path = directory.join("ports.json");
    let mut ports: BTreeMap<SessionName, (u16, u16)> = match fs::read(&path) {
        Ok(json) => serde_json::from_slice(&json)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error),
    };
    if let Some((asked, port)) = ports.get(session)
        && *asked == wanted
    {
        return Ok(*port);
    }
    let port = (wanted..=u16::MAX)
        .find(|port| !ports.values().any(|(_, taken)| taken == port) && is_free(*port))
        .ok_or_else(|| io::Error::other(format!("no UDP port from {wanted} up is free")))?;
    ports.insert(session.clone(), (wanted, port));
    write_private(&path, &serde_json::to_vec_pretty(&ports)?)?;
    Ok(port)
}

fn is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_keeps_its_port_and_two_sessions_never_share_one() {
        let directory = tempfile::tempdir().unwrap();
        let probe = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wanted = probe.local_addr().unwrap().port().saturating_sub(8).max(1024);
        drop(probe);
        let assign = |session: &str| assign(directory.path(), &session.parse().unwrap(), wanted).unwrap();
        let (one, two) = (assign("one"), assign("two"));
        assert_ne!(one, two);
        assert_eq!((assign("one"), assign("two")), (one, two));
    }

    #[test]
    fn a_port_that_somebody_else_uses_is_left_to_them() {
        let directory = tempfile::tempdir().unwrap();
        let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        let wanted = taken.local_addr().unwrap().port();
        assert_ne!(assign(directory.path(), &"one".parse().unwrap(), wanted).unwrap(), wanted);
    }
}
