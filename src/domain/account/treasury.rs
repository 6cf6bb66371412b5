//! The arithmetic of settling what conversions owe.
//!
//! Parts are rounded cumulatively, of an obligation and of a purchase alike: the dollars of all parts
//! together are those of the whole, in whatever parts it is settled.

use super::refusal::Refusal;
use super::state::{Account, Owing, Purchase};
use crate::domain::journal::{Settled, TreasurySettlement};
use crate::domain::money::{Nanodollars, RawAmount};

/// What a part of a purchase settles of an obligation.
pub(super) fn settle(account: &Account, cause: &TreasurySettlement) -> Result<Settled, Refusal> {
    let owing = owing(account, cause)?;
    let purchase = purchase(account, cause)?;
    let part = cause.settled_tokens;
    let (settled, owed) =
        next_part(owing.usd, owing.tokens, owing.settled, part, "the obligation")?;
    let paid_usd = cause.paid_usd().map_err(Refusal::of_money("what was paid"))?;
    let (used, paid) = next_part(paid_usd, purchase.tokens, purchase.used, part, "the purchase")?;
    if (owed, paid) == (Nanodollars::ZERO, Nanodollars::ZERO) {
        return Err(Refusal::MovesNothing);
    }
    Ok(Settled {
        owed_usd_nano: owed,
        paid_usd_nano: paid,
        settled_tokens: settled,
        used_tokens: used,
    })
}

/// The obligation, before this part of it.
pub(super) fn owing(account: &Account, cause: &TreasurySettlement) -> Result<Owing, Refusal> {
    let asked = Owing {
        record_id: cause.obligation_record_id,
        asset: cause.asset.clone(),
        into_asset: cause.into_asset.clone(),
        tokens: cause.tokens,
        usd: cause.obligation_usd_nano,
        settled: RawAmount::ZERO,
        void: false,
    };
    let key = (cause.obligation_journal, cause.obligation_seq);
    let owing = account.owing.get(&key)?.unwrap_or(&asked);
    if owing.void {
        return Err(Refusal::Void { seq: cause.obligation_seq });
    }
    let claims = [
        (owing.record_id == asked.record_id, "obligation_record_id"),
        (owing.asset == asked.asset, "asset"),
        (owing.into_asset == asked.into_asset, "into_asset"),
        (owing.tokens == asked.tokens, "tokens"),
        (owing.usd == asked.usd, "obligation_usd_nano"),
    ];
    claims
        .into_iter()
        .find(|(holds, _)| !holds)
        .map_or_else(|| Ok(owing.clone()), |(_, field)| Err(Refusal::Contradiction(field)))
}

/// The purchase, before this part of it.
pub(super) fn purchase(account: &Account, cause: &TreasurySettlement) -> Result<Purchase, Refusal> {
    let asked = Purchase {
        block_hash: cause.block_hash,
        asset: cause.asset.clone(),
        paid: cause.purchase_paid,
        decimals: cause.purchase_decimals,
        into_asset: cause.into_asset.clone(),
        tokens: cause.purchase_tokens,
        used: RawAmount::ZERO,
    };
    let found = account.purchases.get(&(cause.chain_id, cause.tx_hash))?.unwrap_or(&asked);
    let claims = [
        (found.block_hash == asked.block_hash, "block_hash"),
        (found.asset == asked.asset, "asset"),
        (found.paid == asked.paid, "purchase_paid"),
        (found.decimals == asked.decimals, "purchase_decimals"),
        (found.into_asset == asked.into_asset, "into_asset"),
        (found.tokens == asked.tokens, "purchase_tokens"),
    ];
    claims
        .into_iter()
        .find(|(holds, _)| !holds)
        .map_or_else(|| Ok(found.clone()), |(_, field)| Err(Refusal::Contradiction(field)))
}

/// What is settled with this part, and its dollars: those of all parts so far, without those of before.
fn next_part(
    usd: Nanodollars,
    whole: RawAmount,
    before: RawAmount,
    part: RawAmount,
    what: &'static str,
) -> Result<(RawAmount, Nanodollars), Refusal> {
    let after =
        before.checked_add(part).filter(|after| *after <= whole).ok_or(Refusal::TooMany(what))?;
    let share =
        |tokens: RawAmount| usd.share_rounded_down(tokens, whole).map_err(Refusal::of_money(what));
    let dollars = share(after)?.checked_sub(share(before)?).ok_or(Refusal::Overflow(what))?;
    Ok((after, dollars))
}
