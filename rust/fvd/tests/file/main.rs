//! Files: the contract of storage, locks, and which names are opened.

mod async_file;
mod gate;
mod locks;
mod storage_contract;
