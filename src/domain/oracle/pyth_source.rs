//! What an answer of Hermes must hold to be a price of an instant.
//!
//! The numbers are taken from the signed blob, not from the text beside it; the blob's Merkle proof
//! is checked, and its signatures when it is known whose they must be. It is kept either way.

use alloy::primitives::{B256, hex};
use serde::{Deserialize, Serialize};

use super::pyth::{Signers, decode};
use crate::domain::money::Rate;
use crate::domain::oracle::reading::{Body, PriceInstant, Reading, Reject};

/// A feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// Where Hermes answers, without a path.
    pub url: String,
    /// The feed's id (pyth.network/developers/price-feed-ids).
    pub feed_id: B256,
    /// Widest confidence interval that is taken, in basis points of the price.
    pub confidence_max_bps: u32,
    /// The first update at or after the instant may be so many seconds later.
    pub after_max_s: u32,
    /// Who must have signed it; nobody in particular without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signers: Option<Signers>,
}

#[derive(Deserialize)]
struct Answer {
    binary: Binary,
}

#[derive(Deserialize)]
struct Binary {
    encoding: String,
    data: Vec<String>,
}

impl Feed {
    /// The second that is asked about: the first one at or after the instant.
    pub fn second(at_ms: i64) -> i64 {
        let whole = at_ms.div_euclid(1_000);
        if at_ms.rem_euclid(1_000) == 0 { whole } else { whole.saturating_add(1) }
    }

    /// What is asked for an instant (Hermes, `/v2/updates/price/{publish_time}`).
    pub fn path(&self, at_ms: i64) -> String {
        let second = Self::second(at_ms);
        format!("/v2/updates/price/{second}?ids%5B%5D={:x}&encoding=hex&parsed=false", self.feed_id)
    }

    pub(super) fn read(&self, body: &Body, at: &PriceInstant) -> Result<Reading, Reject> {
        let bad = |why: String| Reject::new("unreadable", why);
        if body.status != 200 {
            return Err(bad(body.refusal()));
        }
        if body.cut {
            return Err(bad("the answer is too large".into()));
        }
        let answer: Answer = serde_json::from_str(&body.body)
            .map_err(|e| bad(format!("not an update: {e}: {}", body.start())))?;
        if answer.binary.data.is_empty() {
            return Err(bad("the answer holds no update".into()));
        }
        if answer.binary.encoding != "hex" {
            return Err(bad(format!("encoded as {:?}", answer.binary.encoding)));
        }
        let mut messages = Vec::new();
        for blob in &answer.binary.data {
            let blob = hex::decode(blob).map_err(|e| bad(format!("the blob is not hex: {e}")))?;
            messages.extend(decode(&blob, self.signers.as_ref()).map_err(bad)?);
        }
        let message = messages.iter().find(|m| m.feed_id == self.feed_id);
        let message = message.ok_or_else(|| Reject::new("wrong_feed", "another feed's update"))?;
        let time = |s: i64| s.checked_mul(1_000).ok_or_else(|| bad(format!("{s} is not a time")));
        let updated_ms = time(message.publish_time_s)?;
        if updated_ms < at.time_ms {
            return Err(Reject::new("stale", "the update is from before the instant"));
        }
        // An earlier update was at or after the instant: this one was picked. (Of several updates
        // of one second, those after the first name that second as the one before.)
        let earlier = message.prev_publish_time_s < message.publish_time_s;
        if earlier && time(message.prev_publish_time_s)? >= at.time_ms {
            return Err(Reject::new("future", "it is not the first update after the instant"));
        }
        let after = i64::from(self.after_max_s).saturating_mul(1_000);
        if updated_ms.saturating_sub(at.time_ms) > after {
            let why = format!("the next update came more than {} s later", self.after_max_s);
            return Err(Reject::new("stale", why));
        }
        let part = |n: u64| Rate::from_parts(u128::from(n), message.exponent);
        let too_large = || bad(format!("{} × 10^{}", message.price, message.exponent));
        let positive = u64::try_from(message.price).ok().filter(|price| *price > 0);
        let Some(mantissa) = positive else {
            return Err(Reject::new("not_positive", format!("the price is {}", message.price)));
        };
        let price = part(mantissa).ok_or_else(too_large)?;
        // |price + conf − price|, in basis points of the price.
        let edge = mantissa.checked_add(message.conf).and_then(part).ok_or_else(too_large)?;
        let unsure_bps = edge.distance_bps(price);
        if unsure_bps > u64::from(self.confidence_max_bps) {
            let most = self.confidence_max_bps;
            let why = match unsure_bps {
                u64::MAX => format!("its confidence interval is endless; at most {most} bp"),
                bps => format!("its confidence interval is {bps} bp; at most {most}"),
            };
            return Err(Reject::new("unsure", why));
        }
        let detail = format!("published at {}", message.publish_time_s);
        Ok(Reading { price, as_of_ms: updated_ms, updated_ms, detail })
    }
}
