//! The commands of `docs/daemons.md`, as they stand there.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_two_daemons_of_the_book() {
    let page = std::fs::read_to_string("docs/daemons.md").unwrap();
    let section = page.split_once("## See two daemons").unwrap().1;
    let commands = section.split("```bash\n").nth(1).unwrap().split("```").next().unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_topupd"));
    let path =
        format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let out = Command::new("bash")
        .args(["-e", "-c", commands])
        .env("PATH", path)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    println!("{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success());
    let (before, after) = text
        .split_once("database postgres://")
        .unwrap()
        .1
        .split_once("database postgres://")
        .unwrap();
    let line = |text: &str, part: &str| {
        text.lines().find(|l| l.contains(part)).unwrap_or_default().to_owned()
    };
    assert!(
        line(before, "working").starts_with("a-") && line(before, "standing by").starts_with("b-")
    );
    assert!(line(before, "eip155:31337").contains(" a-"));
    assert!(line(after, "gone").starts_with("a-") && line(after, "working").starts_with("b-"));
    assert!(line(after, "eip155:31337").contains(" b-"));
    assert!(after.contains("all 150 payments were credited exactly once"));
}
