//! `sunset set`, `pause` and `resume`: act on the running proxy, which answers when it is done.
//!
//! Exit codes: 0 done, 1 not done, 2 usage.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::Value;

use super::super::{FAILED, USAGE, ask, complain};
use super::status;
use crate::config;
use crate::sunset::{Order, Phase, Set, Share};

/// The guard judges the evidence first, which takes a while where many came.
const PATIENCE: Duration = Duration::from_secs(60);

/// The words of `set`.
pub(super) fn set() -> Command {
    let option = |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    changing("set", "Enter a phase by hand, or follow the plan again")
        .arg(
            Arg::new("phase")
                .value_name("PHASE")
                .required(true)
                .value_parser(ValueParser::new(phase_or_plan))
                .help("observe, announce, freeze, brownout, tombstone, gone, or plan to follow the dates again"),
        )
        .arg(
            option("for", "DURATION")
                .value_parser(ValueParser::new(config::duration))
                .help("Follow the plan again after so long; by default when you say so"),
        )
        .arg(
            option("share", "PERCENT")
                .value_parser(ValueParser::new(config::share))
                .help("Whom brownout and tombstone hit: always the same part of all clients"),
        )
        .arg(Arg::new("end-running").long("end-running").action(ArgAction::SetTrue).help("End running sessions too"))
        .arg(
            option("force", "PHASE")
                .value_parser(ValueParser::new(phase))
                .help("Enter this phase although it hits clients with use inside the window"),
        )
        .arg(
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Refuse nobody, and log whom the phase would refuse; a dry run of observe ends it"),
        )
}

/// The words of `pause`.
pub(super) fn pause() -> Command {
    changing("pause", "Refuse nobody until it is resumed, whatever the plan says")
}

/// The words of `resume`.
pub(super) fn resume() -> Command {
    changing("resume", "End a pause")
}

fn changing(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(ask::admin())
        .arg(
            Arg::new("admin-token-file")
                .long("admin-token-file")
                .value_name("FILE")
                .env("SSE_SUNSET_ADMIN_TOKEN_FILE")
                .hide_env(true)
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("File with the token that the proxy was started with"),
        )
        .arg(Arg::new("why").long("why").value_name("TEXT").required(true).help("The reason, for the log"))
}

/// Has the running proxy do it, and says how it stands then.
pub(super) fn run(action: &str, options: &ArgMatches) -> ExitCode {
    let address = match ask::asked(options) {
        Ok(address) => address,
        Err(problem) => return complain(USAGE, &problem),
    };
    let token = match options.get_one::<PathBuf>("admin-token-file").map(|path| token(path)) {
        Some(Ok(token)) => token,
        Some(Err(problem)) => return complain(USAGE, &problem),
        None => return complain(USAGE, "--admin-token-file FILE is needed"),
    };
    let body = match serde_json::to_string(&order(action, options)) {
        Ok(body) => body,
        Err(error) => return complain(FAILED, &error.to_string()),
    };
    match ask::post(address, "/sunset", &token, &body, PATIENCE) {
        Ok((200, answer)) => status::print(&answer, status::Form::Text),
        Ok((status, answer)) => complain(FAILED, &problem(status, &answer)),
        Err(error) => complain(FAILED, &format!("{address}: {error:#}")),
    }
}

fn order(action: &str, options: &ArgMatches) -> Order {
    let why = options.get_one::<String>("why").cloned().unwrap_or_default();
    match action {
        "pause" => Order::Pause { why },
        "resume" => Order::Resume { why },
        _ => Order::Set(Set {
            phase: options.get_one::<Option<Phase>>("phase").copied().flatten(),
            lasts: options.get_one::<Duration>("for").copied(),
            share: options.get_one::<Share>("share").copied(),
            end_running: options.get_flag("end-running"),
            force: options.get_one::<Phase>("force").copied(),
            is_dry_run: options.get_flag("dry-run"),
            why,
        }),
    }
}

/// What the proxy says is wrong.
fn problem(status: u16, answer: &str) -> String {
    let problem: Value = serde_json::from_str(answer).unwrap_or_default();
    let detail = problem.get("detail").and_then(Value::as_str);
    detail.map_or_else(|| format!("HTTP {status}: {}", answer.trim()), str::to_owned)
}

fn token(path: &Path) -> Result<String, String> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("--admin-token-file: {}: {error}", path.display()))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("--admin-token-file: {} must hold one token of visible ASCII characters", path.display()));
    }
    Ok(token.to_owned())
}

fn phase(text: &str) -> Result<Phase, String> {
    text.parse()
}

fn phase_or_plan(text: &str) -> Result<Option<Phase>, String> {
    if text == "plan" { Ok(None) } else { phase(text).map(Some).map_err(|problem| format!("{problem}, plan")) }
}
