//! Nothing: the pipelines are compiled in the tests, where nothing is public, so that rustc finds
//! what nobody uses, as it does in a binary.
