//! `treasury`: what conversions owe in tokens, and the purchases that settle it.
//!
//! A purchase is read from the chain: it is what a final transaction moved to and from the
//! treasury's address. Nothing here can move money.

pub(in crate::cli) mod purchase;

use std::collections::BTreeMap;
use std::process::ExitCode;

use alloy::primitives::{B256, U512};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::open::open;
use crate::cli::print::{Output, print, print_data};
use crate::cli::treasury::purchase::{Purchase, read_purchase};
use crate::cli::words::{table, time};
use crate::config::Config;
use crate::domain::ids::ChainId;
use crate::domain::journal::{JournalId, RecordId, TreasurySettlement};
use crate::domain::money::{Nanodollars, Rate, RawAmount, display_total};
use crate::store::{Obligation, SettledPart, TreasurySettled};

#[derive(Debug, Subcommand)]
pub(super) enum TreasuryCommand {
    /// What conversions owe: sums by asset and chain, then one by one, oldest first. Prices are dollars a token, of
    /// what is owed and of what came in for just that.
    Obligations {
        /// Settled and void ones too.
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Settle open obligations, oldest first, with a purchase that the chain shows.
    #[command(
        after_help = "The transaction must move one stablecoin from treasury.address and tokens to it, and be final.\nExample:\n  topupd treasury settle --chain base --tx 0x…"
    )]
    Settle(SettleArgs),
}

#[derive(Debug, Args)]
pub(super) struct SettleArgs {
    /// Name of the chain in the configuration.
    #[arg(long)]
    chain: String,
    /// The transaction of the purchase.
    #[arg(long, value_name = "HASH")]
    tx: String,
    #[command(flatten)]
    output: Output,
}

pub(super) async fn treasury(
    config: Config,
    command: TreasuryCommand,
) -> Result<ExitCode, CliError> {
    match command {
        TreasuryCommand::Obligations { all, output } => obligations(&config, all, output).await,
        TreasuryCommand::Settle(args) => settle(&config, args).await,
    }
}

/// Stablecoin for a whole token: `in ÷ tokens`, rounded down to 18 digits.
fn price(paid: RawAmount, decimals: u8, tokens: RawAmount, token_decimals: u8) -> Option<Rate> {
    let scaled = |raw: RawAmount, by: u8| {
        U512::from(raw.0).checked_mul(U512::from(10).checked_pow(U512::from(by))?)
    };
    Rate::ratio_rounded_down(scaled(paid, token_decimals)?, scaled(tokens, decimals)?)
}

/// Dollars a whole token, of billionths of a dollar.
fn dollars_a_token(usd_nano: i128, tokens: RawAmount, token_decimals: u8) -> Option<Rate> {
    let nano = RawAmount(alloy::primitives::U256::from(u128::try_from(usd_nano).ok()?));
    price(nano, 9, tokens, token_decimals)
}

fn shown(price: Option<Rate>) -> String {
    price.map_or_else(|| "-".into(), |p| p.to_string())
}

/// Obligations that can be added up.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    asset: String,
    decimals: u8,
    into_asset: String,
    token_decimals: u8,
    chain: ChainId,
}

#[derive(Default)]
struct Sum {
    count: usize,
    usd_nano: i128,
    tokens: RawAmount,
    settled: RawAmount,
    open: RawAmount,
}

impl Sum {
    fn add(&mut self, o: &Obligation) -> Option<()> {
        self.count = self.count.checked_add(1)?;
        self.usd_nano = self.usd_nano.checked_add(i128::from(o.usd.0))?;
        self.tokens = self.tokens.checked_add(o.tokens)?;
        self.settled = self.settled.checked_add(o.settled)?;
        self.open = self.open.checked_add(o.open())?;
        Some(())
    }
}

fn sums(all: &[Obligation]) -> Result<BTreeMap<Group, Sum>, CliError> {
    let mut sums: BTreeMap<Group, Sum> = BTreeMap::new();
    for o in all.iter().filter(|o| !o.void) {
        let group = Group {
            asset: o.asset.clone(),
            decimals: o.decimals,
            into_asset: o.into_asset.clone(),
            token_decimals: o.token_decimals,
            chain: o.chain,
        };
        let too_large = || CliError::Failed("the obligations do not fit 256 bits".into());
        sums.entry(group).or_default().add(o).ok_or_else(too_large)?;
    }
    Ok(sums)
}

