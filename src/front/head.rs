//! What a request's head must be before anything is made of it.
//!
//! These are HTTP errors, before any session is looked up: what they refuse no client sends by accident, and a client
//! that does is told so on its first `GET`.

use http::{HeaderMap, Method, Request, header};

use super::reply::Refused;
use crate::upstream::is_looping;

/// Longest target, in bytes.
const MAX_TARGET: usize = 8 << 10;
/// Longest method, in bytes; the longest that is registered has 17.
const MAX_METHOD: usize = 32;
/// Most header fields.
const MAX_FIELDS: usize = 100;
/// Most bytes of them all.
const MAX_FIELD_BYTES: usize = 32 << 10;

pub(super) fn check<B>(request: &Request<B>) -> Result<(), Refused> {
    let headers = request.headers();
    if *request.method() == Method::CONNECT {
        return Err(Refused::Tunnel);
    }
    if request.method().as_str().len() > MAX_METHOD {
        return Err(Refused::Head(format!("the method is longer than {MAX_METHOD} bytes")));
    }
    // RFC 3986 §2: what a target holds beside ASCII is percent-encoded; servers would decode it each in its own way.
    if request.uri().path_and_query().is_some_and(|target| !target.as_str().is_ascii()) {
        return Err(Refused::Head("the URL holds bytes that are not ASCII".to_owned()));
    }
    if request.uri().path_and_query().is_some_and(|target| target.as_str().len() > MAX_TARGET) {
        return Err(Refused::TargetTooLong(MAX_TARGET));
    }
    if headers.len() > MAX_FIELDS || field_bytes(headers) > MAX_FIELD_BYTES {
        return Err(Refused::HeadTooLarge { fields: MAX_FIELDS, bytes: MAX_FIELD_BYTES });
    }
    // RFC 9110 §5.5: obs-text means something else to every reader, and these values go up.
    if let Some((name, _)) = headers.iter().find(|(_, value)| !value.as_bytes().is_ascii()) {
        return Err(Refused::Head(format!("the header {name} holds bytes that are not ASCII")));
    }
    // RFC 9112 §6.1: hyper takes off the chunks, and would leave a body that is still gzip. Servers read odd spellings
    // each in its own way.
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if codings.next().is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
        || codings.next().is_some()
    {
        return Err(Refused::Head("the Transfer-Encoding is not chunked, once".to_owned()));
    }
    // Which of two would count is anybody's guess.
    if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
        return Err(Refused::Head("the header authorization stands there twice".to_owned()));
    }
    if is_looping(headers) {
        return Err(Refused::Loop);
    }
    Ok(())
}

/// As they stand on the wire: name, colon, space, value, line end.
fn field_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn status(request: http::request::Builder) -> Option<u16> {
        check(&request.body(()).expect("a request")).err().map(|refused| refused.status().as_u16())
    }

    #[test]
    fn ordinary_head_passes_and_odd_ones_do_not() {
        let request = || Request::builder().uri("/sse");
        let many = |count: usize| (0..count).fold(request(), |request, n| request.header(format!("x-{n}"), "1"));
        assert_eq!(status(request().header("upgrade", "h2c").header("authorization", "Bearer x")), None);
        assert_eq!(status(many(100)), None);
        assert_eq!(status(many(101)), Some(431));
        assert_eq!(status(request().header("x-large", "x".repeat(33 << 10))), Some(431));
        assert_eq!(status(Request::builder().uri(format!("/sse?{}", "x".repeat(9000)))), Some(414));
        assert_eq!(status(Request::builder().uri("/caf\u{e9}")), Some(400));
        assert_eq!(status(request().method(&*"X".repeat(33))), Some(400));
        assert_eq!(status(request().method("BASELINE-CONTROL")), None);
        assert_eq!(status(Request::builder().method("CONNECT").uri("a.example:443")), Some(405));
        assert_eq!(status(request().header("transfer-encoding", "Chunked")), None);
        assert_eq!(status(request().header("transfer-encoding", "gzip, chunked")), Some(400));
        assert_eq!(
            status(request().header("transfer-encoding", "chunked").header("transfer-encoding", "chunked")),
            Some(400)
        );
        let latin = HeaderValue::from_bytes(b"caf\xe9").expect("obs-text");
        assert_eq!(status(request().header("x-name", latin)), Some(400));
        assert_eq!(
            status(request().header("authorization", "Bearer a").header("authorization", "Bearer b")),
            Some(400)
        );
    }
}
