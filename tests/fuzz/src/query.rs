//! The reading of the session id: one that stands there once, or none.

use http::Uri;
use sse_sunset::front::session_id;
use sse_sunset::session::SessionId;

/// `data` is a request's target, or a query where it is none.
pub fn query(data: &[u8]) {
    if let Ok(target) = Uri::try_from(data) {
        agrees(target.query());
    }
    if let Ok(query) = std::str::from_utf8(data) {
        agrees(Some(query));
    }
}

fn agrees(query: Option<&str>) {
    let named: Vec<&str> = query
        .unwrap_or_default()
        .split('&')
        .filter_map(|part| part.strip_prefix("sessionId=").or_else(|| part.strip_prefix("session_id=")))
        .collect();
    match (session_id(query), named.as_slice()) {
        (Ok(id), [only]) => {
            assert_eq!(id, *only);
            assert!(!id.is_empty() && id.len() <= SessionId::MAX_LEN);
        }
        (Ok(id), _) => panic!("{id:?} was taken of {named:?}"),
        (Err(_), [only]) => assert!(only.is_empty() || only.len() > SessionId::MAX_LEN, "{only:?} was not taken"),
        (Err(_), _) => {}
    }
}
