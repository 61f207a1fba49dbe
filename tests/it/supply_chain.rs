//! What every crate of the workspace promises. What may stand among their dependencies is in `deny.toml`.

use std::fs;
use std::path::Path;

use toml::{Table, Value};

fn manifest(folder: &str) -> Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
    fs::read_to_string(&path).expect("a manifest").parse().expect("TOML")
}

/// An allocator that counts cannot be written without it. Nothing but tests/load uses it.
const MAY: &str = "tests/load/counting";

#[test]
fn no_crate_of_the_workspace_but_one_may_hold_unsafe_code() {
    let root = manifest("");
    let lints = &root["workspace"]["lints"]["rust"];
    // Forbidden is more than denied: no attribute in the code can allow it again.
    assert_eq!(lints["unsafe_code"].as_str(), Some("forbid"));
    let members = root["workspace"]["members"].as_array().expect("members");
    let members = members.iter().map(|member| member.as_str().expect("a folder"));
    for member in members.chain([""]) {
        let manifest = manifest(member);
        let uses_it = manifest.get("dependencies").is_some_and(|all| all.get("sse-sunset-counting").is_some());
        assert_eq!(uses_it, member == "tests/load", "{member:?}");
        if member == MAY {
            continue;
        }
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
        assert_eq!(lints, Some(true), "{member:?} has lints of its own");
    }
}
