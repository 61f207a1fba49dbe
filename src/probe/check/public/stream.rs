//! The event stream: whether there is one, its first event, and whether it is compressed on the way.

use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::super::finding::{Advice, On};
use super::super::http::{Http, header_text};
use super::super::text::{location, milliseconds, quote};
use super::Way;
use super::gateway::Gateway;
use crate::probe::{Endpoint, EndpointFault, Fault, Head, SseStream};

/// What the HTTP libraries of legacy clients offer.
const OFFERED: HeaderValue = HeaderValue::from_static("gzip, deflate, br");

/// Opens a stream as a client does, and says what came.
pub(super) async fn open(on: &mut On<'_, '_>, way: &mut Way<'_>) -> Option<SseStream> {
    let patience = way.options.patience;
    let stream = match way.client.open(&way.signature(None), patience).await {
        Ok(stream) => stream,
        Err(Fault::Silent(time)) => {
            silent(on, way, &milliseconds(time)).await;
            return None;
        }
        Err(fault) => {
            let remedy = "whoever runs what answers there: its log should show this request; is the proxy running, \
                          and is this its --public-url with --sse-path?";
            on.failure("stream", format!("GET: {fault}"), Advice::new("no client can connect", remedy));
            return None;
        }
    };
    let head = stream.head();
    way.gateway = Gateway::of(&head.headers);
    if !head.is_event_stream() {
        refused(on, way, head);
        return None;
    }
    on.ok("stream", format!("GET: 200 text/event-stream after {}", milliseconds(head.at)));
    on.ok("http-version", format!("{:?}", head.version));
    Some(stream)
}

/// No head came: nginx with buffering holds back even that. What answers other requests at once is up and only waits for
/// the end of the stream.
async fn silent(on: &mut On<'_, '_>, way: &mut Way<'_>, time: &str) {
    let options = way.options;
    let http = Http::new(way.client.url().clone(), options.headers.clone(), &options.trust, options.patience);
    let other = match http {
        Ok(http) => http.head(Method::OPTIONS, &HeaderMap::new(), &Value::Null).await.ok(),
        Err(_) => None,
    };
    let Some(head) = other else {
        let remedy =
            "see that the proxy runs, and that what stands between reaches it; its log should show this request";
        let advice = Advice::new("nothing answers there: no client can connect", remedy);
        return on.failure("stream", format!("GET: no answer within {time}, nor to OPTIONS"), advice);
    };
    way.gateway = Gateway::of(&head.headers);
    let status = head.status.as_u16();
    let seen = format!("GET: no answer within {time}, while OPTIONS on the same path is answered ({status})");
    let meaning =
        "something on the way holds the answer back until it ends, which a stream never does: every client hangs";
    on.failure("buffering", seen, Advice::new(meaning, way.gateway.unbuffered()));
}

/// No event stream: what came, and whose matter that is.
fn refused(on: &mut On<'_, '_>, way: &Way<'_>, head: &Head) {
    let media = head.media_type();
    let seen = format!("GET: HTTP {} {media}", head.status.as_u16());
    let (meaning, remedy) = match head.status {
        StatusCode::OK if media == "text/html" => (
            "a page answers instead of the stream",
            "whoever runs the gateway: route this path to the proxy, and keep log-in pages away from it",
        ),
        StatusCode::OK => (
            "this is no event stream",
            "check the path: it must be the proxy's --sse-path, and what stands between must not change the content \
             type",
        ),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => (
            "a credential is asked for, or this host or origin is not allowed",
            "give a credential with --header 'Authorization: @FILE'; if the gateway asks for it: let clients with \
             theirs through; if the proxy: --public-url or --allowed-host",
        ),
        StatusCode::MISDIRECTED_REQUEST => (
            "the proxy does not know that it is called by this name",
            "give serve this --public-url, or --allowed-host with this name",
        ),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => (
            "something else than the proxy's event stream answers",
            "whoever runs the balancer: route GET of this path to the proxy; check --sse-path and, where a prefix is \
             stripped on the way, --public-path",
        ),
        status if status.is_redirection() => {
            let target = header_text(&head.headers, &header::LOCATION).and_then(|to| way.client.url().join(to).ok());
            let target = target.map_or_else(|| "nowhere".to_owned(), |url| location(&url));
            let meaning = "clients follow redirects in different ways, and some not at all";
            let remedy = format!("hand out the final URL, and check that with --public: {target}");
            return on.failure("stream", format!("{seen}, to {target}"), Advice::new(meaning, remedy));
        }
        status if status.is_server_error() => (
            "the balancer does not reach the proxy; TypeScript clients take a 502, 503 or 504 for ever",
            "start the proxy, and see that the balancer's target is its --listen address and that no health check \
             asks for /sse",
        ),
        _ => ("no client can connect", "whoever runs what answers there: its log should show why"),
    };
    on.failure("stream", seen.trim_end(), Advice::new(meaning, remedy));
}

