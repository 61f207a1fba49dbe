//! Whether we are let in: redirects, and the credential. The name that we call the server by is looked at here only where it
//! bars the way.
//!
//! The trap: some servers answer 401 to a session that they do not know. It is taken for a matter of credentials only with
//! a challenge, or where the text does not speak of sessions.

use http::StatusCode;
use http::header;
use reqwest::Url;

use super::super::Options;
use super::super::finding::{Advice, On};
use super::super::http::{Http, NoAnswer, Reply, header_text};
use super::super::text::{location, milliseconds, quote};
use super::{metadata, names};

/// What is looked at here.
pub(super) const NAMES: &[&str] = &["http", "redirects", "auth", "auth-metadata"];
/// Redirects that are followed to find the last one.
const MOST_REDIRECTS: usize = 5;

/// How it went.
pub(super) struct Entry {
    /// As the server is reached.
    pub(super) http: Http,
    /// What was said to a request in a session that nobody has.
    pub(super) stale: Reply,
    /// Whether the name that the proxy would send was refused, and another is used.
    pub(super) is_renamed: bool,
}

/// Whether they let us in.
pub(super) enum Door {
    /// They let us in.
    Open(Box<Entry>),
    /// They do not, and why the rest is skipped.
    Shut(&'static str),
}

/// Knocks without a credential first, to see the challenge, then with the one given.
pub(super) async fn knock(on: &mut On<'_, '_>, http: Http, options: &Options) -> Door {
    let first = match http.anonymous().knock().await {
        Ok(first) => first,
        Err(error) => {
            silent(on, &error);
            return Door::Shut("the server does not answer");
        }
    };
    on.ok("http", format!("answers ({})", milliseconds(first.took)));
    let Some((http, first)) = redirects(on, http, first).await else {
        let why = "a redirect stands before the server";
        on.skipped(NAMES, why);
        return Door::Shut(why);
    };
    let is_renamed = names::is_refusal(&first);
    let (http, first) = if is_renamed {
        let renamed = names::find_other(on, http, &first).await;
        let Some((http, first)) = again(renamed).await else {
            let why = "the server refuses our Host";
            on.skipped(NAMES, why);
            return Door::Shut(why);
        };
        (http, first)
    } else {
        (http, first)
    };
    match credential(on, &http, first, options).await {
        Some(stale) => Door::Open(Box::new(Entry { http, stale, is_renamed })),
        None => Door::Shut("not let in"),
    }
}

/// Knocks under the name that the server takes.
async fn again(renamed: Option<Http>) -> Option<(Http, Reply)> {
    let http = renamed?;
    let reply = http.anonymous().knock().await.ok()?;
    Some((http, reply))
}

fn silent(on: &mut On<'_, '_>, error: &NoAnswer) {
    let remedy = "whoever runs the server: is this the URL of its MCP endpoint, and does it speak HTTP/1.1 there \
                  (https or http)? Its log should show this request";
    let seen = format!("POST ping: {error}");
    on.failure("http", seen, Advice::new("every call of every client would fail so", remedy));
    on.skipped(NAMES, "the server does not answer");
}

/// The proxy follows a 307 or 308 by its path, on the host that it was given, and no other. Where it would, we do.
async fn redirects(on: &mut On<'_, '_>, http: Http, first: Reply) -> Option<(Http, Reply)> {
    if !first.status.is_redirection() {
        on.ok("redirects", "none");
        return Some((http, first));
    }
    let status = first.status.as_u16();
    let Some(target) = target(&http.url, &first) else {
        let seen = format!("HTTP {status}, and its Location leads nowhere");
        let remedy = "whoever runs the server, or the gateway before it: no redirect on the MCP endpoint";
        on.failure("redirects", seen, Advice::new("no call gets through", remedy));
        return None;
    };
    let mut same = http.url.clone();
    same.set_path(target.path());
    let kept = matches!(first.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if kept && target.host_str() == http.url.host_str() && same.path() != http.url.path() {
        let moved = http.at(same);
        if let Ok(reply) = moved.anonymous().knock().await
            && !reply.status.is_redirection()
        {
            let meaning = "the proxy follows it by its path, at the price of a second request whenever it starts";
            let remedy = format!("set --upstream to {}", location(&moved.url));
            let seen = format!("HTTP {status} to {}", location(&target));
            on.warning("redirects", seen, Advice::new(meaning, remedy));
            return Some((moved, reply));
        }
    }
    let last = follow(&http, target).await;
    let meaning = "the proxy does not follow it: a credential would go to another host, or the POST become a GET";
    let remedy = format!("set --upstream to {}, if that is the MCP endpoint and not a login page", location(&last));
    on.failure("redirects", format!("HTTP {status}, and in the end {}", location(&last)), Advice::new(meaning, remedy));
    None
}

fn target(from: &Url, reply: &Reply) -> Option<Url> {
    let target = from.join(header_text(&reply.headers, &header::LOCATION)?).ok()?;
    matches!(target.scheme(), "http" | "https").then_some(target)
}

/// Where the redirects end, asked without anything that was meant for the server of the option.
async fn follow(http: &Http, target_of_first: Url) -> Url {
    let mut at = http.bare();
    at.url = target_of_first;
    for _ in 0..MOST_REDIRECTS {
        let Ok(reply) = at.knock().await else { break };
        match target(&at.url, &reply).filter(|_| reply.status.is_redirection()) {
            Some(next) => at.url = next,
            None => break,
        }
    }
    at.url
}

/// Whether an answer asks for a credential, or turns one down.
fn refuses_credential(reply: &Reply) -> bool {
    let challenged = reply.headers.contains_key(header::WWW_AUTHENTICATE);
    let speaks_of_session = reply.text.to_ascii_lowercase().contains("session");
    match reply.status {
        StatusCode::UNAUTHORIZED => challenged || !speaks_of_session,
        StatusCode::FORBIDDEN => true,
        _ => false,
    }
}

/// What the server says to the credential given, where one is asked for.
async fn credential(on: &mut On<'_, '_>, http: &Http, first: Reply, options: &Options) -> Option<Reply> {
    let has_one = http.headers.contains_key(header::AUTHORIZATION);
    let asks = refuses_credential(&first);
    let reply = if has_one { Some(http.knock().await) } else { None };
    let challenge = header_text(&first.headers, &header::WWW_AUTHENTICATE).map(quote);
    let asked = match &challenge {
        Some(challenge) => format!("asks for a credential: HTTP {}, {challenge}", first.status.as_u16()),
        None if asks => format!("asks for a credential: {}, without WWW-Authenticate", first.said()),
        None => "asks for no credential".to_owned(),
    };
    let challenged = first.headers.clone();
    let accepted = match reply {
        None if !asks => {
            on.ok("auth", asked);
            Some(first)
        }
        None => {
            uninvited(on, asked, first.status == StatusCode::UNAUTHORIZED && challenge.is_none());
            None
        }
        Some(Ok(reply)) if !refuses_credential(&reply) => {
            let end = if asks { "; takes the one given" } else { "; takes one nevertheless" };
            on.ok("auth", asked + end);
            Some(reply)
        }
        Some(refused) => {
            let said = refused.map_or_else(|error| error.to_string(), |reply| reply.said());
            let remedy =
                "get a fresh token for this server (its audience, its scopes, not expired) and give it with --header";
            let meaning = "the server would refuse clients with this credential";
            on.failure("auth", format!("refuses the credential given: {said}"), Advice::new(meaning, remedy));
            None
        }
    };
    if asks {
        metadata::look(on, http, &challenged, options).await;
    } else {
        on.skipped(&["auth-metadata"], "no credential is asked for");
    }
    accepted
}

/// A credential is asked for, and none was given.
fn uninvited(on: &mut On<'_, '_>, asked: String, unchallenged: bool) {
    let give = "give one with --header 'Authorization: @FILE' to check the rest";
    let advice = if unchallenged {
        Advice::new(
            "clients that could log in by themselves are not told where; and what lies behind could not be looked at",
            format!("whoever runs the server: answer 401 with WWW-Authenticate (RFC 9728); and {give}"),
        )
    } else {
        Advice::new("clients need one, as before; what lies behind could not be looked at", give)
    };
    on.warning("auth", asked, advice);
}
