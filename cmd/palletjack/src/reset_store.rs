//! `load-img --reset-store`: what containerd keeps of interrupted loads is listed, and ended.

use palletjack_engine::{Engine, Lease, ResetError};

use crate::context::Context;
use crate::error::{CommandError, Exit};
use crate::localize::count;

/// Ends the leases of loads and pulls that cannot run any more; with `dry_run`, only lists them.
pub(crate) async fn reset_store(
    context: &Context,
    engine: &Engine,
    dry_run: bool,
) -> Result<(), CommandError> {
    let printer = &context.printer;
    let leases = match engine.leases().await {
        Ok(leases) => leases,
        Err(error @ ResetError::NothingToReset { .. }) => {
            printer.note(&error.to_string());
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let list = |leases: &[Lease]| {
        for lease in leases {
            let created = humantime::format_rfc3339_seconds(lease.created);
            printer.note(&format!("  lease {} of {created}", lease.id));
        }
    };
    if leases.stale.is_empty() {
        printer.note("containerd keeps nothing of interrupted loads");
    } else {
        let number = count(leases.stale.len(), "lease", "leases");
        let what = if dry_run { "would be ended" } else { "are ended, and what only they hold goes" };
        printer.note(&format!("{number} of loads or pulls that no longer run {what}:"));
        list(&leases.stale);
    }
    if !leases.in_use.is_empty() {
        let number = count(leases.in_use.len(), "lease", "leases");
        printer.warning(&format!(
            "{number} may belong to a load or pull that runs now, and stay; if none does, restart Docker and run this again:"
        ));
        list(&leases.in_use);
    }
    if !dry_run {
        leases.end_stale().await?;
    }
    Ok(())
}

impl From<ResetError> for CommandError {
    fn from(error: ResetError) -> Self {
        let hint = match &error {
            ResetError::NoClient(_) => {
                Some("`ctr` is in the package of containerd (containerd.io of Docker's own packages)")
            }
            ResetError::Refused { .. } => Some("run it as root: containerd's socket is root's"),
            _ => None,
        };
        let error = Self::new(Exit::Engine, error).context("the store cannot be reset");
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}
