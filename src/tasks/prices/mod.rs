//! Market prices: what is asked of the sources and when, how a price is decided, and how it is computed again.

pub(in crate::tasks) mod after;
pub mod ask;
pub mod capture;
pub(in crate::tasks) mod historic;
pub(in crate::tasks) mod legs;
pub(in crate::tasks) mod locate;
pub mod market;
pub mod recompute;
pub(in crate::tasks) mod request;
pub mod sample;
pub(in crate::tasks) mod schedule;
