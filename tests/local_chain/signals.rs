//! Signals that a service meets: some stop it, the others change nothing.
#![cfg(unix)]

use super::start::run;
use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn signals_of_those_who_rotate_logs_or_reload_change_nothing() {
    let mut net = Net::new().await;
    let config = net.write_config(&Wants { confirmations: 1, ..Wants::default() });
    net.register(&config).await;
    let store = net.store().await;
    let log = net.dir.path().join("run.log");
    let mut paid = 0;
    for stop in ["-TERM", "-INT", "-QUIT"] {
        let mut daemon = run(&net, &log);
        let said = || std::fs::read_to_string(&log).unwrap();
        let says = async |part: &str| {
            until(part, async || if said().contains(part) { Ok(()) } else { Err(said()) }).await;
        };
        says("started").await;
        for signal in ["HUP", "USR1", "USR2"] {
            daemon.tell(&format!("-{signal}"));
            says(&format!("SIG{signal}")).await;
        }
        for signal in ["-PIPE", "-XFSZ", "-WINCH", "-CONT"] {
            daemon.tell(signal);
        }
        net.pay(0, net.tokens.usdc, net.addresses[0], 1_000_000).await;
        paid += 1;
        until_credited(&store, paid).await;
        assert!(daemon.0.try_wait().unwrap().is_none(), "{}", said());
        daemon.tell(stop);
        assert!(daemon.0.wait().unwrap().success(), "{stop}: {}", said());
        assert!(said().contains("stopped"), "{stop}: {}", said());
    }
    verify(&store).await;
}
