//! snp.
fn main() {}
