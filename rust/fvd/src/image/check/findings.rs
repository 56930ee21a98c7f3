//! The findings of a check, in bounded memory.

use std::collections::BTreeMap;

/// The most findings of one kind that are kept. Further ones are only counted.
const MAX_KEPT: u64 = 100;

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The metadata is inconsistent: guest data is wrong or would become wrong.
    Corruption,
    /// Space that is not used.
    Leak,
    /// A part of the metadata could not be read and was not checked.
    CheckError,
    /// A remark; the image is consistent.
    Note,
}

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// A table entry names a storage chunk that no file can hold.
    OutOfRange,
    /// A table entry names a storage chunk after the end of the data file.
    BeyondEnd,
    /// The data file ends within a storage chunk in use.
    PartlyBeyondEnd,
    /// A table entry is 0, like most of its sector: this part of the table is lost.
    Lost,
    /// A table entry names the same storage chunk as another entry.
    Shared,
    /// A table entry after the last chunk of the disk is not `0xFFFFFFFF`.
    Garbage,
    /// A journal record points outside the table or the bitmap.
    JournalOutside,
    /// The image was not closed and has no journal: its metadata may be incomplete.
    Suspect,
    /// A storage chunk below the highest one in use takes space, but no entry names it.
    Leak,
    /// A part of the metadata could not be read.
    Unreadable,
    /// A change of the header was interrupted. It counts as done, and the next open for writing finishes it.
    InterruptedAmend,
    /// The separate data file is not open, so its length was not checked.
    DataFileNotOpened,
}

impl FindingKind {
    /// The severity of this kind of finding.
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

/// One finding, for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The kind.
    pub kind: FindingKind,
    /// The message: the place and the problem.
    pub message: String,
    /// Whether a repair has removed the finding.
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
    /// Counts `count` findings of the kind, and keeps a single one for all of them.
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

    /// Number of findings with a severity.
    pub(super) fn total(&self, severity: Severity) -> u64 {
        let of_it = self.counts.iter().filter(|(kind, _)| kind.severity() == severity);
        of_it.map(|(_, count)| count).sum()
    }
}
