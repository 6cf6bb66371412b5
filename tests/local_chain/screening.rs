//! Screening by the real binary: a list with a bad line is refused, and who is asked over HTTP decides.

use std::sync::Arc;

use topupd::devnet::WebServer;

use super::binary::{refused, text, topupd};
use super::start::run;
use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn payments_are_asked_about_before_they_are_credited() {
    let mut net = Net::new().await;
    net.fill_purses().await;
    let (bad, lost) = (net.dev.accounts[1], net.dev.accounts[2]);
    let server = WebServer::start(Arc::new(move |head: &str| {
        let risk = if head.contains(&bad.to_string()) { "high" } else { "low" };
        if head.contains(&lost.to_string()) {
            return (500, "{\"error\":\"we are sorry\"}".to_owned());
        }
        (200, format!("{{\"data\":{{\"risk\":\"{risk}\"}}}}"))
    }));
    let server = server.await.unwrap();
    let wants = Wants { confirmations: 1, ..Wants::default() };
    let config = net.write_config(&wants);
    net.register(&config).await;
    let list = net.dir.path().join("list.txt");
    std::fs::write(&list, "# nobody\n0x12\n").unwrap();
    let more = format!(
        "[screening]\nlist = {list:?}\npatience_s = 1\n[screening.http]\nurl = \"{}/{{address}}\"\nverdict = \"/data/risk\"\nhit = \"high\"\n",
        server.url()
    );
    let file = format!("{}\n{more}", net.config_text(&wants));
    std::fs::write(net.config_path(), file).unwrap();
    let (code, error) = refused(&topupd(&net, &["check"]));
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("screening.list: ") && error.contains("line 2: "), "{error}");
    std::fs::write(&list, "# nobody\n").unwrap();
    let (code, error) = refused(&topupd(&net, &["check"]));
    assert!(code == 2 && error.contains("has no address"), "{error}");
    std::fs::write(&list, "0x1111111111111111111111111111111111111111\n").unwrap();
    let out = text(&topupd(&net, &["check"]).stdout);
    assert!(out.contains("screening.list = ") && out.contains("(1 addresses)"), "{out}");
    assert!(out.contains("screening.http = /data/risk at "), "{out}");

    let log = net.dir.path().join("run.log");
    let mut daemon = run(&net, &log);
    let store = net.store().await;
    let to = net.addresses[0];
    for sender in [1, 2, 3] {
        net.pay(sender, net.tokens.usdc, to, 1_000_000).await;
    }
    net.dev.mine(2).await.unwrap();
    until("as wanted", async || {
        let mut now: Vec<String> =
            deposits(&store).await.iter().map(|d| d.stage.to_string()).collect();
        now.sort();
        match now == ["credited", "held (screening)", "held (screening)"] {
            true => Ok(()),
            false => Err(now),
        }
    })
    .await;
    let held: Vec<String> = deposits(&store)
        .await
        .iter()
        .filter(|d| d.stage.as_str() == "held")
        .map(|d| d.id.to_string())
        .collect();
    let shown: String =
        held.iter().map(|id| text(&topupd(&net, &["deposits", "show", id]).stdout)).collect();
    // Whoever releases one sees what it is held for: where it is shown, and where it is proposed.
    let release = |id: &String| {
        let by = ["--release", "--operator", "alice", "--reason", "a friend"];
        text(&topupd(&net, &[&["holds", "resolve", id.as_str()][..], &by].concat()).stdout)
    };
    let on_hold: String =
        held.iter().map(|id| text(&topupd(&net, &["holds", "show", id]).stdout)).collect();
    let proposed: String = held.iter().map(release).collect();
    let listed = text(&topupd(&net, &["holds", "list"]).stdout);
    assert!(listed.contains("http: hit") && listed.contains("http: no_answer"), "{listed}");
    let checked = text(&topupd(&net, &["check"]).stdout);
    assert!(checked.contains("/{address}") && !checked.contains("[hidden]"), "{checked}");
    for shown in [shown, on_hold, proposed] {
        for part in
            ["http: hit", "{\"data\":{\"risk\":\"high\"}}", "http: no_answer", "we are sorry"]
        {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
    verify(&store).await;
    daemon.kill();
}
