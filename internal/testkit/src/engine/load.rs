//! `POST /images/load`, rightly and wrongly.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use super::images::{Images, failure};
use super::profile::Profile;
use crate::http::{After, BodyEnd, Connection, Head, Reply};
use crate::registry::Gate;

/// How long a test waits for loads that must come. No success depends on it.
const PATIENCE: Duration = Duration::from_mins(1);

/// One way in which a load goes wrong.
#[derive(Debug, Clone)]
pub enum LoadFault {
    /// Reads nothing of the body. When the gate opens, the connection closes.
    DoesNotRead(Gate),
    /// Reads this many bytes, then closes the connection without an answer, as an engine that is killed.
    HangupAfter {
        /// Body bytes read.
        bytes: u64,
    },
    /// Answers with this status and message before reading anything, then closes.
    Refuse {
        /// HTTP status.
        status: u16,
        /// The error's text.
        message: String,
    },
    /// Reads everything, then answers with this status and message. Registers nothing.
    Status {
        /// HTTP status.
        status: u16,
        /// The error's text.
        message: String,
    },
    /// Reads everything, then answers 200 with an `errorDetail` line. Registers nothing.
    ErrorLine(String),
    /// Reads everything and says "Loaded image" of all, but has none of them.
    Forgets,
    /// Reads everything and says "Loaded image" after "Error unpacking image": listed, but unusable.
    Broken,
    /// Reads everything, begins its answer and closes the connection in the middle of a line.
    CutAnswer,
    /// Reads everything, then answers nothing until the gate opens.
    Silence(Gate),
}

/// A load that has ended.
#[derive(Debug, Clone)]
pub struct Load {
    /// The request's query, e.g. `quiet=0`.
    pub query: String,
    /// Body bytes that arrived, without the framing of chunks.
    pub bytes: u64,
    /// Whether the body ended as HTTP wants it: by its length, or by the last chunk. A client that aborts leaves it
    /// incomplete.
    pub complete: bool,
    /// What arrived, as a file that lives as long as the engine.
    pub archive: PathBuf,
    /// The lines answered.
    pub answer: Vec<String>,
}

impl Load {
    /// Names of the archive's members in their order, as far as it arrived.
    pub fn members(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in tar::Archive::new(File::open(&self.archive)?).entries()? {
            let Ok(entry) = entry else { break };
            names.push(entry.path()?.to_string_lossy().into_owned());
        }
        Ok(names)
    }
}

#[derive(Debug, Default)]
struct State {
    planned: VecDeque<LoadFault>,
    gates: Vec<Gate>,
    begun: usize,
    ended: Vec<Load>,
}

/// Planned faults and past loads.
#[derive(Debug, Default)]
pub(super) struct Loads {
    state: Mutex<State>,
    changed: Condvar,
}

impl Loads {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plan(&self, fault: LoadFault) {
        let mut state = self.state();
        if let LoadFault::DoesNotRead(gate) | LoadFault::Silence(gate) = &fault {
            state.gates.push(gate.clone());
        }
        state.planned.push_back(fault);
    }

    /// Forgets the faults that no load has taken.
    pub(super) fn clear(&self) {
        self.state().planned.clear();
    }

    /// Opens the gate of every fault planned so far.
    pub(super) fn release(&self) {
        for gate in &self.state().gates {
            gate.open();
        }
    }

    pub(super) fn ended(&self) -> Vec<Load> {
        self.state().ended.clone()
    }

    #[track_caller]
    pub(super) fn wait_for(&self, count: usize) -> Vec<Load> {
        let (state, timeout) = self
            .changed
            .wait_timeout_while(self.state(), PATIENCE, |s| s.ended.len() < count)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "{} of {count} loads have ended", state.ended.len());
        state.ended.clone()
    }

    /// Serves one load from head to record.
    pub(super) fn serve(
        &self,
        profile: &Profile,
        images: &Mutex<Images>,
        directory: &Path,
        head: &Head,
        connection: &mut Connection,
    ) -> io::Result<After> {
        let (fault, number) = {
            let mut state = self.state();
            state.begun += 1;
            (state.planned.pop_front(), state.begun)
        };
        let mut load = Load {
            query: head.query.clone(),
            bytes: 0,
            complete: false,
            archive: directory.join(format!("load-{number}.tar")),
            answer: Vec::new(),
        };
        let after = run(profile, images, fault.as_ref(), connection, &mut load);
        self.state().ended.push(load);
        self.changed.notify_all();
        after
    }
}

