//! Installs what the clients and servers are made of: npm packages and one Python environment for each SDK.
//!
//! Promise: all of it is pinned (`packages/`), goes below `target/`, and is installed anew only when a list changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The folder of the fixtures.
pub(crate) fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop")
}

/// The folder for what the run makes, kept between runs.
pub(crate) fn home() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("interop")
}

/// The folder that holds `node_modules`.
pub(crate) fn node() -> PathBuf {
    let folder = home().join("node");
    install(&folder, &["package.json", "package-lock.json", ".npmrc"], || {
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder));
    });
    folder
}

/// The interpreter of the environment that `packages/python-VERSION.txt` lists.
pub(crate) fn python(version: &str) -> PathBuf {
    let folder = home().join(format!("python-{version}"));
    let list = format!("python-{version}.txt");
    install(&folder, &[&list], || {
        run(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(&folder));
        let pip = folder.join("venv/bin/pip");
        run(Command::new(pip).args(["install", "--quiet", "--no-deps", "-r", &list]).current_dir(&folder));
    });
    folder.join("venv/bin/python")
}

/// Runs `installation` in `folder`, which holds copies of `lists`, unless the same lists were installed there before.
fn install(folder: &Path, lists: &[&str], installation: impl FnOnce()) {
    // One at a time: tests that run side by side want the same.
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let packages = fixtures().join("packages");
    let read = |list: &&str| fs::read_to_string(packages.join(list)).expect("a list of packages");
    let wanted: String = lists.iter().map(read).collect();
    let stamp = folder.join("installed");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return;
    }
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).expect("a folder for packages");
    for list in lists {
        fs::copy(packages.join(list), folder.join(list)).expect("a copy of a list");
    }
    installation();
    fs::write(stamp, wanted).expect("a note of what was installed");
}

/// Runs a command to its end, and panics with what it said if it fails.
pub(crate) fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&text));
}