fn chain_name(config: &Config, chain: ChainId) -> String {
    crate::cli::open::chain_name(config, chain).map_or_else(|| chain.to_string(), str::to_owned)
}

async fn obligations(config: &Config, all: bool, output: Output) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let found = store.obligations(all).await?;
    store.close().await;
    let sums = sums(&found)?;
    if output.is_data() {
        let sums: Vec<Value> = sums.iter().map(|(g, s)| sum_json(config, g, s)).collect();
        let each: Vec<Value> = found.iter().map(|o| obligation_json(config, o)).collect();
        return print_data(output, json!({ "sums": sums, "obligations": each }));
    }
    if found.is_empty() {
        let what = if all { "owed anything yet" } else { "an open obligation" };
        return print(&format!("no conversion has {what}"));
    }
    print(&obligations_text(config, &sums, &found))
}

fn obligations_text(config: &Config, sums: &BTreeMap<Group, Sum>, found: &[Obligation]) -> String {
    let head = [
        "CHAIN",
        "ASSET",
        "DOLLARS",
        "OWED FOR THEM",
        "AVERAGE PRICE",
        "SETTLED",
        "OPEN",
        "OBLIGATIONS",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(sums.iter().map(|(g, s)| {
        vec![
            chain_name(config, g.chain),
            g.asset.clone(),
            display_total(s.usd_nano),
            format!("{} {}", s.tokens.display(g.token_decimals), g.into_asset),
            shown(dollars_a_token(s.usd_nano, s.tokens, g.token_decimals)),
            s.settled.display(g.token_decimals),
            s.open.display(g.token_decimals),
            s.count.to_string(),
        ]
    }));
    let head = [
        "SINCE",
        "CHAIN",
        "PAID",
        "BOUGHT BEFORE",
        "DOLLARS",
        "OWED FOR THEM",
        "PRICE",
        "SETTLED",
        "OPEN",
        "DEPOSIT",
    ];
    let mut each = vec![head.map(str::to_owned).to_vec()];
    each.extend(found.iter().map(|o| {
        let open = if o.void { "void".to_owned() } else { o.open().display(o.token_decimals) };
        vec![
            time(o.effective_at_ms),
            chain_name(config, o.chain),
            format!("{} {}", o.raw.display(o.decimals), o.asset),
            o.carried.display(o.token_decimals),
            display_total(i128::from(o.usd.0)),
            format!("{} {}", o.tokens.display(o.token_decimals), o.into_asset),
            shown(dollars_a_token(i128::from(o.usd.0), o.tokens, o.token_decimals)),
            o.settled.display(o.token_decimals),
            open,
            o.deposit.to_string(),
        ]
    }));
    format!("{}\n{}", table(&rows), table(&each))
}

fn sum_json(config: &Config, g: &Group, s: &Sum) -> Value {
    json!({
        "chain": g.chain, "chain_name": crate::cli::open::chain_name(config, g.chain), "asset": g.asset, "into": g.into_asset,
        "obligations": s.count,
        "dollars": display_total(s.usd_nano),
        "owed": s.tokens.display(g.token_decimals),
        "average_price": dollars_a_token(s.usd_nano, s.tokens, g.token_decimals),
        "settled": s.settled.display(g.token_decimals),
        "open": s.open.display(g.token_decimals),
    })
}

fn obligation_json(config: &Config, o: &Obligation) -> Value {
    json!({
        "namespace": o.namespace, "record_seq": o.place.seq, "record_id": o.record_id, "deposit_id": o.deposit,
        "chain": o.chain, "chain_name": crate::cli::open::chain_name(config, o.chain),
        "since_at": time(o.effective_at_ms),
        "asset": o.asset, "paid": o.raw.display(o.decimals),
        "bought_before": o.carried.display(o.token_decimals),
        "into": o.into_asset, "owed": o.tokens.display(o.token_decimals),
        "dollars": display_total(i128::from(o.usd.0)),
        "price": dollars_a_token(i128::from(o.usd.0), o.tokens, o.token_decimals),
        "settled": o.settled.display(o.token_decimals),
        "open": o.open().display(o.token_decimals), "void": o.void,
    })
}

async fn settle(config: &Config, args: SettleArgs) -> Result<ExitCode, CliError> {
    let tx: B256 = args.tx.parse().map_err(|_| {
        let problem = "is not a transaction; expected 0x and 64 hexadecimal digits";
        CliError::BadInput(format!("--tx {:?} {problem}", args.tx))
    })?;
    let purchase = read_purchase(config, &args.chain, tx).await?;
    let whole = TreasurySettlement {
        // What belongs to one obligation is filled in for each.
        obligation_journal: JournalId::HOUSE,
        obligation_seq: 0,
        obligation_record_id: RecordId(B256::ZERO),
        obligation_usd_nano: Nanodollars::ZERO,
        tokens: RawAmount::ZERO,
        settled_tokens: RawAmount::ZERO,
        asset: purchase.paid_asset.clone(),
        into_asset: purchase.asset.clone(),
        chain_id: purchase.chain,
        tx_hash: tx,
        block_hash: purchase.block.hash,
        block_number: purchase.block.number,
        block_time_ms: purchase.block.time_ms,
        treasury: purchase.treasury,
        providers: purchase.providers.clone(),
        purchase_paid: purchase.paid,
        purchase_decimals: purchase.paid_decimals,
        purchase_tokens: purchase.tokens,
    };
    let store = open(config).await?;
    let settled = store.settle_treasury(&whole).await?;
    store.close().await;
    let report = Report::of(&purchase, &settled)?;
    if args.output.is_data() {
        print_data(args.output, report.json())
    } else {
        print(&report.text())
    }
}

/// What a purchase came to, in sums over the obligations that it settled.
struct Report<'a> {
    purchase: &'a Purchase,
    settled: &'a TreasurySettled,
    tokens: RawAmount,
    owed_nano: i128,
    paid_nano: i128,
}

