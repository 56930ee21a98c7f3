//! The operations on a broken image, and what must hold for any image.

use bytes::Bytes;
use fastrand::Rng;
use fvd::format::{Block, Value};
use fvd::image::amend::{Changes, amend};
use fvd::image::check::{FindingKind, Repair, Report, check};
use fvd::image::dump::{BitmapRuns, JournalSectors, TableRuns};
use fvd::image::info::info;
use fvd::image::{CacheMode, Head, Image, OpenOptions, read_head};
use fvd::storage::{IoBufMut, Storage as _};
use fvd::{ErrorKind, Result};
use pollster::block_on;

use super::disk::Disk;
use super::sample::{Sample, raw};

/// Disks up to this size are read as a whole and compared.
const READ_WHOLE: u64 = 1 << 20;
/// The most items of a dump, and pieces of a map, that are read.
const ITEMS: usize = 2000;
/// A table may name one storage chunk many times. A repair that gives each chunk its own storage takes too
/// long for this test.
const SHARED: u64 = 1000;

/// The most entries of a table that may have to be written.
const ENTRIES: u64 = 1 << 20;

/// An image on disks.
struct Subject {
    file: Disk,
    /// In case the header names a data file.
    data: Disk,
    base: Vec<u8>,
}

impl Subject {
    fn head(&self) -> Result<Head> {
        block_on(read_head(&self.file))
    }

    fn data(&self, head: &Head) -> Option<Disk> {
        (!head.header.data_file.is_empty()).then(|| self.data.clone())
    }

    fn open(&self, options: OpenOptions) -> Result<Image<Disk>> {
        let head = self.head()?;
        let data = self.data(&head);
        let base = head.needs_base().then(|| raw(&self.base));
        block_on(Image::open(self.file.clone(), head, data, base, options))
    }

    fn check(&self, head: &Head, repair: Repair) -> Result<Report> {
        block_on(check(&self.file, self.data(head).as_ref(), repair))
    }

    fn changes(&self) -> u64 {
        self.file.changes() + self.data.changes()
    }

    /// What a guest sees, if the disk is small and can be read.
    fn content(&self) -> Option<Vec<u8>> {
        let image = self.open(OpenOptions::default()).ok()?;
        read_whole(&image)
    }
}

fn read_whole(image: &Image<Disk>) -> Option<Vec<u8>> {
    if image.size() > READ_WHOLE {
        return None;
    }
    let buf = IoBufMut::zeroed(image.size() as usize);
    Some(block_on(image.read(buf, 0)).ok()?.as_slice().to_vec())
}

/// Runs all operations on an image of which only the bytes are known.
pub(crate) fn treat(rng: &mut Rng, sample: &Sample, len: u64) {
    let is_device = rng.u32(..16) == 0;
    let subject = Subject {
        file: Disk::new(&sample.file, is_device),
        data: Disk::new(&sample.data, is_device && rng.bool()),
        base: sample.base.clone(),
    };
    if !is_device && len > sample.file.len() as u64 {
        block_on(subject.file.set_len(len)).expect("memory");
    }
    let before = subject.changes();
    let head = match (subject.head(), block_on(info(&subject.file))) {
        (Ok(head), Ok(_)) => head,
        (Err(error), Err(_)) => return assert_clear(&error),
        (head, info) => panic!("the header is {head:?}, and yet {info:?}"),
    };
    dump(&subject, &head);
    look(rng, &subject);
    let report = subject.check(&head, Repair::None);
    assert_eq!(subject.changes(), before, "an open for reading has written");
    let report = match report {
        Ok(report) => report,
        Err(error) => return assert_clear(&error),
    };
    match rng.u32(..6) {
        0 | 1 => write(rng, &subject, &head, &report),
        2 | 3 => resize(rng, &subject, &head, &report),
        4 => repair(rng, &subject, &head, &report, Repair::Leaks),
        _ => repair(rng, &subject, &head, &report, Repair::All),
    }
}

/// Checks that an error has an expected kind and a reason.
fn assert_clear(error: &fvd::Error) {
    assert!(!error.reason().is_empty(), "{error:?}");
    let expected = [
        ErrorKind::InvalidImage,
        ErrorKind::Unsupported,
        ErrorKind::NoSpace,
        ErrorKind::InvalidArgument,
    ];
    assert!(base_is_short(error) || expected.contains(&error.kind()), "{error:?}");
}

/// The header says that the base was longer. The missing part cannot be read.
fn base_is_short(error: &fvd::Error) -> bool {
    error.kind() == ErrorKind::Io && error.reason().starts_with("The backing file has")
}

