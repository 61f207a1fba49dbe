//! What the owner of a session makes of a POST, on its way back: an HTTP answer, so that a replica can pass on what only a newer
//! one knows to say.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;

use super::super::Body;
use super::wire::{Reader, Writer};

const FORM: u8 = 1;

/// Writes an answer whose body is a text.
pub(super) async fn write(answer: Response<Body>) -> Bytes {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut writer = Writer::new(FORM, body.len());
    writer.short(head.status.as_u16());
    writer.headers(&head.headers);
    writer.rest(&body)
}

/// What another replica wrote; `None` when it is no answer.
pub(super) fn read(bytes: Bytes) -> Option<Response<Body>> {
    let mut reader = Reader::new(FORM, bytes)?;
    let status = StatusCode::from_u16(reader.short()?).ok().filter(|status| !status.is_informational())?;
    let headers = reader.headers()?;
    let mut answer = Response::new(Body::text(reader.rest()));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Some(answer)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::WWW_AUTHENTICATE;
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn answer_comes_back_as_it_was_given() {
        let mut answer = Response::new(Body::text("no"));
        *answer.status_mut() = StatusCode::UNAUTHORIZED;
        for challenge in ["Bearer scope=\"a\"", "Basic", "caf\u{e9}"] {
            answer
                .headers_mut()
                .append(WWW_AUTHENTICATE, HeaderValue::from_bytes(challenge.as_bytes()).expect("a value"));
        }
        let headers = answer.headers().clone();
        let read = read(write(answer).await).expect("an answer");
        assert_eq!((read.status(), read.headers()), (StatusCode::UNAUTHORIZED, &headers));
        assert_eq!(read.into_body().collect().await.expect("a text").to_bytes(), "no");
    }

    proptest! {
        #[test]
        fn garbage_is_read_or_refused_and_no_more(garbage in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read([&[FORM][..], &garbage].concat().into());
            prop_assert!(read([&[FORM + 1][..], &garbage].concat().into()).is_none());
        }
    }
}