impl<'a> Report<'a> {
    fn of(purchase: &'a Purchase, settled: &'a TreasurySettled) -> Result<Self, CliError> {
        let parts = &settled.parts;
        let tokens = parts
            .iter()
            .try_fold(RawAmount::ZERO, |sum, p| sum.checked_add(p.cause.settled_tokens));
        let sum = |of: fn(&SettledPart) -> i64| {
            parts.iter().try_fold(0i128, |sum, part| sum.checked_add(i128::from(of(part))))
        };
        let (owed, paid) = (sum(|p| p.did.owed_usd_nano.0), sum(|p| p.did.paid_usd_nano.0));
        match (tokens, owed, paid) {
            (Some(tokens), Some(owed_nano), Some(paid_nano)) => {
                Ok(Self { purchase, settled, tokens, owed_nano, paid_nano })
            }
            _ => Err(CliError::Failed("what was settled does not fit".into())),
        }
    }

    /// Dollars a token, over what was settled. Billionths of a dollar have nine decimals.
    fn a_token(&self, nano: i128) -> Option<Rate> {
        (self.tokens > RawAmount::ZERO)
            .then(|| dollars_a_token(nano, self.tokens, self.purchase.decimals))?
    }

    /// What was paid more than owed, in billionths of a dollar; negative for less.
    fn lost(&self) -> i128 {
        self.paid_nano.saturating_sub(self.owed_nano)
    }

    /// The same in basis points of what was owed, to two decimals, towards zero.
    fn slippage_bps(&self) -> Option<String> {
        let hundredths = self.lost().checked_mul(1_000_000)?.checked_div(self.owed_nano)?;
        let digits = RawAmount(alloy::primitives::U256::from(hundredths.unsigned_abs())).display(2);
        let sign = match hundredths {
            0 => "",
            1.. => "+",
            _ => "-",
        };
        Some(format!("{sign}{digits}"))
    }

