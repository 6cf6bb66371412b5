//! What the house's records say of keys, epochs, policies, acts and purchases is what their rows say, and
//! no such row is without a record.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::B256;

use super::finding::{Findings, Remedy};
use crate::domain::acts::ActRow;
use crate::domain::journal::{Cause, EpochAdded, TreasurySettlement};
use crate::domain::log::history::KeyHistory;
use crate::domain::wallet::AccountXpub;
use crate::store::acts::rows::acts_by_number;
use crate::store::db::query::query;
use crate::store::db::{Row, Tx, bulk};
use crate::store::errors::StoreError;
use crate::store::rows::to_int;

/// What was noted of the house's records.
#[derive(Default)]
pub(super) struct HouseRows {
    acts: Vec<(String, ActRow)>,
    epochs: BTreeMap<String, (String, EpochAdded)>,
    policies: BTreeMap<B256, (String, String)>,
    xpubs: BTreeMap<String, String>,
    settlements: Vec<(String, TreasurySettlement)>,
    /// The log's keys and names, in their order.
    log: Vec<Cause>,
    /// How many acts there are.
    number_of_acts: i64,
}

impl HouseRows {
    pub(super) fn record(&mut self, name: &str, cause: Cause) {
        let name = name.to_owned();
        match cause {
            Cause::Act(act) => {
                self.number_of_acts = self.number_of_acts.saturating_add(1);
                self.acts.push((name, act.row()));
            }
            Cause::EpochAdded(epoch) => {
                self.epochs.insert(epoch.id.clone(), (name, epoch));
            }
            Cause::PolicyAdded(policy) => {
                self.policies.insert(policy.hash, (name, policy.body));
            }
            Cause::XpubRegistered(key) => {
                self.xpubs.insert(key.xpub, name);
            }
            Cause::LogKey(_) | Cause::LogResumed(_) => self.log.push(cause),
            Cause::TreasurySettled(settled) => self.settlements.push((name, *settled)),
            _ => {}
        }
    }

    /// Compares the acts and purchases of a page.
    pub(super) async fn check(
        &mut self,
        tx: &mut Tx,
        found: &mut Findings,
    ) -> Result<(), StoreError> {
        let acts = std::mem::take(&mut self.acts);
        let settlements = std::mem::take(&mut self.settlements);
        for checked in
            [compare_acts(tx, found, &acts).await, purchases(tx, found, &settlements).await]
        {
            if let Err(error) = checked {
                found.unreadable(error)?;
            }
        }
        Ok(())
    }

    /// Compares what there are few of, and looks for rows that no record made.
    pub(super) async fn close(&self, tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
        if let Err(error) = KeyHistory::of(&self.log) {
            found.add("records", "the log's keys", error, Remedy::NotOurs);
        }
        for checked in [
            self.epochs(tx, found).await,
            self.policies(tx, found).await,
            self.xpubs(tx, found).await,
            self.other_acts(tx, found).await,
        ] {
            if let Err(error) = checked {
                found.unreadable(error)?;
            }
        }
        Ok(())
    }

    async fn epochs(&self, tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
        let rows = all(tx, "SELECT epoch_id, starts_at_ms, body, body_hash FROM epochs").await?;
        let mut there = BTreeSet::new();
        for row in &rows {
            let id = row.text("epochs", "epoch_id")?;
            there.insert(id.clone());
            let Some((name, epoch)) = self.epochs.get(&id) else {
                found.add("epochs", &id, "no record of the house added it", Remedy::NotOurs);
                continue;
            };
            let body = row.text("epochs", "body")?;
            let read: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            let named = read.get("id").and_then(|v| v.as_str()) == Some(&id)
                && read.get("starts_at_ms").and_then(serde_json::Value::as_i64)
                    == Some(epoch.starts_at_ms);
            let claims = [
                (row.int("epochs", "starts_at_ms")? == epoch.starts_at_ms, "starts_at_ms"),
                (body == epoch.body && named, "body"),
                (row.b256("epochs", "body_hash")? == epoch.hash, "body_hash"),
            ];
            say(found, "epochs", &id, name, &claims);
        }
        for (id, (name, _)) in self.epochs.iter().filter(|(id, _)| !there.contains(*id)) {
            gone(found, "epochs", id, name);
        }
        Ok(())
    }

