//! The compiled part of `fvd.aio`: the operations of `fvd.Image`, for asyncio.

mod answer;
mod completions;
mod image;
mod open;
mod order;
mod ready;

pub(crate) use image::{AsyncImage, open_async};
pub(crate) use open::{AsyncHandle, Engine};
