//! The one epoch of a bench: a dollar is a thousand credits.

use std::collections::BTreeMap;

use topupd::domain::pricing::{Epoch, EpochBook, Phase};
use topupd::domain::terms::{Dust, Terms, Valuation};

pub fn epochs() -> EpochBook {
    let terms = Terms {
        valuation: Valuation::Par { credits_per_usd: "1000".parse().unwrap() },
        minimum: None,
        dust: Dust::Ignore,
    };
    EpochBook::new(vec![Epoch {
        id: "one".into(),
        starts_at_ms: 0,
        phase: Phase::PreTge,
        accept: BTreeMap::from([("USDC".into(), terms)]),
    }])
    .unwrap()
}
