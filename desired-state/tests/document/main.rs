//! The document as people write it: examples, mistakes, damage, and what editors and readers are told about it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod difference;
mod examples;
mod memory;
mod mutation;
mod reject;
mod schema;
mod truncation;
