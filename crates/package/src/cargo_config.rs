//! What a client needs to know: the cargo configuration for this registry.

use std::path::Path;

use crate::view::View;

/// What cargo calls us.
pub const REGISTRY: &str = "cratehouse";

/// The name of the source that replaces crates-io.
pub const PUBLIC_SOURCE: &str = "cratehouse-public";
/// The credential provider that knows both of our index URLs after one login.
pub const CREDENTIAL_PROVIDER: &str = "cargo-credential-cratehouse";

/// The cargo configuration to paste: our own index as a registry, and the view of public crates in
/// place of crates-io. Each crate has one source so; a `[registry] default` would give public crates two.
///
/// `url` is ours without a trailing slash, `ca` the absolute path of a CA certificate that
/// cargo has to trust (none when the system's CAs will do), `auth_required` whether reading
/// needs a token too. It belongs into `$CARGO_HOME`, because `cargo install` ignores a
/// project's own configuration.
pub fn cargo_configuration(url: &str, ca: Option<&Path>, auth_required: bool) -> String {
    let mut text = String::from("# $CARGO_HOME/config.toml, usually ~/.cargo/config.toml\n");
    if let Some(ca) = ca {
        let path = quoted(&ca.to_string_lossy());
        text.push_str(&format!("[http]\ncainfo = {path}\n\n"));
    }
    let own = quoted(&format!("sparse+{}", View::Own.index_url(url)));
    let public = quoted(&format!("sparse+{}", View::CratesIo.index_url(url)));
    let registry = format!("[registries.{REGISTRY}]\nindex = {own}\n");
    text.push_str(&match auth_required {
        // By `cargo:token` a source that is no registry has no token.
        true => format!(
            "# Reading and publishing need a token: cargo login --registry {REGISTRY}\n\
             # {CREDENTIAL_PROVIDER} gives it to cargo for both indexes; {url}/me says where to get it.\n\
             [registry]\n\
             global-credential-providers = [\"cargo:token\", \"{CREDENTIAL_PROVIDER}\"]\n\
             \n\
             {registry}"
        ),
        false => format!(
            "# Publishing needs a token: cargo login --registry {REGISTRY}\n\
             {registry}\
             credential-provider = [\"cargo:token\"]\n"
        ),
    });
    text.push_str(&format!(
        "\n\
         # Public crates, in place of crates.io\n\
         [source.{PUBLIC_SOURCE}]\n\
         registry = {public}\n\
         \n\
         [source.crates-io]\n\
         replace-with = {}\n",
        quoted(PUBLIC_SOURCE),
    ));
    text
}

/// A text as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_crate_has_one_source_in_the_configuration() {
        let text =
            cargo_configuration("https://127.0.0.1:8443", Some(Path::new("/d/ca.pem")), false);
        assert_eq!(
            text,
            r#"# $CARGO_HOME/config.toml, usually ~/.cargo/config.toml
[http]
cainfo = "/d/ca.pem"

# Publishing needs a token: cargo login --registry cratehouse
[registries.cratehouse]
index = "sparse+https://127.0.0.1:8443/index/"
credential-provider = ["cargo:token"]

# Public crates, in place of crates.io
[source.cratehouse-public]
registry = "sparse+https://127.0.0.1:8443/crates-io/index/"

[source.crates-io]
replace-with = "cratehouse-public"
"#
        );
    }

    #[test]
    fn odd_paths_are_quoted_and_a_public_ca_is_not_named() {
        let odd = Path::new(r#"C:\a "b"\ca.pem"#);
        let text = cargo_configuration("https://x", Some(odd), true);
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["http"]["cainfo"].as_str(), odd.to_str());
        let text = cargo_configuration("https://x", None, true);
        let table: toml::Table = text.parse().unwrap();
        let providers = table["registry"]["global-credential-providers"].as_array().unwrap();
        assert_eq!(providers.last().unwrap().as_str(), Some(CREDENTIAL_PROVIDER));
        assert!(table["registries"]["cratehouse"].get("credential-provider").is_none());
        assert!(!text.contains("http]") && text.contains("Reading and publishing"), "{text}");
    }
}
