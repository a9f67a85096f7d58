//! Which launch gives this digest?
//!
//! A launch digest says only whether it is the expected one. [`explain`] searches the launches that could have happened,
//! the plausible ones first: VMM and era, number of vCPUs, processor, guest features, kernel hashes present or not, variants
//! of the command line, for IGVM files the loader and everything in which loaders differ. A launch that it finds is built
//! again from its description and measured in full before it is called a match.
//!
//! The search is bounded, reports its progress and can be cancelled ([`Observer`]). Nothing here does I/O.
//!
//! ```
//! use bytes::Bytes;
//! use snp_abi::LaunchDigest;
//! use snp_explain::{Answer, Image, NoObserver, Question, explain};
//! # let file = snp_image::Igvm::parse(Bytes::from(hello())).unwrap();
//! # fn hello() -> Vec<u8> {
//! #     let guest = snp_guests::find("hello").unwrap();
//! #     let mut writer = snp_image::IgvmWriter::new(guest.policy);
//! #     writer.vmsa(guest.vmsa_gpa, &guest.vmsa).unwrap();
//! #     writer.finish().unwrap()
//! # }
//! let question = Question::new(LaunchDigest([7; 48]), Image::Igvm { file: Box::new(file), append: String::new() });
//! let answer = explain(&question, &NoObserver);
//! assert!(matches!(answer, Answer::NoMatch(_)));
//! ```

mod chain;
mod difference;
mod firmware;
mod igvm;
mod launch;
mod search;
mod space;

use snp_abi::{LaunchDigest, Vmsa};
use snp_image::{Igvm, KernelHashes, Ovmf};

pub use difference::{Difference, differences};
pub use igvm::file_features;
pub use launch::{Kernel, Launch, Uapi};
pub use search::{NoObserver, Observer};

/// What was observed, and what it was an image of.
#[derive(Clone, Debug)]
pub struct Question {
    /// The digest.
    pub digest: LaunchDigest,
    /// The image.
    pub image: Image,
    /// A VMSA that may have been supplied, or was dumped from the guest.
    pub vmsa: Option<Box<Vmsa>>,
    /// The processor's signature, if it is known (an attestation report of version 3 and later tells it).
    pub cpu_signature: Option<u32>,
    /// The most vCPUs that are tried.
    pub most_vcpus: u32,
}

/// An image.
#[derive(Clone, Debug)]
pub enum Image {
    /// Firmware, and the kernels that may have been booted with it directly; without a kernel is always tried.
    Firmware {
        /// The firmware.
        firmware: Box<Ovmf>,
        /// Kernels with all variants of their command lines.
        kernels: Vec<Kernel>,
    },
    /// An IGVM file.
    Igvm {
        /// The file.
        file: Box<Igvm>,
        /// The command line for a guest that asks for it.
        append: String,
    },
}

impl Question {
    /// A question about an image, with up to 512 vCPUs.
    pub fn new(digest: LaunchDigest, image: Image) -> Self {
        Self { digest, image, vmsa: None, cpu_signature: None, most_vcpus: 512 }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This launch gives exactly the digest: it was built from this description and measured in full.
    Match {
        /// The launch.
        launch: Box<Launch>,
        /// What was tried until then.
        tried: Tried,
    },
    /// None of the launches that were tried gives the digest.
    NoMatch(Tried),
    /// The search was cancelled; what was tried until then does not give the digest.
    Cancelled(Tried),
}

/// What was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// Candidates compared with the digest.
    pub candidates: u64,
    /// In words, what was varied over which values.
    pub space: Vec<String>,
}

/// Searches the launch that gives the digest.
pub fn explain(question: &Question, observer: &dyn Observer) -> Answer {
    let mut search = search::Search::new(question.digest, observer);
    let found = match &question.image {
        Image::Firmware { firmware, kernels } => firmware::search(question, firmware, kernels, &mut search),
        Image::Igvm { file, append } => igvm::search(question, file, append, &mut search),
    };
    search.answer(found.map(|launch| (launch, question)))
}

/// Command lines that a user may have meant by `append`: as it is, and as shells, boot loaders and configuration files
/// change it. The first is as it is.
pub fn command_lines(append: &str) -> Vec<String> {
    let trimmed = append.trim();
    let single_spaced = trimmed.split_whitespace().collect::<Vec<_>>().join(" ");
    let unquoted: String = append.chars().filter(|c| !matches!(c, '"' | '\'')).collect();
    let mut lines = vec![
        append.to_owned(),
        trimmed.to_owned(),
        format!("{append}\n"),
        format!("{append} "),
        format!(" {append}"),
        single_spaced,
        unquoted,
        format!("{append}\0"),
        String::new(),
    ];
    let mut seen = std::collections::BTreeSet::new();
    lines.retain(|line| seen.insert(line.clone()));
    lines
}

/// Every way in which a kernel may have been booted: command-line variants, with and without the initial RAM disk.
///
/// `kernel`, `initrd`: SHA-256 of the files.
pub fn kernels(kernel: [u8; 32], initrd: Option<[u8; 32]>, append: &str) -> Vec<Kernel> {
    let nothing = KernelHashes::new(&[], None, None).initrd;
    let mut all = Vec::new();
    for disk in std::iter::once(initrd).chain(initrd.is_some().then_some(None)) {
        for line in command_lines(append) {
            let cmdline = KernelHashes::hash_of_cmdline(&line);
            let hashes = KernelHashes { kernel, initrd: disk.unwrap_or(nothing), cmdline };
            all.push(Kernel { cmdline: line, initrd: disk.is_some(), hashes });
        }
    }
    all
}
