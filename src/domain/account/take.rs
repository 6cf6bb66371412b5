//! The arithmetic of giving credits and of taking them back.
//!
//! The next credit repays debt first. A reversal takes what its lot still has; what was used of it becomes
//! debt. Either way the balance moves by the whole amount.

use super::lot::Lot;
use super::refusal::Refusal;
use super::state::{Account, Credit, Obligation};
use crate::domain::journal::{Credited, Moved, Owed, Reversed, Worth};
use crate::domain::money::{Nanocredits, Nanodollars, RawAmount};

/// Balance and debt, between the steps of one record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stand {
    balance: Nanocredits,
    debt: Nanocredits,
}

impl Stand {
    pub(super) const fn of(account: &Account) -> Self {
        Self { balance: account.row.posted, debt: account.row.debt }
    }

    pub(super) const fn moved(self) -> Moved {
        Moved { balance_nano: self.balance, debt_nano: self.debt }
    }
}

/// A credit that stands, with what it made.
pub(super) struct Undone<'a> {
    pub(super) credit: &'a Credit,
    pub(super) lot: &'a Lot,
    pub(super) obligation: Option<&'a Obligation>,
}

/// What the treasury bought for a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bought {
    pub(super) asset: String,
    pub(super) decimals: u8,
    pub(super) tokens: RawAmount,
    pub(super) usd: Nanodollars,
}

/// The credit at this place, which must stand.
pub(super) fn standing(account: &Account, seq: i64) -> Result<Undone<'_>, Refusal> {
    let credit = account.credits.get(&seq)?.ok_or(Refusal::NoCredit { seq })?;
    if let Some(by) = credit.reversed_by {
        return Err(Refusal::Undone { seq, by });
    }
    // Undoing it changes what is known of its deposit.
    let deposit = account.deposits.get(&credit.deposit)?.copied().unwrap_or_default();
    if deposit.standing != Some(seq) {
        return Err(Refusal::Contradiction("deposit"));
    }
    let lot = account.lots.get(&seq)?.ok_or(Refusal::NoCredit { seq })?;
    let obligation = account.obligations.get(&seq)?;
    Ok(Undone { credit, lot, obligation })
}

/// Gives what a payment is worth.
pub(super) fn give(
    stand: Stand,
    worth: &Worth<'_>,
    bought: Option<Bought>,
) -> Result<(Credited, Stand), Refusal> {
    let credits = worth.credits;
    // What it is in dollars goes with the lot: it must fit as well.
    worth.usd().map_err(Refusal::of_money("the payment in dollars"))?;
    let owed = still_owed(worth, bought)?;
    let repaid = stand.debt.min(credits);
    let overflow = || Refusal::Overflow("the balance");
    let remaining = credits.checked_sub(repaid).ok_or_else(overflow)?;
    let balance = stand.balance.checked_add(credits).ok_or_else(overflow)?;
    let debt = stand.debt.checked_sub(repaid).ok_or_else(overflow)?;
    let did = Credited {
        credits_nano: credits,
        repaid_nano: repaid,
        remaining_nano: remaining,
        owed_tokens: owed.as_ref().map(|owed| owed.tokens),
        owed_usd_nano: owed.map_or(Nanodollars::ZERO, |owed| owed.usd),
    };
    Ok((did, Stand { balance, debt }))
}

/// What a payment's conversion owes beyond what was bought for it before.
pub(super) fn still_owed(
    worth: &Worth<'_>,
    bought: Option<Bought>,
) -> Result<Option<Owed>, Refusal> {
    let owed = worth.owed().map_err(Refusal::of_money("what the conversion owes"))?;
    let Some(bought) = bought else { return Ok(owed) };
    let owed = owed.ok_or(Refusal::Bought)?;
    let same = (&owed.asset, owed.decimals) == (&bought.asset, bought.decimals);
    let tokens = owed.tokens.checked_sub(bought.tokens).filter(|left| *left > RawAmount::ZERO);
    let usd = owed.usd.checked_sub(bought.usd).filter(|left| *left >= Nanodollars::ZERO);
    match (same, tokens, usd) {
        (true, Some(tokens), Some(usd)) => Ok(Some(Owed { tokens, usd, ..owed })),
        _ => Err(Refusal::Bought),
    }
}

/// What the treasury bought for a payment so far, also before it was corrected; none where it has bought
/// nothing.
pub(super) fn bought(undone: &Undone<'_>) -> Result<Option<Bought>, Refusal> {
    let Some(owed) = undone.obligation else { return Ok(None) };
    let overflow = || Refusal::Overflow("what was bought");
    let tokens = owed.carried_tokens.checked_add(owed.settled).ok_or_else(overflow)?;
    let usd = owed.carried_usd.checked_add(settled_usd(owed)?).ok_or_else(overflow)?;
    let (asset, decimals) = (owed.asset.clone(), owed.decimals);
    Ok((tokens > RawAmount::ZERO).then_some(Bought { asset, decimals, tokens, usd }))
}

/// What the settled tokens of an obligation were owed for.
fn settled_usd(owed: &Obligation) -> Result<Nanodollars, Refusal> {
    owed.usd
        .share_rounded_down(owed.settled, owed.tokens)
        .map_err(Refusal::of_money("what was settled"))
}

/// Takes back what a credit gave.
pub(super) fn back(stand: Stand, undone: &Undone<'_>) -> Result<(Reversed, Stand), Refusal> {
    let credits = undone.lot.amount;
    let taken = undone.lot.remaining;
    let overflow = || Refusal::Overflow("the balance");
    let debt_added = credits.checked_sub(taken).ok_or_else(overflow)?;
    let balance = stand.balance.checked_sub(credits).ok_or_else(overflow)?;
    let debt = stand.debt.checked_add(debt_added).ok_or(Refusal::Overflow("the debt"))?;
    let returned = match undone.obligation {
        None => Nanodollars::ZERO,
        Some(owed) => owed
            .usd
            .checked_sub(settled_usd(owed)?)
            .ok_or(Refusal::Overflow("what is still owed"))?,
    };
    let did = Reversed {
        taken_nano: taken,
        debt_added_nano: debt_added,
        settled_tokens: undone.obligation.map(|owed| owed.settled),
        returned_usd_nano: returned,
    };
    Ok((did, Stand { balance, debt }))
}
