//! Why connections are refused and end, as both sides read it.
//!
//! It must not decide anything. Its one invariant: what a peer sends as a reason reaches a log or
//! a terminal only short and without control characters.

use quinn::{ConnectionError, VarInt};

use super::quic::IDLE_TIMEOUT;
use super::tls;

/// The greatest length of a reason, in characters; it has to fit a packet.
const MAX_REASON_CHARACTERS: usize = 300;

/// Why one of two connections with a peer is closed.
pub(super) const GAVE_WAY: &str = "it gave way to another connection with the same peer";

/// The codes of QUIC's application close.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Code {
    /// The node ends.
    GoingAway = 0,
    /// The greeting is refused, or the peer is another than expected.
    Refused = 1,
    /// There is a connection already.
    Duplicate = 2,
    /// Another run of the peer is connected.
    OtherRun = 3,
    /// The peer broke the protocol.
    Violation = 4,
}

/// Why a connection did not come to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// We refuse the peer, with this code and text.
    Ours(Code, String),
    /// The peer refused us, or the connection was lost.
    Lost(String),
    /// One of two simultaneous dials gave way. All is well.
    GaveWay,
}

impl Refusal {
    /// Closes the connection if the refusal is ours, so that the peer learns why.
    pub(super) fn tell(&self, connection: &quinn::Connection) {
        match self {
            Self::Ours(code, reason) => close(connection, *code, reason),
            Self::GaveWay => close(connection, Code::Duplicate, GAVE_WAY),
            Self::Lost(_) => {}
        }
    }

    /// The text, unless all is well.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Ours(_, text) | Self::Lost(text) => Some(text),
            Self::GaveWay => None,
        }
    }

    /// What became of a connection on which something failed.
    pub(super) fn of_lost(connection: &quinn::Connection, error: &dyn std::fmt::Display) -> Self {
        match connection.close_reason() {
            Some(ended) => Self::of_end(&ended),
            None => Self::Lost(error.to_string()),
        }
    }

    /// What the end of a connection says.
    pub(super) fn of_end(ended: &ConnectionError) -> Self {
        match ended {
            ConnectionError::ApplicationClosed(close)
                if close.error_code == VarInt::from_u32(Code::Duplicate as u32) =>
            {
                Self::GaveWay
            }
            ConnectionError::ApplicationClosed(_)
            | ConnectionError::VersionMismatch
            | ConnectionError::TransportError(_)
            | ConnectionError::ConnectionClosed(_)
            | ConnectionError::Reset
            | ConnectionError::TimedOut
            | ConnectionError::LocallyClosed
            | ConnectionError::CidsExhausted => Self::Lost(describe(ended)),
        }
    }
}

/// Closes a connection with a reason that the peer reads.
pub(super) fn close(connection: &quinn::Connection, code: Code, reason: &str) {
    connection.close(VarInt::from_u32(code as u32), presentable(reason).as_bytes());
}

/// Why a connection ended, for people.
pub(super) fn describe(ended: &ConnectionError) -> String {
    match ended {
        ConnectionError::ApplicationClosed(close) if close.reason.is_empty() => {
            "closed by the peer without a reason".to_owned()
        }
        ConnectionError::ApplicationClosed(close) => {
            format!("closed by the peer: {}", presentable(&String::from_utf8_lossy(&close.reason)))
        }
        ConnectionError::ConnectionClosed(close) if is_tls(close.error_code) => {
            let reason = String::from_utf8_lossy(&close.reason);
            format!("the peer refuses our key: {}", presentable(tls::plain_reason(&reason)))
        }
        ConnectionError::TransportError(error) if is_tls(error.code) => {
            presentable(tls::plain_reason(&error.reason))
        }
        ConnectionError::Reset => {
            "the peer does not know this connection: it was restarted".to_owned()
        }
        ConnectionError::TimedOut => {
            format!("nothing was heard for {} s", IDLE_TIMEOUT.as_secs())
        }
        // Every other end on this side is noted with its own reason.
        ConnectionError::LocallyClosed => GAVE_WAY.to_owned(),
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::ConnectionClosed(_)
        | ConnectionError::CidsExhausted => presentable(&ended.to_string()),
    }
}

/// Whether a code is one of TLS (RFC 9001, section 4.8).
fn is_tls(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

fn presentable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(MAX_REASON_CHARACTERS).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_from_a_peer_cannot_write_to_the_terminal() {
        let close = quinn::ApplicationClose {
            error_code: VarInt::from_u32(9),
            reason: b"\x1b[2Jgone\n".to_vec().into(),
        };
        let text = describe(&ConnectionError::ApplicationClosed(close));
        assert_eq!(text, "closed by the peer: \u{fffd}[2Jgone\u{fffd}");
        assert_eq!(presentable(&"x".repeat(1_000)).len(), MAX_REASON_CHARACTERS);
    }
}
