//! What the conversation does, step by step, and what each step saw.
//!
//! The trap: what Streamable HTTP sends on another stream than the answer (updates, `list_changed`, log messages of
//! some servers) may arrive after it, so these are awaited and never expected in an order.

use rmcp_0_8::model::{
    CallToolRequest, CallToolRequestMethod, CallToolRequestParam, ClientRequest, Extensions, PingRequest,
    PingRequestMethod,
};
use rmcp_0_8::service::{PeerRequestOptions, ServiceError};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Conversation;
use super::session::{is, params};
use crate::sha256::sha256;

const MEBIBYTE: usize = 1024 * 1024;
const PARALLEL_CALLS: usize = 50;
const LATER_TOOL: &str = "added-by-interop-rs";
/// Characters that line-based and careless readers trip over.
const ODD_TEXT: &str =
    "line\u{2028}paragraph\u{2029}next\u{85}bom\u{feff}nul\0tab\tcrlf\r\n\"\\\" \u{fc}\u{4e16}\u{1f600}";

fn long(length: usize) -> String {
    sha256(b"seed").repeat(length / 64)
}

/// Short texts to read, long ones by their digest; without the session ids that server-everything puts into some.
fn brief(text: &str) -> Value {
    let plain: Vec<String> =
        text.split(' ').map(|word| if is_id(word) { "<id>".to_owned() } else { word.to_owned() }).collect();
    let plain = plain.join(" ");
    if plain.len() <= 300 { json!(plain) } else { json!({ "length": plain.len(), "sha256": sha256(plain.as_bytes()) }) }
}

fn is_id(word: &str) -> bool {
    word.len() == 36 && word.chars().all(|character| character.is_ascii_hexdigit() || character == '-')
}

/// The result of a tool call.
fn answer(result: &Value) -> Value {
    let texts: Vec<&str> =
        result["content"].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect();
    let text = brief(&texts.join("\n"));
    let error = (result["isError"] == true).then_some(true);
    json!({ "isError": error, "text": text, "structured": result["structuredContent"] })
}

/// Why a step failed, as its detail.
pub(super) struct Failure {
    pub(super) detail: Value,
    /// Whether it is a JSON-RPC error that came.
    servers: bool,
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        if let ServiceError::McpError(error) = &error {
            return Failure { detail: json!({ "code": error.code.0, "error": brief(&error.message) }), servers: true };
        }
        Failure { detail: json!({ "error": brief(&error.to_string()) }), servers: false }
    }
}

pub(super) type Detail = Result<Value, Failure>;

impl Conversation {
    async fn call(&self, name: &str, arguments: Value) -> Detail {
        let request: CallToolRequestParam = params(json!({ "name": name, "arguments": arguments }));
        Ok(json!(self.peer.call_tool(request).await?))
    }

    async fn told(&self, name: &str, arguments: Value) -> Detail {
        Ok(answer(&self.call(name, arguments).await?))
    }

    /// A word that must come back as it was sent.
    async fn echo(&self, word: &str) -> Result<bool, Failure> {
        let result = self.call("echo", json!({ "message": word })).await?;
        Ok(result["content"][0]["text"].as_str().and_then(|text| text.strip_prefix("Echo: ")) == Some(word))
    }

    async fn listed(&self, what: &str) -> Result<Vec<Value>, Failure> {
        let all = match what {
            "prompts" => json!(self.peer.list_all_prompts().await?),
            "resources" => json!(self.peer.list_all_resources().await?),
            "resourceTemplates" => json!(self.peer.list_all_resource_templates().await?),
            _ => json!(self.peer.list_all_tools().await?),
        };
        Ok(all.as_array().cloned().unwrap_or_default())
    }

