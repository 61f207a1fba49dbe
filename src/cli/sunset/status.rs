//! `sunset status`: how far the running proxy has switched HTTP+SSE off.
//!
//! Exit codes: 0 told, 1 not there, 2 usage.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use serde_json::Value;

use super::super::{FAILED, USAGE, ask, complain};

/// Judging the evidence takes a while where many came.
const PATIENCE: Duration = Duration::from_secs(60);

/// How it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Json,
}

/// The words of `status`.
pub(super) fn command() -> Command {
    let format = Arg::new("format")
        .long("format")
        .value_name("FORMAT")
        .default_value("text")
        .value_parser(["text", "json"])
        .help("text, or json as the proxy tells it");
    Command::new("status")
        .about("Tell how far the running proxy has switched HTTP+SSE off")
        .arg(ask::admin())
        .arg(format)
}

/// Asks, and says what came of it.
pub(super) fn run(options: &ArgMatches) -> ExitCode {
    let address = match ask::asked(options) {
        Ok(address) => address,
        Err(problem) => return complain(USAGE, &problem),
    };
    let form = match options.get_one::<String>("format").map(String::as_str) {
        Some("json") => Form::Json,
        _ => Form::Text,
    };
    match ask::get(address, "/sunset", PATIENCE) {
        Ok((200, answer)) => print(&answer, form),
        Ok((status, answer)) => complain(FAILED, &format!("HTTP {status}: {}", answer.trim())),
        Err(error) => complain(FAILED, &format!("{address}: {error:#}")),
    }
}

/// Prints what the proxy answered.
pub(super) fn print(answer: &str, form: Form) -> ExitCode {
    let text = match (form, serde_json::from_str::<Value>(answer)) {
        (Form::Json, _) => answer.to_owned(),
        (Form::Text, Ok(status)) => text(&status),
        (Form::Text, Err(_)) => return complain(FAILED, "this is no answer of sse-sunset"),
    };
    super::super::print(text.as_bytes())
}

/// The same for people: a line for each thing that is so.
fn text(status: &Value) -> String {
    let word = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (phase, until, why) = (word(status, "phase"), word(status, "until"), word(status, "why"));
    let mut lines: Vec<(&str, String)> = Vec::new();
    let until = if until.is_empty() { String::new() } else { format!(" until {until}") };
    let by = match word(status, "by").as_str() {
        "operator" if !why.is_empty() => format!(" (by hand: {why})"),
        "operator" => " (by hand)".to_owned(),
        _ => " (by the plan)".to_owned(),
    };
    lines.push(("phase", format!("{phase}{until}{by}")));
    for (name, title) in [("paused", "paused"), ("held_back", "held back"), ("dry_run", "dry run")] {
        let Some(thing) = status.get(name).filter(|thing| thing.is_object()) else { continue };
        let (phase, since, why) = (word(thing, "phase"), word(thing, "since"), word(thing, "why"));
        let since = if since.is_empty() { since } else { format!("since {since}") };
        let why = if why.is_empty() { why } else { format!(": {why}") };
        lines.push((title, format!("{phase} {since}{why}").replace(" :", ":").trim().to_owned()));
    }
    if let Some(frozen) = status.get("frozen").filter(|frozen| frozen.is_object()) {
        let seen = frozen.get("seen").and_then(Value::as_u64);
        let seen = seen.map_or_else(
            || "who was seen before is still being gathered, and nobody is refused until then".to_owned(),
            |seen| format!("{seen} identities were seen before"),
        );
        lines.push(("newcomers", format!("refused since {}; {seen}", word(frozen, "since"))));
    }
    if let Some(next) = status.get("next").filter(|next| next.is_object()) {
        lines.push(("next", format!("{} at {}", word(next, "phase"), word(next, "at"))));
    }
    for (name, title) in [("sunset", "ends"), ("new_url", "new URL"), ("unsaved", "NOT KEPT")] {
        let value = word(status, name);
        if !value.is_empty() {
            lines.push((title, value));
        }
    }
    add_replicas(&mut lines, status.get("fleet"));
    lines.push(("verdict", format!("{}: {}", word(status, "verdict"), word(status, "reason"))));
    let mut text = lines.iter().fold(String::new(), |text, (title, line)| format!("{text}{title:<11} {line}\n"));
    add_clients(&mut text, status);
    text
}

/// Whether the other replicas follow, where there are any.
fn add_replicas(lines: &mut Vec<(&str, String)>, fleet: Option<&Value>) {
    let Some(replicas) = fleet.and_then(|fleet| fleet.get("replicas")).and_then(Value::as_array) else { return };
    let unshared = fleet.and_then(|fleet| fleet.get("unshared")).and_then(Value::as_str);
    lines.push(match (unshared, replicas.len()) {
        (Some(problem), _) => ("NOT SHARED", format!("this replica alone knows what was said to it: {problem}")),
        (None, 1) => ("replicas", "this one is alone".to_owned()),
        (None, count) => ("replicas", format!("{count} replicas follow this")),
    });
    for replica in replicas.iter().filter(|replica| replica.get("same_options") == Some(&Value::Bool(false))) {
        let name = replica.get("instance").and_then(Value::as_str).unwrap_or_default();
        lines.push(("NOT ALIKE", format!("replica {name} was given other options for the switch-off")));
    }
}

