//! A ticker over HTTP, described by where its price and its time stand in a JSON answer.
//!
//! Numbers are read from the text itself, never through a float. A number may be written as a JSON
//! number or as a string, because exchanges do both; anything else is none.

use std::borrow::Cow;
use std::collections::BTreeSet;

use alloy::primitives::U512;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::money::Rate;
use crate::domain::oracle::reading::{AHEAD_MAX_MS, Body, PriceInstant, Reading, Reject, start};

/// Exponents beyond this are no price and no time.
const POWER_MAX: u32 = 60;
/// And so many digits.
const DIGITS_MAX: usize = 60;
/// Objects and lists within each other; an answer that is deeper is none.
const DEPTH_MAX: u8 = 32;

/// How a ticker is asked and read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticker {
    /// Where; without secrets, which belong into headers.
    pub url: String,
    /// Names of headers whose values come from the environment: the values are not kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// Where the price stands (RFC 6901), such as `/tether/usd`.
    pub price: String,
    /// Where its time stands; without one, it is taken to be of when it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// How the time is written.
    pub time_as: TimeAs,
    /// The price is how many of the priced asset one unit buys: its inverse is taken.
    #[serde(default)]
    pub invert: bool,
    /// A sample may be so many seconds later than the payment, and its own time so many from then.
    pub max_age_s: u32,
}

/// How a ticker writes times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeAs {
    /// `2026-01-31T12:00:00Z`.
    #[default]
    Rfc3339,
    /// Since 1970, as any decimal number; like the next two.
    Seconds,
    /// Since 1970.
    Milliseconds,
    /// Since 1970.
    Microseconds,
}

impl Ticker {
    /// The longest time between a payment and the sample that prices it.
    pub fn max_age_ms(&self) -> i64 {
        i64::from(self.max_age_s).saturating_mul(1_000)
    }

    /// What a sample says by itself, at the time it was taken.
    ///
    /// # Errors
    /// [`Reject`], where it says nothing usable.
    pub fn sample(&self, body: &Body) -> Result<Reading, Reject> {
        let bad = |why: String| Reject::new("unreadable", why);
        if body.status != 200 {
            return Err(bad(body.refusal()));
        }
        if body.cut {
            return Err(bad("the answer is too large".into()));
        }
        let root = answer(&body.body).map_err(bad)?;
        let find = |pointer: &str| {
            find(root, pointer)
                .ok_or_else(|| bad(format!("there is nothing at {pointer} of {}", body.start())))
        };
        let said = find(&self.price)?;
        let (price, is_zero) = number(&unquoted(said))
            .ok_or_else(|| bad(format!("{} is not a price", start(said.get()))))?;
        if is_zero {
            return Err(Reject::new("not_positive", "the price is zero"));
        }
        let price = if self.invert { price.inverse_rounded_down() } else { Some(price) };
        let price = price.filter(|price| !price.is_zero()).ok_or_else(|| {
            Reject::new(
                "not_positive",
                "the price is smaller, or its inverse larger, than topupd can count",
            )
        })?;
        let updated_ms = match &self.time {
            None => body.at_ms,
            Some(pointer) => {
                let said = find(pointer)?;
                self.time_as
                    .read(&unquoted(said))
                    .ok_or_else(|| bad(format!("{} is not a time", start(said.get()))))?
            }
        };
        let age = body.fetched_at_ms.saturating_sub(updated_ms);
        if age > self.max_age_ms() {
            let seconds = age.checked_div(1_000).unwrap_or(0);
            return Err(Reject::new("stale", format!("the price was {seconds} s old when asked")));
        }
        if age < AHEAD_MAX_MS.saturating_neg() {
            return Err(Reject::new("future", "its time is in the future"));
        }
        let detail = format!("sampled at {}", body.at_ms);
        Ok(Reading { price, as_of_ms: body.at_ms, updated_ms, detail })
    }

    pub(super) fn read(&self, body: &Body, at: &PriceInstant) -> Result<Reading, Reject> {
        if body.at_ms < at.time_ms {
            return Err(Reject::new("stale", "the sample is from before the instant"));
        }
        if body.at_ms.saturating_sub(at.time_ms) > self.max_age_ms() {
            let why = format!("no sample within {} s", self.max_age_s);
            return Err(Reject::new("missing", why));
        }
        let reading = self.sample(body)?;
        if at.time_ms.saturating_sub(reading.updated_ms) > self.max_age_ms() {
            return Err(Reject::new("stale", "its price is older than the payment allows"));
        }
        Ok(reading)
    }
}

