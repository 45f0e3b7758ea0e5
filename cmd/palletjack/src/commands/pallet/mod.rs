//! The workspace's pallet, or one under development.

mod cache_img;
mod load_img;
mod ls_img;
mod status;

pub(crate) use cache_img::cache_img;
pub(crate) use load_img::load_img;
pub(crate) use ls_img::ls_img;
pub(crate) use status::status;
