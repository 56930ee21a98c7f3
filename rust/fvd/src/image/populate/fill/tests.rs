use pollster::block_on;

use std::path::Path;

use super::*;
use crate::error::{Error, ErrorKind};
use crate::format::{BaseUpdate, LayoutOptions};
use crate::image::base_writeback::{in_memory, over};
use crate::image::space::store_error::StoreError;
use crate::image::{CreateOptions, OpenOptions, create, read_head};
use crate::source::{BaseSource, BoxFuture, RawSource, Run, WritableBase};
use crate::storage::{IoBufMut, MemoryStorage};

/// A base that cannot be read.
struct Broken(RawSource<MemoryStorage>);

impl BaseSource for Broken {
    fn path(&self) -> &Path {
        Path::new("broken")
    }

    fn format(&self) -> &'static str {
        "raw"
    }

    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read(&self, _: IoBufMut, _: u64) -> BoxFuture<'_, Result<IoBufMut>> {
        let error = Error::new(ErrorKind::Io, "It is broken").with_path(self.path());
        Box::pin(std::future::ready(Err(error)))
    }

    fn status(&self, offset: u64, len: u64) -> BoxFuture<'_, Result<Run>> {
        self.0.status(offset, len)
    }

    fn writable(&self) -> Option<&dyn WritableBase> {
        self.0.writable()
    }
}

#[test]
fn a_store_that_cannot_read_the_base_blames_the_base() {
    let sevens = MemoryStorage::from_bytes(&[7; 8192]);
    let base = block_on(RawSource::for_writing(sevens)).expect("memory does not fail");
    let image = over(Box::new(Broken(base)), BaseUpdate::Writenocache);
    let data = CopyData::Bytes(Bytes::from_static(&[7; 8192]));
    let error = block_on(image.store_copy(copy(0, data))).expect_err("read again");
    assert!(matches!(error, StoreError::Base(_)), "{error:?}");
}

const CHUNK: u64 = 8192;

/// An image over a base of sevens, on a full device of two storage chunks, one of which was discarded.
fn full() -> Image<MemoryStorage> {
    let (file, device) = (MemoryStorage::new(), MemoryStorage::device(2 * CHUNK));
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: 4 * CHUNK,
            base_size: Some(4 * CHUNK),
            block_size: Some(CHUNK),
            compact: true,
            chunk_size: Some(CHUNK),
            ..LayoutOptions::default()
        },
        base_img: "base".into(),
        data_file: "device".into(),
        ..CreateOptions::default()
    };
    let base = MemoryStorage::from_bytes(&vec![7; 4 * CHUNK as usize]);
    let options = (
        options,
        OpenOptions {
            writable: true,
            ..OpenOptions::default()
        },
    );
    let opened = async {
        create(&file, Some(&device), &options.0, None).await?;
        let base = Box::new(RawSource::new(base).await?);
        let image = Image::open(
            file.clone(),
            read_head(&file).await?,
            Some(device),
            Some(base),
            options.1,
        )
        .await?;
        image.write(vec![1; 2 * CHUNK as usize].into(), 0).await?;
        let full = image.store_copy(copy(2, CopyData::Unread)).await;
        assert!(matches!(full, Err(StoreError::OutOfChunks { .. })), "{full:?}");
        image.discard(0, CHUNK).await?;
        Ok::<_, Error>(image)
    };
    block_on(opened).expect("memory does not fail")
}

fn copy(block: u64, data: CopyData) -> BaseCopy {
    let blocks = Block::new(block).alone();
    BaseCopy { blocks, data }
}

#[test]
fn a_copy_uses_storage_that_was_discarded() {
    let image = full();
    let sevens = CopyData::Bytes(vec![7; CHUNK as usize].into());
    let stored = block_on(image.store_copy(copy(2, sevens))).expect("there is room");
    let all = 2 * CHUNK..3 * CHUNK;
    assert_eq!(stored, std::slice::from_ref(&all));
    let buf = block_on(image.read(IoBufMut::zeroed(3 * CHUNK as usize), 0)).expect("memory does not fail");
    let expected: Vec<u8> = [0, 1, 7].iter().flat_map(|fill| [*fill; CHUNK as usize]).collect();
    assert_eq!(buf.as_slice(), expected);
    assert!(
        block_on(image.store_copy(copy(3, CopyData::Unread))).is_err(),
        "full again"
    );
}

#[test]
fn a_part_of_a_block_uses_storage_that_was_discarded() {
    let image = full();
    let sevens = CopyData::Bytes(vec![7; 4096].into());
    let at = 2 * CHUNK;
    let first = block_on(image.store_part(Block::new(2), at..at + 4096, sevens.clone(), None));
    let Ok(Part::Stored(watch)) = first else {
        panic!("there is room");
    };
    let rest = at + 4096..at + CHUNK;
    let last = block_on(image.store_part(Block::new(2), rest, sevens, Some(watch)));
    assert!(matches!(last, Ok(Part::Stored(_))));
    let bitmap = image.metadata.bitmap().expect("there is a base");
    assert!(bitmap.all_local(&Block::new(2).alone()));
    let buf = block_on(image.read(IoBufMut::zeroed(CHUNK as usize), at)).expect("memory does not fail");
    assert_eq!(buf.as_slice(), [7; CHUNK as usize]);
}

#[test]
fn parts_of_a_block_read_at_different_times_are_not_combined() {
    for updates in BaseUpdate::ALL {
        let image = in_memory(updates);
        let old = CopyData::Bytes(Bytes::from_static(&[7; 4096]));
        block_on(image.store_part(Block::FIRST, 0..4096, old.clone(), None)).expect("memory does not fail");
        block_on(image.write(Bytes::from_static(&[9; 100]), 50)).expect("memory does not fail");
        block_on(image.store_part(Block::FIRST, 4096..8192, old, None)).expect("memory does not fail");
        let missing = block_on(image.next_in_base(0, 8192)).expect("memory does not fail");
        assert!(missing.is_none_or(|run| run.is_empty()), "all of it is local");
        let buf = block_on(image.read(IoBufMut::zeroed(8192), 0)).expect("memory does not fail");
        let mut expected = [7; 8192];
        expected[50..150].fill(9);
        assert_eq!(buf.as_slice(), expected, "{}", updates.name());
    }
}
