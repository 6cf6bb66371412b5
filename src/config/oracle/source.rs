//! The sources of a pair, each kind with its keys: feeds, pools, Pyth, tickers, fixed prices.
//!
//! It looks at what is written and at the configured chains; what a contract or a server says, `check` asks it.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256};
use serde::Deserialize;

use super::signers::RawSigners;
use super::web::{Headers, Sent, host, sent, web_url};
use crate::config::chain::ChainConfig;
use crate::config::error::{ConfigError, wrong};
use crate::config::url::placeholders;
use crate::domain::ids::Network;
use crate::domain::money::{Rate, RawAmount};
use crate::domain::oracle::samples::SAMPLES_MAX;
use crate::domain::oracle::source::{Reads, SourceSpec};
use crate::domain::oracle::{chainlink, pyth_source, ticker, uniswap_v3};
use crate::domain::pricing::Token;
use crate::domain::wallet::parse_address;

/// What every source has: its name, whose price it is, and what it is multiplied by.
struct Named {
    name: String,
    venue: Option<String>,
    via: Option<String>,
    guard: bool,
}

/// A source that is checked.
struct Checked {
    named: Named,
    reads: Reads,
    /// Headers by name, each `env:NAME`.
    headers: BTreeMap<String, String>,
}

/// The pair of a source, and the key of its table.
struct Place<'a> {
    key: &'a str,
    base: &'a str,
    quote: &'a str,
    around: &'a Around<'a>,
}

