//! Who signs Pyth's prices: Wormhole's guardians, and how many of them must.

use alloy::primitives::{B256, b256};
use serde::Deserialize;

use crate::config::error::{ConfigError, wrong};
use crate::domain::oracle::pyth::Signers;
use crate::domain::wallet::parse_address;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSigners {
    addresses: Vec<String>,
    least: Option<u8>,
    #[serde(default = "pythnet")]
    emitter_chain: u16,
    #[serde(default = "pythnet_emitter")]
    emitter: B256,
}

/// Wormhole's number of Pythnet.
const fn pythnet() -> u16 {
    26
}

/// Who emits Pyth's Merkle roots on Pythnet.
const fn pythnet_emitter() -> B256 {
    b256!("0xe101faedac5851e32b9b23b5f9411a8c2bac4aae3ed4dd7b811dd1a72ea4aa71")
}

impl RawSigners {
    pub(super) fn check(self, key: &str) -> Result<Signers, ConfigError> {
        let mut addresses = Vec::new();
        for (i, text) in self.addresses.iter().enumerate() {
            let at = || format!("{key}.addresses[{i}]");
            let address = parse_address(text).map_err(|e| wrong(at(), e))?;
            if addresses.contains(&address) {
                return Err(wrong(at(), "is there twice: it would count twice"));
            }
            addresses.push(address);
        }
        let many = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
        // More than two thirds of them, as Wormhole wants it.
        let two_thirds = u8::try_from(addresses.len() * 2 / 3).unwrap_or(u8::MAX);
        let least = self.least.unwrap_or_else(|| two_thirds.saturating_add(1));
        if !(1..=many).contains(&least) {
            let problem = format!("is {least}; allowed with {many} address(es): 1 to {many}");
            return Err(wrong(format!("{key}.least"), problem));
        }
        let Self { emitter_chain, emitter, .. } = self;
        Ok(Signers { addresses, least, emitter_chain, emitter })
    }
}
