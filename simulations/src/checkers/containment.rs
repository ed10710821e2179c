//! P9: an entry that nobody can apply is held by all, passed on as it is, and stops nothing else.
//!
//! That the rest goes on, the other checkers see. Invariant: of an entry that could not be applied
//! every node that holds it says so.

use warbler_store::engine::View;
use warbler_store::entry::{Carried, Parcel};
use warbler_store::id::{OriginId, SpaceId};
use warbler_store::tables::{self, QuarantineRow};
use warbler_store::vector::VersionVector;

use super::{Archive, Broken, Promise, Rows};

/// `node` says that it cannot apply an entry.
pub(crate) fn quarantined(
    node: usize,
    archive: &Archive,
    (origin, seq): (OriginId, u64),
) -> Result<(), Broken> {
    match archive.get(origin, seq).is_some_and(|written| written.is_poisoned) {
        true => Ok(()),
        false => broken(format!("node {node} cannot apply {origin}/{seq}, which is sound")),
    }
}

/// `node` passes entries on: with the words that were written, or what covers them, never with
/// other words; those that it cannot apply with all that came with them, unless what they are
/// about was erased there.
pub(crate) fn sent(
    node: usize,
    archive: &Archive,
    rows: &Rows,
    parcels: &[Parcel],
) -> Result<(), Broken> {
    for parcel in parcels {
        let (origin, seq) = (parcel.origin, parcel.seq);
        let came = archive.bodies(origin, seq);
        let forged = parcel.bodies.iter().zip(came).any(|(carried, came)| match (carried, came) {
            (Carried::Body(body), Carried::Body(came)) => body != came,
            (Carried::Body(_), Carried::Erased(_)) | (Carried::Erased(_), _) => false,
        });
        if forged || parcel.bodies.len() > came.len() {
            return broken(format!("node {node} passes {origin}/{seq} on with other words"));
        }
        let Some(written) = archive.get(origin, seq).filter(|written| written.is_poisoned) else {
            continue;
        };
        let is_gone = written.damages.is_some_and(|conversation| rows.retires(conversation));
        if !is_gone && parcel.bodies != came {
            return broken(format!("node {node} passes {origin}/{seq} on without its bodies"));
        }
    }
    Ok(())
}

/// Everything has converged: every node must name what it could not apply.
pub(crate) fn at_the_end(
    node: usize,
    disk: &impl View,
    space: SpaceId,
    archive: &Archive,
    (held, rows): (&VersionVector, &Rows),
) -> Result<(), Broken> {
    let poisoned = archive.entries().filter(|(_, written)| written.is_poisoned);
    for ((origin, seq), written) in poisoned.filter(|((origin, seq), _)| held.get(*origin) >= *seq)
    {
        let row = tables::get::<QuarantineRow>(disk, &(space, *origin, *seq));
        let is_gone = written.damages.is_some_and(|conversation| rows.retires(conversation));
        if row.is_ok_and(|row| row.is_none()) && !is_gone {
            return broken(format!(
                "node {node} says nothing of {origin}/{seq}, which is poisoned"
            ));
        }
    }
    Ok(())
}

fn broken<T>(how: String) -> Result<T, Broken> {
    Err(Broken::new(Promise::Containment, how))
}
