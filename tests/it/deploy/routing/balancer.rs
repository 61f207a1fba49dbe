//! The files of `deploy/routing`, read as they are and made to run here: other addresses, other places for files, and where a
//! test says so other times. Nothing else is changed.
//!
//! Promise: whatever is to be replaced stands in its file, once; so a file that no longer says it fails the test that uses it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command as Blocking;

use tokio::process::{Child, Command};

use crate::support::gateway::{Gateway, LOOK, search_path};
use crate::support::port::Port;
use crate::support::{http_client, within};

/// Which balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Nginx,
    Haproxy,
    Caddy,
    Envoy,
    Traefik,
}

/// Where requests go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// HTTP+SSE to the proxy, everything else to the server.
    Split,
    /// Everything to the proxy.
    All,
    /// Everything to the server.
    Direct,
}

impl Route {
    fn name(self) -> &'static str {
        match self {
            Route::Split => "split",
            Route::All => "all",
            Route::Direct => "direct",
        }
    }
}

/// A change to one file: its name, what stands there once, and what is put in its place.
pub(super) type Change = (&'static str, &'static str, String);

/// What a balancer is to do.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) kind: Kind,
    pub(super) route: Route,
    pub(super) server: SocketAddr,
    pub(super) sunset: SocketAddr,
    pub(super) changes: Vec<Change>,
    /// What `sse-sunset tombstone` printed.
    pub(super) tombstone: Option<String>,
}

/// A balancer that runs.
pub(super) struct Balancer {
    gateway: Gateway,
    plan: Plan,
    /// Those whose place another has taken, with what they still have to do.
    before: Vec<Child>,
    /// How often nginx has read its files again.
    switches: usize,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
            Kind::Caddy => "caddy",
            Kind::Envoy => "envoy",
            Kind::Traefik => "traefik",
        }
    }

    pub(super) fn folder(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/routing").join(self.name())
    }

    fn read(self, file: &str) -> String {
        fs::read_to_string(self.folder().join(file)).unwrap_or_else(|error| panic!("{self:?} {file}: {error}"))
    }
}

impl Plan {
    pub(super) fn new(kind: Kind, route: Route, server: SocketAddr, sunset: SocketAddr) -> Self {
        Plan { kind, route, server, sunset, changes: Vec::new(), tombstone: None }
    }

    pub(super) fn with(mut self, changes: Vec<Change>) -> Self {
        self.changes.extend(changes);
        self
    }