fn dump(subject: &Subject, head: &Head) {
    assert_eq!(head.header.fields().len(), 41);
    let file = &subject.file;
    let mut table = TableRuns::new(file, head, 0);
    let mut bitmap = BitmapRuns::new(file, head, Block::FIRST);
    let mut journal = JournalSectors::new(file, head);
    for _ in 0..ITEMS {
        let table = block_on(table.next()).expect("memory");
        let bitmap = block_on(bitmap.next()).expect("memory");
        let sector = block_on(journal.next()).expect("memory");
        if let Some(run) = table {
            assert!(run.first_chunk + run.count <= head.geometry.chunks);
        }
        if let Some(run) = bitmap {
            let end = run.first_block.plus(run.count);
            assert!(run.count > 0 && end <= Block::new(head.geometry.blocks));
        }
        if table.is_none() && bitmap.is_none() && sector.is_none() {
            break;
        }
    }
}

/// Opens the image for reading, and uses it.
fn look(rng: &mut Rng, subject: &Subject) {
    let image = match subject.open(OpenOptions::default()) {
        Ok(image) => image,
        Err(error) => return assert_clear(&error),
    };
    for _ in 0..4 {
        let (offset, len) = range(rng, image.size());
        if let Err(error) = block_on(image.read(IoBufMut::zeroed(len as usize), offset)) {
            assert_clear(&error);
        }
    }
    let beyond = block_on(image.read(IoBufMut::zeroed(1), image.size()));
    assert_eq!(beyond.expect_err("there is nothing").kind(), ErrorKind::InvalidArgument);
    let mut at = 0;
    for _ in 0..ITEMS {
        if at >= image.size() {
            break;
        }
        match block_on(image.block_status(at, image.size() - at)) {
            Ok(run) => {
                assert!(run.len > 0 && run.len <= image.size() - at);
                at += run.len;
            }
            Err(error) => return assert_clear(&error),
        }
    }
    block_on(image.write(Bytes::from_static(b"x"), 0)).expect_err("opened for reading");
    block_on(image.close()).expect("nothing to do");
}

/// A range of the disk, often at an edge.
fn range(rng: &mut Rng, size: u64) -> (u64, u64) {
    let most = 1 << rng.u32(..17);
    let len = rng.u64(..most).min(size);
    let last = size - len;
    let offset = match rng.u32(..6) {
        0 => 0,
        1 => last,
        2 => last.min(1 << rng.u32(..63)),
        3 => rng.u64(..=last),
        _ => rng.u64(..=last.min(200 << 10)),
    };
    (offset, len)
}

/// Opens the image for writing, uses it, closes it, and checks the result.
fn write(rng: &mut Rng, subject: &Subject, head: &Head, before: &Report) {
    // Where chunks share storage, a write to one changes the other.
    let mut model = subject.content().filter(|_| before.corruptions == 0);
    let first = block_on(JournalSectors::new(&subject.file, head).next());
    let has_records = first.expect("memory").is_some();
    let cache = [CacheMode::Writeback, CacheMode::Writethrough, CacheMode::Unsafe][rng.usize(..3)];
    let image = match subject.open(OpenOptions {
        writable: true,
        cache,
        ..OpenOptions::default()
    }) {
        Ok(image) => image,
        Err(error) => return assert_clear(&error),
    };
    for _ in 0..rng.usize(1..8) {
        if let Err(error) = request(rng, &image, model.as_deref_mut()) {
            assert_clear(&error);
            model = None;
        }
    }
    assert!(model.is_none() || model == read_whole(&image), "not what was written");
    // Stale records are replayed after a crash. Those of fvd say nothing new, but invented ones do.
    let dies = cache != CacheMode::Unsafe && !has_records && rng.u32(..3) == 0;
    let end = if dies {
        block_on(image.flush())
    } else {
        block_on(image.close())
    };
    drop(image);
    if let Err(error) = end {
        return assert_clear(&error);
    }
    assert!(
        model.is_none() || model == subject.content(),
        "not what was made durable"
    );
    let after = subject.check(head, Repair::None).expect("could be checked before");
    // An invented journal may put so many zeros into the table that it counts as lost. Then the first entry
    // that names storage chunk 0 counts too.
    let zeros = u64::from(after.counts.contains_key(&FindingKind::Lost));
    assert!(after.corruptions <= before.corruptions + zeros, "{:?}", after.findings);
}

