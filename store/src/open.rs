//! Opening a store: whose it is, and of which format.
//!
//! Invariant: a store that is refused is left as it was.

use crate::base;
use crate::engine::{Batch, Engine, EngineError};
use crate::id::NodeId;
use crate::tables::{self, FORMAT_VERSION, FormatRow, NodeRow};
use crate::upgrade;

/// Why a store may not be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// It was written by a later version of Warbler.
    #[error("the store has format {found}, this version knows formats up to {FORMAT_VERSION}")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It was written by a version of Warbler that is older than this one can read.
    #[error(
        "the store has format {found}, this version converts formats from {} on",
        upgrade::CONVERTED
    )]
    Older {
        /// Its format.
        found: u32,
    },
    /// It is another node's.
    #[error("the store belongs to node {found}, this node is {expected}")]
    OtherNode {
        /// Whose it is.
        found: NodeId,
        /// Whose it should be.
        expected: NodeId,
    },
    /// The engine failed or holds damaged rows.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl OpenError {
    /// What to do now, if there is something to say.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Newer { .. } => Some("start it with the later version of warbler".to_owned()),
            Self::Older { .. } => {
                Some("convert it with the version of warbler in between".to_owned())
            }
            Self::OtherNode { .. } => {
                Some("bring back the key that belongs to this store".to_owned())
            }
            Self::Engine(error) => error.hint().map(str::to_owned),
        }
    }
}

/// Makes an empty store `node`'s, or checks that it is. A store of the format before is converted,
/// which takes a while if it is large, and goes on where it was if it is killed. What is left of a
/// space that was not taken in to its end is wiped.
///
/// # Errors
/// When it is another node's or of another format; then nothing was written. When the engine
/// fails or a row that is to be converted is damaged; then it can be tried again.
pub fn claim(engine: &dyn Engine, node: NodeId) -> Result<(), OpenError> {
    if let Some(FormatRow { version }) = tables::get(engine, &())? {
        if version > FORMAT_VERSION {
            return Err(OpenError::Newer { found: version });
        }
        if version < upgrade::CONVERTED {
            return Err(OpenError::Older { found: version });
        }
        let owner: Option<NodeRow> = tables::get(engine, &())?;
        match owner {
            Some(NodeRow { node: found }) if found != node => {
                return Err(OpenError::OtherNode { found, expected: node });
            }
            Some(_) => {}
            None => {
                return Err(EngineError::Damaged("the store names no owner".to_owned()).into());
            }
        }
        if version < FORMAT_VERSION || upgrade::is_going_on(engine)? {
            upgrade::convert(engine)?;
        }
        return Ok(base::wipe_unfinished(engine)?);
    }
    let mut batch = Batch::default();
    tables::put(&mut batch, &(), &FormatRow { version: FORMAT_VERSION });
    tables::put(&mut batch, &(), &NodeRow { node });
    Ok(engine.persist(&batch)?)
}