    /// Writes `file` as it is, but for `own` and those of the test's changes that are for it.
    fn write(&self, folder: &Path, file: &'static str, to: &str, own: &[(&str, String)]) {
        let mut text = self.kind.read(file);
        let of_test = self.changes.iter().filter(|(name, ..)| *name == file).map(|(_, from, to)| (*from, to.clone()));
        for (from, to) in own.iter().cloned().chain(of_test) {
            assert_eq!(text.matches(from).count(), 1, "{:?}: {from:?} stands in {file} once", self.kind);
            text = text.replace(from, &to);
        }
        let to = folder.join(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        // Moved into its place, as the files say where it matters.
        let next = folder.join("next");
        fs::write(&next, text).expect("a file");
        fs::rename(next, to).expect("a file");
    }

    /// Writes all there is to read and gives the command that runs it in the foreground.
    fn configure(&self, folder: &Path, listen: SocketAddr) -> Command {
        let mut command = Command::new(self.kind.name());
        match self.kind {
            Kind::Nginx => {
                self.nginx(folder, listen);
                command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]).arg(folder.join("nginx.conf"));
            }
            Kind::Haproxy => {
                self.haproxy(folder, listen);
                command.args(["-db", "-f", "haproxy.cfg"]);
            }
            Kind::Caddy => {
                self.caddy(folder, listen);
                command.args(["run", "--config", "Caddyfile"]);
            }
            Kind::Envoy => {
                self.envoy(folder, listen);
                command.args([
                    "--disable-hot-restart",
                    "--concurrency",
                    "1",
                    "--log-level",
                    "warn",
                    "-c",
                    "envoy.yaml",
                ]);
                command.args(["--file-flush-interval-msec", "10"]);
            }
            Kind::Traefik => {
                self.traefik(folder, listen);
                command.arg("--configFile=traefik.yaml");
            }
        }
        command
    }

    fn nginx(&self, folder: &Path, listen: SocketAddr) {
        let place = folder.display();
        let mut own = vec![
            ("listen 80;", format!("listen {listen};")),
            ("server 127.0.0.1:3001;", format!("server {};", self.server)),
            ("server 127.0.0.1:8080;", format!("server {};", self.sunset)),
            ("access_log /var/log/nginx/mcp.log", format!("access_log {place}/access")),
            ("include /etc/nginx/sse-sunset/split.conf;", format!("include {place}/{}.conf;", self.route.name())),
        ];
        if let Some(tombstone) = &self.tombstone {
            fs::write(folder.join("tombstone.conf"), tombstone).expect("a file");
            own.push(("#include /etc/nginx/sse-sunset/tombstone.conf;", format!("include {place}/tombstone.conf;")));
        }
        self.write(folder, "mcp.conf", "mcp.conf", &own);
        let errors = [("/var/log/nginx/mcp-error.log", format!("{place}/error"))];
        self.write(folder, "split.conf", "split.conf", &errors);
        self.write(folder, "all.conf", "all.conf", &errors);
        self.write(folder, "direct.conf", "direct.conf", &[]);
        // What Debian's nginx.conf has around it.
        let around = format!(
            "daemon off;\nerror_log stderr notice;\npid {place}/pid;\nevents {{ worker_connections 64; }}\nhttp {{\n  \
             client_body_temp_path {place}/body;\n  proxy_temp_path {place}/proxy;\n  fastcgi_temp_path {place}/fastcgi;\n  \
             uwsgi_temp_path {place}/uwsgi;\n  scgi_temp_path {place}/scgi;\n  gzip on;\n  include {place}/mcp.conf;\n}}\n"
        );
        fs::write(folder.join("nginx.conf"), around).expect("a file");
    }

    fn haproxy(&self, folder: &Path, listen: SocketAddr) {
        let mut own = vec![
            ("  bind :80\n", format!("  bind {listen}\n")),
            // As many as this machine's limit of descriptors holds.
            ("  maxconn 20000\n", "  maxconn 200\n".to_owned()),
            ("setenv MCP_ROUTE split", format!("setenv MCP_ROUTE {}", self.route.name())),
            ("setenv MCP_SERVER 127.0.0.1:3001", format!("setenv MCP_SERVER {}", self.server)),
            ("setenv SSE_SUNSET 127.0.0.1:8080", format!("setenv SSE_SUNSET {}", self.sunset)),
        ];
        if let Some(tombstone) = &self.tombstone {
            own.push((
                "  # TOMBSTONE: when sse-sunset is gone for good, with MCP_ROUTE direct: paste it here.\n",
                tombstone.clone(),
            ));
        }
        self.write(folder, "haproxy.cfg", "haproxy.cfg", &own);
    }

    fn caddy(&self, folder: &Path, listen: SocketAddr) {
        let mut own = vec![
            // Its own place to be told things at, which is a fixed port else.
            ("{\n\t# No queries", format!("{{\n\tadmin {}\n\t# No queries", admin(folder))),
            ("mcp.example.com {", format!("http://{listen} {{")),
            ("to 127.0.0.1:3001", format!("to {}", self.server)),
            ("to 127.0.0.1:8080", format!("to {}", self.sunset)),
            ("import split.caddy", format!("import {}.caddy", self.route.name())),
        ];
        if let Some(tombstone) = &self.tombstone {
            fs::write(folder.join("tombstone.caddy"), tombstone).expect("a file");
            own.push(("#import tombstone.caddy", "import tombstone.caddy".to_owned()));
        }
        self.write(folder, "Caddyfile", "Caddyfile", &own);
        for file in ["split.caddy", "all.caddy", "direct.caddy", "streams.caddy"] {
            self.write(folder, file, file, &[]);
        }
    }

    fn envoy(&self, folder: &Path, listen: SocketAddr) {
        let at = |address: SocketAddr| format!("{{ address: {}, port_value: {} }}", address.ip(), address.port());
        let own = [
            ("{ address: 0.0.0.0, port_value: 80 }", at(listen)),
            ("{ address: 127.0.0.1, port_value: 3001 }", at(self.server)),
            ("{ address: 127.0.0.1, port_value: 8080 }", at(self.sunset)),
            (
                "{ path: /etc/envoy/routes/current.yaml }",
                format!("{{ path: {}/routes/current.yaml }}", folder.display()),
            ),
        ];
        self.write(folder, "envoy.yaml", "envoy.yaml", &own);
        let route = match self.route {
            Route::Split => "split.yaml",
            Route::All => "all.yaml",
            Route::Direct => "direct.yaml",
        };
        let Some(tombstone) = &self.tombstone else {
            return self.write(folder, route, "routes/current.yaml", &[]);
        };
        // The very words of the file.
        let words = "sed '1,/^routes:/d; s/^/    /' gone.yaml > gone.routes && sed '/# TOMBSTONE$/r gone.routes' direct.yaml > \
                     next.yaml";
        assert!(self.kind.read("direct.yaml").contains(words), "{words}");
        fs::write(folder.join("routes/gone.yaml"), tombstone).expect("a file");
        self.write(folder, "direct.yaml", "routes/direct.yaml", &[]);
        let done = Blocking::new("sh").args(["-c", words]).current_dir(folder.join("routes")).status();
        assert!(done.expect("a shell").success());
        fs::rename(folder.join("routes/next.yaml"), folder.join("routes/current.yaml")).expect("a file");
    }

    fn traefik(&self, folder: &Path, listen: SocketAddr) {
        let own = [
            ("address: \":80\"", format!("address: \"{listen}\"")),
            ("directory: /etc/traefik/mcp,", format!("directory: {}/mcp,", folder.display())),
        ];
        self.write(folder, "traefik.yaml", "traefik.yaml", &own);
        let own = [
            ("http://127.0.0.1:3001", format!("http://{}", self.server)),
            ("http://127.0.0.1:8080", format!("http://{}", self.sunset)),
        ];
        self.write(folder, "servers.yaml", "mcp/servers.yaml", &own);
        let route = match self.route {
            Route::Split => "split.yaml",
            Route::All => "all.yaml",
            Route::Direct => "direct.yaml",
        };
        self.write(folder, route, "mcp/route.yaml", &[]);
        if let Some(tombstone) = &self.tombstone {
            fs::write(folder.join("mcp/tombstone.yaml"), tombstone).expect("a file");
        }
    }
}

