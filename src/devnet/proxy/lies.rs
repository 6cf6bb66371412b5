//! Answers that look right and are not: older ones, and logs and receipts with something changed.
//!
//! What a node says wrongly is made from what the real one says at that moment.

use std::sync::Arc;

use alloy::primitives::{B256, U64, U256};
use serde_json::{Value, json};

use super::faults::{Fault, Lie, Rule};
use crate::devnet::proxy::call::Call;
use crate::devnet::proxy::shared::Shared;

/// The tip that a node which is behind believes in.
pub(super) struct Ceiling {
    head: u64,
    height: u64,
}

impl Shared {
    /// `None` when no rule says that the node is behind, or it is not.
    pub(super) async fn ceiling(&self, rules: &[Arc<Rule>]) -> Result<Option<Ceiling>, String> {
        if !rules.iter().any(|r| lag(r.fault, 0).is_some()) {
            return Ok(None);
        }
        let head = height_of(&self.ask("eth_blockNumber", json!([])).await?).unwrap_or_default();
        let height = rules.iter().filter_map(|r| lag(r.fault, head)).min().unwrap_or(head);
        Ok((height < head).then_some(Ceiling { head, height }))
    }

    /// What a node that is behind answers: `result` or `error`. `None` when it is what any answers.
    /// Fails when the node does not answer, or refuses what any node knows.
    pub(super) async fn behind(
        &self,
        call: &Call,
        Ceiling { head, height }: Ceiling,
    ) -> Result<Option<Value>, String> {
        let above = |number: Option<u64>| number.is_some_and(|number| number > height);
        let null = Some(json!({ "result": null }));
        let first = call.param(0);
        Ok(match call.method.as_str() {
            "eth_blockNumber" => Some(json!({ "result": U64::from(height) })),
            "eth_getBlockByNumber" | "eth_getBlockReceipts" => {
                let number = match first.as_str() {
                    Some("latest" | "pending") => height,
                    Some("safe" | "finalized") => {
                        let tagged = self.ask("eth_getBlockByNumber", json!([first, false]));
                        let tagged = height_of(&tagged.await?["number"]).unwrap_or_default();
                        tagged.saturating_sub(head.saturating_sub(height))
                    }
                    Some(_) if above(height_of(&first)) => return Ok(null),
                    // A height that it knows, "earliest", or a hash.
                    _ => return self.unless_above(call, height).await,
                };
                let mut params = call.request["params"].clone();
                params[0] = json!(U64::from(number));
                Some(self.ask_instead(call, params).await?)
            }
            "eth_getBlockByHash" | "eth_getTransactionByHash" | "eth_getTransactionReceipt" => {
                self.unless_above(call, height).await?
            }
            "eth_getLogs" if first["blockHash"].is_string() => {
                let block = json!([first["blockHash"], false]);
                let block = self.ask("eth_getBlockByHash", block).await?;
                let unknown = json!({ "error": { "code": -32000, "message": "unknown block" } });
                above(height_of(&block["number"])).then_some(unknown)
            }
            "eth_getLogs" if above(height_of(&first["fromBlock"])) => Some(json!({ "result": [] })),
            "eth_getLogs" if height_of(&first["toBlock"]).is_none_or(|to| to > height) => {
                let mut filter = first;
                // From "latest" or from nothing means from the tip.
                if height_of(&filter["fromBlock"]).is_none() {
                    filter["fromBlock"] = json!(U64::from(height));
                }
                filter["toBlock"] = json!(U64::from(height));
                Some(self.ask_instead(call, json!([filter])).await?)
            }
            _ => None,
        })
    }

    /// `null` for a block, or for what is in a block, above this height.
    async fn unless_above(&self, call: &Call, height: u64) -> Result<Option<Value>, String> {
        let answer = self.ask(&call.method, call.request["params"].clone()).await?;
        let one = answer.get(0).unwrap_or(&answer); // receipts of a block are a list
        let number = height_of(&one["blockNumber"]).or_else(|| height_of(&one["number"]));
        Ok(number.is_some_and(|n| n > height).then(|| json!({ "result": null })))
    }
}

