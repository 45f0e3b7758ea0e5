//! The answer: images and downloads, each with those who ask for it.

use std::path::PathBuf;

/// An image that is needed, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The image as the Compose file has it after interpolation, not normalised in any way. Empty for a
    /// service that is only built: Forklift lists it as an empty line.
    pub image: String,
    /// Who needs it; at least one.
    pub origins: Vec<Origin>,
}

/// Who needs an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Name of the deployment.
    pub deployment: String,
    /// Name of the service.
    pub service: String,
    /// The feature whose Compose file gave the image; none for the package's own files.
    pub feature: Option<String>,
    /// The Compose file that gave the image.
    pub compose_file: PathBuf,
    /// Line of the image in that file, counted from 1; 0 if the service has no image.
    pub line: u32,
    /// What the service needs it for.
    pub usage: Usage,
}

/// What a service needs an image for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// The service runs it. Only these are in Forklift's list.
    Run,
    /// The service mounts it (a volume of type `image`).
    Mount,
    /// A `pre_start` hook runs it.
    PreStart,
}

/// What a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DownloadKind {
    /// A file or archive from an HTTP server.
    Http,
    /// An image whose files are exported; it is never loaded into an engine.
    OciImage,
}

/// A file export that must be downloaded, and by whom it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Download {
    /// What it is.
    pub kind: DownloadKind,
    /// URL or image reference, as written.
    pub url: String,
    /// Deployments (and their features) that export it.
    pub origins: Vec<DownloadOrigin>,
}

/// Who needs a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DownloadOrigin {
    /// Name of the deployment.
    pub deployment: String,
    /// The feature with the file export; none for the package's own.
    pub feature: Option<String>,
}
