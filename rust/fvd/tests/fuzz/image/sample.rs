//! Small valid images of every kind, to be broken.

use bytes::Bytes;
use fastrand::Rng;
use fvd::format::LayoutOptions;
use fvd::image::{CreateOptions, Image, OpenOptions, create, read_head};
use fvd::source::{BaseSource, RawSource};
use fvd::storage::MemoryStorage;
use pollster::block_on;

/// The bytes of an image, of its data file and of its base.
#[derive(Clone)]
pub(crate) struct Sample {
    pub(crate) file: Vec<u8>,
    pub(crate) data: Vec<u8>,
    pub(crate) base: Vec<u8>,
}

/// All kinds, each once. Some were left open by a program that died.
pub(crate) fn samples() -> Vec<Sample> {
    let mut rng = Rng::with_seed(1);
    let mut samples = Vec::new();
    for kind in 0..16 {
        for end in [End::Closed, End::ClosedWithoutFlush, End::Open] {
            samples.push(sample(&mut rng, kind, end));
        }
    }
    samples
}

/// How the program that wrote the image ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// The journal has records that no longer count.
    Closed,
    /// The journal is empty.
    ClosedWithoutFlush,
    /// The journal counts. Without a journal, nothing shows that the image was left open.
    Open,
}

fn sample(rng: &mut Rng, kind: u32, end: End) -> Sample {
    let [compact, based, odd, separate] = [1, 2, 4, 8].map(|bit| kind & bit != 0);
    let base: Vec<u8> = (0..90_000).map(|_| rng.u8(..)).collect();
    let data = MemoryStorage::new();
    let file = MemoryStorage::new();
    let options = CreateOptions {
        layout: LayoutOptions {
            virtual_size: 160 << 10,
            base_size: based.then_some(base.len() as u64),
            block_size: Some(if odd { 2560 } else { 4096 }),
            compact,
            chunk_size: Some(if odd { 12288 } else { 4096 }),
            storage_grow_unit: Some(16384),
            journal_size: Some(if odd && end == End::Closed { -1 } else { 8192 }),
            prefetch_profile_size: based.then_some(4096),
        },
        base_img: if based { "base" } else { "" }.into(),
        generate_prefetch_profile: based,
        data_file: if separate { "data" } else { "" }.into(),
        ..CreateOptions::default()
    };
    let data_of = |sample: &MemoryStorage| separate.then(|| sample.clone());
    block_on(create(&file, data_of(&data).as_ref(), &options, None)).expect("a valid layout");
    let image = block_on(async {
        let head = read_head(&file).await?;
        let base = head.needs_base().then(|| raw(&base));
        let options = OpenOptions {
            writable: true,
            ..OpenOptions::default()
        };
        Image::open(file.clone(), head, data_of(&data), base, options).await
    });
    let image = image.expect("it was just created");
    for _ in 0..3 {
        for _ in 0..5 {
            let bytes: Vec<u8> = (0..rng.usize(1..6000)).map(|_| rng.u8(..)).collect();
            let offset = rng.u64(..image.size() - bytes.len() as u64);
            block_on(image.write(Bytes::from(bytes), offset)).expect("memory");
        }
        if end != End::ClosedWithoutFlush {
            block_on(image.flush()).expect("memory");
        }
    }
    if end != End::Open {
        block_on(image.close()).expect("memory");
    }
    Sample {
        file: file.to_vec(),
        data: data.to_vec(),
        base,
    }
}

/// A raw base with this content.
pub(crate) fn raw(bytes: &[u8]) -> Box<dyn BaseSource> {
    let source = block_on(RawSource::new(MemoryStorage::from_bytes(bytes)));
    Box::new(source.expect("memory"))
}