/// The height that a fault leaves of a tip; `None` when it is about something else.
pub(super) fn lag(fault: Fault, head: u64) -> Option<u64> {
    match fault {
        Fault::Behind(blocks) => Some(head.saturating_sub(blocks)),
        Fault::StuckAt(height) => Some(height),
        _ => None,
    }
}

/// Changes the answer to a call as the rule says; false when there is nothing to change.
pub(super) fn alter(call: &Call, rule: &Rule, result: &mut Value) -> bool {
    if let (Fault::Doubled, "eth_call", Some(text)) =
        (rule.fault, call.method.as_str(), result.as_str())
        && text.len() == 2 + 5 * 64
        // The second word of a round is its answer.
        && let (Some(before), Some(word), Some(after)) =
            (text.get(..66), text.get(66..130), text.get(130..))
        && let Ok(answer) = word.parse::<B256>()
    {
        let doubled = U256::from_be_bytes(answer.0).saturating_mul(U256::from(2));
        *result = json!(format!("{before}{doubled:064x}{after}"));
        return true;
    }

    match (call.method.as_str(), rule.fault) {
        ("eth_getLogs", Fault::Logs(lie)) => lie_about(result, lie, rule),
        ("eth_getBlockByHash", Fault::HashesOtherwise) if result.is_object() => {
            result["gasUsed"] = json!("0x7");
            true
        }
        ("eth_getTransactionReceipt", Fault::NoReceipt) if is_of(result, rule) => {
            !std::mem::take(result).is_null()
        }
        ("eth_getTransactionReceipt", Fault::Receipt(lie)) if is_of(result, rule) => {
            lie_about(&mut result["logs"], lie, rule)
        }
        ("eth_getBlockReceipts", fault) => {
            let Some(receipts) = result.as_array_mut() else { return false };
            let before = receipts.len();
            if let Fault::NoReceipt = fault {
                receipts.retain(|receipt| !is_of(receipt, rule));
            }
            let mut changed = receipts.len() != before;
            if let Fault::Receipt(lie) = fault {
                for receipt in receipts.iter_mut().filter(|receipt| is_of(receipt, rule)) {
                    changed |= lie_about(&mut receipt["logs"], lie, rule);
                }
            }
            changed
        }
        _ => false,
    }
}

/// True for a log or a receipt of the rule's transaction, or of any.
fn is_of(value: &Value, rule: &Rule) -> bool {
    rule.tx.is_none_or(|tx| value["transactionHash"] == json!(tx))
}

fn lie_about(logs: &mut Value, lie: Lie, rule: &Rule) -> bool {
    let Some(logs) = logs.as_array_mut() else { return false };
    let Some(last) = logs.iter().rposition(|log| is_of(log, rule)) else { return false };
    match lie {
        Lie::Empty => logs.retain(|log| !is_of(log, rule)),
        Lie::LastMissing => drop(logs.remove(last)),
        Lie::LastTwice => {
            let twice = logs.get(last).cloned().unwrap_or_default();
            logs.insert(last, twice);
        }
        Lie::Shifted(by) => {
            for log in logs.iter_mut().filter(|log| is_of(log, rule)) {
                let index = height_of(&log["logIndex"]).unwrap_or_default();
                log["logIndex"] = json!(U64::from(index.saturating_add(by)));
            }
        }
        Lie::Amount(amount) => {
            for log in logs.iter_mut().filter(|log| is_of(log, rule)) {
                log["data"] = word(amount);
            }
        }
        Lie::Invented(invention) => {
            let mut log = logs.get(last).cloned().unwrap_or_default();
            let highest = logs.iter().filter_map(|log| height_of(&log["logIndex"])).max();
            log["logIndex"] = json!(U64::from(highest.unwrap_or_default().saturating_add(1)));
            if let Some(amount) = invention.amount {
                log["data"] = word(amount);
            }
            if let Some(to) = invention.to {
                log["topics"][2] = json!(to.into_word());
            }
            if let Some(tx) = invention.tx {
                log["transactionHash"] = json!(tx);
            }
            logs.push(log);
        }
    }
    true
}

fn word(amount: U256) -> Value {
    json!(B256::from(amount))
}

/// A height, or `None` for a tag, a hash or nothing.
pub(super) fn height_of(value: &Value) -> Option<u64> {
    u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).ok()
}
