//! A part of the engine, in the same modules as there, and the models that use it.

mod metadata;
pub mod models;
mod space;