    async fn policies(&self, tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
        let rows = all(tx, "SELECT policy_hash, body FROM price_policies").await?;
        let mut there = BTreeSet::new();
        for row in &rows {
            let hash = row.b256("price_policies", "policy_hash")?;
            there.insert(hash);
            let Some((name, body)) = self.policies.get(&hash) else {
                let problem = "no record of the house added it";
                found.add("price_policies", hash, problem, Remedy::NotOurs);
                continue;
            };
            let same = row.text("price_policies", "body")? == *body;
            say(found, "price_policies", &hash.to_string(), name, &[(same, "body")]);
        }
        for (hash, (name, _)) in self.policies.iter().filter(|(hash, _)| !there.contains(*hash)) {
            gone(found, "price_policies", &hash.to_string(), name);
        }
        Ok(())
    }

    /// Account keys; the next index of each is beyond every one that was given out.
    async fn xpubs(&self, tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
        let rows = all(
            tx,
            "SELECT w.account_xpub, w.next_index,
                    (SELECT MAX(a.derivation_index) FROM addresses a
                      WHERE a.wallet_id = w.wallet_id) AS newest
             FROM wallets w",
        )
        .await?;
        let mut there = BTreeSet::new();
        for row in &rows {
            let xpub = row.text("wallets", "account_xpub")?;
            let label = match AccountXpub::parse(&xpub) {
                Ok(key) => format!("fingerprint {}", key.fingerprint()),
                Err(why) => why.to_string(),
            };
            if !self.xpubs.contains_key(&xpub) {
                let problem = "no record of the house registered this account key";
                found.add("wallets", &label, problem, Remedy::NotOurs);
            }
            let newest = row.opt_int("addresses", "newest")?.unwrap_or(-1);
            if row.int("wallets", "next_index")? <= newest {
                let problem = format!("next_index is not beyond {newest}, which was given out");
                found.add("wallets", &label, problem, Remedy::Recount);
            }
            there.insert(xpub);
        }
        for (_, name) in self.xpubs.iter().filter(|(xpub, _)| !there.contains(*xpub)) {
            gone(found, "wallets", "account_xpub", name);
        }
        Ok(())
    }

    async fn other_acts(&self, tx: &mut Tx, found: &mut Findings) -> Result<(), StoreError> {
        let rows = all(tx, "SELECT COUNT(*) AS acts FROM operator_acts").await?;
        let Some(row) = rows.first() else { return Ok(()) };
        if row.int("operator_acts", "acts")? == self.number_of_acts {
            return Ok(());
        }
        let rows = all(
            tx,
            "SELECT a.act_id FROM operator_acts a
             LEFT JOIN records q ON q.journal_id = 0 AND q.kind = 'act'
               AND q.subject = CAST(a.act_id AS TEXT)
             WHERE q.seq IS NULL ORDER BY a.act_id LIMIT 10",
        )
        .await?;
        for row in &rows {
            let act = row.int("operator_acts", "act_id")?;
            found.add(
                "operator_acts",
                format!("act {act}"),
                "no record of the house notes it",
                Remedy::NotOurs,
            );
        }
        Ok(())
    }
}

async fn all(tx: &mut Tx, sql: &'static str) -> Result<Vec<Row>, StoreError> {
    query(sql).fetch_all(tx).await.map_err(StoreError::from)
}

fn say(found: &mut Findings, table: &'static str, row: &str, name: &str, claims: &[(bool, &str)]) {
    for (_, column) in claims.iter().filter(|(same, _)| !same) {
        let problem = format!("{column} is not what record {name} says");
        found.add(table, row, problem, Remedy::PutBack);
    }
}

