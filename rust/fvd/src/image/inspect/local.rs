//! Local: how many bytes of the base's region the next open of an image will find local.

use std::ops::Range;

use rangemap::RangeSet;

use crate::error::{Error, Result};
use crate::format::{Block, Record};
use crate::image::Head;
use crate::image::durability::recover::journal_reader::{JournalReader, blocks_of};
use crate::image::inspect::dump::BitmapRuns;
use crate::storage::Storage;

/// Most separate ranges of blocks that a journal may name: as many as a journal of the default size has
/// records. A file can have a journal of any length.
const MOST_RANGES: usize = 1 << 20;

/// Bytes of the base's region that are local: by the bitmap in place and, if the image was not closed, by its
/// journal. What only the memory of a process knows does not count. Nothing is written.
///
/// # Errors
///
/// [`Unsupported`](crate::ErrorKind::Unsupported) if the journal names more ranges than are kept in memory.
pub async fn local_bytes<S: Storage>(file: &S, head: &Head) -> Result<u64> {
    local_bytes_within(file, head, MOST_RANGES).await
}

async fn local_bytes_within<S: Storage>(file: &S, head: &Head, most_ranges: usize) -> Result<u64> {
    let (block_size, end) = (head.geometry.block_size, head.geometry.base_size);
    // The last block may reach beyond the base.
    let bytes = |blocks: &Range<Block>| {
        let at = |block: Block| block.start(block_size).min(end);
        at(blocks.end) - at(blocks.start)
    };
    let journalled = journalled_blocks(file, head, most_ranges).await?;
    let mut local: u64 = journalled.iter().map(bytes).sum();
    let mut runs = BitmapRuns::new(file, head, Block::FIRST);
    while let Some(run) = runs.next().await? {
        let run = run.first_block..run.first_block.plus(run.count);
        let twice = journalled.overlapping(run.clone());
        let twice: u64 = twice
            .map(|it| bytes(&(it.start.max(run.start)..it.end.min(run.end))))
            .sum();
        local += bytes(&run) - twice;
    }
    Ok(local)
}

/// The blocks that the next open takes from the journal into the bitmap.
async fn journalled_blocks<S: Storage>(file: &S, head: &Head, most_ranges: usize) -> Result<RangeSet<Block>> {
    let mut blocks = RangeSet::new();
    let Some(journal) = head.unclean_journal() else {
        return Ok(blocks);
    };
    let mut journal = JournalReader::new(file, journal);
    while let Some(records) = journal.next().await? {
        for (_, record) in records {
            if let Record::Bitmap(record) = record {
                let range = blocks_of(&record, &head.geometry);
                if !range.is_empty() {
                    blocks.insert(range);
                }
            }
        }
        if blocks.len() > most_ranges {
            let message = "The journal names more blocks than are looked at in memory: open the image for writing once";
            return Err(Error::unsupported(message).with_path(file.path()));
        }
    }
    Ok(blocks)
}

#[cfg(test)]
pub(in crate::image) mod tests {
    use bytes::Bytes;
    use pollster::block_on;

    use super::*;
    use crate::ErrorKind;
    use crate::format::LayoutOptions;
    use crate::image::{CreateOptions, Image, OpenOptions, create, read_head};
    use crate::source::RawSource;
    use crate::storage::MemoryStorage;

    pub(in crate::image) const BLOCK: u64 = 4096;
    /// The last block ends beyond it.
    pub(in crate::image) const BASE: u64 = 100 * BLOCK - 512;

    pub(in crate::image) fn empty() -> MemoryStorage {
        let file = MemoryStorage::new();
        let options = CreateOptions {
            layout: LayoutOptions {
                virtual_size: 128 * BLOCK,
                base_size: Some(BASE),
                block_size: Some(BLOCK),
                journal_size: Some(8192),
                ..LayoutOptions::default()
            },
            base_img: "base".into(),
            ..CreateOptions::default()
        };
        block_on(create(&file, None, &options, None)).expect("the options are sound");
        file
    }

    pub(in crate::image) fn open(file: &MemoryStorage) -> Image<MemoryStorage> {
        let base = MemoryStorage::from_bytes(&vec![7; BASE as usize]);
        let options = OpenOptions {
            writable: true,
            ..OpenOptions::default()
        };
        let open = async {
            let base = RawSource::new(base).await?;
            Image::open(
                file.clone(),
                read_head(file).await?,
                None,
                Some(Box::new(base)),
                options,
            )
            .await
        };
        block_on(open).expect("a sound image")
    }

    pub(in crate::image) fn write(image: &Image<MemoryStorage>, blocks: Range<u64>) {
        let bytes = vec![1; ((blocks.end - blocks.start) * BLOCK) as usize];
        block_on(image.write(Bytes::from(bytes), blocks.start * BLOCK)).expect("memory does not fail");
        block_on(image.flush()).expect("memory does not fail");
    }

    pub(in crate::image) fn local(file: &MemoryStorage) -> u64 {
        let head = block_on(read_head(file)).expect("a sound image");
        block_on(local_bytes(file, &head)).expect("a short journal")
    }

    #[test]
    fn blocks_that_only_the_journal_names_count_once() {
        let file = empty();
        assert_eq!(local(&file), 0);
        let image = open(&file);
        write(&image, 10..20);
        block_on(image.close()).expect("memory does not fail");
        assert_eq!(local(&file), 10 * BLOCK);
        // Over what is in place, next to it, apart from it, and at the end of the base.
        let image = open(&file);
        for blocks in [18..25, 25..26, 50..51, 50..51, 99..100] {
            write(&image, blocks);
        }
        drop(image);
        let before = block_on(read_head(&file)).expect("a sound image").header;
        assert!(!before.clean_shutdown);
        let expected = (16 + 1 + 1) * BLOCK - 512;
        assert_eq!(local(&file), expected);
        block_on(open(&file).close()).expect("memory does not fail");
        assert_eq!(local(&file), expected, "as the next open finds it");
    }

    #[test]
    fn a_journal_with_too_many_ranges_is_refused_with_advice() {
        let file = empty();
        let image = open(&file);
        for block in [1, 20, 40] {
            write(&image, block..block + 1);
        }
        drop(image);
        let head = block_on(read_head(&file)).expect("a sound image");
        assert_eq!(
            block_on(local_bytes_within(&file, &head, 3)).expect("just as many"),
            3 * BLOCK
        );
        let error = block_on(local_bytes_within(&file, &head, 2)).expect_err("one too many");
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("open the image for writing"), "{error}");
    }
}
