//! `address import --file`: many addresses at once, from CSV or JSON Lines.
//!
//! A binding is for ever, so the file is read twice: first to name every line that cannot be taken,
//! and only if there is none, to bind the addresses, a batch at a time. What is bound already is passed
//! over: after whatever stopped it, the same command goes on.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;

use crate::cli::error::CliError;
use crate::cli::open::open;
use crate::cli::print::print;
use crate::config::Config;
use crate::domain::ids::{ChainId, NamespaceName};
use crate::domain::wallet::parse_deposit_address;
use crate::output::note;
use crate::store::{DatabaseUrl, Imported, NewAddress, Store};

/// Addresses that are bound in one commit.
const BATCH: usize = 10_000;
/// Longest line, in bytes.
const LINE_MAX: usize = 4_096;
/// Lines that are named; of more, how many.
const NAMED_MAX: u64 = 1_000;
/// Lines after which the progress is shown anew.
const SHOWN_EACH: u64 = 4_096;
/// How often a log says how far it is, where no bar can be drawn.
const SAID_EACH: Duration = Duration::from_secs(10);
/// Between two commits on SQLite, so that a daemon that waits to write finds a gap: it looks each 100 ms.
const GAP: Duration = Duration::from_millis(110);

/// Whose addresses a file holds, and since when.
pub(in crate::cli) struct Import<'a> {
    pub(in crate::cli) config: &'a Config,
    pub(in crate::cli) path: &'a Path,
    /// For lines that name none.
    pub(in crate::cli) namespace: Option<NamespaceName>,
    pub(in crate::cli) since: Vec<(ChainId, u64)>,
}

