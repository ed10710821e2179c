//! A session: what a client has seen of a space, so that every region shows at least that.
//!
//! Invariant: a session forgets nothing by itself. Only [`Session::adopt`] makes it smaller, on
//! purpose, and it writes down that it did.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wire::Missing;

mod token;

/// Adoptions that are kept until somebody takes them.
const MAX_ADOPTED: usize = 64;

/// What was given up so that the client could go on: the region that answered lacks what the
/// session had seen, and nobody had it in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The region that answered, by its URL.
    pub region: String,
    /// What it lacks. It comes back with whoever holds it, unless `lost`.
    pub missing: Vec<Missing>,
    /// Whether it is gone for good.
    pub lost: bool,
}

/// A session. Clones are the same one; it may be shared by requests that run at once.
#[derive(Debug, Clone, Default)]
pub struct Session {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    token: Option<String>,
    adopted: VecDeque<Adopted>,
}

impl Session {
    /// A session that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The session with this token, from another client or a time before.
    #[must_use]
    pub fn of(token: String) -> Self {
        let state = State { token: Some(token), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The token of all that was seen; none before the first answer.
    #[must_use]
    pub fn token(&self) -> Option<String> {
        self.state().token.clone()
    }

    /// Takes what had to be given up since this was last called, oldest first.
    #[must_use]
    pub fn take_adopted(&self) -> Vec<Adopted> {
        self.state().adopted.drain(..).collect()
    }

    /// An answer with this token was seen, too.
    pub(crate) fn saw(&self, token: &str) {
        let mut state = self.state();
        if state.token.as_deref() == Some(token) {
            return;
        }
        let merged = state.token.as_deref().and_then(|old| token::merged(old, token));
        // A token of a form that is not known here is taken as it is: answers to requests that
        // are made one after another only ever grow.
        state.token = Some(merged.unwrap_or_else(|| token.to_owned()));
    }

    /// Goes on from `token`, which has seen less.
    pub(crate) fn adopt(&self, token: String, adopted: Adopted) {
        let mut state = self.state();
        state.token = Some(token);
        if state.adopted.len() == MAX_ADOPTED {
            state.adopted.pop_front();
        }
        state.adopted.push_back(adopted);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_adopted_is_told_once_and_the_token_is_the_lesser_one() {
        let session = Session::of("much".to_owned());
        let adopted = Adopted { region: "http://b".to_owned(), missing: Vec::new(), lost: false };
        session.adopt("little".to_owned(), adopted.clone());
        assert_eq!(session.token().as_deref(), Some("little"));
        assert_eq!(session.take_adopted(), [adopted]);
        assert_eq!(session.take_adopted(), []);
    }

    #[test]
    fn clones_are_one_session_and_a_token_of_an_unknown_form_takes_the_place_of_the_last() {
        let session = Session::new();
        session.clone().saw("t1");
        session.saw("t2");
        assert_eq!(session.token().as_deref(), Some("t2"));
    }
}
