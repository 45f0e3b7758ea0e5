//! The document of `cache-img --output json` and `add-img --output json`, from whichever source.

use serde::Serialize;

use crate::sharing::InCache;

/// What came of a run. Sizes are bytes.
#[derive(Serialize)]
pub(crate) struct Document {
    pub(crate) schema: &'static str,
    /// `registry` or `engine`.
    pub(crate) from: &'static str,
    pub(crate) platform: String,
    pub(crate) images: Vec<Verdict>,
    pub(crate) requests: u64,
    pub(crate) bytes_fetched: u64,
    pub(crate) bytes_reused: u64,
    /// What was written of what an engine handed out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_written: Option<u64>,
    pub(crate) elapsed_ms: u128,
    #[serde(flatten)]
    pub(crate) in_cache: Option<InCache>,
}

/// What came of an image.
#[derive(Serialize)]
pub(crate) struct Verdict {
    pub(crate) reference: String,
    pub(crate) requested: String,
    pub(crate) required_by: Vec<String>,
    /// `cached`, `fetched` or `failed`.
    pub(crate) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<String>,
    /// Whether it is there as it was rebuilt from an engine, and not as its registry has it.
    pub(crate) rebuilt: bool,
    pub(crate) fetched: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Fault>,
}

/// Why an image is not there.
#[derive(Serialize)]
pub(crate) struct Fault {
    /// Stable; scripts may rely on it.
    pub(crate) code: &'static str,
    pub(crate) message: String,
}
