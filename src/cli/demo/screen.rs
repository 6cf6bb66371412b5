//! What the demo shows: a bar for each payment under way, a line for each that is credited.
//!
//! Without a terminal there are no bars, only lines.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::domain::deposit::Stage;
use crate::domain::ids::DepositId;
use crate::store::DepositRow;

/// Bars at once; more would not fit a screen.
const BARS_MAX: usize = 20;

pub(in crate::cli) struct Screen {
    bars: Option<MultiProgress>,
    total: ProgressBar,
    open: BTreeMap<DepositId, ProgressBar>,
    last: BTreeMap<DepositId, Stage>,
}

impl Screen {
    pub(in crate::cli) fn new() -> Self {
        let bars = std::io::stderr().is_terminal().then(MultiProgress::new);
        let total = match &bars {
            Some(bars) => bars.add(ProgressBar::new(0)),
            None => ProgressBar::hidden(),
        };
        total.set_style(style("credited {pos} of {len} payments  {elapsed}"));
        Self { bars, total, open: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// A line that stays.
    pub(in crate::cli) fn say(&self, line: &str) {
        match &self.bars {
            Some(bars) => drop(bars.println(line)),
            None => drop(crate::cli::print::print(line)),
        }
    }

    pub(in crate::cli) fn paid(&self, amount: &str, namespace: &str) {
        if self.bars.is_none() {
            self.say(&format!("paid: {amount} to {namespace}"));
        }
    }

    /// Where a deposit stands now; `wanted` confirmations make it final.
    pub(in crate::cli) fn deposit(&mut self, deposit: &DepositRow, what: &str, wanted: u64) {
        let before = self.last.insert(deposit.id, deposit.stage);
        if deposit.stage == Stage::Credited {
            if before != Some(Stage::Credited) {
                if let Some(bar) = self.open.remove(&deposit.id) {
                    bar.finish_and_clear();
                }
                let credits = deposit.credits.map(|c| c.to_string()).unwrap_or_default();
                self.say(&format!("credited: {what}  {credits} credits"));
            }
            return;
        }
        if let Stage::Held(reason) = deposit.stage
            && before != Some(deposit.stage)
            && self.bars.is_some()
        {
            self.say(&format!("held ({}): {what}", reason.as_str()));
        }
        let confirmations = deposit.confirmations.min(wanted);
        if let Some(bars) = &self.bars {
            if !self.open.contains_key(&deposit.id) && self.open.len() >= BARS_MAX {
                return;
            }
            let bar = self.open.entry(deposit.id).or_insert_with(|| {
                let bar = bars.insert_before(&self.total, ProgressBar::new(wanted));
                bar.set_style(style("{prefix} {bar:12} {pos:>2}/{len} {msg}"));
                bar.set_prefix(what.to_owned());
                bar
            });
            bar.set_position(confirmations);
            bar.set_message(deposit.stage.to_string());
        } else if before != Some(deposit.stage) {
            self.say(&format!("{}: {what}  {confirmations}/{wanted}", deposit.stage));
        }
    }

    pub(in crate::cli) fn total(&self, credited: usize, paid: usize) {
        self.total.set_length(u64::try_from(paid).unwrap_or(u64::MAX));
        self.total.set_position(u64::try_from(credited).unwrap_or(u64::MAX));
    }

    /// Takes the bars away; the lines stay.
    pub(in crate::cli) fn close(&mut self) {
        for bar in std::mem::take(&mut self.open).into_values() {
            bar.finish_and_clear();
        }
        self.total.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
