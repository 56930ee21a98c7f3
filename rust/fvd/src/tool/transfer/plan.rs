//! Which pieces of the image are transferred.

use std::cmp::Ordering;

use pollster::block_on;

use super::Transfer;
use crate::error::Result;
use crate::format::SECTOR;
use crate::source::{BaseSource, Content, Run};
use crate::tool::progress::Meter;

/// Most bytes that are zeroed at once, so that a stop is noticed where zeros have to be written.
const MAX_ZEROS: u64 = 256 << 20;

/// Which parts of an image are transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tool) enum Select {
    /// What the image itself has, zeros included.
    Own,
    /// What comes from its base.
    FromBase,
}

impl Select {
    fn includes(self, known: Known) -> bool {
        match self {
            Self::Own => known.depth == 0,
            Self::FromBase => known.depth > 0,
        }
    }
}

/// A range to transfer.
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) len: u64,
    /// What the image has there.
    pub(super) content: Content,
    /// What the other disk has there. None: nothing, all of the piece is written.
    pub(super) other: Option<Content>,
}

/// The status of a disk up to `end`.
#[derive(Clone, Copy)]
struct Known {
    end: u64,
    depth: u32,
    content: Content,
}

/// How far the image has been looked at.
pub(super) struct Plan {
    at: u64,
    end: u64,
    from: Option<Known>,
    other: Option<Known>,
}

impl Plan {
    pub(super) fn new(size: u64) -> Self {
        Self {
            at: 0,
            end: size,
            from: None,
            other: None,
        }
    }

    /// The next piece, None at the end. Data comes in pieces of at most `most` bytes that end at a multiple of
    /// it. What is left out is done at once.
    pub(super) fn next(&mut self, transfer: &Transfer<'_>, most: u64, meter: &Meter) -> Result<Option<Piece>> {
        while self.at < self.end && !meter.is_stopped() {
            let at = self.at;
            let from = look(&mut self.from, transfer.from, at, self.end)?;
            if !transfer.select.includes(from) {
                self.at = from.end;
                meter.add(from.end - at);
                continue;
            }
            let other = match transfer.than {
                // Beyond the end of a base, an image cannot read.
                Some(than) if at < than.len().next_multiple_of(SECTOR) => {
                    Some(look(&mut self.other, than, at, self.end)?)
                }
                _ => None,
            };
            let mut end = other.map_or(from.end, |other| from.end.min(other.end));
            let other = other.map(|other| other.content);
            if (from.content, other) == (Content::Zero, Some(Content::Zero)) {
                self.at = end;
                meter.add(end - at);
                continue;
            }
            end = end.min(match from.content {
                Content::Data => (at / most + 1) * most,
                Content::Zero => at + MAX_ZEROS,
            });
            self.at = end;
            return Ok(Some(Piece {
                offset: at,
                len: end - at,
                content: from.content,
                other,
            }));
        }
        Ok(None)
    }
}

/// The status of `source` at byte `at`, up to `limit` at most. It ends with the last sector of the source,
/// the rest of which is zeros.
fn look(last: &mut Option<Known>, source: &dyn BaseSource, at: u64, limit: u64) -> Result<Known> {
    if let Some(known) = last.filter(|known| known.end > at) {
        return Ok(known);
    }
    let len = source.len().min(limit);
    let run = match len.cmp(&at) {
        Ordering::Greater => block_on(source.status(at, len - at))?,
        _ => Run::zeros(len.next_multiple_of(SECTOR).min(limit) - at),
    };
    let known = Known {
        end: limit.min(at + run.len),
        depth: run.depth,
        content: run.content,
    };
    *last = Some(known);
    Ok(known)
}
