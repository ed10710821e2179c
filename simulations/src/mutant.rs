//! What can be broken on purpose, from outside the core: drivers, disks and operators that do
//! what they must not.
//!
//! The core has no switch for any of this. Invariant: each mutant breaks one promise, and a test
//! says that the checkers see it.

use std::fmt;
use std::str::FromStr;

use crate::faults::Faults;

/// Something broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Disks say that a batch is flushed and forget it when the power goes.
    DisksLoseFlushes,
    /// The driver calls `handle_written` before it hands the batch to the disk.
    AnswersBeforeTheDisk,
    /// A disk keeps a batch without one of its timeline rows.
    DisksDropARow,
    /// The batch under way at a crash reaches the disk without its last row.
    DisksTearBatches,
    /// A node that returns goes on as the run that crashed.
    ReusesItsOrigin,
    /// A node that returns is restored from an old copy of its disk, as the same run.
    ReturnsFromACopy,
    /// Followers are shown the entries of a batch last first.
    ShowsBatchesBackwards,
    /// Followers are not shown every third batch.
    SkipsBatches,
    /// A link never carries the entries of one node.
    DropsEntries,
    /// Connections are ended and made again all the time, also when nothing is wrong.
    Reconnects,
    /// The gateway in front of nodes replaces idempotency keys.
    ForgetsKeys,
    /// Disks keep no row of the erasure table.
    ForgetsErasures,
    /// Disks keep words that a row of the erasure table makes the store remove.
    KeepsErasedWords,
    /// Where the erasure of words travels, somebody puts the words back.
    SendsErasedWords,
    /// Disks keep no redaction.
    ForgetsRedactions,
    /// Of two edits the one with the later clock shows.
    EditsByTheClock,
    /// Settings stand beside those that replace them.
    KeepsReplacedSettings,
    /// Peers are believed to hold all that is held here, so logs are trimmed too early.
    PeersExaggerate,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::DisksLoseFlushes,
        Self::AnswersBeforeTheDisk,
        Self::DisksDropARow,
        Self::DisksTearBatches,
        Self::ReusesItsOrigin,
        Self::ReturnsFromACopy,
        Self::ShowsBatchesBackwards,
        Self::SkipsBatches,
        Self::DropsEntries,
        Self::Reconnects,
        Self::ForgetsKeys,
        Self::ForgetsErasures,
        Self::KeepsErasedWords,
        Self::SendsErasedWords,
        Self::ForgetsRedactions,
        Self::EditsByTheClock,
        Self::KeepsReplacedSettings,
        Self::PeersExaggerate,
    ];

    /// Its name on a command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DisksLoseFlushes => "disks-lose-flushes",
            Self::AnswersBeforeTheDisk => "answers-before-the-disk",
            Self::DisksDropARow => "disks-drop-a-row",
            Self::DisksTearBatches => "disks-tear-batches",
            Self::ReusesItsOrigin => "reuses-its-origin",
            Self::ReturnsFromACopy => "returns-from-a-copy",
            Self::ShowsBatchesBackwards => "shows-batches-backwards",
            Self::SkipsBatches => "skips-batches",
            Self::DropsEntries => "drops-entries",
            Self::Reconnects => "reconnects",
            Self::ForgetsKeys => "forgets-keys",
            Self::ForgetsErasures => "forgets-erasures",
            Self::KeepsErasedWords => "keeps-erased-words",
            Self::SendsErasedWords => "sends-erased-words",
            Self::ForgetsRedactions => "forgets-redactions",
            Self::EditsByTheClock => "edits-by-the-clock",
            Self::KeepsReplacedSettings => "keeps-replaced-settings",
            Self::PeersExaggerate => "peers-exaggerate",
        }
    }

    /// Whether the mutant can only be seen by what a crash leaves, or by retries: makes sure that
    /// there is something to see.
    pub(crate) fn provoke(self, faults: &mut Faults) {
        match self {
            Self::DisksLoseFlushes
            | Self::ReusesItsOrigin
            | Self::ReturnsFromACopy
            | Self::DisksTearBatches => {
                faults.crashes = faults.crashes.max(8);
                faults.flush.1 = faults.flush.1.max(100_000);
            }
            Self::ForgetsKeys | Self::ShowsBatchesBackwards => {
                faults.flush.1 = faults.flush.1.max(400_000);
            }
            Self::ForgetsErasures | Self::KeepsErasedWords | Self::SendsErasedWords => {
                faults.forgets = faults.forgets.max(60);
            }
            Self::ForgetsRedactions | Self::EditsByTheClock | Self::KeepsReplacedSettings => {
                faults.deeds = faults.deeds.max(600);
                faults.skew = faults.skew.max(10_000);
                faults.conversations = 1;
                faults.forgets = 0;
            }
            Self::PeersExaggerate => {
                // Answers for two regions would be wrong before anything is trimmed.
                faults.wide = 0;
                faults.partitions = faults.partitions.max(6);
                faults.upkeep = 400;
                faults.trims = true;
            }
            Self::AnswersBeforeTheDisk
            | Self::DisksDropARow
            | Self::SkipsBatches
            | Self::DropsEntries
            | Self::Reconnects => {}
        }
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Mutant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|mutant| mutant.name() == text);
        found.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().map(Self::name).collect();
            format!("there is no mutant `{text}`; there are {}", names.join(", "))
        })
    }
}
