//! P2: what was acknowledged at level *k* is held by *k* regions, and stays.
//!
//! Looks at disks through readers, also at those of nodes that are down. What was durable at a
//! crash and never acknowledged may show afterwards; the reverse may not.

use warbler_store::entry::Parcel;
use warbler_store::id::{MessageId, Millis};
use warbler_store::reader::{ReadError, Reader};
use warbler_store::vector::VersionVector;

use super::rows::Rows;
use super::{Broken, Erasures, Promise, Truth};

/// An answer that said a post is kept.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledgement {
    /// Who answered.
    pub(crate) node: usize,
    pub(crate) post: usize,
    pub(crate) id: MessageId,
    /// In how many regions it was to be durable.
    pub(crate) asked: usize,
    /// The nodes of the regions that were said to hold it.
    pub(crate) holders: Vec<usize>,
    /// How long the answer took, and was allowed to take for want of regions, in milliseconds.
    pub(crate) took: Millis,
    pub(crate) patience: Millis,
}

/// See the module's comment.
pub(crate) struct Durability {
    acknowledged: Vec<Acknowledgement>,
    /// What each node held durably, as it said last.
    held: Vec<VersionVector>,
}

impl Durability {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { acknowledged: Vec::new(), held: vec![VersionVector::default(); nodes] }
    }

    /// A post was acknowledged: every region that was named must hold it now.
    pub(crate) fn acknowledged(
        &mut self,
        readers: &[Reader],
        truth: Truth<'_>,
        erasures: &Erasures,
        mut answer: Acknowledgement,
        is_sound: impl Fn(usize) -> bool,
    ) -> Result<(), Broken> {
        let Acknowledgement { node, id, asked, took, patience, .. } = answer;
        if !answer.holders.contains(&node) {
            return broken(format!("node {node} does not count itself as holder of {id}"));
        }
        if answer.holders.len() < asked && took < patience {
            let reached = answer.holders.len();
            return broken(format!(
                "node {node} answered for {id} with {reached} of {asked} regions after {took} of \
                 {patience} ms"
            ));
        }
        for holder in answer.holders.iter().filter(|holder| is_sound(**holder)) {
            expect(&readers[*holder], truth, erasures.rows(*holder), &answer).or_else(|how| {
                broken(format!("node {node} said that node {holder} holds {id}: {how}"))
            })?;
        }
        answer.holders.retain(|holder| is_sound(*holder));
        self.acknowledged.push(answer);
        Ok(())
    }

    /// What `node` held durably, as it said last.
    pub(crate) fn held(&self, node: usize) -> &VersionVector {
        &self.held[node]
    }

    /// The disk of `node` was lost: what it acknowledged is held by others, or nowhere.
    pub(crate) fn wiped(&mut self, node: usize) {
        self.held[node] = VersionVector::default();
        for answer in &mut self.acknowledged {
            answer.holders.retain(|holder| *holder != node);
        }
        self.acknowledged.retain(|answer| !answer.holders.is_empty());
    }

    /// Entries leave `node`: they must be durable there. A push of what a power cut takes back
    /// would fork the log.
    pub(crate) fn pushed(&self, node: usize, parcels: &[Parcel]) -> Result<(), Broken> {
        let held = &self.held[node];
        match parcels.iter().find(|parcel| held.get(parcel.origin) < parcel.seq) {
            None => Ok(()),
            Some(parcel) => broken(format!(
                "node {node} sends entry {}/{} before it is durable",
                parcel.origin, parcel.seq
            )),
        }
    }

    /// `node` holds this durably now.
    pub(crate) fn durable(&mut self, node: usize, vector: &VersionVector) -> Result<(), Broken> {
        let held = &mut self.held[node];
        if !vector.covers(held) {
            let lost = held.entries_above(vector);
            return broken(format!("node {node} lost {lost} entries that were durable"));
        }
        held.clone_from(vector);
        Ok(())
    }

    /// `node` has returned: everything that it ever acknowledged must be there.
    pub(crate) fn restarted(
        &self,
        node: usize,
        reader: &Reader,
        truth: Truth<'_>,
        rows: &Rows,
    ) -> Result<(), Broken> {
        for answer in self.acknowledged.iter().filter(|answer| answer.holders.contains(&node)) {
            expect(reader, truth, rows, answer)
                .or_else(|how| broken(format!("after its return, node {node}: {how}")))?;
        }
        Ok(())
    }

    /// All nodes have converged: everything that was ever acknowledged must be everywhere.
    pub(crate) fn at_the_end(
        &self,
        readers: &[Reader],
        truth: Truth<'_>,
        erasures: &Erasures,
    ) -> Result<(), Broken> {
        for (node, reader) in readers.iter().enumerate() {
            for answer in &self.acknowledged {
                expect(reader, truth, erasures.rows(node), answer)
                    .or_else(|how| broken(format!("at the end, node {node}: {how}")))?;
            }
        }
        Ok(())
    }
}

fn broken<T>(how: String) -> Result<T, Broken> {
    Err(Broken::new(Promise::Durability, how))
}

/// The acknowledged post must be readable, by the id that was answered, word for word; unless
/// its conversation was erased, or it has expired.
fn expect(
    reader: &Reader,
    truth: Truth<'_>,
    rows: &Rows,
    answer: &Acknowledgement,
) -> Result<(), String> {
    let Truth { ledger, archive } = truth;
    let post = ledger.post(answer.post);
    let id = answer.id;
    let found = reader.message(ledger.name(post.conversation), id);
    if let Ok(Some(message)) = &found {
        return ledger.compare(answer.post, message);
    }
    let ids = ledger.incarnations(post.conversation).iter();
    let mut places = ids.zip(ledger.identities(answer.post));
    let excused = places.any(|(conversation, identity)| {
        identity.tail() == id.tail()
            && (rows.retires(*conversation)
                || archive
                    .front(*conversation, identity)
                    .is_some_and(|front| rows.expires(*conversation, front)))
    });
    match found {
        Ok(_) | Err(ReadError::UnknownConversation(_)) if excused => Ok(()),
        Ok(_) => Err(format!("the acknowledged message {id} is not there")),
        Err(error) => Err(format!("the acknowledged message {id} cannot be read: {error}")),
    }
}
