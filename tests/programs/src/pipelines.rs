//! What the compiler makes of the programs.

include!(concat!(env!("OUT_DIR"), "/pipelines.rs"));
