//! What a new user needs next, at the end of a start: how to point cargo here, and commands that mean
//! this server wherever they are typed.

use std::ffi::OsString;
use std::path::Path;

use crate::config::{Config, Flags, Tls};
use crate::flows::store::founded::shown;
use cratehouse_core::console::{LogFormat, tell};
use cratehouse_package::cargo_config::cargo_configuration;
use cratehouse_storage::url::StoreUrl;

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "CRATEHOUSE_CONFIG";

/// Only for people: a log collector has no use for it.
pub(super) fn greet(config: &Config, flags: &Flags, url: &str, ca: Option<&Path>) {
    if config.log.format == LogFormat::Json {
        return;
    }
    if let (Tls::LocalCa, Some(ca)) = (&config.tls, ca) {
        tell(&format!("clients must trust the local CA {}", ca.display()));
    }
    if config.server.listen.ip().is_unspecified() && config.server.url.is_none() {
        tell(&format!(
            "only this machine can use {url}/: name the URL that others reach it by (`server.url`, `--url`)"
        ));
    }
    tell("\nPoint cargo here:\n");
    for line in cargo_configuration(url, ca, config.auth_required).lines() {
        tell(&format!("    {line}"));
    }
    let program = program(config, flags, std::env::var_os(CONFIG_VARIABLE));
    tell("\nTo publish, make a user and a token:\n");
    tell(&format!("    {program} user add alice"));
    tell(&format!("    {program} token create --user alice\n"));
}

/// `cratehouse` with what makes it mean this server from every folder.
fn program(config: &Config, flags: &Flags, variable: Option<OsString>) -> String {
    let mut words = vec!["cratehouse".to_owned()];
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), quoted(&value)]);
    if let Some(file) = flags.config.clone().or(variable.map(Into::into)) {
        add("--config", whole(&file));
    }
    add("--data", whole(&config.data));
    let default = StoreUrl::Folder(config.data.join("store"));
    if config.store.url != default {
        add("--store", shown(&config.store.url));
    }
    words.join(" ")
}

fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:=@%+,-".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(flags: &Flags) -> Config {
        Config::load(flags, []).unwrap()
    }

    #[test]
    fn a_command_means_this_server_wherever_it_is_typed() {
        let here = std::env::current_dir().unwrap();
        let here = here.display();
        let flags = Flags::default();
        let data = format!("--data {here}/cratehouse-data");
        assert_eq!(program(&configured(&flags), &flags, None), format!("cratehouse {data}"));
        let flags = Flags { data: Some("/var/lib/a b".into()), ..flags };
        let shown = program(&configured(&flags), &flags, Some("/etc/c.toml".into()));
        assert_eq!(shown, "cratehouse --config /etc/c.toml --data '/var/lib/a b'");
        let flags = Flags { data: None, store: Some("file://st'ore".into()), ..flags };
        let shown = program(&configured(&flags), &flags, None);
        assert_eq!(shown, format!(r"cratehouse {data} --store 'file://{here}/st'\''ore'"));
    }
}
