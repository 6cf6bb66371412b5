//! Configurations of prices: examples that are documented, and what is refused with which words.

use super::super::Config;

const ADDRESS: &str = "0x7e860098F58bBFC8648a4311b374B1D669a2bc6B";

fn config(network: &str, phase: &str, accept: &str, oracle: &str) -> String {
    format!(
        r#"
network = "{network}"
database = {{ url = "sqlite:t.db" }}
[chains.{chain}]
providers = [{{ name = "a", http = "https://a" }}, {{ name = "b", http = "https://b" }}]
tokens = ["USDC", "USDT", {{ symbol = "RTITY", address = "{ADDRESS}", decimals = 18 }}]
[[epochs]]
id = "one"
starts_at = "2026-01-01T00:00:00Z"
phase = "{phase}"
[epochs.accept]
{accept}
{oracle}
"#,
        chain = if network == "mainnet" { "base" } else { "base-sepolia" },
    )
}

const ACCEPT: &str = r#"
USDC = { valuation = "convert", into = "RTITY" }
USDT = { valuation = "market", credits_per_usd = "1000" }
RTITY = { valuation = "fixed", credits_per_token = "50" }
"#;

const ORACLE: &str = r#"
[oracle.pairs."USDC/USD"]
stablecoin = true
sources = [
  { kind = "chainlink", name = "chainlink", chain = "base", address = "0x7e860098F58bBFC8648a4311b374B1D669a2bc6B", description = "USDC / USD", heartbeat_s = 86400, sequencer = "0xBCF85224fc0756B9Fa45aA7892530B47e10b6433" },
  { kind = "http", name = "kraken", url = "https://api.kraken.com/0/public/Ticker?pair=USDCUSD", price = "/result/USDCUSD/c/0" },
]
[oracle.pairs."USDT/USD"]
stablecoin = true
sources = [
  { kind = "http", name = "coingecko", url = "https://api.coingecko.com/api/v3/simple/price?ids=tether&vs_currencies=usd&include_last_updated_at=true&precision=full", price = "/tether/usd", time = "/tether/last_updated_at", time_as = "seconds", max_age_s = 180, headers = { x-cg-demo-api-key = "env:COINGECKO_KEY" } },
  { kind = "http", name = "coinbase", url = "https://api.exchange.coinbase.com/products/{base}-{quote}/ticker", price = "/price", time = "/time" },
]
[oracle.pairs."RTITY/USD"]
sources = [
  { kind = "uniswap_v3", name = "pool", chain = "base", pool = "0xf19d560eB8d2ADf07BD6D13ed03e1D11215721F9", via = "USDC/USD", min_liquidity = "1000000000000" },
  { kind = "pyth", name = "pyth", url = "https://pyth.dourolabs.app/hermes", feed_id = "0xeaa020c61cc479712813461ce153894a96a6c00b21ed0cfc2798d1f9a9e9c94a", headers = { authorization = "env:PYTH_KEY" } },
]
"#;

fn environment() -> [(String, String); 2] {
    ["COINGECKO_KEY", "PYTH_KEY"].map(|name| (name.to_owned(), "hunter2".to_owned()))
}

