//! The two pages for people: plain HTML that needs nothing but itself.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use url::Host;

use crate::config::{Config, Tls};
use crate::gateway::Gateway;
use crate::http::response::respond::{self, Answer};
use cratehouse_core::checksum::Checksum;
use cratehouse_package::cargo_config::cargo_configuration;

/// What the reader puts in place of the CA file, which lies on another machine.
const CA_ELSEWHERE: &str = "/path/to/ca.pem";

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1d2329;--soft:#5b6570;--paper:#fbfaf8;--box:#f0eeea;--line:#dcd8d1;--link:#a3410f}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e3de;--soft:#a09a92;--paper:#191b1e;--box:#23262a;--line:#373b40;--link:#f0a070}}\
body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.6 system-ui,sans-serif}\
main{max-width:44rem;margin:0 auto;padding:3rem 1.25rem}\
h1{font-size:1.9rem;line-height:1.2;margin:0}\
h2{font-size:1.15rem;margin:2.2rem 0 .4rem}\
p{margin:.5rem 0}\
.soft{color:var(--soft)}\
a{color:var(--link)}\
code,pre{font:.9rem/1.5 ui-monospace,monospace}\
pre{background:var(--box);border:1px solid var(--line);border-radius:.4rem;padding:.9rem 1rem;overflow-x:auto}\
footer{margin-top:3rem;border-top:1px solid var(--line);padding-top:.8rem}";

/// Nothing may be loaded or run; only the style above counts.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Checksum::of(STYLE.as_bytes()).as_bytes());
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    )
});

/// `/`: what this is, and the cargo configuration to paste.
pub fn home(gateway: &Gateway) -> Answer {
    let ca = ca_file(&gateway.config, &gateway.url);
    let body = home_body(&gateway.url, ca.as_deref(), gateway.config.auth_required);
    respond::page(document("Cratehouse", &body), &POLICY)
}

/// `/me`: how to get a token.
pub fn me(gateway: &Gateway) -> Answer {
    respond::page(document("Your token · Cratehouse", &me_body(&gateway.url)), &POLICY)
}

fn home_body(url: &str, ca: Option<&Path>, auth_required: bool) -> String {
    let configuration = escape(&cargo_configuration(url, ca, auth_required));
    let ca_hint = match ca {
        None => "",
        Some(_) => {
            "<p class=\"soft\">This registry's certificate comes from a CA of its own. \
             <code>cainfo</code> names the CA's file, which is <code>tls/ca.pem</code> in the \
             data folder of the registry: copy it to your machine and put its place there.</p>"
        }
    };
    let token_hint = match auth_required {
        true => "<p>Reading needs a token, too: see <a href=\"/me\">how to get one</a>.</p>",
        false => {
            "<p>Reading needs no token; publishing does: see <a href=\"/me\">how to get \
                  one</a>.</p>"
        }
    };
    let url = escape(url);
    format!(
        "<h1>Cratehouse</h1>\
         <p class=\"soft\">The Cargo registry at <code>{url}</code></p>\
         <p>One endpoint for this organisation's own crates and for the public ones, which it \
         reads through and keeps.</p>\
         <h2>Set up cargo</h2>\
         <p>Paste this into <code>~/.cargo/config.toml</code>:</p>\
         <pre>{configuration}</pre>{ca_hint}\
         <h2>Publish and use</h2>{token_hint}\
         <pre>cargo publish --registry cratehouse\n\
         cargo add --registry cratehouse NAME    # a crate of your organisation\n\
         cargo add NAME                          # a public crate, through here as well</pre>\
         <p class=\"soft\">Write <code>publish = [\"cratehouse\"]</code> into the manifest of a private \
         package, and no <code>[registry] default</code> into cargo's configuration: with that, public crates \
         would be looked for among yours.</p>\
         <h2>Read more</h2>\
         <p>Cratehouse's own documentation comes with its source: <code>README.md</code> to \
         start, <code>ARCHITECTURE.md</code> for how it works, <code>deploy/cratehouse.toml</code> \
         for every setting. Cargo's side is in \
         <a href=\"https://doc.rust-lang.org/cargo/reference/registries.html\">the Cargo book</a>.\
         </p>"
    )
}

fn me_body(url: &str) -> String {
    let url = escape(url);
    format!(
        "<h1>Your token</h1>\
         <p class=\"soft\">for the Cargo registry at <a href=\"/\"><code>{url}</code></a></p>\
         <h2>Get one</h2>\
         <p>Ask whoever runs this registry. An administrator makes you a token with</p>\
         <pre>cratehouse user add YOU\n\
         cratehouse token create --user YOU --name laptop</pre>\
         <p>or, with a token of scope <code>admin</code>, from anywhere:</p>\
         <pre>curl {url}/api/v1/admin/tokens \\\n  \
         --header \"Authorization: $ADMIN_TOKEN\" \\\n  \
         --json '{{\"user\":\"YOU\",\"name\":\"laptop\"}}'</pre>\
         <p>It is shown once and kept here only as a hash: lose it, and ask for another.</p>\
         <h2>Give it to cargo</h2>\
         <pre>cargo login --registry cratehouse</pre>\
         <p>and paste the token; the <a href=\"/\">configuration</a> must be in place before, and \
         <code>cargo-credential-cratehouse</code> where it names that: <code>cargo install --locked \
         --path credential</code> in Cratehouse's source. In CI, set the variable \
         <code>CARGO_REGISTRIES_CRATEHOUSE_TOKEN</code>, or:</p>\
         <pre>echo \"$TOKEN\" | cargo login --registry cratehouse</pre>"
    )
}

fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body><main>{body}\
         <footer class=\"soft\">Cratehouse {version}</footer></main></body></html>\n",
        title = escape(title),
        version = env!("CARGO_PKG_VERSION"),
    )
}

/// The file that cargo must trust, where the certificate is of the local CA. Its real place
/// helps only who sits at the same machine, and is nobody else's business.
fn ca_file(config: &Config, url: &str) -> Option<PathBuf> {
    if config.tls != Tls::LocalCa {
        return None;
    }
    let here = std::path::absolute(config.data.join("tls").join("ca.pem")).ok();
    here.filter(|_| is_this_machine(url)).or_else(|| Some(CA_ELSEWHERE.into()))
}

fn is_this_machine(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_escaped() {
        let hostile = "https://x/<script>'\"&";
        for page in [home_body(hostile, Some(Path::new("/<b>")), true), me_body(hostile)] {
            assert!(!page.contains("<script>") && !page.contains("<b>"), "{page}");
        }
        assert_eq!(escape("<&>\"'a"), "&lt;&amp;&gt;&quot;&#39;a");
    }

    #[test]
    fn pages_load_nothing_and_run_nothing() {
        let page = document("t", &home_body("https://crates.example", None, false));
        for word in ["<script", "<link", "<img", "src=", "style=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
    }

    #[test]
    fn the_home_page_shows_the_cargo_configuration() {
        let url = "https://crates.example";
        let wanted = escape(&cargo_configuration(url, None, false));
        assert!(home_body(url, None, false).contains(&wanted));
    }

    #[test]
    fn the_place_of_the_ca_is_told_at_the_same_machine_only() {
        assert!(is_this_machine("https://127.0.0.1:8443"));
        assert!(is_this_machine("https://localhost"));
        assert!(is_this_machine("https://[::1]:1"));
        assert!(!is_this_machine("https://crates.example"));
        assert!(!is_this_machine("nonsense"));
    }
}
