//! Random instruction sequences, run by this machine's processor and by the model of `snp-vcpu`, must end alike.
//!
//! A seed gives a [`case::Case`]: a short sequence of instructions, registers, and memory. It runs natively in a child process
//! ([`native`]) and in the model ([`model`]). Registers, flags, memory, and the exception that ends a sequence must be
//! equal; only flags that the manual leaves undefined are not compared ([`undefined`]).
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

pub mod case;
pub mod compare;
pub mod generate;
pub mod layout;
pub mod model;
pub mod native;
pub mod random;
pub mod run;
pub mod undefined;
