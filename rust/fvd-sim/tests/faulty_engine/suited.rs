//! For each fault: the images that can show it, and the mix of requests that does.

use fvd::format::BaseUpdate;
use fvd::image::{CacheMode, DetectZeroes};
use fvd::mutation::Mutation;
use fvd_sim::fault::{Errno, Hangs, Target};
use fvd_sim::medium::SECTOR;
use fvd_sim::shape::Shape;
use fvd_sim::sim::Script;
use fvd_sim::sim::script::{End, Errors, Phase, Session};
use fvd_sim::workload::Request;

/// Whether an engine with this fault can fail with an image of this shape. Other shapes are skipped.
pub(crate) fn concerns(mutation: Mutation, shape: &Shape) -> bool {
    use Mutation as M;
    let (compact, base, journal) = (shape.compact, shape.base_size.is_some(), shape.journal_size >= 0);
    let copies = shape.copy_on_read || shape.prefetch;
    match mutation {
        // A block must touch more chunks than one journal sector has room for.
        M::JournalInOneGo => compact && base && journal && shape.block_size > 121 * shape.chunk_size,
        M::JournalOneChunk | M::KeepJournal | M::CommitFreed => compact && journal,
        M::BelieveCache => compact || base,
        M::HideFailedWrite
        | M::KeepTail
        | M::BitmapBeforeTable
        | M::RecoveryIgnoresTable
        | M::ReuseReferenced
        | M::ReuseInFlight
        | M::ReuseUnzeroed
        | M::PublishDiscarded => compact,
        M::ReadUncounted | M::WriteUncounted | M::ZeroUncounted | M::DiscardUncounted => {
            compact && shape.virtual_size >= 4 * shape.chunk_size
        }
        // A small journal fills up several times in a session.
        M::EraseThisLap => compact && shape.journal_size > 0,
        M::LastPageMissed => base && !shape.metadata_edges().is_empty(),
        // A file always has room.
        M::RoomUnshared => compact && shape.device,
        // A block must have more than one part.
        M::PartsDisturbed => shape.prefetch && !shape.writes_base() && shape.block_size >= 1 << 19,
        M::DiscardUnlocked => compact && base,
        M::CopyOverwrites | M::ForgetUnloggedBlock => copies,
        M::ForgetUnloggedChunk => copies && compact && journal,
        M::RecordedTooEarly => copies && journal,
        M::CompleteUnseen | M::CompleteFirst => shape.prefetch,
        M::PublishBeforeData | M::EdgesBeforeLock => base,
        // In other modes the image has the data anyway.
        M::AckBeforeBase | M::PartOfSector => shape.writes_base() && shape.updates != BaseUpdate::Writeback,
        M::ForgetResync | M::ForgetDirty | M::BaseUnsynced | M::UpdateUnrecorded | M::UpdateUnlocked => {
            shape.writes_base()
        }
        M::LeftoversUnsynced | M::BaseCloseSwallowed | M::ResyncBelievesCache => shape.writes_base(),
        // In other modes what was written to the base is local in the image, too, and is written again.
        M::BaseNotDropped => shape.updates == BaseUpdate::Writenocache,
        // The base must end within a sector.
        M::BaseBeginSwallowed => {
            let size = shape.base_size.unwrap_or(0);
            shape.writes_base() && size < shape.virtual_size && !size.is_multiple_of(SECTOR)
        }
        M::SeparateMarkUnsynced | M::EmptyCheckpointUnsynced => shape.data_file && journal,
        M::UnsafeUnmarked | M::RecoveryMarkUnsynced => journal,
        M::OutstandingForEver => shape.copy_on_read,
        M::StaleCopy => copies && shape.updates == BaseUpdate::Writenocache,
        _ => true,
    }
}