impl TimeAs {
    /// Epoch milliseconds, rounded down.
    fn read(self, text: &str) -> Option<i64> {
        let to_ms = match self {
            Self::Rfc3339 => return Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()),
            Self::Seconds => 3,
            Self::Milliseconds => 0,
            Self::Microseconds => -3,
        };
        let (mantissa, exponent) = decimal(text)?;
        let (over, under) = ratio(mantissa, exponent.checked_add(to_ms)?)?;
        i64::try_from(over.checked_div(under)?).ok()
    }
}

/// The parts of a JSON object as they stand, also those under a name that stands twice.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Reader).map(Pairs)
    }
}

/// What somebody answered, as JSON that says one thing only: no name stands twice in an object, which
/// two readers would read in two ways, and no error is named beside a result.
///
/// # Errors
/// Why it is no answer.
pub(in crate::domain) fn answer(text: &str) -> Result<&RawValue, String> {
    let root: &RawValue = serde_json::from_str(text).map_err(|_| not_json(text))?;
    says_once(root, DEPTH_MAX)?;
    for pointer in ["/error", "/errors"] {
        if let Some(error) = find(root, pointer).filter(|error| says_something(error)) {
            return Err(format!("the answer names an error: {}", start(error.get())));
        }
    }
    Ok(root)
}

