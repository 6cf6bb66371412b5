//! The house without a network: the real tasks and the real store over a chain that a test writes.

mod by_hand;
mod company;
mod depth;
mod doubts;
mod due;
mod dust;
mod feeds;
mod findings;
mod forks;
pub mod interleavings;
mod late;
mod lone_word;
mod market;
mod odd_logs;
mod odd_source;
pub mod origin;
mod places;
mod proofs;
mod registers;
mod said_twice;
mod screening;
pub mod support;
mod tampering;
mod times;
mod treasury;
mod waiting;
mod walk;
