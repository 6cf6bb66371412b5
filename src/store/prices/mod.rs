//! Prices as they are stored: raw answers, accepted prices, the rules of epochs, and conversions.

pub(in crate::store) mod conversions;
pub(in crate::store) mod epochs;
pub(in crate::store) mod market;
pub(in crate::store) mod quotes;
pub(in crate::store) mod schedule;
pub(in crate::store) mod tries;