fn run(
    profile: &Profile,
    images: &Mutex<Images>,
    fault: Option<&LoadFault>,
    connection: &mut Connection,
    load: &mut Load,
) -> io::Result<After> {
    let mut file = File::create(&load.archive)?;
    match fault {
        Some(LoadFault::DoesNotRead(gate)) => {
            gate.pass();
            return Ok(After::Close);
        }
        Some(LoadFault::Refuse { status, message }) => {
            connection.reply(&Reply::new(*status).json(&json!({ "message": message })))?;
            return Ok(After::Close);
        }
        Some(LoadFault::HangupAfter { bytes }) => {
            receive(connection, &mut file, load, *bytes)?;
            return Ok(After::Close);
        }
        _ => receive(connection, &mut file, load, u64::MAX)?,
    }
    if !load.complete {
        return Ok(After::Close);
    }
    if let Some(LoadFault::Silence(gate)) = fault {
        gate.pass();
    }
    if let Some(LoadFault::Status { status, message }) = fault {
        return connection.reply(&Reply::new(*status).json(&json!({ "message": message })));
    }
    let lines = take(profile, images, fault, &load.archive);
    // Podman has the answer before it begins to give it.
    if let (true, Some(error)) = (profile.podman, lines.iter().find_map(|line| line["error"].as_str())) {
        return connection.reply(&Reply::new(500).json(&json!({ "message": error })));
    }
    load.answer = lines.iter().map(Value::to_string).collect();
    connection.write_head(
        200,
        &[("content-type".into(), "application/json".into()), ("transfer-encoding".into(), "chunked".into())],
    )?;
    if matches!(fault, Some(LoadFault::CutAnswer)) {
        connection.write_chunk(b"{\"stream\":\"Loa")?;
        return Ok(After::Close);
    }
    for line in &load.answer {
        connection.write_chunk(format!("{line}\r\n").as_bytes())?;
    }
    connection.write(b"0\r\n\r\n")?;
    Ok(After::KeepAlive)
}

fn receive(connection: &mut Connection, file: &mut File, load: &mut Load, most: u64) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while load.bytes < most {
        let room = usize::try_from(most - load.bytes).unwrap_or(usize::MAX).min(buffer.len());
        let n = connection.read_body(&mut buffer[..room])?;
        if n == 0 {
            break;
        }
        file.write_all(&buffer[..n])?;
        load.bytes += n as u64;
    }
    load.complete = connection.body_end() == BodyEnd::Complete;
    Ok(())
}

/// What the engine answers to a whole archive, and keeps of it.
fn take(profile: &Profile, images: &Mutex<Images>, fault: Option<&LoadFault>, archive: &Path) -> Vec<Value> {
    if let Some(LoadFault::ErrorLine(message)) = fault {
        return vec![failure(message)];
    }
    let mut images = images.lock().unwrap_or_else(PoisonError::into_inner);
    let mut scratch = Images::default();
    let target = match fault {
        Some(LoadFault::Forgets | LoadFault::CutAnswer) => &mut scratch,
        _ => &mut *images,
    };
    let mut lines = match target.load(profile, archive) {
        Ok(lines) => lines,
        Err(error) => vec![failure(&error.to_string())],
    };
    if matches!(fault, Some(LoadFault::Broken)) {
        for mut image in target.all() {
            image.broken = true;
            image.layers.clear();
            target.add(image);
        }
        let line = "Error unpacking image: content digest sha256:0000: not found\n";
        lines.insert(0, json!({ "stream": line }));
    }
    lines
}
