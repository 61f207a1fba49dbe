//! The real servers, each in the smallest configuration that includes what the binary printed. Whatever that leaves alone
//! they answer with 404 and the word `mine` (Traefik has no words of its own).

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::port::Port;
use crate::support::{http_client, within};

/// Between two looks whether a server listens.
const LOOK: Duration = Duration::from_millis(20);

/// A router of Traefik's operator.
const TRAEFIKS_OWN: &str = "http:
  routers:
    own: { rule: \"Path(`/own`)\", middlewares: [own], service: noop@internal }
  middlewares:
    own: { ipAllowList: { sourceRange: [255.255.255.255/32], rejectStatusCode: 418 } }
";

/// A server that runs, and ends with the test.
pub(super) struct Gateway {
    port: Port,
    _child: Child,
    _folder: TempDir,
}

impl Gateway {
    pub(super) async fn start(server: &str, printed: &str) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder"));
        let mut command = configure(server, folder.path(), &port.address.to_string(), printed);
        // Debian has some where not every user looks, and `tests/run` puts others here.
        let usual = std::env::var("PATH").unwrap_or_default();
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let target = target.display();
        command.env("PATH", format!("{usual}:/usr/sbin:{target}/caddy:{target}/gateways/bin"));
        command.env("HOME", folder.path()).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
        let said = folder.path().join("said");
        let log = File::create(&said).expect("a file");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log).kill_on_drop(true);
        let started = command.current_dir(folder.path()).spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{server}: {error}; tests/run puts it on the PATH"));
        within(server, async {
            while TcpStream::connect(port.address).is_err() {
                if let Some(status) = child.try_wait().expect("a look") {
                    panic!("{server}: {status}: {}\n{printed}", fs::read_to_string(&said).expect("a file"));
                }
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        let gateway = Gateway { port, _child: child, _folder: folder };
        if server == "traefik" {
            within("its own router", gateway.until_configured()).await;
        }
        gateway
    }

    /// Traefik listens before it has read what to do; all routers come at once.
    async fn until_configured(&self) {
        let client = http_client();
        while client.get(self.url("/own")).send().await.expect("an answer").status() != 418 {
            tokio::time::sleep(LOOK).await;
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.port.base())
    }
}

/// Writes the configuration and gives the command that runs it in the foreground.
fn configure(server: &str, folder: &Path, listen: &str, printed: &str) -> Command {
    let mut command = Command::new(server);
    let file = folder.join("config.yaml");
    let text = match server {
        "nginx" => {
            command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(&file);
            fs::write(folder.join("tombstone.conf"), printed).expect("a file");
            nginx(folder, listen, printed)
        }
        "haproxy" => {
            command.args(["-db", "-f"]).arg(&file);
            haproxy(listen, printed)
        }
        "caddy" => {
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file);
            fs::write(folder.join("tombstone.caddy"), printed).expect("a file");
            format!(
                "{{\n\tadmin off\n\tauto_https off\n}}\nhttp://{listen} {{\n\timport tombstone.caddy\n\thandle {{\n\t\trespond \
                 mine 404\n\t}}\n}}\n"
            )
        }
        "envoy" => {
            command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warn", "-c"]).arg(&file);
            envoy(listen, printed)
        }
        "traefik" => {
            command.arg(format!("--configFile={}", file.display()));
            fs::create_dir(folder.join("dynamic")).expect("a folder");
            fs::write(folder.join("dynamic/tombstone.yaml"), printed).expect("a file");
            fs::write(folder.join("dynamic/own.yaml"), TRAEFIKS_OWN).expect("a file");
            format!(
                "entryPoints:\n  web: {{ address: \"{listen}\" }}\nproviders:\n  file: {{ directory: dynamic, watch: false }}\n\
                 global: {{ checkNewVersion: false, sendAnonymousUsage: false }}\n"
            )
        }
        other => panic!("{other} is no server"),
    };
    fs::write(file, text).expect("a file");
    command
}

fn nginx(folder: &Path, listen: &str, printed: &str) -> String {
    let folder = folder.display();
    // As its comment says.
    let geo = printed.lines().find_map(|line| line.trim_start_matches(['#', ' ']).strip_prefix("geo "));
    let geo = geo.map(|rest| format!("geo {rest}")).unwrap_or_default();
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {geo}
  server {{
    listen {listen};
    include tombstone.conf;
    location / {{ return 404 mine; }}
    location ~ /[.] {{ deny all; }}
  }}
}}
"
    )
}

fn haproxy(listen: &str, printed: &str) -> String {
    let (rules, backend) = match printed.split_once("\nbackend ") {
        Some((rules, backend)) => (rules, format!("backend {backend}")),
        None => (printed, String::new()),
    };
    format!(
        "defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend legacy
  bind {listen}
{rules}
  default_backend own
backend own
  http-request return status 404 content-type text/plain string mine
{backend}"
    )
}

fn envoy(listen: &str, printed: &str) -> String {
    let indent = |text: &str, by: usize| -> String {
        text.split_inclusive('\n').flat_map(|line| [" ".repeat(by), line.to_owned()]).collect()
    };
    let (routes, clusters) = match printed.split_once("\nclusters:\n") {
        Some((routes, clusters)) => (routes, format!("clusters:\n{clusters}")),
        None => (printed, String::new()),
    };
    let own = "- match: { prefix: \"/\" }\n  direct_response: { status: 404, body: { inline_string: mine } }\n";
    let (host, port) = listen.split_once(':').expect("an address");
    format!(
        "static_resources:
  listeners:
  - address: {{ socket_address: {{ address: {host}, port_value: {port} }} }}
    enable_reuse_port: false
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          \"@type\": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: legacy
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ \"@type\": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
          route_config:
            virtual_hosts:
            - name: all
              domains: [\"*\"]
{}{}{}",
        indent(&format!("{routes}\n"), 14),
        indent(own, 14),
        indent(&clusters, 2)
    )
}
