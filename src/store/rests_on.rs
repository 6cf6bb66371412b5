//! Does every row that a posting rests on say what the posting's evidence says?
//!
//! The second half of `ledger verify`, for one posting at a time: deposit, address, sighting, block,
//! confirmation, price, conversion, epoch, lot, obligation and event. It reads rows that `verify` fetched, and nothing else.

use super::batch::{event_id, event_kind};
use super::credit::conversion;
use super::db::Row;
use super::verify::{Check, Finding, claim};
use crate::domain::ids::SightingKey;
use crate::domain::ledger::{
    DepositCredit, DepositReversal, KIND_DEPOSIT_CREDIT, Posting, TreasurySettlement,
};
use crate::domain::wallet::AccountXpub;

/// Every row a posting rests on says what its evidence says.
pub(super) fn rests_on(posting: &Posting, evidence: &DepositCredit, row: &Row) -> Check<()> {
    let deposit = format!("deposit {}", posting.deposit);
    for (table, column) in [
        ("deposits", "stage"),
        ("credits", "k_block_hash"),
        ("addresses", "address"),
        ("sightings", "sender"),
        ("blocks", "block_time_ms"),
        ("confirmations", "policy"),
        ("prices", "rule"),
        ("epochs", "body"),
        ("lots", "lot_kind"),
        ("outbox", "event_kind"),
    ] {
        if row.is_null(column) {
            let problem = "the row that a posting rests on is missing".to_owned();
            return Ok(Err(Finding { table, row: deposit, problem }));
        }
    }

    let place = SightingKey {
        chain: evidence.chain_id,
        block_hash: row.b256("credits", "k_block_hash")?,
        log_index: row.uint("credits", "k_log_index")?,
    };
    claim!(
        place == evidence.sighting_key(),
        "credits",
        deposit,
        "block_hash or log_index differs from the evidence"
    );
    // The deposit may stand elsewhere since, once its credit was undone.
    let standing = row.is_null("reversed_by");
    if standing {
        let found = stands(posting, evidence, row, &deposit)?;
        if found.is_err() {
            return Ok(found);
        }
    }
    let key = (
        row.uint("deposits", "chain_id")?,
        row.b256("deposits", "tx_hash")?,
        row.address("deposits", "token")?,
        row.address("deposits", "recipient")?,
        row.text("deposits", "shape")?,
        row.uint32("deposits", "n")?,
    );
    let claimed = (
        evidence.chain_id.0,
        evidence.tx_hash,
        evidence.token,
        evidence.recipient,
        "transfer".to_owned(),
        evidence.n,
    );
    claim!(
        key == claimed,
        "deposits",
        deposit,
        "chain, transaction, token, recipient, shape or n differ from the evidence"
    );
    claim!(
        row.text("namespaces", "name")? == evidence.namespace,
        "deposits",
        deposit,
        "namespace differs from the evidence"
    );
    claim!(
        row.address("addresses", "address")? == evidence.recipient,
        "addresses",
        evidence.recipient,
        "address differs from the recipient credited"
    );
    claim!(
        row.int("addresses", "address_namespace_id")? == row.int("deposits", "namespace_id")?,
        "addresses",
        evidence.recipient,
        "bound to another namespace than was credited"
    );

    let sighting = (
        row.b256("sightings", "s_deposit_id")?,
        row.b256("sightings", "s_tx_hash")?,
        row.address("sightings", "s_token")?,
        row.address("sightings", "s_recipient")?,
        row.amount("sightings", "s_raw_amount")?,
        row.address("sightings", "sender")?,
        row.uint("sightings", "s_block_number")?,
    );
    let claimed = (
        posting.deposit.0,
        evidence.tx_hash,
        evidence.token,
        evidence.recipient,
        evidence.raw_amount,
        evidence.sender,
        evidence.block_number,
    );
    let clean = row.opt_text("sightings", "malformed")?.is_none()
        && row.opt_bytes("sightings", "topics")?.is_none()
        && row.opt_bytes("sightings", "data")?.is_none();
    claim!(clean, "sightings", deposit, "is not a clean transfer");
    claim!(sighting == claimed, "sightings", deposit, "differs from the evidence");
    claim!(
        row.opt_text("sightings", "s_provider")? == evidence.log_provider,
        "sightings",
        deposit,
        "provider differs from the evidence"
    );
    let block = (row.uint("blocks", "b_block_number")?, row.int("blocks", "block_time_ms")?);
    claim!(
        block == (evidence.block_number, evidence.block_time_ms),
        "blocks",
        evidence.block_hash,
        "number or time differs from the evidence"
    );
    let confirmation = (
        row.text("confirmations", "policy")?,
        row.uint("confirmations", "head_number")?,
        row.b256("confirmations", "head_hash")?,
        row.text("confirmations", "receipt_provider")?,
        row.opt_text("confirmations", "log_provider")?,
        row.opt_text("confirmations", "verify")?,
    );
    let claimed = (
        evidence.finality.clone(),
        evidence.head_number,
        evidence.head_hash,
        evidence.receipt_provider.clone(),
        evidence.log_provider.clone(),
        evidence.verify.clone(),
    );
    claim!(confirmation == claimed, "confirmations", deposit, "differs from the evidence");
    // What it proves is checked of each proof by itself.
    if let Some(index) = evidence.receipt_index {
        let kept =
            !row.is_null("receipt_index") && row.uint("receipt_proofs", "receipt_index")? == index;
        claim!(kept, "receipt_proofs", deposit, "is missing, or of another place in the block");
    }

    let price = (
        row.text("prices", "epoch_id")?,
        row.text("prices", "rule")?,
        row.text("prices", "asset")?,
        row.amount("prices", "r_raw_amount")?,
        row.uint8("prices", "decimals")?,
        row.text("prices", "credits_per_token")?,
        row.text("prices", "rounding")?,
        row.int("prices", "credits_nano")?,
    );
    let claimed = (
        evidence.epoch.clone(),
        evidence.rule.clone(),
        evidence.asset.clone(),
        evidence.raw_amount,
        evidence.decimals,
        evidence.credits_per_token.to_string(),
        evidence.rounding.clone(),
        evidence.credits_nano.0,
    );
    claim!(price == claimed, "prices", deposit, "differs from the evidence");
    claim!(
        conversion(row)? == evidence.conversion,
        "conversions",
        deposit,
        "differs from the evidence"
    );
    let found = owes(posting, evidence, row)?;
    if found.is_err() {
        return Ok(found);
    }
    claim!(
        row.b256("epochs", "body_hash")? == evidence.epoch_hash,
        "epochs",
        evidence.epoch,
        "is not the text the posting names"
    );
    claim!(
        row.text("epochs", "epoch_in_force")? == evidence.epoch,
        "epochs",
        evidence.epoch,
        "was not in force at the block's time"
    );
    claim!(
        rate_in(&row.text("epochs", "body")?, evidence),
        "epochs",
        evidence.epoch,
        "does not give the rate that the posting used"
    );

    let lot = (
        row.text("lots", "lot_kind")?,
        row.int("lots", "amount_nano")?,
        row.int("lots", "remaining_nano")?,
        row.int("lots", "priority")?,
        row.int("lots", "l_effective_at_ms")?,
        row.opt_int("lots", "expires_at_ms")?,
        row.int("lots", "l_namespace_id")?,
    );
    // Nothing burns credits yet, so every paid lot is whole, unless its credit was undone.
    let amount = evidence.credits_nano.0;
    let remaining = if standing { amount } else { 0 };
    let namespace = row.int("deposits", "namespace_id")?;
    let claimed =
        ("paid".to_owned(), amount, remaining, 0, posting.effective_at_ms, None, namespace);
    claim!(lot == claimed, "lots", format!("seq {}", posting.seq), "differs from its posting");
    announced(posting, row)
}

