//! The names of hosts that the configuration has, asked of this machine's resolver.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use url::Url;

use super::finding::Finding;
use crate::config::Config;

/// How long a name may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for each name once.
pub async fn look(config: &Config) -> Vec<Finding> {
    let mut hosts: Vec<(String, u16, String)> = Vec::new();
    for (key, url) in urls(config) {
        let Some(url::Host::Domain(host)) = url.host() else { continue };
        let port = url.port_or_known_default().unwrap_or(443);
        if !hosts.iter().any(|(known, ..)| known == host) {
            hosts.push((host.to_owned(), port, key));
        }
    }
    let mut findings = Vec::new();
    for (host, port, key) in hosts {
        let found = match timeout(PATIENCE, lookup_host((host.as_str(), port))).await {
            Ok(Ok(found)) => Ok(found.collect()),
            Ok(Err(e)) => Err(e.to_string()),
            Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        findings.push(judge(&host, &key, found));
    }
    findings
}

fn urls(config: &Config) -> Vec<(String, Url)> {
    let mut urls = Vec::new();
    urls.extend(config.server.url.clone().map(|url| ("server.url".to_owned(), url)));
    urls.extend(config.store.endpoint.clone().map(|url| ("store.endpoint".to_owned(), url)));
    let upstreams = config.upstreams.iter();
    urls.extend(upstreams.map(|up| (format!("the upstream `{}`", up.name), up.index.clone())));
    urls.extend(config.tracing.otlp.clone().map(|url| ("tracing.otlp".to_owned(), url)));
    urls
}

/// Judges an answer. A machine behind a proxy may know no name of the world, and one behind a balancer not
/// its own: so it is told, and no more.
pub fn judge(host: &str, key: &str, found: Result<Vec<SocketAddr>, String>) -> Finding {
    let cure = format!(
        "look at the name in {key} and at this machine's resolver (/etc/resolv.conf); with an outgoing proxy, the proxy asks for it"
    );
    match found {
        Ok(addresses) if addresses.is_empty() => {
            Finding::mind("dns", format!("`{host}` has no address here"), cure)
        }
        Ok(addresses) => {
            let shown: Vec<_> = addresses.iter().take(3).map(|at| at.ip().to_string()).collect();
            Finding::fine("dns", format!("`{host}` is {}", shown.join(", ")))
        }
        Err(why) => Finding::mind("dns", format!("`{host}` cannot be found: {why}"), cure),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Gravity;
    use super::*;

    #[test]
    fn a_name_without_an_address_is_told_with_its_key() {
        let judged = |found| judge("crates.example", "server.url", found);
        let fine = judged(Ok(vec!["192.0.2.1:443".parse().unwrap()]));
        assert_eq!(
            (fine.gravity, fine.found.as_str()),
            (Gravity::Fine, "`crates.example` is 192.0.2.1")
        );
        for none in [Ok(Vec::new()), Err("not known".to_owned())] {
            let told = judged(none);
            assert_eq!(told.gravity, Gravity::Mind);
            assert!(told.cure.unwrap().contains("server.url"));
        }
    }
}
