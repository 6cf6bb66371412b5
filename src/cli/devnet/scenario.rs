//! What a scenario file says: its chain, its namespaces, and its steps, one after the other.
//!
//! Only the words; how a step is done stands in `steps.rs`. `docs/scenarios.md` says them for people.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use alloy::primitives::Address;
use jiff::{Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, de};

use crate::domain::ids::NamespaceName;
use crate::text::line_of;

/// Most providers of the chain; each is a proxy in front of the one node.
pub(super) const PROVIDERS_MAX: usize = 4;

/// A scenario.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    /// What it shows, in a sentence.
    pub(super) name: String,
    /// Decides who pays, where a step does not say it.
    #[serde(default)]
    pub(super) seed: u64,
    #[serde(default)]
    pub(super) chain: Chain,
    /// With a market: price feeds, and a TGE.
    pub(super) market: Option<Market>,
    /// Whose payments are credited, and addresses that are imported for them besides the first derived one.
    #[serde(default = "acme_and_bolt")]
    pub(super) namespaces: BTreeMap<NamespaceName, Vec<Address>>,
    /// What happens.
    #[serde(rename = "step")]
    pub(super) steps: Vec<Step>,
}

fn acme_and_bolt() -> BTreeMap<NamespaceName, Vec<Address>> {
    ["acme", "bolt"].iter().filter_map(|name| Some((name.parse().ok()?, Vec::new()))).collect()
}

/// The chain.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Chain {
    pub(super) confirmations: u64,
    pub(super) providers: usize,
    /// The node's port; 0 for any.
    pub(super) port: u16,
    /// A state that was saved, to begin from.
    pub(super) state: Option<PathBuf>,
}

impl Default for Chain {
    fn default() -> Self {
        Self { confirmations: 3, providers: 1, port: 0, state: None }
    }
}

/// Prices by feeds, and the TGE.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Market {
    /// The TGE is so long after the beginning.
    #[serde(deserialize_with = "length")]
    pub(super) tge_after: Duration,
}

