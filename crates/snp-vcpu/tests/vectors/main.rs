//! Vector instructions and the XSAVE family.
#![cfg(target_arch = "x86_64")]

mod areas;
mod compare;
mod conditions;
mod host;
mod machine;
