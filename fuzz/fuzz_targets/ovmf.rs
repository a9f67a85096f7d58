//! Any bytes as firmware, and the launch of what is accepted: prediction and platform agree.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use snp_asp::PlatformConfig;
use snp_image::{Delivery, GuestOptions, KernelHashes, Ovmf, OvmfLaunch};
use snp_launch::{NoObserver, Platform, predict};
use snp_softkvm::{SoftPlatform, profiles};

fuzz_target!(|data: &[u8]| {
    // The length of the firmware comes from the input too: its end is what the tables hang from.
    let Some((&choice, data)) = data.split_first() else { return };
    let mut file = vec![0; usize::from(choice & 7) * 4096];
    if choice & 8 == 0 && data.len() <= file.len() {
        let at = file.len() - data.len();
        file[at..].copy_from_slice(data);
    } else {
        file = data.to_vec();
    }
    let Ok(firmware) = Ovmf::parse(Bytes::from(file)) else { return };
    let _ = (firmware.hash_table_gpa(), firmware.reset_eip(), firmware.svsm_offset());
    for (delivery, profile) in [
        (Delivery::Direct { vmsa: None, gpa: None }, &profiles::DIRECT_VMSA),
        (Delivery::Registers, &profiles::MAINLINE),
    ] {
        let vmm = snp_vmsa::reset::find(["qemu", "ec2", "gce", "krun"][usize::from(choice & 3)]).expect("a profile");
        let options = GuestOptions { vcpus: 2, ..GuestOptions::of_vmm(vmm, delivery) };
        let kernel = (choice & 16 != 0).then(|| KernelHashes::new(b"kernel", None, Some("console=ttyS0")));
        let Ok(prepared) = (OvmfLaunch { firmware: firmware.clone(), kernel, options }).prepare() else { continue };
        let pages: u64 = prepared.plan.pages.iter().map(|page| page.len_bytes() / 4096).sum();
        if pages > 1 << 12 {
            // Metadata may ask for gigabytes of zero pages: legal, and slow to launch.
            continue;
        }
        if let Ok(launched) =
            SoftPlatform::new(PlatformConfig::genoa(), profile).launch(&prepared.plan, &mut NoObserver)
        {
            assert_eq!(launched.digest, Some(predict(&prepared.plan)));
        }
    }
});