/// Adapts the script, where the usual mix of requests hardly ever shows the fault.
pub(crate) fn suited(mutation: Mutation, mut script: Script) -> Script {
    for (number, session) in script.sessions.iter_mut().enumerate() {
        match mutation {
            // Many commits that reserve chunks and go to the journal, because no chunk was freed. With even
            // seeds the power cut waits until metadata is being written.
            Mutation::JournalInOneGo => {
                session.seed &= !1;
                session.errors = None;
                let others = session.steps.iter_mut().filter(|step| !is_write(&step.request));
                others.for_each(|step| step.request = Request::Flush);
            }
            Mutation::PartOfSector => write_parts(session, script.shape.virtual_size),
            Mutation::PartsDisturbed => read_what_was_cancelled(session, script.shape.virtual_size),
            Mutation::ReadUncounted => {
                use_during_reuse(session, &script.shape, |offset, len, _| Request::Read { offset, len });
            }
            Mutation::WriteUncounted => {
                use_during_reuse(session, &script.shape, |offset, len, number| Request::Write {
                    offset,
                    len,
                    content: !number,
                });
            }
            Mutation::ZeroUncounted => {
                hold_zeroing_back(session);
                use_during_reuse(session, &script.shape, |offset, len, _| Request::Zero {
                    offset,
                    len,
                    no_hole: true,
                });
            }
            Mutation::DiscardUncounted => {
                hold_zeroing_back(session);
                let chunk = script.shape.chunk_size;
                let size = script.shape.virtual_size;
                use_during_reuse(session, &script.shape, |offset, _, _| Request::Discard {
                    offset,
                    len: chunk.min(size - offset),
                });
            }
            Mutation::SeparateMarkUnsynced => cut_the_first_commit(session, script.shape.virtual_size),
            Mutation::BeginSyncSwallowed => fail_first_syncs(session),
            Mutation::BaseCloseSwallowed => fail_last_syncs(session),
            Mutation::BaseNotDropped | Mutation::ResyncBelievesCache => fail_every_second_base(session, number),
            Mutation::BaseBeginSwallowed => write_the_end_of_the_base(session, &script.shape),
            _ => {}
        }
    }
    if mutation == Mutation::JournalInOneGo {
        script.shape.detect_zeroes = DetectZeroes::Off;
    }
    script
}

/// Writes sectors and then parts of them, while some operations of the base fail.
fn write_parts(session: &mut Session, size: u64) {
    session.errors = Some(Errors {
        one_in: 6,
        target: Target::Base,
        error: Errno::Io,
        phase: Phase::Whole,
    });
    pair(session, size, |first, number| Request::Write {
        offset: first + 100,
        len: 200,
        content: number,
    });
}

/// Cancels writes, and reads what they left.
fn read_what_was_cancelled(session: &mut Session, size: u64) {
    session.errors = None;
    session.space = None;
    // A read that overlaps a write in time may see the old or the new content.
    session.depth = 1;
    pair(session, size, |offset, _| Request::Read { offset, len: 1024 });
    let mut after = session.seed % 8;
    for steps in session.steps.chunks_exact_mut(2) {
        after = (after + 3) % 8;
        steps[0].cancel = Some(1 + after);
        steps[1].cancel = None;
    }
}

/// Turns the requests into pairs: a write of two sectors, and `second` at the offset of the first.
fn pair(session: &mut Session, size: u64, second: impl Fn(u64, u64) -> Request) {
    let mut number = session.seed;
    for steps in session.steps.chunks_exact_mut(2) {
        let offset = match steps[0].request {
            Request::Read { offset, .. } => offset,
            ref request => request.written().map_or(0, |(offset, _)| offset),
        };
        let offset = offset.min(size - 1024) / 512 * 512;
        number = number.wrapping_add(1);
        steps[0].request = Request::Write {
            offset,
            len: 1024,
            content: number,
        };
        steps[1].request = second(offset, !number);
    }
}

