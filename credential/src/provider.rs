//! The three questions of cargo: a token for a registry (`get`), a new one (`login`), none any more
//! (`logout`). Whatever is not about a registry of ours is left to the next provider.

use cargo_credential::{
    Action, CacheControl, Credential, CredentialResponse, Error, LoginOptions, RegistryInfo,
    Secret, read_token,
};

use crate::server::{Said, Server};
use crate::tokens::Tokens;
use crate::words;
use cratehouse_cargo::config::CargoConfig;
use cratehouse_cargo::registry::Registry;

/// The longest token that is taken, in bytes.
const MAX_TOKEN_BYTES: usize = 4096;

/// The provider, for the user who runs it.
pub(crate) struct Provider;

impl Credential for Provider {
    fn perform(
        &self,
        registry: &RegistryInfo<'_>,
        action: &Action<'_>,
        args: &[&str],
    ) -> Result<CredentialResponse, Error> {
        let Some(ours) = Registry::of_index(registry.index_url) else {
            return Err(Error::UrlNotSupported);
        };
        let named = named(args);
        let is_named = named.as_ref().is_ok_and(|named| named.contains(&ours));
        let known = named.and_then(|_| Tokens::of_this_user());
        let known = known.and_then(|tokens| Ok((tokens.know(&ours)?, tokens)));
        let tokens = match (known, action) {
            (Ok((_, tokens)), _) => tokens,
            (Err(why), Action::Login(_)) => return Err(why.into()), // its user sees what to do
            (Err(why), _) => return Err(trouble(&why, is_named)),
        };
        match action {
            Action::Get(_) => match get(&tokens, &ours, is_named) {
                // For the registry's own index cargo has the variable itself.
                Err(Error::NotFound | Error::UrlNotSupported) if registry.name.is_none() => {
                    of_environment(&ours, is_named)?.map(given).ok_or_else(|| nothing(is_named))
                }
                answer => answer,
            },
            Action::Login(options) => login(&tokens, &ours, is_named, (registry, options)),
            Action::Logout => logout(&tokens, &ours, is_named),
            _ => Err(Error::OperationNotSupported),
        }
    }
}

/// The registries that stand behind the program's name in cargo's configuration.
fn named(args: &[&str]) -> Result<Vec<Registry>, String> {
    let registry = |text: &&str| {
        Registry::written(text).ok_or_else(|| {
            let text = words::plain(text);
            format!(
                "`{text}` behind `cargo-credential-cratehouse` in cargo's configuration is not the URL of a registry: \
                 write it as https://crates.acme.example"
            )
        })
    };
    args.iter().map(registry).collect()
}

/// Of whom nothing is known, another provider may know something.
fn nothing(is_named: bool) -> Error {
    if is_named { Error::NotFound } else { Error::UrlNotSupported }
}

/// Trouble of this provider is none of a registry that may be another's: cargo asks the next provider then.
fn trouble(why: &str, is_named: bool) -> Error {
    if is_named {
        return why.to_owned().into();
    }
    words::tell(&format!("cargo-credential-cratehouse has no token: {why}"));
    Error::UrlNotSupported
}

fn get(tokens: &Tokens, ours: &Registry, is_named: bool) -> Result<CredentialResponse, Error> {
    tokens.of(ours)?.map(given).ok_or_else(|| nothing(is_named))
}

fn given(token: Secret<String>) -> CredentialResponse {
    CredentialResponse::Get { token, cache: CacheControl::Session, operation_independent: true }
}

/// The token that a CI job has in its environment for `[registries]`: for the other index of that registry too.
fn of_environment(ours: &Registry, is_named: bool) -> Result<Option<Secret<String>>, Error> {
    if !is_named && !ours.is_encrypted() {
        return Ok(None);
    }
    let config = CargoConfig::of_this_process().map_err(|why| trouble(&why, is_named))?;
    let is_index = |index: &str| Registry::of_index(index).as_ref() == Some(ours);
    Ok(config.token_of(is_index, |name| std::env::var_os(name)).map(Secret::from))
}

fn logout(tokens: &Tokens, ours: &Registry, is_named: bool) -> Result<CredentialResponse, Error> {
    if !tokens.forget(ours)? {
        return Err(nothing(is_named));
    }
    words::tell(&format!(
        "the token for {ours} is forgotten here; it still counts there: have it revoked if others may have it"
    ));
    Ok(CredentialResponse::Logout)
}

fn login(
    tokens: &Tokens,
    ours: &Registry,
    is_named: bool,
    (registry, options): (&RegistryInfo<'_>, &LoginOptions<'_>),
) -> Result<CredentialResponse, Error> {
    let is_known = is_named || tokens.know(ours)?;
    if !is_known && !ours.is_encrypted() {
        return Err(Error::UrlNotSupported); // whoever means it names it
    }
    let server = Server::as_cargo_asks();
    let server = match (is_known, &server) {
        (true, _) => server,
        (false, Ok(asking)) => match asking.is_cratehouse(ours) {
            Ok(true) => server,
            Ok(false) => return Err(Error::UrlNotSupported),
            Err(why) => looks_like_one(ours, options).map(|()| Err(why))?,
        },
        (false, Err(_)) => looks_like_one(ours, options).map(|()| server)?,
    };
    let token = read_token(options, registry)?.expose();
    let token = clean(&token)?;
    let told = judged(server, ours, token)?;
    let place = tokens.keep(ours, token)?;
    words::tell(&format!("{told}; the token is in {place}"));
    Ok(CredentialResponse::Login)
}

