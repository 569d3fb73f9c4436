//! The yardstick: the system's nginx, serving files over TLS as well as it can.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cratehouse_tests::authority::Authority;
use cratehouse_tests::gateway::free_port;
use cratehouse_tests::patience::until;
use cratehouse_tests::watchdog::Watchdog;
use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::Result;

const CONFIG: &str = "nginx.conf";
const LOG: &str = "error.log";

/// A running nginx: a master and its workers. They end when it is dropped, and when this process
/// ends.
#[derive(Debug)]
pub(crate) struct Nginx {
    folder: TempDir,
    addr: SocketAddr,
    master: Child,
}

impl Nginx {
    /// Starts one that serves the files of a folder, which may be links, with this certificate;
    /// returns when it listens. Below [`INDEX`], a client that takes gzip gets `FILE.gz` where
    /// that exists.
    pub(crate) fn start(site: &Path, authority: &Authority) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text);
        write("cert.pem", &authority.cert)?;
        write("cert.key", &authority.key)?;
        write(CONFIG, &config(addr, &fs::canonicalize(site)?, geteuid().is_root()))?;
        let master = command()
            .args(["-e", LOG, "-c", CONFIG, "-p"])
            .arg(folder.path())
            .process_group(Watchdog::shared().group())
            .spawn()
            .map_err(missing)?;
        let mut nginx = Self { folder, addr, master };
        until("nginx listens, or has ended", || nginx.ended() || TcpStream::connect(addr).is_ok());
        match nginx.ended() {
            false => Ok(nginx),
            true => Err(format!("nginx does not start: {}", nginx.log()).into()),
        }
    }

    /// Its URL, without a slash at its end.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.addr)
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its processes: the master and the workers.
    pub(crate) fn pids(&self) -> Result<Vec<u32>> {
        let master = self.master.id();
        let workers = fs::read_to_string(format!("/proc/{master}/task/{master}/children"))?;
        let workers = workers.split_whitespace().map(str::parse::<u32>);
        std::iter::once(Ok(master)).chain(workers).map(|pid| Ok(pid?)).collect()
    }

    fn ended(&mut self) -> bool {
        !matches!(self.master.try_wait(), Ok(None))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join(LOG)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    /// A master that is killed would leave its workers behind; SIGTERM ends both at once.
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.master), Signal::TERM);
        let _ = self.master.wait();
    }
}

/// What it calls itself: `nginx/1.22.1`.
pub(crate) fn version() -> Result<String> {
    let output = command().arg("-v").stderr(Stdio::piped()).output().map_err(missing)?;
    let text = String::from_utf8_lossy(&output.stderr);
    Ok(text.trim().trim_start_matches("nginx version: ").to_owned())
}

fn command() -> Command {
    let mut command = Command::new("nginx");
    // Debian keeps it where only root looks for programs.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn missing(error: std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {
            "there is no nginx: run bench/install, or install nginx (Debian: nginx-light)"
                .to_owned()
        }
        _ => format!("nginx: {error}"),
    }
}

/// What index files are below, in the URLs of a registry and in the folder that nginx serves.
pub(crate) const INDEX: &str = "index";

/// As fast as was found, and nothing that an administrator would not write. TLS records of
/// 16 kB save a fifth of the CPU time over those of 4 kB; larger chunks, larger or more buffers,
/// `multi_accept`, `reuseport`, pinned workers and doing without `sendfile` gained nothing. Relative
/// paths start at the folder that `-p` names.
fn config(addr: SocketAddr, site: &Path, as_root: bool) -> String {
    // The workers of a root's master would be somebody who may not read our folders.
    let user = if as_root { "user root;\n" } else { "" };
    let site = site.display();
    format!(
        r#"{user}daemon off;
worker_processes 2;
worker_rlimit_nofile 65536;
pid nginx.pid;

events {{
    worker_connections 8192;
}}

http {{
    access_log off;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    output_buffers 2 64k;
    open_file_cache max=600000 inactive=1h;
    open_file_cache_valid 1h;
    open_file_cache_min_uses 1;
    keepalive_timeout 1h;
    keepalive_time 24h;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;

    ssl_certificate cert.pem;
    ssl_certificate_key cert.key;
    ssl_protocols TLSv1.3;
    ssl_session_cache off;
    ssl_session_tickets on;
    ssl_buffer_size 16k;
    http2_chunk_size 16k;
    http2_max_concurrent_streams 256;

    server {{
        listen {addr} ssl http2 backlog=4096;
        root "{site}";
        etag on;

        location /{INDEX}/ {{
            default_type text/plain;
            gzip_static on;
            gzip_vary on;
            add_header Cache-Control no-cache;
        }}
        location / {{
            types {{ }}
            default_type application/gzip;
            add_header Cache-Control "no-cache";
        }}
    }}
}}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_where_it_listens_and_what_it_serves() {
        let text = config(([127, 0, 0, 1], 8443).into(), Path::new("/srv/a site"), false);
        assert!(text.contains("listen 127.0.0.1:8443 ssl http2"), "{text}");
        assert!(text.contains("root \"/srv/a site\";"), "{text}");
        assert!(text.contains("location /index/ {"), "{text}");
        assert!(text.starts_with("daemon off;"), "{text}");
        assert_eq!(text.matches('{').count(), text.matches('}').count());
    }

    #[test]
    fn only_root_says_who_the_workers_are() {
        let text = config(([127, 0, 0, 1], 1).into(), Path::new("/"), true);
        assert!(text.starts_with("user root;\ndaemon off;"), "{text}");
    }
}
