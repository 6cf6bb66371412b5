//! Rules over the source text that no lint knows: who may use whom, where SQL lives, what opens a
//! file, how long one may be, and which log fields there are.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as expected"
)]

#[path = "tidy/book.rs"]
mod book;
#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/page.rs"]
mod page;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Longest file that people can hold in the head.
const LINES_MAX: usize = 500;
/// Longest function that people can hold in the head, tests apart.
const FUNCTION_MAX: usize = 100;

/// Each room and what it may use. `cli` may use everything.
const ARROWS: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("clock", &[]),
    ("chance", &[]),
    ("text", &[]),
    ("chain", &["domain"]),
    ("oracle", &["domain", "clock"]),
    ("store", &["domain", "clock", "chance", "planted"]),
    ("tasks", &["domain", "chain", "oracle", "store", "clock", "planted", "text"]),
    ("config", &["domain", "chain", "store", "presets", "text"]),
    ("telemetry", &["output"]),
    ("output", &["domain"]),
    ("daemon", &["domain", "chain", "oracle", "store", "tasks", "clock", "config"]),
    ("view", &["domain", "store"]),
    ("service", &["domain", "chain", "store", "tasks", "daemon", "config", "clock", "view"]),
    ("devnet", &["chain", "output"]),
    ("planted", &[]),
    ("presets", &["domain"]),
];

/// Crates that decide with facts only.
const DOMAIN_CRATES: &[&str] = &[
    "std",
    "alloy",
    "serde",
    "serde_json",
    "sha2",
    "ring",
    "bip32",
    "rust_decimal",
    "jiff",
    "thiserror",
    "proptest",
];

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for dir in ["src", "tests", "benches"] {
        walk(&root.join(dir), &mut found);
    }
    found.sort();
    assert!(found.len() > 30, "the walk found hardly anything");
    found
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// `src/tasks/watch.rs` is in `tasks`, `src/config.rs` in `config`.
fn room(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("src/")?;
    Some(rest.split('/').next()?.trim_end_matches(".rs"))
}

