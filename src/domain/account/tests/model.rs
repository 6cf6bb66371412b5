//! Random histories against a small plain model: sums over lists, nothing cached, nothing hashed.

use std::collections::BTreeMap;

use alloy::primitives::{B256, U256};
use proptest::prelude::*;

use super::super::*;
use super::{NOW, credit, spend};
use crate::domain::journal::fixtures::{
    JOURNAL, NAME, conversion, converted, correction, draft, house, namespace, opened, paid, raw,
    reversal, settlement,
};
use crate::domain::journal::{
    ACCOUNT_TREASURY_OBLIGATIONS, ACCOUNT_TREASURY_PURCHASES, ACCOUNT_TREASURY_RECEIVED,
    ACCOUNT_TREASURY_SLIPPAGE, Cause, Draft, JournalId, Outcome, Record, Side, TreasurySettlement,
    Unit,
};
use crate::domain::money::{Nanocredits, Nanodollars, RawAmount};

#[derive(Debug, Clone)]
enum Op {
    /// Deposit, amount, price of the token, or at par.
    Credit(u32, u64, Option<u8>),
    Reverse(u32),
    Correct(u32, u8),
    /// Uses so much of the oldest lots; what is beyond them is debt.
    Spend(u64),
    /// Part of what a deposit's conversion owes, in thousandths, with a new purchase at this price.
    Settle(u32, u16, u64),
    /// A cause of before, asked again.
    Retry(u8),
}

fn op() -> impl Strategy<Value = Op> {
    let deposit = 0..4u32;
    prop_oneof![
        4 => (deposit.clone(), 1..5_000_000u64, prop::option::of(1..99u8))
            .prop_map(|(d, amount, price)| Op::Credit(d, amount, price)),
        2 => deposit.clone().prop_map(Op::Reverse),
        2 => (deposit.clone(), 1..99u8).prop_map(|(d, price)| Op::Correct(d, price)),
        2 => (1..4_000_000_000_000u64).prop_map(Op::Spend),
        3 => (deposit, 1..1100u16, 0..9_000_000u64).prop_map(|(d, part, paid)| Op::Settle(d, part, paid)),
        1 => any::<u8>().prop_map(Op::Retry),
    ]
}

fn price(of: u8) -> String {
    format!("0.0{of:02}")
}

/// What the model knows of a credit.
#[derive(Debug, Clone)]
struct Given {
    record: Record,
    amount: u64,
    credits: i64,
    left: i64,
    /// Tokens and dollars owed, settled.
    owed: Option<(U256, i64, U256)>,
    bought: (U256, i64),
    stands: bool,
}

/// Writers of both journals, and the model.
struct World {
    account: Account,
    house: Account,
    /// Records of both, and what was used between those of the namespace.
    records: Vec<Record>,
    uses: Vec<(i64, i64, i64)>,
    house_records: Vec<Record>,
    asked: Vec<(bool, Draft, i64, Outcome)>,
    given: Vec<(u32, Given)>,
    debt: i64,
    purchases: u8,
    dollars: BTreeMap<String, i128>,
    spent: i64,
}

impl World {
    fn new() -> Self {
        let account = Account::fresh(JOURNAL, namespace(), NAME);
        let house = Account::fresh(JournalId::HOUSE, house(), "");
        let mut world = Self {
            account,
            house,
            records: Vec::new(),
            uses: Vec::new(),
            house_records: Vec::new(),
            asked: Vec::new(),
            given: Vec::new(),
            debt: 0,
            purchases: 0,
            dollars: BTreeMap::new(),
            spent: 0,
        };
        world.write(false, draft(namespace(), opened())).unwrap();
        world
    }

    fn write(&mut self, in_house: bool, draft: Draft) -> Result<New, Refusal> {
        let account = if in_house { &mut self.house } else { &mut self.account };
        let Written::Created(new) = account.write(&draft, NOW)? else { panic!("{}", draft.text) };
        for entry in &new.effects.entries {
            if entry.amount.unit() == Unit::Usd {
                let nano = i128::from(entry.amount.nano());
                let signed = if entry.side == Side::Debit { nano } else { -nano };
                *self.dollars.entry(entry.account.clone()).or_default() += signed;
            }
        }
        let records = if in_house { &mut self.house_records } else { &mut self.records };
        records.push(new.record.clone());
        self.asked.push((in_house, draft, new.record.seq, new.outcome.clone()));
        Ok(*new)
    }