/// Uses a few chunks while they are discarded and other chunks are written.
fn use_during_reuse(session: &mut Session, shape: &Shape, using: impl Fn(u64, u64, u64) -> Request) {
    session.errors = None;
    session.depth = session.depth.max(16);
    let chunks = (shape.virtual_size / shape.chunk_size).max(1);
    let len = shape.chunk_size.min(64 << 10);
    for (number, step) in (0_u64..).zip(&mut session.steps) {
        step.cancel = None;
        let offset = number / 4 % chunks * shape.chunk_size;
        let len = len.min(shape.virtual_size - offset);
        let other = (number / 4 + chunks / 2) % chunks * shape.chunk_size;
        let other_len = len.min(shape.virtual_size - other);
        step.request = match number % 4 {
            0 => using(offset, len, number),
            1 => Request::Discard {
                offset,
                len: shape.chunk_size.min(shape.virtual_size - offset),
            },
            2 => Request::Flush,
            _ => Request::Write {
                offset: other,
                len: other_len,
                content: number,
            },
        };
    }
}

/// Holds one zeroing in three back while other operations pass.
fn hold_zeroing_back(session: &mut Session) {
    session.hangs = Some(Hangs {
        one_in: 3,
        target: Target::Zeroes,
    });
}

/// Flushes after each write, and cuts the power early, while metadata is being written.
fn cut_the_first_commit(session: &mut Session, size: u64) {
    session.errors = None;
    session.space = None;
    session.cache = CacheMode::Writeback;
    session.depth = 1;
    session.end = End::Cut(1 + session.seed / 2 % 40);
    session.seed &= !1;
    for (step, number) in session.steps.iter_mut().zip(session.seed..) {
        step.cancel = None;
        step.request = if number.is_multiple_of(2) {
            Request::Write {
                offset: number.wrapping_mul(0x9E37_79B9) % (size / SECTOR) * SECTOR,
                len: SECTOR,
                content: number,
            }
        } else {
            Request::Flush
        };
    }
}

/// Processes die, syncs fail in the next open, and the power is cut after it.
fn fail_first_syncs(session: &mut Session) {
    session.errors = Some(Errors {
        one_in: 2,
        target: Target::Syncs,
        error: Errno::Io,
        phase: Phase::Open,
    });
    session.space = None;
    session.cache = CacheMode::Writeback;
    let after = 1 + session.seed % 60;
    session.end = if session.seed.is_multiple_of(2) {
        End::Cut(after)
    } else {
        End::Kill(after)
    };
}

/// Syncs fail in the close.
fn fail_last_syncs(session: &mut Session) {
    session.errors = Some(Errors {
        one_in: 3,
        target: Target::Syncs,
        error: Errno::Io,
        phase: Phase::Close,
    });
    session.space = None;
    session.cache = CacheMode::Writeback;
    session.end = End::Close;
}

/// In every second session some syncs fail, and the process dies. The session between two of them does little
/// and closes the image.
fn fail_every_second_base(session: &mut Session, number: usize) {
    session.space = None;
    session.cache = CacheMode::Writeback;
    if number.is_multiple_of(2) {
        session.errors = Some(Errors {
            one_in: 3,
            target: Target::Syncs,
            error: Errno::Io,
            phase: Phase::Whole,
        });
        session.end = End::Kill(20 + session.seed % 60);
    } else {
        session.errors = None;
        session.end = End::Close;
        session.steps.truncate(3);
    }
}

/// Writes the sector in which the base ends, while some syncs fail. Then the power is cut.
fn write_the_end_of_the_base(session: &mut Session, shape: &Shape) {
    session.errors = Some(Errors {
        one_in: 3,
        target: Target::Syncs,
        error: Errno::Io,
        phase: Phase::Whole,
    });
    session.cache = CacheMode::Writeback;
    session.end = End::Cut(1 + session.seed % 40);
    for (step, number) in session.steps.iter_mut().step_by(2).zip(session.seed..) {
        step.request = Request::Write {
            offset: shape.base_img_size().saturating_sub(SECTOR),
            len: SECTOR,
            content: number,
        };
    }
}

fn is_write(request: &Request) -> bool {
    matches!(request, Request::Write { .. } | Request::WriteFua { .. })
}
