//! The answer to `initialize`, made of what `server/discover` said.

use super::Version;
use super::json::{RESERVED, quoted, string};
use crate::mcp::Object;

/// What stands for a server's version where it names none: the old revisions want a string.
const NO_VERSION: &str = "\"0\"";

/// The result of `initialize` for a client of `version`.
///
/// `fallback_name` names the server where it does not name itself. Extensions are left out because no old revision has
/// them, and tasks because they are not translated.
#[must_use]
pub fn initialize_result(version: Version, discover_result: &str, fallback_name: &str) -> String {
    let discovered = Object::of(discover_result);
    let member = |name: &str| discovered.as_ref().and_then(|result| result.get(name));
    let mut capabilities = member("capabilities").and_then(Object::of);
    if let Some(capabilities) = &mut capabilities {
        capabilities.remove("extensions");
        capabilities.remove("tasks");
    }
    let capabilities = capabilities.map_or_else(|| "{}".into(), Object::finish);
    let meta = member("_meta").and_then(Object::of);
    let named = meta.as_ref().and_then(|meta| meta.get(&format!("{RESERVED}serverInfo")));
    let instructions = member("instructions").filter(|text| string(text).is_some());
    let instructions = instructions.map(|text| format!(",\"instructions\":{text}")).unwrap_or_default();
    format!(
        "{{\"protocolVersion\":\"{version}\",\"capabilities\":{capabilities},\"serverInfo\":{}{instructions}}}",
        server_info(named, fallback_name)
    )
}

fn server_info(named: Option<&str>, fallback_name: &str) -> String {
    let Some(mut info) = named.and_then(Object::of) else {
        return format!("{{\"name\":{},\"version\":{NO_VERSION}}}", quoted(fallback_name));
    };
    let is_text = |info: &Object<'_>, name: &str| info.get(name).and_then(string).is_some();
    if !is_text(&info, "name") {
        info.set("name", quoted(fallback_name));
    }
    if !is_text(&info, "version") {
        info.set("version", NO_VERSION);
    }
    info.finish().into_owned()
}