impl Import<'_> {
    pub(in crate::cli) async fn run(&self) -> Result<ExitCode, CliError> {
        let store = open(self.config).await?;
        let mut bad = Bad::default();
        let (lines, found) = self.check(&store, &mut bad).await?;
        if found == 0 && bad.0 == 0 {
            return Err(CliError::BadInput(format!("{} holds no address", self.path.display())));
        }
        if bad.0 > 0 {
            bad.end();
            return Err(CliError::BadInput(format!(
                "{} of {lines} lines of {} cannot be taken, and nothing was imported: correct them and run the same command again",
                bad.0,
                self.path.display()
            )));
        }
        self.bind(&store, lines, &mut bad).await
    }

    /// Names every line that cannot be taken; the number of lines, and of addresses.
    async fn check(&self, store: &Store, bad: &mut Bad) -> Result<(u64, u64), CliError> {
        let mut lines = Lines::open(self.path)?;
        let mut form = Form::default();
        let mut is_there: BTreeMap<String, bool> = BTreeMap::new();
        let bar = bar(lines.bytes, "{msg} {wide_bar} {percent} %")?;
        bar.set_message("checking");
        let (mut read, mut found): (u64, u64) = (0, 0);
        while let Some(line) = lines.next()? {
            let (number, bytes) = (line.number, line.bytes);
            read = read.saturating_add(bytes);
            if number.is_multiple_of(SHOWN_EACH) {
                bar.set_position(read);
            }
            match line.text.and_then(|text| self.read(&mut form, text)) {
                Err(why) => bar.suspend(|| bad.say(number, &why)),
                Ok(None) => {}
                Ok(Some(NewAddress { namespace, .. })) => {
                    found = found.saturating_add(1);
                    let known = match is_there.get(namespace.as_str()) {
                        Some(known) => *known,
                        None => {
                            let known = store.has_namespace(&namespace).await?;
                            is_there.insert(namespace.as_str().to_owned(), known);
                            known
                        }
                    };
                    if !known {
                        let why = format!("no namespace is called {namespace}");
                        bar.suspend(|| bad.say(number, &why));
                    }
                }
            }
        }
        bar.finish_and_clear();
        Ok((lines.number, found))
    }

    /// Binds what the file holds, batch by batch.
    async fn bind(&self, store: &Store, all: u64, bad: &mut Bad) -> Result<ExitCode, CliError> {
        let mut lines = Lines::open(self.path)?;
        let mut form = Form::default();
        let bar = bar(all, "{msg} {wide_bar} line {pos} of {len}, {per_sec}, {eta} left")?;
        bar.set_message("importing");
        let mut done = Done::default();
        let mut batch = Batch::default();
        let mut said = Instant::now();
        loop {
            let line = lines.next()?;
            let is_end = line.is_none();
            if let Some(line) = line {
                match line.text.and_then(|text| self.read(&mut form, text)) {
                    Ok(None) => {}
                    Ok(Some(new)) => batch.add(line.number, new),
                    // It was right a moment ago.
                    Err(why) => batch.wrong.push((line.number, why)),
                }
            }
            if is_end || batch.lines.len().saturating_add(batch.wrong.len()) >= BATCH {
                let full = std::mem::take(&mut batch);
                self.commit(store, full, &mut done, |number, why| {
                    bar.suspend(|| bad.say(number, why));
                })
                .await?;
                bar.set_position(lines.number);
                if bar.is_hidden() && said.elapsed() >= SAID_EACH {
                    note(&format!("importing: line {} of {all}", lines.number));
                    said = Instant::now();
                }
            }
            if is_end {
                break;
            }
        }
        bar.finish_and_clear();
        store.close().await;
        bad.end();
        let Done { new, known, left_out } = done;
        let done = format!("{new} addresses imported, {known} were there already");
        if bad.0 == 0 {
            tracing::warn!(
                "imported: whoever has the keys keeps what is credited; when money leaves one of them, later payments to it are held until an operator has looked. No chain was asked whether they are contracts"
            );
            return print(&done);
        }
        Err(CliError::BadInput(format!(
            "{} lines cannot be taken, and with them {left_out} addresses of the same batches were left out; {done}. Correct those lines and run the same command again",
            bad.0
        )))
    }

    async fn commit(
        &self,
        store: &Store,
        batch: Batch,
        done: &mut Done,
        mut say: impl FnMut(u64, &str),
    ) -> Result<(), CliError> {
        if batch.lines.is_empty() && batch.wrong.is_empty() {
            return Ok(());
        }
        let (mut left_out, mut wrong) = (batch.new.len(), batch.wrong);
        if wrong.is_empty() {
            let imported =
                store.import_addresses(&batch.new, &self.since, store.clock().now_ms()).await;
            match imported.map_err(|error| stopped(error.into(), done))? {
                Imported::All { new } => {
                    done.new = done.new.saturating_add(new);
                    done.known = done.known.saturating_add(batch.new.len().saturating_sub(new));
                    if new > 0 && matches!(self.config.database.url, DatabaseUrl::Sqlite(_)) {
                        tokio::time::sleep(GAP).await;
                    }
                    return Ok(());
                }
                Imported::Refused(places) => {
                    left_out = left_out.saturating_sub(places.len());
                    let number = |place: usize| batch.lines.get(place).copied().unwrap_or_default();
                    wrong = places.into_iter().map(|(place, why)| (number(place), why)).collect();
                }
            }
        }
        done.left_out = done.left_out.saturating_add(left_out);
        wrong.iter().for_each(|(number, why)| say(*number, why));
        Ok(())
    }

    /// What a line says; `None` for one that is empty, and for the names of the columns.
    fn read(&self, form: &mut Form, text: &str) -> Result<Option<NewAddress>, String> {
        let Some((namespace, address)) = form.read(text)? else { return Ok(None) };
        let address = parse_deposit_address(&address)?;
        if let Some(what) = self.config.not_for_deposits(&address) {
            return Err(format!("{address} is {what}: it can never be somebody's deposit address"));
        }
        let namespace = namespace.map(|name| name.parse::<NamespaceName>()).transpose()?;
        match (namespace, &self.namespace) {
            (Some(named), Some(given)) if named != *given => {
                Err(format!("it names {named}, and the command {given}"))
            }
            (Some(namespace), _) => Ok(Some(NewAddress { namespace, address })),
            (None, Some(given)) => Ok(Some(NewAddress { namespace: given.clone(), address })),
            (None, None) => {
                Err("it names no namespace: name it in the line, or for all lines in the command"
                    .into())
            }
        }
    }
}

