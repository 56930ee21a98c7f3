//! What a check has found, in bounded memory whatever there is to find.

use std::collections::BTreeMap;

/// Findings of one kind that are kept; the others are only counted.
const MAX_KEPT: u64 = 100;

/// What a finding means for the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The metadata contradicts itself: guest data is, or would become, wrong.
    Corruption,
    /// Space that nothing uses.
    Leak,
    /// A part of the metadata could not be read, and was not checked.
    CheckError,
    /// Worth knowing, nothing wrong.
    Note,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// A table entry names a storage chunk that no file can hold.
    OutOfRange,
    /// A table entry names a storage chunk behind the end of the data file.
    BeyondEnd,
    /// The data file ends within a storage chunk in use.
    PartlyBeyondEnd,
    /// A table entry reads 0 as part of a sector of zeros: that part of the table is lost.
    Lost,
    /// A table entry names the storage chunk of another one.
    Shared,
    /// An entry behind the last chunk of the disk is not `0xFFFFFFFF`.
    Garbage,
    /// A journal record points outside the table or the bitmap.
    JournalOutside,
    /// The image was not closed and has no journal: its metadata may be incomplete.
    Suspect,
    /// A storage chunk below the highest in use that no entry names.
    Leak,
    /// A part of the metadata that could not be read.
    Unreadable,
    /// A change of the header was cut short. It counts as done, and will be finished.
    InterruptedAmend,
    /// The separate data file is not open: nothing was held against its length.
    DataFileNotOpened,
}

impl FindingKind {
    /// What it means for the image.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self {
            Self::Leak => Severity::Leak,
            Self::Unreadable => Severity::CheckError,
            Self::InterruptedAmend | Self::DataFileNotOpened => Severity::Note,
            _ => Severity::Corruption,
        }
    }

    /// A stable name for programs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OutOfRange => "out-of-range",
            Self::BeyondEnd => "beyond-end",
            Self::PartlyBeyondEnd => "partly-beyond-end",
            Self::Lost => "lost",
            Self::Shared => "shared",
            Self::Garbage => "garbage",
            Self::JournalOutside => "journal-outside",
            Self::Suspect => "suspect",
            Self::Leak => "leak",
            Self::Unreadable => "unreadable",
            Self::InterruptedAmend => "interrupted-amend",
            Self::DataFileNotOpened => "data-file-not-opened",
        }
    }
}

/// One finding, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub kind: FindingKind,
    /// Where, and what.
    pub message: String,
    /// A repair has removed it.
    pub repaired: bool,
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) kept: Vec<Finding>,
    pub(super) counts: BTreeMap<FindingKind, u64>,
    kept_of: BTreeMap<FindingKind, u64>,
}

impl Findings {
    /// Counts `count` findings of the kind, and keeps one that stands for them all.
    pub(super) fn add(&mut self, kind: FindingKind, count: u64, message: impl FnOnce() -> String) {
        *self.counts.entry(kind).or_default() += count;
        let kept = self.kept_of.entry(kind).or_default();
        if *kept < MAX_KEPT {
            *kept += 1;
            self.kept.push(Finding {
                kind,
                message: message(),
                repaired: false,
            });
        }
    }

    pub(super) fn count(&self, kind: FindingKind) -> u64 {
        self.counts.get(&kind).copied().unwrap_or(0)
    }

    /// How many findings there are of a severity.
    pub(super) fn total(&self, severity: Severity) -> u64 {
        let of_it = self.counts.iter().filter(|(kind, _)| kind.severity() == severity);
        of_it.map(|(_, count)| count).sum()
    }
}
