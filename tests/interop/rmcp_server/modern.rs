//! What the tools do for clients of the era of 2026: questions are results, and changes go to whoever listens.
//!
//! Promise: the same names, arguments and answers as in the session era, except that `touch-resource` always says that it
//! told: who listens, no tool can know.

use rmcp::model::{CallToolRequestParams, CallToolResponse, InputRequest, InputRequests, InputRequiredResult};
use rmcp::service::{RequestContext, SubscriptionContext, SubscriptionSendError};
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use super::tools::{
    Arguments, Handler, WATCHED, in_rounds, model, question, question_to_llm, second_question, text, told,
};

impl Handler {
    /// The answer of a tool that is another one in this era; none if it is the same.
    pub(super) fn call_modern(
        &self,
        request: &CallToolRequestParams,
        arguments: &Arguments,
        context: &RequestContext<RoleServer>,
    ) -> Result<Option<CallToolResponse>, ErrorData> {
        let name: &str = &request.name;
        let said = match name {
            "touch-resource" => {
                self.tell(json!({ "method": "notifications/resources/updated", "params": { "uri": WATCHED } }))?;
                "told".to_owned()
            }
            "add-tool" | "remove-tool" => {
                let said = self.change(name, arguments)?;
                self.tell(json!({ "method": "notifications/tools/list_changed" }))?;
                said
            }
            "trigger-sampling-request" | "trigger-elicitation-request" | "get-roots-list" => {
                match request.input_responses.as_ref().and_then(|answers| answers.get(name)) {
                    Some(answer) if request.request_state.as_deref() == Some(&state(name, context)) => {
                        told(name, answer)
                    }
                    Some(_) => return Err(ErrorData::invalid_params("the state is not what was returned", None)),
                    None => return asked(name, arguments, context).map(Some),
                }
            }
            "ask-in-rounds" => return ask_in_rounds(request).map(Some),
            "log" if context.meta.log_level().is_none() => "logged 0".to_owned(),
            _ => return Ok(None),
        };
        text(&said).map(|result| Some(result.into()))
    }

    fn tell(&self, notification: Value) -> Result<(), ErrorData> {
        // It fails if nobody listens.
        let _ = self.changes.send(model(notification)?);
        Ok(())
    }

    /// From now on nothing is missed: the acknowledgement goes out before `tell_changes` is called.
    pub(super) fn join(&self) {
        self.joined(|joined| joined.push(self.changes.subscribe()));
    }

    /// One subscription, from its acknowledgement to its end.
    pub(super) async fn tell_changes(&self, subscription: &SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.joined(Vec::pop).unwrap_or_else(|| self.changes.subscribe());
        loop {
            let change = tokio::select! {
                () = subscription.cancelled() => return Ok(()),
                change = changes.recv() => change,
            };
            let Ok(change) = change else {
                let Err(RecvError::Lagged(_)) = change else { return Ok(()) };
                continue;
            };
            match subscription.sink().send(change).await {
                Ok(()) | Err(SubscriptionSendError::NotificationNotAccepted(_)) => {}
                Err(_) => return Ok(()),
            }
        }
    }
}

/// The question, with a state that has to come back with the answer.
fn asked(
    name: &str,
    arguments: &Arguments,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let (method, params) = question(name, arguments)?;
    input_required([(name, method, params)], state(name, context))
}

fn input_required<const N: usize>(
    questions: [(&str, &str, Value); N],
    state: String,
) -> Result<CallToolResponse, ErrorData> {
    let mut requests = InputRequests::new();
    for (key, method, params) in questions {
        let request: InputRequest = model(json!({ "method": method, "params": params }))?;
        requests.insert(key.to_owned(), request);
    }
    Ok(InputRequiredResult::new(Some(requests), Some(state)).into())
}

/// Two questions at once, and then one that follows from an answer; the other answer is in the state by then.
fn ask_in_rounds(request: &CallToolRequestParams) -> Result<CallToolResponse, ErrorData> {
    let sampling = "sampling/createMessage";
    let answer = |key: &str| request.input_responses.as_ref().and_then(|answers| answers.get(key));
    let state = request.request_state.as_deref().unwrap_or_default();
    if let Some(two) = answer("two") {
        let roots = serde_json::from_str(state).map_err(|error| ErrorData::invalid_params(error.to_string(), None))?;
        return text(&in_rounds(&two["content"], &roots)).map(Into::into);
    }
    match (answer("one"), answer("roots")) {
        (Some(one), Some(roots)) if state == "begun" => {
            let question = question_to_llm(&second_question(&one["content"]), 10);
            input_required([("two", sampling, question)], roots["roots"].to_string())
        }
        _ => {
            let questions = [("one", sampling, question_to_llm("one", 10)), ("roots", "roots/list", json!({}))];
            input_required(questions, "begun".to_owned())
        }
    }
}

/// It names the tool and the client.
fn state(name: &str, context: &RequestContext<RoleServer>) -> String {
    let client = context.meta.client_info().map(|client| client.name).unwrap_or_default();
    format!("{name} \u{2192} {client}")
}
