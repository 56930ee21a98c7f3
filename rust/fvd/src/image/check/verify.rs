//! Verify: checks all metadata. Writes nothing.

use std::ops::Range;

use super::findings::{FindingKind, Findings, Severity};
use super::journal::{self, BlockWindow};
use super::table::{TableSurvey, survey, unreadable};
use super::{Report, Subject};
use crate::error::Result;
use crate::format::{Block, Region};
use crate::image::metadata::scan::{Piece, RegionReader};
use crate::storage::Storage;

/// The result of [`verify`].
pub(super) struct Verdict {
    pub(super) report: Report,
    pub(super) table: TableSurvey,
}

impl Verdict {
    /// Number of findings of a kind.
    pub(super) fn count(&self, kind: FindingKind) -> u64 {
        self.report.counts.get(&kind).copied().unwrap_or(0)
    }
}

pub(super) async fn verify<S: Storage>(subject: &Subject<'_, S>) -> Result<Verdict> {
    let mut findings = Findings::default();
    let head = &subject.head;
    let suspect = head.is_suspect();
    if suspect {
        findings.add(FindingKind::Suspect, 1, || {
            "the image was not closed cleanly and has no journal: its metadata may be incomplete".to_owned()
        });
    }
    if head.interrupted {
        findings.add(FindingKind::InterruptedAmend, 1, || {
            "a change of the header was interrupted: it counts, and the next open for writing finishes it".to_owned()
        });
    }
    let data_file_unchecked = subject.data.is_none();
    if data_file_unchecked {
        findings.add(FindingKind::DataFileNotOpened, 1, || {
            let name = head.header.data_file.display();
            format!("the data file '{name}' was not opened: its length was not checked")
        });
    }
    journal::check_records(subject, &mut findings).await?;
    let table = survey(subject, &mut findings).await?;
    let local_blocks = local_blocks(subject, &mut findings).await?;
    let report = Report {
        corruptions: findings.total(Severity::Corruption),
        leaks: findings.total(Severity::Leak),
        check_errors: findings.total(Severity::CheckError),
        suspect,
        needs_recovery: subject.live_journal().is_some() || head.interrupted,
        data_file_unchecked,
        total_chunks: head.geometry.chunks,
        allocated_chunks: table.used.len(),
        fragmented_chunks: table.fragmented,
        total_blocks: head.geometry.blocks,
        local_blocks,
        image_end_offset: image_end(subject, &table).await?,
        findings: findings.kept,
        counts: findings.counts,
        ..Report::default()
    };
    Ok(Verdict { report, table })
}

async fn image_end<S: Storage>(subject: &Subject<'_, S>, table: &TableSurvey) -> Result<u64> {
    let geometry = &subject.head.geometry;
    if !subject.head.header.data_file.is_empty() {
        return Ok(geometry.metadata_end);
    }
    if geometry.table.is_some() {
        return Ok(subject.chunk_offset(table.used.end()));
    }
    let full = geometry.data_offset + geometry.virtual_size;
    // A plain image gets its full length only when it is first used, so it may be shorter.
    Ok(subject.file.len().await?.min(full))
}

/// Counts the blocks that are local.
async fn local_blocks<S: Storage>(subject: &Subject<'_, S>, findings: &mut Findings) -> Result<u64> {
    let geometry = &subject.head.geometry;
    let region = match geometry.bitmap {
        Some(region) if subject.head.needs_base() => region,
        _ => return Ok(geometry.blocks),
    };
    let mut local = 0;
    let mut start = Block::FIRST;
    while start < Block::new(geometry.blocks) {
        let window = journal::block_window(subject, start).await?;
        local += local_in_window(subject.file, region, start, &window, findings).await?;
        start = window.end;
    }
    Ok(local)
}

async fn local_in_window<S: Storage>(
    file: &S,
    region: Region,
    start: Block,
    window: &BlockWindow,
    findings: &mut Findings,
) -> Result<u64> {
    let mut reader = RegionReader::new(file, region, start.index() / 8);
    let mut local = 0;
    loop {
        let piece = match reader.next().await {
            Ok(Some(piece)) => piece,
            Ok(None) => return Ok(local),
            Err(error) => {
                unreadable(error, findings)?;
                continue;
            }
        };
        let first = piece.blocks().start.max(start);
        let end = piece.blocks().end.min(window.end);
        if first >= window.end {
            return Ok(local);
        }
        let set = ones(&piece, &(first..end));
        let mut journaled = 0;
        for blocks in window.blocks.overlapping(&(first..end)) {
            let blocks = blocks.start.max(first)..blocks.end.min(end);
            journaled += Block::count(&blocks) - ones(&piece, &blocks);
        }
        local += set + journaled;
    }
}

/// Number of bits that are 1 in a range of blocks. The range must lie in the piece.
fn ones(piece: &Piece, blocks: &Range<Block>) -> u64 {
    let Some(bytes) = &piece.bytes else {
        return 0;
    };
    let bytes = bytes.as_slice();
    let base = piece.offset * 8;
    let (start, end) = (blocks.start.index() - base, blocks.end.index() - base);
    let bit = |n: u64| u64::from(bytes[(n / 8) as usize] >> (n % 8) & 1);
    let inner_start = start.next_multiple_of(8).min(end);
    let inner_end = (end / 8 * 8).max(inner_start);
    let inner = &bytes[(inner_start / 8) as usize..(inner_end / 8) as usize];
    let edges = (start..inner_start).chain(inner_end..end).map(bit);
    let (words, rest) = inner.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_ne_bytes(*word).count_ones());
    let rest = rest.iter().map(|byte| byte.count_ones());
    edges.sum::<u64>() + u64::from(words.chain(rest).sum::<u32>())
}