fn gone(found: &mut Findings, table: &'static str, row: &str, name: &str) {
    found.add(table, row, format!("the row that record {name} notes is gone"), Remedy::PutBack);
}

async fn compare_acts(
    tx: &mut Tx,
    found: &mut Findings,
    acts: &[(String, ActRow)],
) -> Result<(), StoreError> {
    let stored = acts_by_number(tx, acts.iter().map(|(_, act)| act.id)).await?;
    for (name, act) in acts {
        let label = format!("act {}", act.id);
        let Some(row) = stored.get(&act.id) else {
            gone(found, "operator_acts", &label, name);
            continue;
        };
        let claims = [
            (row.kind == act.kind, "kind"),
            (row.operator == act.operator, "operator"),
            (row.reason == act.reason, "reason"),
            (row.deposit == act.deposit, "deposit_id"),
            (row.chain == act.chain, "chain_id"),
            (row.block_hash == act.block_hash, "block_hash"),
            (row.pair == act.pair, "pair"),
            (row.price == act.price, "price"),
            (row.instant_ms == act.instant_ms, "instant_ms"),
            (row.approves == act.approves, "approves"),
            (row.approved_hash == act.approved_hash, "approved_hash"),
            (row.withdraws == act.withdraws, "withdraws"),
            (row.latch == act.latch, "latch"),
            (row.correction == act.correction, "correction"),
            (row.at_ms == act.at_ms, "at_ms"),
        ];
        say(found, "operator_acts", &label, name, &claims);
    }
    Ok(())
}

/// A purchase is what the settlements with it say. One that has settled nothing has no record.
async fn purchases(
    tx: &mut Tx,
    found: &mut Findings,
    settlements: &[(String, TreasurySettlement)],
) -> Result<(), StoreError> {
    const TABLE: &str = "purchases";
    let keys = settlements
        .iter()
        .map(|(_, s)| Ok(vec![to_int(s.chain_id.0, "chain id")?.into(), s.tx_hash.into()]))
        .collect::<Result<_, StoreError>>()?;
    let rows = bulk(
        "SELECT p.chain_id, p.tx_hash, p.block_hash, p.asset, p.paid, p.decimals, p.into_asset,
                p.tokens, p.evidence
         FROM {each} JOIN purchases p ON p.chain_id = r.column1 AND p.tx_hash = r.column2",
        keys,
    )
    .fetch_all(tx)
    .await?;
    let mut stored = BTreeMap::new();
    for row in rows {
        stored.insert((row.uint(TABLE, "chain_id")?, row.b256(TABLE, "tx_hash")?), row);
    }
    for (name, said) in settlements {
        let label = format!("transaction {}", said.tx_hash);
        let Some(row) = stored.get(&(said.chain_id.0, said.tx_hash)) else {
            gone(found, TABLE, &label, name);
            continue;
        };
        let evidence = serde_json::json!({
            "treasury": said.treasury, "providers": said.providers,
            "block_number": said.block_number,
        });
        let read: serde_json::Value =
            serde_json::from_str(&row.text(TABLE, "evidence")?).unwrap_or_default();
        let claims = [
            (row.b256(TABLE, "block_hash")? == said.block_hash, "block_hash"),
            (row.text(TABLE, "asset")? == said.asset, "asset"),
            (row.amount(TABLE, "paid")? == said.purchase_paid, "paid"),
            (row.uint8(TABLE, "decimals")? == said.purchase_decimals, "decimals"),
            (row.text(TABLE, "into_asset")? == said.into_asset, "into_asset"),
            (row.amount(TABLE, "tokens")? == said.purchase_tokens, "tokens"),
            (read == evidence, "evidence"),
        ];
        say(found, TABLE, &label, name, &claims);
    }
    Ok(())
}
