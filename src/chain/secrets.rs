//! What in a URL may be a key: in that of a provider, so that nobody is shown it; in one that is stored and
//! shown, so that it is refused.

use url::Url;

use crate::domain::secrets::{WORD_MAX, is_short_number, is_word};

/// The user and the password of a URL, the values of its query, and the parts of its path that look like
/// keys.
pub fn of_url(url: &Url) -> Vec<String> {
    let path = url.path_segments().into_iter().flatten().filter(|part| is_key(part));
    let mut secrets: Vec<String> = path.map(str::to_owned).collect();
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    secrets.extend([user, password].map(str::to_owned));
    if !password.is_empty() {
        // What Basic sends in base64.
        secrets.push(format!("{user}:{password}"));
    }
    for (_, value) in url.query_pairs().filter(|(_, value)| !is_short_number(value)) {
        secrets.push(value.into_owned());
    }
    let decoded: Vec<String> = secrets.iter().map(|secret| decoded(secret)).collect();
    secrets.extend(decoded);
    secrets
}

/// Names of chains and versions are no keys: they are small letters, or a number.
fn is_key(part: &str) -> bool {
    let is_version = part.strip_prefix('v').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
    !is_version && !is_word(part.as_bytes()) && !is_short_number(part)
}

/// Names of parameters that hold keys: with one of these in it,
const NAMES: &[&str] = &[
    "key",
    "token",
    "secret",
    "auth",
    "pass",
    "pwd",
    "signature",
    "credential",
    "session",
    "jwt",
    "bearer",
    "access",
    "appid",
    "app_id",
    "app-id",
    "login",
    "licen",
];
/// or one of these.
const WHOLE_NAMES: &[&str] = &["pw", "sig", "user", "username", "sid", "hmac"];
/// From this length on, what looks random may be a key.
const RANDOM: usize = 16;

/// What of a URL that is stored looks like a key, in words that do not repeat it.
pub fn key_in(url: &Url) -> Option<String> {
    if !url.username().is_empty() || url.password().is_some() {
        return Some("what stands before the @".to_owned());
    }
    // A password that is not encoded ends the host too early, and goes on behind it.
    let rest = [Some(url.path()), url.query(), url.fragment()];
    if rest.into_iter().flatten().any(|part| part.contains('@')) {
        return Some("what stands before an @ (as a sign of its own it is %40)".to_owned());
    }
    let is_name = |name: &str| {
        let name = name.to_lowercase();
        NAMES.iter().any(|word| name.contains(word)) || WHOLE_NAMES.contains(&name.as_str())
    };
    for part in url.path_segments().into_iter().flatten().map(decoded) {
        let (name, value) = part.split_once('=').unwrap_or(("", &part));
        if is_name(name) || is_random(value) || is_random(name) {
            return Some("a part of its path".to_owned());
        }
    }
    for (name, value) in url.query_pairs() {
        if is_random(&name) {
            return Some("a parameter's name".to_owned());
        }
        if is_name(&name) || is_random(&value) {
            return Some(format!("its parameter {name:?}"));
        }
    }
    None
}

/// Long words of letters and digits, in hexadecimal, or, longer still, of letters alone; but not what is on chains for
/// everybody to see: addresses, hashes and ids of feeds.
fn is_random(text: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_public = |word: &str| {
        let hex = word.strip_prefix("0x").unwrap_or(word);
        is_hex(hex) && (hex.len() == 64 || (hex.len() == 40 && hex.len() != word.len()))
    };
    // As a UUID is written.
    let joined: String = text.chars().filter(|c| *c != '-').collect();
    let is_uuid = joined.len() == 32 && is_hex(&joined);
    let mut words = text.split([',', ';', ':', '.', '-', '_', '~', '|', ' ', '{', '}']);
    is_uuid
        || words.any(|word| {
            let has = |is: fn(&u8) -> bool| word.as_bytes().iter().any(is);
            let mixed = has(u8::is_ascii_digit) && has(u8::is_ascii_alphabetic);
            word.len() >= RANDOM
                && !is_public(word)
                && (mixed || is_hex(word) || word.len() >= WORD_MAX)
        })
}

