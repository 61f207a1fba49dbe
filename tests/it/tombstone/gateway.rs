//! The real servers, each in the smallest configuration that includes what the binary printed. Whatever that leaves alone
//! they answer with 404 and the word `mine` (Traefik has no words of its own).

use std::fs;
use std::path::Path;

use tokio::process::Command;

use crate::support::gateway::{Gateway, LOOK};
use crate::support::port::Port;
use crate::support::{http_client, within};

/// A router of Traefik's operator.
const TRAEFIKS_OWN: &str = "http:
  routers:
    own: { rule: \"Path(`/own`)\", middlewares: [own], service: noop@internal }
  middlewares:
    own: { ipAllowList: { sourceRange: [255.255.255.255/32], rejectStatusCode: 418 } }
";

/// Runs `server` with what was printed for it.
pub(super) async fn start(server: &str, printed: &str) -> Gateway {
    let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder"));
    let command = configure(server, folder.path(), &port.address.to_string(), printed);
    let gateway = Gateway::run(server, port, folder, command).await;
    if server == "traefik" {
        within("its own router", until_configured(&gateway)).await;
    }
    gateway
}

/// Traefik listens before it has read what to do; all routers come at once.
async fn until_configured(gateway: &Gateway) {
    let client = http_client();
    while client.get(gateway.url("/own")).send().await.expect("an answer").status() != 418 {
        tokio::time::sleep(LOOK).await;
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
