//! Tests of Ebb that need more than one part, and the worlds they happen in.

pub mod azurite;
pub mod e2e;
pub mod fake_arm;
pub mod fake_blob;
pub mod fake_github;
pub mod npm;
mod serve;
pub mod sim;
