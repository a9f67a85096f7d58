//! SNP_LAUNCH_UPDATE: pages, one by one, from user memory into the guest.

use std::ops::ControlFlow;
use std::sync::Arc;

use snp_abi::kvm::kvm_sev_snp_launch_update;
use snp_abi::{
    Asid, Errno, FwStatus, Gfn, Gpa, PAGE_SIZE, PageSize, PageState, PageType, Pfn, SevFeatures, Vmpl, Vmsa,
};
use snp_asp::{Firmware, LaunchUpdate, RmpUpdate, SealedPage};
use zerocopy::{FromBytes, IntoBytes};

use super::Call;
use crate::profile::VmsaPages;
use crate::user::read_struct;
use crate::{GuestMemfd, lock};

const PAGE: u64 = PAGE_SIZE as u64;

/// Source pages that are taken, and hashed together, before they are launched one by one: 64 MiB.
const BATCH: u64 = 1 << 14;

/// KVM_SEV_SNP_LAUNCH_UPDATE.
///
/// # Errors
/// EINVAL: no launch, length, flags, page type, misaligned source, no guest_memfd behind the first frame. EFAULT. EBUSY
/// (`direct-vmsa`): a VMSA was accepted before. EIO: the first page failed, `error` holds the firmware's status, 0 if KVM
/// refused. If a later page fails, the command succeeds with a short count.
pub(super) fn launch_update(call: &mut Call<'_>) -> Result<(), Errno> {
    if !call.is_snp() || call.launch().is_none() {
        return Err(Errno::EINVAL);
    }
    let mut params: kvm_sev_snp_launch_update = read_struct(call.user, call.command.data)?;
    let page_type = PageType(params.r#type);
    check(call, &params, page_type)?;
    let done = match populate(call, &params, page_type) {
        Ok(done) => done,
        Err(refusal) => {
            call.command.error = refusal.status.0;
            return Err(if refusal.bad_vmsa { call.vm.host.profile.refused_vmsa } else { Errno::EIO });
        }
    };
    params.gfn_start += done;
    params.len -= done * PAGE;
    if page_type != PageType::ZERO {
        params.uaddr += done * PAGE;
    }
    Ok(call.user.write(call.command.data, params.as_bytes())?)
}

/// What is refused before any page is looked at.
fn check(call: &mut Call<'_>, params: &kvm_sev_snp_launch_update, page_type: PageType) -> Result<(), Errno> {
    let vmsa_pages = call.vm.host.profile.vmsa_pages;
    let known = page_type.name().is_some() && (page_type != PageType::VMSA || vmsa_pages != VmsaPages::None);
    if params.len == 0 || !params.len.is_multiple_of(PAGE) || params.flags != 0 || !known {
        return Err(Errno::EINVAL);
    }
    if page_type == PageType::VMSA && vmsa_pages == VmsaPages::BootProcessor {
        if call.launch().is_some_and(|launch| launch.boot_vmsa.is_some()) {
            return Err(Errno::EBUSY);
        }
        if params.len != PAGE {
            return Err(Errno::EINVAL);
        }
    }
    if page_type != PageType::ZERO && (params.uaddr == 0 || !params.uaddr.is_multiple_of(PAGE)) {
        return Err(Errno::EINVAL);
    }
    let layout = call.vm.memory.layout();
    let slot = layout.slots.find(params.gfn_start);
    if slot.is_none_or(|slot| slot.guest_memfd.is_none()) {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Why a page was not launched. KVM's own errno never reaches user space: the ioctl answers EIO whatever it was.
struct Refusal {
    /// The firmware's status, SUCCESS if it was not asked.
    status: FwStatus,
    /// KVM refused the contents of a VMSA.
    bad_vmsa: bool,
}

impl Refusal {
    const KVM: Self = Self { status: FwStatus::SUCCESS, bad_vmsa: false };
    const BAD_VMSA: Self = Self { status: FwStatus::SUCCESS, bad_vmsa: true };
}

/// Where the pages of one command go.
struct Target {
    memfd: Arc<GuestMemfd>,
    /// Page of the guest_memfd that is behind the command's first frame.
    first: u64,
    gctx: Pfn,
    asid: Asid,
    features: SevFeatures,
    page_type: PageType,
    sev_device: bool,
}

/// Launches pages until one fails or the memory slot ends; returns how many were launched.
///
/// # Errors
/// The first page failed.
fn populate(call: &mut Call<'_>, params: &kvm_sev_snp_launch_update, page_type: PageType) -> Result<u64, Refusal> {
    let (target, pages) = target(call, params, page_type)?;
    let mut done = 0;
    while done < pages {
        let sources = take_sources(call, params, page_type, done, (pages - done).min(BATCH));
        let whole = sources.len() as u64 == (pages - done).min(BATCH);
        let refused = in_order(page_type, sources, |source| {
            let gfn = Gfn(params.gfn_start + done);
            match launch_page(call, &target, gfn, target.first + done, source, params.uaddr) {
                Ok(()) => {
                    done += 1;
                    ControlFlow::Continue(())
                }
                Err(refusal) => ControlFlow::Break(refusal),
            }
        });
        match refused {
            ControlFlow::Break(refusal) if done == 0 => return Err(refusal),
            ControlFlow::Continue(()) if whole => {}
            // A page was refused, or its source could not be read.
            _ => break,
        }
    }
    if done == 0 { Err(Refusal::KVM) } else { Ok(done) }
}

/// Hands out the pages, hashed ahead if their contents are measured.
fn in_order(
    page_type: PageType,
    pages: Vec<SealedPage>,
    mut each: impl FnMut(SealedPage) -> ControlFlow<Refusal>,
) -> ControlFlow<Refusal> {
    if page_type == PageType::NORMAL {
        SealedPage::hashed_in_order(pages, each)
    } else {
        pages.into_iter().try_for_each(&mut each)
    }
}

/// The memory behind the command's frames, and how many of them the slot has.
fn target(
    call: &mut Call<'_>,
    params: &kvm_sev_snp_launch_update,
    page_type: PageType,
) -> Result<(Target, u64), Refusal> {
    let features = call.features();
    let sev_device = call.user.is_sev_device(call.command.sev_fd);
    let sev = call.state.sev.as_ref().expect("checked");
    let (asid, gctx) = (sev.asid, sev.launch.as_ref().expect("checked").gctx);
    let layout = call.vm.memory.layout();
    let slot = layout.slots.find(params.gfn_start).expect("checked");
    let (memfd, start) = slot.guest_memfd.as_ref().expect("checked");
    let memfd = memfd.upgrade().ok_or(Refusal::KVM)?;
    let offset = params.gfn_start - slot.base_gfn;
    let pages = (slot.pages - offset).min(params.len / PAGE);
    Ok((Target { memfd, first: start + offset, gctx, asid, features, page_type, sev_device }, pages))
}

/// Takes source pages, each **once**, until one cannot be read.
fn take_sources(
    call: &Call<'_>,
    params: &kvm_sev_snp_launch_update,
    page_type: PageType,
    done: u64,
    count: u64,
) -> Vec<SealedPage> {
    if page_type == PageType::ZERO {
        return (0..count).map(|_| SealedPage::zero()).collect();
    }
    let writable = page_type == PageType::CPUID;
    let address = |index: u64| params.uaddr.checked_add((done + index) * PAGE);
    (0..count).map_while(|index| call.user.page(address(index)?, writable).ok()).collect()
}

/// Launches one page. The bytes that are checked here are the bytes that the firmware measures: `source` is sealed, and it
/// is moved into the firmware.
fn launch_page(
    call: &mut Call<'_>,
    target: &Target,
    gfn: Gfn,
    index: u64,
    source: SealedPage,
    uaddr: u64,
) -> Result<(), Refusal> {
    if !call.vm.memory.layout().private.contains(gfn.0) {
        return Err(Refusal::KVM);
    }
    let gpa = gfn.gpa().ok_or(Refusal::KVM)?;
    let pfn = target.memfd.pfn(index);
    let mut firmware = lock(&call.vm.host.firmware);
    if firmware.rmp().entry(pfn).state != PageState::Hypervisor {
        return Err(Refusal::KVM);
    }
    if target.page_type == PageType::VMSA && !acceptable_vmsa(&source, target.features) {
        return Err(Refusal::BAD_VMSA);
    }
    firmware.rmp_update(pfn, RmpUpdate::pre_guest(target.asid, gpa)).map_err(|_| Refusal::KVM)?;
    if !target.sev_device {
        reclaim(&mut firmware, pfn);
        return Err(Refusal::KVM);
    }
    let update = LaunchUpdate {
        pfn,
        page_size: PageSize::Size4K,
        page_type: target.page_type,
        imi_page: false,
        permissions: Default::default(),
    };
    match firmware.launch_update(target.gctx, &update, source) {
        Ok(page) => {
            drop(firmware);
            target.memfd.keep(index, page);
            call.vm.memory.invalidate();
            accepted(call, target.page_type, gpa);
            Ok(())
        }
        Err(refused) => {
            reclaim(&mut firmware, pfn);
            if target.page_type == PageType::CPUID && refused.status == FwStatus::INVALID_PARAM {
                // What the firmware would accept goes to the caller's buffer. The page was writable when it was taken; if it
                // no longer is, the refusal stands all the same.
                let at = uaddr + (index - target.first) * PAGE;
                let _ = call.user.write(at, refused.page.as_bytes());
            }
            Err(Refusal { status: refused.status, bad_vmsa: false })
        }
    }
}

/// `direct-vmsa`: the accepted VMSA is the boot processor's.
fn accepted(call: &mut Call<'_>, page_type: PageType, gpa: Gpa) {
    let boot_processor = call.vm.host.profile.vmsa_pages == VmsaPages::BootProcessor;
    if page_type == PageType::VMSA && boot_processor {
        call.launch().expect("checked").boot_vmsa = Some(gpa);
    }
}

/// KVM's own check of a supplied VMSA: the VM's features, and VMPL 0.
fn acceptable_vmsa(page: &SealedPage, features: SevFeatures) -> bool {
    let vmsa = Vmsa::read_from_bytes(page.as_bytes()).expect("a VMSA is a page");
    vmsa.sev_features == features && vmsa.vmpl == Vmpl(0)
}

/// Makes a page that the firmware refused the hypervisor's again.
fn reclaim(firmware: &mut Firmware, pfn: Pfn) {
    firmware.page_reclaim(pfn).expect("a pre-guest page can be reclaimed");
    firmware.rmp_update(pfn, RmpUpdate::SHARED).expect("a reclaimed page is mutable");
}
