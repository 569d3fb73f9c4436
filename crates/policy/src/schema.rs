//! What may stand in a policy file: one schema for every file of the folder, unknown keys
//! refused. `policies/README.md` is the same for its readers.

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::license_name::LicenseName;
use super::requirement::Requirement;
use super::words::{Crates, Day, Ignored, Length, Mode, Verdict, patterns};
use cratehouse_package::name::NamePattern;

/// One file, as TOML has it. The whole of it is optional.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PolicyFile {
    pub(super) mode: Option<Spanned<Mode>>,
    pub(super) contact: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ban: Vec<Ban>,
    #[serde(default)]
    pub(super) allow: Vec<Allow>,
    #[serde(default)]
    pub(super) waiver: Vec<Spanned<Waiver>>,
    pub(super) allow_list: Option<Spanned<AllowList>>,
    pub(super) age: Option<Spanned<Age>>,
    pub(super) advisories: Option<Spanned<Advising>>,
    pub(super) licenses: Option<Spanned<Licensing>>,
    pub(super) names: Option<Spanned<Naming>>,
    pub(super) integrity: Option<Spanned<Integrity>>,
    pub(super) publish: Option<Spanned<Publishing>>,
}

/// `[[ban]]`: versions that may not be had.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ban {
    /// Which names.
    #[serde(alias = "crate")]
    pub name: NamePattern,
    /// Which versions; every one without.
    #[serde(default)]
    pub version: Requirement,
    /// Only where it comes from this upstream.
    pub upstream: Option<String>,
    /// Why: cargo prints it.
    pub reason: Option<String>,
    /// Deny, unless it says otherwise.
    #[serde(default = "deny")]
    pub action: Verdict,
    /// Its own mode.
    pub mode: Option<Mode>,
}

/// `[[allow]]`: versions that no ban concerns, and that the allow list has. It has neither mode
/// nor action, because it forbids nothing.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Allow {
    /// Which names.
    #[serde(alias = "crate")]
    pub name: NamePattern,
    /// Which versions; every one without.
    #[serde(default)]
    pub version: Requirement,
    /// Only where it comes from this upstream.
    pub upstream: Option<String>,
    /// Why, for whoever asks.
    pub reason: Option<String>,
}

/// `[[waiver]]`: an exception from every rule, until a day.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Waiver {
    /// Which names.
    #[serde(alias = "crate")]
    pub name: NamePattern,
    /// Which versions; every one without.
    #[serde(default)]
    pub version: Requirement,
    /// Its first day; it is in force already without.
    pub from: Option<Day>,
    /// Its last day.
    pub until: Day,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub who: String,
}

/// `[allow_list]`: what no `[[allow]]` names is not had.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AllowList {
    /// Deny, unless it says otherwise.
    #[serde(default = "deny")]
    pub action: Verdict,
    /// Its own mode.
    pub mode: Option<Mode>,
    /// Whether hosted crates must stand on it too.
    #[serde(default)]
    pub hosted: bool,
    /// Which upstreams it is about; all without.
    pub upstreams: Option<Vec<String>>,
}

/// `[age]`: how old a mirrored version must be.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Age {
    /// The age from which on it is had.
    pub minimum: Length,
    /// For what is younger; hold, unless it says otherwise.
    #[serde(default = "hold")]
    pub action: Verdict,
    /// For what nothing tells the age of; as `action` without.
    pub unknown: Option<Verdict>,
    /// What may be young.
    #[serde(default)]
    pub exceptions: Vec<Crates>,
    /// Which upstreams it is about; all without.
    pub upstreams: Option<Vec<String>>,
    /// Its own mode.
    pub mode: Option<Mode>,
}

