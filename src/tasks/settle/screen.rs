//! Ask about payments before they are credited: a list of addresses, and somebody over HTTP.
//!
//! Every answer is kept; payments of one round that are the same question share it. It counts for the
//! check that gave it, of a list while the list is the same, over HTTP for a while: payments are asked
//! about before they are confirmed, and right before they are credited once more where it does not count.
//! The list is looked at before each round of questions, and read anew when its file has changed. What
//! cannot be read is no answer; a payment waits for one, and is held after a while.
//!
//! A payment about which somebody does not answer holds up itself alone: those never asked about come
//! first, and it is said of none that there was no answer before it was asked about itself.

pub(in crate::tasks) mod silence;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::stream;
use futures_util::stream::StreamExt;

use crate::clock::Clock;
use crate::domain::deposit::Stage;
use crate::domain::ids::DepositId;
use crate::domain::screening::{AddressList, Check, LIST_MAX, Outcome, Question, Wanted, said_by};
use crate::domain::screening_rules::ScreeningRules;
use crate::domain::waiting::Wait;
use crate::oracle::Web;
use crate::store::{LeasedStore, OpenDeposit, Screened, Screening, StoreError};
use crate::tasks::CONCURRENCY;
use crate::tasks::settle::screen::silence::Silent;
use crate::text::read_text;

/// So many questions without an answer end a round: the others are asked in the next one.
const IN_VAIN_MAX: usize = 16;

/// Who asks before a credit, with what it remembers of those it asked. What it asks is in the
/// [`ScreeningRules`].
#[derive(Debug, Default)]
pub struct Screener {
    /// What asks over HTTP, once it is needed; or why nothing can.
    web: OnceLock<Result<Web, String>>,
    read: Mutex<Option<Read>>,
    silent: Mutex<Silent>,
}

/// The list as it was read, and what its file was then.
#[derive(Debug)]
struct Read {
    path: PathBuf,
    of: Marks,
    list: Listed,
}

/// What changes when somebody writes a file, or puts another one in its place: its number, its size, and
/// the times of its contents and of all that is known of it, which no copy keeps.
type Marks = [i64; 6];

/// What the file of addresses is, or why it cannot be read.
type Listed = Result<Arc<AddressList>, String>;
/// What a check says, and what it answered; or why there is no answer.
type Answer = Result<(Outcome, String), Silence>;

/// Why there is no answer.
#[derive(Debug, Clone)]
enum Silence {
    /// It was asked.
    Asked(String),
    /// It was not: somebody else comes first, or nobody is there.
    NotAsked(String),
}

/// What is asked over HTTP, and with what.
struct Asked<'r> {
    question: &'r Question,
    rules: &'r ScreeningRules,
}

/// A payment, and what the checks say of it now that had not let it pass.
struct Round<'d, 'w> {
    deposit: &'d OpenDeposit,
    known: Screened,
    said: Vec<(&'w Wanted, Answer)>,
}

impl Screener {
    /// Whether everybody can be asked.
    ///
    /// # Errors
    /// A key of the configuration, and what is wrong with what it names.
    pub fn ready(&self, rules: &ScreeningRules) -> Result<(), (&'static str, String)> {
        if rules.question.is_some() {
            let nobody = |why| ("screening.http", format!("nobody can be asked: {why}"));
            self.web(rules.timeout).map_err(nobody)?;
        }
        self.list(rules).transpose().map(drop).map_err(|why| ("screening.list", why))
    }

    fn web(&self, timeout: Duration) -> Result<&Web, String> {
        let web = self.web.get_or_init(|| Web::new(timeout, BTreeMap::new()));
        web.as_ref().map_err(Clone::clone)
    }

