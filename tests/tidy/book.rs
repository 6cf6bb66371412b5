//! The README and the book in `docs/`: what they show is loaded and parsed here, every page that there should be is
//! there, and every link leads somewhere.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use topupd::cli::Cli;
use topupd::config::Config;
use topupd::domain::deposit::{ALL_STAGES, Stage};
use topupd::domain::finding::FindingKind;

use super::page::{Block, pages, root};

/// Longest README.
const README_MAX: usize = 150;

/// What a fragment of a configuration is put into.
const BASE: &str = r#"
network = "mainnet"
[database]
url = "sqlite:topupd.db"
[chains.base]
providers = [
  { name = "ours", http = "https://rpc.ours.example" },
  { name = "theirs", http = "https://rpc.theirs.example" },
]
[[epochs]]
id = "one"
starts_at = "2026-01-01T00:00:00Z"
phase = "pre_tge"
accept = { USDC = { valuation = "par", credits_per_usd = "1000" } }
"#;

/// What stands in capitals in a command, and something that it could be.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("ACT", "7"),
    ("ADDRESS", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
    ("BLOCK", "24000000"),
    ("CHAIN", "base"),
    ("DEPOSIT", "0x1111111111111111111111111111111111111111111111111111111111111111"),
    ("FILE", "file"),
    ("FINDING", "7"),
    ("HASH", "0x2222222222222222222222222222222222222222222222222222222222222222"),
    ("NAME", "alice"),
    ("NAMESPACE", "acme"),
    ("PRICE", "0.02"),
    ("RECORD", "acme/3"),
    ("TEXT", "a reason"),
    ("TIME", "2027-01-15T08:00:00Z"),
    ("TX", "0x3333333333333333333333333333333333333333333333333333333333333333"),
    ("URL", "sqlite:other.db"),
];

/// `docs/holds` and `../log.md` are `docs/log.md`.
fn resolved(folder: &Path, target: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in folder.join(target).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    path
}

