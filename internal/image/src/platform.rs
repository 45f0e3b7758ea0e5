//! Operating system and processor of an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An operating system and a processor architecture, as image indexes and configs name them (Go's names).
///
/// Values are kept normalised as containerd's `platforms` package does it: `x86_64` is `amd64`, `aarch64` is
/// `arm64` without a variant (`v8` is what the bare name means), `armhf` is `arm/v7`, and so on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Wire")]
pub struct Platform {
    /// `linux`, `windows`, …
    pub os: String,
    /// `amd64`, `arm64`, `arm`, …
    pub architecture: String,
    /// `v6`, `v7`, … ; none where the architecture alone says it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub variant: Option<String>,
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

impl From<Wire> for Platform {
    fn from(wire: Wire) -> Self {
        Self::new(&wire.os, &wire.architecture, wire.variant.as_deref())
    }
}

/// A text that is not `os/architecture[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a platform: write os/architecture or os/architecture/variant, for example linux/arm64 or linux/arm/v7"
)]
pub struct PlatformError(String);

impl Platform {
    /// A platform from its parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|v| !v.is_empty());
        let (architecture, variant) = normalise(&architecture.to_ascii_lowercase(), variant);
        Self { os, architecture, variant }
    }

    /// The platform whose images this machine's engine runs: Linux on the processor that this program was built for.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86" => "386",
            "powerpc64" => "ppc64le",
            other => other,
        };
        let variant = (architecture == "arm").then_some("v7");
        Self::new("linux", architecture, variant)
    }

    /// Whether this is the `unknown/unknown` of attestation manifests (BuildKit), which are no images.
    pub fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }

    /// How well an image for `offered` runs on `self`: `None` not at all, else smaller is better, 0 is exact.
    ///
    /// The order is containerd's: an ARM of a newer variant runs images of the older ones down to v5, newest first
    /// (an arm64 machine's own images come first and its 32-bit ones are *not* taken: `--platform linux/arm/v7`
    /// asks for them); amd64 variants `v2` … `v4` run on a machine that asks for at least that much.
    pub fn rank(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        let (have, asked) = (offered.level()?, self.level()?);
        asked.checked_sub(have)
    }

    /// The variant as a number, with what the bare architecture means filled in.
    fn level(&self) -> Option<u32> {
        let implied = match self.architecture.as_str() {
            "arm" => 7,
            "arm64" => 8,
            "amd64" => 1,
            _ => 0,
        };
        match &self.variant {
            None => Some(implied),
            // Two digits leave room for `v8.2` and `v9`: the minor only breaks ties between equal majors.
            Some(variant) => {
                let number = variant.strip_prefix('v')?;
                number.split('.').next()?.parse().ok().filter(|level| *level < 1000)
            }
        }
    }
}

fn normalise(architecture: &str, variant: Option<String>) -> (String, Option<String>) {
    let (architecture, variant) = match (architecture, variant.as_deref()) {
        ("i386" | "i686" | "x86", _) => ("386", None),
        ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
        ("x86_64" | "x86-64", _) => ("amd64", variant),
        ("aarch64" | "arm64", Some("8" | "v8" | "v8.0") | None) => ("arm64", None),
        ("aarch64", _) => ("arm64", variant),
        ("armel" | "armv6l", None) => ("arm", Some("v6".to_owned())),
        ("arm" | "armhf" | "armv7l", None) => ("arm", Some("v7".to_owned())),
        ("arm", Some("5" | "6" | "7" | "8")) => ("arm", variant.map(|v| format!("v{v}"))),
        (other, _) => (other, variant),
    };
    (architecture.to_owned(), variant)
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let refuse = || PlatformError(text.chars().take(80).collect());
        let valid = |part: &str| {
            !part.is_empty()
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(|part| valid(part)) {
            return Err(refuse());
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    #[test]
    fn names_are_normalised_as_containerd_does() {
        for (text, want) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("Linux/ARM64/v9", "linux/arm64/v9"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(platform(text).to_string(), want);
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b", "linux/ä"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn best_child_comes_first() {
        for (machine, offered, want) in [
            ("linux/arm64", "linux/arm64/v8", Some(0)),
            ("linux/arm64", "linux/arm/v7", None),
            ("linux/arm64", "linux/arm64/v9", None),
            ("linux/arm/v7", "linux/arm/v7", Some(0)),
            ("linux/arm/v7", "linux/arm/v6", Some(1)),
            ("linux/arm/v7", "linux/arm/v5", Some(2)),
            ("linux/arm/v6", "linux/arm/v7", None),
            ("linux/amd64", "linux/amd64/v2", None),
            ("linux/amd64/v3", "linux/amd64", Some(2)),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
            ("linux/riscv64", "linux/riscv64", Some(0)),
            ("linux/amd64", "linux/amd64/weird", None),
        ] {
            assert_eq!(platform(machine).rank(&platform(offered)), want, "{machine} {offered}");
        }
    }
}
