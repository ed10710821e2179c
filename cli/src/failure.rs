//! The one place where every error becomes what the user sees: kind, cause, hint and exit code.
//!
//! Commands return errors of their own and know no exit code; this file maps them. Invariant:
//! the exit codes are a contract (README), and whatever is printed has been made harmless first.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use warbler_client::{ClientError, Problem};
use warbler_node::StartError;
use warbler_node::config::{ConfigError, OwnEntryError};
use warbler_node::data_directory::DataDirectoryError;
use warbler_node::identity::IdentityError;

use crate::command::import::ImportError;
use crate::output::{one_line, remark, shell_word};

/// What kind of failure, which decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Refused, or wrong data: 1.
    Refused,
    /// Wrong usage: 2.
    Usage,
    /// The node cannot be reached: 3.
    Unreachable,
    /// The durability asked for was not reached in time; the post is kept: 4.
    NotDurable,
    /// A bug of ours: 70.
    Bug,
    /// Nobody reads our output any more: a quiet end, as `head` expects it.
    OutputClosed,
}

impl Kind {
    /// The exit code, as documented.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::NotDurable => 4,
            Self::Bug => 70,
        }
    }
}

/// A failure as the user sees it.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: Kind,
    error: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// A failure of `kind`; `error` says what, in one sentence without a full stop.
    pub(crate) fn new(kind: Kind, error: impl Into<String>) -> Self {
        Self { kind, error: error.into(), causes: Vec::new(), hint: None }
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Something was refused, or the data is wrong.
    pub(crate) fn refused(error: impl Into<String>) -> Self {
        Self::new(Kind::Refused, error)
    }

    /// The command was given in a wrong way.
    pub(crate) fn usage(error: impl Into<String>) -> Self {
        Self::new(Kind::Usage, error)
    }

    /// What must not happen has happened.
    pub(crate) fn bug(error: impl Into<String>) -> Self {
        Self::new(Kind::Bug, error)
            .hint("this is a bug of Warbler: please report it with this text")
    }

    /// An error with everything that led to it.
    pub(crate) fn of(kind: Kind, error: &dyn Error) -> Self {
        Self { causes: causes_of(error), ..Self::new(kind, error.to_string()) }
    }

    /// Says why; may be said more than once, the nearest cause first.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Says what to do now.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts another error on top: what failed becomes why, and the old hint goes.
    fn under(self, error: String) -> Self {
        let causes = std::iter::once(self.error).chain(self.causes).collect();
        Self { kind: self.kind, error, causes, hint: None }
    }

    /// Standard output cannot be written.
    pub(crate) fn output(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Kind::OutputClosed, "standard output was closed");
        }
        Self::refused("standard output cannot be written").cause(error.to_string())
    }

    /// Something of ours cannot be written as JSON.
    pub(crate) fn own_json(error: serde_json::Error) -> Self {
        Self::bug("an answer cannot be written as JSON").cause(error.to_string())
    }

    /// A post has failed; where it may be kept, the key to find out with is named.
    pub(crate) fn of_post(error: ClientError, key: &str) -> Self {
        let ClientError::InDoubt { why } = error else { return error.into() };
        Self::from(*why)
            .under("whether the message was posted is not known".to_owned())
            .hint(format!("post it again with `--key {}`: it shows once", shell_word(key)))
    }

    /// Tells the user, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if self.kind != Kind::OutputClosed {
            remark(self);
        }
        ExitCode::from(self.kind.code())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", one_line(&self.error))?;
        for cause in &self.causes {
            write!(f, "\n  cause: {}", one_line(cause))?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {}", one_line(hint)),
            None => Ok(()),
        }
    }
}

/// Tells of arguments that cannot be understood, or prints the help that was asked for.
pub(crate) fn report_usage(error: &clap::Error) -> ExitCode {
    // Nobody to read it is no reason for another exit code.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { Kind::Usage.code() } else { 0 })
}

/// The chain below an error; a link that only repeats the one above it is left out.
fn causes_of(error: &dyn Error) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    let mut above = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !above.contains(&text) {
            causes.push(text.clone());
        }
        above = text;
        next = cause.source();
    }
    causes
}

