//! How the `snp` program is linked.
//!
//! A measurement takes about as long as starting a process, and a third of starting one is loading shared libraries. On
//! GNU/Linux the unwinder is linked into the program, as GCC's `-static-libgcc` does: one library less to find, map, relocate
//! and look symbols up in. (rustc names `-lgcc_s` itself, so that the option would come too late; where the static library
//! has defined the symbols, the shared one is not needed and not loaded.)
//!
//! The program itself is linked to a fixed address, as Debian's Python is: otherwise the loader adds where it lies to 21 000 of
//! its pointers and takes a copy of each of the hundred pages that they are in, which is a quarter of starting it (measured:
//! 202 page faults and 105). Libraries, heap and stack stay where chance puts them; the code is memory-safe but for the rooms
//! that ARCHITECTURE.md names.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = |key| env::var(key).unwrap_or_default();
    if target("CARGO_CFG_TARGET_OS") == "linux" && target("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo::rustc-link-lib=static:-bundle=gcc_eh");
        println!("cargo::rustc-link-arg-bin=snp=-no-pie");
    }
}
