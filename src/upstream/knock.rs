//! A knock: whether the server lets a credential in, without leaving anything behind.
//!
//! A `ping` in a session that nobody has. The trap is the session id: without one the Python server makes a session for
//! each request and keeps it; with one that it does not know, every server says 404 or 400 once the credential is good
//! (SECURITY §0, 8). A server of 2026-07-28 has no `ping`; it is asked `server/discover`.

use ::http::{HeaderMap, HeaderValue, StatusCode};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use super::era::Era;
use super::session_era::{self, Names};
use super::{Answer, Content, Fault, Upstream, modern};
use crate::mcp::{self, RequestId};

/// How much of an answer is read: enough to see what it is about, and all of an ordinary one, so that its connection
/// can be used again.
const LONGEST: usize = 4 << 10;

/// What the server said.
#[derive(Debug)]
pub struct Knocked {
    /// The status.
    pub status: StatusCode,
    /// The `WWW-Authenticate` headers.
    pub challenges: Vec<HeaderValue>,
    /// It turns the credential down, or wants one: not a 401 that means the session (old rmcp has those).
    pub is_refusal: bool,
}

impl Upstream {
    /// Knocks with the headers of a client's own request.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn knock(&self, headers: &HeaderMap) -> Result<Knocked, Fault> {
        let exchange = if self.era() == Some(Era::Modern) {
            modern::question(headers).ok_or(Fault::GivenUp)?
        } else {
            let id = random();
            let body = mcp::request(&RequestId::text(&id), "ping", "{}");
            let id = HeaderValue::try_from(id).map_err(|_| Fault::GivenUp)?;
            session_era::post(&Names::of_session(id), headers, body)
        };
        let answer = self.transport().send(exchange).await?;
        let (status, challenges) = (answer.status, answer.challenges().cloned().collect::<Vec<_>>());
        // The whole of an ordinary answer is read, so that its connection can be used again.
        let is_of_session = is_of_session(answer).await;
        let is_refusal = match status {
            StatusCode::UNAUTHORIZED => !is_of_session,
            StatusCode::FORBIDDEN => true,
            _ => false,
        };
        Ok(Knocked { status, challenges, is_refusal })
    }
}

/// Whether an answer that refuses something speaks of the session and not of the credential: no challenge, and its text says
/// so (old rmcp has such 401).
pub async fn is_of_session(answer: Answer) -> bool {
    let (is_stream, is_challenge) = (answer.is_event_stream(), answer.challenges().next().is_some());
    let text = match answer.body {
        Content::Bytes(body) if !is_stream => start_of(body).await,
        _ => Bytes::new(),
    };
    !is_challenge && speaks_of_sessions(&text)
}

/// 32 hexadecimal digits: what some servers want of an id.
fn random() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    format!("{:032x}", u128::from_ne_bytes(bytes))
}

async fn start_of(mut body: super::Body) -> Bytes {
    let mut text = BytesMut::new();
    while let Some(Ok(chunk)) = body.next().await {
        text.extend_from_slice(&chunk);
        if text.len() >= LONGEST {
            break;
        }
    }
    text.freeze()
}

fn speaks_of_sessions(text: &[u8]) -> bool {
    String::from_utf8_lossy(text).to_ascii_lowercase().contains("session")
}
