//! `tombstone`: prints what another server needs to answer 410 when the proxy is gone. 0: printed; 2: usage.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use jiff::Timestamp;

use super::{USAGE, complain, print};
use crate::config;
use crate::sunset::Notice;
use crate::sunset::farewell::{self, Farewell, Server, Upgrade};

/// The words of `tombstone`.
pub(super) fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let servers = PossibleValuesParser::new(Server::ALL.map(Server::name));
    Command::new("tombstone")
        .about("Print configuration with which another server answers 410, as the proxy did, when the proxy is gone")
        .after_help(
            "The first lines of what is printed say where it goes, how to check it and when it may be removed. Give the \
             options that serve had, so that clients are told the same.",
        )
        .arg(option("for", "SERVER", "Server that answers then").required(true).value_parser(servers))
        .arg(option("sse-path", "PATH", "Path of the legacy event stream").default_value("/sse").value_parser(path))
        .arg(
            option("messages-path", "PATH", "Path that legacy clients post to")
                .default_value("/messages")
                .value_parser(path),
        )
        .arg(
            option("public-path", "PREFIX", "What stands before both paths when clients ask that server")
                .default_value("")
                .hide_default_value(true)
                .value_parser(prefix),
        )
        .arg(option("new-url", "URL", "Where Streamable HTTP is spoken, as clients reach it").required(true).value_parser(new_url))
        .arg(option("info-url", "URL", "Page for people that says more").value_parser(info_url))
        .arg(option("deprecation", "DATE", "Since when HTTP+SSE was deprecated: 2026-12-01, or a full RFC 3339 time").value_parser(date))
        .arg(option("sunset", "DATE", "Since when it is switched off").value_parser(date))
        .arg(
            option(
                "upgrade-to",
                "URL",
                "MCP endpoint as that server reaches it: clients that have the old URL and speak Streamable HTTP go on to it",
            )
            .value_parser(upgrade),
        )
}

/// Prints.
pub(super) fn run(options: &ArgMatches) -> ExitCode {
    let text = |name: &str| options.get_one::<String>(name).cloned();
    let date = |name: &str| options.get_one::<Timestamp>(name).copied();
    let (stream, messages) = (text("sse-path").unwrap_or_default(), text("messages-path").unwrap_or_default());
    if stream.trim_end_matches('/') == messages.trim_end_matches('/') {
        return complain(USAGE, "--sse-path and --messages-path must differ");
    }
    let (deprecation, sunset) = (date("deprecation"), date("sunset"));
    // RFC 9745 §4.
    if let (Some(deprecation), Some(sunset)) = (deprecation, sunset)
        && sunset < deprecation
    {
        return complain(USAGE, &format!("--sunset {sunset} is before --deprecation {deprecation}"));
    }
    let prefix = text("public-path").unwrap_or_default();
    let notice = Notice { new_url: text("new-url"), info_url: text("info-url"), deprecation, sunset };
    let upgrade = options.get_one::<Upgrade>("upgrade-to").cloned();
    let farewell = Farewell::new(&format!("{prefix}{stream}"), &format!("{prefix}{messages}"), &notice, upgrade);
    let server = text("for").and_then(|name| Server::ALL.into_iter().find(|server| server.name() == name));
    let Some(server) = server else { return complain(USAGE, "--for names no server") };
    print(farewell.write(server).as_bytes())
}

/// Characters that mean themselves in every configuration, as `serve` demands them too.
fn path(text: &str) -> Result<String, String> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let fits = text.len() > 1 && text.starts_with('/') && !text.starts_with("//") && text.bytes().all(unreserved);
    if fits {
        Ok(text.to_owned())
    } else {
        Err("is not a path of letters, digits, and -._~ that starts with one /".to_owned())
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    if text.is_empty() { Ok(String::new()) } else { path(text) }
}

fn new_url(text: &str) -> Result<String, String> {
    config::new_url(text).map(String::from)
}

fn info_url(text: &str) -> Result<String, String> {
    let url = config::probed_url(text)?;
    if farewell::uri(url.as_str()).len() > farewell::LONGEST_URL {
        return Err(format!("has more than {} characters", farewell::LONGEST_URL));
    }
    Ok(url.into())
}

fn upgrade(text: &str) -> Result<Upgrade, String> {
    config::probed_url(text)?.as_str().parse()
}

fn date(text: &str) -> Result<Timestamp, String> {
    config::date(text, Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_of_the_page_has_a_length_that_every_server_takes() {
        assert_eq!(info_url("https://MCP.example.com?a b").as_deref(), Ok("https://mcp.example.com/?a%20b"));
        for wrong in ["mcp.example.com", "ftp://a/", "https://user@a/", &format!("https://a/?{}", "{".repeat(200))] {
            assert!(info_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_hold_nothing_that_a_configuration_could_read() {
        assert_eq!(prefix("/gw/").as_deref(), Ok("/gw"));
        assert_eq!(prefix("/").as_deref(), Ok(""));
        for wrong in ["/", "sse", "//sse", "/s se", "/$host", "/a;b", "/{a}", "/a`"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
