//! Running `warbler` with a bound on its time.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The longest any command of these tests may take; far more than each of them does.
const DEADLINE: Duration = Duration::from_secs(60);

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `warbler` with these arguments, and nothing of our environment that it would heed.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warbler"));
    for variable in ["WARBLER_URL", "WARBLER_TOKEN", "WARBLER_LOG", "WARBLER_CLUSTER"] {
        command.env_remove(variable);
    }
    command.env("USER", "ann").env("RUST_BACKTRACE", "0").args(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `warbler` to its end.
pub(crate) fn warbler(args: &[&str]) -> Ended {
    end(command(args).spawn().expect("started"))
}

/// Runs `warbler` against the node at `url`.
pub(crate) fn at(url: &str, args: &[&str]) -> Ended {
    warbler(&[&["--url", url], args].concat())
}

/// Runs `warbler` with `input` on its standard input.
pub(crate) fn with_input(url: &str, args: &[&str], input: &[u8]) -> Ended {
    let mut command = command(&[&["--url", url], args].concat());
    let mut child = command.stdin(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A command that refuses early closes its end: the rest of the input is then nobody's.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let ended = end(child);
    writer.join().expect("written");
    ended
}

/// Waits for the end of a process, and takes it away if it takes too long.
pub(crate) fn end(child: Child) -> Ended {
    let id = child.id();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    match receiver.recv_timeout(DEADLINE) {
        Ok(output) => {
            let output = output.expect("read");
            Ended {
                code: output.status.code(),
                stdout: String::from_utf8(output.stdout).expect("UTF-8"),
                stderr: String::from_utf8(output.stderr).expect("UTF-8"),
            }
        }
        Err(_) => {
            signal(id, "KILL");
            panic!("the process did not end within {DEADLINE:?}");
        }
    }
}

/// Sends a signal to one process.
pub(crate) fn signal(id: u32, name: &str) {
    let sent = Command::new("kill").args(["-s", name, &id.to_string()]).status();
    assert!(sent.expect("kill runs").success(), "SIG{name} to {id}");
}

/// A process that runs until it is told to end, whose output is read line by line.
pub(crate) struct Running {
    child: Option<Child>,
    lines: mpsc::Receiver<String>,
}

impl Running {
    /// Starts `warbler`.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// Starts `warbler` with more variables in its environment.
    pub(crate) fn start_with(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(args);
        let mut child = command.envs(environment.iter().copied()).spawn().expect("started");
        let stdout = child.stdout.take().expect("a pipe");
        let (sender, lines) = mpsc::channel();
        let read: Lines<BufReader<ChildStdout>> = BufReader::new(stdout).lines();
        thread::spawn(move || read.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child: Some(child), lines }
    }

    /// The next line of its output.
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("one more line of output in time")
    }

    /// Sends it a signal and waits for its end; its output so far and its errors come back. A shell
    /// makes what it runs in the background deaf to `INT`, and the tests may run there.
    pub(crate) fn stop(mut self, name: &str) -> Ended {
        let child = self.child.take().expect("it runs");
        signal(child.id(), name);
        let mut ended = end(child);
        ended.stdout = self.lines.iter().collect::<Vec<_>>().join("\n");
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