    /// Takes one step.
    pub(super) async fn step(&mut self, step: &str) -> Detail {
        match step {
            "initialize" => Ok(json!(self.peer.peer_info())),
            "ping" => {
                let ping = PingRequest { method: PingRequestMethod, extensions: Extensions::default() };
                Ok(json!(self.peer.send_request(ClientRequest::PingRequest(ping)).await?))
            }
            "tools_list" => self.tools_list().await,
            "prompts_list" => Ok(summary(&self.listed("prompts").await?, "name")),
            "resources_list" => Ok(summary(&self.listed("resources").await?, "uri")),
            "resource_templates_list" => Ok(summary(&self.listed("resourceTemplates").await?, "name")),
            "echo" => Ok(json!({ "equal": self.echo("hello").await? })),
            "unicode" => Ok(json!({ "equal": self.echo(ODD_TEXT).await? })),
            "one_mebibyte" => Ok(json!({ "equal": self.echo(&long(MEBIBYTE)).await? })),
            "three_mebibyte_request" => self.three_mebibyte_request().await,
            "ten_mebibyte_result" => {
                let result = self.call("long-text", json!({ "length": 10 * MEBIBYTE })).await?;
                Ok(json!({ "equal": result["content"][0]["text"] == long(10 * MEBIBYTE) }))
            }
            "structured_content" => self.told("get-structured-content", json!({ "location": "New York" })).await,
            "progress" => self.progress().await,
            "logging" => self.logging().await,
            "sampling" => {
                let result =
                    self.told("trigger-sampling-request", json!({ "prompt": "why?", "maxTokens": 17 })).await?;
                let asked = self.answers.asked("sampling");
                Ok(json!({ "reached": asked.len() == 1, "asked": asked, "result": result }))
            }
            "elicitation" => self.elicitation().await,
            "roots" => self.roots().await,
            "questions_in_rounds" => self.questions_in_rounds().await,
            "subscription" => self.subscription().await,
            "resource_read" => self.resource_read().await,
            "prompt_get" => self.prompt_get().await,
            "completion" => self.completion().await,
            "cancellation" => self.cancellation().await,
            "parallel_calls" => self.parallel_calls().await,
            "error_unknown_tool" => refused(self.call("no-such-tool", json!({})).await),
            "error_invalid_arguments" => refused(self.call("echo", json!({ "message": { "not": "text" } })).await),
            "error_invalid_params" => {
                let got = self.peer.get_prompt(params(json!({ "name": "args-prompt", "arguments": {} }))).await;
                refused(got.map(|result| json!(result)).map_err(Failure::from))
            }
            "error_unknown_resource" => {
                let read = self.peer.read_resource(params(json!({ "uri": self.known("unknown_resource") }))).await;
                refused(read.map(|result| json!(result)).map_err(Failure::from))
            }
            "mirrored_argument" => self.told("where", json!({ "region": "Z\u{fc}rich" })).await,
            "tools_list_changed" => self.tools_list_changed().await,
            "close" => {
                let ended = self.service.take().expect("one close").cancel().await;
                Ok(json!({ "ended": ended.is_ok() }))
            }
            _ => Ok(json!({ "equal": self.echo("goodbye").await? })),
        }
    }

    /// server-everything registers some tools only after `initialized`, and says so when it has.
    async fn tools_list(&self) -> Detail {
        loop {
            let start = self.inbox.len();
            let tools = self.listed("tools").await?;
            if tools.iter().any(|tool| tool["name"] == "trigger-sampling-request") {
                return Ok(summary(&tools, "name"));
            }
            self.inbox.arrival(start, "tools/list_changed", |_| true).await;
        }
    }

    /// Close to what servers take: 4 MiB. Where there is no `digest`, the echo tells whether it arrived.
    async fn three_mebibyte_request(&self) -> Detail {
        let message = long(3 * MEBIBYTE);
        if !self.has("digest") {
            return Ok(json!({ "arrived": self.echo(&message).await? }));
        }
        let told = self.told("digest", json!({ "message": message })).await?;
        let arrived = told["text"].as_str().is_some_and(|text| text.contains(&sha256(message.as_bytes())));
        Ok(json!({ "told": told, "arrived": arrived }))
    }

    async fn progress(&self) -> Detail {
        let start = self.inbox.len();
        let result = self.told("trigger-long-running-operation", json!({ "duration": 0.5, "steps": 5 })).await?;
        let here = self.inbox.since(start);
        let seen: Vec<(usize, &Value)> =
            here.iter().enumerate().filter(|(_, message)| is(message, "progress")).collect();
        let values: Vec<_> = seen.iter().map(|(_, message)| message["params"]["progress"].clone()).collect();
        let answered = here.iter().position(|message| message.get("result").is_some());
        let before = seen.last().is_some_and(|(at, _)| answered.is_some_and(|answered| *at < answered));
        Ok(json!({ "values": values, "beforeResult": before, "result": result }))
    }

