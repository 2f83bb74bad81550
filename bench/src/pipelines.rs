//! Generated from `pipelines/` by the build script.

include!(concat!(env!("OUT_DIR"), "/pipelines.rs"));
