//! A network of the test's own, in which whole hosts can vanish.
//!
//! A host that is gone sends neither FIN nor RST, and nothing that runs on this host can play it: its kernel goes on
//! acknowledging. So the test runs once more in a network namespace, where packets to an address can be dropped. Some
//! containers forbid them even to root; there it says so and leaves the rest to `net::listener`'s own test, which looks at
//! the limit that is set on the sockets.

use std::process::{Command, Stdio};

use crate::packages::run;

/// Set for the test that runs in the namespace.
const INSIDE: &str = "FAULTS_INSIDE_NAMESPACE";
/// Ways to have a namespace: as anybody, and as root where nobody else may.
const WAYS: [&[&str]; 2] = [&["--user", "--map-root-user", "--net"], &["--net"]];

/// Runs `test` in the namespace of the test `name`, which calls this: there, not here.
pub(crate) fn inside(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let works = |way: &&&[&str]| {
        let mut unshare = Command::new("unshare");
        let tried = unshare.args(**way).args(["ip", "link", "set", "lo", "up"]).stdin(Stdio::null()).output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let Some(way) = WAYS.iter().find(works) else {
        return eprintln!("not tested, as this machine lets nobody have a network of his own: {name}");
    };
    let program = std::env::current_exe().expect("this test");
    let mut again = Command::new("unshare");
    again.args(*way).args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    again.arg(program).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").stdin(Stdio::null());
    let output = again.output().expect("unshare");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "in a namespace:\n{said}");
}

/// From now on nothing that is sent from or to `address` arrives.
pub(crate) fn lose(address: &str) {
    let rule = |words: &[&str]| run(Command::new("ip").arg("rule").args(words));
    // The rule for local addresses comes first of all unless it is moved.
    rule(&["add", "priority", "100", "lookup", "local"]);
    rule(&["del", "priority", "0"]);
    for direction in ["from", "to"] {
        rule(&["add", "priority", "1", direction, address, "blackhole"]);
    }
}
