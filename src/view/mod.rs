//! What people are shown, as types: one shape for `--output json`, and later for HTTP and webhooks.
//!
//! A view says what is, in the words of `docs/json.md`; it asks nobody and decides nothing. Amounts, times
//! and ids have types of their own here, so that each is written in one way.

pub mod clock;

use std::fmt;

use serde::{Serialize, Serializer};

use crate::domain::ids::ChainId;

/// An instant in epoch milliseconds, shown in RFC 3339. Its field's name ends in `_at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct At(pub i64);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl Serialize for At {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A chain as CAIP-2 names it, such as `eip155:8453`. Its field is called `chain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain(pub ChainId);

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "eip155:{}", self.0.0)
    }
}

impl Serialize for Chain {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
