//! Which file of `src` uses which, and the circles among them.
//!
//! It reads text, not types: `use` trees, and paths such as `super::name::item` where they stand. A
//! re-export counts as the file that it leads to, so a `mod.rs` that only lists its children is in no
//! circle. What only tests use is left out. Macros and methods are not followed.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path: `src/store/log/mod.rs` and `src/store/log.rs` are both `["store", "log"]`.
type Module = Vec<String>;

/// One file, with what its paths need to be understood.
struct File {
    name: String,
    module: Module,
    code: String,
    /// Its children, from `mod name;`.
    children: BTreeSet<String>,
    /// What each imported name stands for, and whether it is only handed on.
    imports: BTreeMap<String, (Vec<String>, bool)>,
    /// Modules of which it imports everything.
    globs: Vec<(Vec<String>, bool)>,
}

/// The files that use each other, one list a circle.
pub(crate) fn circles(sources: &[(String, String)]) -> Vec<Vec<String>> {
    let edges = edges(sources);
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        edges.keys().map(|from| (from, reachable(&edges, from))).collect();
    let mut found = BTreeSet::new();
    for (from, to) in &reached {
        if to.contains(from) {
            let both = |other: &&&String| reached.get(**other).is_some_and(|r| r.contains(from));
            found.insert(to.iter().filter(both).map(|name| (**name).clone()).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

fn reachable<'a>(
    edges: &'a BTreeMap<String, BTreeSet<String>>,
    from: &String,
) -> BTreeSet<&'a String> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&String> = edges.get(from).into_iter().flatten().collect();
    while let Some(next) = open.pop() {
        if seen.insert(next) {
            open.extend(edges.get(next).into_iter().flatten());
        }
    }
    seen
}

/// Each file, and the files that it uses.
pub(crate) fn edges(sources: &[(String, String)]) -> BTreeMap<String, BTreeSet<String>> {
    let files: Vec<File> = sources.iter().filter_map(|(name, text)| file(name, text)).collect();
    let modules: BTreeMap<&[String], &File> =
        files.iter().map(|f| (f.module.as_slice(), f)).collect();
    let mut edges = BTreeMap::new();
    for file in &files {
        let imported = file.imports.values().chain(&file.globs);
        let mut paths: Vec<Vec<String>> = imported
            .filter(|(_, only_handed_on)| !only_handed_on)
            .map(|(p, _)| p.clone())
            .collect();
        paths.extend(inline_paths(&file.code));
        let used: BTreeSet<String> = paths
            .iter()
            .filter_map(|path| leads_to(&modules, file, path, 0))
            .filter(|to| *to != file.name)
            .collect();
        edges.insert(file.name.clone(), used);
    }
    edges
}

fn file(name: &str, text: &str) -> Option<File> {
    let rest = name.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut module: Module = rest.split('/').map(str::to_owned).collect();
    if module.iter().any(|part| part == "tests") || rest == "main" {
        return None;
    }
    if module.last().is_some_and(|last| last == "mod") || rest == "lib" {
        module.pop();
    }
    let before_tests = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = before_tests.lines().filter(|line| !line.trim_start().starts_with("//"));
    let text = lines.collect::<Vec<_>>().join("\n");
    let mut file = File {
        name: name.to_owned(),
        module,
        code: String::new(),
        children: BTreeSet::new(),
        imports: BTreeMap::new(),
        globs: Vec::new(),
    };
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let words = line.trim_start();
        let handed_on = words.starts_with("pub");
        let words = words.strip_prefix("pub").map_or(words, |rest| {
            let rest = rest.strip_prefix('(').and_then(|r| r.split_once(')')).map_or(rest, |r| r.1);
            rest.trim_start()
        });
        if let Some(child) = words.strip_prefix("mod ").and_then(|m| m.strip_suffix(';')) {
            file.children.insert(child.to_owned());
        } else if let Some(tree) = words.strip_prefix("use ") {
            let mut tree = tree.to_owned();
            while !tree.ends_with(';') {
                let Some(more) = lines.next() else { break };
                tree.push_str(more.trim());
            }
            import(&mut file, &[], tree.trim_end_matches(';'), handed_on);
        } else {
            file.code.push_str(line);
            file.code.push('\n');
        }
    }
    Some(file)
}

/// Takes a `use` tree apart: `a::{b, c as d, e::*}`.
fn import(file: &mut File, before: &[String], tree: &str, handed_on: bool) {
    let tree = tree.trim();
    if let Some((path, inner)) = tree.split_once('{') {
        let mut before = before.to_vec();
        before.extend(path.split("::").filter(|s| !s.is_empty()).map(|s| s.trim().to_owned()));
        for part in parts(inner.strip_suffix('}').unwrap_or(inner)) {
            import(file, &before, part, handed_on);
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(p, a)| (p, Some(a)));
    let mut full = before.to_vec();
    full.extend(path.split("::").filter(|s| !s.is_empty()).map(|s| s.trim().to_owned()));
    if full.len() > 1 && full.last().is_some_and(|last| last == "self") {
        full.pop();
    }
    match full.last().map(String::as_str) {
        Some("*") => file.globs.push((full, handed_on)),
        Some(last) => {
            let name = alias.unwrap_or(last).trim().to_owned();
            file.imports.insert(name, (full, handed_on));
        }
        None => {}
    }
}

/// Splits at the commas that are not within braces.
fn parts(inner: &str) -> Vec<&str> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&inner[start..]);
    found.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// Every path of two words or more that stands in code.
fn inline_paths(code: &str) -> Vec<Vec<String>> {
    code.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.contains("::") && !word.starts_with("::"))
        .map(|word| word.split("::").filter(|s| !s.is_empty()).map(str::to_owned).collect())
        .filter(|path: &Vec<String>| path.len() > 1)
        .collect()
}

