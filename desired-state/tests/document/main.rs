//! The document as people write it: examples, mistakes, mutations.

mod examples;
mod mutation;
mod reject;
mod truncation;