    /// Our servers log one message a level on demand; server-everything a random one, and one a subscription.
    async fn logging(&self) -> Detail {
        let start = self.inbox.len();
        let said = |text: &'static str| move |log: &Value| log["data"].as_str().is_some_and(|data| data.contains(text));
        if self.has("log") {
            self.peer.set_level(params(json!({ "level": "warning" }))).await?;
            let result = self.told("log", json!({})).await?;
            self.inbox.arrival(start, "message", said("emergency")).await;
            let logs: Vec<_> = self.inbox.since(start).into_iter().filter(|message| is(message, "message")).collect();
            let logs: Vec<_> = logs.iter().map(|log| log["params"].clone()).collect();
            return Ok(json!({ "logs": logs, "result": result }));
        }
        self.peer.set_level(params(json!({ "level": "debug" }))).await?;
        let started = self.told("toggle-simulated-logging", json!({})).await?;
        self.inbox.arrival(start, "message", said("level")).await;
        let stopped = self.told("toggle-simulated-logging", json!({})).await?;
        Ok(json!({ "started": started, "stopped": stopped }))
    }

    async fn elicitation(&self) -> Detail {
        let accepted = self.told("trigger-elicitation-request", json!({})).await?;
        self.answers.with(|state| state.elicitation = json!({ "action": "decline" }));
        let declined = self.told("trigger-elicitation-request", json!({})).await?;
        let asked = self.answers.asked("elicitation");
        Ok(json!({ "reached": asked.len() == 2, "asked": asked, "accepted": accepted, "declined": declined }))
    }

    /// server-everything caches the roots and fetches them anew when told of a change, which only its log shows.
    async fn roots(&self) -> Detail {
        let before = self.told("get-roots-list", json!({})).await?;
        self.answers.with(|state| state.roots.push(json!({ "uri": "file:///interop/two", "name": "two" })));
        let start = self.inbox.len();
        self.peer.notify_roots_list_changed().await?;
        if let Some(log) = self.profile["roots_log"].as_str() {
            let beginning = log.trim_start_matches('^');
            let fits = |log: &Value| log["data"].as_str().is_some_and(|data| data.starts_with(beginning));
            self.inbox.arrival(start, "message", fits).await;
        }
        let after = self.told("get-roots-list", json!({})).await?;
        Ok(json!({ "reached": before["isError"] != true, "before": before["text"], "after": after["text"] }))
    }

    /// Two questions at once, one of them about roots, and then one that follows from an answer.
    async fn questions_in_rounds(&self) -> Detail {
        let start = self.answers.asked("sampling").len();
        let result = self.told("ask-in-rounds", json!({})).await?;
        let asked = self.answers.asked("sampling").split_off(start);
        Ok(json!({ "reached": asked.len() == 2, "asked": asked, "result": result }))
    }

    /// What is touched while nobody is subscribed must not be told; the echo gives it the time to come.
    async fn subscription(&self) -> Detail {
        let start = self.inbox.len();
        let watched = json!({ "uri": self.known("watched") });
        self.peer.subscribe(params(watched.clone())).await?;
        let first = self.told(self.known("watch_tool"), json!({})).await?;
        let updated = self.inbox.arrival(start, "resources/updated", |_| true).await;
        self.peer.unsubscribe(params(watched.clone())).await?;
        let second = self.told(self.known("watch_tool"), json!({})).await?;
        let mut told = json!({ "updated": updated["uri"], "first": first["text"], "second": second["text"] });
        if self.known("watch_tool") == "touch-resource" {
            self.echo("is it quiet?").await?;
            let seen = self.inbox.since(start);
            told["quiet"] = json!(seen.iter().filter(|message| is(message, "resources/updated")).count() == 1);
            let again = self.inbox.len();
            self.peer.subscribe(params(watched.clone())).await?;
            told["third"] = self.told(self.known("watch_tool"), json!({})).await?["text"].clone();
            self.inbox.arrival(again, "resources/updated", |_| true).await;
            self.peer.unsubscribe(params(watched)).await?;
        }
        Ok(told)
    }

    async fn resource_read(&self) -> Detail {
        let mut seen = Vec::new();
        for uri in self.profile["reads"].as_array().into_iter().flatten() {
            let result = json!(self.peer.read_resource(params(json!({ "uri": uri }))).await?);
            let content = &result["contents"][0];
            // server-everything's blobs and some of its texts hold the time of day.
            let text = content["text"].as_str().filter(|text| !text.contains("created at"));
            seen.push(json!({ "uri": content["uri"], "mimeType": content["mimeType"], "text": text.map(brief) }));
        }
        Ok(json!(seen))
    }

    async fn prompt_get(&self) -> Detail {
        let place = json!({ "name": "args-prompt", "arguments": { "city": "Z\u{fc}rich", "state": "ZH" } });
        let person = json!({ "name": "completable-prompt", "arguments": { "department": "Sales", "name": "Eve" } });
        let (place, person) = (self.peer.get_prompt(params(place)).await?, self.peer.get_prompt(params(person)).await?);
        Ok(json!({ "args": place.messages, "completable": person.messages }))
    }

