//! What is to be said of a configuration that is taken, and perhaps not meant.

use std::net::IpAddr;

use url::{Host, Url};

use super::{ChainConfig, Config};
use crate::domain::finality::{Finality, Tier, Verify};
use crate::domain::ids::Network;
use crate::domain::money::Rate;
use crate::domain::terms::Dust;
use crate::presets;
use crate::presets::Preset;

/// Chain ids without a preset whose tokens are worth money, as chainlist.org lists them.
const MORE_MAINNETS: &[u64] = &[
    100, 130, 146, 324, 480, // Gnosis, Unichain, Sonic, ZKsync, World Chain
    5_000, 42_220, 59_144, 81_457, 534_352, // Mantle, Celo, Linea, Blast, Scroll
];
/// Confirmations that are few on a chain of which nothing is known.
const FEW: u64 = 12;
/// Where a preset waits for a tag, so long a count of blocks must last to be as good: where it waits for
/// the tag at any value, the chain finalizes within seconds; elsewhere that takes a quarter of an hour.
const QUICK_MS: u64 = 60_000;
const SLOW_MS: u64 = 900_000;
/// No clock of a chain is so far ahead.
const AHEAD_MS: i64 = 24 * 3_600 * 1_000;

/// A key, and what somebody should know who configured it so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key, dotted.
    pub key: String,
    /// What is to be said.
    pub text: String,
}

impl Config {
    /// What somebody should know who configured this.
    pub fn warnings(&self) -> Vec<Warning> {
        let mut all = Vec::new();
        for chain in &self.chains {
            let at = |field: &str| format!("chains.{}.{field}", chain.rules.name);
            let mut warn = |field: &str, text| all.push(Warning { key: at(field), text });
            let preset = presets::all().iter().find(|p| p.chain_id == chain.rules.id.0);
            if self.network == Network::Testnet && is_mainnet(chain, preset) {
                let id = chain.rules.id.0;
                warn(
                    "chain_id",
                    format!(
                        "{id} is a mainnet, whose tokens are worth money, and network is \"testnet\": real payments would become test credits"
                    ),
                );
            }
            let tiers = chain.rules.policy.tiers();
            for text in falling(tiers) {
                warn("finality", text);
            }
            if self.network == Network::Mainnet {
                for text in tiers.iter().filter_map(|tier| few(tier, preset)) {
                    warn("finality", text);
                }
                for (name, url) in urls(chain).filter(|(_, url)| is_open(url)) {
                    let scheme = url.scheme();
                    warn(
                        &format!("providers.{name}"),
                        format!(
                            "{scheme}:// on mainnet: whoever is on the way can change what it answers, and reads its key; use {scheme}s://"
                        ),
                    );
                }
            }
            for text in one_company(chain) {
                warn("providers", text);
            }
        }
        all.extend(self.open());
        for epoch in self.epochs.all() {
            for (asset, terms) in &epoch.accept {
                let has_minimum = terms.minimum.is_some_and(|minimum| !minimum.is_zero());
                if terms.dust == Dust::Accumulate && !has_minimum {
                    let key = format!("epochs.{}.accept.{asset}.dust", epoch.id);
                    let text = "\"accumulate\" does nothing without a minimum: every payment is credited by itself";
                    all.push(Warning { key, text: text.to_owned() });
                }
            }
        }
        all
    }

