//! `pin`: the checksums of mirrored versions, as they were first served and as they were corrected.

use cratehouse::cli::{PinCommand, PinCorrect, VersionSpec};
use cratehouse::error::Result;
use cratehouse::flows::command::By;
use cratehouse::flows::pins::{self, Pinned};
use cratehouse::gateway::Gateway;

use super::print;

pub(super) async fn look_after_pins(gateway: &Gateway, what: &PinCommand) -> Result<()> {
    match what {
        PinCommand::Show { target: VersionSpec { name, version } } => {
            for pinned in pins::of(gateway, name, version).await? {
                print(&described(&pinned))?;
            }
        }
        PinCommand::Correct(PinCorrect { target, checksum, reason, upstream }) => {
            let (version, upstream) = ((&target.name, &target.version), upstream.as_deref());
            let was = pins::correct(gateway, By::Operator, version, upstream, *checksum, reason);
            let was = was.await?;
            let (name, version) = version;
            match was.standing() == *checksum {
                true => print(&format!("{name}@{version} has this checksum already"))?,
                false => print(&format!(
                    "{name}@{version} of `{}` is {checksum} from now on, and no more {}",
                    was.upstream,
                    was.standing()
                ))?,
            }
        }
    }
    Ok(())
}

fn described(pinned: &Pinned) -> String {
    let Pinned { upstream, pin, corrected } = pinned;
    let pin = format!("{upstream}\t{}\tfirst served at {}", pin.cksum, pin.first_seen);
    match corrected {
        Some(by) => format!("{pin}\tcorrected to {} by journal entry {}", by.cksum, by.corrected),
        None => pin,
    }
}
