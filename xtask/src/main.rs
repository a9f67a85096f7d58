//! Developer commands of snpkit.
fn main() {}
