//! From an ioctl to its line.

use snp_abi::kvm::{KVM_MEMORY_ENCRYPT_OP, kvm_sev_cmd, kvm_sev_snp_launch_update};
use snp_abi::{Errno, FwStatus, Gpa, LEGACY_VMSA_GPA, LaunchDigest, PAGE_SIZE, PageType, Vmsa};
use snp_softkvm::UserSpace;
use snp_softkvm::ioctl::request_name;
use zerocopy::{FromBytes, IntoBytes};

use crate::line::{Call, Line, On, Page, Status};
use crate::{decode, hex};

/// An ioctl that was issued and is not yet answered.
///
/// User memory is read before the call, because the kernel writes some of it; a program that changes it meanwhile gets a
/// transcript of what it was.
#[derive(Debug)]
pub struct Pending {
    line: Line,
    call: Call,
    sev: Option<Sev>,
}

#[derive(Debug)]
struct Sev {
    /// Where `kvm_sev_cmd` is.
    address: u64,
    update: Option<Update>,
}

/// LAUNCH_UPDATE: the source pages that could be read.
#[derive(Debug)]
struct Update {
    address: u64,
    before: kvm_sev_snp_launch_update,
    pages: Vec<Page>,
}

/// What the answering side can tell beside the answer.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The launch digest.
    pub digest: Option<LaunchDigest>,
    /// After LAUNCH_FINISH: the VMSAs that KVM made, in index order.
    pub made_vmsas: Vec<Box<Vmsa>>,
}

impl Pending {
    /// Looks at an ioctl before it is performed; `None` if transcripts do not hold it.
    pub fn begin(user: &dyn UserSpace, process: u32, on: On, request: u32, argument: u64) -> Option<Self> {
        if !decode::is_recorded(request) {
            return None;
        }
        let mut memory = Vec::new();
        let mut line = Line { command: request_name(request), ..Line::default() };
        let mut sev = None;
        let mut sev_device = false;
        if request == KVM_MEMORY_ENCRYPT_OP {
            let command = decode::sev(&mut memory, user, argument)?;
            line.command = command.name;
            line.args = command.args;
            sev_device = user.is_sev_device(command.command.sev_fd);
            let data = command.command.data;
            sev = Some(Sev { address: argument, update: command.update.map(|before| Update::new(user, data, before)) });
        } else {
            line.args = decode::plain(&mut memory, user, request, argument);
        }
        let call = Call {
            process,
            on,
            request: hex::number(request.into()),
            argument: hex::number(argument),
            returned: 0,
            memory,
            next: None,
            sev_device,
            profile: None,
            platform: None,
        };
        Some(Self { line, call, sev })
    }

    /// The line, after the ioctl was answered.
    pub fn end(mut self, user: &dyn UserSpace, answer: Result<i32, Errno>, seen: &Seen) -> Line {
        self.call.returned = answer.unwrap_or_default();
        self.line.errno = answer.err().map(|errno| errno.to_string());
        self.line.digest = seen.digest.as_ref().map(LaunchDigest::to_string);
        if let Some(sev) = &mut self.sev {
            let command: Option<kvm_sev_cmd> = decode::reread(user, sev.address);
            self.line.fw_status = command.map(|command| Status::of(FwStatus(command.error)));
            if let Some(update) = sev.update.take() {
                (self.line.pages, self.call.next) = update.split(user);
            }
        }
        self.line.pages.extend(seen.made_vmsas.iter().map(|vmsa| vmsa_page(LEGACY_VMSA_GPA, vmsa)));
        self.line.call = Some(self.call);
        self.line
    }

    /// Names the software platform, on the line that creates a VM.
    #[must_use]
    pub fn on_platform(mut self, profile: &str, platform: &str) -> Self {
        if self.call.on == On::Kvm {
            self.call.profile = Some(profile.to_owned());
            self.call.platform = Some(platform.to_owned());
        }
        self
    }

    /// Whether this is KVM_SEV_SNP_LAUNCH_FINISH.
    pub fn finishes_launch(&self) -> bool {
        self.line.command == "KVM_SEV_SNP_LAUNCH_FINISH"
    }
}

impl Update {
    fn new(user: &dyn UserSpace, address: u64, before: kvm_sev_snp_launch_update) -> Self {
        let page_type = PageType(before.r#type);
        let mut pages = Vec::new();
        if page_type != PageType::ZERO && before.uaddr != 0 && before.uaddr.is_multiple_of(PAGE_SIZE as u64) {
            let mut page = [0; PAGE_SIZE];
            for index in 0..before.len / PAGE_SIZE as u64 {
                let Some(at) = before.uaddr.checked_add(index * PAGE_SIZE as u64) else { break };
                if user.read(at, &mut page).is_err() {
                    break;
                }
                pages.push(source_page(gpa(before.gfn_start, index), page_type, &page));
            }
        }
        Self { address, before, pages }
    }

    /// The pages that were launched, and the first that was not.
    fn split(self, user: &dyn UserSpace) -> (Vec<Page>, Option<Page>) {
        let after = decode::reread::<kvm_sev_snp_launch_update>(user, self.address).unwrap_or(self.before);
        let done = after.gfn_start.wrapping_sub(self.before.gfn_start);
        if self.before.r#type == PageType::ZERO.0 {
            let zero = |index| Page::new(gpa(self.before.gfn_start, index), PageType::ZERO, &[0; 48]);
            // What the kernel says it did is bounded by what it was asked for.
            return ((0..done.min(self.before.len / PAGE_SIZE as u64)).map(zero).collect(), None);
        }
        let mut pages = self.pages;
        let rest = pages.split_off(pages.len().min(usize::try_from(done).unwrap_or(usize::MAX)));
        (pages, rest.into_iter().next())
    }
}

fn gpa(gfn: u64, index: u64) -> Gpa {
    Gpa(gfn.wrapping_add(index).wrapping_mul(PAGE_SIZE as u64))
}

fn source_page(gpa: Gpa, page_type: PageType, page: &[u8; PAGE_SIZE]) -> Page {
    match page_type {
        PageType::NORMAL => Page::new(gpa, page_type, &snp_sha384::sha384(page)),
        PageType::VMSA => vmsa_page(gpa, &Vmsa::read_from_bytes(page).expect("a VMSA is a page")),
        PageType::CPUID => Page::new(gpa, page_type, &[0; 48]).with_data(page),
        _ => Page::new(gpa, page_type, &[0; 48]),
    }
}

/// A VMSA is measured with TSC_SCALE and TSC_OFFSET zero.
fn vmsa_page(gpa: Gpa, vmsa: &Vmsa) -> Page {
    let measured = Vmsa { tsc_scale: 0, tsc_offset: 0, ..*vmsa };
    Page::new(gpa, PageType::VMSA, &snp_sha384::sha384(measured.as_bytes())).with_data(vmsa.as_bytes())
}
