//! The upgraded server: rmcp's Streamable HTTP service with sessions, three small tools, and no HTTP+SSE.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::{Implementation, ProgressNotificationParam, RequestMetaObject, ServerCapabilities, ServerConfig};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, Peer, RoleServer, ServerHandler, schemars, tool, tool_handler, tool_router};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A running server. It ends, with all its connections, when this is dropped.
pub(crate) struct UpgradedServer {
    address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

/// What came, for the demo to tell and to wait for.
#[derive(Default)]
struct Seen {
    /// How many requests of each method.
    requests: Mutex<BTreeMap<String, u32>>,
    /// Told when a client, which here is the proxy, has ended its session.
    session_ended: Notify,
}

impl UpgradedServer {
    /// Takes a free port on loopback and serves.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&seen)));
        Ok(UpgradedServer { address, seen, _tasks: tasks })
    }

    /// Its MCP endpoint.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// How many requests of each method came so far.
    pub(crate) fn requests(&self) -> String {
        let requests = self.seen.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|(method, count)| format!("{count} {method}")).collect::<Vec<_>>().join(", ")
    }

    /// Waits until the proxy has ended its session here; does not miss an end that was before.
    pub(crate) async fn session_ended(&self) {
        self.seen.session_ended.notified().await;
    }
}

async fn serve(listener: TcpListener, seen: Arc<Seen>) {
    // Sessions are what rmcp does unless told otherwise; said here because they are what the proxy maps to.
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(true);
    let mcp = StreamableHttpService::new(|| Ok(Tools), Arc::new(LocalSessionManager::default()), config);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        // Nagle would add 40 ms to answers, and the demo would look as if the proxy did. If it fails, it is only slow.
        let _ = stream.set_nodelay(true);
        let (mcp, seen) = (mcp.clone(), Arc::clone(&seen));
        let service = service_fn(move |request: Request<Incoming>| {
            let (mcp, seen) = (mcp.clone(), Arc::clone(&seen));
            async move {
                let method = request.method().clone();
                seen.count(&method);
                let response = mcp.handle(request).await;
                if method == Method::DELETE && response.status().is_success() {
                    seen.session_ended.notify_one();
                }
                Ok::<_, Infallible>(response)
            }
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        // A connection that breaks is seen by the proxy and then by the client, who fails and tells.
        connections.spawn(async move { drop(connection.await) });
    }
}

impl Seen {
    fn count(&self, method: &Method) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(method.to_string()).or_default() += 1;
    }
}

/// What the server can do.
struct Tools;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Greet {
    name: String,
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Count {
    to: u32,
}

#[tool_router]
impl Tools {
    #[tool(description = "Adds two numbers")]
    async fn add(&self, Parameters(Add { a, b }): Parameters<Add>) -> String {
        a.saturating_add(b).to_string()
    }

    #[tool(description = "Greets someone")]
    async fn greet(&self, Parameters(Greet { name }): Parameters<Greet>) -> String {
        format!("Hello, {name}!")
    }

    #[tool(description = "Counts, and reports its progress")]
    async fn count(
        &self,
        Parameters(Count { to }): Parameters<Count>,
        meta: RequestMetaObject,
        client: Peer<RoleServer>,
    ) -> Result<String, ErrorData> {
        if let Some(token) = meta.get_progress_token() {
            for step in 1..=to {
                let progress = ProgressNotificationParam::new(token.clone(), f64::from(step)).with_total(f64::from(to));
                let sent = client.notify_progress(progress).await;
                sent.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
            }
        }
        Ok(format!("counted to {to}"))
    }
}

#[tool_handler]
impl ServerHandler for Tools {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("demo-upgraded-server", "2.0.0"))
    }
}
