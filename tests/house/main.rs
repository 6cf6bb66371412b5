//! The house without a network: the real tasks and the real store over a chain that a test writes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "a test stops at the first thing that is not as expected"
)]

mod interleavings;
mod odd_logs;
mod registers;
mod support;
mod tampering;
mod walk;
