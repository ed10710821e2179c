//! The commands, one a file: arguments, what is asked of the node, what is printed.
//!
//! A command returns [`Failure`](crate::failure::Failure) and never ends the process itself.

pub(crate) mod conversations;
pub(crate) mod edit;
pub(crate) mod erase;
pub(crate) mod import;
pub(crate) mod inbox;
pub(crate) mod init;
pub(crate) mod mark;
pub(crate) mod post;
pub(crate) mod react;
pub(crate) mod read;
pub(crate) mod redact;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod verify;
pub(crate) mod write;
