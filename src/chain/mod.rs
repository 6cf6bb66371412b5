//! SENSE. Blocks, logs and receipts of one chain, from whoever can answer.
//!
//! A source reports; it decides nothing and stores nothing. It checks only that an answer is an
//! answer to the question asked. It does not retry: who asks decides whom to ask next ([`pool`]), and
//! the next activation of a task is the retry.

pub mod answer;
pub mod check;
mod field;
mod jsonrpc;
pub mod pool;
mod proof;
pub mod read;
pub mod rpc;
mod rpc_error;
#[cfg(feature = "planted")]
pub mod scripted;
pub mod secrets;
pub mod source;
mod websocket;
mod wire;

pub use proof::{BlockProof, Sealed};
