//! The clock of testers: what time it is, and where the local chains are.

use serde::Serialize;

use super::{At, Chain};

/// The time that everything in a database goes by.
#[derive(Debug, Clone, Serialize)]
pub struct Clock {
    /// Now.
    #[serde(rename = "time_at")]
    pub time: At,
    /// How far testers have moved it, in seconds: 0 on mainnet, always.
    pub ahead_seconds: i64,
    /// The configured chains.
    pub chains: Vec<ChainClock>,
}

/// The time of a chain.
#[derive(Debug, Clone, Serialize)]
pub struct ChainClock {
    /// The chain.
    pub chain: Chain,
    /// Its name in the configuration.
    pub name: String,
    /// A provider of it, by its name in the configuration.
    pub provider: String,
    /// The time of the newest block that the provider has; none where it does not answer.
    pub latest_block_at: Option<At>,
    /// True for a local chain, whose time can be moved.
    pub can_be_moved: bool,
    /// What the provider says of itself, or why it does not answer.
    pub client: String,
}
