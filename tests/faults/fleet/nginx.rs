//! nginx in front of the replicas, as `deploy/compose` has it: any of them takes any request, nothing sticks.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::files;
use crate::child::Child;

/// How the balancer chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// As deploy/compose/nginx.conf has it.
    InTurn,
    /// For each request anew, as it keeps no connection to a replica.
    Random,
}

/// In front of `replicas`, on the port that `listen` names.
pub(crate) fn start(choice: Choice, listen: SocketAddr, replicas: [SocketAddr; 3]) -> Child {
    let folder = tempfile::tempdir().expect("a folder");
    let path: &Path = folder.path();
    let mut text = files::nginx(path, listen, replicas);
    if choice == Choice::Random {
        let head = "upstream sunset {";
        assert_eq!(text.matches(head).count(), 1);
        text = text.replace(head, &format!("{head}\n    random;"));
    }
    fs::write(path.join("nginx.conf"), text).expect("a file");
    let mut command = Command::new("nginx");
    // Debian has it where not every user looks.
    command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
    command.arg("-p").arg(path).args(["-e", "stderr", "-g", "daemon off; master_process off;", "-c"]);
    command.arg(path.join("nginx.conf"));
    Child::start_in(folder, "balancer", &mut command)
}