/// `[advisories]`: what a RustSec database says of mirrored crates.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advising {
    /// For what was published to do harm; deny, unless it says otherwise.
    #[serde(default = "deny")]
    pub malicious: Verdict,
    /// For a vulnerability that none of the next four is about.
    #[serde(default = "hold")]
    pub vulnerability: Verdict,
    /// For one of CVSS 9.0 and more.
    pub critical: Option<Verdict>,
    /// For one from 7.0 on.
    pub high: Option<Verdict>,
    /// For one from 4.0 on.
    pub medium: Option<Verdict>,
    /// For one below.
    pub low: Option<Verdict>,
    /// For what is unsound.
    #[serde(default)]
    pub unsound: Verdict,
    /// For what nobody maintains.
    #[serde(default)]
    pub unmaintained: Verdict,
    /// For every other notice.
    #[serde(default)]
    pub notice: Verdict,
    /// For what its authors yanked.
    #[serde(default)]
    pub yanked: Verdict,
    /// Advisories that do not count.
    #[serde(default)]
    pub ignore: Vec<Ignored>,
    /// Which upstreams it is about; all without.
    pub upstreams: Option<Vec<String>>,
    /// Its own mode.
    pub mode: Option<Mode>,
}

/// `[licenses]`: under which licences crates are had.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Licensing {
    /// The ones that are good; all that are not denied, without.
    pub allow: Option<Vec<LicenseName>>,
    /// The ones that are not.
    #[serde(default)]
    pub deny: Vec<LicenseName>,
    /// More that are good for some crates.
    #[serde(default)]
    pub exceptions: Vec<LicenseException>,
    /// For a licence that is not good; deny, unless it says otherwise.
    #[serde(default = "deny")]
    pub action: Verdict,
    /// For a crate that states none, or only a file; as `action` without.
    pub missing: Option<Verdict>,
    /// For one that is no SPDX expression; as `action` without.
    pub unparsable: Option<Verdict>,
    /// Whether hosted crates are judged too.
    #[serde(default)]
    pub hosted: bool,
    /// Which upstreams it is about; all without.
    pub upstreams: Option<Vec<String>>,
    /// Its own mode.
    pub mode: Option<Mode>,
}

/// Licences that are good for some crates, or crates whose licence does not matter.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LicenseException {
    /// Which names.
    #[serde(alias = "crate")]
    pub name: NamePattern,
    /// Which versions; every one without.
    #[serde(default)]
    pub version: Requirement,
    /// The licences that are good here too; every one, and none at all, without.
    pub allow: Option<Vec<LicenseName>>,
    /// Why, for whoever reads the file.
    pub reason: Option<String>,
}

/// `[names]`: first publishes under a name that resembles a hosted one are refused.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Naming {
    /// Names that may resemble others.
    #[serde(default, deserialize_with = "patterns")]
    pub exceptions: Vec<NamePattern>,
    /// Its own mode.
    pub mode: Option<Mode>,
}

/// `[integrity]`: what happens when an upstream goes back on its word.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Integrity {
    /// A version has another checksum than when it was first served here.
    #[serde(default = "deny")]
    pub checksum_changed: Verdict,
    /// No setting any more: files of release 0.1 may say `deny`, which is always so. What is not listed
    /// cannot be chosen by any build. It stays among what the policy's version is a hash of, so that
    /// an update changes no version.
    #[serde(default = "deny")]
    pub version_removed: Verdict,
    /// The mode of `checksum_changed`.
    pub mode: Option<Mode>,
}

impl Default for Integrity {
    fn default() -> Self {
        Self { checksum_changed: Verdict::Deny, version_removed: Verdict::Deny, mode: None }
    }
}

/// `[publish]`: what hosted crates must have.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Publishing {
    /// What must be there.
    #[serde(default)]
    pub require: Vec<Required>,
    /// Whether a dependency may have a requirement that every version meets.
    #[serde(default)]
    pub wildcards: Wildcards,
    /// The largest crate file, in bytes.
    pub max_bytes: Option<u64>,
    /// Crates that need not.
    #[serde(default, deserialize_with = "patterns")]
    pub exceptions: Vec<NamePattern>,
    /// Its own mode.
    pub mode: Option<Mode>,
}

/// Something that a published crate can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Required {
    /// `package.description`.
    Description,
    /// `package.license` or `package.license-file`.
    License,
    /// `package.repository`.
    Repository,
    /// `package.rust-version`.
    RustVersion,
    /// A README.
    Readme,
}

/// Whether `*` and its like are taken, in cargo-deny's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wildcards {
    /// They are; but for `*` itself, which is never published.
    #[default]
    Allow,
    /// They are not.
    Deny,
}

fn deny() -> Verdict {
    Verdict::Deny
}

fn hold() -> Verdict {
    Verdict::Hold
}
