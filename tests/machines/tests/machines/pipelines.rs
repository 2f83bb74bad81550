//! What the compiler makes of `pipelines/`.

include!(concat!(env!("OUT_DIR"), "/pipelines.rs"));