/// A conversion owes the treasury what its evidence says, and nothing else does.
fn owes(posting: &Posting, evidence: &DepositCredit, row: &Row) -> Check<()> {
    let seq = format!("seq {}", posting.seq);
    let into = evidence.conversion.as_ref().and_then(|c| c.into.as_ref());
    let Some(into) = into else {
        claim!(row.is_null("g_asset"), "obligations", seq, "nothing was converted");
        return Ok(Ok(()));
    };
    claim!(!row.is_null("g_asset"), "obligations", seq, "the row of a conversion is missing");
    let owed = (
        row.uint("obligations", "g_chain_id")?,
        row.text("obligations", "g_asset")?,
        row.amount("obligations", "g_raw_amount")?,
        row.uint8("obligations", "g_decimals")?,
        row.text("obligations", "into_asset")?,
        row.amount("obligations", "tokens")?,
        row.uint8("obligations", "token_decimals")?,
        row.int("obligations", "g_effective_at_ms")?,
    );
    let claimed = (
        evidence.chain_id.0,
        evidence.asset.clone(),
        evidence.raw_amount,
        evidence.decimals,
        into.asset.clone(),
        into.tokens,
        into.decimals,
        posting.effective_at_ms,
    );
    claim!(owed == claimed, "obligations", seq, "differs from the evidence");
    Ok(Ok(()))
}