/// The first event, and how long it took.
pub(super) async fn endpoint(on: &mut On<'_, '_>, way: &Way<'_>, stream: &mut SseStream) -> Option<Endpoint> {
    let fault = match stream.endpoint(way.options.patience).await {
        Ok(endpoint) => {
            on.ok("endpoint", format!("clients post to {}", location(&endpoint.url)));
            let gap = endpoint.at.saturating_sub(stream.head().at);
            on.ok("first-event", format!("after {}, {} after the head", milliseconds(endpoint.at), milliseconds(gap)));
            return Some(endpoint);
        }
        Err(fault) => fault,
    };
    match fault {
        EndpointFault::Stream(Fault::Silent(time)) => {
            let seen = format!("the stream opens, and its first event does not come within {}", milliseconds(time));
            let meaning = "something on the way holds events back until many have come together: every client hangs";
            on.failure("buffering", seen, Advice::new(meaning, way.gateway.unbuffered()));
        }
        EndpointFault::Foreign(_) => {
            let remedy = "whoever runs the server or the gateway: what is handed out must be a path, or a URL of \
                          this very origin; with sse-sunset give serve this --public-url";
            let advice = Advice::new("most clients refuse to post to another origin", remedy);
            on.failure("endpoint", quote(&fault.to_string()), advice);
        }
        fault => {
            let remedy =
                "check that this URL leads to the proxy's --sse-path, and that nothing on the way changes the stream";
            let advice = Advice::new("clients wait for an endpoint event and go no further", remedy);
            on.failure("endpoint", quote(&fault.to_string()), advice);
        }
    }
    None
}

/// Whether something on the way compresses the stream for clients that offer it.
pub(super) async fn compression(on: &mut On<'_, '_>, way: &Way<'_>) {
    let mut extra = way.signature(None);
    extra.insert(header::ACCEPT_ENCODING, OFFERED);
    let patience = way.options.patience;
    let mut stream = match way.client.open(&extra, patience).await {
        Ok(stream) => stream,
        Err(fault) => {
            let meaning = "a client that offers compression, as most do, gets no stream";
            let seen = format!("GET with Accept-Encoding: {fault}");
            return on.failure("compression", seen, Advice::new(meaning, way.gateway.unbuffered()));
        }
    };
    let Some(encoding) = encoding(&stream.head().headers) else {
        return on.ok("compression", "none, also where clients offer it");
    };
    let first = timeout(patience, stream.next()).await;
    let seen = format!("the stream is compressed ({encoding}) for clients that offer it");
    if matches!(first, Ok(Ok(Some(_)))) {
        let meaning =
            "events come through for now, but a compressor may hold small ones back, and some clients cannot unpack";
        on.warning("compression", seen, Advice::new(meaning, way.gateway.unbuffered()));
    } else {
        let meaning = "the compressor holds the events back: every client that offers compression hangs";
        let seen = format!("{seen}, and its first event does not come");
        on.failure("compression", seen, Advice::new(meaning, way.gateway.unbuffered()));
    }
}

fn encoding(headers: &HeaderMap) -> Option<String> {
    let encoding = header_text(headers, &header::CONTENT_ENCODING)?;
    (!encoding.eq_ignore_ascii_case("identity")).then(|| quote(encoding))
}
