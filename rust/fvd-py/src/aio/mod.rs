//! The compiled part of `fvd.aio`: the operations of `fvd.Image`, for asyncio.

mod answer;
mod image;
mod open;
mod order;
mod ready;
mod reply;

pub(crate) use image::{AsyncImage, open_async};
pub(crate) use open::{AsyncOpen, Engine};
