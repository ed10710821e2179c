//! P8: what was erased, or has expired, never comes back; what was redacted never shows.
//!
//! Every body holds a number that no other has. Whatever leaves a node is searched for numbers:
//! pages, what followers see, frames, and every value on its disk. Invariant: a number is
//! forbidden at a node while every record with these words is covered by the rows on its disk.

use std::collections::BTreeMap;

use warbler_store::engine::{Direction, Table, View};
use warbler_store::entry::{Carried, Parcel};
use warbler_store::erasure::Words;
use warbler_store::id::{ConversationId, Front, Identity};
use warbler_store::name::Name;

use super::archive::Written;
use super::rows::Rows;
use super::{Broken, Promise};

/// What stands before and behind a number: bytes that are not UTF-8, so that nothing else has
/// them by chance.
const MARK: [u8; 4] = [0xf8, 0xfa, 0xfb, 0xf9];
/// Digits of a number.
const DIGITS: usize = 8;

/// The numbered bytes that make words unlike all others.
pub(crate) fn planted(number: u64) -> Vec<u8> {
    [&MARK[..], format!("{number:0DIGITS$}").as_bytes()].concat()
}

/// The numbers in some bytes.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let places = (0..bytes.len().saturating_sub(MARK.len() + DIGITS - 1))
        .filter(|place| bytes[*place] == MARK[0] && bytes[*place..].starts_with(&MARK));
    places.filter_map(|place| {
        let digits = &bytes[place + MARK.len()..][..DIGITS];
        std::str::from_utf8(digits).ok()?.parse().ok()
    })
}

/// A record that refers to words.
#[derive(Debug, Clone)]
struct Source {
    conversation: ConversationId,
    message: Option<Identity>,
    author: Name,
    front: Option<Front>,
}

impl Source {
    fn words(&self) -> Words<'_> {
        let Self { conversation, message, author, front } = self;
        Words { conversation: *conversation, message: *message, author, front: *front }
    }
}

/// See the module's comment.
#[derive(Default)]
pub(crate) struct Erasures {
    sources: BTreeMap<u64, Vec<Source>>,
    /// What each node is to forget, as its disk says.
    rows: Vec<Rows>,
}

impl Erasures {
    pub(crate) fn new(nodes: usize) -> Self {
        Self { sources: BTreeMap::new(), rows: vec![Rows::default(); nodes] }
    }

    /// What `node` is to forget.
    pub(crate) fn rows(&self, node: usize) -> &Rows {
        &self.rows[node]
    }

    /// Takes note of the words that an entry refers to.
    pub(crate) fn written(&mut self, written: &Written) {
        for saying in &written.sayings {
            if let (Some(words), Some(text)) = (saying.as_words(), &saying.words) {
                self.note(&words, text);
            }
        }
        for set in &written.settings {
            if let Some(text) = &set.words {
                let (conversation, author) = (set.conversation, &set.record.by);
                self.note(&Words { conversation, message: None, author, front: None }, text);
            }
        }
    }

    fn note(&mut self, words: &Words<'_>, text: &[u8]) {
        let source = Source {
            conversation: words.conversation,
            message: words.message,
            author: words.author.clone(),
            front: words.front,
        };
        for number in numbers(text) {
            self.sources.entry(number).or_default().push(source.clone());
        }
    }

    /// The rows on the disk of `node` are these now.
    pub(crate) fn told(&mut self, node: usize, rows: Rows) -> Result<(), Broken> {
        rows.grew_from(&self.rows[node], node)?;
        self.rows[node] = rows;
        Ok(())
    }

    /// The disk of `node` was lost, and what it was to forget with it.
    pub(crate) fn wiped(&mut self, node: usize) {
        self.rows[node] = Rows::default();
    }

    fn is_forbidden(&self, node: usize, number: u64, in_files: bool) -> bool {
        let Some(sources) = self.sources.get(&number) else { return false };
        let rows = &self.rows[node];
        // A conversation's rows leave the tables bit by bit.
        let left = |source: &Source| in_files && rows.retires(source.conversation);
        sources.iter().all(|source| rows.covers(&source.words()) && !left(source))
    }

    /// `node` shows these words, or says them.
    pub(crate) fn shown(&self, node: usize, words: &[u8], how: &str) -> Result<(), Broken> {
        match numbers(words).find(|number| self.is_forbidden(node, *number, false)) {
            Some(number) => broken(format!("node {node} {how} the words {number}, erased there")),
            None => Ok(()),
        }
    }

    /// `node` sends these entries.
    pub(crate) fn sent(&self, node: usize, parcels: &[Parcel]) -> Result<(), Broken> {
        if self.rows[node].is_empty() {
            return Ok(());
        }
        for parcel in parcels {
            for carried in &parcel.bodies {
                if let Carried::Body(body) = carried {
                    self.shown(node, &body.bytes, "sends")?;
                }
            }
        }
        Ok(())
    }

    /// Searches every value of every table of a disk. `swept` says that conversations that were
    /// erased must have left it by now.
    pub(crate) fn search(
        &self,
        node: usize,
        disk: &(impl View + ?Sized),
        swept: bool,
    ) -> Result<(), Broken> {
        if self.rows[node].is_empty() {
            return Ok(());
        }
        for table in Table::ALL {
            for row in disk.scan(table, &[], &[0xff; 80], Direction::Forward) {
                let Ok((_, value)) = row else { continue };
                let found = numbers(&value).find(|number| self.is_forbidden(node, *number, !swept));
                if let Some(number) = found {
                    return broken(format!(
                        "node {node} keeps the words {number} in `{table}`, erased there"
                    ));
                }
            }
        }
        Ok(())
    }
}

fn broken<T>(how: String) -> Result<T, Broken> {
    Err(Broken::new(Promise::Erasure, how))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planted_numbers_are_found_wherever_they_stand() {
        let text = [b"before ", &planted(7)[..], b" between ", &planted(12_345_678)].concat();
        assert_eq!(numbers(&text).collect::<Vec<_>>(), [7, 12_345_678]);
        assert_eq!(numbers(&text[..text.len() - 1]).collect::<Vec<_>>(), [7]);
        assert_eq!(numbers(b"").count(), 0);
    }

    #[test]
    fn words_are_forbidden_once_every_record_with_them_is_covered() {
        let mut checker = Erasures::new(1);
        let conversation = ConversationId([1; 16]);
        let author: Name = "ada".parse().expect("a name");
        let front = |millis| Some(Front { millis, counter: 0 });
        for millis in [100, 200] {
            let message = Some(Identity([2; 16]));
            let words = Words { conversation, message, author: &author, front: front(millis) };
            checker.note(&words, &planted(5));
        }
        let cut = |millis| {
            let mut rows = Rows::default();
            let up_to = Front { millis, counter: 0 };
            rows.add(&warbler_store::erasure::Erasure::Cut { conversation, up_to });
            rows
        };
        checker.told(0, cut(150)).expect("a first row");
        checker.shown(0, &planted(5), "shows").expect("the second copy is not covered");
        checker.told(0, cut(250)).expect("a greater one");
        checker.shown(0, &planted(5), "shows").expect_err("both are covered");
        checker.told(0, cut(150)).expect_err("a row that went back");
    }
}