/// The file in which what a path names is written. None for a path out of the crate, and for one that
/// names only a module: what is used of that has a path of its own.
fn leads_to(
    modules: &BTreeMap<&[String], &File>,
    from: &File,
    path: &[String],
    depth: usize,
) -> Option<String> {
    let (first, mut rest) = path.split_first()?;
    let mut at: Module = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.module.clone(),
        "super" => {
            let mut at = from.module.clone();
            at.pop();
            at
        }
        child if from.children.contains(child) => {
            rest = path;
            from.module.clone()
        }
        // A name that is imported, or the room itself that a `use` of another crate would shadow.
        name if depth < 8 => {
            let (full, _) = from.imports.get(name)?;
            if full.first() == Some(first) {
                return None;
            }
            let full = [full.as_slice(), rest].concat();
            return leads_to(modules, from, &full, depth + 1);
        }
        _ => return None,
    };
    for (i, name) in rest.iter().enumerate() {
        if name == "super" {
            at.pop();
            continue;
        }
        let mut child = at.clone();
        child.push(name.clone());
        if modules.contains_key(child.as_slice()) {
            at = child;
            continue;
        }
        let here = modules.get(at.as_slice())?;
        // Only what is imported from within the crate is handed on; a file's own names win.
        if let Some((full, _)) = here.imports.get(name)
            && depth < 8
        {
            let full = [full.as_slice(), &rest[i + 1..]].concat();
            return leads_to(modules, here, &full, depth + 1);
        }
        return Some(here.name.clone());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files: Vec<_> =
            files.iter().map(|(n, t)| (format!("src/{n}.rs"), (*t).to_owned())).collect();
        circles(&files)
    }

    #[test]
    fn a_circle_is_found_however_it_is_written() {
        let circle = vec![vec!["src/a/b.rs".to_owned(), "src/a/c.rs".to_owned()]];
        let parent = ("a/mod", "mod b;\nmod c;\npub use b::B;");
        for (b, c) in [
            ("use super::c::C;\npub struct B;", "use crate::a::B;"),
            ("use super::{\n    c::{C, D as E},\n};\npub struct B;", "fn f() -> super::b::B { B }"),
            ("use crate::a::c;\nfn f() { c::f() }\npub struct B;", "use super::B as X;"),
        ] {
            assert_eq!(found(&[parent, ("a/b", b), ("a/c", c)]), circle, "{b} {c}");
        }
        for (b, c) in [
            ("use super::c::C;", "// use super::b::B;"),
            ("use super::c::C;", "#[cfg(test)]\nmod tests {\n use super::super::b::B; }"),
            ("use super::c;", "use other::b::B;"),
        ] {
            assert!(found(&[parent, ("a/b", b), ("a/c", c)]).is_empty(), "{b} {c}");
        }
    }

    #[test]
    fn a_parent_is_in_a_circle_only_where_it_uses_its_child() {
        let child = ("a/b", "use super::T;");
        let listed = "mod b;\npub(super) use self::b::B;\npub struct T;";
        assert!(found(&[("a/mod", listed), child]).is_empty());
        for used in ["use self::b::B;", "fn f() { b::f() }", "pub use b::B;\nfn f() { b::f() }"] {
            let parent = format!("mod b;\n{used}\npub struct T;");
            assert_eq!(found(&[("a", &parent), child]).len(), 1, "{used}");
        }
        // What it hands on it does not hold itself.
        let handed = "mod b;\nmod c;\npub use self::c::T;\nfn f() { b::f() }";
        assert!(found(&[("a/mod", handed), child, ("a/c", "pub struct T;")]).is_empty());
    }
}