/// A settlement's purchase and obligation are what its evidence says.
pub(super) fn settles(posting: &Posting, evidence: &TreasurySettlement, row: &Row) -> Check<()> {
    let seq = format!("seq {}", posting.seq);
    for (table, column) in
        [("settlements", "t_tx_hash"), ("purchases", "h_asset"), ("obligations", "y_asset")]
    {
        claim!(!row.is_null(column), "settlements", seq, format!("its row in {table} is missing"));
    }
    let part = (
        row.int("settlements", "obligation_seq")?,
        row.uint("settlements", "t_chain_id")?,
        row.b256("settlements", "t_tx_hash")?,
        row.amount("settlements", "t_tokens")?,
    );
    let claimed =
        (evidence.obligation_seq, evidence.chain_id.0, evidence.tx_hash, evidence.settled_tokens);
    claim!(part == claimed, "settlements", seq, "differs from the evidence");
    let purchase = (
        row.b256("purchases", "h_block_hash")?,
        row.text("purchases", "h_asset")?,
        row.amount("purchases", "paid")?,
        row.uint8("purchases", "h_decimals")?,
        row.text("purchases", "h_into_asset")?,
        row.amount("purchases", "h_tokens")?,
    );
    let claimed = (
        evidence.block_hash,
        evidence.asset.clone(),
        evidence.purchase_paid,
        evidence.purchase_decimals,
        evidence.into_asset.clone(),
        evidence.purchase_tokens,
    );
    claim!(purchase == claimed, "purchases", seq, "differs from the evidence");
    let owed = (
        row.b256("postings", "x_posting_id")?,
        row.b256("postings", "x_deposit_id")?,
        row.text("obligations", "y_asset")?,
        row.amount("obligations", "y_raw_amount")?,
        row.uint8("obligations", "y_decimals")?,
        row.text("obligations", "y_into_asset")?,
        row.amount("obligations", "y_tokens")?,
    );
    let claimed = (
        evidence.obligation_posting_id,
        posting.deposit.0,
        evidence.asset.clone(),
        evidence.raw_amount,
        evidence.decimals,
        evidence.into_asset.clone(),
        evidence.tokens,
    );
    claim!(owed == claimed, "obligations", seq, "differs from what was settled");
    announced(posting, row)
}

/// The deposit of a credit that stands, stands where it was credited.
fn stands(posting: &Posting, evidence: &DepositCredit, row: &Row, deposit: &str) -> Check<()> {
    claim!(
        row.text("deposits", "stage")? == "credited",
        "deposits",
        deposit,
        "stage is not credited"
    );
    claim!(
        row.int("deposits", "posting_seq")? == posting.seq,
        "deposits",
        deposit,
        "posting_seq is another posting"
    );
    let place = SightingKey {
        chain: evidence.chain_id,
        block_hash: row.b256("deposits", "block_hash")?,
        log_index: row.uint("deposits", "log_index")?,
    };
    claim!(
        place == evidence.sighting_key(),
        "deposits",
        deposit,
        "block_hash or log_index differs from the evidence"
    );
    claim!(
        row.uint("deposits", "block_number")? == evidence.block_number,
        "deposits",
        deposit,
        "block_number differs from the evidence"
    );
    claim!(
        row.amount("deposits", "raw_amount")? == evidence.raw_amount,
        "deposits",
        deposit,
        "raw_amount differs from the evidence"
    );
    Ok(Ok(()))
}

