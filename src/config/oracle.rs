//! The table `[oracle]`: pairs, their sources and policies, checked against the chains and epochs.
//!
//! Values of headers come from the environment and are kept apart from the description of a source,
//! which is stored and hashed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, b256};
use serde::Deserialize;

use super::{ChainConfig, ConfigError, placeholders, url, wrong};
use crate::chain::secrets::key_in;
use crate::domain::conversion::{in_usd, pair};
use crate::domain::ids::Network;
use crate::domain::money::{Rate, RawAmount};
use crate::domain::oracle::policy::PairPolicy;
use crate::domain::oracle::pyth::Signers;
use crate::domain::oracle::samples::SAMPLES_MAX;
use crate::domain::oracle::{
    Oracle, Reads, SourceSpec, chainlink, pyth_source, ticker, uniswap_v3,
};
use crate::domain::pricing::{EpochBook, Phase, Token, Valuation};
use crate::domain::wallet::parse_address;

/// Market prices, checked.
#[derive(Debug, Clone)]
pub struct OracleConfig {
    /// Pairs and how they are priced.
    pub oracle: Arc<Oracle>,
    /// Pause between two samples of a ticker.
    pub sample: Duration,
    /// Longest wait for an answer over HTTP.
    pub timeout: Duration,
    /// Headers by the hash of the source that they are sent to. Secret.
    pub headers: Headers,
    /// Where purchases of the treasury arrive, and are paid from.
    pub treasury: Option<Address>,
}

/// Names and values of headers, by the hash of the source that they are sent to.
pub type BySource = BTreeMap<B256, Vec<(String, String)>>;

/// Headers by source. Not shown by `Debug`.
#[derive(Clone, Default)]
pub struct Headers {
    known: BySource,
    /// The first that the environment lacks.
    missing: Option<ConfigError>,
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "(headers of {} sources)", self.known.len())
    }
}

impl Headers {
    /// All of them, for whoever asks sources.
    ///
    /// # Errors
    /// The first that the environment lacks.
    pub fn all(&self) -> Result<&BySource, ConfigError> {
        self.missing.clone().map_or(Ok(&self.known), Err)
    }

    /// Those that the environment has, for whoever hides them.
    #[must_use]
    pub const fn known(&self) -> &BySource {
        &self.known
    }
}

