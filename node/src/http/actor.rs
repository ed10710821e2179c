//! Who asks.
//!
//! Invariant: this is the one place that says what a caller may do beyond their roles. Until
//! there are tokens the API is heard on loopback only, and whoever reaches it administers every
//! space: requests say themselves as whom they act, in `as` or `author`, and that name is what
//! is recorded. What takes being the author or a member is refused all the same.

use warbler_store::name::Name;
use warbler_store::replica::Actor;

use super::problem::Problem;
use super::request::{self, Parameters};

/// The user named `name`, as whom a caller of this node acts.
pub(super) fn acting(user: Name) -> Actor {
    Actor { user, admin: true }
}

/// The user that the parameter `as` names.
pub(super) fn of_query(query: &mut Parameters) -> Result<Actor, Problem> {
    match query.parsed::<Name>("as")? {
        Some(user) => Ok(acting(user)),
        None => Err(request::refused("the query says not who asks")
            .hint("name the user in the parameter `as`")),
    }
}

/// The user that a field of the body names.
pub(super) fn of_text(text: &str) -> Result<Actor, Problem> {
    Ok(acting(request::name(text)?))
}