/// What is told of one file.
#[derive(Default)]
struct Done {
    new: usize,
    known: usize,
    left_out: usize,
}

/// Addresses that are bound together, each with the number of its line.
#[derive(Default)]
struct Batch {
    lines: Vec<u64>,
    new: Vec<NewAddress>,
    wrong: Vec<(u64, String)>,
}

impl Batch {
    fn add(&mut self, line: u64, new: NewAddress) {
        self.lines.push(line);
        self.new.push(new);
    }
}

/// How many lines cannot be taken.
#[derive(Default)]
struct Bad(u64);

impl Bad {
    fn say(&mut self, line: u64, why: &str) {
        self.0 = self.0.saturating_add(1);
        if self.0 <= NAMED_MAX {
            note(&format!("line {line}: {why}"));
        }
    }

    fn end(&self) {
        if self.0 > NAMED_MAX {
            note(&format!("and {} more lines", self.0.saturating_sub(NAMED_MAX)));
        }
    }
}

/// What a line says: nothing, or whose an address is.
type Said = Result<Option<(Option<String>, String)>, String>;

/// How the lines of a file are written, by the first one that says something.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Form {
    #[default]
    Unknown,
    JsonLines,
    Csv {
        address_first: bool,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    namespace: Option<String>,
    address: String,
}

impl Form {
    /// The namespace and the address of a line.
    fn read(&mut self, text: &str) -> Said {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if *self == Self::Unknown && text.starts_with('{') {
            *self = Self::JsonLines;
        }
        if *self == Self::JsonLines {
            let named = serde_json::from_str::<Named>(text).map_err(|error| {
                // Each is the first line of its own text.
                let error = error.to_string();
                let what = error.split(" at line ").next().unwrap_or_default();
                format!("it is not {{\"namespace\": …, \"address\": …}}: {what}")
            })?;
            return Ok(Some((named.namespace, named.address)));
        }
        let fields: Vec<&str> = text.split(',').map(unquoted).collect();
        let address_first = match self {
            Self::Csv { address_first } => *address_first,
            Self::Unknown | Self::JsonLines => {
                let names: Vec<String> = fields.iter().map(|f| f.to_ascii_lowercase()).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let address_first = names == ["address", "namespace"];
                *self = Self::Csv { address_first };
                if address_first || names == ["namespace", "address"] || names == ["address"] {
                    return Ok(None);
                }
                address_first
            }
        };
        match fields.as_slice() {
            [address] => Ok(Some((None, (*address).to_owned()))),
            [address, namespace] if address_first => {
                Ok(Some((Some((*namespace).to_owned()), (*address).to_owned())))
            }
            [namespace, address] => {
                Ok(Some((Some((*namespace).to_owned()), (*address).to_owned())))
            }
            more => Err(format!("it has {} fields: namespace,address are two", more.len())),
        }
    }
}

fn unquoted(field: &str) -> &str {
    let field = field.trim();
    field.strip_prefix('"').and_then(|f| f.strip_suffix('"')).unwrap_or(field)
}

/// The lines of a file, one at a time.
struct Lines {
    file: BufReader<File>,
    /// Of the file.
    bytes: u64,
    number: u64,
    line: Vec<u8>,
}

struct Line<'a> {
    number: u64,
    bytes: u64,
    text: Result<&'a str, String>,
}

