//! The `dl` of a registry's `config.json`: where the crate files are.
//! Source: Cargo book, "Index configuration"; cargo `sources/registry/download.rs`.

use crate::index::Listed;

const MARKERS: [&str; 5] =
    ["{crate}", "{version}", "{prefix}", "{lowerprefix}", "{sha256-checksum}"];

/// A `dl` template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DlTemplate(String);

impl DlTemplate {
    /// A template from the text in a `config.json`. Without any marker it means
    /// `{dl}/{crate}/{version}/download`.
    pub fn new(text: &str) -> Self {
        match MARKERS.iter().any(|marker| text.contains(marker)) {
            true => Self(text.to_owned()),
            false => Self(format!("{text}/{{crate}}/{{version}}/download")),
        }
    }

    /// Where the crate file of a version is. Everything is inserted raw, as cargo does: the name
    /// and `{prefix}` keep their case, and a `+` in the version stays a `+`.
    pub fn expand(&self, listed: &Listed) -> String {
        // No value can hold a brace, so no replacement makes another marker.
        self.0
            .replace("{crate}", listed.name.as_str())
            .replace("{version}", &listed.version.to_string())
            .replace("{prefix}", &listed.name.prefix())
            .replace("{lowerprefix}", &listed.name.prefix().to_ascii_lowercase())
            .replace("{sha256-checksum}", &listed.cksum.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cratehouse_core::checksum::Checksum;

    fn expand(dl: &str) -> String {
        DlTemplate::new(dl).expand(&Listed {
            name: "AbCd-e".parse().unwrap(),
            version: "1.2.3-rc.1+b.1".parse().unwrap(),
            cksum: Checksum::of(b"abc"),
            yanked: false,
            pubtime: None,
        })
    }

    #[test]
    fn without_markers_the_usual_path_is_appended() {
        assert_eq!(
            expand("https://dl.example/crates"),
            "https://dl.example/crates/AbCd-e/1.2.3-rc.1+b.1/download"
        );
    }

    #[test]
    fn every_marker_is_replaced_and_prefix_keeps_its_case() {
        assert_eq!(
            expand("https://h:8080/{prefix}/{lowerprefix}/{crate}/{version}/{crate}.crate"),
            "https://h:8080/Ab/Cd/ab/cd/AbCd-e/1.2.3-rc.1+b.1/AbCd-e.crate"
        );
        assert_eq!(
            expand("https://h/{sha256-checksum}"),
            format!("https://h/{}", Checksum::of(b"abc"))
        );
    }
}