    /// The list as its file is now; none where none is configured.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub fn list(&self, rules: &ScreeningRules) -> Option<Listed> {
        let path = rules.list.as_ref()?;
        let cannot = |why: std::io::Error| format!("{} cannot be read: {why}", path.display());
        let of = match std::fs::metadata(path) {
            // Of what is no file, nobody knows where it ends.
            Ok(meta) if !meta.is_file() => {
                return Some(Err(format!("{} is no regular file", path.display())));
            }
            Ok(meta) if meta.len() > LIST_MAX => return Some(Err(too_large(path))),
            Ok(meta) => marks(&meta),
            Err(why) => return Some(Err(cannot(why))),
        };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = read.as_ref().filter(|known| known.path == *path && known.of == of) {
            return Some(known.list.clone());
        }
        let cannot_or_large = |why: std::io::Error| match why.kind() {
            std::io::ErrorKind::FileTooLarge => too_large(path),
            _ => cannot(why),
        };
        let list = read_text(path, LIST_MAX).map_err(cannot_or_large).and_then(|text| {
            let list = AddressList::parse(&text).map(Arc::new);
            list.map_err(|why| format!("{}: {why}", path.display()))
        });
        match &list {
            Ok(list) if read.is_some() => {
                tracing::info!(
                    "the list of the screening was read again: {} addresses",
                    list.count()
                );
            }
            Err(why) if read.is_some() => {
                tracing::error!(why, "the list of the screening cannot be used")
            }
            Ok(_) | Err(_) => {}
        }
        // The first time, whoever starts is told.
        *read = Some(Read { path: path.clone(), of, list: list.clone() });
        Some(list)
    }

    /// The checks that must let a payment pass: of the list, the one that its file is now.
    fn wanted(rules: &ScreeningRules, list: Option<&Listed>) -> Vec<Wanted> {
        let list = list.map(|list| Wanted {
            asked: Check::List,
            question: list.as_ref().map_or_else(|_| "{}".to_owned(), |list| list.question()),
        });
        let http = rules
            .question
            .as_ref()
            .map(|question| Wanted { asked: Check::Http, question: question.text() });
        list.into_iter().chain(http).collect()
    }

    /// Asks about those of these payments about which not everybody was asked yet, and keeps what is
    /// said. Returns who must let them pass, and which of them wait for an answer and why there is none.
    pub(in crate::tasks) async fn ask(
        &self,
        rules: &ScreeningRules,
        deposits: &[OpenDeposit],
        store: &LeasedStore,
        clock: &dyn Clock,
    ) -> Result<(Vec<Wanted>, BTreeMap<DepositId, String>), StoreError> {
        let ids: Vec<DepositId> = deposits.iter().map(|d| d.id).collect();
        let now = clock.now_ms();
        let mut known = store.screened(&ids).await?;
        let list = self.list(rules);
        let wanted = Self::wanted(rules, list.as_ref());
        let mut rounds: Vec<Round> = deposits
            .iter()
            .filter_map(|deposit| Some((deposit, known.remove(&deposit.id)?)))
            .filter(|(_, known)| !known.released)
            .map(|(deposit, known)| Round { deposit, known, said: Vec::new() })
            .collect();
        for by in &wanted {
            match (by.asked, &list, &rules.question) {
                (Check::List, Some(list), _) => {
                    for round in &mut rounds {
                        let list = list.clone().map_err(Silence::Asked);
                        let said = list.map(|list| in_list(&list, round));
                        // It costs nothing to look again: who stands in the list is a hit, whatever was written.
                        let is_new_hit = matches!(said, Ok((Outcome::Hit, _))) && !round.has_hit();
                        if is_new_hit || round.lacks(by, now) {
                            round.said.push((by, said));
                        }
                    }
                }
                (Check::Http, _, Some(question)) => {
                    let asked = Asked { question, rules };
                    self.about(&asked, &mut rounds, (by, now), clock).await;
                }
                _ => {}
            }
        }
        let silent: Vec<DepositId> = rounds
            .iter()
            .filter(|round| round.said.iter().any(|(_, said)| said.is_err()))
            .map(|round| round.deposit.id)
            .collect();
        let since = match silent.is_empty() {
            true => BTreeMap::new(),
            false => store.waits_of(silent).await?,
        };
        let patience_ms = i64::try_from(rules.patience.as_millis()).unwrap_or(i64::MAX);
        let (mut answers, mut waits) = (Vec::new(), BTreeMap::new());
        for round in rounds {
            // Noted by this step, where it is not noted yet.
            let since = match since.get(&round.deposit.id) {
                Some((Wait::Screening, _, since)) => *since,
                _ => now,
            };
            // What has its price already does not wait: it is held, and asked about again every minute.
            let gives_up =
                round.deposit.stage == Stage::Priced || now.saturating_sub(since) >= patience_ms;
            let (said, why) = round.kept(gives_up, now);
            waits.extend(why.map(|why| (round.deposit.id, why)));
            answers.extend(said);
        }
        store.commit_screenings(&answers).await?;
        Ok((wanted, waits))
    }

