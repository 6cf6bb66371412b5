//! A password that is changed while a daemon runs, and a server whose address is one of IPv6.

use super::*;
use crate::local_chain::binary::edit;

/// The same place, with another user.
fn as_user(stage: &Stage, user: &str, password: Option<&str>) -> String {
    let mut url = url::Url::parse(stage.net.database.url()).unwrap();
    url.set_username(user).unwrap();
    url.set_password(password).unwrap();
    url.to_string()
}

async fn says(stage: &Stage, name: &str, part: &str) {
    until(part, async || {
        let log = stage.log(name);
        if log.contains(part) { Ok(()) } else { Err(log) }
    })
    .await;
}

/// A role, and what keeps a daemon that is it from going on with the connections that it has.
async fn change(stage: &Stage, user: &str, password: &str) {
    let mut sql = stage.net.database.sql().await;
    sql.execute(&format!("ALTER ROLE {user} PASSWORD '{password}'")).await.unwrap();
    sql.execute(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"
    ))
    .await
    .unwrap();
}

async fn role(stage: &Stage, user: &str, password: &str) {
    let mut sql = stage.net.database.sql().await;
    sql.execute(&format!("CREATE ROLE {user} LOGIN SUPERUSER PASSWORD '{password}'"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_changed_under_a_daemon_and_in_its_configuration() {
    let stage = Stage::new().await;
    role(&stage, "rotated", "first-secret").await;
    let url = |password: &str| as_user(&stage, "rotated", Some(password));
    edit(&stage.net, stage.net.database.url(), &url("first-secret"));
    let mut daemon = stage.daemon("a");
    let payer = Payer::start(&stage.net, 21);
    stage.held_by("a").await;

    change(&stage, "rotated", "second-secret").await;
    says(&stage, "a", "password authentication failed").await;
    says(&stage, "a", "must be started again where they come from its environment").await;
    // What is not TOML, while it is written, changes nothing.
    let text = std::fs::read_to_string(stage.net.config_path()).unwrap();
    std::fs::write(stage.net.config_path(), &text[..text.len() / 2]).unwrap();
    tokio::time::sleep(LEASE).await;
    std::fs::write(stage.net.config_path(), text).unwrap();
    edit(&stage.net, &url("first-secret"), &url("second-secret"));
    says(&stage, "a", "the database is back").await;
    stage.goes_on().await;

    // In the other order; and another database is not taken up, which would be another ledger.
    edit(&stage.net, &url("second-secret"), &url("third-secret"));
    change(&stage, "rotated", "third-secret").await;
    stage.goes_on().await;
    let elsewhere = url("fourth-secret").replace("/topupd_test", "/elsewhere_test");
    edit(&stage.net, &url("third-secret"), &elsewhere);
    change(&stage, "rotated", "fourth-secret").await;
    says(&stage, "a", "degraded").await;
    edit(&stage.net, &elsewhere, &url("fourth-secret"));
    stage.goes_on().await;

    let paid = payer.stop().await;
    stage.all_credited(&paid).await;
    assert!(daemon.0.try_wait().unwrap().is_none());
    let log = stage.log("a");
    assert!(!log.contains("-secret") && !log.contains(" at line "), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_changed_in_the_password_file() {
    let stage = Stage::new().await;
    role(&stage, "filed", "first-secret").await;
    let file = stage.net.dir.path().join("pgpass");
    let write = |password: &str| {
        let line = format!("127.0.0.1:{}:*:filed:{password}\n", stage.server.port());
        std::fs::write(&file, line).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
    };
    write("first-secret");
    edit(&stage.net, stage.net.database.url(), &as_user(&stage, "filed", None));
    let mut daemon = stage.daemon_with("a", |command| {
        command.env("PGPASSFILE", &file);
    });
    stage.held_by("a").await;
    change(&stage, "filed", "second-secret").await;
    says(&stage, "a", "password authentication failed").await;
    write("second-secret");
    says(&stage, "a", "the database is back").await;
    assert!(daemon.0.try_wait().unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_ipv6_is_a_server_like_any_other() {
    if std::net::TcpListener::bind(("::1", 0)).is_err() {
        println!("this machine has no IPv6: only the unit test of the address was done");
        return;
    }
    let listens = ("listen_addresses".to_owned(), "127.0.0.1,::1".to_owned());
    let options = PostgresOptions { settings: vec![listens], ..PostgresOptions::default() };
    let stage = Stage::with(options).await;
    let url = stage.net.database.url().replace("127.0.0.1", "[::1]");
    edit(&stage.net, stage.net.database.url(), &url);
    let _daemon = stage.daemon("a");
    stage.held_by("a").await;
    let paid = vec![(stage.net.pay(0, stage.net.tokens.usdc, stage.net.addresses[0], 5).await, 5)];
    stage.all_credited(&paid).await;
    // With the password from a file, too, where the address has no brackets, and its colons are escaped.
    let file = stage.net.dir.path().join("pgpass");
    let parsed = url::Url::parse(&url).unwrap();
    let secret = parsed.password().unwrap();
    std::fs::write(&file, format!("\\:\\:1:*:*:topupd:{secret}\n")).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_topupd"))
        .args(["ledger", "verify", "--config"])
        .arg(stage.net.config_path())
        .env("TOPUPD_DATABASE__URL", url.replace(&format!(":{secret}"), ""))
        .env("PGPASSFILE", &file)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
