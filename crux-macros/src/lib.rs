//! `#[workflow]`, which ties a step struct to its step type.

use proc_macro::TokenStream;

/// `#[workflow(step = send_notification)]` on a step struct.
#[proc_macro_attribute]
pub fn workflow(_: TokenStream, item: TokenStream) -> TokenStream {
    item
}
