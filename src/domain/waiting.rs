//! What a deposit waits for, in words: facts in, words out. Everything that is not finished waits for
//! something, and says for what.

use super::deposit::{HoldReason, Stage};
use super::finality::Finality;

/// What only the settle task knows of a payment that is deep enough and does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Too few providers could say that its block is there and as deep, and what its receipt says.
    Witness,
    /// Nobody who was asked shows its receipt.
    Receipt,
    /// Nobody has shown receipts that hash to its block's hash.
    Proof,
    /// Whoever is asked before a credit has not answered.
    Screening,
}

impl Wait {
    /// As it is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Witness => "witness",
            Self::Receipt => "receipt",
            Self::Proof => "proof",
            Self::Screening => "screening",
        }
    }

    /// What is stored.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Witness, Self::Receipt, Self::Proof, Self::Screening];
        all.into_iter().find(|wait| wait.as_str() == text)
    }
}

/// How a provider stands, as it was noted last.
#[derive(Debug, Clone, Default)]
pub struct ProviderFacts {
    /// Name.
    pub name: String,
    /// `ok`, or why it is not asked first.
    pub state: String,
    /// The height of its tip.
    pub head: Option<u64>,
    /// The height of its `safe` block.
    pub safe: Option<u64>,
    /// The height of its `finalized` block.
    pub finalized: Option<u64>,
}

/// How a chain stands.
#[derive(Debug, Clone, Default)]
pub struct ChainFacts {
    /// A daemon holds its lease.
    pub followed: bool,
    /// It stands still until an operator decides.
    pub halted: bool,
    /// What the providers contradict each other about.
    pub contested: Vec<String>,
    /// Its providers.
    pub providers: Vec<ProviderFacts>,
}

/// What is known of a deposit.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Where it stands.
    pub stage: Stage,
    /// Height of its block.
    pub block: u64,
    /// Confirmations now.
    pub confirmations: u64,
    /// Its chain and what its policy asks; `None` when it is not in the configuration.
    pub chain: Option<(&'a ChainFacts, Finality)>,
    /// What the settle task noted, and the failure it met, if it met one.
    pub noted: Option<(Wait, &'a str)>,
    /// How far the old blocks are read that may show where its money went before.
    pub reading: Option<String>,
    /// What is wrong with the prices that it needs.
    pub prices: &'a [String],
    /// What is missing before it is worth crediting.
    pub more: Option<More>,
}

/// What a payment below the minimum is held for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum More {
    /// So much more of its token.
    Money(String),
    /// Enough has come: a price of what it is credited together with.
    Prices,
}

/// What a deposit waits for.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Waiting {
    /// A word for machines.
    pub code: &'static str,
    /// For people; continues "it waits for".
    pub text: String,
}

fn waiting(code: &'static str, text: impl Into<String>) -> Option<Waiting> {
    Some(Waiting { code, text: text.into() })
}

/// Characters of what a source says that are repeated.
const SAID_MAX: usize = 160;

