//! What a failed step means, and what to do about it: a symptom has one likely cause on a public path, and the words that
//! save an hour are the ones that name it.
//!
//! The trap: what is quoted here came from outside. It is cut and its control characters are escaped; the endpoint's URL is
//! never quoted, because whoever has it can post into the session.

use http::{StatusCode, header};
use reqwest::Url;

use super::canary::{Failure, Step, is_silence};
use super::fault::{AskFault, EndpointFault, Fault};
use super::sse_client::{Head, Posted};
use crate::mcp::code;
use crate::traffic::printable;

/// How much of a body is quoted, in characters.
const QUOTED: usize = 120;
const EVENT_STREAM: &str = "200 with Content-Type: text/event-stream";
/// Why a stream that is open gives nothing.
const BUFFERING: &str = "something on the way holds the stream back until its buffer is full. Switch buffering off for this \
                         path: nginx proxy_buffering off, and no gzip; on CDNs and API gateways the option that streams \
                         responses";

fn failure(step: Step, expected: &str, got: String, remedy: impl Into<String>) -> Failure {
    Failure { step, expected: expected.to_owned(), got, remedy: remedy.into() }
}

/// The URL without its query, which may hold a secret.
pub(super) fn plain(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

fn quoted(text: &str) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let start: String = printable(&text).chars().take(QUOTED).collect();
    if start.is_empty() { "an empty body".to_owned() } else { format!("{start:?}") }
}

/// There is no answer to the GET.
pub(super) fn connect(fault: &Fault, url: &Url) -> Failure {
    let host = url.host_str().unwrap_or_default();
    let remedy = match fault {
        Fault::Unreachable(text) if text.contains("certificate") => {
            "the certificate is not trusted from here: renew it, send the whole chain, or name a private authority with --ca"
                .to_owned()
        }
        Fault::Unreachable(_) => format!(
            "check that {host} resolves here, that its port is open from here, and that something listens behind it"
        ),
        Fault::Silent(_) => "the connection stands and no head comes: something on the way waits for the whole answer \
                             (buffering), or the proxy behind it does not answer; ask its own address (--url) to tell which"
            .to_owned(),
        Fault::Broken(_) | Fault::Ended | Fault::Unreadable(_) => "the connection was cut before the answer: look into the \
                                                                   log of what listens there; sse-sunset cuts new streams \
                                                                   while it drains, and far over --max-sessions"
            .to_owned(),
    };
    failure(Step::Connect, EVENT_STREAM, fault.to_string(), remedy)
}

/// The GET was answered with something else than an event stream.
pub(super) fn head(head: &Head, url: &Url, text: &str) -> Failure {
    let media = head.media_type();
    let path = url.path();
    let remedy = match head.status.as_u16() {
        _ if head.status.is_redirection() => {
            let location = head.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
            let target = location.and_then(|location| url.join(location).ok());
            let target = target.map_or_else(|| "nowhere".to_owned(), |target| printable(&plain(&target)));
            format!(
                "it leads to {target}: if that is the same server, hand out that URL, because many legacy clients follow no \
                 redirect; if it is a login page, exempt {path} from it"
            )
        }
        401 => {
            "a credential is needed: give one with --header \"Authorization: @FILE\", and see that it has not expired"
                .to_owned()
        }
        403 => "refused: a credential without the right to this (--header), a firewall on the way, or a Host that \
                sse-sunset does not serve (--allowed-host, --public-url)"
            .to_owned(),
        404 => format!(
            "{path} does not lead to sse-sunset: route it (and the messages path) there, or see --sse-path and --public-path"
        ),
        405 => format!(
            "what answers takes no GET on {path}: it is not sse-sunset's event stream but, most likely, the upgraded server \
             itself; route {path} to sse-sunset"
        ),
        406 => "what answers serves no event streams: it is not sse-sunset; check the routing".to_owned(),
        421 => "the Host is not one that sse-sunset serves: name it with --allowed-host or --public-url".to_owned(),
        410 => "the endpoint was retired; if that is meant, retire this canary too".to_owned(),
        429 => "something on the way limits the rate of this client: let the canary through, or run it less often"
            .to_owned(),
        502..=504 => {
            "the balancer reaches no sse-sunset: see that it runs, is ready and is registered there".to_owned()
        }
        500..=599 => "what answers has failed: look into its log".to_owned(),
        _ if media == "text/html" => {
            "a page was sent, most likely a login or an error page of something on the way: exempt \
                                      this path from it, or give a credential with --header"
                .to_owned()
        }
        200 => format!("what answers on {path} is no HTTP+SSE endpoint: check --url and the routing"),
        _ => "check --url and the routing to sse-sunset".to_owned(),
    };
    let media = if media.is_empty() { "no Content-Type" } else { &media };
    let got = format!("{}, {media}, {}", head.status, quoted(text));
    failure(Step::Connect, EVENT_STREAM, printable(&got), remedy)
}