    fn standing(&self, deposit: u32) -> Option<usize> {
        self.given.iter().position(|(of, given)| *of == deposit && given.stands)
    }

    /// Notes a credit in the model.
    fn give(
        &mut self,
        deposit: u32,
        new: &New,
        amount: u64,
        credits: i64,
        owed: Option<(U256, i64)>,
        bought: (U256, i64),
    ) {
        let repaid = self.debt.min(credits);
        self.debt -= repaid;
        let owed = owed.map(|(tokens, usd)| (tokens - bought.0, usd - bought.1, U256::ZERO));
        let record = new.record.clone();
        let left = credits - repaid;
        let given = Given { record, amount, credits, left, owed, bought, stands: true };
        self.given.push((deposit, given));
    }

    /// Takes a credit back in the model; what was bought for it, and the dollars of that.
    fn take(&mut self, index: usize) -> (U256, i64) {
        let given = &mut self.given[index].1;
        given.stands = false;
        self.debt += given.credits - given.left;
        given.left = 0;
        given.owed.map_or((U256::ZERO, 0), |(tokens, usd, settled)| {
            (given.bought.0 + settled, given.bought.1 + share(usd, settled, tokens))
        })
    }

    /// The store loads what was settled of an obligation before it undoes its credit.
    fn tell(&mut self, given: &Given) {
        if let (Some((.., settled)), Some(owed)) =
            (given.owed, self.account.obligations.get_mut(&given.record.seq))
        {
            owed.settled = RawAmount(settled);
        }
    }

    fn step(&mut self, op: &Op) {
        match op {
            Op::Credit(deposit, amount, rate) => self.credit(*deposit, *amount, *rate),
            Op::Reverse(deposit) => {
                let Some(index) = self.standing(*deposit) else { return };
                let given = self.given[index].1.clone();
                self.tell(&given);
                let cause = reversal(&given.record, Nanocredits(given.credits));
                let cause = Cause::DepositReversed(Box::new(cause));
                self.write(false, draft(namespace(), cause)).unwrap();
                self.take(index);
            }
            Op::Correct(deposit, rate) => self.correct(*deposit, &price(*rate)),
            Op::Spend(amount) => self.spend(i64::try_from(*amount).unwrap()),
            Op::Settle(deposit, part, paid) => self.settle(*deposit, *part, *paid),
            Op::Retry(which) => {
                let (in_house, draft, seq, outcome) =
                    self.asked[usize::from(*which) % self.asked.len()].clone();
                let account = if in_house { &mut self.house } else { &mut self.account };
                let before = account.clone();
                assert_eq!(account.write(&draft, NOW + 5), Ok(Written::Exists { seq, outcome }));
                assert_eq!(*account, before);
            }
        }
    }

    fn credit(&mut self, deposit: u32, amount: u64, rate: Option<u8>) {
        let before = self.given.iter().filter(|(of, _)| *of == deposit).count();
        let reversals = u32::try_from(before).unwrap();
        let cause = match rate {
            None => paid(deposit, reversals, amount),
            Some(rate) => converted(deposit, reversals, amount, &price(rate)),
        };
        let credits = cause.credits_nano.0;
        let into = cause.conversion.clone().and_then(|c| c.into);
        let owed = into.map(|into| (into.tokens.0, i64::try_from(amount * 1_000).unwrap()));
        if let Some(index) = self.standing(deposit) {
            // It stands, so it is refused under whatever number.
            let seq = self.given[index].1.record.seq;
            let refused = self.account.write(&credit(cause), NOW);
            assert_eq!(refused, Err(Refusal::Standing { seq }));
            return;
        }
        let new = self.write(false, credit(cause)).unwrap();
        self.give(deposit, &new, amount, credits, owed, (U256::ZERO, 0));
    }

