//! `address import --file` and `address new --count`, typed.

use std::fmt::Write as _;

use alloy::primitives::{Address, keccak256};

use super::binary::{refused, text, topupd};
use super::support::*;

fn address(i: u32) -> String {
    Address::from_word(keccak256(i.to_be_bytes())).to_checksum(None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_taken_whole_and_again() {
    let net = Net::new().await;
    net.write_config(&Wants::default());
    topupd(&net, &["migrate"]);
    topupd(&net, &["namespace", "add", "acme"]);
    topupd(&net, &["namespace", "add", "bolt"]);
    let path = net.dir.path().join("customers.csv");
    let file = path.to_str().unwrap();
    let count = || {
        let list = topupd(&net, &["address", "list", "--limit", "100000", "--json"]);
        let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
        list["addresses"].as_array().unwrap().len()
    };

    // Each line that cannot be taken is named, and none is.
    let mut lines = String::from("\u{feff}namespace,address\r\n");
    for i in 0..12_000 {
        writeln!(lines, "acme,{}", address(i)).unwrap();
    }
    let dead = "0x000000000000000000000000000000000000dEaD";
    let token = net.tokens.usdc;
    let wrong = format!(
        "acme,0x12\nnobody,{}\n\nbolt,{dead}\nbolt,{token}\nbolt\nbolt,\u{1b}[31m\n",
        address(1)
    );
    std::fs::write(&path, format!("{lines}{wrong}")).unwrap();
    let (code, error) = refused_lines(&topupd(&net, &["address", "import", "--file", file]));
    for (line, why) in [
        (12_002, "not an address"),
        (12_003, "no namespace is called nobody"),
        (12_005, "burn address"),
        (12_006, "is the token USDC of local"),
        (12_007, "not an address"),
        (12_008, "not an address"),
    ] {
        let said = error.lines().find(|l| l.starts_with(&format!("line {line}: ")));
        assert!(said.is_some_and(|l| l.contains(why)), "{line} {why}: {error}");
    }
    assert!(code == 2 && error.contains("6 of 12008 lines"), "{error}");
    assert!(!error.contains('\u{1b}') && count() == 0, "{error}");

    // Taken, and taken again: nothing is bound twice.
    std::fs::write(&path, &lines).unwrap();
    let taken = topupd(&net, &["address", "import", "--file", file]);
    assert!(taken.status.success(), "{}", text(&taken.stderr));
    assert_eq!(text(&taken.stdout).trim(), "12000 addresses imported, 0 were there already");
    writeln!(lines, "bolt,{}", address(20_000)).unwrap();
    std::fs::write(&path, &lines).unwrap();
    let taken = topupd(&net, &["address", "import", "--file", file]);
    assert_eq!(text(&taken.stdout).trim(), "1 addresses imported, 12000 were there already");
    assert_eq!(count(), 12_001);

    // What another namespace has is named when its batch comes, and its batch is left out.
    let lines: String =
        [20_001, 7, 20_002].map(|i| format!("{{\"address\":\"{}\"}}\n", address(i))).concat();
    std::fs::write(&path, lines).unwrap();
    let (code, error) =
        refused_lines(&topupd(&net, &["address", "import", "bolt", "--file", file]));
    assert!(
        code == 2 && error.contains("line 2: ") && error.contains("another namespace"),
        "{error}"
    );
    assert!(error.contains("2 addresses of the same batches were left out"), "{error}");
    assert_eq!(count(), 12_001);

    for (arguments, why) in [
        (&["address", "import", "acme"][..], "ADDRESS"),
        (&["address", "import", "acme", dead, "--file", file], "cannot be used with"),
        (&["address", "import", "--file", "/nowhere"], "/nowhere"),
        (&["address", "import", "--file", "/"], "no pipe and no folder"),
        (&["address", "new", "acme", "--count", "0"], "0"),
    ] {
        let out = topupd(&net, arguments);
        let error = text(&out.stderr);
        assert!(out.status.code() == Some(2) && error.contains(why), "{arguments:?}: {error}");
    }

    let made = text(&topupd(&net, &["address", "new", "acme", "--count", "3"]).stdout);
    let made: Vec<&str> = made.lines().collect();
    assert_eq!(made.len(), 3);
    assert_eq!(
        made[..2],
        [
            "0x9858EfFD232B4033E47d90003D41EC34EcaEda94",
            "0x6Fac4D18c912343BF86fa7049364Dd4E424Ab9C0"
        ]
    );
    let (code, error) = refused(&topupd(&net, &["address", "new", "nobody", "--count", "3"]));
    assert!(code == 2 && error.contains("nobody"), "{error}");
}

/// The exit code, and all that was said.
fn refused_lines(out: &std::process::Output) -> (i32, String) {
    assert!(out.stdout.is_empty(), "{}", text(&out.stdout));
    (out.status.code().unwrap(), text(&out.stderr))
}
