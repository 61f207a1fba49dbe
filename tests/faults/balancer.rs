//! Real balancers in front of the proxy: nginx and haproxy, configured as their users would.
//!
//! What matters to legacy clients: a balancer that finds nobody behind it must close the connection, not answer 502 or
//! 503, because the `EventSource` of TypeScript takes any such answer for ever and comes back after 3 s from a closed connection.
//!
//! Each runs in the foreground as one process, with all its files in a folder of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::child::Child;
use crate::port::Port;
use crate::wait::{self, seconds};

/// Which balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
}

/// A balancer that runs.
pub(crate) struct Balancer {
    _child: Child,
    port: Port,
}

impl Balancer {
    /// In front of the first of `proxies`, and of the others while those before do not know what they are asked. Streams
    /// on which nothing comes for `idle_s` seconds are cut.
    pub(crate) fn start(kind: Kind, proxies: &[SocketAddr], idle_s: u64) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().expect("a folder"));
        let file = folder.path().join("config");
        let mut command = match kind {
            Kind::Nginx => {
                fs::write(&file, nginx(folder.path(), port.address, proxies, idle_s)).expect("a file");
                let mut command = Command::new("nginx");
                command.arg("-p").arg(folder.path()).args(["-e", "stderr", "-c"]).arg(&file);
                command
            }
            Kind::Haproxy => {
                fs::write(&file, haproxy(port.address, proxies, idle_s)).expect("a file");
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f"]).arg(&file);
                command
            }
        };
        // Debian has them where not every user looks.
        command.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()));
        let child = Child::start_in(folder, "balancer", &mut command);
        wait::until("the balancer accepts connections", seconds(10), || TcpStream::connect(port.address).is_ok());
        Balancer { _child: child, port }
    }

    pub(crate) fn sse_url(&self) -> String {
        format!("{}/sse", self.port.base())
    }
}

/// A POST that a proxy answers with 404 was not carried out there, so another may be asked; one that got no answer may be
/// asked elsewhere too, because nobody else knows its session.
fn nginx(folder: &Path, listen: SocketAddr, proxies: &[SocketAddr], idle_s: u64) -> String {
    let folder = folder.display();
    let mut servers = String::new();
    for (place, proxy) in proxies.iter().enumerate() {
        let backup = if place == 0 { "" } else { " backup" };
        let _ = writeln!(servers, "    server {proxy} max_fails=0{backup};");
    }
    format!(
        "daemon off;
master_process off;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream sunset {{
{servers}  }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://sunset;
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection \"\";
      proxy_buffering off;
      proxy_read_timeout {idle_s}s;
      proxy_next_upstream error timeout http_404 non_idempotent;
      error_page 502 504 = @gone;
    }}
    location @gone {{ return 444; }}
  }}
}}
"
    )
}

/// An empty error file closes the connection without a word. A connection that could not be made is tried again for
/// three seconds.
fn haproxy(listen: SocketAddr, proxies: &[SocketAddr], idle_s: u64) -> String {
    let mut servers = String::new();
    for (place, proxy) in proxies.iter().enumerate() {
        let _ = writeln!(servers, "  server proxy{place} {proxy}");
    }
    format!(
        "global
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client {idle_s}s
  timeout server {idle_s}s
  retries 3
  retry-on conn-failure
  errorfile 502 /dev/null
  errorfile 503 /dev/null
  errorfile 504 /dev/null
frontend legacy
  bind {listen}
  default_backend sunset
backend sunset
{servers}"
    )
}
