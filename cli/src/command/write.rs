//! What the commands that change something have in common: who asks, how safe it is to be, and
//! what is said when it is done.
//!
//! Invariant: who asked for more regions than were reached in time learns so by the exit code.

use std::time::Duration;

use warbler_store::name::{InvalidName, Name};

use crate::failure::{Failure, Kind};
use crate::options::{Format, SpaceOption};
use crate::output;
use warbler_client::{Done, Durability};
use warbler_client::{Taken, Wait};

/// The longest time a node waits for durability, milliseconds.
const MAX_TIMEOUT_MS: u64 = 60_000;
/// Who asks when neither `--as` nor `USER` says.
const ANONYMOUS: &str = "anonymous";

/// Who asks.
#[derive(Debug, clap::Args)]
pub(crate) struct As {
    /// Who does it [default: $USER, or anonymous]
    #[arg(long = "as", value_name = "USER")]
    user: Option<Name>,
}

/// How safe it is to be.
#[derive(Debug, clap::Args)]
pub(crate) struct Safety {
    /// In how many regions it shall be on disk before the answer: a number, majority or all
    #[arg(long, value_name = "N", value_parser = durability)]
    durability: Option<String>,
    /// How long to wait for that, in milliseconds [default of the node: 5000]
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(..=MAX_TIMEOUT_MS))]
    timeout_ms: Option<u64>,
}

/// All of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Write {
    #[command(flatten)]
    pub(crate) who: As,
    #[command(flatten)]
    pub(crate) space: SpaceOption,
    #[command(flatten)]
    pub(crate) safety: Safety,
    #[command(flatten)]
    pub(crate) format: Format,
}

impl As {
    /// The user who asks.
    ///
    /// # Errors
    /// When `USER` holds no name.
    pub(crate) fn user(&self) -> Result<Name, Failure> {
        if let Some(user) = &self.user {
            return Ok(user.clone());
        }
        let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
        let name = user.as_deref().unwrap_or(ANONYMOUS);
        name.parse().map_err(|error: InvalidName| {
            Failure::usage(format!("USER holds {name:?}, which cannot be an author"))
                .cause(error.to_string())
                .hint("say who it is with --as USER")
        })
    }
}

impl Safety {
    /// As the client takes it.
    pub(crate) fn wait(&self) -> Wait {
        Wait {
            durability: self.durability.clone(),
            timeout: self.timeout_ms.map(Duration::from_millis),
        }
    }
}

/// Says that something is done; `what` is a word such as `edited`.
///
/// # Errors
/// When it is in fewer regions than were asked for.
pub(crate) fn tell(
    format: Format,
    (taken, done): &(Taken, Done),
    what: &str,
) -> Result<(), Failure> {
    if format.json {
        output::json(done)?;
    } else if done.changed {
        output::line(what)?;
    } else {
        output::line("nothing to do: it was so already")?;
    }
    match taken {
        Taken::Durable | Taken::Before => Ok(()),
        Taken::NotYetDurable => Err(not_durable("it is done", &done.durability)),
    }
}

/// `what`, such as `the message is kept`, is in fewer regions than were asked for.
pub(crate) fn not_durable(what: &str, durability: &Durability) -> Failure {
    let regions = match durability.regions.as_slice() {
        [] => "none".to_owned(),
        regions => regions.join(", "),
    };
    let error = format!(
        "{what}, but on disk in {} of {} regions when the time was over",
        durability.reached, durability.asked
    );
    Failure::new(Kind::NotDurable, error)
        .cause(format!("regions that hold it: {regions}"))
        .hint("it goes on to the others by itself; `warbler status` shows which of them are away")
}

fn durability(text: &str) -> Result<String, String> {
    let number = text.parse::<u32>().is_ok_and(|regions| regions > 0);
    if number || matches!(text, "majority" | "all") {
        return Ok(text.to_owned());
    }
    Err("a number of regions from 1, `majority` or `all` is expected".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_durability_is_a_positive_number_majority_or_all() {
        for good in ["1", "3", "majority", "all"] {
            assert_eq!(durability(good).as_deref(), Ok(good));
        }
        for bad in ["0", "-1", "most", "", "1.5"] {
            assert!(durability(bad).is_err(), "{bad}");
        }
    }
}