/// Where Caddy is told things.
fn admin(folder: &Path) -> String {
    format!("unix/{}/admin", folder.display())
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Its workers do not notice when nginx is killed, and alone it does not read its files again.
        if self.plan.kind == Kind::Nginx {
            self.gateway.terminate();
        }
    }
}

impl Balancer {
    pub(super) async fn start(plan: Plan) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder"));
        let command = plan.configure(folder.path(), port.address);
        let gateway = Gateway::run(plan.kind.name(), port, folder, command).await;
        let balancer = Balancer { gateway, plan, before: Vec::new(), switches: 0 };
        // Traefik listens before it has read where requests go.
        let client = http_client();
        within("its routes", async {
            while client.get(balancer.url("/mcp")).send().await.is_ok_and(|answer| answer.status() == 404) {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
        balancer
    }

    pub(super) fn url(&self, path: &str) -> String {
        self.gateway.url(path)
    }

    /// Everything it wrote into its logs.
    pub(super) fn logs(&self) -> String {
        let folder = self.gateway.folder.path();
        let more = ["access", "error"].map(|file| fs::read_to_string(folder.join(file)).unwrap_or_default());
        self.gateway.said() + &more.concat()
    }

    /// Takes another route, as the files say that it is done. When that holds, the caller finds out; but nobody is served by
    /// both.
    pub(super) async fn switch(&mut self, route: Route, tombstone: Option<String>) {
        (self.plan.route, self.plan.tombstone) = (route, tombstone);
        let (folder, listen) = (self.gateway.folder.path().to_owned(), self.gateway.port.address);
        let mut command = self.plan.configure(&folder, listen);
        let mut tell = match self.plan.kind {
            Kind::Envoy | Kind::Traefik => return,
            Kind::Haproxy => {
                command.args(["-sf", &self.gateway.id()]);
                self.before.push(self.gateway.replace("haproxy", command));
                return self.says("Proxy mcp stopped", self.before.len()).await;
            }
            Kind::Nginx => {
                let mut tell = Command::new("kill");
                tell.args(["-HUP", &self.gateway.id()]);
                tell
            }
            Kind::Caddy => {
                let mut tell = Command::new("caddy");
                tell.args(["reload", "--config", "Caddyfile", "--address", &admin(&folder)]).current_dir(&folder);
                tell.env("PATH", search_path()).env("HOME", &folder);
                tell
            }
        };
        let told = within("the reload", tell.output()).await.expect("a program");
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
        if self.plan.kind == Kind::Nginx {
            self.switches += 1;
            self.says("gracefully shutting down", self.switches).await;
        }
    }

    /// Waits until it has said `text` as many times: the one before takes no connections any more.
    async fn says(&self, text: &str, times: usize) {
        within(text, async {
            while self.gateway.said().matches(text).count() < times {
                tokio::time::sleep(LOOK).await;
            }
        })
        .await;
    }
}