/// A posting has its event.
fn announced(posting: &Posting, row: &Row) -> Check<()> {
    let seq = format!("seq {}", posting.seq);
    claim!(!row.is_null("event_kind"), "outbox", seq, "the event of the posting is missing");
    let event = (row.b256("outbox", "event_id")?, row.text("outbox", "event_kind")?);
    let kind = event_kind(&posting.kind);
    claim!(
        event == (event_id(kind, posting.id), kind.to_owned()),
        "outbox",
        seq,
        "is not the posting's event"
    );
    Ok(Ok(()))
}

/// A reversal undoes exactly the credit that it names.
pub(super) fn undoes(posting: &Posting, evidence: &DepositReversal, row: &Row) -> Check<()> {
    let seq = format!("seq {}", posting.seq);
    claim!(!row.is_null("u_posting_seq"), "credits", seq, "no credit says that it was reversed");
    claim!(!row.is_null("u_kind"), "postings", seq, "the posting it undoes is missing");
    let undone = (
        row.int("credits", "u_posting_seq")?,
        row.b256("postings", "u_posting_id")?,
        row.b256("postings", "u_hash")?,
        row.text("postings", "u_kind")?,
        row.b256("postings", "u_deposit_id")?,
        row.b256("credits", "u_block_hash")?,
        row.int("lots", "u_amount_nano")?,
        row.text("namespaces", "name")?,
    );
    let claimed = (
        evidence.reverses_seq,
        evidence.reverses_posting_id,
        evidence.reverses_hash,
        KIND_DEPOSIT_CREDIT.to_owned(),
        posting.deposit.0,
        evidence.block_hash,
        evidence.credits_nano.0,
        evidence.namespace.clone(),
    );
    claim!(undone == claimed, "postings", seq, "what it undoes differs from the evidence");
    announced(posting, row)
}

/// A derived address is the child of its account key that it is said to be.
pub(super) fn derives(evidence: &DepositCredit, row: &Row) -> Check<()> {
    let address = evidence.recipient;
    let Some(xpub) = row.opt_text("wallets", "account_xpub")? else {
        let imported = row.text("addresses", "origin")? == "imported";
        claim!(imported, "addresses", address, "is derived, and its account key is missing");
        return Ok(Ok(()));
    };
    let index = row.uint32("addresses", "derivation_index")?;
    let child = AccountXpub::parse(&xpub).and_then(|xpub| xpub.address(index));
    claim!(
        child == Ok(address),
        "addresses",
        address,
        format!("is not child {index} of its account key")
    );
    claim!(
        row.text("addresses", "origin")? == "derived",
        "addresses",
        address,
        "has an account key, and is not derived"
    );
    Ok(Ok(()))
}

/// True when the epoch's text gives the asset the rule and rate of the evidence.
fn rate_in(body: &str, evidence: &DepositCredit) -> bool {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let terms = json.get("accept").and_then(|accept| accept.get(&evidence.asset));
    let word = |of: Option<&serde_json::Value>, key: &str| {
        of.and_then(|t| t.get(key)).and_then(|v| v.as_str()).map(str::to_owned)
    };
    // What a stablecoin is converted into has the rate.
    let into = evidence.conversion.as_ref().and_then(|c| c.into.as_ref());
    let rated = match into {
        None => terms,
        Some(into) => json.get("accept").and_then(|accept| accept.get(&into.asset)),
    };
    let same_token = into.is_none_or(|into| {
        let decimals = terms.and_then(|t| t.get("into_decimals")).and_then(|v| v.as_u64());
        word(terms, "into").as_ref() == Some(&into.asset)
            && decimals == Some(u64::from(into.decimals))
            && word(rated, "valuation").as_ref() == Some(&into.rule)
    });
    let rate = word(rated, "credits_per_usd").or_else(|| word(rated, "credits_per_token"));
    word(terms, "valuation").as_ref() == Some(&evidence.rule)
        && same_token
        && rate == Some(evidence.credits_per_token.to_string())
}
