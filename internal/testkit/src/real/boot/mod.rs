//! Debian systems that boot: systemd as process 1, Docker started by its own units, no network.
//!
//! ```text
//!   BootTree::new(BootEngine)     a fresh copy of a Debian 12 tree, which debootstrap made once
//!     .write, .program, .enable   what the system under test has besides
//!     .boot(script)               systemd-nspawn, until the script at the end of the boot has powered it off
//!        └──► Boot                what the script printed, the journal of that boot, how long it took
//!     .start(script) ──► Running  the same, to pull the plug on
//!   BootTree::for_machines(…)     the same with a kernel
//!     VirtualMachine::new(…)      its disk, in QEMU's emulation of a machine
//!       .start() ──► Powered      the power is on: wait for a line of the console, cut it, or wait for the end
//! ```
//!
//! What a boot changes stays in the tree: the next one finds it.

mod journal;
mod run;
mod tree;
mod vm;

pub use journal::Entry;
pub use run::{Boot, Running};
pub use tree::{BootEngine, BootTree};
pub use vm::{Powered, PoweredOff, VirtualMachine};
