//! palletjack: container images for devices that are offline, from a Forklift pallet to Docker.

#![allow(
    rustdoc::invalid_html_tags,
    reason = "comments on flags are the text of --help, with <placeholders>"
)]

mod cache_location;
mod cli;
mod commands;
mod compose_override;
mod config;
mod context;
mod durability;
mod environment;
mod error;
mod fetch;
mod fetch_document;
mod listing;
mod load;
mod load_plan;
mod load_report;
mod localize;
mod logging;
mod printer;
mod progress;
mod repin;
mod requirements;
mod reset_store;
mod service;
mod sharing;
mod status;
mod take;
mod units;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser;

use crate::cli::Cli;
use crate::context::Context;
use crate::environment::Environment;
use crate::error::{CommandError, Exit};
use crate::printer::Printer;
use crate::service::{Manager, Service, Stalled};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment = Environment::read();
    let service = if environment.unit {
        Service::unit(environment.notify_socket.as_deref().and_then(Manager::of))
    } else {
        Service::default()
    };
    let printer = Printer::new(cli.globals.quiet).of_service(environment.journal, service);
    match run(cli, environment, &printer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            printer.error(&error);
            ExitCode::from(error.exit as u8)
        }
    }
}

fn run(cli: Cli, environment: Environment, printer: &Printer) -> Result<(), CommandError> {
    logging::start(cli.globals.verbose, printer);
    if let Some(result) = commands::run_alone(printer, &cli.command) {
        return result;
    }
    let context = Context::new(cli.globals, environment, printer.clone())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Sockets need few threads; files and hashing have the blocking ones, whose number bounds their stacks.
        .worker_threads(2)
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .map_err(|error| CommandError::new(Exit::Failed, error).context("cannot start"))?;
    let signal = Arc::new(OnceLock::new());
    runtime.spawn(watch_signals(context.cancel.clone(), signal.clone()));
    let stalled = Stalled::default();
    service::watch(
        printer.service(),
        context.config.unit_stall_timeout(),
        context.cancel.clone(),
        stalled.clone(),
    );
    let result = runtime.block_on(commands::run(&context, &cli.command));
    // Blocking work (a file being hashed) ends with its next piece; nothing is worth waiting longer for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    if let (Some(limit), Err(_)) = (stalled.get(), &result) {
        return Err(stuck(*limit));
    }
    match (signal.get(), result) {
        (Some(exit), Err(_)) => {
            let error = anyhow::anyhow!(
                "interrupted; what is complete is kept, and the same command goes on from there"
            );
            Err(CommandError::new(*exit, error))
        }
        (_, result) => result,
    }
}

fn stuck(limit: std::time::Duration) -> CommandError {
    let limit = humantime::format_duration(limit);
    let error = anyhow::anyhow!("nothing moved for {limit}: ended, so that nothing waits for it any longer");
    CommandError::new(Exit::Failed, error).hint(
        "an engine that does not answer is mended by a restart (`systemctl restart docker`); unit-stall-timeout in \
         /etc/palletjack/config.toml sets another limit",
    )
}

/// Turns the first SIGINT or SIGTERM into a cancellation; the second one ends the program at once, as by default.
async fn watch_signals(cancel: tokio_util::sync::CancellationToken, which: Arc<OnceLock<Exit>>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    let exit = tokio::select! {
        _ = interrupt.recv() => Exit::Interrupted,
        _ = terminate.recv() => Exit::Terminated,
    };
    let _ = which.set(exit);
    cancel.cancel();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    // Everything on disk is either complete or marked as partial, so there is nothing to clean up.
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
}
