//! Why a request has no result.
//!
//! Says what happened and no more: what it means to a user is for the program to say.

use reqwest::{StatusCode, Url};

use crate::wire::Problem;

/// Whatever the network said.
type NetworkError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be one of a node.
    #[error("`{url}` is not the URL of a node")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The token cannot be sent.
    #[error("the token cannot be used")]
    Token {
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be spoken with what was given.
    #[error("a certificate cannot be used")]
    Certificate {
        /// Why.
        #[source]
        source: NetworkError,
    },
    /// No connection came up: the node has not seen the request.
    #[error("the node at {url} cannot be reached")]
    Unreachable {
        /// Of the node.
        url: Url,
        /// What the network said.
        #[source]
        source: NetworkError,
    },
    /// The request went out and no answer came back.
    #[error("the node at {url} did not answer")]
    NoAnswer {
        /// Of the node.
        url: Url,
        /// What the network said.
        #[source]
        source: NetworkError,
    },
    /// None of several nodes could be reached.
    #[error("none of the {} nodes can be reached", tried.len())]
    NoRegion {
        /// What was wrong with each.
        tried: Vec<String>,
        /// The last failure.
        #[source]
        last: Box<Self>,
    },
    /// The request went out, and whether it was done is not known. The same request again, with
    /// the same key, finds out.
    #[error("whether it was done is not known")]
    InDoubt {
        /// Why it is not known.
        #[source]
        why: Box<Self>,
    },
    /// The node refuses.
    #[error("{}", problem.title)]
    Refused {
        /// Why.
        problem: Box<Problem>,
    },
    /// The space has no such conversation.
    #[error("there is no conversation `{name}` in the space `{space}`")]
    UnknownConversation {
        /// The name asked for.
        name: String,
        /// Where.
        space: String,
        /// Whether the space was named by the user: then hints name it too.
        space_given: bool,
    },
    /// Something answers there that is no node, or speaks another version.
    #[error("what answers at {url} does not talk like a Warbler node")]
    NotANode {
        /// Of what was asked.
        url: Url,
        /// The HTTP status.
        status: StatusCode,
        /// What is wrong with the answer.
        reason: String,
    },
    /// The node serves no space at all.
    #[error("the node at {url} serves no space")]
    NoSpace {
        /// Of the node.
        url: String,
    },
    /// A request cannot be written.
    #[error("a request cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    /// The system gives no randomness for a key.
    #[error("this machine gives no random bytes for a key")]
    Random,
}

impl ClientError {
    /// The short name of the problem, if the node refused.
    #[must_use]
    pub fn problem_name(&self) -> Option<&str> {
        if let Self::Refused { problem } = self { Some(problem.name()) } else { None }
    }

    /// Whether something between us and the node answers that the node cannot be reached.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::NotANode { status, .. } if matches!(status.as_u16(), 502..=504))
    }
}
