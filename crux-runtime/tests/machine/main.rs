//! The machine's words, driven through a small workflow as the engine would drive it.

mod driver;
mod life;
mod order;
