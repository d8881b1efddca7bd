//! Properties, scenarios and planted bugs in the simulated world.

#![allow(clippy::unwrap_used, reason = "a test ends where its world is not as it says")]

mod generate;
mod properties;
mod scenarios;
