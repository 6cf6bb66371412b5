//! Ask about payments before they are credited: a list of addresses, and somebody over HTTP.
//!
//! Every answer is kept, and nobody is asked twice. The list is looked at before each round of
//! questions, and read anew when its time or size has changed. What cannot be read is no answer; a
//! payment waits for one, and is held after a while.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt};

use super::CONCURRENCY;
use super::settle::{Confirming, Group, SettleError};
use crate::chain::ChainSource;
use crate::clock::Clock;
use crate::domain::ids::DepositId;
use crate::domain::screening::{AddressList, Check, Outcome, Question};
use crate::domain::waiting::Wait;
use crate::oracle::Web;
use crate::store::{LeasedStore, OpenDeposit, Screened, Screening, StoreError};

/// A payment is asked about again after so long.
const AGAIN_MS: i64 = 5_000;
/// What is not asked about any more is forgotten after a day.
const FORGET_MS: i64 = 86_400_000;

/// Who is asked before a credit.
#[derive(Debug)]
pub struct Screen {
    /// The file of addresses.
    list: Option<PathBuf>,
    question: Option<(Question, Web)>,
    /// Sent with each question. Secret.
    headers: Secret,
    /// How long a payment waits for an answer before it is held.
    patience_ms: i64,
    read: Mutex<Option<Read>>,
    asked: Mutex<Asked>,
}

/// Not shown by `Debug`.
struct Secret(Vec<(String, String)>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "({} headers)", self.0.len())
    }
}

/// The list as it was read, and the time and size of its file.
#[derive(Debug)]
struct Read {
    of: (Option<SystemTime>, u64),
    list: Result<Arc<AddressList>, String>,
}

/// What has no answer yet.
#[derive(Debug, Default)]
struct Asked {
    /// The payments, and what was said of each.
    payments: BTreeMap<DepositId, Unanswered>,
    /// Nobody is there: since when, and why.
    rests: Option<(i64, String)>,
}

#[derive(Debug, Clone)]
struct Unanswered {
    since_ms: i64,
    last_ms: i64,
    why: String,
}

impl Screen {
    /// Reads the list and prepares the questions.
    ///
    /// # Errors
    /// A list that cannot be read, or a client that cannot be built.
    pub fn new(
        list: Option<PathBuf>,
        question: Option<Question>,
        headers: Vec<(String, String)>,
        (timeout, patience): (Duration, Duration),
    ) -> Result<Self, String> {
        let web = |question| Ok::<_, String>((question, Web::new(timeout, BTreeMap::new())?));
        let this = Self {
            list,
            question: question.map(web).transpose()?,
            headers: Secret(headers),
            patience_ms: i64::try_from(patience.as_millis()).unwrap_or(i64::MAX),
            read: Mutex::default(),
            asked: Mutex::default(),
        };
        this.list().transpose()?;
        Ok(this)
    }

    /// How many checks must let a payment pass.
    #[must_use]
    pub fn checks(&self) -> usize {
        usize::from(self.list.is_some()).saturating_add(usize::from(self.question.is_some()))
    }

