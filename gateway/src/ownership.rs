//! Whose files a command makes. Run as root (`sudo cratehouse user add …`), it would write what the
//! server's own user cannot read, and the server would not follow the journal any more. So it works with
//! the rights of whoever owns the store's folder.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use crate::cli::{Command, StoreCommand};
use crate::config::Config;
use cratehouse_core::error::{Error, Kind, Result};
use cratehouse_core::progress::say;
use cratehouse_storage::url::StoreUrl;
use rustix::process::geteuid;

/// Who owns the folder that a command works on, or the one that it is to be made in, where that is another
/// user than root, who runs it.
struct Owner {
    user: u32,
    group: u32,
    folder: String,
}

/// Takes the rights of the owner of the store's folder, for good. To be called before there are other
/// threads that touch the store: rights are a thread's, and its children have them from it.
///
/// # Errors
/// When the system does not let us: then nothing is done as root either.
pub(crate) fn work_as_owner(config: &Config, command: &Command) -> Result<()> {
    let url = match command {
        Command::Serve(_) | Command::Health(_) | Command::Config(_) => return Ok(()),
        Command::Store(StoreCommand::Copy(what)) => &what.to,
        _ => &config.store.url,
    };
    let Some(owner) = another_owner(url) else { return Ok(()) };
    let Owner { user, group, folder } = &owner;
    take_rights(*user, *group).map_err(|e| {
        let text = format!(
            "{folder} belongs to user {user}, and root's files in it could not be read by that user's server: run this command as user {user}"
        );
        Error::new(Kind::Forbidden, text).because(e)
    })?;
    say(config.log.format, &format!("working as user {user}, who owns {folder}"));
    Ok(())
}

#[cfg(target_os = "linux")]
fn take_rights(user: u32, group: u32) -> io::Result<()> {
    use rustix::process::{Gid, Uid};
    use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
    set_thread_groups(&[])?;
    set_thread_gid(Gid::from_raw(group))?;
    Ok(set_thread_uid(Uid::from_raw(user))?)
}

/// Elsewhere the rights of one thread are not known to be inherited.
#[cfg(not(target_os = "linux"))]
fn take_rights(_: u32, _: u32) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What a server says that is run as root over somebody else's folder.
pub(crate) fn warning(config: &Config) -> Option<String> {
    let Owner { user, folder, .. } = another_owner(&config.store.url)?;
    Some(format!(
        "this server runs as root, and {folder} belongs to user {user}: a server of that user will not be able to read what this one writes"
    ))
}

fn another_owner(url: &StoreUrl) -> Option<Owner> {
    let StoreUrl::Folder(folder) = url else { return None };
    let folder = std::path::absolute(folder).ok().filter(|_| geteuid().is_root())?;
    // One that is still to be made will stand in a folder of whoever is to read it.
    let found = |folder: &Path| Some((folder.display().to_string(), fs::metadata(folder).ok()?));
    let (folder, found) = folder.ancestors().find_map(found)?;
    let owner = Owner { user: found.uid(), group: found.gid(), folder };
    (owner.user != 0).then_some(owner)
}