/// No object in it has a name twice.
fn says_once(value: &RawValue, depth: u8) -> Result<(), String> {
    let deeper = || depth.checked_sub(1).ok_or("the answer is nested too deep");
    let unreadable = |why: serde_json::Error| why.to_string();
    match value.get().trim_start().as_bytes().first() {
        Some(b'{') => {
            let Pairs(pairs) = serde_json::from_str(value.get()).map_err(unreadable)?;
            let mut names = BTreeSet::new();
            for (name, value) in &pairs {
                if !names.insert(name) {
                    return Err(format!("the answer says twice what {} is", start(name)));
                }
                says_once(value, deeper()?)?;
            }
        }
        Some(b'[') => {
            let list: Vec<&RawValue> = serde_json::from_str(value.get()).map_err(unreadable)?;
            for value in list {
                says_once(value, deeper()?)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Follows a JSON pointer (RFC 6901) without touching the numbers.
pub(in crate::domain) fn find<'a>(root: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let Some(path) = pointer.strip_prefix('/') else { return pointer.is_empty().then_some(root) };
    path.split('/').try_fold(root, |at, part| {
        let key = part.replace("~1", "/").replace("~0", "~");
        match at.get().trim_start().as_bytes().first()? {
            b'{' => {
                let Pairs(pairs) = serde_json::from_str(at.get()).ok()?;
                pairs.into_iter().find(|(name, _)| *name == key).map(|(_, value)| value)
            }
            b'[' => {
                let list: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
                list.get(key.parse::<usize>().ok()?).copied()
            }
            _ => None,
        }
    })
}

/// The text of a number, be it in quotes or not; escapes in quotes are decoded.
pub(in crate::domain) fn unquoted(value: &RawValue) -> Cow<'_, str> {
    let text = value.get().trim();
    match serde_json::from_str::<String>(text) {
        Ok(inner) => inner.into(),
        Err(_) => text.into(),
    }
}

/// Not null, false, zero or empty: what Kraken's `error` holds beside a `result` where something is
/// wrong with it.
fn says_something(value: &RawValue) -> bool {
    let empty = |c: char| c.is_whitespace() || "[]{}".contains(c);
    !matches!(value.get().trim_matches(empty), "" | "null" | "false" | "0" | "\"\"")
}

/// A decimal number, possibly with an exponent, as `mantissa × 10^exponent`. Signs are refused: a
/// price has none, and neither has a time after 1970.
pub(in crate::domain) fn decimal(text: &str) -> Option<(U512, i32)> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let length = whole.len().checked_add(fraction.len())?;
    if whole.is_empty() || !plain(whole) || !plain(fraction) || length > DIGITS_MAX {
        return None;
    }
    let mantissa: U512 = format!("{whole}{fraction}").parse().ok()?;
    Some((mantissa, exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?))
}

/// `mantissa × 10^exponent` as a fraction.
fn ratio(mantissa: U512, exponent: i32) -> Option<(U512, U512)> {
    let power = Some(exponent.unsigned_abs()).filter(|p| *p <= POWER_MAX)?;
    let power = U512::from(10).checked_pow(U512::from(power))?;
    let one = U512::from(1);
    Some(if exponent < 0 { (mantissa, power) } else { (mantissa.checked_mul(power)?, one) })
}

/// A price, rounded down to 18 significant digits; and whether it is zero as it is written.
fn number(text: &str) -> Option<(Rate, bool)> {
    let (mantissa, exponent) = decimal(text)?;
    let (over, under) = ratio(mantissa, exponent)?;
    Some((Rate::ratio_rounded_down(over, under)?, mantissa.is_zero()))
}

/// That an answer is not JSON, and how it begins.
fn not_json(text: &str) -> String {
    match text.trim() {
        "" => "an empty answer".to_owned(),
        _ => format!("the answer is not JSON: {}", start(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: i64 = 1_800_000_000_000;

    fn ticker(price: &str, time: Option<&str>, time_as: TimeAs) -> Ticker {
        Ticker {
            url: "http://127.0.0.1/".into(),
            headers: Vec::new(),
            price: price.into(),
            time: time.map(str::to_owned),
            time_as,
            invert: false,
            max_age_s: 60,
        }
    }

    fn sample(ticker: &Ticker, body: &str) -> Result<String, &'static str> {
        let body = Body {
            at_ms: AT,
            fetched_at_ms: AT,
            status: 200,
            body: body.into(),
            sha256: Default::default(),
            cut: false,
        };
        ticker.sample(&body).map(|r| r.price.to_string()).map_err(|r| r.code)
    }

    /// Answers in the shapes of the four that the documentation has examples for.
    #[test]
    fn four_exchanges() {
        let coingecko = ticker("/tether/usd", Some("/tether/last_updated_at"), TimeAs::Seconds);
        let body = r#"{"tether":{"usd":0.9998127364,"last_updated_at":1799999990}}"#;
        assert_eq!(sample(&coingecko, body), Ok("0.9998127364".into()));
        let coinbase = ticker("/price", Some("/time"), TimeAs::Rfc3339);
        let body =
            r#"{"ask":"1","price":"0.99985","time":"2027-01-15T07:59:59.816123Z","size":"7"}"#;
        assert_eq!(sample(&coinbase, body), Ok("0.99985".into()));
        let kraken = ticker("/result/USDCUSD/c/0", None, TimeAs::Rfc3339);
        let body = r#"{"error":[],"result":{"USDCUSD":{"a":["1.0001","2","2.000"],"c":["0.9999","10.0"]}}}"#;
        assert_eq!(sample(&kraken, body), Ok("0.9999".into()));
        let binance = ticker("/lastPrice", Some("/closeTime"), TimeAs::Milliseconds);
        let body = r#"{"symbol":"USDCUSDT","lastPrice":"1.00020000","closeTime":1799999999000}"#;
        assert_eq!(sample(&binance, body), Ok("1.0002".into()));
        assert_eq!(
            sample(&Ticker { invert: true, ..binance }, body),
            Ok("0.999800039992001599".into())
        );
    }

    #[test]
    fn what_is_no_price_is_refused() {
        let plain = ticker("/p", Some("/t"), TimeAs::Seconds);
        let table = [
            (r#"<html>busy</html>"#, "unreadable"),
            ("", "unreadable"),
            (r#"{"error":"rate limited"}"#, "unreadable"),
            (r#"{"p":NaN,"t":1800000000}"#, "unreadable"),
            (r#"{"p":"NaN","t":1800000000}"#, "unreadable"),
            (r#"{"p":1e400,"t":1800000000}"#, "unreadable"),
            (r#"{"p":-1,"t":1800000000}"#, "unreadable"),
            (r#"{"p":null,"t":1800000000}"#, "unreadable"),
            (r#"{"p":true,"t":1800000000}"#, "unreadable"),
            (r#"{"p":[1],"t":1800000000}"#, "unreadable"),
            (r#"{"p":"","t":1800000000}"#, "unreadable"),
            (r#"{"p":"0x10","t":1800000000}"#, "unreadable"),
            (r#"{"p":0,"t":1800000000}"#, "not_positive"),
            (r#"{"p":1e-40,"t":1800000000}"#, "not_positive"),
            (r#"{"p":1}"#, "unreadable"),
            (r#"{"p":1,"t":"soon"}"#, "unreadable"),
            (r#"{"p":1,"t":1799913600}"#, "stale"),
            (r#"{"p":1,"t":1800000100}"#, "future"),
            (r#"{"error":["EQuery:Unknown asset pair"],"p":1,"t":1800000000}"#, "unreadable"),
            (r#"{"errors":[{"code":7}],"p":1,"t":1800000000}"#, "unreadable"),
            (r#"{"p":1,"p":99,"t":1800000000}"#, "unreadable"),
            (r#"{"p":1,"\u0070":1,"t":1800000000}"#, "unreadable"),
            (r#"{"p":1,"t":1800000000,"x":[{"y":1,"y":2}]}"#, "unreadable"),
            (r#"{"error":"busy","p":1,"t":1800000000}"#, "unreadable"),
            (r#"{"p":1,"t":-1800000000}"#, "unreadable"),
            (r#"{"p":1,"t":"1800000000s"}"#, "unreadable"),
            (r#"{"p":1,"t":1e70}"#, "unreadable"),
            (r#"{"p":1,"t":1800000000.}"#, "unreadable"),
            (r#"{"p":"+1","t":1800000000}"#, "unreadable"),
        ];
        for (body, code) in table {
            assert_eq!(sample(&plain, body), Err(code), "{body}");
        }
        for (body, price) in [
            (r#"{"p":"1.5","t":"1800000000"}"#, "1.5"),
            (r#"{"p":9.9e-05,"t":1800000000.5}"#, "0.000099"),
            (r#"{"p":1E2,"t":1800000000}"#, "100"),
            (r#"{"p":1E+2,"t":1.8e9}"#, "100"),
            (r#"{"error":[],"p":"\u0031.5","t":"1.8000000000001234E+09"}"#, "1.5"),
            (r#"{"error":null,"p":1,"t":1800000000.000000000001}"#, "1"),
            (r#"{"error":{ },"p":1,"t":18000000000000e-4}"#, "1"),
            (r#"{"p":0.12345678901234567890123,"t":1800000000}"#, "0.123456789012345678"),
        ] {
            assert_eq!(sample(&plain, body), Ok(price.to_owned()), "{body}");
        }
    }

    #[test]
    fn times_in_every_spelling() {
        let table = [
            (TimeAs::Seconds, "1800000000", AT),
            (TimeAs::Seconds, "1800000000.1239", AT + 123),
            (TimeAs::Seconds, "1.8E9", AT),
            (TimeAs::Milliseconds, "1800000000123.9", AT + 123),
            (TimeAs::Milliseconds, "1.800000000123e12", AT + 123),
            (TimeAs::Microseconds, "1800000000123456", AT + 123),
            (TimeAs::Microseconds, "1.800000000123456e+15", AT + 123),
            (TimeAs::Rfc3339, "2027-01-15T08:00:00Z", AT),
            (TimeAs::Rfc3339, "2027-01-15T13:30:00.123456789+05:30", AT + 123),
            (TimeAs::Rfc3339, "2027-01-15T00:00:00-08:00", AT),
        ];
        for (time_as, text, ms) in table {
            assert_eq!(time_as.read(text), Some(ms), "{text}");
        }
        for (time_as, text) in [
            (TimeAs::Rfc3339, "2027-01-15T08:00:00"),
            (TimeAs::Rfc3339, "1800000000"),
            (TimeAs::Seconds, "2027-01-15T08:00:00Z"),
            (TimeAs::Seconds, ""),
            (TimeAs::Seconds, "1_800_000_000"),
            (TimeAs::Milliseconds, "1e30"),
        ] {
            assert_eq!(time_as.read(text), None, "{text}");
        }
    }

    /// A missing key, no entitlement, a wrong symbol and a geo block can be told apart.
    #[test]
    fn a_refusal_is_shown() {
        let plain = ticker("/p", None, TimeAs::Seconds);
        let why = |status: u16, body: &str| {
            let body = Body {
                at_ms: AT,
                fetched_at_ms: AT,
                status,
                body: body.into(),
                sha256: Default::default(),
                cut: false,
            };
            plain.sample(&body).map_err(|r| r.why).unwrap_err()
        };
        assert_eq!(why(401, "{\"msg\":\"no key\"}"), "http status 401: {\"msg\":\"no key\"}");
        assert_eq!(why(451, ""), "http status 451");
        // Escaped once, where it is shown; on one line and without what no database takes here already.
        assert_eq!(why(403, "\u{1b}[31mred\na\0\n"), "http status 403: \u{1b}[31mred a\u{fffd}");
        assert_eq!(why(403, r#"{"m":"\u001b"}"#), r#"http status 403: {"m":"\u001b"}"#);
        assert_eq!(why(200, " \n"), "an empty answer");
        assert_eq!(why(200, "{\"p\":0.00}"), "the price is zero");
        let small = "the price is smaller, or its inverse larger, than topupd can count";
        assert_eq!(why(200, "{\"p\":1e-30}"), small);
        assert_eq!(why(200, "<html>"), "the answer is not JSON: <html>");
        assert_eq!(why(200, "{\"code\":-1121}"), "there is nothing at /p of {\"code\":-1121}");
        assert_eq!(why(200, &format!("[{}]", "1,".repeat(99))).chars().count(), 81 + 24);
    }
}