fn add_clients(text: &mut String, status: &Value) {
    let number = |name: &str| status.get(name).and_then(Value::as_u64).unwrap_or_default();
    let (in_use, hit) = (number("in_use"), number("would_be_hit"));
    let clients = if in_use == 1 { "1 client".to_owned() } else { format!("{in_use} clients") };
    let hit = match in_use {
        0 => String::new(),
        _ if hit == in_use => "; brownout, tombstone and gone would hit all of them".to_owned(),
        _ => format!("; gone would hit all of them, brownout and tombstone {hit}"),
    };
    let _ = writeln!(text, "{:<11} {clients} with use inside the window{hit}", "in use");
    let hits = status.get("would_hit").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for hit in hits {
        let identity = hit.get("identity").and_then(Value::as_str).unwrap_or_default();
        let last = hit.get("last_active").and_then(Value::as_str).unwrap_or("now");
        let open = match hit.get("open_sessions").and_then(Value::as_u64).unwrap_or_default() {
            0 => String::new(),
            1 => ", 1 session open".to_owned(),
            open => format!(", {open} sessions open"),
        };
        let _ = writeln!(text, "{:<11}   {identity}, last active {last}{open}", "");
    }
    for exempt in status.get("exempt").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        let word = |name: &str| exempt.get(name).and_then(Value::as_str).unwrap_or_default();
        let expired = if exempt.get("in_force") == Some(&Value::Bool(false)) { " (expired)" } else { "" };
        let _ = writeln!(
            text,
            "{:<11} {} until {}{expired}: {} ({})",
            "exempt",
            word("client"),
            word("expires"),
            word("reason"),
            word("owner")
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn other_replicas_are_told_of_where_there_may_be_any() {
        let of = |fleet: Value| text(&json!({"phase": "announce", "fleet": fleet}));
        let replica = |name: &str, same: bool| json!({"instance": name, "same_options": same});
        let two = json!([replica("a", true), replica("b", false)]);
        let told = of(json!({"shared": true, "unshared": null, "replicas": two}));
        assert!(told.contains("replicas    2 replicas follow this\n"), "{told}");
        assert!(told.contains("NOT ALIKE   replica b was given other options for the switch-off\n"), "{told}");
        let told =
            of(json!({"shared": false, "unshared": "Redis cannot be reached", "replicas": [replica("a", true)]}));
        assert!(told.contains("NOT SHARED  this replica alone knows what was said to it: Redis cannot be reached\n"));
        assert!(!text(&json!({"phase": "announce"})).to_lowercase().contains("replica"));
    }

    #[test]
    fn status_is_told_line_by_line() {
        let status = json!({
            "phase": "announce", "since": null, "until": null, "by": "operator", "why": "incident 7",
            "paused": {"since": "2026-12-10T09:01:00.000Z", "why": "incident 7"},
            "held_back": {"phase": "tombstone", "why": "tombstone would hit 1 client"},
            "dry_run": null, "set": null,
            "frozen": {"since": "2026-12-05T00:00:00.000Z", "seen": 12, "gathering": false},
            "next": {"phase": "gone", "at": "2026-12-25T00:00:00.000Z"},
            "sunset": "2026-12-20T00:00:00.000Z", "new_url": "https://mcp.example.com/mcp",
            "verdict": "not_yet", "reason": "Cursor used the server 2 days ago.",
            "in_use": 1, "would_be_hit": 1,
            "would_hit": [{"identity": "name:Cursor", "last_active": "2026-12-08T00:00:00Z", "open_sessions": 2}],
            "exempt": [{"client": "name:nightly*", "owner": "Ada", "reason": "moves in January", "expires": "2027-01-31", "in_force": true}],
        });
        let told = text(&status);
        for line in [
            "phase       announce (by hand: incident 7)\n",
            "paused      since 2026-12-10T09:01:00.000Z: incident 7\n",
            "held back   tombstone: tombstone would hit 1 client\n",
            "newcomers   refused since 2026-12-05T00:00:00.000Z; 12 identities were seen before\n",
            "next        gone at 2026-12-25T00:00:00.000Z\n",
            "verdict     not_yet: Cursor used the server 2 days ago.\n",
            "name:Cursor, last active 2026-12-08T00:00:00Z, 2 sessions open\n",
            "exempt      name:nightly* until 2027-01-31: moves in January (Ada)\n",
        ] {
            assert!(told.contains(line), "{line}{told}");
        }
    }
}