/// Without percent signs.
pub fn decoded(text: &str) -> String {
    let pairs = format!("k={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pairs.as_bytes()).map(|(_, v)| v.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_is_stored_has_no_key() {
        for url in [
            "https://x/v1/SEKRETKEY1234567890abcdef/x",
            "https://x/p?appid=0123456789abcdef0123456789abcdef",
            "https://x/p?q=0123456789abcdef0123456789abcdef",
            "https://x/p?q=1f0e3dad-9990-8345-f743-9f8ffabdffc4",
            "https://x/p?password=a",
            "https://x/p?pw=a",
            "https://x/p?Pwd=a",
            "https://x/p?passwd=a",
            "https://x/p?sig=a",
            "https://x/p?X-Amz-Signature=a",
            "https://x/p?client_secret=a",
            "https://x/p?access=a",
            "https://x/p;key=a/x?q=1",
            "https://x/p/apikey=a/x",
            "https://x/p?abcdefghijklmnopqrstuvwxyz",
            "https://x/%53%45KRETKEY1234567890abcdef",
            "https://x/sk_live_51H8xAbCdEfGhIjKlMn",
            "https://anna@x/",
            "https://anna:12/sekret@x/",
            "https://anna:12?sekret@x/",
            "https://anna:12#sekret@x/",
            "https:/anna:12/sekret@x/",
        ] {
            let found = key_in(&url.parse().unwrap());
            assert!(found.is_some(), "{url}");
            assert!(!found.unwrap().to_lowercase().contains("sekret"), "{url}");
        }
        for url in [
            "https://api.coingecko.com/api/v3/simple/price?ids=tether&vs_currencies=usd&include_last_updated_at=true&precision=full",
            "https://api.exchange.coinbase.com/products/USDT-USD/ticker",
            "https://api.kraken.com/0/public/Ticker?pair=USDCUSD",
            "https://api.binance.com/api/v3/ticker/24hr?symbol=USDCUSDT",
            "https://x/networks/eth/pools/0x88e6A0c2dDD26FEEb64F039a2c41296FcB3f5640",
            "https://x/v2/updates?ids[]=e62df6c8b4a85fe1a67db44dc12de5db330f7ac66b72dc658afedf0f4a415b43",
            "https://pyth.dourolabs.app/hermes",
            "https://x/a?ids=usd-coin,l2-standard-bridged-weth-base&at=2026-11-26T00:00:00Z",
            "https://x/screen/{address}/{chain}?tx={tx}",
        ] {
            assert_eq!(key_in(&url.parse().unwrap()), None, "{url}");
        }
    }

    #[test]
    fn keys_are_told_from_names() {
        let of = |url: &str| {
            let mut all = of_url(&url.parse().unwrap());
            all.retain(|secret| secret.len() > 3);
            all.sort();
            all.dedup();
            all
        };
        for (url, secrets) in [
            ("https://rpc.example/v3/a1b2C3", &["a1b2C3"][..]),
            (
                "https://rpc.example/base-mainnet/v2/abcdefghijklmnopqrstuvwx",
                &["abcdefghijklmnopqrstuvwx"],
            ),
            ("https://rpc.example/evm/8453", &[]),
            ("https://rpc.example/ethereum-mainnet-archive/rpc", &[]),
            ("https://rpc.example/?apikey=wholly&chain=8453", &["wholly"]),
            (
                "https://anna:pass%21word@rpc.example/",
                &["anna", "anna:pass!word", "anna:pass%21word", "pass!word", "pass%21word"],
            ),
        ] {
            assert_eq!(of(url), secrets, "{url}");
        }
    }
}