/// Why a source gives no price of a pair, as one line of bounded length: others wrote some of it.
pub fn gives_none(source: &str, pair: &str, why: &str) -> String {
    let mut text = format!("{source} of {pair}: ");
    for c in why.chars().take(SAID_MAX) {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    text.extend(why.chars().nth(SAID_MAX).map(|_| '…'));
    text
}

/// What it waits for; `None` when it is finished.
pub fn waiting_for(facts: &Facts<'_>) -> Option<Waiting> {
    match facts.stage {
        Stage::Credited | Stage::Reversed | Stage::Ignored(_) => return None,
        Stage::Orphaned => {
            return waiting(
                "mined_again",
                "its transaction to be mined again: its block is not in the chain any more",
            );
        }
        Stage::Pending | Stage::Confirmed | Stage::Priced | Stage::Held(_) => {}
    }
    let Some((chain, finality)) = facts.chain else {
        return waiting(
            "chain_not_configured",
            "its chain to be configured again: it is not in the configuration any more",
        );
    };
    if let Stage::Held(reason) = facts.stage {
        return held(reason, facts);
    }
    if chain.halted {
        return waiting(
            "chain_halted",
            "an operator: its chain stands still, because a provider shows a fork that is deeper than can be taken back",
        );
    }
    if !chain.followed {
        return waiting("nobody_follows", "a daemon: nobody follows its chain now");
    }
    match facts.stage {
        Stage::Confirmed => price(facts),
        Stage::Priced => waiting("posting", "its posting, which is written next"),
        _ => pending(facts, chain, finality),
    }
}

/// What a payment waits for that nobody has confirmed yet.
fn pending(facts: &Facts<'_>, chain: &ChainFacts, finality: Finality) -> Option<Waiting> {
    let tag = |of: fn(&ProviderFacts) -> Option<u64>| chain.providers.iter().filter_map(of).max();
    // The highest that any provider has told: two must have it, which is said below.
    let (name, told) = match finality {
        // The tip that is followed is one that two have: what one alone has is no confirmation.
        Finality::Confirmations(_)
            if chain.contested.is_empty() && alone(facts.block, chain, finality) =>
        {
            return witness(facts, chain, finality, "");
        }
        Finality::Confirmations(wanted) if facts.confirmations < wanted => {
            let text = format!("confirmations {}/{wanted}", facts.confirmations);
            return waiting("confirmations", text);
        }
        Finality::Confirmations(_) => ("", Some(u64::MAX)),
        Finality::Safe => ("safe", tag(|p| p.safe)),
        Finality::Finalized => ("finalized", tag(|p| p.finalized)),
    };
    match told {
        // Nobody asks how deep it is before that is known: what was told last may be old.
        _ if facts.reading.is_some() => {}
        None => {
            let text = format!("the {name} block: no provider has told one yet");
            return waiting(if name == "safe" { "safe" } else { "finalized" }, text);
        }
        Some(at) if at < facts.block => {
            let text =
                format!("the {name} block: it is {at}, the payment is in block {}", facts.block);
            return waiting(if name == "safe" { "safe" } else { "finalized" }, text);
        }
        Some(_) => {}
    }
    if let Some(read) = &facts.reading {
        let text = format!("old blocks, which may show where its money went before: {read}");
        return waiting("backfill", text);
    }
    if let Some(about) = chain.contested.first() {
        let text = format!("the providers to agree: they contradict each other about {about}");
        return waiting("providers_contradict", text);
    }
    match facts.noted {
        None => waiting("receipt", "its receipt, which is read next"),
        Some((Wait::Receipt, _)) => {
            waiting("receipt_missing", "its receipt: no provider that was asked shows one yet")
        }
        Some((Wait::Proof, _)) => waiting(
            "proof",
            "a proof of its receipt: no provider has shown one that fits its block yet",
        ),
        Some((Wait::Screening, why)) => {
            waiting("screening", format!("an answer of the screening: {why}"))
        }
        Some((Wait::Witness, why)) => witness(facts, chain, finality, why),
    }
}

/// True where one of several providers has the block deep enough, and no other one that works.
fn alone(block: u64, chain: &ChainFacts, finality: Finality) -> bool {
    let Some(wanted) = finality.tip_for(block) else { return false };
    let deep = chain.providers.iter().filter(|p| p.head.is_some_and(|head| head >= wanted));
    let working = deep.clone().filter(|p| p.state == "ok").count();
    chain.providers.len() >= 2 && deep.count() > 0 && working < 2
}

/// Which provider is missing, and why.
fn witness(
    facts: &Facts<'_>,
    chain: &ChainFacts,
    finality: Finality,
    why: &str,
) -> Option<Waiting> {
    let lacks = |p: &ProviderFacts| {
        let (what, at) = match finality {
            Finality::Confirmations(_) => ("was last at", p.head),
            Finality::Safe => ("had its safe block last at", p.safe),
            Finality::Finalized => ("had its finalized block last at", p.finalized),
        };
        let wanted = finality.tip_for(facts.block).unwrap_or(facts.block);
        match at {
            _ if p.state != "ok" => Some(format!("{}: {}", p.name, p.state)),
            Some(at) if at < wanted => Some(format!("{} {what} block {at}", p.name)),
            _ => None,
        }
    };
    let mut missing: Vec<String> = chain.providers.iter().filter_map(lacks).collect();
    if missing.is_empty() && !why.is_empty() {
        missing.push(why.to_owned());
    }
    let missing = missing.join("; ");
    let colon = if missing.is_empty() { "" } else { ": " };
    if chain.providers.len() < 2 {
        return waiting("provider", format!("an answer of its provider{colon}{missing}"));
    }
    let text = format!("a second provider that has its block as deep{colon}{missing}");
    waiting("second_provider", text)
}

fn price(facts: &Facts<'_>) -> Option<Waiting> {
    match facts.prices {
        [] => waiting(
            "price",
            "its price: its sources are asked until they answer, or it is put on hold",
        ),
        missing => waiting("price", format!("a price: {}", missing.join("; "))),
    }
}

/// What a deposit on hold waits for, and whether a person must do something.
fn held(reason: HoldReason, facts: &Facts<'_>) -> Option<Waiting> {
    let missing = facts.prices.join("; ");
    let because = if missing.is_empty() { String::new() } else { format!(": {missing}") };
    let text = match reason {
        HoldReason::ReceiptMismatch => {
            "a receipt that shows what was recorded; it is looked at again every minute, and somebody should compare it with a block explorer".into()
        }
        HoldReason::ReceiptMissing => {
            "its receipt: it is deep enough, and no provider shows one; it is looked at again every minute".into()
        }
        HoldReason::ProvidersDisagree => {
            "two providers that say the same: they contradict each other, and somebody should find out which one is wrong".into()
        }
        HoldReason::Unproved => {
            "a proof: its receipts do not hash to its block's hash; it is looked at again every minute, two people can release it, and this chain may need another way to verify".into()
        }
        HoldReason::NoEpoch => "an epoch that covers the time of its block".into(),
        HoldReason::NoToken => "its token to be configured again".into(),
        HoldReason::Overflow => "a person: its credits are more than can be counted".into(),
        HoldReason::Dust => match &facts.more {
            Some(More::Money(more)) => format!("more to come: {more} is missing to the minimum"),
            Some(More::Prices) => "a price of another payment: enough has come, and all of it is credited together".into(),
            None => "more to come: it is below the minimum".into(),
        },
        HoldReason::Conflict => {
            "a person: its posting exists with other contents, so somebody changed a row".into()
        }
        HoldReason::InternalTransfer => {
            "two people: one of our own addresses sent it, so it may be money that was credited already".into()
        }
        HoldReason::CustodyDoubt => {
            "an operator: money left the imported address that it was paid to, and nobody planned that".into()
        }
        HoldReason::Screening => {
            "two people: a check that is asked before a credit says no, or does not answer; where it does not answer, it is asked again every minute".into()
        }
        HoldReason::NoPrice => format!("a price, of which too few sources answered{because}"),
        HoldReason::PricesDisagree => format!("a price, about which its sources disagree{because}"),
        HoldReason::Breaker => {
            format!("an operator: the price moved too far from those before{because}")
        }
        HoldReason::Depegged => format!("an operator: its stablecoin is below the floor{because}"),
    };
    waiting(reason.as_str(), text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::deposit::ALL_STAGES;

    fn provider(name: &str, state: &str, head: u64) -> ProviderFacts {
        ProviderFacts {
            name: name.into(),
            state: state.into(),
            head: Some(head),
            ..ProviderFacts::default()
        }
    }

    fn chain() -> ChainFacts {
        let providers = vec![provider("ann", "ok", 200), provider("bob", "ok", 200)];
        ChainFacts { followed: true, providers, ..ChainFacts::default() }
    }

    fn facts(chain: &ChainFacts, finality: Finality) -> Facts<'_> {
        Facts {
            stage: Stage::Pending,
            block: 100,
            confirmations: 12,
            chain: Some((chain, finality)),
            noted: None,
            reading: None,
            prices: &[],
            more: None,
        }
    }

    fn said(facts: &Facts<'_>) -> (&'static str, String) {
        let waiting = waiting_for(facts).unwrap();
        (waiting.code, waiting.text)
    }

    #[test]
    fn everything_that_is_not_finished_says_what_it_waits_for() {
        let chain = chain();
        for stage in ALL_STAGES {
            let facts = Facts { stage, ..facts(&chain, Finality::Confirmations(12)) };
            let finished = matches!(stage, Stage::Credited | Stage::Reversed | Stage::Ignored(_));
            let waiting = waiting_for(&facts);
            assert_eq!(waiting.is_none(), finished, "{stage}");
            assert!(waiting.is_none_or(|w| !w.text.contains("topupd")), "no commands: {stage}");
            let gone = waiting_for(&Facts { chain: None, ..facts });
            let stays = finished || stage == Stage::Orphaned;
            assert_eq!(gone.is_some_and(|w| w.code == "chain_not_configured"), !stays, "{stage}");
        }
    }

    #[test]
    fn what_a_source_says_is_one_short_line_beside_its_name() {
        let said = gives_none("kraken", "USDC/USD", "http status 403: geo\n\u{1b}[31m block");
        assert_eq!(said, "kraken of USDC/USD: http status 403: geo\\u000a\\u001b[31m block");
        let long = gives_none("kraken", "USDC/USD", &"x".repeat(10_000));
        assert_eq!(long.chars().count(), "kraken of USDC/USD: ".len() + 160 + 1);
        let chain = chain();
        let prices = [said, long];
        let stage = Stage::Confirmed;
        let facts = Facts { stage, prices: &prices, ..facts(&chain, Finality::Finalized) };
        let (code, text) = self::said(&facts);
        assert_eq!(code, "price");
        assert!(text.starts_with("a price: kraken of USDC/USD: http status 403: geo"), "{text}");
        assert!(!text.contains("topupd") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn a_pending_one_says_how_deep_it_is_and_who_is_missing() {
        let mut chain = chain();
        let twelve = Finality::Confirmations(12);
        let shallow = Facts { confirmations: 7, ..facts(&chain, twelve) };
        assert_eq!(said(&shallow), ("confirmations", "confirmations 7/12".into()));
        assert_eq!(said(&facts(&chain, twelve)).0, "receipt");
        let reading = Some("they are read to block 7 of 90".to_owned());
        let (code, text) = said(&Facts { reading, ..facts(&chain, twelve) });
        assert_eq!(code, "backfill");
        assert!(text.ends_with("before: they are read to block 7 of 90"), "{text}");
        let (code, text) = said(&facts(&chain, Finality::Finalized));
        assert_eq!(
            (code, text.as_str()),
            ("finalized", "the finalized block: no provider has told one yet")
        );
        chain.providers[0].finalized = Some(90);
        let (_, text) = said(&facts(&chain, Finality::Finalized));
        assert_eq!(text, "the finalized block: it is 90, the payment is in block 100");
        // While old blocks are read, nobody asks for it: the 90 may be old.
        let reading = Some("they are read to block 7 of 90".to_owned());
        assert_eq!(said(&Facts { reading, ..facts(&chain, Finality::Finalized) }).0, "backfill");

        fn noted(chain: &ChainFacts, wait: Wait, why: &str) -> (&'static str, String) {
            let finality = Finality::Confirmations(12);
            said(&Facts { noted: Some((wait, why)), ..facts(chain, finality) })
        }
        assert_eq!(noted(&chain, Wait::Receipt, "").0, "receipt_missing");
        let (code, text) = noted(&chain, Wait::Witness, "bob limits its rate");
        assert_eq!(code, "second_provider");
        assert!(text.ends_with(": bob limits its rate"), "{text}");
        chain.providers[1] = provider("bob", "ok", 105);
        let (_, text) = noted(&chain, Wait::Witness, "");
        assert_eq!(text, "a second provider that has its block as deep: bob was last at block 105");
        // What one alone has is not followed, and counts for nothing.
        let shallow = Facts { confirmations: 7, ..facts(&chain, twelve) };
        assert_eq!(said(&shallow).0, "second_provider");
        chain.providers[1].state = "did not answer".into();
        let (_, text) = noted(&chain, Wait::Witness, "");
        assert_eq!(text, "a second provider that has its block as deep: bob: did not answer");
        chain.contested = vec!["block 99".into()];
        assert_eq!(noted(&chain, Wait::Witness, "").0, "providers_contradict");
        chain.followed = false;
        assert_eq!(noted(&chain, Wait::Witness, "").0, "nobody_follows");
        chain.halted = true;
        assert_eq!(noted(&chain, Wait::Witness, "").0, "chain_halted");
    }
}
