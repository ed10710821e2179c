//! The commands, one a file: arguments, what is asked of the node, what is printed.
//!
//! A command returns [`Failure`](crate::failure::Failure) and never ends the process itself.

pub(crate) mod conversations;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod post;
pub(crate) mod read;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod verify;
