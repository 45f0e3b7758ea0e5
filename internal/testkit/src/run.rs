//! Running a tool to its end.

use std::fmt;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;

/// What a command printed and how it ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command line, for messages.
    pub command: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output, with invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, with invalid UTF-8 replaced.
    pub stderr: String,
}

impl Ran {
    /// Runs a command without input.
    pub(crate) fn run(command: &mut Command) -> io::Result<Self> {
        command.stdin(Stdio::null());
        let line = show(command);
        let output =
            command.output().map_err(|e| io::Error::new(e.kind(), format!("cannot run {line}: {e}")))?;
        Ok(Self {
            command: line,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a command and feeds it this input. A command that stops reading early is no error here.
    pub(crate) fn run_with_input(
        command: &mut Command,
        mut input: impl Read + Send + 'static,
    ) -> io::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let line = show(command);
        let mut child =
            command.spawn().map_err(|e| io::Error::new(e.kind(), format!("cannot run {line}: {e}")))?;
        let feeder =
            child.stdin.take().map(|mut pipe| thread::spawn(move || drop(io::copy(&mut input, &mut pipe))));
        let output = child.wait_with_output()?;
        if let Some(feeder) = feeder {
            // It ends with the pipe, at the latest when the child is gone.
            let _ = feeder.join();
        }
        Ok(Self {
            command: line,
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Whether it exited with 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output, or an error that shows everything.
    pub fn ok(self) -> io::Result<String> {
        if self.success() { Ok(self.stdout) } else { Err(io::Error::other(self.to_string())) }
    }

    /// Fails the test unless it exited with 0.
    ///
    /// # Panics
    /// When it did not, showing everything that it printed.
    #[track_caller]
    pub fn assert_success(&self) -> &Self {
        assert!(self.success(), "{self}");
        self
    }

    /// Fails the test unless it exited with this code.
    ///
    /// # Panics
    /// When it did not, showing everything that it printed.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert!(self.code == Some(code), "expected exit code {code}: {self}");
        self
    }
}

impl fmt::Display for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "`{}` exited with {code}", self.command)?,
            None => write!(f, "`{}` was ended by a signal", self.command)?,
        }
        write!(f, "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr)
    }
}

fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    words.join(" ")
}
