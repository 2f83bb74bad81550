mod services;
mod text;
fn main() {}