    fn correct(&mut self, deposit: u32, rate: &str) {
        let Some(index) = self.standing(deposit) else { return };
        let given = self.given[index].1.clone();
        let amount = raw(given.amount);
        let (credits, _, converted) = conversion(amount, rate);
        let tokens = converted.into.unwrap().tokens.0;
        self.tell(&given);
        let cause = correction(
            &given.record,
            given.record.subject.parse().unwrap(),
            Nanocredits(given.credits),
            amount,
            rate,
            12,
        );
        let cause = Cause::DepositCorrected(Box::new(cause));
        let settled = given.owed.map_or(U256::ZERO, |(.., settled)| settled) + given.bought.0;
        let written = self.write(false, draft(namespace(), cause));
        if settled > U256::ZERO && tokens <= settled {
            assert_eq!(written, Err(Refusal::Bought));
            return;
        }
        let new = written.unwrap();
        let bought = self.take(index);
        let usd = i64::try_from(given.amount * 1_000).unwrap();
        self.give(deposit, &new, given.amount, credits.0, Some((tokens, usd)), bought);
    }

    /// Usage has no kind of record yet, so it is done to the writer, and to the fold, by hand.
    fn spend(&mut self, mut amount: i64) {
        for (_, given) in &mut self.given {
            let used = given.left.min(amount);
            if used > 0 {
                given.left -= used;
                amount -= used;
                spend(&mut self.account, given.record.seq, used);
                self.uses.push((self.account.row().head.seq, given.record.seq, used));
                self.spent += used;
            }
        }
    }

    fn settle(&mut self, deposit: u32, part: u16, paid: u64) {
        let Some(index) = self.standing(deposit) else { return };
        let given = self.given[index].1.clone();
        let Some((tokens, usd, settled)) = given.owed else { return };
        let part = (tokens * U256::from(part) / U256::from(1_000)).min(tokens - settled);
        if part == U256::ZERO {
            return;
        }
        self.purchases += 1;
        let cause = TreasurySettlement {
            obligation_seq: given.record.seq,
            obligation_record_id: given.record.id,
            obligation_usd_nano: Nanodollars(usd),
            tokens: RawAmount(tokens),
            purchase_paid: raw(paid),
            purchase_tokens: RawAmount(part),
            settled_tokens: RawAmount(part),
            ..settlement(1, self.purchases)
        };
        match self.write(true, draft(house(), Cause::TreasurySettled(Box::new(cause)))) {
            Ok(_) => self.given[index].1.owed = Some((tokens, usd, settled + part)),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::MovesNothing);
                let worth = share(usd, settled + part, tokens) - share(usd, settled, tokens);
                assert_eq!((worth, paid), (0, 0));
            }
        }
    }

    /// Everything that the model says must be what the account says.
    fn compare(&self) {
        let left: BTreeMap<i64, i64> =
            self.given.iter().map(|(_, g)| (g.record.seq, g.left)).collect();
        let lots = self.account.lots().map(|lot| (lot.seq, lot.remaining.0)).collect();
        assert_eq!(left, lots);
        assert_eq!(self.account.debt().0, self.debt);
        let sum: i64 = left.values().sum();
        assert_eq!(self.account.balance().0, sum - self.debt);
        assert_eq!(self.account.remaining(), i128::from(sum));
        let standing: i64 =
            self.given.iter().filter(|(_, g)| g.stands).map(|(_, g)| g.credits).sum();
        assert_eq!(self.account.balance().0, standing - self.spent);
        // What is owed in dollars is what stands and is not settled.
        let open: i64 = self
            .given
            .iter()
            .filter(|(_, g)| g.stands)
            .filter_map(|(_, g)| g.owed.map(|(tokens, usd, s)| usd - share(usd, s, tokens)))
            .sum();
        assert_eq!(self.dollar(ACCOUNT_TREASURY_OBLIGATIONS), -i128::from(open));
        assert_eq!(self.dollars.values().sum::<i128>(), 0);
    }

    fn dollar(&self, account: &str) -> i128 {
        self.dollars.get(account).copied().unwrap_or_default()
    }

    /// Folding both journals gives the accounts that wrote them.
    fn fold(&mut self) {
        let mut fold = Fold::new(JOURNAL, namespace(), NAME);
        for record in &self.records {
            let step = fold.next(record).unwrap();
            assert_eq!(step.effects.entries, record.entries);
            for (_, lot, amount) in self.uses.iter().filter(|(after, ..)| *after == record.seq) {
                spend(&mut fold.account, *lot, *amount);
            }
        }
        // What was settled of conversions that stand is not in a namespace's journal.
        for (_, given) in self.given.clone() {
            self.tell(&Given { owed: given.owed.filter(|_| !given.stands), ..given.clone() });
            if let (true, Some(owed)) =
                (given.stands, self.account.obligations.get_mut(&given.record.seq))
            {
                owed.settled = RawAmount::ZERO;
            }
        }
        let folded = fold.account();
        assert_eq!(folded.row(), self.account.row());
        assert_eq!(folded.lots, self.account.lots);
        assert_eq!(folded.credits, self.account.credits);
        assert_eq!(folded.deposits, self.account.deposits);
        assert_eq!(folded.obligations, self.account.obligations);
        let mut house = Fold::new(JournalId::HOUSE, self.house.row().genesis, "");
        for record in &self.house_records {
            house.next(record).unwrap();
        }
        assert_eq!(house.account().row(), self.house.row());
        assert_eq!(house.account().owing, self.house.owing);
        assert_eq!(house.account().purchases, self.house.purchases);
        // What reversals say was settled is what the house settled.
        for (journal, seq, owing) in house.account().owings() {
            let given = self.given.iter().find(|(_, g)| g.record.seq == seq).unwrap();
            let settled = given.1.owed.unwrap().2;
            assert_eq!((journal, owing.settled), (JOURNAL, RawAmount(settled)));
        }
    }
}