    /// Asks about all payments that need it; those that are the same question are one.
    async fn about<'w>(
        &self,
        asked: &Asked<'_>,
        rounds: &mut [Round<'_, 'w>],
        (by, now): (&'w Wanted, i64),
        clock: &dyn Clock,
    ) {
        let lacking = rounds.iter().filter(|round| round.lacks(by, now));
        let urls: BTreeSet<String> = lacking.map(|round| round.url(asked.question)).collect();
        let said = self.ask_in_turn(asked, urls, clock).await;
        for round in rounds.iter_mut().filter(|round| round.lacks(by, now)) {
            round.said.extend(said.get(&round.url(asked.question)).map(|said| (by, said.clone())));
        }
    }

    /// Asks these, those that were never asked first, until too many have no answer.
    async fn ask_in_turn(
        &self,
        asked: &Asked<'_>,
        urls: BTreeSet<String>,
        clock: &dyn Clock,
    ) -> BTreeMap<String, Answer> {
        let mut said: BTreeMap<String, Answer> = BTreeMap::new();
        let mut turn: Vec<(i64, String)> = Vec::new();
        {
            let (now, mut silent) = (clock.now_ms(), self.silent());
            silent.forget(now);
            for url in urls {
                match silent.lately(&url, now) {
                    Some(why) => drop(said.insert(url, Err(Silence::Asked(why)))),
                    None => turn.push((silent.last_ms(&url), url)),
                }
            }
        }
        turn.sort();
        let mut in_vain = 0usize;
        for some in turn.chunks(CONCURRENCY) {
            let enough = (in_vain >= IN_VAIN_MAX).then(|| {
                "others, of which there is no answer, were asked about before it".to_owned()
            });
            let rests = self.silent().rests(clock.now_ms());
            if let Some(why) = rests.or(enough) {
                said.extend(some.iter().map(|(_, url)| (url.clone(), not_asked(&why))));
                continue;
            }
            // Owned, because a stream of borrowed ones cannot cross threads.
            let answers: Vec<(String, Answer, bool)> = stream::iter(some.to_vec())
                .map(|(_, url)| async move {
                    let (said, came) = self.over_http(asked, &url, clock).await;
                    (url, said, came)
                })
                .buffered(CONCURRENCY)
                .collect()
                .await;
            let lost = answers.iter().filter(|(_, _, came)| !came).count();
            in_vain = in_vain.saturating_add(lost);
            // One that nothing comes back for is one payment's; several, and nothing else, are everybody's.
            if lost > 1
                && lost == answers.len()
                && let Some((_, Err(Silence::Asked(why)), _)) = answers.first()
            {
                self.silent().is_away(clock.now_ms(), why);
            }
            said.extend(answers.into_iter().map(|(url, answer, _)| (url, answer)));
        }
        said
    }

