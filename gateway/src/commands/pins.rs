//! `pin`: the checksums of mirrored versions, as they were first served and as they were corrected.

use crate::cli::{PinCommand, PinCorrect, VersionSpec};
use crate::flows::registry::pins::Listed;
use cratehouse_core::error::Result;
use cratehouse_core::table::Table;

use super::print;
use super::registry::Registry;
use super::table::{print_json, print_table};

pub(super) async fn look_after_pins(registry: Registry<'_>, what: &PinCommand) -> Result<()> {
    match what {
        PinCommand::Show { target: VersionSpec { name, version }, json } => {
            let pins = registry.pins(name, version).await?;
            if *json {
                return print_json(&pins);
            }
            print_table(&listed(pins))?;
        }
        PinCommand::Correct(PinCorrect { target, checksum, reason, upstream }) => {
            let (name, version) = (&target.name, &target.version);
            let upstream = upstream.as_deref();
            let was = registry.correct_pin((name, version), upstream, *checksum, reason).await?;
            match was.checksum == *checksum {
                true => print(&format!("{name}@{version} has this checksum already"))?,
                false => print(&format!(
                    "{name}@{version} of `{}` is {checksum} from now on, and no more {}",
                    was.upstream, was.checksum
                ))?,
            }
        }
    }
    Ok(())
}

fn listed(pins: Vec<Listed>) -> Table<4> {
    let mut table = Table::new(["upstream", "checksum", "first served", "correction"]);
    for Listed { upstream, checksum, first_served, corrected } in pins {
        let corrected = corrected
            .map(|by| format!("corrected to {} by journal entry {}", by.checksum, by.entry));
        let corrected = corrected.unwrap_or_else(|| "none".to_owned());
        table.row([&upstream, &checksum.to_string(), &first_served.to_string(), &corrected]);
    }
    table
}
