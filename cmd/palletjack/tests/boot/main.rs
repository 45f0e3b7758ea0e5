//! Real boots: a Debian system with its own Docker, our program and units, a real pallet, and no network.
//!
//! ```text
//!   device     the system: its tree, the pallet and the cache in it, the units, what a boot is to find out at its end
//!   cached     a card that ships with a cache: the first boot, the next one, one after the storage was wiped
//!   seeded     a card whose engine's storage was filled when it was built
//!   plug       the plug is pulled in the middle of the first boot's load
//!   vm         the same in a virtual machine, and right after the load
//!   trouble    what goes wrong keeps no device from booting
//! ```
//!
//! A few boots run always, the others with `PALLETJACK_SOAK=1`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cached;
mod device;
#[allow(dead_code, reason = "the machine is made for other tests as well")]
#[path = "../it/machine.rs"]
mod machine;
mod plug;
mod seeded;
mod trouble;
mod vm;

/// Whether the long runs are asked for.
fn soak() -> bool {
    std::env::var("PALLETJACK_SOAK").is_ok_and(|value| value == "1")
}