/// The stream is there, and the proxy has not recognised the signature.
pub(super) fn signature(answer: Option<&str>) -> Failure {
    let reason = answer.and_then(|answer| answer.strip_prefix("ignored; reason="));
    let remedy = match reason {
        Some("forged") => {
            "the proxy has another key, or something on the way changes the header: give both the same \
                           --probe-key-file"
        }
        Some("stale") => "the clocks of this machine and the proxy's differ by more than five minutes: set them (NTP)",
        Some("replayed") => "something on the way sends requests twice: switch retries and mirroring off for this path",
        Some("malformed") => {
            "something on the way changes or doubles the header Sse-Sunset-Probe, or the versions differ: \
                              let it pass as it is"
        }
        Some("resumes") => {
            "something on the way adds Last-Event-ID or MCP-Protocol-Version: let the request pass as it is"
        }
        Some("full") => "too many probes ran within five minutes: run them less often",
        _ => {
            "start sse-sunset with --probe-key-file (the same key), let the header Sse-Sunset-Probe pass both ways, and see \
              that this path leads to sse-sunset"
        }
    };
    let got = answer.map_or_else(|| "no such header".to_owned(), |answer| format!("{:?}", printable(answer)));
    failure(Step::Connect, "Sse-Sunset-Probe: accepted", got, remedy)
}

/// There is no endpoint on a stream that began with `head`.
pub(super) fn endpoint(fault: &EndpointFault, head: &Head) -> Failure {
    let remedy = match fault {
        EndpointFault::Stream(fault) if is_silence(fault) => BUFFERING,
        EndpointFault::Stream(Fault::Ended) => {
            "the stream ended at once: something on the way cuts it, or answers in the proxy's place"
        }
        EndpointFault::Stream(_) => {
            "something on the way cuts the stream: look into its log, and for a limit of its time"
        }
        EndpointFault::OtherEvent(_) => "what answers speaks no MCP HTTP+SSE: check --url and the routing",
        EndpointFault::NotUrl(_) | EndpointFault::Foreign(_) => {
            "clients refuse to post there: something on the way rewrites the body, or --public-url and --public-path of \
             sse-sunset do not fit the URL that clients use"
        }
    };
    let (status, at) = (head.status, head.at.as_millis());
    let got = match fault {
        EndpointFault::Stream(fault) => format!("the head ({status}) after {at} ms, and then: {fault}"),
        // It names a place to post to.
        EndpointFault::NotUrl(_) => "data that is no URL".to_owned(),
        other => other.to_string(),
    };
    failure(Step::Endpoint, "the event \"endpoint\", at once", printable(&got), remedy)
}

/// A message was not taken, or not answered.
pub(super) fn message(step: Step, fault: &AskFault) -> Failure {
    match fault {
        AskFault::Refused(posted) => refused(step, posted),
        AskFault::Post(fault) => {
            let remedy = "the stream passes and a POST does not: see that the messages path is routed to sse-sunset and that \
                          nothing on the way holds POSTs back";
            failure(step, "202 to the POST", fault.to_string(), remedy)
        }
        AskFault::Stream(fault) if is_silence(fault) => {
            let remedy = format!(
                "either the upgraded server does not answer sse-sunset (see --upstream and the server's log), or the \
                 answer is on the stream and {BUFFERING}"
            );
            failure(step, "the answer on the stream", "202 to the POST, and then nothing".to_owned(), remedy)
        }
        AskFault::Stream(fault) => {
            let remedy = "something on the way cuts the stream, or sse-sunset ended the session: see both logs";
            failure(step, "the answer on the stream", fault.to_string(), remedy)
        }
    }
}

