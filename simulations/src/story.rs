//! What happened in a run: figures, and a hash over all of it.
//!
//! Invariant: whatever happens in a world goes through the hash, so two runs with equal hashes
//! went the same way.

use warbler_store::id::Digest;

/// The figures of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Story {
    /// Posts that people made, retries not counted.
    pub posts: u64,
    /// Answers that said a post is kept.
    pub acknowledged: u64,
    /// Of those, how many reached two regions or more before they were answered.
    pub acknowledged_wider: u64,
    /// Deeds that people asked for: edits, reactions, settings, erasures.
    pub deeds: u64,
    /// Answers that said one is done.
    pub done: u64,
    /// Comparisons of all that a node shows with what it must show.
    pub looks: u64,
    /// Rows of erasure tables that were written.
    pub erasures: u64,
    /// Disks that were full.
    pub full_disks: u64,
    /// Disks that were lost, or replaced because of damage.
    pub wiped_disks: u64,
    /// Bits that flipped.
    pub flipped_bits: u64,
    /// Logs with an entry that nobody can apply.
    pub poisoned: u64,
    /// Entries trimmed from logs.
    pub trimmed: u64,
    /// Snapshots built and installed.
    pub snapshots: u64,
    /// Conversations swept after erasures.
    pub sweeps: u64,
    /// Followers whose token was older than the log.
    pub outrun: u64,
    /// Posts sent again, to the same node or another.
    pub retries: u64,
    /// Pages read.
    pub pages: u64,
    /// Followers that resumed from a token.
    pub resumes: u64,
    /// Nodes that lost power.
    pub crashes: u64,
    /// Writes that failed with an unknown outcome.
    pub torn_writes: u64,
    /// Nodes that stood still for a while.
    pub pauses: u64,
    /// Wall clocks that jumped.
    pub clock_jumps: u64,
    /// Partitions, both ways or one.
    pub partitions: u64,
    /// Connections that came up.
    pub connections: u64,
    /// Frames sent.
    pub frames: u64,
    /// Frames that the network lost.
    pub frames_lost: u64,
    /// Frames that the network doubled.
    pub frames_doubled: u64,
    /// Bytes of frames sent.
    pub bytes: u64,
    /// Batches that became durable.
    pub batches: u64,
    /// Events.
    pub events: u64,
    /// Messages in the timelines at the end.
    pub messages: u64,
    /// Conversations at the end.
    pub conversations: u64,
    /// From the end of all trouble until all nodes held the same, in virtual milliseconds.
    pub converged_millis: u64,
    /// Length of the run, in virtual milliseconds.
    pub virtual_millis: u64,
    /// A hash over everything that happened.
    pub hash: Option<Digest>,
}

/// Hashes what happens, and tells it to whoever listens.
pub(crate) struct Chronicle<'t> {
    hasher: blake3::Hasher,
    tell: Option<&'t mut dyn FnMut(&str)>,
}

impl<'t> Chronicle<'t> {
    pub(crate) fn new(tell: Option<&'t mut dyn FnMut(&str)>) -> Self {
        Self { hasher: blake3::Hasher::new_derive_key("warbler 2026 simulated run"), tell }
    }

    /// Takes in one thing that happened: when, what (a tag), where, and its bytes.
    pub(crate) fn note(&mut self, micros: u64, tag: u8, place: usize, bytes: &[u8]) {
        let mut head = [0; 18];
        head[..8].copy_from_slice(&micros.to_be_bytes());
        head[8] = tag;
        head[9] = place as u8;
        head[10..].copy_from_slice(&(bytes.len() as u64).to_be_bytes());
        self.hasher.update(&head).update(bytes);
    }

    /// Whether anybody listens.
    pub(crate) fn is_heard(&self) -> bool {
        self.tell.is_some()
    }

    /// Tells a line of the story, if somebody listens.
    pub(crate) fn tell(&mut self, micros: u64, place: &str, line: impl FnOnce() -> String) {
        if let Some(tell) = &mut self.tell {
            let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
            tell(&format!("{seconds:>4}.{micros:06} {place:<12} {}", line()));
        }
    }

    pub(crate) fn hash(&self) -> Digest {
        Digest(*self.hasher.finalize().as_bytes())
    }
}
