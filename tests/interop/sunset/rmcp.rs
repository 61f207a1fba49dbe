//! What `clients/sunset.mjs` does, with the Rust SDK's legacy client, in a thread of its own.

use std::error::Error;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use rmcp_0_8::model::{CallToolRequestParam, ClientInfo, Implementation, LoggingMessageNotificationParam};
use rmcp_0_8::service::{NotificationContext, Peer, RoleClient, RunningService};
use rmcp_0_8::transport::SseClientTransport;
use rmcp_0_8::{ClientHandler, ServiceExt as _};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Starts it; `end` is called when it has ended.
pub(super) fn start(
    url: String,
    name: String,
    manner: &'static str,
    end: impl FnOnce() + Send + 'static,
) -> (Receiver<Value>, mpsc::Sender<()>) {
    let (said, lines) = channel();
    let (again, called) = mpsc::channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            if manner == "visit" {
                let _ = said.send(line(visit(&url, name).await));
            } else {
                stay(&url, name, &said, called).await;
            }
        });
        end();
    });
    (lines, again)
}

/// Who it is, and what the server logged.
#[derive(Clone)]
struct Handler {
    name: String,
    logged: Arc<Mutex<Vec<Value>>>,
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientInfo {
        let client_info = Implementation { name: self.name.clone(), version: "1.0.0".to_owned(), ..Default::default() };
        ClientInfo { client_info, ..ClientInfo::default() }
    }

    async fn on_logging_message(&self, params: LoggingMessageNotificationParam, _: NotificationContext<RoleClient>) {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner).push(json!(params));
    }
}

type Failure = Box<dyn Error + Send + Sync>;

async fn connect(url: &str, handler: Handler) -> Result<RunningService<RoleClient, Handler>, Failure> {
    let transport = SseClientTransport::start(url.to_owned()).await?;
    Ok(handler.serve(transport).await?)
}

async fn visit(url: &str, name: String) -> Result<Value, Failure> {
    let handler = Handler { name, logged: Arc::default() };
    let logged = Arc::clone(&handler.logged);
    let service = connect(url, handler).await?;
    let lists = json!([
        service.list_all_tools().await?,
        service.list_all_prompts().await?,
        service.list_all_resources().await?
    ]);
    let sum = call(service.peer(), "get-sum", json!({"a": 2, "b": 40})).await?;
    let text = call(service.peer(), "echo", json!({"message": "still here"})).await?;
    let server = json!(service.peer_info());
    service.cancel().await?;
    let logged = json!(*logged.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(json!({ "server": server, "lists": lists, "sum": sum, "text": text, "logged": logged }))
}

async fn stay(url: &str, name: String, said: &Sender<Value>, mut again: mpsc::Receiver<()>) {
    let handler = Handler { name, logged: Arc::default() };
    let service = match connect(url, handler).await {
        Ok(service) => service,
        Err(failure) => return drop(said.send(line(Err(failure)))),
    };
    let _ = said.send(line(Ok(Value::Null)));
    // Longer than anything waits for it.
    let endless = json!({"duration": 600, "steps": 1});
    let _ = said.send(line(call(service.peer(), "trigger-long-running-operation", endless).await));
    loop {
        let _ = said.send(line(call(service.peer(), "echo", json!({"message": "still here"})).await));
        if again.recv().await.is_none() {
            break;
        }
    }
    let _ = service.cancel().await;
}

async fn call(peer: &Peer<RoleClient>, tool: &'static str, arguments: Value) -> Result<Value, Failure> {
    let arguments = arguments.as_object().cloned();
    Ok(json!(peer.call_tool(CallToolRequestParam { name: tool.into(), arguments }).await?))
}

/// As the scripts say it: an error as it is printed.
fn line(result: Result<Value, Failure>) -> Value {
    match result {
        Ok(works) => json!({ "works": works }),
        Err(failure) => json!({ "error": failure.to_string() }),
    }
}
