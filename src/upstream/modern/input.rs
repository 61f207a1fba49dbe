//! The server's questions, as the client gets and answers them.

use std::sync::Arc;

use ::http::HeaderMap;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use tokio::sync::oneshot;

use super::Shared;
use super::request::Supplement;
use super::shape;
use crate::mcp::{self, RequestId, RpcError};

/// Questions that one round may have.
const MAX_QUESTIONS: usize = 64;

/// What the client made of a question.
#[derive(Debug)]
pub(super) struct Reaction {
    /// Its result, or its error object.
    pub(super) answer: Result<String, String>,
    /// What it came with.
    pub(super) headers: HeaderMap,
}

/// The questions of one round.
pub(super) struct Asking {
    session: Arc<Shared>,
    questions: Vec<Question>,
    /// The server's `requestState`.
    state: Option<String>,
}

struct Question {
    /// The server's name for it.
    key: String,
    method: String,
    /// Our id for it.
    id: RequestId,
    answer: oneshot::Receiver<Reaction>,
    reaction: Option<Reaction>,
    /// The session is over: nobody is going to answer.
    is_lost: bool,
}

/// How far the round is.
pub(super) enum Outcome {
    Open,
    Answered(Supplement),
    /// The client will not say, and the protocol has no word for that.
    Declined {
        why: String,
        /// The client's own error.
        error: Option<RpcError>,
    },
}

impl Asking {
    /// Makes requests of the server's questions. Nothing is asked if one of them cannot be.
    ///
    /// # Errors
    /// Why the client cannot be asked, in words for whoever called.
    pub(super) fn begin(
        session: &Arc<Shared>,
        requests: Vec<shape::InputRequest>,
        state: Option<String>,
    ) -> Result<(Self, Vec<Bytes>), String> {
        if requests.len() > MAX_QUESTIONS {
            return Err(format!("the server asked {} questions at once; {MAX_QUESTIONS} is the most", requests.len()));
        }
        let mut asking = Asking { session: Arc::clone(session), questions: Vec::new(), state };
        let mut texts = Vec::new();
        for shape::InputRequest { key, method, params } in requests {
            let profile = &session.facts.profile;
            let (id, answer) = session.ask();
            let fresh = session.elicitation_id(&id);
            let asked = shape::request_to_client(&method, &params, profile, &fresh);
            let asked = asked.map(|params| mcp::request(&id, &method, &params));
            // From here on it is withdrawn with the others, whatever comes.
            asking.questions.push(Question { key, method, id, answer, reaction: None, is_lost: false });
            texts.push(asked.map_err(|why| why.to_string())?);
        }
        Ok((asking, texts))
    }

    /// Waits until one more question was answered. Cancel safe.
    pub(super) async fn hear(&mut self) {
        let open = self.questions.iter_mut().filter(|question| question.is_open());
        let mut open: FuturesUnordered<_> = open
            .map(|question| async {
                match (&mut question.answer).await {
                    Ok(reaction) => question.reaction = Some(reaction),
                    Err(_) => question.is_lost = true,
                }
            })
            .collect();
        if open.next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// How far it is.
    pub(super) fn outcome(&mut self) -> Outcome {
        let mut responses = Vec::new();
        for question in &self.questions {
            let reaction = match &question.reaction {
                Some(reaction) => reaction,
                None if question.is_lost => {
                    return Outcome::Declined { why: "the client is gone".to_owned(), error: None };
                }
                None => continue,
            };
            match question.response(reaction) {
                Ok(response) => responses.push((question.key.clone(), response)),
                Err(declined) => return declined,
            }
        }
        if responses.len() < self.questions.len() {
            return Outcome::Open;
        }
        Outcome::Answered(Supplement { responses, state: self.state.take() })
    }

    /// What the latest answer came with: a client may have renewed its credential since it called.
    pub(super) fn newest_headers(&self) -> Option<HeaderMap> {
        self.questions.iter().rev().find_map(|question| question.reaction.as_ref()).map(|last| last.headers.clone())
    }

    /// Tells the client that its answers are not wanted any more.
    pub(super) fn withdrawals(&self) -> impl Iterator<Item = Bytes> {
        let open = self.questions.iter().filter(|question| question.is_open());
        open.map(|question| mcp::cancelled(&question.id, "the call is over"))
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        for question in &self.questions {
            self.session.asked().remove(&question.id);
        }
    }
}

impl Question {
    fn is_open(&self) -> bool {
        self.reaction.is_none() && !self.is_lost
    }

    /// The value of `inputResponses` that says what the client said.
    fn response(&self, reaction: &Reaction) -> Result<String, Outcome> {
        let method = self.method.as_str();
        match &reaction.answer {
            Ok(result) => match shape::answer_to_server(method, result) {
                Ok(response) => Ok(response.into_owned()),
                Err(why) => Err(Outcome::Declined { why: format!("{method}: {why}"), error: None }),
            },
            // There is a word for that.
            Err(_) if method == "elicitation/create" => Ok(r#"{"action":"cancel"}"#.to_owned()),
            Err(error) => {
                #[derive(Deserialize, Default)]
                #[serde(default)]
                struct Said {
                    code: i64,
                    message: String,
                    data: serde_json::Value,
                }
                let Said { code, message, data } = serde_json::from_str(error).unwrap_or_default();
                let why = format!("the client answered {method} with error {code}: {message}");
                Err(Outcome::Declined { why, error: Some(RpcError { code, message, data }) })
            }
        }
    }
}
