//! Storage chunks that requests may know are not used again, and the last request wakes who waits for them
//! (I12).

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::thread;

use super::{check, check_three};
use crate::format::StorageChunk;
use crate::image::space::chunk_set::ChunkSet;
use crate::image::space::epochs::Epochs;
use crate::image::space::reuse::Reuse;

/// The owner of a storage chunk: the virtual chunk that all requests are about, or another one.
const OURS: u32 = 0;
const OTHER: u32 = 1;

/// A table with one entry, and its storage chunks. Storage chunk `n` is at first that of the `n`-th move.
#[derive(Default)]
struct Disk {
    epochs: Epochs,
    entry: AtomicU32,
    owners: [AtomicU32; 3],
}

impl Disk {
    /// A request: looks the entry up, and then uses the storage chunk.
    fn request(&self) {
        let pin = self.epochs.pin();
        let chunk = self.entry.load(Ordering::Acquire);
        let owner = self.owners[chunk as usize].load(Ordering::Relaxed);
        assert_eq!(owner, OURS, "storage chunk {chunk} was used again");
        drop(pin);
    }

    /// Moves the entry to storage chunk `to`, and uses again what is free.
    fn move_to(&self, freed: &mut Reuse, to: u32) {
        let mut unreferenced = ChunkSet::default();
        unreferenced.insert(StorageChunk::new(to - 1));
        self.entry.store(to, Ordering::Release);
        freed.add_unreferenced(unreferenced);
        self.reuse(freed);
    }

    fn reuse(&self, freed: &mut Reuse) {
        freed.collect(&self.epochs);
        while let Some(chunk) = freed.first_free() {
            freed.take(chunk);
            self.owners[chunk.index() as usize].store(OTHER, Ordering::Relaxed);
        }
    }
}

/// Two requests, one after the other, while the entry moves twice.
pub fn a_request_never_uses_a_chunk_that_is_used_again() {
    check(|| {
        let disk = Arc::new(Disk::default());
        let requests = {
            let disk = Arc::clone(&disk);
            thread::spawn(move || {
                disk.request();
                disk.request();
            })
        };
        let mut freed = Reuse::default();
        disk.move_to(&mut freed, 1);
        disk.move_to(&mut freed, 2);
        requests.join().expect("no panic");
        disk.reuse(&mut freed);
        assert!(!freed.is_waiting(), "without requests everything is free");
    });
}

/// Two requests at once, while the entry moves.
pub fn two_requests_at_once_never_use_a_chunk_that_is_used_again() {
    check_three(|| {
        let disk = Arc::new(Disk::default());
        let requests = [(); 2].map(|()| {
            let disk = Arc::clone(&disk);
            thread::spawn(move || disk.request())
        });
        let mut freed = Reuse::default();
        disk.move_to(&mut freed, 1);
        disk.reuse(&mut freed);
        for request in requests {
            request.join().expect("no panic");
        }
    });
}

/// A task waits for storage, as a write does that finds no room. If its wake-up is lost, all threads wait.
pub fn the_last_request_wakes_the_task_that_waits_for_storage() {
    check_three(|| {
        let disk = Arc::new(Disk::default());
        let requests = [(); 2].map(|()| {
            let disk = Arc::clone(&disk);
            thread::spawn(move || disk.request())
        });
        let mut freed = Reuse::default();
        disk.move_to(&mut freed, 1);
        let waiting = disk.epochs.wait();
        loop {
            let ended = waiting.listen();
            disk.reuse(&mut freed);
            if !freed.is_waiting() {
                break;
            }
            ended.wait();
        }
        drop(waiting);
        for request in requests {
            request.join().expect("no panic");
        }
    });
}
