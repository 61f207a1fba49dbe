//! The API of Kubernetes as JSON schemas that know every field, of the oldest version that the files promise and of a new one.
//! They come in a Python package, of which tests/run unpacks these two below target/kubernetes/schemas.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use jsonschema::{Retrieve, Uri, Validator};
use serde_json::Value;

use super::render::tools;

/// Minor versions.
pub(super) const VERSIONS: [&str; 2] = ["1.30", "1.37"];

/// Reads what schemas refer to from their own folder, and nowhere else.
struct Folder(PathBuf);

impl Retrieve for Folder {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let name = uri.path().as_str().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(serde_json::from_str(&fs::read_to_string(self.0.join(name))?)?)
    }
}

fn schema(version: &str, object: &Value) -> Option<Validator> {
    let folder = tools().join(format!("schemas/v{version}.0-local-strict"));
    assert!(folder.join("_definitions.json").exists(), "{}: tests/run fetches them", folder.display());
    let (kind, version) = (object["kind"].as_str()?.to_ascii_lowercase(), object["apiVersion"].as_str()?);
    let file = match version.split_once('/') {
        Some((group, version)) => format!("{kind}-{}-{version}.json", group.split('.').next()?),
        None => format!("{kind}-{version}.json"),
    };
    let text = fs::read_to_string(folder.join(&file)).ok()?;
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let options = jsonschema::options().with_retriever(Folder(folder)).with_base_uri(format!("file:///{file}"));
    Some(options.build(&schema).unwrap_or_else(|error| panic!("{file}: {error}")))
}

/// What `version` would refuse of `object`.
pub(super) fn faults(version: &str, object: &Value) -> Vec<String> {
    let Some(validator) = schema(version, object) else {
        return vec![format!("{version} knows no {} {}", object["apiVersion"], object["kind"])];
    };
    validator.iter_errors(object).map(|error| format!("{version}: at {}: {error}", error.instance_path())).collect()
}