    fn text(&self) -> String {
        let p = self.purchase;
        let (paid, got) = (p.paid.display(p.paid_decimals), p.tokens.display(p.decimals));
        let mut rows = vec![
            ("purchase", format!("{} on {}", p.tx, p.chain_name)),
            (
                "block",
                format!(
                    "{} of {}, shown by {}",
                    p.block.number,
                    time(p.block.time_ms),
                    p.providers.join(", ")
                ),
            ),
            ("paid", format!("{paid} {} for {got} {}", p.paid_asset, p.asset)),
            ("price paid", shown(price(p.paid, p.paid_decimals, p.tokens, p.decimals))),
        ];
        if !self.settled.parts.is_empty() {
            let lost = self.lost();
            let (count, tokens) = (self.settled.parts.len(), self.tokens.display(p.decimals));
            let bps = self.slippage_bps().unwrap_or_else(|| "-".into());
            let word = match lost {
                0 => "no difference",
                1.. => "a loss",
                _ => "a gain",
            };
            let dollars = display_total(lost.saturating_abs());
            rows.extend([
                ("price owed", shown(self.a_token(self.owed_nano))),
                ("slippage", format!("{bps} bp")),
                ("difference", format!("{dollars} dollars, {word}")),
                ("settled", format!("{tokens} {} of {count} obligation(s)", p.asset)),
            ]);
        }
        rows.push(("left over", format!("{} {}", self.settled.left.display(p.decimals), p.asset)));
        let records: Vec<_> = self.settled.records.iter().map(i64::to_string).collect();
        let written = match (records.as_slice(), self.settled.parts.as_slice()) {
            ([], []) => "none: nothing of these two assets is owed".to_owned(),
            ([], _) => "none: this purchase was settled before, and nothing changed".to_owned(),
            (all, _) => all.join(", "),
        };
        rows.push(("records", written));
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
        table(&rows)
    }

    fn json(&self) -> Value {
        let p = self.purchase;
        json!({
            "chain": p.chain, "chain_name": p.chain_name, "tx_hash": p.tx,
            "block_number": p.block.number, "block_at": time(p.block.time_ms), "providers": p.providers,
            "asset": p.paid_asset, "paid": p.paid.display(p.paid_decimals),
            "into": p.asset, "tokens": p.tokens.display(p.decimals),
            "price_paid": price(p.paid, p.paid_decimals, p.tokens, p.decimals),
            "price_owed": self.a_token(self.owed_nano),
            "slippage_bps": self.slippage_bps(),
            "lost_dollars": display_total(self.lost()),
            "settled": self.tokens.display(p.decimals),
            "obligations": self.settled.parts.len(),
            "left": self.settled.left.display(p.decimals),
            "house_records": self.settled.records,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it was found: payment in dollars, tokens owed, what they stand for in billionths, tokens carried over.
    fn owed(paid: u128, tokens: &str, usd: i64, carried: &str) -> Obligation {
        let raw = |text: &str| RawAmount(text.parse().unwrap());
        Obligation {
            place: crate::store::RecordPlace { journal: JournalId(2), seq: 1 },
            record_id: RecordId(B256::ZERO),
            namespace: "bolt".into(),
            deposit: crate::domain::ids::DepositId(B256::ZERO),
            chain: ChainId(1),
            asset: "USDC".into(),
            raw: RawAmount(alloy::primitives::U256::from(paid)),
            decimals: 6,
            into_asset: "RTITY".into(),
            tokens: raw(tokens),
            token_decimals: 18,
            usd: Nanodollars(usd),
            carried: raw(carried),
            effective_at_ms: 0,
            settled: RawAmount::ZERO,
            void: false,
        }
    }

    fn price_of(o: &Obligation) -> String {
        shown(dollars_a_token(i128::from(o.usd.0), o.tokens, o.token_decimals))
    }

    /// A conversion that was settled, then corrected: only what was not bought yet is owed, and its price is that of
    /// the dollars that are left for it, not of the whole payment (4.015 and 0.1317 dollars a token).
    #[test]
    fn prices_are_of_what_is_owed_and_what_came_in_for_it() {
        let all_bought = owed(194_640_000, "48477711336497760630", 0, "9732231193186115304696");
        let a_part =
            owed(124_960_000, "948711431992085453949", 19_607_126_862, "5267768806813884695304");
        let whole = owed(382_570_000, "19128093596076194058461", 382_570_000_000, "0");
        assert_eq!(price_of(&all_bought), "0");
        assert_eq!(price_of(&a_part), "0.0206671135192598488");
        assert_eq!(price_of(&whole), "0.0200004249288323111");
        let sums = sums(&[all_bought, a_part, whole]).unwrap();
        let sum = sums.into_values().next().unwrap();
        assert_eq!(display_total(sum.usd_nano), "402.177126862");
        assert_eq!(sum.tokens.display(18), "20125.28273940477727304");
        let average = dollars_a_token(sum.usd_nano, sum.tokens, 18);
        assert_eq!(shown(average), "0.0199836758603419619");
    }
}