impl Place<'_> {
    fn at(&self, field: &str) -> String {
        format!("{}.{field}", self.key)
    }

    fn address(&self, field: &str, text: &str) -> Result<Address, ConfigError> {
        parse_address(text).map_err(|e| wrong(self.at(field), e))
    }

    /// What the source's own price is in: the pair that it is multiplied by begins so.
    fn priced_in<'a>(&'a self, via: Option<&'a str>) -> &'a str {
        via.and_then(|via| via.split('/').next()).unwrap_or(self.quote)
    }
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum RawSource {
    Chainlink(RawChainlink),
    UniswapV3(RawUniswapV3),
    Pyth(RawPyth),
    Http(RawHttp),
    Fixed(RawFixed),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawChainlink {
    name: String,
    venue: Option<String>,
    via: Option<String>,
    #[serde(default)]
    guard: bool,
    chain: String,
    address: String,
    #[serde(default = "eight")]
    decimals: u8,
    description: String,
    heartbeat_s: u32,
    sequencer: Option<String>,
    #[serde(default = "hour")]
    grace_s: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUniswapV3 {
    name: String,
    venue: Option<String>,
    via: Option<String>,
    #[serde(default)]
    guard: bool,
    chain: String,
    pool: String,
    base_token: Option<String>,
    quote_token: Option<String>,
    #[serde(default = "half_an_hour")]
    window_s: u32,
    history_s: Option<u32>,
    #[serde(default = "two_observations")]
    min_cardinality: u16,
    min_liquidity: String,
    #[serde(default = "five_percent")]
    spot_max_bps: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPyth {
    name: String,
    venue: Option<String>,
    via: Option<String>,
    #[serde(default)]
    guard: bool,
    url: String,
    feed_id: String,
    #[serde(default = "one_percent")]
    confidence_max_bps: u32,
    #[serde(default = "sixty")]
    after_max_s: u32,
    signers: Option<RawSigners>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHttp {
    name: String,
    venue: Option<String>,
    via: Option<String>,
    #[serde(default)]
    guard: bool,
    url: String,
    price: String,
    time: Option<String>,
    #[serde(default)]
    time_as: ticker::TimeAs,
    #[serde(default)]
    invert: bool,
    #[serde(default = "sixty")]
    max_age_s: u32,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawFixed {
    name: String,
    venue: Option<String>,
    price: Rate,
    #[serde(default)]
    i_know_this_is_not_a_market: bool,
}

const fn half_an_hour() -> u32 {
    1_800
}
const fn hour() -> u32 {
    3_600
}
const fn five_percent() -> u32 {
    500
}
const fn one_percent() -> u32 {
    100
}
const fn eight() -> u8 {
    8
}
const fn two_observations() -> u16 {
    2
}
const fn sixty() -> u32 {
    60
}

/// What sources are checked against.
pub(super) struct Around<'a> {
    pub(super) network: Network,
    pub(super) chains: &'a [ChainConfig],
    pub(super) environment: &'a BTreeMap<String, String>,
    /// Pause between two samples of a ticker.
    pub(super) sample_s: u32,
}

impl<'a> Around<'a> {
    fn chain(&self, name: &str, key: &str) -> Result<&'a ChainConfig, ConfigError> {
        self.chains.iter().find(|c| c.rules.name == name).ok_or_else(|| {
            let names: Vec<_> = self.chains.iter().map(|c| c.rules.name.as_str()).collect();
            wrong(key, format!("is {name:?}; allowed: {}", names.join(", ")))
        })
    }

    /// A configured token by its symbol, or the only one of an asset.
    fn token(
        &self,
        chain: &'a ChainConfig,
        symbol: Option<&str>,
        asset: &str,
        key: &str,
    ) -> Result<&'a Token, ConfigError> {
        let is_it = |t: &&Token| match symbol {
            Some(symbol) => t.symbol == symbol,
            None => t.asset == asset,
        };
        let mut found = chain.rules.tokens.iter().filter(is_it);
        match (found.next(), found.next()) {
            (Some(token), None) => Ok(token),
            (None, _) => {
                let wanted = symbol.unwrap_or(asset);
                let problem = format!("{wanted} is not among the tokens of {}", chain.rules.name);
                Err(wrong(key, problem))
            }
            (Some(_), Some(_)) => {
                let problem = format!("{asset} has several tokens: name one by its symbol");
                Err(wrong(key, problem))
            }
        }
    }

    fn web_url(&self, text: &str, key: &str) -> Result<(), ConfigError> {
        web_url(self.network, text, &[], key)
    }
}

impl RawSource {
    /// The source, and what is sent with its questions.
    pub(super) fn check(
        self,
        (key, base, quote): (&str, &str, &str),
        around: &Around<'_>,
        headers: &mut Headers,
    ) -> Result<SourceSpec, ConfigError> {
        let place = Place { key, base, quote, around };
        let Checked { named, reads, headers: secrets } = match self {
            Self::Chainlink(raw) => raw.check(&place),
            Self::UniswapV3(raw) => raw.check(&place),
            Self::Pyth(raw) => raw.check(&place),
            Self::Http(raw) => raw.check(&place),
            Self::Fixed(raw) => raw.check(&place),
        }?;
        let Named { name, venue, via, guard } = named;
        if name.is_empty() || name.len() > 63 {
            return Err(wrong(place.at("name"), "must have 1 to 63 characters"));
        }
        // Two names of one market count once, whoever forgets to say so.
        let venue = venue.unwrap_or_else(|| match &reads {
            Reads::Chainlink(_) => "chainlink".to_owned(),
            Reads::UniswapV3(pool) | Reads::UniswapV3After(pool) => {
                format!("uniswap {} on {}", pool.address, pool.chain_id)
            }
            Reads::Pyth(_) => "pyth".to_owned(),
            Reads::Http(ticker) => host(&ticker.url),
            Reads::Fixed { .. } => "fixed".to_owned(),
        });
        let spec = SourceSpec { name, venue, via, guard, reads };
        let Sent { known, missing } = sent(around.environment, secrets, key)?;
        if !known.is_empty() {
            headers.known.insert(spec.hash(), known);
        }
        headers.missing = headers.missing.take().or(missing);
        Ok(spec)
    }
}

impl Checked {
    /// One that nothing is sent to.
    fn of(named: Named, reads: Reads) -> Self {
        Self { named, reads, headers: BTreeMap::new() }
    }
}

impl RawChainlink {
    fn check(self, place: &Place<'_>) -> Result<Checked, ConfigError> {
        let Self {
            name,
            venue,
            via,
            guard,
            chain,
            address: feed,
            decimals,
            description,
            heartbeat_s,
            sequencer,
            grace_s,
        } = self;
        let chain_id = place.around.chain(&chain, &place.at("chain"))?.rules.id;
        if heartbeat_s == 0 || decimals > 28 {
            return Err(wrong(place.key, "heartbeat_s must be at least 1, decimals at most 28"));
        }
        let words = [place.base, place.priced_in(via.as_deref())].map(str::to_uppercase);
        let said = description.to_uppercase();
        if !said.split(" / ").eq(words.iter().map(String::as_str)) {
            let [first, second] = words;
            let problem = format!(
                "is {description:?}; a feed of this pair calls itself \"{first} / {second}\""
            );
            return Err(wrong(place.at("description"), problem));
        }
        let sequencer = sequencer
            .map(|text| {
                let address = place.address("sequencer", &text)?;
                Ok::<_, ConfigError>(chainlink::Sequencer { address, grace_s })
            })
            .transpose()?;
        let address = place.address("address", &feed)?;
        let feed =
            chainlink::Feed { chain_id, address, decimals, description, heartbeat_s, sequencer };
        Ok(Checked::of(Named { name, venue, via, guard }, Reads::Chainlink(feed)))
    }
}

impl RawUniswapV3 {
    fn check(self, place: &Place<'_>) -> Result<Checked, ConfigError> {
        let Self {
            name,
            venue,
            via,
            guard,
            chain,
            pool,
            base_token,
            quote_token,
            window_s,
            history_s,
            min_cardinality,
            min_liquidity,
            spot_max_bps,
        } = self;
        let chain = place.around.chain(&chain, &place.at("chain"))?;
        let (priced, unit) = (place.base, place.priced_in(via.as_deref()));
        let base =
            place.around.token(chain, base_token.as_deref(), priced, &place.at("base_token"))?;
        let quoted =
            place.around.token(chain, quote_token.as_deref(), unit, &place.at("quote_token"))?;
        for (field, token, wanted) in [("base_token", base, priced), ("quote_token", quoted, unit)]
        {
            if token.asset != wanted {
                let problem = format!(
                    "is {}, taken as {}; the price must be of or in {wanted}: name the pair that it is multiplied by with via",
                    token.symbol, token.asset
                );
                return Err(wrong(place.at(field), problem));
            }
        }
        if !(30..=86_400).contains(&window_s) {
            let problem = format!("is {window_s}; allowed: 30 to 86400");
            return Err(wrong(place.at("window_s"), problem));
        }
        let history_s = history_s.unwrap_or_else(|| window_s.saturating_mul(2));
        if history_s < window_s || base.address == quoted.address {
            let problem = "history_s must be at least window_s, and the tokens must differ";
            return Err(wrong(place.key, problem));
        }
        let min_liquidity = min_liquidity.parse().map(RawAmount).map_err(|_| {
            wrong(
                place.at("min_liquidity"),
                "must be a whole number in quotes, such as \"1000000000\"",
            )
        })?;
        let pool = uniswap_v3::Pool {
            chain_id: chain.rules.id,
            address: place.address("pool", &pool)?,
            base: base.address,
            base_decimals: base.decimals,
            quote: quoted.address,
            quote_decimals: quoted.decimals,
            window_s,
            history_s,
            min_cardinality,
            min_liquidity,
            spot_max_bps,
        };
        Ok(Checked::of(Named { name, venue, via, guard }, Reads::UniswapV3(pool)))
    }
}

impl RawPyth {
    fn check(self, place: &Place<'_>) -> Result<Checked, ConfigError> {
        let Self {
            name,
            venue,
            via,
            guard,
            url: text,
            feed_id,
            confidence_max_bps,
            after_max_s,
            signers,
            headers,
        } = self;
        place.around.web_url(&text, &place.at("url"))?;
        let feed_id: B256 = feed_id
            .parse()
            .map_err(|_| wrong(place.at("feed_id"), "must be 32 bytes in hexadecimal"))?;
        let url = text.trim_end_matches('/').to_owned();
        let signers = signers.map(|s| s.check(&place.at("signers"))).transpose()?;
        let feed = pyth_source::Feed { url, feed_id, confidence_max_bps, after_max_s, signers };
        let named = Named { name, venue, via, guard };
        Ok(Checked { named, reads: Reads::Pyth(feed), headers })
    }
}

impl RawHttp {
    fn check(self, place: &Place<'_>) -> Result<Checked, ConfigError> {
        let Self {
            name,
            venue,
            via,
            guard,
            url: text,
            price,
            time,
            time_as,
            invert,
            max_age_s,
            headers,
        } = self;
        // `{base}` and `{quote}` stand for the assets of the pair.
        placeholders(&text, &["base", "quote"], &place.at("url"))?;
        let text = text.replace("{base}", place.base).replace("{quote}", place.quote);
        place.around.web_url(&text, &place.at("url"))?;
        for (field, pointer) in [("price", Some(&price)), ("time", time.as_ref())] {
            if pointer.is_some_and(|p| !p.starts_with('/')) {
                let problem = "must be a JSON pointer (RFC 6901), such as \"/data/price\"";
                return Err(wrong(place.at(field), problem));
            }
        }
        if max_age_s == 0 {
            return Err(wrong(place.at("max_age_s"), "must be at least 1"));
        }
        // A payment is priced by one of the first samples after it, and so many are looked at.
        let most = i64::from(place.around.sample_s).saturating_mul(SAMPLES_MAX);
        if i64::from(max_age_s) > most {
            let sample_s = place.around.sample_s;
            let problem = format!("is too long: with oracle.sample_s = {sample_s}, at most {most}");
            return Err(wrong(place.at("max_age_s"), problem));
        }
        let names = headers.keys().cloned().collect();
        let ticker =
            ticker::Ticker { url: text, headers: names, price, time, time_as, invert, max_age_s };
        let named = Named { name, venue, via, guard };
        Ok(Checked { named, reads: Reads::Http(ticker), headers })
    }
}

impl RawFixed {
    fn check(self, place: &Place<'_>) -> Result<Checked, ConfigError> {
        let Self { name, venue, price, i_know_this_is_not_a_market } = self;
        if place.around.network == Network::Mainnet && !i_know_this_is_not_a_market {
            let problem =
                "a fixed price is for testnets; on mainnet say i_know_this_is_not_a_market = true";
            return Err(wrong(place.key, problem));
        }
        if price.is_zero() {
            return Err(wrong(place.at("price"), "must not be 0"));
        }
        let named = Named { name, venue, via: None, guard: false };
        Ok(Checked::of(named, Reads::Fixed { price }))
    }
}
