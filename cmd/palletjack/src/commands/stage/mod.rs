//! Staged bundles.

mod cache_img;
mod delocalize;
mod load_img;
mod ls_img;
mod status;

pub(crate) use cache_img::cache_img;
pub(crate) use delocalize::delocalize;
pub(crate) use load_img::load_img;
pub(crate) use ls_img::ls_img;
pub(crate) use status::status;
