//! The image cache itself.

mod add_img;
mod del_img;
mod load_img;
mod ls_img;
mod select;
mod status;
mod verify;

pub(crate) use add_img::add_img;
pub(crate) use del_img::del_img;
pub(crate) use load_img::load_img;
pub(crate) use ls_img::ls_img;
pub(crate) use select::select;
pub(crate) use status::status;
pub(crate) use verify::verify;