fn refused(step: Step, posted: &Posted) -> Failure {
    let remedy = match posted.status.as_u16() {
        401 => {
            "the upgraded server does not accept the credential: give a good one with --header \"Authorization: @FILE\""
        }
        403 => "a credential without the right to this (--header), or a firewall on the way that lets no POST through",
        404 => {
            "the POST did not reach the process that holds the stream: route both paths to the same sse-sunset; several \
                replicas need a balancer that sends one client to one of them"
        }
        405 => "the messages path leads to something that takes no POST: route it to sse-sunset like the stream's",
        413 => "something on the way limits bodies to less than a small message: raise it (4 MiB is what clients need)",
        415 => "something on the way changes the Content-Type of POSTs",
        _ if posted.status.is_redirection() => {
            "POSTs must not be redirected: route the messages path to sse-sunset itself"
        }
        429 => "something on the way limits the rate of this client: let the canary through",
        502..=504 => {
            "the stream's sse-sunset is reached and the POST's is not: see the balancer's targets for both paths"
        }
        _ => "see that the messages path is routed to sse-sunset, and the log of what answered",
    };
    let status = posted.status;
    let expected = if status == StatusCode::ACCEPTED { "the answer" } else { "202 to the POST" };
    failure(step, expected, format!("{status}, {}", quoted(&posted.text)), remedy)
}

/// A request was answered with an error.
pub(super) fn rpc_error(step: Step, error: i64, text: &str) -> Failure {
    let remedy = match error {
        code::UNAVAILABLE => {
            "the path to sse-sunset is good, and the way from there to the upgraded server is not: see that \
                              the server runs, and --upstream"
        }
        code::UNAUTHORIZED => {
            "the upgraded server does not accept the credential: give a good one with --header \
                               \"Authorization: @FILE\""
        }
        code::SESSION => "sse-sunset turned the session away: see its limits (--max-sessions, --memory) and its log",
        code::METHOD_NOT_FOUND => {
            "the upgraded server does not know this method: see that --upstream is its MCP endpoint"
        }
        _ => "the path is good and the upgraded server answered with an error: see its log",
    };
    failure(step, "a result", format!("the error {error}: {}", quoted(text)), remedy)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::*;

    fn answered(status: u16, media: &'static str, location: &'static str) -> Failure {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, media.parse().expect("a type"));
        headers.insert(header::LOCATION, location.parse().expect("a place"));
        let status = StatusCode::from_u16(status).expect("a status");
        let version = http::Version::HTTP_11;
        let answer = Head { status, version, headers, address: None, certificate: None, at: Duration::ZERO };
        let url = "https://mcp.example/gw/sse?key=secret".parse().expect("a URL");
        head(&answer, &url, "<html>\u{1b}[31m log in \n here")
    }

    #[test]
    fn each_answer_has_its_remedy() {
        for (status, media, word) in [
            (401, "application/json", "--header"),
            (403, "text/html", "--allowed-host"),
            (404, "text/plain", "/gw/sse does not lead to sse-sunset"),
            (405, "text/plain", "takes no GET"),
            (200, "text/html", "login"),
            (200, "application/json", "no HTTP+SSE endpoint"),
            (502, "text/html", "balancer"),
        ] {
            let failure = answered(status, media, "/");
            assert!(failure.remedy.contains(word), "{status} {media}: {failure:?}");
            assert!(failure.got.starts_with(&status.to_string()), "{failure:?}");
        }
    }

    #[test]
    fn redirect_names_its_target_without_secrets() {
        let failure = answered(302, "text/html", "https://login.example/in?state=secret");
        assert!(failure.remedy.contains("https://login.example/in:"), "{failure:?}");
        assert!(!format!("{failure:?}").contains("secret"), "{failure:?}");
    }

    #[test]
    fn text_from_outside_is_one_harmless_line() {
        let got = answered(200, "text/html", "/").got;
        assert!(!got.contains(['\u{1b}', '\n']) && got.contains("log in here"), "{got}");
    }

    #[test]
    fn endpoint_is_never_quoted() {
        let answer = Head {
            status: StatusCode::OK,
            version: http::Version::HTTP_11,
            headers: HeaderMap::new(),
            address: None,
            certificate: None,
            at: Duration::ZERO,
        };
        let fault = EndpointFault::NotUrl("http://[/messages?sessionId=secret".into());
        assert!(!format!("{:?}", endpoint(&fault, &answer)).contains("secret"));
    }

    #[test]
    fn each_reason_against_a_signature_has_its_remedy() {
        for (answer, word) in [
            (None, "--probe-key-file"),
            (Some("ignored; reason=forged"), "same"),
            (Some("ignored; reason=stale"), "clocks"),
            (Some("ignored; reason=replayed"), "retries"),
            (Some("ignored; reason=malformed"), "changes"),
            (Some("ignored; reason=resumes"), "Last-Event-ID"),
            (Some("ignored; reason=full"), "less often"),
            (Some("something\u{7}"), "--probe-key-file"),
        ] {
            let failure = signature(answer);
            assert!(failure.remedy.contains(word) && !failure.got.contains('\u{7}'), "{failure:?}");
        }
    }
}
