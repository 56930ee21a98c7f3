//! The compiled half of `fvd.aio`: what `fvd.Image` does, for asyncio.

mod answer;
mod image;
mod open;
mod order;

pub(crate) use image::{AsyncImage, open_async};
pub(crate) use open::{AsyncOpen, Engine};
