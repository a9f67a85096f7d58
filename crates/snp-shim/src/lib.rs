//! The library that `snp exec` preloads into a program: it stands in for /dev/kvm and /dev/sev.
//!
//! The program's calls of open, ioctl, close and their kin come here first (`hooks`). Those that concern a device or
//! something that a device handed out are answered by `snp-softkvm`; all others go on to the C library untouched. A
//! descriptor that the program gets is a real one, of a memfd, so that dup, fstat, poll and the mapping of a vCPU work as
//! they are; the table (`table`) says which object it stands for.
//!
//! Nothing happens until the program opens a device. Then its CPUID instructions are replaced (`cpuid`), because VMMs ask
//! the processor itself where the C-bit is.
//!
//! With a transcript (`recorder`), every ioctl that shapes a launch is written down. For `snp record` that is all that is done:
//! no file is replaced, and the real devices answer.
//!
//! With a guest (`in_guest`), the program runs as if in one: it finds /dev/sev-guest and configfs-tsm, and `snp exec` answers.
//!
//! # Unsafety
//! A preloaded library speaks C with the program and changes its code. What cannot be safe is in the files that say so in
//! a section like this one; xtask/tests/architecture.rs lists them.

mod cpuid;
mod descriptor;
mod files;
mod guest;
mod hooks;
mod in_guest;
mod memory;
mod platform;
mod real;
mod recorder;
mod report;
mod settings;
mod spin;
mod table;