    /// Guards that are switched off.
    fn open(&self) -> Vec<Warning> {
        let mut all = Vec::new();
        let mut warn = |key: String, text: String| all.push(Warning { key, text });
        for chain in self.chains.iter().filter(|_| self.network == Network::Mainnet) {
            let (rules, at) =
                (&chain.rules, |field| format!("chains.{}.{field}", chain.rules.name));
            if rules.verify == Verify::SameProvider || rules.fallback == Some(Verify::SameProvider)
            {
                let text = "\"same-provider\": one provider alone can show a payment that is none, and nobody contradicts it";
                warn(at("verify"), text.to_owned());
            }
            if rules.time_ahead_max_ms > AHEAD_MS {
                let seconds = rules.time_ahead_max_ms.checked_div(1_000).unwrap_or_default();
                warn(
                    at("time_ahead_max_s"),
                    format!(
                        "is {seconds}: a block may be of a day that has not come, and its payments are priced by the rules of then; 900 is usual"
                    ),
                );
            }
        }
        let has_pairs = self.oracle.oracle.pairs().next().is_some();
        if has_pairs && self.oracle.oracle.every_ms() == 0 {
            let text = "0: prices are taken for payments only, and after a day without any the next price is compared with nothing";
            warn("oracle.price_every_s".to_owned(), text.to_owned());
        }
        let question = self.screening.iter().filter_map(|s| s.rules.question.as_ref());
        for hit in question.filter(|q| q.clear.is_none()).filter_map(|q| q.hit.as_ref()) {
            let text = format!(
                "is not given: every answer but {hit:?} lets a payment pass, also one that says that nothing is known"
            );
            warn("screening.http.clear".to_owned(), text);
        }
        all
    }
}

fn is_mainnet(chain: &ChainConfig, preset: Option<&Preset>) -> bool {
    MORE_MAINNETS.contains(&chain.rules.id.0)
        || preset.is_some_and(|p| p.network == Network::Mainnet)
}

fn value(up_to_usd: Option<Rate>) -> String {
    up_to_usd.map_or_else(|| "any value".to_owned(), |usd| format!("up to {usd} USD"))
}

/// More value that waits for less.
fn falling(tiers: &[Tier]) -> Vec<String> {
    let pairs = tiers.iter().zip(tiers.iter().skip(1));
    let falls = |(less, more): &(&Tier, &Tier)| match (less.finality, more.finality) {
        (Finality::Confirmations(a), Finality::Confirmations(b)) => b < a,
        (Finality::Finalized, Finality::Safe) => true,
        (Finality::Safe | Finality::Finalized, Finality::Confirmations(_)) => true,
        _ => false,
    };
    pairs
        .filter(falls)
        .map(|(less, more)| {
            format!(
                "more value waits for less: {} for {}, and {} for {}",
                value(less.up_to_usd),
                less.finality,
                value(more.up_to_usd),
                more.finality
            )
        })
        .collect()
}

/// A tier that waits for less than is usual on its chain for that value.
fn few(tier: &Tier, preset: Option<&Preset>) -> Option<String> {
    let Some(preset) = preset else {
        return match tier.finality {
            Finality::Confirmations(n) if n < FEW => Some(format!(
                "{n} confirmations for {} are few, and no preset knows what is usual on this chain",
                value(tier.up_to_usd)
            )),
            _ => None,
        };
    };
    let covers = |usd: u64| {
        let usd = usd.to_string().parse::<Rate>();
        tier.up_to_usd.zip(usd.ok()).is_some_and(|(wanted, usd)| wanted <= usd)
    };
    let usual = preset.finality.iter().find(|usual| usual.up_to_usd.is_none_or(covers))?.finality;
    let enough_ms = if preset.finality.len() == 1 { QUICK_MS } else { SLOW_MS };
    let is_few = match (tier.finality, usual) {
        (Finality::Confirmations(n), Finality::Confirmations(usual)) => n < usual,
        (Finality::Confirmations(n), _) => n.saturating_mul(preset.block_ms) < enough_ms,
        (Finality::Safe, Finality::Finalized) => true,
        _ => false,
    };
    is_few.then(|| {
        format!(
            "{} for {} is less than is usual on {}: {usual}",
            tier.finality,
            value(tier.up_to_usd),
            preset.title
        )
    })
}

/// Every URL of a chain, with its provider's name.
fn urls(chain: &ChainConfig) -> impl Iterator<Item = (&str, &Url)> {
    chain.providers.iter().flat_map(|(provider, _)| {
        let urls = [Some(&provider.http), provider.ws.as_ref()];
        urls.into_iter().flatten().map(|url| (provider.name.as_str(), url))
    })
}