impl Lines {
    fn open(path: &Path) -> Result<Self, CliError> {
        let failed = |why: String| CliError::BadInput(format!("--file {}: {why}", path.display()));
        let file = File::open(path).map_err(|e| failed(e.to_string()))?;
        let about = file.metadata().map_err(|e| failed(e.to_string()))?;
        if !about.is_file() {
            return Err(failed("it is read twice, so give a file, no pipe and no folder".into()));
        }
        let (file, bytes) = (BufReader::with_capacity(1 << 16, file), about.len());
        Ok(Self { file, bytes, number: 0, line: Vec::new() })
    }

    fn next(&mut self) -> Result<Option<Line<'_>>, CliError> {
        let failed = |e: std::io::Error| CliError::Failed(format!("the file cannot be read: {e}"));
        self.line.clear();
        let most = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
        let mut part = (&mut self.file).take(most);
        let mut bytes = part.read_until(b'\n', &mut self.line).map_err(failed)?;
        if bytes == 0 {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        let is_long = bytes >= LINE_MAX && self.line.last() != Some(&b'\n');
        if is_long {
            bytes = bytes.saturating_add(self.file.skip_until(b'\n').map_err(failed)?);
        }
        let text = match std::str::from_utf8(&self.line) {
            _ if is_long => Err(format!("it is longer than {LINE_MAX} bytes")),
            Ok(text) if self.number == 1 => Ok(text.trim_start_matches('\u{feff}')),
            Ok(text) => Ok(text),
            Err(_) => Err("it is not UTF-8".to_owned()),
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Ok(Some(Line { number: self.number, bytes, text }))
    }
}

fn bar(len: u64, template: &str) -> Result<ProgressBar, CliError> {
    let style = ProgressStyle::with_template(template)
        .map_err(|e| CliError::Failed(format!("the progress cannot be shown: {e}")))?;
    Ok(ProgressBar::new(len).with_style(style))
}

fn stopped(error: CliError, done: &Done) -> CliError {
    match error {
        CliError::Failed(why) => CliError::Failed(format!(
            "{why}; {} addresses are imported, and the same command goes on from there",
            done.new
        )),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use crate::cli::registry::import::*;

    fn read(lines: &[&str]) -> Vec<Said> {
        let mut form = Form::default();
        lines.iter().map(|line| form.read(line)).collect()
    }

    fn named(namespace: &str, address: &str) -> Said {
        let namespace = (!namespace.is_empty()).then(|| namespace.to_owned());
        Ok(Some((namespace, address.to_owned())))
    }

    #[test]
    fn lines_are_read_as_people_and_spreadsheets_write_them() {
        let (a, b) = (named("acme", "0x1"), named("", "0x2"));
        assert_eq!(
            read(&["acme,0x1", "", " \"acme\" , \"0x1\"\r\n"]),
            [a.clone(), Ok(None), a.clone()]
        );
        assert_eq!(read(&["namespace,address", "acme,0x1"]), [Ok(None), a.clone()]);
        assert_eq!(read(&["Address,Namespace", "0x1,acme"]), [Ok(None), a.clone()]);
        assert_eq!(read(&["address", "0x2"]), [Ok(None), b.clone()]);
        assert_eq!(
            read(&[r#"{"address":"0x2"}"#, r#"{"namespace":"acme","address":"0x1"}"#]),
            [b, a]
        );
    }

    #[test]
    fn what_a_line_may_mean_otherwise_is_refused() {
        for line in [
            "acme,0x1,0x2",
            r#"{"address":"0x1","namespase":"acme"}"#,
            r#"{"address":"0x1"} {"address":"0x2"}"#,
            r#"{"address":1}"#,
            r#"{"addresses":[]}"#,
        ] {
            let read = read(&[line]);
            assert!(read.iter().all(Result::is_err), "{line}: {read:?}");
        }
        // A file is one of the two.
        assert!(read(&[r#"{"address":"0x1"}"#, "acme,0x1"])[1].is_err());
        assert!(read(&["acme,0x1", "address,namespace"])[1] == named("address", "namespace"));
    }
}
