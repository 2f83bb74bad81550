//! What `build.rs` has made of `pipelines/*.yaml`.

include!(concat!(env!("OUT_DIR"), "/pipelines.rs"));
