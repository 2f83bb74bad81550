//! What `build.rs` has made of `pipelines/*.yaml`: types, contracts and state machines. `crux
//! expand order` prints it.

include!(concat!(env!("OUT_DIR"), "/pipelines.rs"));