fn share(usd: i64, part: U256, whole: U256) -> i64 {
    let share = U256::from(usd.unsigned_abs()) * part / whole;
    i64::try_from(share).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn random_histories_are_those_of_the_model(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        for op in &ops {
            world.step(op);
            world.compare();
        }
        // Every earlier cause is answered with what it did, whatever came after.
        for which in 0..world.asked.len() {
            world.step(&Op::Retry(u8::try_from(which).unwrap()));
        }
        // All that is open is settled, in three parts: nothing is owed then, to the last nanodollar.
        for part in [333, 500, 1_000] {
            for deposit in 0..4 {
                world.step(&Op::Settle(deposit, part, 1_234_567));
                world.compare();
            }
        }
        prop_assert_eq!(world.dollar(ACCOUNT_TREASURY_OBLIGATIONS), 0);
        let (received, paid) =
            (world.dollar(ACCOUNT_TREASURY_RECEIVED), world.dollar(ACCOUNT_TREASURY_PURCHASES));
        prop_assert_eq!(received + paid + world.dollar(ACCOUNT_TREASURY_SLIPPAGE), 0);
        world.fold();
    }

    /// The same history, written twice, is the same to the last byte.
    #[test]
    fn a_history_has_one_text(ops in prop::collection::vec(op(), 1..20)) {
        let run = || {
            let mut world = World::new();
            ops.iter().for_each(|op| world.step(op));
            (world.records, world.house_records)
        };
        prop_assert_eq!(run(), run());
    }
}

/// The seal of a journal is that of its last record, and binds its genesis.
#[test]
fn another_genesis_gives_other_seals() {
    let mut seals = Vec::new();
    for salt in [1, 2] {
        let genesis = crate::domain::journal::Genesis(B256::repeat_byte(salt));
        let mut account = Account::fresh(JOURNAL, genesis, NAME);
        let Written::Created(new) = account.write(&draft(genesis, opened()), NOW).unwrap() else {
            panic!()
        };
        seals.push(new.record.seal);
    }
    assert_ne!(seals[0], seals[1]);
}
