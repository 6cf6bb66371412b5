//! The tokens of a chain: those of its preset by name, and any other by its address.

use alloy::primitives::Address;
use serde::Deserialize;

use super::error::{ConfigError, wrong};
use crate::domain::ids::ChainId;
use crate::domain::money::TOKEN_DECIMALS_MAX;
use crate::domain::pricing::{EpochBook, Token};
use crate::domain::wallet::parse_address;
use crate::presets::Preset;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawToken {
    symbol: String,
    asset: Option<String>,
    address: String,
    decimals: u8,
}

/// A token of the preset by its name there, or any token.
#[derive(Debug)]
pub(super) enum RawTokenOrKey {
    Key(String),
    Token(RawToken),
}

impl<'de> Deserialize<'de> for RawTokenOrKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::{MapAccess, Visitor, value::MapAccessDeserializer};
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawTokenOrKey;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the name of a token of the preset, such as \"USDC\", or a table with symbol, address and decimals")
            }

            fn visit_str<E>(self, key: &str) -> Result<RawTokenOrKey, E> {
                Ok(RawTokenOrKey::Key(key.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTokenOrKey, A::Error> {
                RawToken::deserialize(MapAccessDeserializer::new(map)).map(RawTokenOrKey::Token)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// The tokens, and which of them are known by the preset.
pub(super) fn tokens(
    raw: Option<Vec<RawTokenOrKey>>,
    preset: Option<&'static Preset>,
    key: &str,
    chain: ChainId,
    epochs: &EpochBook,
) -> Result<(Vec<Token>, Vec<Address>), ConfigError> {
    let accepted = |asset: &str| epochs.all().iter().any(|e| e.accept.contains_key(asset));
    let raw = match (raw, preset) {
        (Some(raw), _) => raw,
        // The plain USDC and USDT of the chain, as far as they are accepted.
        (None, Some(preset)) => preset
            .tokens
            .iter()
            .filter(|t| t.key == t.asset && accepted(t.asset))
            .map(|t| RawTokenOrKey::Key(t.key.to_owned()))
            .collect(),
        (None, None) => Vec::new(),
    };
    if raw.is_empty() {
        return Err(wrong(format!("{key}.tokens"), "must have at least one token"));
    }
    let (mut tokens, mut known): (Vec<Token>, Vec<Address>) = (Vec::new(), Vec::new());
    for (i, token) in raw.into_iter().enumerate() {
        let key = format!("{key}.tokens[{i}]");
        let token = match token {
            RawTokenOrKey::Token(token) => token.check(&key, chain, epochs)?,
            RawTokenOrKey::Key(name) => {
                let found = preset.and_then(|p| p.token(&name)).ok_or_else(|| {
                    let names: Vec<_> =
                        preset.map_or(&[][..], |p| p.tokens).iter().map(|t| t.key).collect();
                    let problem = match preset {
                        None => format!("is {name:?}, and the chain has no preset that knows it: give symbol, address and decimals"),
                        Some(p) => format!("is {name:?}; the preset {} knows {}", p.name, names.join(", ")),
                    };
                    wrong(&key, problem)
                })?;
                known.push(found.address);
                let raw = RawToken {
                    symbol: found.key.to_owned(),
                    asset: Some(found.asset.to_owned()),
                    address: found.address.to_checksum(None),
                    decimals: found.decimals,
                };
                raw.check(&key, chain, epochs)?
            }
        };
        if tokens.iter().any(|t| t.address == token.address) {
            return Err(wrong(format!("{key}.address"), "is used by two tokens"));
        }
        tokens.push(token);
    }
    Ok((tokens, known))
}

impl RawToken {
    fn check(self, key: &str, chain: ChainId, epochs: &EpochBook) -> Result<Token, ConfigError> {
        let address =
            parse_address(&self.address).map_err(|e| wrong(format!("{key}.address"), e))?;
        if self.decimals > TOKEN_DECIMALS_MAX {
            let problem = format!("is {}; allowed: 0 to {TOKEN_DECIMALS_MAX}", self.decimals);
            return Err(wrong(format!("{key}.decimals"), problem));
        }
        let asset = self.asset.unwrap_or_else(|| self.symbol.clone());
        let mut accepted = false;
        for epoch in epochs.all() {
            let Some(terms) = epoch.accept.get(&asset) else { continue };
            accepted = true;
            if let Some(minimum) = terms.minimum {
                minimum.to_raw(self.decimals).map_err(|e| {
                    let key = format!("epochs {:?} accept.{asset}.minimum", epoch.id);
                    wrong(key, format!("{e}, as many as {} on {chain}", self.symbol))
                })?;
            }
        }
        if !accepted {
            let problem = format!(
                "no epoch accepts {asset:?}; add epochs.accept.{asset}, or remove the token"
            );
            return Err(wrong(format!("{key}.asset"), problem));
        }
        Ok(Token { chain, address, symbol: self.symbol, asset, decimals: self.decimals })
    }
}