#[test]
fn what_is_documented_is_a_configuration_and_shows_no_secret() {
    let text = config("mainnet", "post_tge", ACCEPT, ORACLE);
    let config = Config::parse(&text, "test", environment()).unwrap();
    let pair = config.oracle.oracle.pair("USDT/USD").unwrap();
    assert!(pair.body().contains("products/USDT-USD/ticker"), "{}", pair.body());
    assert_eq!(config.oracle.headers.all().unwrap().len(), 2);
    for policy in config.oracle.oracle.pairs() {
        assert!(!policy.body().contains("hunter2"));
        // What is stored can be read again, and is the same.
        let again: crate::domain::oracle::policy::pair::PairPolicy =
            serde_json::from_str(&policy.body()).unwrap();
        assert_eq!(again, *policy);
    }
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_key_that_is_not_there_is_missing_for_whoever_asks_sources() {
    let screening = r#"[screening]
list = "no-such-file"
http = { url = "https://a.com/{address}", verdict = "/risk", hit = "high", headers = { x-key = "env:SCREENING_KEY", x-more = "env:MORE" } }
"#;
    let text = config("mainnet", "post_tge", ACCEPT, &format!("{ORACLE}{screening}"));
    let given = |names: &[&str]| {
        let given = names.iter().map(|name| ((*name).to_owned(), format!("{name} is secret")));
        Config::parse(&text, "test", given).unwrap()
    };
    let all = ["PYTH_KEY", "COINGECKO_KEY", "MORE", "SCREENING_KEY"];
    for (many, lacks) in [
        (0, "sources[1].headers.authorization: the environment variable PYTH_KEY is not set"),
        (
            1,
            "sources[0].headers.x-cg-demo-api-key: the environment variable COINGECKO_KEY is not set",
        ),
        (3, "screening.http.headers.x-key: the environment variable SCREENING_KEY is not set"),
    ] {
        let names = &all[..many];
        let config = given(names);
        let error = config.ready().unwrap_err().to_string();
        assert!(error.contains(lacks), "{error}");
        assert_eq!(config.oracle.headers.all().is_ok(), many >= 2);
        // What is there is hidden all the same.
        for name in names {
            let secret = format!("{name} is secret");
            assert_eq!(config.secrets().removed(&format!("({secret})")), "([hidden])");
            assert!(!format!("{config:?}").contains(&secret));
        }
    }
    given(&all).ready().unwrap();
}

#[test]
fn what_is_wrong_is_named_with_its_key() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "[oracle.pairs.\"USDT/USD\"]",
            "[oracle.pairs.\"USDX/USD\"]",
            &["accept.USDT", "USDT/USD"],
        ),
        (
            "[oracle.pairs.\"USDT/USD\"]",
            "[oracle]\nprice_every_s = 5\n[oracle.pairs.\"USDT/USD\"]",
            &["oracle.price_every_s", "is 5", "60 to 86400, or 0"],
        ),
        (
            "max_age_s = 180",
            "max_age_s = 1921",
            &["sources[0].max_age_s", "sample_s = 30", "at most 1920"],
        ),
        ("[oracle.pairs.\"USDT/USD\"]", "[oracle.pairs.\"USDT\"]", &["USDT", "BASE/QUOTE"]),
        ("into = \"RTITY\"", "into = \"USDT2\"", &["accept.USDC.into", "accept itself"]),
        (
            "into = \"RTITY\"",
            "into = \"RTITY\", into_decimals = 6",
            &["into_decimals", "18 decimals"],
        ),
        ("stablecoin = true", "stablecoin = false", &["stablecoin", "USDC"]),
        (
            "stablecoin = true",
            "stablecoin = true\nhold_below = \"1.5\"",
            &["hold_below", "between 0 and 1"],
        ),
        ("stablecoin = true", "stablecoin = true\nquorum = 3", &["quorum", "1 to 2"]),
        ("stablecoin = true", "stablecoin = true\nquorum = 0", &["quorum", "1 to 2"]),
        ("name = \"kraken\"", "name = \"chainlink\"", &["sources[1].name", "two sources"]),
        (
            "name = \"coinbase\"",
            "name = \"coinbase\", via = \"DAI/USD\"",
            &["sources", "DAI/USD", "no such pair"],
        ),
        ("name = \"kraken\"", "name = \"kraken\", venue = \"chainlink\"", &["quorum", "1 venue"]),
        ("chain = \"base\", address", "chain = \"bose\", address", &["sources[0].chain", "bose"]),
        (
            "0x7e860098F58bBFC8648a4311b374B1D669a2bc6B\", description",
            "0x12\", description",
            &["sources[0].address"],
        ),
        (
            "price = \"/result/USDCUSD/c/0\"",
            "price = \"result\"",
            &["sources[1].price", "JSON pointer"],
        ),
        (
            "https://api.kraken.com/0",
            "https://me:secret@api.kraken.com/0",
            &["sources[1].url", "headers"],
        ),
        (
            "products/{base}-{quote}/",
            "products/{bse}-{quote}/",
            &["url: {bse} is not a placeholder; there are {base}, {quote}"],
        ),
        ("products/{base}-{quote}/", "products/{base-{quote}/", &["url: what stands in braces"]),
        ("products/{base}-{quote}/", "products/base}-{quote}/", &["url: what stands in braces"]),
        ("dourolabs.app/hermes", "dourolabs.app/{base}", &["sources[1].url: has a brace"]),
        ("\"env:PYTH_KEY\"", "\"Bearer hunter2\"", &["headers.authorization", "env:NAME"]),
        (
            "headers = { authorization",
            "signers = { addresses = [\"0x12\"] }, headers = { authorization",
            &["sources[1].signers.addresses[0]"],
        ),
        (
            "headers = { authorization",
            "signers = { addresses = [\"0x7e860098F58bBFC8648a4311b374B1D669a2bc6B\"], least = 2 }, headers = { authorization",
            &["sources[1].signers.least", "is 2", "1 to 1"],
        ),
        (
            "headers = { authorization",
            "signers = { addresses = [] }, headers = { authorization",
            &["sources[1].signers.least", "0 address"],
        ),
        ("via = \"USDC/USD\"", "via = \"DAI/USD\"", &["quote_token", "DAI is not among"]),
        ("via = \"USDC/USD\", ", "", &["quote_token", "USD is not among"]),
        (
            "min_liquidity = \"1000000000000\"",
            "min_liquidity = \"1.5\"",
            &["min_liquidity", "whole number"],
        ),
        ("min_liquidity =", "window_s = 1, min_liquidity =", &["window_s", "30 to 86400"]),
        ("kind = \"pyth\"", "kind = \"oracle\"", &["oracle.pairs", "unknown variant"]),
        ("heartbeat_s = 86400", "heartbeat = 86400", &["oracle.pairs", "heartbeat"]),
        (
            "{ kind = \"pyth\"",
            "{ kind = \"fixed\", name = \"f\", price = \"1\" }, { kind = \"pyth\"",
            &["sources[1]", "i_know_this_is_not_a_market"],
        ),
        (
            "USDC = { valuation = \"convert\", into = \"RTITY\" }",
            "USDC = { valuation = \"par\", credits_per_usd = \"1\" }",
            &["accept.USDC.valuation", "convert"],
        ),
        (
            "valuation = \"market\", credits_per_usd",
            "valuation = \"market\", credits_per_token",
            &["accept.USDT", "needs credits_per_usd"],
        ),
        (
            "phase = \"post_tge\"",
            "phase = \"pre_tge\"",
            &["accept.RTITY.valuation", "before the TGE"],
        ),
        (
            "description = \"USDC / USD\"",
            "description = \"ETH / USD\"",
            &["sources[0].description", "USDC / USD"],
        ),
        ("via = \"USDC/USD\", ", "quote_token = \"USDC\", ", &["quote_token", "in USD", "via"]),
        (
            "name = \"kraken\", url = \"https://api.kraken",
            "name = \"kraken\", url = \"http://api.kraken",
            &["sources[1].url", "https"],
        ),
        (
            "https://pyth.dourolabs.app/hermes",
            "https://me:secret@pyth.dourolabs.app/hermes",
            &["sources[1].url", "headers"],
        ),
        ("Ticker?pair=USDCUSD", "Ticker?api_key=12&pair=USDCUSD", &["sources[1].url", "headers"]),
        (
            "{ kind = \"http\", name = \"kraken\"",
            "{ kind = \"http\", name = \"other\", url = \"https://api.kraken.com/0/public/Ticker?pair=USDCUSD\", price = \"/result/USDCUSD/c/0\" }, { kind = \"http\", name = \"kraken\"",
            &["sources[2]", "reads what \"other\" reads"],
        ),
    ];
    let good = config("mainnet", "post_tge", ACCEPT, ORACLE);
    for (from, to, expected) in cases {
        assert!(good.contains(from), "{from}");
        let text = good.replacen(from, to, 1);
        let error = Config::parse(&text, "test", environment()).unwrap_err().to_string();
        for part in *expected {
            assert!(error.contains(part), "{to}: {part:?} is not in {error}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn a_placeholder_that_is_not_known_is_refused() {
    let good = config("mainnet", "post_tge", ACCEPT, ORACLE);
    let parsed = |url: &str| {
        let http =
            format!("[screening.http]\nurl = \"{url}\"\nverdict = \"/risk\"\nhit = \"high\"\n");
        Config::parse(&(good.clone() + &http), "test", environment()).map_err(|e| e.to_string())
    };
    assert!(parsed("https://a.com/{address}/{chain}?tx={tx}&again={address}").is_ok());
    for (url, part) in [
        ("{adress}", "{adress} is not a placeholder; there are {address}, {chain}, {tx}"),
        ("{address}/{Chain}", "{Chain} is not a placeholder"),
        ("{address}/{base}", "{base} is not a placeholder"),
        ("{{address}}", "{} is not a placeholder"),
        ("{address}/{hunter2}", "what stands in braces is not a placeholder"),
        ("{address}?tx={tx", "what stands in braces is not a placeholder"),
        ("a", "must contain {address}"),
    ] {
        let error = parsed(&format!("https://a.com/{url}")).unwrap_err();
        assert!(error.contains("screening.http.url: ") && error.contains(part), "{url}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    // Nothing is put into a provider's URL.
    let text = good.replacen("http = \"https://a\"", "http = \"https://a/${KEY}\"", 1);
    let error = Config::parse(&text, "test", environment()).unwrap_err().to_string();
    assert!(error.contains("has a brace") && !error.contains("KEY"), "{error}");
}

#[test]
fn a_guard_that_is_switched_off_is_warned_of() {
    let good = config("mainnet", "post_tge", ACCEPT, ORACLE);
    let said = |text: &str| -> Vec<String> {
        let config = Config::parse(text, "test", environment()).unwrap();
        let of_config = config.warnings().into_iter().map(|w| format!("{}: {}", w.key, w.text));
        config.oracle.oracle.pairs().flat_map(|pair| pair.warnings()).chain(of_config).collect()
    };
    let before = said(&good);
    let (pair, feed, pool) =
        ("stablecoin = true", "heartbeat_s = 86400", "min_liquidity = \"1000000000000\"");
    let (chain, screened) = ("[chains.base]", "[oracle.pairs.\"USDC/USD\"]");
    let rtity = "[oracle.pairs.\"RTITY/USD\"]";
    for (from, to, part) in [
        (
            pool,
            "min_liquidity = \"0\"",
            "RTITY/USD: pool: min_liquidity = \"0\": a pool that is as good as empty",
        ),
        (pool, "min_liquidity = \"1\"", "min_liquidity = \"1\""),
        (pool, "min_liquidity = \"1000000000000\", spot_max_bps = 10000", "spot_max_bps = 10000"),
        (
            rtity,
            "[oracle.pairs.\"RTITY/USD\"]\nquorum = 1",
            "RTITY/USD: quorum = 1: any of its sources alone",
        ),
        (pair, "stablecoin = true\nquorum = 1", "a quorum of 1, which may be a ticker"),
        (pair, "stablecoin = true\noutlier_floor_bps = 10000", "outlier_floor_bps = 10000"),
        (
            pair,
            "stablecoin = true\ndispersion_max_bps = 4294967295",
            "dispersion_max_bps = 4294967295",
        ),
        (pair, "stablecoin = true\nspread_max_s = 86400", "spread_max_s = 86400"),
        (pair, "stablecoin = true\njump_max_bps = 10000", "jump_max_bps = 10000"),
        (pair, "stablecoin = true\njump_window_s = 0", "jump_window_s = 0"),
        (pair, "stablecoin = true\nday_max_bps = 10000", "day_max_bps = 10000"),
        (pair, "stablecoin = true\nhold_below = \"0.01\"", "hold_below is less than 0.5"),
        (feed, "heartbeat_s = 700000", "chainlink: heartbeat_s = 700000"),
        (feed, "heartbeat_s = 86400, grace_s = 0", "chainlink: grace_s = 0"),
        (
            "headers = { authorization",
            "confidence_max_bps = 20000, headers = { authorization",
            "pyth: confidence_max_bps = 20000",
        ),
        (
            "headers = { authorization",
            "after_max_s = 7200, headers = { authorization",
            "pyth: after_max_s = 7200",
        ),
        (
            "headers = { authorization",
            "signers = { addresses = [\"0x7e860098F58bBFC8648a4311b374B1D669a2bc6B\", \"0xBCF85224fc0756B9Fa45aA7892530B47e10b6433\"], least = 1 }, headers = { authorization",
            "signers.least = 1: any one of 2",
        ),
        ("max_age_s = 180", "max_age_s = 3601", "coingecko: max_age_s = 3601"),
        (
            screened,
            "[oracle]\nprice_every_s = 0\n[oracle.pairs.\"USDC/USD\"]",
            "oracle.price_every_s: 0: ",
        ),
        (
            chain,
            "[chains.base]\nverify = \"same-provider\"",
            "chains.base.verify: \"same-provider\"",
        ),
        (
            chain,
            "[chains.base]\ntime_ahead_max_s = 100000",
            "chains.base.time_ahead_max_s: is 100000",
        ),
        (
            screened,
            "[screening.http]\nurl = \"https://a.com/{address}\"\nverdict = \"/risk\"\nhit = \"high\"\n[oracle.pairs.\"USDC/USD\"]",
            "screening.http.clear: is not given: every answer but \"high\"",
        ),
    ] {
        assert!(good.contains(from), "{from}");
        let mut text = good.replacen(from, to, 1);
        if to.starts_with("max_age_s") {
            text = text.replacen(screened, &format!("[oracle]\nsample_s = 60\n{screened}"), 1);
        }
        let all = said(&text);
        assert!(all.iter().any(|w| w.contains(part)), "{part} in {all:?}");
        assert!(!before.iter().any(|w| w.contains(part)), "{part} in {before:?}");
    }
}