/// Changes the size, and checks the result.
fn resize(rng: &mut Rng, subject: &Subject, head: &Head, before: &Report) {
    let table = head.geometry.chunks;
    let shared = before.counts.get(&FindingKind::Shared).copied().unwrap_or(0);
    if table > ENTRIES || shared > SHARED {
        return;
    }
    let old = subject.content().filter(|_| before.corruptions == 0);
    let size = head.geometry.virtual_size;
    let step = 512 * rng.u64(..200);
    let wanted = match rng.u32(..3) {
        0 => rng.u64(..READ_WHOLE),
        1 => size.saturating_add(step),
        _ => size.saturating_sub(step),
    };
    let wanted = wanted.min(i64::MAX.unsigned_abs());
    let mut changes = Changes::new(true);
    if let Err(error) = changes.set("size", Value::Int(wanted.cast_signed())) {
        return assert_clear(&error);
    }
    let header = match block_on(amend(&subject.file, subject.data(head).as_ref(), &changes)) {
        Ok(header) => header,
        Err(error) => return assert_clear(&error),
    };
    assert_eq!(header.virtual_disk_size, wanted.next_multiple_of(512));
    let head = subject.head().expect("it was valid");
    assert_eq!((&head.header, head.interrupted), (&header, false));
    let after = subject.check(&head, Repair::None).expect("could be checked before");
    assert!(after.corruptions <= before.corruptions, "{:?}", after.findings);
    if let (Some(mut model), Some(content)) = (old, subject.content()) {
        model.resize(content.len(), 0);
        assert!(model == content, "the guest sees something else");
    }
}

/// One request to the image, and to the model.
fn request(rng: &mut Rng, image: &Image<Disk>, model: Option<&mut [u8]>) -> Result<()> {
    let (offset, len) = match rng.u32(..8) {
        0 => return block_on(image.flush()),
        1 => (0, image.size()),
        _ => range(rng, image.size()),
    };
    let zeros = len > READ_WHOLE || rng.u32(..4) == 0;
    let byte = if zeros { 0 } else { rng.u8(..) };
    if let Some(model) = model {
        model[offset as usize..(offset + len) as usize].fill(byte);
    }
    if zeros {
        block_on(image.write_zeroes(offset, len))
    } else {
        block_on(image.write(Bytes::from(vec![byte; len as usize]), offset))
    }
}

/// Repairs the image, and checks the result.
fn repair(rng: &mut Rng, subject: &Subject, head: &Head, before: &Report, how: Repair) {
    let content = subject.content();
    if before
        .counts
        .get(&FindingKind::Shared)
        .is_some_and(|count| *count > SHARED)
    {
        return;
    }
    // A device that ends within a storage chunk in use cannot be repaired.
    let data = subject.data(head).unwrap_or_else(|| subject.file.clone());
    let extensible = data.can_resize() || !before.counts.contains_key(&FindingKind::PartlyBeyondEnd);
    let report = match subject.check(head, how) {
        Ok(report) => report,
        Err(error) => return assert_clear(&error),
    };
    let changes = subject.changes();
    let numbers = |report: &Report| (report.corruptions, report.leaks, report.check_errors, report.suspect);
    let again = subject.check(head, how).expect("it could be checked before");
    assert_eq!(numbers(&again), numbers(&report), "{report:?}\n{again:?}");
    if extensible {
        assert_eq!(subject.changes(), changes, "something was left by {how:?}: {report:?}");
    }
    if let Some(content) = content {
        let after = subject.content().expect("it could be read before");
        // A chunk whose entry is lost may have read as storage chunk 0, if the journal has an entry next to
        // it.
        let cleared = how == Repair::All && before.counts.contains_key(&FindingKind::Lost);
        let same = |(old, new): (&u8, &u8)| old == new || (cleared && *new == 0);
        let all_same = content.len() == after.len() && content.iter().zip(&after).all(same);
        assert!(all_same, "the guest sees something else");
    }
    if how == Repair::All && extensible {
        assert_eq!(numbers(&again), (0, 0, 0, false), "{report:?}\n{again:?}");
        use_again(rng, subject);
    }
}

/// Checks that a repaired image can be used.
fn use_again(rng: &mut Rng, subject: &Subject) {
    let options = OpenOptions {
        writable: true,
        ..OpenOptions::default()
    };
    let image = subject.open(options).expect("a sound image");
    let mut model = read_whole(&image);
    for _ in 0..3 {
        match request(rng, &image, model.as_deref_mut()) {
            Ok(()) => {}
            // The only errors that a sound image may give.
            Err(error) if error.kind() == ErrorKind::NoSpace || base_is_short(&error) => return,
            Err(error) => panic!("{error:?}"),
        }
    }
    block_on(image.close()).expect("memory");
    drop(image);
    assert!(model.is_none() || model == subject.content(), "not what was written");
}

/// Checks a sample before any mutation: it must be flawless.
pub(crate) fn assert_sound(sample: &Sample) {
    let subject = Subject {
        file: Disk::new(&sample.file, false),
        data: Disk::new(&sample.data, false),
        base: sample.base.clone(),
    };
    let head = subject.head().expect("valid");
    let report = subject.check(&head, Repair::None).expect("can be checked");
    assert_eq!(
        (report.corruptions, report.check_errors),
        (0, 0),
        "{:?}",
        report.findings
    );
    assert!(
        subject
            .content()
            .is_some_and(|content| content.iter().any(|byte| *byte != 0))
    );
}
