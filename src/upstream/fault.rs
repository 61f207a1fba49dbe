//! What goes wrong with an upstream, and what the client is told.
//!
//! The one question that matters to a caller is whether the call may have run; every text answers it.

use std::time::Duration;

use ::http::HeaderValue;

use crate::mcp::{RpcError, code};

/// Longest part of a foreign text that is quoted, in characters.
const LONGEST_QUOTE: usize = 200;

/// A failure of the upstream, or of the way to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection was made: nothing was sent, so nothing ran.
    #[error("upstream unavailable ({0}); the request was not sent")]
    Unreachable(String),
    /// The connection broke after bytes were sent.
    #[error("upstream connection lost ({0}); the call may have run")]
    Broken(String),
    /// The answer ended without an answer in it.
    #[error("upstream closed the stream without answering (HTTP {status}); the call may have run")]
    Unanswered {
        /// The status of the answer that held none.
        status: u16,
    },
    /// The answer is no JSON-RPC message. Its status and the start of its text are the diagnosis.
    #[error("upstream answered HTTP {status}: {text}{}", may_have_run(*status))]
    NotRpc {
        /// The status.
        status: u16,
        /// The start of the text.
        text: String,
        /// `Retry-After`, if the server gave one.
        retry_after: Option<String>,
    },
    /// An event or a body is larger than the proxy holds.
    #[error("upstream sent more than {cap} bytes in one message; the call may have run")]
    TooLarge {
        /// The cap in bytes.
        cap: usize,
    },
    /// The answer is compressed although `Accept-Encoding: identity` was sent.
    #[error("upstream compressed its answer ({0}) although only identity was accepted; the call may have run")]
    Encoded(String),
    /// A redirect that is not followed.
    #[error("upstream redirects to {0}; set --upstream to the final URL (nothing ran)")]
    Redirect(String),
    /// The credential was turned down in the middle of a call, after what the server had asked was answered.
    #[error("the upstream rejected the credential (HTTP {status}); the call did not go on")]
    Rejected {
        /// 401, or 403 with `insufficient_scope`.
        status: u16,
        /// The `WWW-Authenticate` headers, to be passed on.
        challenges: Vec<HeaderValue>,
        /// It was a newer one than the call had come with.
        is_newer: bool,
    },
    /// Nobody here waits for the answer any more.
    #[error("the exchange was given up; the call may have run")]
    GivenUp,
    /// Nothing came for too long.
    #[error("upstream was silent for {} s; the call may have run", .0.as_secs())]
    Silent(Duration),
}

/// A 4xx turns a request away; behind any other status it may have been carried out.
fn may_have_run(status: u16) -> &'static str {
    if (400..500).contains(&status) { "" } else { "; the call may have run" }
}

/// What [`Fault::reason`] can say, save that an exchange was given up, which is nobody's fault.
pub const REASONS: &[&str] = &[
    "upstream_connection_lost",
    "upstream_encoding",
    "upstream_error",
    "upstream_message_too_large",
    "upstream_no_answer",
    "upstream_redirect",
    "upstream_rejected_credential",
    "upstream_timeout",
    "upstream_unavailable",
];

impl Fault {
    /// The text of a body that is no message, cut and made printable.
    #[must_use]
    pub fn quote(body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut quote: String = words.chars().filter(|character| !character.is_control()).take(LONGEST_QUOTE).collect();
        if quote.is_empty() {
            quote.push_str("(no text)");
        }
        quote
    }

    /// One word for programs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Fault::Unreachable(_) => "upstream_unavailable",
            Fault::Broken(_) => "upstream_connection_lost",
            Fault::Unanswered { .. } => "upstream_no_answer",
            Fault::NotRpc { .. } => "upstream_error",
            Fault::TooLarge { .. } => "upstream_message_too_large",
            Fault::Encoded(_) => "upstream_encoding",
            Fault::Redirect(_) => "upstream_redirect",
            Fault::Rejected { .. } => "upstream_rejected_credential",
            Fault::GivenUp => "given_up",
            Fault::Silent(_) => "upstream_timeout",
        }
    }

    /// The error that the client gets.
    #[must_use]
    pub fn to_rpc(&self) -> RpcError {
        let code = match self {
            Fault::Unreachable(_) => code::UNAVAILABLE,
            Fault::Rejected { .. } => code::UNAUTHORIZED,
            _ => code::INTERNAL_ERROR,
        };
        let error = RpcError::new(code, self.reason(), self.to_string());
        match self {
            Fault::NotRpc { status, retry_after, .. } => {
                let error = error.with("status", *status);
                match retry_after {
                    Some(retry_after) => error.with("retry_after", retry_after.as_str()),
                    None => error,
                }
            }
            Fault::Unanswered { status } => error.with("status", *status),
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_the_list() {
        let text = String::new;
        let faults = [
            Fault::Unreachable(text()),
            Fault::Broken(text()),
            Fault::Unanswered { status: 200 },
            Fault::NotRpc { status: 500, text: text(), retry_after: None },
            Fault::TooLarge { cap: 1 },
            Fault::Encoded(text()),
            Fault::Redirect(text()),
            Fault::Rejected { status: 401, challenges: Vec::new(), is_newer: false },
            Fault::Silent(Duration::ZERO),
        ];
        let mut reasons: Vec<&str> = faults.iter().map(Fault::reason).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, REASONS);
    }

    #[test]
    fn quote_is_one_printable_line() {
        assert_eq!(Fault::quote(b"<html>\r\n <b>Bad\x1b[31m</b>"), "<html> <b>Bad[31m</b>");
        assert_eq!(Fault::quote(b""), "(no text)");
        assert_eq!(Fault::quote(&[b'a'; 1000]).len(), LONGEST_QUOTE);
    }

    #[test]
    fn error_says_status_text_and_retry_after() {
        let fault = Fault::NotRpc { status: 421, text: "Invalid Host header".into(), retry_after: Some("7".into()) };
        let error = fault.to_rpc();
        assert_eq!(error.message, "upstream answered HTTP 421: Invalid Host header");
        assert_eq!(error.data["status"], 421);
        assert_eq!(error.data["retry_after"], "7");
    }
}
