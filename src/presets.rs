//! The facts of thirteen public chains: which contract USDC and USDT are there, how long a payment
//! waits, and what public providers accept.
//!
//! Data only. It asks no chain whether a fact still holds, and names no provider and no rate: those
//! are the operator's. A token's address decides what is credited; its symbol is only what people
//! see, and any contract may answer to it.

mod chains;
mod preset;
mod tiers;

use self::chains::PRESETS;

pub use self::preset::{Origin, Preset, PresetTier, PresetToken, ReceiptsRoot};

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    all().iter().find(|preset| preset.name == name)
}

/// Every preset: first those worth money, then the test networks.
pub fn all() -> &'static [Preset] {
    &PRESETS
}

#[cfg(test)]
mod tests;