    /// The answer over HTTP and what it says, and whether anything came back.
    async fn over_http(&self, asked: &Asked<'_>, url: &str, clock: &dyn Clock) -> (Answer, bool) {
        let asked_ms = clock.now_ms();
        let answer = match self.web(asked.rules.timeout) {
            Ok(web) => web.fetch(url, &asked.rules.headers.0, asked_ms, clock).await,
            Err(why) => Err(why),
        };
        let (came, now) = (answer.is_ok(), clock.now_ms());
        let mut silent = self.silent();
        // Whoever says that it is too much is left alone for a while; payments wait.
        if let Ok(body) = &answer
            && matches!(body.status, 429 | 503)
        {
            silent.is_away(now, &body.refusal());
        }
        let said = match answer.and_then(|body| Ok((asked.question.read(&body)?, body.body))) {
            Ok(said) => {
                silent.answered(url);
                Ok(said)
            }
            Err(why) => {
                silent.in_vain(url, now, &why);
                Err(Silence::Asked(why))
            }
        };
        (said, came)
    }

    fn silent(&self) -> std::sync::MutexGuard<'_, Silent> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Round<'_, '_> {
    /// True when a check has not let it pass, nobody says no, and nobody before did not answer.
    fn lacks(&self, by: &Wanted, now_ms: i64) -> bool {
        if self.said.iter().any(|(_, said)| said.is_err()) {
            return false;
        }
        let before = self.known.said.iter().map(|said| said.outcome);
        let now = self.said.iter().filter_map(|(_, said)| Some(said.as_ref().ok()?.0));
        before.chain(now).all(|outcome| outcome != Outcome::Hit)
            && said_by(&self.known.said, by, now_ms) != Some(Outcome::Clear)
    }

    /// True when it was said before that it may not be taken.
    fn has_hit(&self) -> bool {
        self.known.said.iter().any(|said| said.outcome == Outcome::Hit)
    }

    fn url(&self, question: &Question) -> String {
        let key = &self.deposit.key;
        question.url(self.known.sender, key.chain, key.tx_hash)
    }

    /// What is kept of what was said, and why something is missing that it still waits for. That there
    /// is no answer is kept when it was asked about, and has waited for long enough.
    fn kept(&self, gives_up: bool, at_ms: i64) -> (Vec<Screening>, Option<String>) {
        let (mut kept, mut waits) = (Vec::new(), None);
        for (by, said) in &self.said {
            let (outcome, answer) = match said {
                Ok(said) => said.clone(),
                Err(_) if said_by(&self.known.said, by, at_ms).is_some() => continue,
                Err(Silence::Asked(why)) if gives_up => (Outcome::NoAnswer, why.clone()),
                Err(Silence::Asked(why) | Silence::NotAsked(why)) => {
                    waits = Some(format!("{}: {why}", by.asked.as_str()));
                    continue;
                }
            };
            kept.push(Screening {
                deposit: self.deposit.id,
                block: self.deposit.block.hash,
                sender: self.known.sender,
                by: (*by).clone(),
                outcome,
                answer,
                at_ms,
            });
        }
        (kept, waits)
    }
}

fn not_asked(why: &str) -> Answer {
    Err(Silence::NotAsked(format!("not asked yet: {why}")))
}

fn marks(meta: &std::fs::Metadata) -> Marks {
    let size = i64::try_from(meta.len()).unwrap_or(i64::MAX);
    let number = i64::from_ne_bytes(meta.ino().to_ne_bytes());
    [number, size, meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()]
}

fn too_large(path: &Path) -> String {
    format!("{} has more than {LIST_MAX} bytes", path.display())
}

/// Whether the sender or the recipient is on the list.
fn in_list(list: &AddressList, round: &Round) -> (Outcome, String) {
    match list.hit(&[round.known.sender, round.deposit.key.recipient]) {
        Some(address) => (Outcome::Hit, address.to_checksum(None)),
        None => (Outcome::Clear, String::new()),
    }
}
