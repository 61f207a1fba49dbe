//! A network of the test's own, in which whole hosts can vanish.
//!
//! A host that is gone sends neither FIN nor RST, and nothing that runs on this host can play it: its kernel goes on
//! acknowledging. So the test runs once more in a network namespace, where packets to an address can be dropped. That
//! takes user namespaces; where they are forbidden, `FAULTS_WITHOUT_NAMESPACES=1` leaves these tests out.

use std::process::{Command, Stdio};

use crate::packages::run;

/// Set for the test that runs in the namespace.
const INSIDE: &str = "FAULTS_INSIDE_NAMESPACE";
const WITHOUT: &str = "FAULTS_WITHOUT_NAMESPACES";

/// Runs `test` in the namespace of the test `name`, which calls this: there, not here.
pub(crate) fn inside(name: &str, test: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    if std::env::var_os(WITHOUT).is_some() {
        return eprintln!("not tested, as {WITHOUT} is set: {name}");
    }
    let program = std::env::current_exe().expect("this test");
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--net", "sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]);
    again.arg(program).args(["--exact", name, "--nocapture"]).env(INSIDE, "1").stdin(Stdio::null());
    let output = again.output().expect("unshare");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "in a namespace ({WITHOUT}=1 leaves this test out where there can be none):\n{said}"
    );
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