#[test]
fn the_readme_is_short() {
    let lines = pages()["README.md"].lines;
    assert!(
        lines <= README_MAX,
        "README.md has {lines} lines, more than {README_MAX}: docs/ is for the rest"
    );
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages = pages();
    let mut wrong = Vec::new();
    for (name, page) in &pages {
        let folder = Path::new(name).parent().unwrap();
        for link in page.links.iter().filter(|link| !link.contains("://")) {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            let path =
                if target.is_empty() { PathBuf::from(name) } else { resolved(folder, target) };
            let found = pages.get(&*path.to_string_lossy());
            let leads = match (anchor, found) {
                ("", _) => root().join(&path).exists(),
                (anchor, Some(page)) => page.anchors.iter().any(|known| known == anchor),
                (_, None) => false,
            };
            if !leads {
                wrong.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every page can be reached from the README, by links alone.
#[test]
fn every_page_is_reached_from_the_readme() {
    let pages = pages();
    let mut reached = BTreeSet::new();
    let mut next = vec!["README.md".to_owned()];
    while let Some(name) = next.pop() {
        let Some(page) = pages.get(&name) else { continue };
        if !reached.insert(name.clone()) {
            continue;
        }
        let folder = Path::new(&name).parent().unwrap();
        let targets = page.links.iter().map(|link| link.split('#').next().unwrap());
        next.extend(targets.map(|target| resolved(folder, target).to_string_lossy().into_owned()));
    }
    let lost: Vec<_> = pages.keys().filter(|name| !reached.contains(*name)).collect();
    assert!(lost.is_empty(), "no way leads from the README to {lost:?}");
}

/// Puts one table into another.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(more)) => merge(inner, more),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

#[test]
fn every_configuration_is_loaded() {
    let mut wrong = Vec::new();
    let mut whole = 0;
    for block in pages().values().flat_map(|page| &page.blocks) {
        let Block { place, info, text } = block;
        let text = match info.as_str() {
            "toml" => {
                whole += 1;
                text.clone()
            }
            "toml fragment" => {
                let mut base: toml::Table = toml::from_str(BASE).unwrap();
                match toml::from_str::<toml::Table>(text) {
                    Ok(fragment) => merge(&mut base, fragment),
                    Err(error) => wrong.push(format!("{place}: {error}")),
                }
                toml::to_string(&base).unwrap()
            }
            other if other.starts_with("toml") => {
                wrong.push(format!("{place}: {other} is neither toml nor toml fragment"));
                continue;
            }
            _ => continue,
        };
        if let Err(error) = Config::parse(&text, place, []) {
            wrong.push(format!("{place}: {error}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(whole >= 2, "the README and docs/configuration.md have one each");
}

/// The fields of what a file of configuration is read into are its keys.
#[test]
fn every_key_is_explained() {
    let mut keys = BTreeSet::new();
    for (_, text) in super::sources().iter().filter(|(name, _)| name.starts_with("src/config")) {
        let structs = text.split("struct Raw").skip(1);
        for read in structs.chain(text.split("enum RawSource").skip(1)) {
            let body = read.split("\n}").next().unwrap();
            let fields = body.lines().skip(1).filter_map(|line| line.trim().split_once(": "));
            let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
            keys.extend(
                fields.map(|(name, _)| name.to_owned()).filter(|name| is_name(&name.as_str())),
            );
        }
    }
    assert!(keys.len() > 60, "{keys:?}");
    let pages = pages();
    let explained: BTreeSet<&str> = ["docs/configuration.md", "docs/prices.md"]
        .iter()
        .flat_map(|name| &pages[*name].code)
        .flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .collect();
    let silent: Vec<_> = keys.iter().filter(|key| !explained.contains(key.as_str())).collect();
    assert!(silent.is_empty(), "no page explains {silent:?}");
}

/// The words of each `topupd …` in a text for a shell.
fn commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let mut all = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut end = |words: &mut Vec<String>| {
        let at = words.iter().position(|word| word == "topupd" || word.ends_with("/topupd"));
        let before = at.map(|at| &words[..at]);
        let starts = |word: &String| {
            ["until", "while", "if", "!", "do", "then", "$"].contains(&word.as_str())
        };
        if before.is_some_and(|before| before.iter().all(|w| starts(w) || w.contains('='))) {
            all.push(words.split_off(at.unwrap()));
        }
        words.clear();
    };
    let mut letters = text.chars().peekable();
    while let Some(c) = letters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => while letters.next_if(|c| *c != '\n').is_some() {},
            (None, '$') if letters.peek() == Some(&'(') => {
                letters.next();
                word = None;
                end(&mut words);
            }
            (None, ' ') => words.extend(word.take()),
            (None, '\n' | ';' | '|' | '&' | '(' | ')') => {
                words.extend(word.take());
                end(&mut words);
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word.take());
    end(&mut words);
    for words in &mut all {
        let redirected =
            words.iter().position(|w| w.trim_start_matches('2').starts_with(['<', '>']));
        words.truncate(redirected.unwrap_or(words.len()));
    }
    all
}

/// With something in the place of each placeholder, and of a hash that is shortened.
fn filled(word: &str) -> String {
    if word.starts_with("0x") && word.contains('…') {
        return filled("HASH");
    }
    let mut text = String::new();
    let mut rest = word;
    while !rest.is_empty() {
        let capitals = rest.chars().take_while(char::is_ascii_uppercase).count();
        let (name, after) = rest.split_at(capitals);
        match PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == name) {
            Some((_, value)) => text.push_str(value),
            None => text.push_str(name),
        }
        let other = after.chars().next();
        text.extend(other);
        rest = &after[other.map_or(0, char::len_utf8)..];
    }
    text
}

fn parses(words: &[String]) -> Result<(), clap::Error> {
    let words = words.iter().map(|word| filled(word));
    match Cli::try_parse_from(words) {
        Err(error) if error.use_stderr() => Err(error),
        _ => Ok(()),
    }
}

#[test]
fn every_command_is_one() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for block in pages().values().flat_map(|page| &page.blocks) {
        let text = match block.info.as_str() {
            "sh" | "bash" => block.text.clone(),
            // What was typed, among what was answered.
            _ => block
                .text
                .lines()
                .filter_map(|line| line.strip_prefix("$ "))
                .fold(String::new(), |all, line| all + line + "\n"),
        };
        if block.info.is_empty() && block.text.starts_with("topupd ") {
            wrong.push(format!("{}: commands stand in a block of sh", block.place));
        }
        for words in commands(&text) {
            checked += 1;
            if let Err(error) = parses(&words) {
                wrong.push(format!("{}: {}: {error}", block.place, words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 100, "{checked}: hardly any");
}

/// In a sentence a command may be cut short; what is there must be right.
#[test]
fn every_command_in_a_sentence_exists() {
    let mut wrong = Vec::new();
    for (name, page) in &pages() {
        let cut = |code: &&String| code.starts_with("topupd ") && !code.contains('…');
        for words in page.code.iter().filter(cut).flat_map(|code| commands(code)) {
            let Err(error) = parses(&words) else { continue };
            let is_short = [
                ErrorKind::MissingRequiredArgument,
                ErrorKind::MissingSubcommand,
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ];
            if !is_short.contains(&error.kind()) {
                wrong.push(format!("{name}: {}: {error}", words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The pages of a folder, without its index; and every name that should have one.
fn has_a_page_each(folder: &str, names: &BTreeSet<&str>) {
    let pages = pages();
    let index = format!("docs/{folder}/README.md");
    let there: BTreeSet<&str> = pages
        .keys()
        .filter(|name| **name != index)
        .filter_map(|name| name.strip_prefix("docs/")?.strip_prefix(folder)?.strip_prefix('/'))
        .map(|name| name.trim_end_matches(".md"))
        .collect();
    assert_eq!(there, *names, "the pages in docs/{folder}, and what there is in the source");
    for name in names {
        let place = format!("docs/{folder}/{name}.md");
        let page = &pages[&place];
        assert_eq!(page.headings.first().map(String::as_str), Some(*name), "{place}: its title");
        for part in ["What it means", "What to do"] {
            assert!(page.headings.iter().any(|h| h == part), "{place}: has no part {part:?}");
        }
        let has_commands = |block: &Block| block.info == "sh" && !commands(&block.text).is_empty();
        assert!(page.blocks.iter().any(has_commands), "{place}: says no command");
        let link = format!("{name}.md");
        assert!(pages[&index].links.contains(&link), "{index}: does not link to {link}");
    }
}

#[test]
fn every_hold_has_a_page() {
    let reasons = ALL_STAGES.iter().filter(|stage| matches!(stage, Stage::Held(_)));
    has_a_page_each("holds", &reasons.filter_map(|stage| stage.reason()).collect());
}

#[test]
fn every_finding_has_a_page() {
    has_a_page_each("findings", &FindingKind::ALL.iter().map(|kind| kind.as_str()).collect());
}

/// The parts of `docs/ignored.md`, and why a transfer is never credited.
#[test]
fn every_reason_to_ignore_has_a_part() {
    let pages = pages();
    let ignored = ALL_STAGES.iter().filter(|stage| matches!(stage, Stage::Ignored(_)));
    let reasons: BTreeSet<&str> = ignored.filter_map(|stage| stage.reason()).collect();
    let parts = pages["docs/ignored.md"].headings.iter().skip(1);
    assert_eq!(parts.map(String::as_str).collect::<BTreeSet<_>>(), reasons);
}

/// The parts of `docs/waits.md`, and the codes that `waiting_for` gives.
#[test]
fn every_wait_has_a_part() {
    let sources = super::sources();
    let (_, source) =
        sources.iter().find(|(_, text)| text.contains("pub fn waiting_for(")).unwrap();
    let code = source.split("#[cfg(test)]").next().unwrap();
    let codes: BTreeSet<&str> = code
        .split("waiting(")
        .skip(1)
        .filter_map(|call| call.split(',').next())
        // A literal, or two to choose from; a name of a function has none.
        .flat_map(|first| {
            first.split('"').skip(1).step_by(2).skip(usize::from(first.contains("==")))
        })
        .collect();
    assert!(codes.len() > 10, "{codes:?}");
    let pages = pages();
    let parts = pages["docs/waits.md"].headings.iter().skip(1);
    let parts: BTreeSet<&str> = parts.map(String::as_str).collect();
    assert_eq!(parts, codes, "docs/waits.md, and what waits in the source");
}

/// A dash that is longer than a hyphen stands nowhere but in what programs print.
#[test]
fn sentences_have_no_long_dashes() {
    for (name, page) in pages() {
        assert!(!page.prose.contains('\u{2014}'), "{name} has a long dash");
    }
}

#[test]
fn commands_are_found_in_a_shell() {
    let found = commands(
        "KEY=$(topupd log key --config 'a b') # topupd no\nuntil topupd status | grep -q topupd; do sleep 1; done\ntopupd run --name a 2> log & A=$!\necho topupd\n",
    );
    let words: Vec<String> = found.iter().map(|words| words.join("_")).collect();
    assert_eq!(words, ["topupd_log_key_--config_a b", "topupd_status", "topupd_run_--name_a"]);
    assert_eq!(filled("RTITY/USD=PRICE"), "RTITY/USD=0.02");
    assert_eq!(filled("USDC"), "USDC");
}