    /// What is sent with each question. Secret.
    #[must_use]
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers.0
    }

    /// The list as its file is now; none where none is configured.
    ///
    /// # Errors
    /// Why it cannot be read.
    #[must_use]
    pub fn list(&self) -> Option<Result<Arc<AddressList>, String>> {
        let path = self.list.as_ref()?;
        let cannot = |why: std::io::Error| format!("{} cannot be read: {why}", path.display());
        let of = match std::fs::metadata(path) {
            Ok(meta) => (meta.modified().ok(), meta.len()),
            Err(why) => return Some(Err(cannot(why))),
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.as_ref().filter(|known| known.of == of) {
            return Some(known.list.clone());
        }
        let list = std::fs::read_to_string(path).map_err(cannot).and_then(|text| {
            let list = AddressList::parse(&text).map(Arc::new);
            list.map_err(|why| format!("{}: {why}", path.display()))
        });
        match &list {
            Ok(list) if read.is_some() => {
                tracing::info!(
                    "the list of the screening was read again: {} addresses",
                    list.len()
                );
            }
            Err(why) if read.is_some() => {
                tracing::error!(why, "the list of the screening cannot be used")
            }
            Ok(_) | Err(_) => {}
        }
        // The first time, whoever starts is told.
        *read = Some(Read { of, list: list.clone() });
        Some(list)
    }

    /// Asks about those of these payments about which not everybody was asked yet, and keeps what is
    /// said. Returns those that wait for an answer, and why there is none.
    async fn ask(
        &self,
        deposits: &[OpenDeposit],
        store: &LeasedStore,
        clock: &dyn Clock,
    ) -> Result<BTreeMap<DepositId, String>, StoreError> {
        let ids: Vec<DepositId> = deposits.iter().map(|d| d.id).collect();
        let mut known = store.screened(ids).await?;
        let list = self.list();
        // Owned, because a stream of borrowed ones cannot cross threads.
        let open: Vec<(OpenDeposit, Screened)> = deposits
            .iter()
            .filter_map(|deposit| Some((deposit.clone(), known.remove(&deposit.id)?)))
            .filter(|(_, known)| !known.released)
            .filter(|(_, known)| known.said.values().all(|said| *said != Outcome::Hit))
            .collect();
        let list = &list;
        let rounds: Vec<_> = stream::iter(open)
            .map(|(deposit, known)| async move {
                (deposit.id, self.about(list.as_ref(), &deposit, &known, clock).await)
            })
            .buffered(CONCURRENCY)
            .collect()
            .await;
        let (mut answers, mut waits) = (Vec::new(), BTreeMap::new());
        for (id, (said, why)) in rounds {
            answers.extend(said);
            waits.extend(why.map(|why| (id, why)));
        }
        store.commit_screenings(&answers).await?;
        Ok(waits)
    }

    /// What is said of one payment, and why something is missing that it still waits for.
    async fn about(
        &self,
        list: Option<&Result<Arc<AddressList>, String>>,
        deposit: &OpenDeposit,
        known: &Screened,
        clock: &dyn Clock,
    ) -> (Vec<Screening>, Option<String>) {
        let (mut answers, mut lacks, mut waits) = (Vec::new(), false, None);
        for asked in [Check::List, Check::Http] {
            let before = known.said.get(&asked).copied();
            if before == Some(Outcome::Clear) {
                continue;
            }
            let (question, said) = match (asked, list, &self.question) {
                (Check::List, Some(Ok(list)), _) => {
                    (list.question(), Ok(in_list(list, deposit, known)))
                }
                (Check::List, Some(Err(why)), _) => ("{}".to_owned(), Err(why.clone())),
                (Check::Http, _, Some((question, web))) => {
                    (question.text(), self.over_http(question, web, deposit, known, clock).await)
                }
                _ => continue,
            };
            let (outcome, answer) = match said {
                Ok(said) => said,
                Err(why) => {
                    lacks = true;
                    if before.is_none() && !self.gives_up(deposit.id, &why, clock.now_ms()) {
                        waits = Some(format!("{}: {why}", asked.as_str()));
                        continue;
                    }
                    (Outcome::NoAnswer, why)
                }
            };
            answers.push(Screening {
                deposit: deposit.id,
                block: deposit.block.hash,
                sender: known.sender,
                asked,
                outcome,
                question,
                answer,
                at_ms: clock.now_ms(),
            });
            if outcome == Outcome::Hit {
                break;
            }
        }
        if !lacks {
            self.asked().payments.remove(&deposit.id);
        }
        (answers, waits)
    }

    /// The answer over HTTP and what it says.
    async fn over_http(
        &self,
        question: &Question,
        web: &Web,
        deposit: &OpenDeposit,
        known: &Screened,
        clock: &dyn Clock,
    ) -> Result<(Outcome, String), String> {
        let now = clock.now_ms();
        let lately = |at: i64| (0..AGAIN_MS).contains(&now.saturating_sub(at));
        {
            let asked = self.asked();
            if let Some((_, why)) = asked.rests.as_ref().filter(|(since, _)| lately(*since)) {
                return Err(why.clone());
            }
            if let Some(before) = asked.payments.get(&deposit.id).filter(|b| lately(b.last_ms)) {
                return Err(before.why.clone());
            }
        }
        let url = question.url(known.sender, deposit.key.chain, deposit.key.tx_hash);
        let answer = web.fetch(&url, &self.headers.0, now, clock).await;
        // Whoever is away, or says that it is too much, is left alone for a while; payments wait.
        let away = match &answer {
            Err(why) => Some(why.clone()),
            Ok(body) if matches!(body.status, 429 | 503) => Some(body.refusal()),
            Ok(_) => None,
        };
        if let Some(why) = away {
            self.asked().rests = Some((clock.now_ms(), why));
        }
        let body = answer?;
        Ok((question.read(&body)?, body.body))
    }

    /// True when a payment has waited for long enough. Notes since when it waits, as long as this
    /// process lives: a new one waits anew.
    fn gives_up(&self, deposit: DepositId, why: &str, now_ms: i64) -> bool {
        let mut asked = self.asked();
        asked.payments.retain(|_, at| now_ms.saturating_sub(at.last_ms) < FORGET_MS);
        let first = Unanswered { since_ms: now_ms, last_ms: now_ms, why: why.to_owned() };
        let at = asked.payments.entry(deposit).or_insert(first);
        if now_ms.saturating_sub(at.last_ms) >= AGAIN_MS {
            (at.last_ms, at.why) = (now_ms, why.to_owned());
        }
        now_ms.saturating_sub(at.since_ms) >= self.patience_ms
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the sender or the recipient is on the list.
fn in_list(list: &AddressList, deposit: &OpenDeposit, known: &Screened) -> (Outcome, String) {
    match list.hit(&[known.sender, deposit.key.recipient]) {
        Some(address) => (Outcome::Hit, address.to_checksum(None)),
        None => (Outcome::Clear, String::new()),
    }
}

impl<S: ChainSource> Confirming<'_, S> {
    /// Has those asked who must be before these are credited. Returns how many must let them pass.
    pub(super) async fn screen<'d>(
        &mut self,
        deposits: impl Iterator<Item = &'d OpenDeposit>,
    ) -> Result<usize, SettleError> {
        let Some(screen) = &self.rules.screen else { return Ok(0) };
        let deposits: Group = deposits.cloned().collect();
        let waits = screen.ask(&deposits, self.store, self.clock).await?;
        for (id, why) in &waits {
            let group = deposits.iter().filter(|d| d.id == *id).cloned().collect();
            self.wait(&group, Wait::Screening, why);
        }
        Ok(screen.checks())
    }
}
