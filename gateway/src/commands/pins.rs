//! `pin`: the checksums of mirrored versions, as they were first served and as they were corrected.

use crate::cli::{PinCommand, PinCorrect, VersionSpec};
use crate::flows::registry::pins::{self, Pinned};
use crate::gateway::Gateway;
use cratehouse_core::error::Result;
use cratehouse_core::table::Table;
use cratehouse_core::times::to_the_second;
use cratehouse_journal::commands::CommandActor;
use serde_json::{Value, json};

use super::print;
use super::table::{print_json, print_table};

pub(super) async fn look_after_pins(gateway: &Gateway, what: &PinCommand) -> Result<()> {
    match what {
        PinCommand::Show { target: VersionSpec { name, version }, json } => {
            let pins = pins::of((&gateway.mirror, &gateway.hosting), name, version).await?;
            if *json {
                return print_json(&pins.iter().map(in_json).collect::<Vec<_>>());
            }
            print_table(&listed(&pins))?;
        }
        PinCommand::Correct(PinCorrect { target, checksum, reason, upstream }) => {
            let (version, upstream) = ((&target.name, &target.version), upstream.as_deref());
            let was = pins::correct(
                (&gateway.mirror, &gateway.hosting),
                CommandActor::Operator,
                version,
                upstream,
                *checksum,
                reason,
            );
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

fn listed(pins: &[Pinned]) -> Table<4> {
    let mut table = Table::new(["upstream", "checksum", "first served", "correction"]);
    for Pinned { upstream, pin, corrected } in pins {
        let corrected = corrected
            .map(|by| format!("corrected to {} by journal entry {}", by.cksum, by.corrected));
        let first = to_the_second(pin.first_seen).to_string();
        let corrected = corrected.unwrap_or_else(|| "none".to_owned());
        table.row([upstream, &pin.cksum.to_string(), &first, &corrected]);
    }
    table
}

fn in_json(pinned: &Pinned) -> Value {
    let Pinned { upstream, pin, corrected } = pinned;
    let corrected = corrected.map(|by| json!({ "checksum": by.cksum, "entry": by.corrected }));
    let first = to_the_second(pin.first_seen);
    json!({
        "upstream": upstream,
        "checksum": pin.cksum,
        "first_served": first,
        "corrected": corrected,
    })
}
