//! Deposits on their way: each commit that takes one to its next stage, and what they wait for.

pub(in crate::store) mod attempts;
pub(in crate::store) mod confirmed;
pub(in crate::store) mod due;
pub(in crate::store) mod dust;
pub(in crate::store) mod open_deposit;
pub(in crate::store) mod proofs;
pub(in crate::store) mod reverse;
pub(in crate::store) mod screenings;
pub(in crate::store) mod settle;
pub(in crate::store) mod stages;
pub(in crate::store) mod views;
pub(in crate::store) mod waits;
