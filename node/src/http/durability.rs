//! How safe a write is to be before it is answered, and how safe it then is.
//!
//! Invariant: an answer never says more regions than hold the write on disk.

use axum::http::StatusCode;
use warbler_replication::replicator::{Durability, Reached};
use warbler_store::name::Name;

use super::problem::{Kind, Problem};
use super::request::{self, Parameters};
use super::wire;
use crate::space::Space;

/// How long a write waits for other regions, if it does not say: 5 s.
const DEFAULT_WAIT_MILLIS: u64 = 5_000;
/// The longest such wait: 60 s.
const MAX_WAIT_MILLIS: u64 = 60_000;

/// What `durability` and `timeout_ms` of a query ask for.
pub(super) fn asked(query: &mut Parameters, space: &Space) -> Result<Durability, Problem> {
    let regions = regions_asked(query.one("durability")?.as_deref(), space.regions().len())?;
    let wait = query.number("timeout_ms", DEFAULT_WAIT_MILLIS, 0..=MAX_WAIT_MILLIS)?;
    Ok(Durability { regions, wait })
}

/// The status of a write that has this status once it is as safe as was asked for.
pub(super) fn status(reached: &Reached, complete: StatusCode) -> StatusCode {
    if reached.regions.len() < reached.asked { StatusCode::ACCEPTED } else { complete }
}

/// What is said of it.
pub(super) fn said(reached: &Reached) -> wire::Durability {
    wire::Durability {
        asked: reached.asked,
        reached: reached.regions.len(),
        regions: reached.regions.iter().map(Name::to_string).collect(),
    }
}

/// How many regions `durability` asks for, of `all`.
fn regions_asked(durability: Option<&str>, all: usize) -> Result<usize, Problem> {
    let asked = match durability {
        None => 1,
        Some("majority") => all / 2 + 1,
        Some("all") => all,
        Some(text) => text.parse().ok().filter(|regions| *regions > 0).ok_or_else(|| {
            request::refused(format!(
                "`durability` is `{text}`: a number from 1, `majority` or `all` expected"
            ))
        })?,
    };
    if asked > all {
        let detail = format!("durability {asked} was asked for, the space has {all} regions");
        return Err(Problem::new(Kind::DurabilityImpossible, detail)
            .hint(format!("ask for at most {all}, or for `all`")));
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durability_is_a_number_of_regions_or_a_word_and_never_more_than_there_are() {
        let asked = |text, all| regions_asked(text, all).ok();
        assert_eq!(asked(None, 3), Some(1));
        assert_eq!(asked(Some("2"), 3), Some(2));
        assert_eq!(asked(Some("majority"), 3), Some(2));
        assert_eq!(asked(Some("majority"), 4), Some(3));
        assert_eq!(asked(Some("all"), 3), Some(3));
        for bad in ["0", "4", "-1", "many", "", "1.5"] {
            assert_eq!(asked(Some(bad), 3), None, "{bad:?}");
        }
    }

    #[test]
    fn what_is_kept_in_fewer_regions_than_asked_for_is_accepted_and_not_done() {
        let reached = |asked| Reached { asked, regions: vec!["oslo".parse().expect("a name")] };
        assert_eq!(status(&reached(1), StatusCode::CREATED), StatusCode::CREATED);
        assert_eq!(status(&reached(2), StatusCode::CREATED), StatusCode::ACCEPTED);
    }
}
