//! IGVM to launch plan.

use bytes::Bytes;
use snp_abi::{Gpa, GuestPolicy, LEGACY_VMSA_GPA, PAGE_SIZE, SevFeatures, Vmsa};
use snp_launch::{BootState, LaunchPage, LaunchPlan, MemoryRegion, PageBytes};
use snp_vmsa::reset::ResetProfile;
use std::collections::{BTreeMap, BTreeSet};
use zerocopy::FromBytes;

use crate::igvm::{Area, Contents};
use crate::loader::{
    DatalessPages, IgvmLoader, LargePages, OtherContexts, PageOrder, ParameterPages, SharedPages, StateDelivery,
};
use crate::{
    Delivery, Directive, GuestOptions, Igvm, ImageError, ImageWarning, PageKind, ParameterKind, Prepared, memory,
    replay, reset,
};

/// Where the search for the boot VMSA's page starts if neither file nor user place it: directly below the window that
/// firmware flash may fill.
const BELOW_FLASH: Gpa = Gpa((1 << 32) - (16 << 20));

/// An IGVM file and the guest's options.
///
/// # How the file is read
/// Loaders of IGVM files disagree; [`IgvmLoader`] says whose digest is wanted. By default it is the format's own:
/// - Directives are carried out in file order, as the format demands.
/// - Pages without data are normal pages of zeros, as the format demands.
/// - Parameter areas become unmeasured pages where they are inserted, filled with what the guest asks for. Shared pages
///   are left out.
/// - With direct delivery, the VP context of processor 0 is a VMSA page at its own place in the order and at its own GPA;
///   contexts of other processors are left out. With registers, it is replayed into them, and KVM's own VMSAs are measured
///   last, at [`LEGACY_VMSA_GPA`].
///
/// # Where the boot VMSA goes
/// Where the user says, else where the file says, else to the highest page below 4 GiB - 16 MiB that is neither 2
/// MiB-aligned nor a page of the file: see [`OvmfLaunch`](crate::OvmfLaunch) for why it lies there.
///
/// # Source
/// `igvm_defs` 0.5, documentation of each structure; for the others the loader's own `source`.
#[derive(Clone, Debug)]
pub struct IgvmLaunch {
    /// The file.
    pub file: Igvm,
    /// Who loads it. Must deliver the VMSA as `options` do.
    pub loader: &'static IgvmLoader,
    /// The command line for a guest that asks for it, without NUL.
    pub append: String,
    /// The guest's options.
    pub options: GuestOptions,
}

impl IgvmLaunch {
    /// Makes the plan.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn prepare(self) -> Result<Prepared, ImageError> {
        let registers = matches!(self.options.delivery, Delivery::Registers);
        if registers == self.loader.is_direct() {
            return Err(ImageError::LoaderDelivery { loader: self.loader.name, registers });
        }
        let context = self.boot_context();
        let features = self.features(context.as_ref().map(|(_, vmsa)| &**vmsa));
        let mut loader = Loader::new(&self, features);
        let boot = match &self.options.delivery {
            Delivery::Direct { vmsa, gpa } => {
                let chosen = match (vmsa, &context) {
                    (Some(vmsa), _) => vmsa.clone(),
                    (None, Some((_, vmsa))) => vmsa.clone(),
                    (None, None) => return Err(ImageError::NoVpContext),
                };
                let place = gpa.or(context.as_ref().map(|(gpa, _)| *gpa));
                loader.load(Some((place, &chosen)))?;
                BootState::Direct { vmsa_gpa: loader.boot_page(place, chosen)? }
            }
            Delivery::Registers => {
                let (gpa, vmsa) = context.ok_or(ImageError::NoVpContext)?;
                loader.load(None)?;
                loader.registers(gpa, &vmsa)
            }
        };
        loader.finish(boot)
    }

    /// The VP context of processor 0.
    fn boot_context(&self) -> Option<(Gpa, Box<Vmsa>)> {
        self.file.directives().iter().find_map(|directive| match directive {
            Directive::VpContext { gpa, vp_index: 0, page } => {
                Some((*gpa, Box::new(Vmsa::read_from_bytes(page).expect("a VP context is as long as a VMSA"))))
            }
            _ => None,
        })
    }

    fn features(&self, context: Option<&Vmsa>) -> SevFeatures {
        let given = match &self.options.delivery {
            Delivery::Direct { vmsa: Some(vmsa), .. } => Some(&**vmsa),
            _ => context,
        };
        let features = self.options.features.or(given.map(|vmsa| vmsa.sev_features));
        features.unwrap_or(SevFeatures(SevFeatures::SNP_ACTIVE))
    }
}

