//! Whether we are let in: redirects, the name we call the server by, the credential.
//!
//! The trap: some servers answer 401 to a session that they do not know. It is taken for a matter of credentials only with
//! a challenge, or where the text does not speak of sessions.

use http::StatusCode;
use http::header::{self, HeaderValue};
use reqwest::Url;

use super::super::Options;
use super::super::finding::{Advice, On};
use super::super::http::{Http, NoAnswer, Reply, header_text};
use super::super::text::{location, milliseconds, quote};
use super::metadata;

/// What is looked at here.
pub(super) const NAMES: &[&str] = &["http", "redirects", "host", "origin", "auth", "auth-metadata"];
/// A name that no server has been told of.
const FOREIGN_HOST: HeaderValue = HeaderValue::from_static("sse-sunset-check.invalid");
const FOREIGN_ORIGIN: HeaderValue = HeaderValue::from_static("https://sse-sunset-check.invalid");
/// Redirects that are followed to find the last one.
const MOST_REDIRECTS: usize = 5;

/// How it went.
pub(super) enum Door {
    /// Requests are let in; and what was said to one in a session that nobody has.
    Open(Http, Box<Reply>),
    /// They are not, and why the rest is skipped.
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
        on.skipped(&["host", "origin", "auth", "auth-metadata"], why);
        return Door::Shut(why);
    };
    let Some((http, first)) = host(on, http, first).await else {
        let why = "the server refuses our Host";
        on.skipped(&["origin", "auth", "auth-metadata"], why);
        return Door::Shut(why);
    };
    let Some(reply) = credential(on, &http, first, options).await else {
        on.skipped(&["origin"], "not let in");
        return Door::Shut("not let in");
    };
    origin(on, &http, &reply).await;
    Door::Open(http, Box::new(reply))
}

fn silent(on: &mut On<'_, '_>, error: &NoAnswer) {
    let remedy = "whoever runs the server: is this the URL of its MCP endpoint, and does it speak HTTP/1.1 there (https or \
                  http)? Its log should show this request";
    let seen = format!("POST ping: {error}");
    on.failure("http", seen, Advice::new("every call of every client would fail so", remedy));
    on.skipped(NAMES.get(1..).unwrap_or_default(), "the server does not answer");
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

/// Whether an answer refuses the name in `Host` or the page in `Origin` (UPSTREAMS A.1: 421 Python, 403 the others).
fn refuses_name(reply: &Reply) -> bool {
    let text = reply.text.to_ascii_lowercase();
    let named = ["host", "origin", "rebinding"].iter().any(|word| text.contains(word));
    reply.status == StatusCode::MISDIRECTED_REQUEST
        || matches!(reply.status, StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) && named
}

async fn host(on: &mut On<'_, '_>, http: Http, first: Reply) -> Option<(Http, Reply)> {
    let sent = sent_host(&http);
    if refuses_name(&first) {
        return other_host(on, http, &sent, &first).await;
    }
    let seen = match http.anonymous().with(header::HOST, FOREIGN_HOST).knock().await {
        Ok(reply) if reply.status != first.status => {
            format!("takes {sent}, which the proxy will send; refuses unknown names ({})", reply.said())
        }
        Ok(_) => format!("takes {sent}, which the proxy will send, and any other name"),
        Err(error) => format!("takes {sent}, which the proxy will send; with an unknown name: {error}"),
    };
    on.ok("host", seen);
    Some((http, first))
}

/// The name that the proxy sends is refused: perhaps one of the usual ones is not.
async fn other_host(on: &mut On<'_, '_>, http: Http, sent: &str, first: &Reply) -> Option<(Http, Reply)> {
    let port = http.url.port_or_known_default().unwrap_or_default();
    let candidates = [format!("localhost:{port}"), format!("127.0.0.1:{port}"), "localhost".to_owned()];
    let mut taken = None;
    for candidate in candidates.iter().filter(|candidate| *candidate != sent) {
        let Ok(value) = HeaderValue::from_str(candidate) else { continue };
        let other = http.with(header::HOST, value);
        if let Ok(reply) = other.anonymous().knock().await
            && !refuses_name(&reply)
        {
            taken = Some((candidate, other, reply));
            break;
        }
    }
    let allow = format!("whoever runs the server: add {sent} to its allowed hosts");
    let remedy = match &taken {
        Some((candidate, ..)) => format!("give serve --upstream-host {candidate}, which it takes; or {allow}"),
        None => format!("{allow}, or give serve --upstream-host with a name that is there"),
    };
    let seen = format!("refuses the Host {sent}: {}", first.said());
    let meaning = "every call would be refused: the server answers to certain names only";
    on.failure("host", seen, Advice::new(meaning, remedy));
    taken.map(|(_, http, reply)| (http, reply))
}

fn sent_host(http: &Http) -> String {
    let of_url = || {
        let host = http.url.host_str().unwrap_or_default();
        http.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    };
    header_text(&http.headers, &header::HOST).map_or_else(of_url, str::to_owned)
}

/// The proxy never sends an `Origin`: shown so that nobody looks for it there.
async fn origin(on: &mut On<'_, '_>, http: &Http, reply: &Reply) {
    let seen = match http.with(header::ORIGIN, FOREIGN_ORIGIN).knock().await {
        Ok(foreign) if foreign.status != reply.status => {
            format!("refuses foreign pages ({}); the proxy sends no Origin", foreign.said())
        }
        Ok(_) => "takes any Origin; the proxy sends none".to_owned(),
        Err(error) => format!("with a foreign Origin: {error}; the proxy sends none"),
    };
    on.ok("origin", seen);
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
    let first_says = (first.status, first.headers.clone());
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
        metadata::look(on, http, &first_says.1, options).await;
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
