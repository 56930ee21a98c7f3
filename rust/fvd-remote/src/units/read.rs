//! A read: what is there is copied at once, what is not is waited for.

use std::ops::Range;

use fvd::Result;
use fvd::remote::Urgency;
use fvd::storage::IoBufMut;
use tokio::sync::oneshot::error::RecvError;

use super::wanted::{Piece, Taken, Wanted};
use super::{Units, units};
use crate::fetch::UNIT;

/// A long read waits for this many bytes at a time, so that it does not fill the memory alone.
const SLICE: u64 = 8 << 20;

impl Units {
    /// Fills `buf` from `offset`. What lies beyond the end are zeros. Nothing is fetched that is known to be zeros.
    pub(crate) async fn read(&self, mut buf: IoBufMut, offset: u64) -> Result<IoBufMut> {
        let urgency = Urgency::current();
        let end = offset.saturating_add(buf.len() as u64).min(self.len());
        let mut start = offset;
        while start < end {
            let (is_zero, next) = self.source.zeros(start / UNIT);
            let run_end = end.min(next.saturating_mul(UNIT));
            let slice = if is_zero {
                start..run_end
            } else {
                start..run_end.min(start / SLICE * SLICE + SLICE)
            };
            start = slice.end;
            if is_zero {
                buf.as_mut_slice()[(slice.start - offset) as usize..(slice.end - offset) as usize].fill(0);
            } else {
                self.read_slice(&mut buf, offset, slice, urgency).await?;
            }
        }
        let filled = end.saturating_sub(offset) as usize;
        buf.as_mut_slice()[filled..].fill(0);
        Ok(buf)
    }

    async fn read_slice(&self, buf: &mut IoBufMut, offset: u64, slice: Range<u64>, urgency: Urgency) -> Result<()> {
        let mut wanted = self.read_cached(buf, offset, &slice);
        if wanted.is_empty() {
            // Nothing is fetched ahead for who reads what is here.
            return Ok(());
        }
        if urgency == Urgency::Scattered && self.cached.is_none() && self.source.gives_parts() {
            while let Some(receiver) = self.scatter(&slice) {
                // A flight that has ended without a result: it is asked for again.
                if let Ok(piece) = receiver.await {
                    copy(buf, offset, &slice, &piece?);
                    return Ok(());
                }
            }
        }
        let mut ahead = self.ahead(&slice);
        let mut copy = |piece: &Piece| copy(buf, offset, &slice, piece);
        while !wanted.is_empty() {
            let taken = self.memory.take(&Wanted {
                object: self.id,
                len: self.len(),
                bytes: slice.start.max(wanted.start * UNIT)..slice.end.min(wanted.end * UNIT),
                units: wanted.clone(),
                ahead: std::mem::take(&mut ahead),
                longest: (self.source.store().tuning.request / UNIT).max(1),
                urgency,
            });
            let Taken { kept, coming, flights } = taken;
            self.launch(flights, None);
            kept.iter().for_each(&mut copy);
            // Units whose flights have ended without them: they are asked for again.
            let mut missed = Vec::new();
            for (unit, receiver) in coming {
                match receiver.await {
                    Ok(piece) => copy(&piece?),
                    Err(RecvError { .. }) => missed.push(unit),
                }
            }
            wanted = match (missed.first(), missed.last()) {
                (Some(first), Some(last)) => *first..*last + 1,
                _ => 0..0,
            };
        }
        Ok(())
    }

    /// Reads what the host cache has at once. Returns the units that are left.
    fn read_cached(&self, buf: &mut IoBufMut, offset: u64, slice: &Range<u64>) -> Range<u64> {
        let mut wanted = units(slice);
        let Some(cached) = &self.cached else { return wanted };
        let mut read = |unit: u64| {
            let base = unit * UNIT;
            let start = slice.start.max(base);
            let end = slice.end.min(base + UNIT);
            let target = (start - offset) as usize..(end - offset) as usize;
            cached.read_now(unit, &mut buf.as_mut_slice()[target], start - base)
        };
        while !wanted.is_empty() && read(wanted.start) {
            wanted.start += 1;
        }
        while !wanted.is_empty() && read(wanted.end - 1) {
            wanted.end -= 1;
        }
        wanted
    }
}

/// Copies what `piece` has of `slice` into `buf`, which begins at `offset`.
fn copy(buf: &mut IoBufMut, offset: u64, slice: &Range<u64>, piece: &Piece) {
    let start = slice.start.max(piece.start);
    let end = slice.end.min(piece.start + piece.bytes.len() as u64);
    let target = (start - offset) as usize..(end - offset) as usize;
    let source = (start - piece.start) as usize..(end - piece.start) as usize;
    buf.as_mut_slice()[target].copy_from_slice(&piece.bytes[source]);
}
