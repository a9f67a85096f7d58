//! The digest engine against the firmware's own command, for what no KVM profile reaches: VMPL permissions.

use proptest::prelude::*;
use snp_abi::{Asid, Gpa, GuestPolicy, PAGE_SIZE, PageSize, PageType, Pfn, VmplPermissions};
use snp_asp::{Firmware, LaunchStart, LaunchUpdate, PlatformConfig, RmpUpdate, SealedPage};
use snp_launch::DigestEngine;

const GCTX: Pfn = Pfn(1);
const ASID: Asid = Asid(1);

fn firmware_in_launch() -> Firmware {
    let mut firmware = Firmware::new(PlatformConfig::genoa());
    assign(&mut firmware, GCTX, Asid(0), Gpa(0));
    firmware.gctx_create(GCTX).expect("GCTX_CREATE");
    let start = LaunchStart {
        policy: GuestPolicy::DEFAULT,
        migration_agent: None,
        imi: false,
        desired_tsc_khz: 0,
        gosvw: [0; 16],
    };
    firmware.launch_start(GCTX, &start).expect("LAUNCH_START");
    firmware.activate(GCTX, ASID).expect("ACTIVATE");
    firmware
}

fn assign(firmware: &mut Firmware, pfn: Pfn, asid: Asid, gpa: Gpa) {
    let update = RmpUpdate { assigned: true, immutable: true, asid, gpa, page_size: PageSize::Size4K };
    firmware.rmp_update(pfn, update).expect("RMPUPDATE");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn permissions_are_measured_alike(
        pages in prop::collection::vec((any::<u8>(), any::<bool>(), prop::array::uniform3(0u8..16), 0u64..1 << 30), 1..8),
    ) {
        let mut firmware = firmware_in_launch();
        let mut engine = DigestEngine::default();
        for (index, &(fill, measured, permissions, gfn)) in pages.iter().enumerate() {
            let gpa = Gpa(gfn * PAGE_SIZE as u64);
            let pfn = Pfn(100 + index as u64);
            assign(&mut firmware, pfn, ASID, gpa);
            let page = [fill; PAGE_SIZE];
            let page_type = if measured { PageType::NORMAL } else { PageType::UNMEASURED };
            let permissions = permissions.map(VmplPermissions);
            let update =
                LaunchUpdate { pfn, page_size: PageSize::Size4K, page_type, imi_page: false, permissions };
            firmware.launch_update(GCTX, &update, SealedPage::copy_of(&page)).expect("LAUNCH_UPDATE");
            let contents = if measured { snp_sha384::sha384(&page) } else { [0; 48] };
            engine.extend(page_type, gpa, contents, false, permissions);
            prop_assert_eq!(firmware.launch_digest(GCTX), Some(engine.digest()));
        }
    }
}
