//! Any bytes as an IGVM file, with its checksum made right, and the launch of what is accepted.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use snp_asp::PlatformConfig;
use snp_image::lint::{lint, notes};
use snp_image::loader::LOADERS;
use snp_image::{Delivery, GuestOptions, Igvm, IgvmLaunch};
use snp_launch::{NoObserver, Platform, predict};
use snp_softkvm::{SoftPlatform, profiles};

/// Makes file size and checksum of the fixed header right, so that mutations reach what is behind them.
fn repair(file: &mut [u8]) -> Option<()> {
    let word = |file: &[u8], at: usize| Some(u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) as usize);
    let size = (file.len() as u32).to_le_bytes();
    file.get_mut(16..20)?.copy_from_slice(&size);
    file.get_mut(20..24)?.fill(0);
    let fixed = if word(file, 4)? == 2 { 32 } else { 24 };
    let (start, len) = (word(file, 8)?, word(file, 12)?);
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(file.get(..fixed)?);
    checksum.update(file.get(start..start.checked_add(len)?)?);
    file.get_mut(20..24)?.copy_from_slice(&checksum.finalize().to_le_bytes());
    Some(())
}

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    if data.len() % 8 != 7 {
        // Some inputs stay as they are: the checks of the fixed header are fuzzed too.
        let _ = repair(&mut data);
    }
    let Ok(file) = Igvm::parse(Bytes::from(data)) else { return };
    let _ = (lint(&file), notes(&file));
    for loader in LOADERS {
        let (delivery, profile) = match loader.is_direct() {
            true => (Delivery::Direct { vmsa: None, gpa: None }, &profiles::VCPU_STATE),
            false => (Delivery::Registers, &profiles::MAINLINE),
        };
        let options = GuestOptions { vcpus: 2, ..GuestOptions::new(delivery) };
        let launch = IgvmLaunch { file: file.clone(), loader, append: "x".into(), options };
        let Ok(prepared) = launch.prepare() else { continue };
        let pages: u64 = prepared.plan.pages.iter().map(|page| page.len_bytes() / 4096).sum();
        if pages > 1 << 12 {
            continue;
        }
        if let Ok(launched) =
            SoftPlatform::new(PlatformConfig::genoa(), profile).launch(&prepared.plan, &mut NoObserver)
        {
            assert_eq!(launched.digest, Some(predict(&prepared.plan)));
        }
    }
});
