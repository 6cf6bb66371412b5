//! `treasury`: what conversions owe in tokens, and the purchases that settle it.
//!
//! A purchase is read from the chain: it is what a final transaction moved to and from the
//! treasury's address. Nothing here can move money.

use std::collections::BTreeMap;
use std::process::ExitCode;

use alloy::primitives::{B256, U512};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::purchase::{Purchase, read_purchase};
use super::{CliError, Output, open, print, print_json, table, time};
use crate::config::Config;
use crate::domain::ids::ChainId;
use crate::domain::journal::{JournalId, RecordId, TreasurySettlement};
use crate::domain::money::{Nanodollars, Rate, RawAmount, display_total};
use crate::store::{Obligation, SettledPart, TreasurySettled};

#[derive(Debug, Subcommand)]
pub(super) enum TreasuryCommand {
    /// What conversions owe: sums by asset and chain, then one by one, oldest first.
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
    raw: RawAmount,
    tokens: RawAmount,
    settled: RawAmount,
    open: RawAmount,
}

impl Sum {
    fn add(&mut self, o: &Obligation) -> Option<()> {
        self.count = self.count.checked_add(1)?;
        self.raw = self.raw.checked_add(o.raw)?;
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
    super::chain_name(config, chain).map_or_else(|| chain.to_string(), str::to_owned)
}

async fn obligations(config: &Config, all: bool, output: Output) -> Result<ExitCode, CliError> {
    let store = open(config).await?;
    let found = store.obligations(all).await?;
    store.close().await;
    let sums = sums(&found)?;
    if output.json {
        let sums: Vec<Value> = sums.iter().map(|(g, s)| sum_json(config, g, s)).collect();
        let each: Vec<Value> = found.iter().map(|o| obligation_json(config, o)).collect();
        return print_json(json!({ "sums": sums, "obligations": each }));
    }
    if found.is_empty() {
        let what = if all { "owed anything yet" } else { "an open obligation" };
        return print(&format!("no conversion has {what}"));
    }
    let head = ["CHAIN", "CAME IN", "OWED", "AVERAGE PRICE", "SETTLED", "OPEN", "OBLIGATIONS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(sums.iter().map(|(g, s)| {
        vec![
            chain_name(config, g.chain),
            format!("{} {}", s.raw.display(g.decimals), g.asset),
            format!("{} {}", s.tokens.display(g.token_decimals), g.into_asset),
            shown(price(s.raw, g.decimals, s.tokens, g.token_decimals)),
            s.settled.display(g.token_decimals),
            s.open.display(g.token_decimals),
            s.count.to_string(),
        ]
    }));
    let head = ["SINCE", "CHAIN", "CAME IN", "OWED", "PRICE", "SETTLED", "OPEN", "DEPOSIT"];
    let mut each = vec![head.map(str::to_owned).to_vec()];
    each.extend(found.iter().map(|o| {
        let open = if o.void { "void".to_owned() } else { o.open().display(o.token_decimals) };
        vec![
            time(o.effective_at_ms),
            chain_name(config, o.chain),
            format!("{} {}", o.raw.display(o.decimals), o.asset),
            format!("{} {}", o.tokens.display(o.token_decimals), o.into_asset),
            shown(price(o.raw, o.decimals, o.tokens, o.token_decimals)),
            o.settled.display(o.token_decimals),
            open,
            o.deposit.to_string(),
        ]
    }));
    print(&format!("{}\n{}", table(&rows), table(&each)))
}

fn sum_json(config: &Config, g: &Group, s: &Sum) -> Value {
    json!({
        "chain": g.chain, "chain_name": super::chain_name(config, g.chain), "asset": g.asset, "into": g.into_asset,
        "obligations": s.count,
        "came_in": s.raw.display(g.decimals),
        "owed": s.tokens.display(g.token_decimals),
        "average_price": price(s.raw, g.decimals, s.tokens, g.token_decimals),
        "settled": s.settled.display(g.token_decimals),
        "open": s.open.display(g.token_decimals),
    })
}

fn obligation_json(config: &Config, o: &Obligation) -> Value {
    json!({
        "namespace": o.namespace, "record_seq": o.place.seq, "record_id": o.record_id, "deposit_id": o.deposit,
        "chain": o.chain, "chain_name": super::chain_name(config, o.chain),
        "since_at": time(o.effective_at_ms),
        "asset": o.asset, "came_in": o.raw.display(o.decimals),
        "into": o.into_asset, "owed": o.tokens.display(o.token_decimals),
        "price": price(o.raw, o.decimals, o.tokens, o.token_decimals),
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
    if args.output.json { print_json(report.json()) } else { print(&report.text()) }
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
        let nano = RawAmount(alloy::primitives::U256::from(u128::try_from(nano).ok()?));
        (self.tokens > RawAmount::ZERO)
            .then(|| price(nano, 9, self.tokens, self.purchase.decimals))?
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