/// The last link of the chain: what the network said, below the layers of the HTTP library.
fn root_of(error: &(dyn Error + 'static)) -> String {
    std::iter::successors(Some(error), |&error| error.source())
        .last()
        .map_or_else(String::new, ToString::to_string)
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        let gateway = error.is_gateway();
        match error {
            ClientError::Url { reason, .. } => Self::usage(text)
                .cause(reason)
                .hint("give one such as http://127.0.0.1:7420 with --url or WARBLER_URL"),
            ClientError::Token { reason } => Self::usage(text).cause(reason).hint(
                "a node without keys needs none: leave out --token-file and unset WARBLER_TOKEN",
            ),
            ClientError::Unreachable { source, .. } => {
                Self::new(Kind::Unreachable, text).cause(root_of(source.as_ref())).hint(
                    "start it with `warbler serve --config FILE`, or name another one with --url \
                     or WARBLER_URL",
                )
            }
            ClientError::NoAnswer { source, .. } => Self::new(Kind::Unreachable, text)
                .cause(root_of(source.as_ref()))
                .hint("it may be overloaded or have stopped: look with `warbler status`"),
            ClientError::NoRegion { tried, last: _ } => {
                let failure = Self::new(Kind::Unreachable, text);
                tried
                    .into_iter()
                    .fold(failure, Self::cause)
                    .hint("look whether they run with `warbler status --url URL`, one at a time")
            }
            ClientError::InDoubt { why } => Self::from(*why)
                .under(text)
                .hint("make the same request again: what was done is not done twice"),
            ClientError::Certificate { source } => Self::usage(text)
                .cause(root_of(source.as_ref()))
                .hint("give a PEM file with --ca-file, or unset WARBLER_CA_FILE"),
            ClientError::Json(source) => Self::own_json(source),
            ClientError::Random => Self::refused(text).hint("choose one yourself with --key"),
            ClientError::Refused { problem } => refusal(&problem),
            ClientError::UnknownConversation { name, space, space_given } => Self::refused(text)
                .cause("a post or a read creates no conversation")
                .hint(create_hint(&name, space_given.then_some(space.as_str()))),
            ClientError::NotANode { reason, .. } => {
                let kind = if gateway { Kind::Unreachable } else { Kind::Refused };
                Self::new(kind, text).cause(reason).hint("check the port in --url or WARBLER_URL")
            }
            ClientError::NoSpace { .. } => {
                Self::refused(text).hint("add its region to a [[space]] of the cluster file")
            }
        }
    }
}

impl From<DataDirectoryError> for Failure {
    fn from(error: DataDirectoryError) -> Self {
        Self { hint: error.hint(), ..Self::of(Kind::Refused, &error) }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::of(Kind::Refused, &error)
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self { hint: error.hint(), ..Self::of(Kind::Refused, &error) }
    }
}

impl From<OwnEntryError> for Failure {
    fn from(error: OwnEntryError) -> Self {
        Self::of(Kind::Refused, &error).hint(error.hint())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self { hint: error.hint(), ..Self::of(Kind::Refused, &error) }
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let text = error.to_string();
        match error {
            ImportError::Open { source, .. } => Self::refused(text).cause(source.to_string()),
            ImportError::Plan { source, .. } => Self::refused(text)
                .cause(source.to_string())
                .hint("nothing of the file was posted: correct it and import it again"),
            ImportError::Upload { source, .. } => Self::from(*source)
                .under(text)
                .hint("import the same file again when that is mended: no message shows twice"),
        }
    }
}

fn create_hint(name: &str, space: Option<&str>) -> String {
    let space = space.map(|space| format!("--space {} ", shell_word(space)));
    let name = shell_word(name);
    format!("`warbler conversations create {}{name}`", space.unwrap_or_default())
}

/// A refusal by the node, in its own words.
fn refusal(problem: &Problem) -> Failure {
    let kind = if problem.name() == "internal" { Kind::Bug } else { Kind::Refused };
    let mut failure = Failure::new(kind, as_clause(&problem.title));
    let detail = problem.detail.clone();
    failure.causes.extend(detail.filter(|detail| !detail.eq_ignore_ascii_case(&problem.title)));
    failure.hint = problem.hint.clone().or_else(|| hint_for(problem));
    failure
}