/// Readable on its way. A node at home needs no encryption.
fn is_open(url: &Url) -> bool {
    let is_near = match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || !name.contains('.'),
        Some(Host::Ipv4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        Some(Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unique_local(),
        None => false,
    };
    ["http", "ws"].contains(&url.scheme()) && !is_near
}

/// Providers that are probably one: what one of them says, the other confirms for nothing.
fn one_company(chain: &ChainConfig) -> Vec<String> {
    let mut found = Vec::new();
    let mut before: Vec<(&str, String)> = Vec::new();
    for (provider, _) in &chain.providers {
        let site = site(&provider.http);
        if let Some((first, _)) = before.iter().find(|(_, known)| *known == site) {
            found.push(format!(
                "{first} and {} are both at {site}, and count as two: if one company runs them, what it says wrongly is confirmed by itself",
                provider.name
            ));
        }
        before.push((&provider.name, site));
    }
    found
}

/// Who runs a host, as far as its name says: its last two parts, or three of `example.co.uk`.
fn site(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()) || host == "localhost" {
        return "this machine".to_owned();
    }
    if host.parse::<IpAddr>().is_ok() {
        return host.to_owned();
    }
    let parts: Vec<&str> = host.rsplit('.').collect();
    let is_country = parts.first().is_some_and(|last| last.len() == 2);
    let is_short = parts.get(1).is_some_and(|second| second.len() <= 3);
    let kept = if is_country && is_short { 3 } else { 2 };
    let mut parts: Vec<&str> = parts.into_iter().take(kept).collect();
    parts.reverse();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// What is warned of in a configuration: a network, the chain's table, and terms of USDC.
    fn of(network: &str, chain: &str, terms: &str) -> Vec<String> {
        let phase = if network == "mainnet" { "pre_tge" } else { "testnet" };
        let providers = if chain.contains("providers") {
            ""
        } else {
            "providers = [{ name = \"a\", http = \"https://a.com\" }, { name = \"b\", http = \"https://b.com\" }]"
        };
        let text = format!(
            r#"
network = "{network}"
database = {{ url = "sqlite:t.db" }}
{chain}
{providers}
[[epochs]]
id = "one"
starts_at = "2026-01-01T00:00:00Z"
phase = "{phase}"
accept = {{ USDC = {{ valuation = "par", credits_per_usd = "1"{terms} }} }}
"#
        );
        let config = Config::parse(&text, "test", []).unwrap();
        config.warnings().into_iter().map(|w| format!("{}: {}", w.key, w.text)).collect()
    }

    #[test]
    fn no_preset_is_warned_of() {
        for preset in presets::all() {
            let chain = format!("[chains.{}]", preset.name);
            assert_eq!(of(preset.network.as_str(), &chain, ""), Vec::<String>::new());
        }
    }

    #[test]
    fn finality_that_falls_or_is_less_than_usual_is_warned_of() {
        let tiers = |chain: &str, tiers: &str| {
            of("mainnet", &format!("[chains.{chain}]\nfinality = [{tiers}]"), "")
        };
        let table = [
            (
                "ethereum",
                r#"{ up_to_usd = "100", confirmations = 50 }, { up_to_usd = "1000", confirmations = 40 }, { tag = "finalized" }"#,
                "up to 100 USD for 50 confirmations, and up to 1000 USD for 40",
            ),
            (
                "ethereum",
                r#"{ up_to_usd = "100", tag = "finalized" }, { confirmations = 100 }"#,
                "for finalized, and any value for 100 confirmations",
            ),
            ("ethereum", "{ confirmations = 12 }", "12 confirmations for any value is less"),
            ("ethereum", r#"{ tag = "safe" }"#, "safe for any value is less"),
            (
                "ethereum",
                r#"{ up_to_usd = "50", confirmations = 3 }, { tag = "finalized" }"#,
                "3 confirmations for up to 50 USD is less than is usual on Ethereum: 12",
            ),
            ("bsc", "{ confirmations = 3 }", "less than is usual on BNB Smart Chain: finalized"),
            ("base", "{ confirmations = 15 }", "less than is usual on Base: finalized"),
        ];
        for (chain, given, part) in table {
            let all = tiers(chain, given);
            assert!(all.iter().any(|w| w.contains(part)), "{given}: {part} in {all:?}");
            assert!(all.iter().all(|w| w.starts_with(&format!("chains.{chain}.finality: "))));
        }
        for (chain, given) in [
            ("ethereum", "{ confirmations = 96 }"),
            ("ethereum", r#"{ up_to_usd = "100", confirmations = 12 }, { tag = "finalized" }"#),
            ("bsc", "{ confirmations = 200 }"),
            ("base", r#"{ up_to_usd = "1000", tag = "safe" }, { tag = "finalized" }"#),
        ] {
            assert_eq!(tiers(chain, given), Vec::<String>::new(), "{given}");
        }
        // On a chain that no preset knows; and on a test network nobody loses money.
        let other = "[chains.x]\nchain_id = 7777\nfinality = [{ confirmations = 2 }]\ntokens = [{ symbol = \"USDC\", address = \"0x7e860098F58bBFC8648a4311b374B1D669a2bc6B\", decimals = 6 }]";
        assert!(of("mainnet", other, "")[0].contains("2 confirmations for any value are few"));
        assert!(of("testnet", other, "").is_empty());
    }

    #[test]
    fn providers_that_are_one_and_open_ones_are_warned_of() {
        let of_urls = |network: &str, first: &str, second: &str| {
            let chain = if network == "mainnet" { "base" } else { "base-sepolia" };
            let chain = format!(
                "[chains.{chain}]\nproviders = [{{ name = \"a\", http = \"{first}\" }}, {{ name = \"b\", http = \"{second}\" }}]"
            );
            of(network, &chain, "")
        };
        for (first, second) in [
            ("https://x.com/v3/one", "https://x.com/v3/two"),
            ("https://base.infura.io/v3/1", "https://base-mainnet.infura.io/v3/1"),
            ("https://a.x.co.uk", "https://b.x.co.uk"),
            ("http://127.0.0.1:8545", "http://localhost:8546"),
            ("https://198.51.100.1:1", "https://198.51.100.1:2"),
        ] {
            let all = of_urls("mainnet", first, second);
            assert!(all.len() == 1 && all[0].contains("a and b are both at"), "{first}: {all:?}");
            assert!(!all[0].contains("v3"), "{all:?}");
        }
        assert!(of_urls("mainnet", "https://a.co.uk", "https://b.co.uk").is_empty());
        assert!(of_urls("mainnet", "https://198.51.100.1", "https://198.51.100.2").is_empty());
        let open = of_urls("mainnet", "http://a.com", "https://b.com");
        assert!(open.len() == 1 && open[0].starts_with("chains.base.providers.a: http://"));
        for near in ["http://10.0.0.7:8545", "http://geth:8545", "http://[::1]:8545"] {
            assert!(of_urls("mainnet", near, "https://b.com").is_empty(), "{near}");
        }
        assert!(of_urls("testnet", "http://a.com", "https://b.com").is_empty());
    }

    #[test]
    fn a_mainnet_among_test_networks_and_dust_without_a_minimum_are_warned_of() {
        let all = of("testnet", "[chains.base]", "");
        assert!(all.len() == 1 && all[0].starts_with("chains.base.chain_id: 8453 is a mainnet"));
        let dust = |terms| of("mainnet", "[chains.base]", terms);
        for terms in [", dust = \"accumulate\"", ", dust = \"accumulate\", minimum = \"0\""] {
            let all = dust(terms);
            assert!(
                all.len() == 1 && all[0].starts_with("epochs.one.accept.USDC.dust: "),
                "{all:?}"
            );
        }
        assert!(dust(", dust = \"accumulate\", minimum = \"1\"").is_empty());
    }
}
