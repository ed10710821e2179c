//! Processes that end when their owner does.
//!
//! Invariant: a [`Running`] that is dropped, also by a panic, leaves no process behind. Where the system has `setpriv`, the
//! kernel ends the process even when ours is killed.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::failure::Failure;
use crate::output;

/// Where `setpriv` (util-linux) is, if it is: it asks the kernel to end a process with its parent.
const SETPRIV: &str = "/usr/bin/setpriv";

/// How often a process that runs to its end is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Lines of a log that are shown when its process has failed.
const LOG_LINES: usize = 8;

/// A process of our own program, and where its output goes.
pub(super) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `warbler` with these arguments; its output is appended to `log`. It must be called on the thread that lives as
    /// long as the demo: the kernel takes the end of the thread for the end of the parent.
    ///
    /// # Errors
    /// When the program cannot be started.
    pub(super) fn start(args: &[&str], log: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| {
            Failure::refused("a process of the demo cannot be started").cause(error.to_string())
        };
        let program = std::env::current_exe().map_err(failed)?;
        let out = open_log(log)?;
        let mut command = if Path::new(SETPRIV).exists() {
            let mut command = Command::new(SETPRIV);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        // What the user has set for their own node is not meant for these; how much they want logged is.
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"WARBLER_") && name != "WARBLER_LOG" {
                command.env_remove(name);
            }
        }
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stderr(out.try_clone().map_err(failed)?)
            .stdout(out)
            // In a group of its own, so that Ctrl-C reaches us only: we decide who ends, and when.
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it as a power cut would, and waits until it is gone.
    pub(super) fn kill(mut self) {
        self.end();
    }

    /// Waits until it ends by itself, and gives its output.
    ///
    /// # Errors
    /// When it fails, with the last lines of its output.
    pub(super) async fn output(mut self) -> Result<String, Failure> {
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let Some(status) = self.ended() else { continue };
            if !status.success() {
                return Err(self.failed(status));
            }
            return fs::read_to_string(&self.log).map_err(|error| {
                Failure::refused(format!("{} cannot be read", self.log.display()))
                    .cause(error.to_string())
            });
        }
    }

    /// What to say when it has ended and should not have.
    pub(super) fn failed(&self, status: ExitStatus) -> Failure {
        let failure = Failure::refused(format!("a process of the demo failed: {status}"));
        last_lines(&self.log).into_iter().fold(failure, Failure::cause)
    }

    fn end(&mut self) {
        // It may have ended already, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Our own program as the user called it, for commands that they may copy.
pub(super) fn program() -> String {
    let called = std::env::args().next().filter(|name| !name.is_empty());
    output::shell_word(called.as_deref().unwrap_or("warbler"))
}

fn open_log(log: &Path) -> Result<File, Failure> {
    OpenOptions::new().create(true).append(true).open(log).map_err(|error| {
        Failure::refused(format!("{} cannot be written", log.display())).cause(error.to_string())
    })
}

/// The end of a log, for an error message.
fn last_lines(log: &Path) -> Vec<String> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}
