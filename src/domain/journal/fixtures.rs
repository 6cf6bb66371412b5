//! Causes for tests: a namespace, payments of both sorts, what undoes them and what settles them.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, U256};

use super::{
    Cause, DepositCorrection, DepositCredit, DepositReversal, Draft, Genesis, JournalId,
    NamespaceOpened, Record, RecordId, TreasurySettlement, Valued, genesis,
};
use crate::domain::conversion::{Conversion, Leg, value};
use crate::domain::ids::{ChainId, DepositId, Network};
use crate::domain::money::{Nanocredits, Nanodollars, Rate, RawAmount};
use crate::domain::rounding::credits_rounded_down;
use crate::domain::terms::{Dust, Terms, Valuation};

pub(crate) const NAME: &str = "acme";
pub(crate) const JOURNAL: JournalId = JournalId(7);

pub(crate) fn namespace() -> Genesis {
    genesis(Network::Testnet, &[0xaa; 32], Some(NAME), &[0x5a; 32])
}

pub(crate) fn house() -> Genesis {
    genesis(Network::Testnet, &[0xaa; 32], None, &[0x5b; 32])
}

pub(crate) fn raw(amount: u64) -> RawAmount {
    RawAmount(U256::from(amount))
}

pub(crate) fn opened() -> Cause {
    Cause::NamespaceOpened(NamespaceOpened { name: NAME.into() })
}

pub(crate) fn draft(genesis: Genesis, cause: Cause) -> Draft {
    Draft::new(genesis, cause, None, None).unwrap()
}

/// A payment of a stablecoin at par, a thousand credits for a dollar.
pub(crate) fn paid(n: u32, reversals: u32, amount: u64) -> DepositCredit {
    let rate: Rate = "1000".parse().unwrap();
    DepositCredit {
        namespace: NAME.into(),
        chain_id: ChainId(31337),
        tx_hash: B256::repeat_byte(0x11),
        token: Address::repeat_byte(0x22),
        recipient: Address::repeat_byte(0x33),
        n,
        block_hash: B256::repeat_byte(0x44),
        block_number: 100,
        block_time_ms: 1_800_000_000_000,
        log_index: 3,
        sender: Address::repeat_byte(0x55),
        finality: "12 confirmations".into(),
        head_number: 111,
        head_hash: B256::repeat_byte(0x66),
        receipt_provider: "two".into(),
        log_provider: Some("one".into()),
        verify: Some("second-provider".into()),
        receipt_index: None,
        reversals,
        raw_amount: raw(amount),
        decimals: 6,
        asset: "USDC".into(),
        epoch: "beta".into(),
        epoch_hash: B256::repeat_byte(0x77),
        rule: "par".into(),
        credits_per_token: rate,
        conversion: None,
        rounding: "down".into(),
        credits_nano: credits_rounded_down(raw(amount), 6, rate).unwrap(),
        screenings: None,
        acts: None,
    }
}

/// What a stablecoin payment converts to at this price of the token.
pub(crate) fn conversion(amount: RawAmount, price: &str) -> (Nanocredits, Rate, Conversion) {
    let terms = |valuation| Terms { valuation, minimum: None, dust: Dust::Ignore };
    let convert = terms(Valuation::Convert { into: "RTITY".into(), into_decimals: 18 });
    let fixed = terms(Valuation::Fixed { credits_per_token: "50".parse().unwrap() });
    let accept = BTreeMap::from([("RTITY".to_owned(), fixed)]);
    let leg = |pair: &str, price: &str| Leg {
        pair: pair.into(),
        price: price.parse().unwrap(),
        applied: price.parse().unwrap(),
        price_hash: B256::repeat_byte(0x88),
    };
    let legs = [leg("USDC/USD", "0.999"), leg("RTITY/USD", price)];
    value(amount, 6, "USDC", &convert, &accept, &legs).unwrap()
}

/// A payment of a stablecoin that is converted.
pub(crate) fn converted(n: u32, reversals: u32, amount: u64, price: &str) -> DepositCredit {
    let (credits, rate, conversion) = conversion(raw(amount), price);
    DepositCredit {
        rule: "convert".into(),
        credits_per_token: rate,
        conversion: Some(conversion),
        credits_nano: credits,
        ..paid(n, reversals, amount)
    }
}

/// What undoes the credit of a record.
pub(crate) fn reversal(record: &Record, credits: Nanocredits) -> DepositReversal {
    DepositReversal {
        namespace: NAME.into(),
        deposit: record.subject.parse().unwrap(),
        reverses_seq: record.seq,
        reverses_record_id: record.id,
        reverses_seal: record.seal,
        chain_id: ChainId(31337),
        block_hash: B256::repeat_byte(0x44),
        block_number: 100,
        canonical_hash: B256::repeat_byte(0x45),
        head_number: 140,
        head_hash: B256::repeat_byte(0x67),
        finality: "12 confirmations".into(),
        providers: vec!["one".into(), "two".into()],
        credits_nano: credits,
    }
}

/// What corrects the credit of a record, to another price of the token.
pub(crate) fn correction(
    record: &Record,
    deposit: DepositId,
    credited: Nanocredits,
    amount: RawAmount,
    price: &str,
    act: i64,
) -> DepositCorrection {
    let (credits, rate, conversion) = conversion(amount, price);
    DepositCorrection {
        namespace: NAME.into(),
        deposit,
        corrects_seq: record.seq,
        corrects_record_id: record.id,
        corrects_seal: record.seal,
        credited_nano: credited,
        reason: "the price was of another pair".into(),
        evidence: "ticket 12".into(),
        proposer: "alice".into(),
        approver: "bob".into(),
        act,
        act_hash: B256::repeat_byte(0x99),
        again: Valued {
            raw_amount: amount,
            decimals: 6,
            asset: "USDC".into(),
            epoch: "beta".into(),
            epoch_hash: B256::repeat_byte(0x77),
            rule: "convert".into(),
            credits_per_token: rate,
            conversion: Some(conversion),
            rounding: "down".into(),
            credits_nano: credits,
        },
    }
}

/// A part of a purchase, for a conversion of 100 tokens owed for 3 dollars.
pub(crate) fn settlement(part: u64, tx: u8) -> TreasurySettlement {
    TreasurySettlement {
        obligation_journal: JOURNAL,
        obligation_seq: 2,
        obligation_record_id: RecordId(B256::repeat_byte(0x21)),
        asset: "USDC".into(),
        obligation_usd_nano: Nanodollars(3_000_000_000),
        into_asset: "RTITY".into(),
        tokens: raw(100),
        chain_id: ChainId(8453),
        tx_hash: B256::repeat_byte(tx),
        block_hash: B256::repeat_byte(0x46),
        block_number: 5000,
        block_time_ms: 1_800_000_900_000,
        treasury: Address::repeat_byte(0x34),
        providers: vec!["one".into()],
        purchase_paid: raw(2_500_000),
        purchase_decimals: 6,
        purchase_tokens: raw(90),
        settled_tokens: raw(part),
    }
}
