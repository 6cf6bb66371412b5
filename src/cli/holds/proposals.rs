//! What was proposed and waits for a second person: for `holds list`. What a proposal comes to, `holds show ACT` says.

use serde_json::{Value, json};

use crate::cli::dialect::with;
use crate::cli::error::CliError;
use crate::cli::holds::acts::{Stands, act_json, stands, what};
use crate::cli::words::{table, time};
use crate::domain::acts::ActRow;
use crate::domain::correction::ProposedCorrection;
use crate::store::{DepositRow, Store};

/// A proposal that nobody decided about, and the payment that it is about.
pub(in crate::cli) struct Proposal {
    act: ActRow,
    stands: Stands,
    deposit: DepositRow,
}

impl Proposal {
    /// The command by which another operator approves it. Where its price must be said twice, the command says so.
    fn approves(&self) -> String {
        let (number, hash) = (self.act.id, self.act.hash());
        let command = match ProposedCorrection::of(&self.act) {
            Some(proposed) => {
                format!("ledger correct {}/{}", self.deposit.namespace, proposed.corrects_seq)
            }
            None => format!("holds resolve {}", self.deposit.id),
        };
        format!("topupd {command} --approve {number} --hash {hash} --operator NAME --reason TEXT")
    }

    pub(in crate::cli) fn json(&self) -> Value {
        let more = json!({
            "namespace": self.deposit.namespace, "stage": self.deposit.stage.as_str(),
            "shown_by": format!("topupd holds show {}", self.act.id),
            "approved_by": self.approves(),
        });
        with(act_json(&self.act, Some(&self.stands)), more)
    }
}

/// The proposals that wait for a second person, newest first.
pub(in crate::cli) async fn proposals(store: &Store) -> Result<Vec<Proposal>, CliError> {
    let mut open = Vec::new();
    for act in store.open_proposals().await? {
        let Some(id) = act.deposit else { continue };
        let acts = store.acts_of(id).await?;
        let Some(detail) = store.deposit(id).await? else { continue };
        let Some(stands) = stands(&act, &acts, &detail.deposit) else { continue };
        if stands.is_open() {
            open.push(Proposal { act, stands, deposit: detail.deposit });
        }
    }
    Ok(open)
}

/// A line for each, and below it how it is looked at and approved; empty where there are none.
pub(in crate::cli) fn proposals_text(open: &[Proposal]) -> String {
    if open.is_empty() {
        return String::new();
    }
    let head = ["ACT", "PROPOSED", "BY", "NAMESPACE", "WHAT", "DEPOSIT"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(open.iter().map(|p| {
        vec![
            p.act.id.to_string(),
            time(p.act.at_ms),
            p.act.operator.clone(),
            p.deposit.namespace.clone(),
            what(&p.act),
            p.deposit.id.to_string(),
        ]
    }));
    let listed = table(&rows);
    let mut lines = listed.lines();
    let mut text = "\nwait for a second person\n".to_owned();
    text.extend(lines.next().map(|line| format!("{line}\n")));
    for (line, p) in lines.zip(open) {
        text.push_str(&format!(
            "{line}\n    {}; another operator looks at it with: topupd holds show {}\n    and approves it with: {}\n",
            p.stands.text,
            p.act.id,
            p.approves()
        ));
    }
    text
}
