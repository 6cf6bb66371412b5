//! A ticker over HTTP, described by where its price and its time stand in a JSON answer.
//!
//! Numbers are read from the text itself, never through a float. A number may be written as a JSON
//! number or as a string, because exchanges do both; anything else is none.

use std::collections::BTreeMap;

use alloy::primitives::U512;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{AHEAD_MAX_MS, Body, Instant, Reading, Reject};
use crate::domain::money::Rate;

/// Digits and exponents beyond this are no price.
const POWER_MAX: u32 = 60;

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
    /// Since 1970, possibly with a fraction.
    Seconds,
    /// Since 1970.
    Milliseconds,
}

impl Ticker {
    /// The longest time between a payment and the sample that prices it.
    #[must_use]
    pub fn max_age_ms(&self) -> i64 {
        i64::from(self.max_age_s).saturating_mul(1_000)
    }

    /// What a sample says by itself, at the time it was taken.
    ///
    /// # Errors
    /// [`Reject`], where it says nothing usable.
    pub fn sample(&self, body: &Body) -> Result<Reading, Reject> {
        let bad = |why: &str| Reject::new("unreadable", why);
        if body.status != 200 {
            return Err(Reject::new("unreadable", format!("http status {}", body.status)));
        }
        if body.cut {
            return Err(bad("the answer is too large"));
        }
        let root: &RawValue =
            serde_json::from_str(&body.body).map_err(|_| bad("the answer is not JSON"))?;
        let find = |pointer: &str| {
            find(root, pointer)
                .ok_or_else(|| Reject::new("unreadable", format!("there is nothing at {pointer}")))
        };
        let said = find(&self.price)?;
        let price = number(unquoted(said)).ok_or_else(|| {
            Reject::new("unreadable", format!("{} is not a price", start(said.get())))
        })?;
        let price = if self.invert { price.inverse_rounded_down() } else { Some(price) };
        let price = price.filter(|p| !p.is_zero());
        let price = price.ok_or_else(|| Reject::new("not_positive", "the price is zero"))?;
        let updated_ms = match &self.time {
            None => body.at_ms,
            Some(pointer) => {
                let said = find(pointer)?;
                self.time_as.read(unquoted(said)).ok_or_else(|| {
                    Reject::new("unreadable", format!("{} is not a time", start(said.get())))
                })?
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

    pub(super) fn read(&self, body: &Body, at: &Instant) -> Result<Reading, Reject> {
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
    fn read(self, text: &str) -> Option<i64> {
        match self {
            Self::Rfc3339 => Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()),
            Self::Seconds => {
                let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
                let ms: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
                whole.parse::<i64>().ok()?.checked_mul(1_000)?.checked_add(ms)
            }
            Self::Milliseconds => text.parse().ok(),
        }
    }
}

/// Follows a JSON pointer (RFC 6901) without touching the numbers.
fn find<'a>(root: &'a RawValue, pointer: &str) -> Option<&'a RawValue> {
    let Some(path) = pointer.strip_prefix('/') else { return pointer.is_empty().then_some(root) };
    path.split('/').try_fold(root, |at, part| {
        let key = part.replace("~1", "/").replace("~0", "~");
        match at.get().trim_start().as_bytes().first()? {
            b'{' => {
                let map: BTreeMap<String, &RawValue> = serde_json::from_str(at.get()).ok()?;
                map.get(&key).copied()
            }
            b'[' => {
                let list: Vec<&RawValue> = serde_json::from_str(at.get()).ok()?;
                list.get(key.parse::<usize>().ok()?).copied()
            }
            _ => None,
        }
    })
}

/// The text of a number, be it in quotes or not.
fn unquoted(value: &RawValue) -> &str {
    let text = value.get().trim();
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// A decimal number, possibly with an exponent, rounded down to 18 significant digits. Signs are
/// refused: a price has none.
fn number(text: &str) -> Option<Rate> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let length = whole.len().checked_add(fraction.len())?;
    if whole.is_empty() || !plain(whole) || !plain(fraction) || length > 60 {
        return None;
    }
    let mantissa: U512 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let power = Some(exponent.unsigned_abs()).filter(|p| *p <= POWER_MAX)?;
    let power = U512::from(10).checked_pow(U512::from(power))?;
    if exponent < 0 {
        Rate::ratio_rounded_down(mantissa, power)
    } else {
        Rate::ratio_rounded_down(mantissa.checked_mul(power)?, U512::from(1))
    }
}

fn start(text: &str) -> String {
    text.chars().take(40).collect()
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
        ];
        for (body, code) in table {
            assert_eq!(sample(&plain, body), Err(code), "{body}");
        }
        for (body, price) in [
            (r#"{"p":"1.5","t":"1800000000"}"#, "1.5"),
            (r#"{"p":9.9e-05,"t":1800000000.5}"#, "0.000099"),
            (r#"{"p":1E2,"t":1800000000}"#, "100"),
            (r#"{"p":0.12345678901234567890123,"t":1800000000}"#, "0.123456789012345678"),
        ] {
            assert_eq!(sample(&plain, body), Ok(price.to_owned()), "{body}");
        }
    }
}
