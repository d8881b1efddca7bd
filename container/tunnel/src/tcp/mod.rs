//! One TCP connection, seen from our end of the tunnel.