/// A title without the capital it begins with, since it stands after `error:` here. Capitals that
/// belong to the word, as in `TLS`, stay.
fn as_clause(title: &str) -> String {
    let mut letters = title.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && !second.is_uppercase() => {
            first.to_lowercase().chain([second]).chain(letters).collect()
        }
        _ => title.to_owned(),
    }
}

/// What to do when the node gives no hint itself.
fn hint_for(problem: &Problem) -> Option<String> {
    let hint = match problem.name() {
        "unknown-space" => "`warbler status` lists the spaces of the node",
        "outcome-unknown" => "make the same request again with the same key: it shows once",
        "forbidden" => {
            "name another user with --as, or have the role changed with `warbler \
             conversations members`"
        }
        "gone" => "what is hidden or destroyed does not come back",
        "busy" => "try again in a few seconds",
        "behind" => "wait until the node has caught up, or ask the node you asked before",
        "internal" => "the node's log says more; please report this as a bug of Warbler",
        _ if problem.status == 401 => "give a token with --token-file or WARBLER_TOKEN",
        _ => return None,
    };
    Some(hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(name: &str, status: u16, hint: Option<&str>) -> Problem {
        Problem {
            kind: format!("urn:warbler:problem:{name}"),
            title: "The body is too large".to_owned(),
            status,
            detail: Some("it has 70000 bytes".to_owned()),
            hint: hint.map(str::to_owned),
            ..Problem::default()
        }
    }

    fn of_problem(name: &str, status: u16, hint: Option<&str>) -> Failure {
        ClientError::Refused { problem: Box::new(problem(name, status, hint)) }.into()
    }

    #[test]
    fn the_exit_codes_are_the_documented_ones() {
        let codes = [
            (Kind::OutputClosed, 0),
            (Kind::Refused, 1),
            (Kind::Usage, 2),
            (Kind::Unreachable, 3),
            (Kind::NotDurable, 4),
            (Kind::Bug, 70),
        ];
        for (kind, code) in codes {
            assert_eq!(kind.code(), code, "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_is_shown_with_the_detail_and_the_hint_of_the_node() {
        let failure = of_problem("body-too-large", 413, Some("send less"));
        assert_eq!(failure.kind, Kind::Refused);
        assert_eq!(
            failure.to_string(),
            "error: the body is too large\n  cause: it has 70000 bytes\n  hint: send less"
        );
    }

    #[test]
    fn a_detail_that_only_repeats_the_title_is_left_out() {
        let mut repeated = problem("future-time", 422, None);
        repeated.detail = Some("the body is too large".to_owned());
        let failure = Failure::from(ClientError::Refused { problem: Box::new(repeated) });
        assert_eq!(failure.to_string(), "error: the body is too large");
    }

    #[test]
    fn an_error_inside_the_node_counts_as_a_bug() {
        assert_eq!(of_problem("internal", 500, None).kind, Kind::Bug);
        assert_eq!(of_problem("outcome-unknown", 500, None).kind, Kind::Refused);
    }

    #[test]
    fn an_unknown_conversation_names_the_command_that_creates_it() {
        let unknown = |name: &str, space_given| {
            Failure::from(ClientError::UnknownConversation {
                name: name.to_owned(),
                space: "other".to_owned(),
                space_given,
            })
            .to_string()
        };
        assert!(
            unknown("general", false).ends_with("hint: `warbler conversations create general`")
        );
        assert!(
            unknown("my room", true)
                .ends_with("hint: `warbler conversations create --space other 'my room'`")
        );
    }

    #[test]
    fn the_words_of_a_node_cannot_drive_the_terminal() {
        let failure = of_problem("x", 400, Some("\x1b[2J\nerror: forged"));
        let text = failure.to_string();
        assert!(text.ends_with(r"hint: \u{1b}[2J\nerror: forged"), "{text}");
    }

    #[test]
    fn a_cause_that_only_repeats_the_error_is_left_out() {
        #[derive(Debug, thiserror::Error)]
        #[error("the file cannot be read: {0}")]
        struct Outer(#[source] io::Error);
        let failure = Failure::of(Kind::Refused, &Outer(io::Error::other("no such disk")));
        assert_eq!(failure.to_string(), "error: the file cannot be read: no such disk");
    }
}
