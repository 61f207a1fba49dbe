//! The rows of the tables (UPSTREAMS.md C and C.1), and that what comes out is what the client's revision allows.

mod arbitrary;
mod capabilities;
mod properties;
mod questions;
mod results;
mod schema;
mod tools;

use serde_json::Value;

use super::*;

/// The client of `version` that declared `capabilities`.
fn client(version: Version, capabilities: &str) -> Profile {
    Profile::of(&format!(r#"{{"protocolVersion":"{version}","capabilities":{capabilities},"clientInfo":{{}}}}"#))
}

/// What a client of `version` gets for `json`, which its revision must allow.
fn shaped(method: &str, json: &str, version: Version) -> String {
    let profile = client(version, "{}");
    let shaped = result(method, json, &profile).expect("a result").into_owned();
    schema::assert_valid(version.as_str(), schema::result_of(method), &value(&shaped));
    shaped
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"))
}