/// Where the server cannot be asked, cargo has just been: it tells the page that a registry points to.
fn looks_like_one(ours: &Registry, options: &LoginOptions<'_>) -> Result<(), Error> {
    let page = ours.login_page();
    let is_ours = options.login_url.is_some_and(|url| url == page);
    if is_ours { Ok(()) } else { Err(Error::UrlNotSupported) }
}

/// What the server says of a token; one that it refuses is not kept.
fn judged(server: Result<Server, String>, ours: &Registry, token: &str) -> Result<String, Error> {
    let unchecked = |why: &str| format!("the token for {ours} could not be checked ({why})");
    match server.and_then(|server| server.holder(ours, token)) {
        Ok(Said::Holder(holder)) => Ok(format!("logged in to {ours} as {}", holder.describe())),
        Ok(Said::Other(why)) | Err(why) => Ok(unchecked(&why)),
        Ok(Said::Refused(why)) => {
            let page = ours.login_page();
            Err(format!("{ours} refuses this token, so it was not kept: {why} ({page})").into())
        }
    }
}

/// A token without what gets pasted along with it.
fn clean(pasted: &str) -> Result<&str, String> {
    let token = pasted.trim();
    let token = token.strip_prefix("cargo login").map_or(token, str::trim_start);
    let is_fine = |b: u8| b.is_ascii_graphic() || b == b' ';
    match token {
        "" => Err("no token was given: paste it, or give it on standard input".to_owned()),
        token if token.len() > MAX_TOKEN_BYTES || !token.bytes().all(is_fine) => Err(
            "what was given is not a token: paste what `cratehouse token create` printed, crh_…"
                .to_owned(),
        ),
        token => Ok(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::CredentialsFile;

    fn acme() -> Registry {
        Registry::written("https://crates.acme.example").unwrap()
    }

    fn kind(answer: Result<CredentialResponse, Error>) -> String {
        match answer {
            Ok(answer) => {
                serde_json::to_value(answer).unwrap()["kind"].as_str().unwrap().to_owned()
            }
            Err(e) => serde_json::to_value(e).unwrap()["kind"].as_str().unwrap().to_owned(),
        }
    }

    #[test]
    fn registries_are_answered_for_that_are_known_or_named() {
        let folder = tempfile::tempdir().unwrap();
        let tokens = Tokens::new(CredentialsFile::in_folder(folder.path().to_owned()), || None);
        assert_eq!(kind(get(&tokens, &acme(), false)), "url-not-supported");
        assert_eq!(kind(get(&tokens, &acme(), true)), "not-found");
        assert_eq!(kind(logout(&tokens, &acme(), false)), "url-not-supported");
        assert_eq!(kind(logout(&tokens, &acme(), true)), "not-found");
        tokens.keep(&acme(), "crh_1").unwrap();
        assert_eq!(kind(get(&tokens, &acme(), false)), "get");
        assert_eq!(kind(logout(&tokens, &acme(), false)), "logout");
        assert_eq!(kind(get(&tokens, &acme(), false)), "url-not-supported");
    }

    #[test]
    fn our_own_trouble_is_none_of_another_registry() {
        let why = "credentials.json can be read by others";
        assert_eq!(kind(Err(trouble(why, false))), "url-not-supported");
        assert_eq!(kind(Err(trouble(why, true))), "other");
    }

    #[test]
    fn another_index_is_left_to_others_before_anything_is_looked_at() {
        let elsewhere = RegistryInfo {
            index_url: "sparse+https://other.example/",
            name: Some("other"),
            headers: Vec::new(),
        };
        let broken = ["not a URL"];
        let answer = Provider.perform(&elsewhere, &Action::Logout, &broken);
        assert_eq!(kind(answer), "url-not-supported");
        assert!(named(&broken).unwrap_err().contains("https://"));
        assert_eq!(named(&["https://crates.acme.example/"]).unwrap(), [acme()]);
    }

    #[test]
    fn a_token_is_taken_as_people_paste_it() {
        assert_eq!(clean(" crh_1\n"), Ok("crh_1"));
        assert_eq!(clean("cargo login crh_1"), Ok("crh_1"));
        assert_eq!(clean("Bearer crh_1"), Ok("Bearer crh_1"));
        assert!(clean("\n").unwrap_err().contains("no token"));
        for wrong in ["crh_\u{e9}", "a\x1b[b", "a\nb"] {
            assert!(clean(wrong).unwrap_err().contains("not a token"), "{wrong:?}");
        }
    }

    #[test]
    fn a_server_that_cannot_be_asked_is_one_by_the_page_that_cargo_names() {
        let points = |url| LoginOptions { token: None, login_url: url };
        assert!(looks_like_one(&acme(), &points(Some("https://crates.acme.example/me"))).is_ok());
        for url in [None, Some("https://crates.acme.example/login")] {
            assert!(looks_like_one(&acme(), &points(url)).is_err(), "{url:?}");
        }
    }
}