/// Adjacent pages of one kind that QEMU launches together.
struct Run {
    /// Index of the first of them in the plan.
    first: usize,
    kind: PageKind,
    /// Where the next page would have to lie.
    end: u64,
}

/// Carries out the directives of a file.
struct Loader<'a> {
    launch: &'a IgvmLaunch,
    features: SevFeatures,
    memory: Vec<MemoryRegion>,
    pages: Vec<LaunchPage>,
    /// The pages that QEMU has collected and not launched yet.
    run: Option<Run>,
    areas: BTreeMap<u32, Area>,
    zeros: Zeros,
    boot_placed: bool,
    warnings: Vec<ImageWarning>,
    dataless: usize,
    shared: usize,
    large: usize,
    unknown: BTreeSet<u32>,
}

impl<'a> Loader<'a> {
    fn new(launch: &'a IgvmLaunch, features: SevFeatures) -> Self {
        Self {
            launch,
            features,
            memory: launch_memory(launch.file.directives()),
            pages: Vec::new(),
            run: None,
            areas: BTreeMap::new(),
            zeros: Zeros::default(),
            boot_placed: false,
            warnings: Vec::new(),
            dataless: 0,
            shared: 0,
            large: 0,
            unknown: BTreeSet::new(),
        }
    }

    /// All directives in order. `boot`: the boot processor's VMSA and its place, if it is delivered directly.
    fn load(&mut self, boot: Option<(Option<Gpa>, &Vmsa)>) -> Result<(), ImageError> {
        for directive in self.launch.file.directives() {
            match directive {
                Directive::Page { gpa, len, kind, data } => self.page(*gpa, *len, *kind, data.as_ref())?,
                Directive::ParameterArea { area, len, initial } => {
                    self.areas.insert(*area, Area::new(*area, *len, initial.as_ref()));
                }
                Directive::Parameter { kind, area, at, offset } => self.parameter(*kind, *area, *at, *offset)?,
                Directive::ParameterInsert { gpa, area } => {
                    // The reader made sure that every area is declared, and inserted once.
                    let area = self.areas.remove(area).expect("the reader checked the area");
                    self.insert(*gpa, area)?;
                }
                // Part of the guest's memory, not of the launch.
                Directive::RequiredMemory { .. } => {}
                Directive::VpContext { vp_index: 0, .. } => {
                    if let Some((Some(gpa), vmsa)) = boot {
                        self.pages.push(LaunchPage::Vmsa { gpa, vmsa: Box::new(*vmsa) });
                        self.boot_placed = true;
                    }
                }
                Directive::VpContext { gpa, vp_index, page } => self.other_context(*gpa, *vp_index, page),
            }
        }
        if self.launch.loader.order == PageOrder::Address {
            self.pages.sort_by_key(LaunchPage::gpa);
        }
        Ok(())
    }

    /// The state of a processor that is not the boot processor.
    fn other_context(&mut self, gpa: Gpa, vp_index: u16, page: &Bytes) {
        let vmsa = match self.launch.loader.other_contexts {
            OtherContexts::LeftOut => {
                self.warnings.push(ImageWarning::OtherVpContext { vp_index });
                return;
            }
            OtherContexts::Measured => Vmsa::read_from_bytes(page).expect("a VP context is as long as a VMSA"),
            OtherContexts::Blank => Vmsa::default(),
        };
        self.pages.push(LaunchPage::Vmsa { gpa, vmsa: Box::new(vmsa) });
    }

    /// A parameter area becomes guest memory.
    fn insert(&mut self, gpa: Gpa, area: Area) -> Result<(), ImageError> {
        let bytes = area.finish();
        let bytes = match self.launch.loader.parameters {
            ParameterPages::All => bytes,
            ParameterPages::First => bytes.slice(..PAGE_SIZE.min(bytes.len())),
        };
        let page = LaunchPage::Unmeasured { gpa, data: PageBytes::new(bytes)? };
        match &mut self.run {
            // QEMU launches the area at once, and the run when it ends.
            Some(run) if self.launch.loader.order == PageOrder::Runs => {
                self.pages.insert(run.first, page);
                run.first += 1;
            }
            _ => self.pages.push(page),
        }
        Ok(())
    }

