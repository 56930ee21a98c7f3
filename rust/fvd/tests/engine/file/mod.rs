//! Files: the contract of storage, locks, and which files an image may name.

mod async_file;
mod gate;
mod locks;
mod storage_contract;
