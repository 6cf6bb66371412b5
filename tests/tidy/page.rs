//! Pages of the README and the book, taken apart: blocks, headings, links, code and prose.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A fenced block: where it is, what stands behind its fence, and its text.
pub(crate) struct Block {
    pub(crate) place: String,
    pub(crate) info: String,
    pub(crate) text: String,
}

/// A page, taken apart.
#[derive(Default)]
pub(crate) struct Page {
    pub(crate) lines: usize,
    pub(crate) blocks: Vec<Block>,
    /// As they are linked to: `#what-to-do`.
    pub(crate) anchors: Vec<String>,
    /// Headings as they are written.
    pub(crate) headings: Vec<String>,
    /// Where they lead, as written.
    pub(crate) links: Vec<String>,
    /// Texts between backticks.
    pub(crate) code: Vec<String>,
    /// What is left when blocks and code are taken out.
    pub(crate) prose: String,
}

impl Page {
    fn of(name: &str, text: &str) -> Self {
        let mut page = Self { lines: text.lines().count(), ..Self::default() };
        let mut open: Option<(usize, Block)> = None;
        for (number, line) in text.lines().enumerate() {
            let bare = line.trim_start();
            let indent = line.len() - bare.len();
            match (&mut open, bare.strip_prefix("```")) {
                (Some(_), Some("")) => page.blocks.extend(open.take().map(|(_, block)| block)),
                (Some((indent, block)), _) => {
                    block.text.push_str(line.get(*indent..).unwrap_or(bare));
                    block.text.push('\n');
                }
                (None, Some(info)) => {
                    let place = format!("{name}:{}", number + 1);
                    let block = Block { place, info: info.to_owned(), text: String::new() };
                    open = Some((indent, block));
                }
                (None, None) => page.line(line),
            }
        }
        assert!(open.is_none(), "{name}: a block is not closed");
        page.parts();
        page
    }

    fn line(&mut self, line: &str) {
        if let Some(heading) = line.strip_prefix('#') {
            let heading = heading.trim_start_matches('#').trim();
            self.headings.push(heading.to_owned());
            let slug: String = heading
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            let same = self.anchors.iter().filter(|known| **known == slug).count();
            self.anchors.push(if same == 0 { slug } else { format!("{slug}-{same}") });
        }
        self.prose.push_str(line);
        self.prose.push('\n');
    }

    /// Code out of the prose, and links.
    fn parts(&mut self) {
        let text = std::mem::take(&mut self.prose);
        for (i, part) in text.split('`').enumerate() {
            if i % 2 == 0 {
                self.prose.push_str(part);
            } else {
                self.code.push(part.replace('\n', " "));
            }
        }
        for (i, _) in self.prose.match_indices("](") {
            let target: String = self.prose[i + 2..].chars().take_while(|c| *c != ')').collect();
            self.links.push(target);
        }
    }
}

/// The README and every page in `docs/`, by their names from the root.
pub(crate) fn pages() -> BTreeMap<String, Page> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md")];
    walk(&root().join("docs"), &mut found);
    found
        .iter()
        .map(|path| {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            let page = Page::of(&name, &std::fs::read_to_string(path).unwrap());
            (name, page)
        })
        .collect()
}
