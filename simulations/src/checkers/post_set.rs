//! Sets of posts, as bits: what somebody has seen, small enough to be kept for every post.

/// A set of posts, by their places in the ledger.
#[derive(Debug, Clone, Default)]
pub(crate) struct PostSet {
    words: Vec<u64>,
}

impl PostSet {
    /// Adds a post. True if it was not in the set.
    pub(crate) fn insert(&mut self, post: usize) -> bool {
        let (word, bit) = (post / 64, 1 << (post % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    pub(crate) fn contains(&self, post: usize) -> bool {
        self.words.get(post / 64).is_some_and(|word| word & (1 << (post % 64)) != 0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        for (word, other) in self.words.iter_mut().zip(&other.words) {
            *word |= other;
        }
    }

    /// The first post of this set that `other` lacks.
    pub(crate) fn first_missing_in(&self, other: &Self) -> Option<usize> {
        self.words.iter().enumerate().find_map(|(place, word)| {
            let missing = word & !other.words.get(place).copied().unwrap_or(0);
            (missing != 0).then(|| place * 64 + missing.trailing_zeros() as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn set(posts: impl IntoIterator<Item = usize>) -> PostSet {
        let mut set = PostSet::default();
        posts.into_iter().for_each(|post| assert!(set.insert(post)));
        set
    }

    #[test]
    fn a_set_behaves_like_a_set_of_numbers() {
        let (low, high) = (set([0, 5, 63, 64]), set([5, 64, 200]));
        assert_eq!(low.first_missing_in(&high), Some(0));
        assert_eq!(high.first_missing_in(&low), Some(200));
        let mut both = low.clone();
        both.merge(&high);
        assert!([0, 5, 63, 64, 200].iter().all(|post| both.contains(*post)));
        assert!(!both.contains(1) && !both.contains(65));
        assert_eq!(low.first_missing_in(&both), None);
        assert!(!both.insert(200) && !both.contains(1_000));
    }
}