    fn page(&mut self, gpa: Gpa, len: u64, kind: PageKind, data: Option<&Bytes>) -> Result<(), ImageError> {
        let loader = self.launch.loader;
        let mut len = len;
        let large = len != PAGE_SIZE as u64;
        if large && loader.large == LargePages::Ignored {
            if data.is_some() {
                return Err(ImageError::LoaderLargePage { loader: loader.name, gpa });
            }
            len = PAGE_SIZE as u64;
        }
        self.large += usize::from(large && data.is_some());
        let kind = match (kind, loader.shared) {
            (PageKind::Shared, SharedPages::LeftOut) => {
                self.shared += 1;
                return Ok(());
            }
            (PageKind::Shared, SharedPages::Launched) => PageKind::Normal,
            (kind, _) => kind,
        };
        let page = match kind {
            PageKind::Shared => unreachable!("left out or launched as normal"),
            PageKind::Secrets => LaunchPage::Secrets { gpa },
            PageKind::Cpuid => {
                let replaced = ImageWarning::CpuidReplaced;
                if data.is_some_and(|data| data.iter().any(|byte| *byte != 0)) && !self.warnings.contains(&replaced) {
                    self.warnings.push(replaced);
                }
                LaunchPage::Cpuid { gpa, table: self.launch.options.cpuid.clone() }
            }
            PageKind::Normal if data.is_none() && loader.dataless == DatalessPages::Zero => {
                LaunchPage::Zero { gpa, len }
            }
            PageKind::Normal => {
                self.dataless += usize::from(data.is_none());
                LaunchPage::Normal { gpa, data: self.contents(len, data)? }
            }
            PageKind::Unmeasured => LaunchPage::Unmeasured { gpa, data: self.contents(len, data)? },
        };
        self.push(page, kind);
        Ok(())
    }

    /// The contents of a page, shared with the file or with all other pages of zeros.
    fn contents(&mut self, len: u64, data: Option<&Bytes>) -> Result<PageBytes, ImageError> {
        Ok(PageBytes::new(data.cloned().unwrap_or_else(|| self.zeros.page(len)))?)
    }

    /// Appends a page, to the last one if it goes on there in guest memory and in the file.
    fn push(&mut self, page: LaunchPage, kind: PageKind) {
        let end = page.gpa().0 + page.len_bytes();
        match &mut self.run {
            Some(run) if run.kind == kind && run.end == page.gpa().0 => run.end = end,
            run => *run = Some(Run { first: self.pages.len(), kind, end }),
        }
        if let Some(last) = self.pages.last_mut()
            && let Some(joined) = join(last, &page, &self.launch.file)
        {
            *last = joined;
            return;
        }
        self.pages.push(page);
    }

    fn parameter(&mut self, kind: ParameterKind, area: u32, at: u32, offset: u64) -> Result<(), ImageError> {
        let contents =
            Contents { vcpus: self.launch.options.vcpus, command_line: &self.launch.append, memory: &self.memory };
        let area = self.areas.get_mut(&area).expect("the reader checked the area");
        if !area.write(kind, at, offset, &contents)? && self.unknown.insert(kind.0) {
            self.warnings.push(ImageWarning::ParameterUnknown { kind });
        }
        Ok(())
    }

    /// Where the boot VMSA lies; adds it at the end if the file has no place for it.
    fn boot_page(&mut self, place: Option<Gpa>, vmsa: Box<Vmsa>) -> Result<Gpa, ImageError> {
        let gpa = match place {
            Some(gpa) => gpa,
            None => memory::free_page_below(BELOW_FLASH, &self.pages)
                .ok_or(ImageError::NoFreePage { below: BELOW_FLASH })?,
        };
        if !self.boot_placed {
            self.pages.push(LaunchPage::Vmsa { gpa, vmsa });
        }
        Ok(gpa)
    }

