//! Which registry a store holds. Only `serve` and `init` found one: any other command that finds none
//! was given the wrong folder.

use crate::config::Config;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::progress::{Progress, say};
use cratehouse_core::threads::aside;
use cratehouse_journal::catalog::Catalog;
use cratehouse_storage::objects::{Objects, RegistryId};
use cratehouse_storage::self_test::{Effort, self_test};
use cratehouse_storage::url::StoreUrl;
use rustix::fs::Access;

/// The store of the configuration, which must be there already, and the registry in it. Says which it
/// is, because what a command does, it does there.
///
/// # Errors
/// When there is no registry, or the store does not answer.
pub async fn existing(config: &Config) -> Result<(Objects, RegistryId)> {
    let objects = open_existing(config)?;
    let registry = registry_in(config, &objects).await?;
    Ok((objects, registry))
}

/// The store of the configuration; its folder is not made.
///
/// # Errors
/// When there is no such folder, or this user may not look into it.
pub fn open_existing(config: &Config) -> Result<Objects> {
    if let StoreUrl::Folder(path) = &config.store.url {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => (),
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                let store = shown(&config.store.url);
                let text = format!(
                    "this user may not look into {store}: run this command as the user of the server, or as root"
                );
                return Err(Error::new(Kind::Forbidden, text).because(e));
            }
            _ => return Err(none_in(config)),
        }
    }
    Objects::open(&config.store, config.outgoing_ca.as_deref())
}

/// The registry that is in a store already.
pub(crate) async fn registry_in(config: &Config, objects: &Objects) -> Result<RegistryId> {
    objects.refuse_mistakes(&config.store).await?;
    let registry = match &config.store.url {
        StoreUrl::Memory => {
            let gone = "the store is this command's own memory: whatever it does ends with it";
            say(config.log.format, gone);
            objects.registry().await?
        }
        _ => objects.existing().await?.ok_or_else(|| none_in(config))?,
    };
    say(config.log.format, &format!("store {} (registry {registry})", shown(&config.store.url)));
    Ok(registry)
}

/// The registry in a store, after that was tried; a new one where there is none. Nothing is written
/// before the store has shown that it behaves: one that does not must not hold so much as a beginning.
///
/// # Errors
/// When the store does not answer, or cannot hold a registry.
pub async fn found(config: &Config, objects: &Objects) -> Result<RegistryId> {
    objects.refuse_mistakes(&config.store).await?;
    let effort = Effort::of(&config.store.url);
    let trying = Progress::begin("trying the store", config.log.format);
    objects.check_folder(&config.store.url).await?;
    self_test(objects, effort, |done, total| trying.tick(done, Some(total))).await?;
    trying.end(&format!(
        "the store behaves: {} races of {} creates had one winner each",
        effort.races, effort.creates
    ));
    refuse_beside_a_catalog(config, objects).await?;
    objects.registry().await
}

/// A catalog knows the registry that belongs to it. Where the store has none, it is the wrong folder, or one
/// that is not mounted: a new registry there would hand out names and numbers that are taken.
async fn refuse_beside_a_catalog(config: &Config, objects: &Objects) -> Result<()> {
    if config.store.url == StoreUrl::Memory || objects.existing().await?.is_some() {
        return Ok(());
    }
    let (path, store) = (config.catalog.path.clone(), shown(&config.store.url));
    let known = aside(move || Catalog::registry_in(&path)).await?;
    known.map_or(Ok(()), |(registry, seq)| {
        Err(Error::new(
            Kind::Internal,
            format!(
                "there is no registry in {store}, and the catalog {} is of registry {registry} up to entry {seq}. Is the store's folder mounted, and the right one? To begin a new registry there, delete the catalog",
                config.catalog.path.display()
            ),
        ))
    })
}

/// `init`: founds a registry, or finds the one that is there.
///
/// # Errors
/// As [`found`].
pub async fn init(config: &Config) -> Result<(RegistryId, bool)> {
    let objects = Objects::open(&config.store, config.outgoing_ca.as_deref())?;
    objects.refuse_mistakes(&config.store).await?;
    let former = objects.existing().await?;
    Ok((found(config, &objects).await?, former.is_none()))
}

/// Whether the folders of a configuration can be what they are to be, as far as that shows without making
/// them: a start would end over it.
///
/// # Errors
/// [`Kind::Invalid`], with the key.
pub fn check_places(config: &Config) -> Result<()> {
    let mut folders = vec![("data", config.data.as_path())];
    if let StoreUrl::Folder(path) = &config.store.url {
        folders.push(("store.url", path));
    }
    folders.extend(config.catalog.path.parent().map(|folder| ("catalog.path", folder)));
    for (key, folder) in folders {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        let there = folder.ancestors().find_map(|at| Some((at, std::fs::metadata(at).ok()?)));
        let Some((at, found)) = there else { continue };
        let at_shown = at.display();
        if !found.is_dir() {
            return Err(Error::invalid(format!(
                "`{key}`: {at_shown} is no folder: name another place"
            )));
        }
        if at != folder && rustix::fs::access(at, Access::WRITE_OK).is_err() {
            return Err(Error::invalid(format!(
                "`{key}`: {} is not there, and this user may not make it in {at_shown}: make it, and give it \
                 to the server's user",
                folder.display()
            )));
        }
    }
    Ok(())
}

fn none_in(config: &Config) -> Error {
    Error::new(
        Kind::Absent,
        format!(
            "there is no registry in {}: name the right place with --config, --data or --store. To make a new registry there, run `cratehouse init`, or start the server",
            shown(&config.store.url)
        ),
    )
}

/// The store's URL with the whole path of a folder: which one `file://data` is depends on where one
/// stands.
pub fn shown(url: &StoreUrl) -> String {
    match url {
        StoreUrl::Folder(path) => {
            let whole = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            StoreUrl::Folder(whole).to_string()
        }
        other => other.to_string(),
    }
}
