//! What a client needs to know: the cargo configuration for this registry.

use std::path::Path;

/// What cargo calls us.
pub const REGISTRY: &str = "cratehouse";

/// The cargo configuration to paste: one URL under two names, as a registry of its own and as
/// the replacement of crates-io.
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
    let purpose = if auth_required { "Reading and publishing need" } else { "Publishing needs" };
    let index = quoted(&format!("sparse+{url}/index/"));
    text.push_str(&format!(
        "# {purpose} a token: cargo login --registry {REGISTRY}\n\
         [registries.{REGISTRY}]\n\
         index = {index}\n\
         credential-provider = [\"cargo:token\"]\n\
         \n\
         [source.crates-io]\n\
         replace-with = {}\n",
        quoted(REGISTRY),
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
    fn the_configuration_is_layout_one_with_the_ca() {
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

[source.crates-io]
replace-with = "cratehouse"
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
        assert!(!text.contains("http]") && text.contains("Reading and publishing"), "{text}");
    }
}