/// The words after every `crate::`.
fn uses(text: &str) -> BTreeSet<String> {
    text.split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn the_arrows_point_one_way() {
    for (name, text) in sources() {
        let Some((_, allowed)) =
            room(&name).and_then(|r| ARROWS.iter().find(|(room, _)| *room == r))
        else {
            continue;
        };
        let own = room(&name).unwrap();
        for used in uses(&text) {
            assert!(
                used == own || allowed.contains(&used.as_str()),
                "{name} uses crate::{used}; {own} may use {allowed:?}"
            );
        }
    }
}

#[test]
fn every_room_is_in_the_arrows() {
    for (name, _) in sources() {
        let Some(room) = room(&name) else { continue };
        let known =
            ["main", "lib", "cli"].contains(&room) || ARROWS.iter().any(|(r, _)| *r == room);
        assert!(known, "{name}: the room {room} is not in ARROWS");
    }
}

#[test]
fn the_domain_is_pure() {
    for (name, text) in sources() {
        if room(&name) != Some("domain") {
            continue;
        }
        for line in text.lines().map(str::trim).filter(|l| l.starts_with("use ")) {
            let root = line["use ".len()..].split([':', ';', ' ']).next().unwrap();
            let inside = [
                "crate",
                "super",
                "self",
                "Event",
                "HoldReason",
                "Stage",
                "Malformation",
                "Side",
                "Shape",
            ];
            assert!(inside.contains(&root) || DOMAIN_CRATES.contains(&root), "{name}: {line}");
        }
        for banned in ["async ", "SystemTime", "Instant::", "sqlx", "tokio", "f64", "f32"] {
            assert!(!text.contains(banned), "{name} has {banned:?}");
        }
    }
}

#[test]
fn sql_lives_in_the_store() {
    for (name, text) in sources() {
        if !name.starts_with("src/") || room(&name) == Some("store") {
            continue;
        }
        for verb in ["SELECT ", "INSERT INTO", "UPDATE ", "DELETE FROM", "CREATE TABLE", "sqlx::"] {
            assert!(!text.contains(verb), "{name} has {verb:?}: SQL lives in src/store");
        }
    }
}

/// Those macros panic when nobody reads.
#[test]
fn stdout_and_stderr_are_written_in_one_place() {
    for (name, text) in sources() {
        if name.starts_with("src/") && name != "src/output.rs" {
            for banned in
                ["print!(", "println!(", "dbg!(", "io::stdout().lock", "io::stderr().lock"]
            {
                assert!(!text.contains(banned), "{name} has {banned:?}: use crate::output");
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_is_short_enough() {
    for (name, text) in sources() {
        assert!(text.starts_with("//!"), "{name} does not open with //!");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines");
        for word in ["TODO", "FIXME", "XXX"].map(|w| format!("{w}:")) {
            assert!(!text.contains(&word), "{name} has a leftover {word}");
        }
        let file = name.rsplit('/').next().unwrap();
        assert!(
            !["helpers.rs", "utils.rs", "util.rs"].contains(&file),
            "{name}: name it by what it does"
        );
    }
}

/// The functions of a file that rustfmt has formatted, each with its number of lines: from `fn` to the brace that
/// stands below it.
fn functions(text: &str) -> Vec<(&str, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (first, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let words: Vec<&str> = code.split(' ').take_while(|word| *word != "fn").collect();
        let modifiers = ["pub", "const", "async", "unsafe", "default"];
        let is_modifier = |w: &&str| {
            modifiers.contains(w) || w.starts_with("pub(") || *w == "in" || w.ends_with(')')
        };
        let Some((_, after)) = code.split_once("fn ") else { continue };
        if !words.iter().all(is_modifier) || code.ends_with(['}', ';']) {
            continue;
        }
        let indent = &line[..line.len() - code.len()];
        let end = lines[first..].iter().position(|line| *line == format!("{indent}}}"));
        let name = after.split(['(', '<']).next().unwrap();
        found.push((name, end.map_or(1, |end| end + 1)));
    }
    found
}

#[test]
fn functions_are_short_enough() {
    let text = "impl A {\n    pub(in crate::x) async fn long<T>(\n        a: u8,\n    ) {\n        if a {\n        }\n    }\n}\nfn one() {}\nfn two() {\n}\n";
    assert_eq!(functions(text), [("long", 6), ("two", 2)]);
    let mut counted = 0;
    for (name, text) in sources() {
        // A table of a test may be as long as what it is about.
        if !name.starts_with("src/") || name.ends_with("tests.rs") {
            continue;
        }
        for (function, lines) in functions(&text) {
            counted += 1;
            assert!(lines <= FUNCTION_MAX, "{name}: {function} has {lines} lines");
        }
    }
    assert!(counted > 1_000, "only {counted} functions were found");
}

/// `lib.rs` leads a deposit through ten files.
#[test]
fn the_walk_leads_through_files_that_are_there() {
    let all: BTreeSet<String> = sources().into_iter().map(|(name, _)| name).collect();
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let text = text.unwrap();
    let walk = text.split("# One deposit's walk").nth(1).unwrap();
    let files: Vec<&str> = walk.split('`').filter(|word| word.starts_with("src/")).collect();
    assert_eq!(files.len(), 10, "{files:?}");
    for file in &files {
        assert!(all.contains(*file), "{file} is not there");
    }
    assert_eq!(files.iter().collect::<BTreeSet<_>>().len(), 10, "{files:?}");
}

/// Whoever reads a file needs only those below it.
#[test]
fn no_two_files_use_each_other() {
    let all = sources();
    let used: usize = circles::edges(&all).values().map(BTreeSet::len).sum();
    assert!(used > 1_000, "only {used} uses of one file by another were found");
    let circles = circles::circles(&all);
    assert!(circles.is_empty(), "these use each other: {circles:#?}");
}

#[test]
fn log_fields_come_from_one_place() {
    let all = sources();
    let table = &all.iter().find(|(name, _)| name == "src/telemetry.rs").unwrap().1;
    let known: BTreeSet<&str> = table
        .lines()
        .filter(|l| l.starts_with("//! | `"))
        .flat_map(|l| l.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    for (name, text) in all.iter().filter(|(name, _)| name.starts_with("src/")) {
        for call in text.split("tracing::").skip(1) {
            let Some(arguments) = call.split_once("!(").map(|(_, rest)| rest) else { continue };
            let fields = arguments.split('"').next().unwrap();
            for field in fields.split(',').map(str::trim).filter(|f| !f.is_empty()) {
                let field = field.split(['=', ' ']).next().unwrap().trim_start_matches(['%', '?']);
                assert!(
                    known.contains(field),
                    "{name}: log field {field:?} is not in src/telemetry.rs"
                );
            }
        }
    }
}