    /// The VMSAs that KVM makes: of the file's context, and of QEMU's reset state for the others.
    fn registers(&mut self, gpa: Gpa, vmsa: &Vmsa) -> BootState {
        let options = &self.launch.options;
        let reset = |vmm: &ResetProfile| vmm.vmsa(reset::BOOT_EIP, options.cpu_signature, self.features);
        let (boot, others) = if self.launch.loader.state == StateDelivery::CloudHypervisorRegisters {
            let others = reset(reset::kvm());
            (replay::through_cloud_hypervisor(vmsa, &others), others)
        } else {
            if gpa != LEGACY_VMSA_GPA {
                self.warnings.push(ImageWarning::QemuRefusesGpa { gpa });
            }
            (replay::through_registers(vmsa, self.features), reset(options.vmm))
        };
        self.warnings.extend(replay::losses(vmsa, &boot));
        BootState::Registers { boot: Box::new(boot), others: Box::new(others) }
    }

    fn finish(mut self, boot: BootState) -> Result<Prepared, ImageError> {
        self.count_warnings();
        let options = &self.launch.options;
        let file = &self.launch.file;
        let plan = LaunchPlan {
            policy: options.policy.or(file.policy()).unwrap_or(GuestPolicy::DEFAULT),
            gosvw: [0; 16],
            features: self.features,
            memory: memory::regions(&self.pages, &self.memory),
            pages: self.pages,
            boot,
            vcpus: options.vcpus,
            id_block: options.id_block.clone().or_else(|| file.id_block().cloned()),
            host_data: options.host_data,
            vcek_disabled: false,
        };
        Prepared::new(plan, self.warnings)
    }

    fn count_warnings(&mut self) {
        let file = &self.launch.file;
        let directives = file.directives();
        let first_page = directives.iter().position(|directive| matches!(directive, Directive::Page { .. }));
        let last_insert =
            directives.iter().rposition(|directive| matches!(directive, Directive::ParameterInsert { .. }));
        // `None` is less than any position.
        let inserts_after_pages = first_page.is_some() && last_insert > first_page;
        let found = [
            (self.dataless > 0).then_some(ImageWarning::DatalessPages { count: self.dataless }),
            (self.shared > 0).then_some(ImageWarning::SharedPages { count: self.shared }),
            (self.large > 0).then_some(ImageWarning::LargePages { count: self.large }),
            (inserts_after_pages && self.launch.loader.order == PageOrder::File)
                .then_some(ImageWarning::InsertAfterPages),
            file.is_relocatable().then_some(ImageWarning::NotRelocated),
        ];
        self.warnings.extend(found.into_iter().flatten());
    }
}

/// Low memory and what the file requires: the memory that the guest is told of.
fn launch_memory(directives: &[Directive]) -> Vec<MemoryRegion> {
    let required: Vec<_> = directives
        .iter()
        .filter_map(|directive| match directive {
            Directive::RequiredMemory { gpa, len } => Some(MemoryRegion { gpa: *gpa, len: *len }),
            _ => None,
        })
        .collect();
    memory::regions(&[], &required)
}

/// Two runs as one, if the second goes on where the first ends, in guest memory and in the file.
fn join(first: &LaunchPage, second: &LaunchPage, file: &Igvm) -> Option<LaunchPage> {
    let gpa = first.gpa();
    if gpa.checked_add(first.len_bytes()) != Some(second.gpa()) {
        return None;
    }
    let together = |a: &PageBytes, b: &PageBytes| PageBytes::new(file.joined(a.bytes(), b.bytes())?).ok();
    match (first, second) {
        (LaunchPage::Normal { data: a, .. }, LaunchPage::Normal { data: b, .. }) => {
            Some(LaunchPage::Normal { gpa, data: together(a, b)? })
        }
        (LaunchPage::Unmeasured { data: a, .. }, LaunchPage::Unmeasured { data: b, .. }) => {
            Some(LaunchPage::Unmeasured { gpa, data: together(a, b)? })
        }
        _ => None,
    }
}

/// Pages of zeros, of either size, allocated once.
#[derive(Default)]
struct Zeros {
    small: Option<Bytes>,
    large: Option<Bytes>,
}

impl Zeros {
    fn page(&mut self, len: u64) -> Bytes {
        let slot = if len == PAGE_SIZE as u64 { &mut self.small } else { &mut self.large };
        slot.get_or_insert_with(|| vec![0; len as usize].into()).clone()
    }
}
