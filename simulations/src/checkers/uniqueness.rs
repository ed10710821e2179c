//! P6, and what logs rest on: one entry at one place, one message for one key.
//!
//! An origin that writes two entries at one seq forks its log; nodes would hold different things
//! under equal vectors. Entries travel byte for byte as their origin wrote them.

use std::collections::{BTreeMap, BTreeSet};

use warbler_store::entry::Parcel;
use warbler_store::id::{ConversationId, Digest, Identity, OriginId};
use warbler_store::record::Message;

use super::{Broken, Ledger, Promise};

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Uniqueness {
    written: BTreeMap<(OriginId, u64), Digest>,
    /// The messages that each node has shown as new.
    announced: BTreeSet<(usize, ConversationId, Identity)>,
}

impl Uniqueness {
    /// A run of `node` has written these entries, durable or not.
    pub(crate) fn written(&mut self, node: usize, parcels: &[Parcel]) -> Result<(), Broken> {
        for parcel in parcels {
            let place = (parcel.origin, parcel.seq);
            if self.written.insert(place, digest(parcel)).is_some() {
                let (origin, seq) = place;
                return broken(format!("node {node} writes entry {origin}/{seq} a second time"));
            }
        }
        Ok(())
    }

    /// `node` sends these entries, its own or others'.
    pub(crate) fn sent(&self, node: usize, parcels: &[Parcel]) -> Result<(), Broken> {
        for parcel in parcels {
            let (origin, seq) = (parcel.origin, parcel.seq);
            if self.written.get(&(origin, seq)) != Some(&digest(parcel)) {
                return broken(format!("node {node} sends entry {origin}/{seq} other than it is"));
            }
        }
        Ok(())
    }

    /// `node` shows a message as new.
    pub(crate) fn announced(&mut self, node: usize, message: &Message) -> Result<(), Broken> {
        match self.announced.insert((node, message.conversation, message.identity)) {
            true => Ok(()),
            false => broken(format!("node {node} shows {} as new a second time", message.id)),
        }
    }

    /// The disk of `node` was lost: it will hear of everything again.
    pub(crate) fn wiped(&mut self, node: usize) {
        self.announced.retain(|(at, ..)| *at != node);
    }

    /// Messages of one conversation that are shown together: in order, each once.
    pub(crate) fn shown(
        &self,
        node: usize,
        messages: &[Message],
        ledger: &Ledger,
    ) -> Result<(), Broken> {
        let mut posts = BTreeSet::new();
        for message in messages {
            let post = ledger.place_of(message.id)?;
            if !posts.insert(post) {
                let key = String::from_utf8_lossy(&ledger.post(post).key).into_owned();
                return broken(format!("node {node} shows the post under key `{key}` twice"));
            }
            ledger.compare(post, message).or_else(|how| broken(format!("node {node}: {how}")))?;
        }
        if !messages.is_sorted_by_key(|message| message.id) {
            return broken(format!("node {node} shows messages out of order"));
        }
        Ok(())
    }
}

fn broken<T>(how: String) -> Result<T, Broken> {
    Err(Broken::new(Promise::Uniqueness, how))
}

fn digest(parcel: &Parcel) -> Digest {
    // Bodies stand outside the chain: each may be gone, and what is there fits its reference.
    Digest(*blake3::hash(&parcel.entry).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_may_write_a_place_of_its_log_once() {
        let parcel = |word| Parcel {
            origin: OriginId([1; 16]),
            seq: 1,
            entry: vec![word],
            chain: [0; 8],
            bodies: Vec::new(),
        };
        let mut checker = Uniqueness::default();
        checker.written(0, &[parcel(1)]).expect("the first");
        checker.sent(3, &[parcel(1)]).expect("as it was written");
        checker.sent(3, &[parcel(2)]).expect_err("other bytes");
        checker.written(0, &[parcel(2)]).expect_err("the second");
    }
}
