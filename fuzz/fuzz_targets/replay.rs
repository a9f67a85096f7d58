//! Any bytes as a transcript, performed as far as they go.
#![no_main]

use libfuzzer_sys::fuzz_target;
use snp_asp::PlatformConfig;
use snp_softkvm::profiles;
use snp_transcript::{Line, Replay};

fuzz_target!(|data: &[u8]| {
    let profile = profiles::ALL[data.len() % profiles::ALL.len()];
    let mut replay = Replay::new(PlatformConfig::genoa(), profile);
    for (number, text) in (1..).zip(data.split(|byte| *byte == b'\n')) {
        let Ok(line) = Line::parse(number, text) else { continue };
        let _ = replay.perform(number, &line);
    }
    let _ = (replay.digests(), replay.unmodelled());
});