/// What is sent with a question, as far as the environment has it. Secret.
#[derive(Default)]
pub(super) struct Sent {
    pub(super) known: Vec<(String, String)>,
    /// The first that the environment lacks. Whoever asks nobody does not need it.
    pub(super) missing: Option<ConfigError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTreasury {
    address: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOracle {
    sample_s: u32,
    timeout_ms: u64,
    patience_s: u32,
    price_every_s: u32,
    pairs: BTreeMap<String, RawPair>,
}

impl Default for RawOracle {
    fn default() -> Self {
        Self {
            sample_s: 30,
            timeout_ms: 10_000,
            patience_s: 60,
            price_every_s: 3_600,
            pairs: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPair {
    #[serde(default)]
    stablecoin: bool,
    hold_below: Option<Rate>,
    #[serde(default = "two")]
    quorum: u32,
    outlier_floor_bps: Option<u32>,
    dispersion_max_bps: Option<u32>,
    #[serde(default = "sixty")]
    spread_max_s: u32,
    jump_max_bps: Option<u32>,
    #[serde(default = "ten_minutes")]
    jump_window_s: u32,
    #[serde(default = "thirty_percent")]
    day_max_bps: u32,
    sources: Vec<RawSource>,
}

const fn two() -> u32 {
    2
}
const fn sixty() -> u32 {
    60
}
const fn ten_minutes() -> u32 {
    600
}
const fn half_an_hour() -> u32 {
    1_800
}
const fn hour() -> u32 {
    3_600
}
const fn thirty_percent() -> u32 {
    3_000
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

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum RawSource {
    Chainlink {
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
    },
    UniswapV3 {
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
    },
    Pyth {
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
    },
    Http {
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
    },
    Fixed {
        name: String,
        venue: Option<String>,
        price: Rate,
        #[serde(default)]
        i_know_this_is_not_a_market: bool,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSigners {
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
    fn check(self, key: &str) -> Result<Signers, ConfigError> {
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

impl RawTreasury {
    pub(super) fn check(self) -> Result<Option<Address>, ConfigError> {
        let parsed = self.address.map(|text| parse_address(&text)).transpose();
        parsed.map_err(|e| wrong("treasury.address", e))
    }
}

/// What sources are checked against.
struct Around<'a> {
    network: Network,
    chains: &'a [ChainConfig],
    environment: &'a BTreeMap<String, String>,
    /// Pause between two samples of a ticker.
    sample_s: u32,
}

impl RawOracle {
    pub(super) fn check(
        self,
        network: Network,
        chains: &[ChainConfig],
        epochs: &EpochBook,
        treasury: Option<Address>,
        environment: &BTreeMap<String, String>,
    ) -> Result<OracleConfig, ConfigError> {
        for (key, value, least, most) in [
            ("oracle.sample_s", u64::from(self.sample_s), 1, 3_600),
            ("oracle.timeout_ms", self.timeout_ms, 100, 120_000),
            ("oracle.patience_s", u64::from(self.patience_s), 0, 86_400),
        ] {
            if !(least..=most).contains(&value) {
                return Err(wrong(key, format!("is {value}; allowed: {least} to {most}")));
            }
        }
        if self.price_every_s != 0 && !(60..=86_400).contains(&self.price_every_s) {
            let problem = format!("is {}; allowed: 60 to 86400, or 0", self.price_every_s);
            return Err(wrong("oracle.price_every_s", problem));
        }
        let around = Around { network, chains, environment, sample_s: self.sample_s };
        let mut headers = Headers::default();
        let mut pairs = BTreeMap::new();
        for (name, raw) in self.pairs {
            let key = format!("oracle.pairs.{name:?}");
            pairs.insert(name.clone(), raw.check(&key, name, &around, &mut headers)?);
        }
        let patience_ms = i64::from(self.patience_s).saturating_mul(1_000);
        let every_ms = i64::from(self.price_every_s).saturating_mul(1_000);
        let oracle = Oracle::new(pairs, patience_ms).with_schedule(every_ms);
        check_vias(&oracle)?;
        check_epochs(epochs, &oracle)?;
        Ok(OracleConfig {
            oracle: Arc::new(oracle),
            sample: Duration::from_secs(u64::from(self.sample_s)),
            timeout: Duration::from_millis(self.timeout_ms),
            headers,
            treasury,
        })
    }
}

/// A source may be multiplied by a pair that stands by itself.
fn check_vias(oracle: &Oracle) -> Result<(), ConfigError> {
    for policy in oracle.pairs() {
        for via in policy.needs() {
            let key = format!("oracle.pairs.{:?}.sources", policy.pair);
            let other = oracle.pair(via).ok_or_else(|| {
                wrong(&key, format!("via = {via:?}: there is no such pair under oracle.pairs"))
            })?;
            let unit = |pair: &str| pair.split('/').nth(1).map(str::to_owned);
            if unit(via) != unit(&policy.pair) {
                let problem = format!("via = {via:?}: that pair is in another unit");
                return Err(wrong(&key, problem));
            }
            if via == policy.pair || !other.needs().is_empty() {
                let problem = format!("via = {via:?}: that pair needs another one itself");
                return Err(wrong(&key, problem));
            }
        }
    }
    Ok(())
}

/// Every price that an epoch needs has a pair, and stablecoins are said to be some.
fn check_epochs(epochs: &EpochBook, oracle: &Oracle) -> Result<(), ConfigError> {
    for epoch in epochs.all() {
        for (asset, terms) in &epoch.accept {
            let key = format!("epochs {:?} accept.{asset}", epoch.id);
            if let Valuation::Convert { into, .. } = &terms.valuation {
                let token = epoch.accept.get(into).map(|t| &t.valuation);
                if !matches!(token, Some(Valuation::Fixed { .. } | Valuation::Market { .. })) {
                    let problem = format!(
                        "is {into:?}, which the epoch must accept itself, with valuation fixed or market"
                    );
                    return Err(wrong(format!("{key}.into"), problem));
                }
                let dollars = oracle.pair(&in_usd(asset));
                if dollars.is_some_and(|p| p.hold_below.is_none()) {
                    let problem = format!(
                        "is missing: {asset} is converted by epoch {:?}, so it must be one",
                        epoch.id
                    );
                    return Err(wrong(format!("oracle.pairs.\"{asset}/USD\".stablecoin"), problem));
                }
            }
            for pair in oracle.needed(asset, terms, &epoch.accept) {
                if oracle.pair(&pair).is_none() {
                    let problem = format!("needs the price {pair}: add [oracle.pairs.{pair:?}]");
                    return Err(wrong(key, problem));
                }
            }
            let par = matches!(terms.valuation, Valuation::Par { .. });
            if par && epoch.phase == Phase::PostTge {
                let problem = "is par; after the TGE a stablecoin is converted: valuation = \"convert\", into = \"RTITY\"";
                return Err(wrong(format!("{key}.valuation"), problem));
            }
        }
    }
    Ok(())
}

impl RawPair {
    fn check(
        self,
        key: &str,
        name: String,
        around: &Around<'_>,
        headers: &mut Headers,
    ) -> Result<PairPolicy, ConfigError> {
        let at = |field: &str| format!("{key}.{field}");
        let Some((base, quote)) =
            name.split_once('/').filter(|(b, q)| !b.is_empty() && !q.is_empty())
        else {
            return Err(wrong(key, "a pair is BASE/QUOTE, such as \"USDC/USD\""));
        };
        let hold_below = match (self.stablecoin, self.hold_below) {
            (false, None) => None,
            (true, floor) => Some(
                floor
                    .map_or_else(|| "0.97".parse(), Ok)
                    .map_err(|e| wrong(at("hold_below"), format!("{e}")))?,
            ),
            (false, Some(_)) => {
                let problem = "is for stablecoins: say stablecoin = true";
                return Err(wrong(at("hold_below"), problem));
            }
        };
        if self.stablecoin && quote != "USD" {
            return Err(wrong(at("stablecoin"), "is for pairs in USD"));
        }
        if hold_below.is_some_and(|floor| floor >= Rate::ONE || floor.is_zero()) {
            return Err(wrong(at("hold_below"), "must be between 0 and 1"));
        }
        let stable = |yes: u32, no: u32| if self.stablecoin { yes } else { no };
        let mut sources = Vec::new();
        for (i, source) in self.sources.into_iter().enumerate() {
            let key = format!("{key}.sources[{i}]");
            let source = source.check(&key, base, quote, around, headers)?;
            if sources.iter().any(|s: &SourceSpec| s.name == source.name) {
                return Err(wrong(format!("{key}.name"), "is used by two sources of this pair"));
            }
            if let Some(same) = sources.iter().find(|s: &&SourceSpec| s.reads == source.reads) {
                let problem = format!("reads what {:?} reads: it would count twice", same.name);
                return Err(wrong(key, problem));
            }
            sources.push(source);
        }
        // Guards make no price.
        let makers = sources.iter().filter(|s| !s.guard);
        let venues: std::collections::BTreeSet<_> = makers.map(|s| &s.venue).collect();
        let most = u32::try_from(venues.len()).unwrap_or(u32::MAX);
        if !(1..=most).contains(&self.quorum) {
            let problem =
                format!("is {}; allowed with sources of {most} venue(s): 1 to {most}", self.quorum);
            return Err(wrong(at("quorum"), problem));
        }
        let policy = PairPolicy {
            hold_below,
            quorum: self.quorum,
            outlier_floor_bps: self.outlier_floor_bps.unwrap_or_else(|| stable(25, 50)),
            dispersion_max_bps: self.dispersion_max_bps.unwrap_or_else(|| stable(200, 500)),
            spread_max_s: self.spread_max_s,
            jump_max_bps: self.jump_max_bps.unwrap_or_else(|| stable(1_000, 2_500)),
            jump_window_s: self.jump_window_s,
            day_max_bps: self.day_max_bps,
            sources,
            pair: pair(base, quote),
        };
        Ok(policy)
    }
}

impl RawSource {
    fn check(
        self,
        key: &str,
        base: &str,
        quote: &str,
        around: &Around<'_>,
        headers: &mut Headers,
    ) -> Result<SourceSpec, ConfigError> {
        let at = |field: &str| format!("{key}.{field}");
        let address =
            |field: &str, text: &str| parse_address(text).map_err(|e| wrong(at(field), e));
        let mut secrets = BTreeMap::new();
        let (name, venue, via, guard, reads) = match self {
            Self::Chainlink {
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
            } => {
                let chain_id = around.chain(&chain, &at("chain"))?.rules.id;
                if heartbeat_s == 0 || decimals > 28 {
                    return Err(wrong(key, "heartbeat_s must be at least 1, decimals at most 28"));
                }
                let priced_in = via.as_deref().and_then(|v| v.split('/').next()).unwrap_or(quote);
                let words = [base, priced_in].map(str::to_uppercase);
                let said = description.to_uppercase();
                if !said.split(" / ").eq(words.iter().map(String::as_str)) {
                    let [first, second] = words;
                    let problem = format!(
                        "is {description:?}; a feed of this pair calls itself \"{first} / {second}\""
                    );
                    return Err(wrong(at("description"), problem));
                }
                let sequencer = sequencer
                    .map(|text| {
                        let address = address("sequencer", &text)?;
                        Ok::<_, ConfigError>(chainlink::Sequencer { address, grace_s })
                    })
                    .transpose()?;
                let address = address("address", &feed)?;
                let feed = chainlink::Feed {
                    chain_id,
                    address,
                    decimals,
                    description,
                    heartbeat_s,
                    sequencer,
                };
                (name, venue, via, guard, Reads::Chainlink(feed))
            }
            Self::UniswapV3 {
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
            } => {
                let chain = around.chain(&chain, &at("chain"))?;
                let quoted = via.as_deref().and_then(|v| v.split('/').next()).unwrap_or(quote);
                let (priced, unit) = (base, quoted);
                let base = around.token(chain, base_token.as_deref(), base, &at("base_token"))?;
                let quoted =
                    around.token(chain, quote_token.as_deref(), quoted, &at("quote_token"))?;
                for (field, token, wanted) in
                    [("base_token", base, priced), ("quote_token", quoted, unit)]
                {
                    if token.asset != wanted {
                        let problem = format!(
                            "is {}, taken as {}; the price must be of or in {wanted}: name the pair that it is multiplied by with via",
                            token.symbol, token.asset
                        );
                        return Err(wrong(at(field), problem));
                    }
                }
                if !(30..=86_400).contains(&window_s) {
                    let problem = format!("is {window_s}; allowed: 30 to 86400");
                    return Err(wrong(at("window_s"), problem));
                }
                let history_s = history_s.unwrap_or_else(|| window_s.saturating_mul(2));
                if history_s < window_s || base.address == quoted.address {
                    let problem = "history_s must be at least window_s, and the tokens must differ";
                    return Err(wrong(key, problem));
                }
                let min_liquidity = min_liquidity.parse().map(RawAmount).map_err(|_| {
                    wrong(
                        at("min_liquidity"),
                        "must be a whole number in quotes, such as \"1000000000\"",
                    )
                })?;
                let pool = uniswap_v3::Pool {
                    chain_id: chain.rules.id,
                    address: address("pool", &pool)?,
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
                (name, venue, via, guard, Reads::UniswapV3(pool))
            }
            Self::Pyth {
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
            } => {
                around.web_url(&text, &at("url"))?;
                let feed_id: B256 = feed_id
                    .parse()
                    .map_err(|_| wrong(at("feed_id"), "must be 32 bytes in hexadecimal"))?;
                secrets = headers;
                let url = text.trim_end_matches('/').to_owned();
                let signers = signers.map(|s| s.check(&at("signers"))).transpose()?;
                let feed =
                    pyth_source::Feed { url, feed_id, confidence_max_bps, after_max_s, signers };
                (name, venue, via, guard, Reads::Pyth(feed))
            }
            Self::Http {
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
            } => {
                // `{base}` and `{quote}` stand for the assets of the pair.
                placeholders(&text, &["base", "quote"], &at("url"))?;
                let text = text.replace("{base}", base).replace("{quote}", quote);
                around.web_url(&text, &at("url"))?;
                for (field, pointer) in [("price", Some(&price)), ("time", time.as_ref())] {
                    if pointer.is_some_and(|p| !p.starts_with('/')) {
                        let problem = "must be a JSON pointer (RFC 6901), such as \"/data/price\"";
                        return Err(wrong(at(field), problem));
                    }
                }
                if max_age_s == 0 {
                    return Err(wrong(at("max_age_s"), "must be at least 1"));
                }
                // A payment is priced by one of the first samples after it, and so many are looked at.
                let most = i64::from(around.sample_s).saturating_mul(SAMPLES_MAX);
                if i64::from(max_age_s) > most {
                    let sample_s = around.sample_s;
                    let problem =
                        format!("is too long: with oracle.sample_s = {sample_s}, at most {most}");
                    return Err(wrong(at("max_age_s"), problem));
                }
                let names = headers.keys().cloned().collect();
                secrets = headers;
                let ticker = ticker::Ticker {
                    url: text,
                    headers: names,
                    price,
                    time,
                    time_as,
                    invert,
                    max_age_s,
                };
                (name, venue, via, guard, Reads::Http(ticker))
            }
            Self::Fixed { name, venue, price, i_know_this_is_not_a_market } => {
                if around.network == Network::Mainnet && !i_know_this_is_not_a_market {
                    let problem = "a fixed price is for testnets; on mainnet say i_know_this_is_not_a_market = true";
                    return Err(wrong(key, problem));
                }
                if price.is_zero() {
                    return Err(wrong(at("price"), "must not be 0"));
                }
                (name, venue, None, false, Reads::Fixed { price })
            }
        };
        if name.is_empty() || name.len() > 63 {
            return Err(wrong(at("name"), "must have 1 to 63 characters"));
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

fn host(text: &str) -> String {
    let parsed = url::Url::parse(text).ok();
    parsed.as_ref().and_then(|u| u.host_str()).unwrap_or(text).to_owned()
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

/// A URL that is stored, with these placeholders: without a secret, and on mainnet not open to whoever is in
/// between.
pub(super) fn web_url(
    network: Network,
    text: &str,
    names: &[&str],
    key: &str,
) -> Result<(), ConfigError> {
    let parsed = url(text, &["http", "https"], names, key)?;
    if let Some(what) = key_in(&parsed) {
        let problem = format!(
            "must have no user, password or key: it is stored and shown, and {what} looks like one; put the key into headers, as \"env:NAME\""
        );
        return Err(wrong(key, problem));
    }
    let loopback = ["127.0.0.1", "localhost", "[::1]"].contains(&host(text).as_str());
    if network == Network::Mainnet && parsed.scheme() == "http" && !loopback {
        return Err(wrong(key, "must be https on mainnet: nobody signs what it answers"));
    }
    Ok(())
}

/// The headers of a table, each `env:NAME`, from the environment. A secret never stands in the file.
pub(super) fn sent(
    environment: &BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    key: &str,
) -> Result<Sent, ConfigError> {
    let mut sent = Sent::default();
    for (header, value) in headers {
        let key = format!("{key}.headers.{header}");
        let Some(name) = value.strip_prefix("env:") else {
            let problem = "must be \"env:NAME\": the value comes from the environment";
            return Err(wrong(key, problem));
        };
        match environment.get(name) {
            Some(value) => sent.known.push((header, value.clone())),
            None => {
                let problem = format!("the environment variable {name} is not set");
                sent.missing.get_or_insert(wrong(key, problem));
            }
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests;