/// One thing that happens, or is to be so.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    /// A payment is sent; it is mined with the next block.
    Pay(Pay),
    /// Payments that a reorg dropped are sent again, the same bytes.
    Resend(Vec<String>),
    /// So many blocks are mined.
    Mine(u64),
    /// The newest blocks are replaced by others.
    Reorg(Reorg),
    /// A provider is so many blocks behind.
    Lag { provider: usize, blocks: u64 },
    /// A provider says something else of a payment than the chain.
    Lie(Lie),
    /// A provider does not answer.
    Away(usize),
    /// A provider is well again.
    Heal(usize),
    /// A price feed answers: USD for one of the asset.
    Price { asset: String, usd: String },
    /// Time is moved ahead: of the database, the daemon and the chain.
    Advance(#[serde(deserialize_with = "length")] Duration),
    /// It is waited until this is so.
    Wait(Expect),
    /// This is so now.
    Assert(Expect),
    /// The chain is saved in a file, from which a scenario can begin.
    Save(PathBuf),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pay {
    /// What later steps call it.
    #[serde(rename = "as")]
    pub(super) name: String,
    /// The namespace.
    pub(super) to: NamespaceName,
    pub(super) token: String,
    /// In tokens, such as 12.5.
    pub(super) amount: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reorg {
    pub(super) depth: u64,
    /// Payments that are not in the new blocks.
    #[serde(default)]
    pub(super) drop: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lie {
    pub(super) provider: usize,
    /// The payment.
    pub(super) about: String,
    pub(super) says: Says,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Says {
    /// There is no such transfer.
    Nothing,
    /// It is there twice.
    Twice,
    /// It is of so many tokens.
    Amount(String),
}

/// How things are to stand.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expect {
    /// Where payments stand: `credited`, `held (no_price)`; `unseen` for one that is not known.
    pub(super) stage: BTreeMap<String, String>,
    /// What namespaces have, in credits.
    pub(super) balance: BTreeMap<NamespaceName, String>,
    /// The kinds of all findings that are open.
    pub(super) findings: Option<Vec<String>>,
    /// Kinds of findings that were noted, open or not.
    pub(super) noted: Vec<String>,
}

/// A length of time: 90s, 36h, 2d.
pub(in crate::cli) fn parse_length(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a length of time such as 90s, 36h or 2d".to_owned();
    let span: Span = text.parse().map_err(|_| wrong())?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
    Duration::try_from(length).map_err(|_| "time never goes back".to_owned())
}

fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_length(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

impl Scenario {
    /// Reads a scenario, and what can be seen to be wrong in it before it begins.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let scenario: Self = toml::from_str(text).map_err(|e| {
            let line = line_of(text, e.span());
            format!("line {line}: {}", e.message().replace('\n', "; "))
        })?;
        let providers = scenario.chain.providers;
        if !(1..=PROVIDERS_MAX).contains(&providers) {
            return Err(format!("chain.providers is {providers}; allowed: 1 to {PROVIDERS_MAX}"));
        }
        let mut names: Vec<&str> = Vec::new();
        for (n, step) in scenario.steps.iter().enumerate() {
            let at = |problem: String| Err(format!("step {}: {problem}", n.saturating_add(1)));
            if let Step::Pay(pay) = step {
                if names.contains(&pay.name.as_str()) {
                    return at(format!("two payments are called {:?}", pay.name));
                }
                if !scenario.namespaces.contains_key(&pay.to) {
                    return at(format!("there is no namespace {}", pay.to));
                }
                names.push(&pay.name);
            }
            if let Some(unknown) = step.payments().into_iter().find(|name| !names.contains(name)) {
                return at(format!("no payment before it is called {unknown:?}"));
            }
            if let Some(provider) = step.provider().filter(|p| !(1..=providers).contains(p)) {
                return at(format!("provider {provider}; there are 1 to {providers}"));
            }
        }
        Ok(scenario)
    }
}

impl Step {
    /// The payments that it is about.
    fn payments(&self) -> Vec<&str> {
        match self {
            Self::Resend(names) | Self::Reorg(Reorg { drop: names, .. }) => {
                names.iter().map(String::as_str).collect()
            }
            Self::Lie(lie) => vec![&lie.about],
            Self::Wait(expect) | Self::Assert(expect) => {
                expect.stage.keys().map(String::as_str).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The provider that it is about, from 1.
    fn provider(&self) -> Option<usize> {
        match self {
            Self::Lag { provider, .. } | Self::Away(provider) | Self::Heal(provider) => {
                Some(*provider)
            }
            Self::Lie(lie) => Some(lie.provider),
            _ => None,
        }
    }

    /// It in a few words, for people.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Pay(Pay { name, to, token, amount }) => {
                format!("pay {amount} {token} to {to} ({name})")
            }
            Self::Resend(names) => format!("send {} again", names.join(", ")),
            Self::Mine(blocks) => format!("mine {blocks} block(s)"),
            Self::Reorg(Reorg { depth, drop }) if drop.is_empty() => {
                format!("replace the newest {depth} block(s)")
            }
            Self::Reorg(Reorg { depth, drop }) => {
                format!("replace the newest {depth} block(s), without {}", drop.join(", "))
            }
            Self::Lag { provider, blocks } => {
                format!("provider {provider} is {blocks} block(s) behind")
            }
            Self::Lie(Lie { provider, about, says }) => {
                let says = match says {
                    Says::Nothing => "is not there".to_owned(),
                    Says::Twice => "is there twice".to_owned(),
                    Says::Amount(amount) => format!("is of {amount} tokens"),
                };
                format!("provider {provider} says that {about} {says}")
            }
            Self::Away(provider) => format!("provider {provider} does not answer"),
            Self::Heal(provider) => format!("provider {provider} is well again"),
            Self::Price { asset, usd } => format!("the feed says {usd} USD for one {asset}"),
            Self::Advance(by) => format!("{:#} pass", span(*by)),
            Self::Wait(expect) => format!("wait until {}", expect.words()),
            Self::Assert(expect) => expect.words(),
            Self::Save(file) => format!("save the chain in {}", file.display()),
        }
    }
}

fn span(by: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(by).unwrap_or(jiff::SignedDuration::MAX)
}

impl Expect {
    fn words(&self) -> String {
        let mut all: Vec<String> = Vec::new();
        all.extend(self.stage.iter().map(|(name, stage)| format!("{name} is {stage}")));
        all.extend(self.balance.iter().map(|(name, credits)| format!("{name} has {credits}")));
        all.extend(self.noted.iter().map(|kind| format!("{kind} was noted")));
        all.extend(self.findings.iter().map(|kinds| match &kinds[..] {
            [] => "no finding is open".to_owned(),
            kinds => format!("open findings: {}", kinds.join(", ")),
        }));
        if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_before_anything_begins() {
        let step = |text: &str| format!("name = \"x\"\n[[step]]\n{text}\n");
        let pay =
            "[[step]]\npay = { as = \"a\", to = \"acme\", token = \"USDC\", amount = \"1\" }\n";
        for (text, why) in [
            (step("dance = 1"), "dance"),
            (step("mine = 1\npay = 2"), "line 2: "),
            (step("resend = [\"a\"]"), "step 1: no payment before it is called \"a\""),
            (step("away = 2"), "step 1: provider 2; there are 1 to 1"),
            (step("advance = \"soon\""), "90s, 36h or 2d"),
            (step("assert = { stages = {} }"), "stages"),
            (format!("name = \"x\"\n{pay}{pay}"), "step 2: two payments are called \"a\""),
            ("name = \"x\"\nstep = []\n[chain]\nproviders = 9".to_owned(), "1 to 4"),
        ] {
            let error = Scenario::parse(&text).unwrap_err();
            assert!(error.contains(why) && !error.contains('\n'), "{text}: {error}");
        }
    }
}