    async fn completion(&self) -> Detail {
        let values = async |request: Value| {
            self.peer.complete(params(request)).await.map(|result| json!(result.completion.values))
        };
        let prompt = json!({ "type": "ref/prompt", "name": "completable-prompt" });
        let template = json!({ "type": "ref/resource", "uri": self.known("template") });
        let department = json!({ "name": "department", "value": "E" });
        let context = json!({ "arguments": { "department": "Sales" } });
        let name = json!({ "ref": prompt, "argument": { "name": "name", "value": "" }, "context": context });
        Ok(json!({
            "department": values(json!({ "ref": prompt, "argument": department })).await?,
            "name": values(name).await?,
            "template": values(json!({ "ref": template, "argument": self.profile["template_argument"] })).await?,
        }))
    }

    /// The proof is a call that ends only after the cancelled one would have: by then an answer must have shown.
    async fn cancellation(&self) -> Detail {
        let start = self.inbox.len();
        let call: CallToolRequestParam = params(self.profile["cancel_call"].clone());
        let extensions = Extensions::default();
        let request = CallToolRequest { method: CallToolRequestMethod, params: call, extensions };
        let request = ClientRequest::CallToolRequest(request);
        let handle = self.peer.send_cancellable_request(request, PeerRequestOptions::no_options()).await?;
        let id = json!(handle.id);
        self.inbox.arrival(start, "progress", |_| true).await;
        handle.cancel(Some("enough".to_owned())).await?;
        let proof = &self.profile["cancel_proof"];
        let proof = self.told(proof["name"].as_str().unwrap_or_default(), proof["arguments"].clone()).await?;
        let after = self.echo("still here").await?;
        let late = self.inbox.since(start).iter().any(|message| message["id"] == id && message.get("result").is_some());
        let reached = proof["text"] != "not cancelled";
        Ok(json!({ "reached": reached, "proof": proof, "noLateResult": !late, "after": after }))
    }

    async fn parallel_calls(&self) -> Detail {
        let mut calls = JoinSet::new();
        for number in 0..PARALLEL_CALLS {
            let peer = self.peer.clone();
            calls.spawn(async move {
                let word = format!("parallel {number} {}", sha256(number.to_string().as_bytes()));
                let result = peer.call_tool(params(json!({ "name": "echo", "arguments": { "message": word } }))).await;
                result.is_ok_and(|result| json!(result)["content"][0]["text"] == format!("Echo: {word}"))
            });
        }
        let matched = calls.join_all().await;
        Ok(json!({ "calls": matched.len(), "allMatched": matched.iter().all(|matched| *matched) }))
    }

    async fn tools_list_changed(&self) -> Detail {
        let names = async || -> Result<Vec<String>, Failure> {
            let tools = self.listed("tools").await?;
            let mut names: Vec<_> =
                tools.iter().map(|tool| tool["name"].as_str().unwrap_or_default().to_owned()).collect();
            names.sort();
            Ok(names)
        };
        let before = names().await?;
        let start = self.inbox.len();
        let added = self.told("add-tool", json!({ "name": LATER_TOOL })).await?;
        self.inbox.arrival(start, "tools/list_changed", |_| true).await;
        let new: Vec<_> = names().await?.into_iter().filter(|name| !before.contains(name)).collect();
        let spoken = self.told(LATER_TOOL, json!({})).await?;
        let start = self.inbox.len();
        self.told("remove-tool", json!({ "name": LATER_TOOL })).await?;
        self.inbox.arrival(start, "tools/list_changed", |_| true).await;
        Ok(json!({ "new": new, "added": added, "spoken": spoken, "restored": names().await? == before }))
    }
}

/// Names to read, and a digest by which any other change of the list is noticed.
fn summary(items: &[Value], key: &str) -> Value {
    let mut items = items.to_vec();
    items.sort_by_key(|item| item[key].to_string());
    let names: Vec<_> = items.iter().map(|item| item[key].clone()).collect();
    json!({ "names": names, "sha256": sha256(json!(items).to_string().as_bytes()) })
}

/// What the server says to something wrong: a JSON-RPC error of its own, or a tool result with `isError`.
fn refused(attempt: Detail) -> Detail {
    match attempt {
        Ok(result) => Ok(json!({ "refused": result["isError"] == true, "result": answer(&result)["text"] })),
        Err(failure) if failure.servers => Ok(failure.detail),
        Err(failure) => Err(failure),
    }
}
