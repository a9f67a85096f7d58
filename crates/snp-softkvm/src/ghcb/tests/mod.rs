//! Every answer, with the place that it is from. "sev.c" is Linux 7.3, arch/x86/kvm/svm/sev.c; "GHCB" is AMD 56421.

mod exits;
mod io;
mod msr_protocol;
mod psc;
mod random;
mod refusals;
mod snp;

use std::collections::{BTreeMap, VecDeque};

use snp_abi::ghcb::{Ghcb as Layout, GhcbExit};
use snp_abi::{Errno, PAGE_SIZE};
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::Fault;

pub(super) const GHCB: u64 = 0x5000;
pub(super) const BUFFER: u64 = GHCB + 0x800;

pub(super) const CONFIG: Config =
    Config { snp: true, version: 2, c_bit: 51, vmsa_features: 1, apic_id_list: true, request_certificates: false };

pub(super) const SEV_ES: Config = Config { snp: false, version: 1, apic_id_list: false, ..CONFIG };

/// A VM with 16 pages of memory at 0, vCPUs 0 to 3, devices at port 0x80 and address 0xfee0_0000, MSR 0x10 and counter 0.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Vm {
    pub(super) memory: Vec<u8>,
    pub(super) exits: bool,
    pub(super) local_apic: bool,
    pub(super) msr: MsrAnswer<u64>,
    pub(super) table: u64,
    pub(super) firmware: Result<u32, Errno>,
    /// What happened, in words.
    pub(super) log: Vec<String>,
    pub(super) port: VecDeque<u8>,
    pub(super) devices: BTreeMap<u64, u8>,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            memory: vec![0; 16 * PAGE_SIZE],
            exits: true,
            local_apic: true,
            msr: MsrAnswer::Fault,
            table: 0,
            firmware: Ok(0),
            log: Vec::new(),
            port: VecDeque::new(),
            devices: BTreeMap::new(),
        }
    }
}

impl Vm {
    fn range(&self, gpa: u64, len: usize) -> Result<std::ops::Range<usize>, Fault> {
        let start = usize::try_from(gpa).map_err(|_| Fault)?;
        let end = start.checked_add(len).filter(|end| *end <= self.memory.len()).ok_or(Fault)?;
        Ok(start..end)
    }

    fn note(&mut self, what: String) {
        self.log.push(what);
    }
}

impl Machine for Vm {
    fn read(&mut self, gpa: u64, buffer: &mut [u8]) -> Result<(), Fault> {
        buffer.copy_from_slice(&self.memory[self.range(gpa, buffer.len())?]);
        Ok(())
    }

    fn write(&mut self, gpa: u64, data: &[u8]) -> Result<(), Fault> {
        let range = self.range(gpa, data.len())?;
        self.memory[range].copy_from_slice(data);
        Ok(())
    }

    fn is_writable(&mut self, gpa: u64) -> bool {
        self.range(gpa, PAGE_SIZE).is_ok()
    }

    fn port_in(&mut self, port: u16, data: &mut [u8]) -> bool {
        let there = port == 0x80;
        if there {
            data.iter_mut().for_each(|byte| *byte = self.port.pop_front().unwrap_or(0));
        }
        there
    }

    fn port_out(&mut self, port: u16, data: &[u8]) -> bool {
        let there = port == 0x80;
        if there {
            self.port.extend(data);
        }
        there
    }

    fn mmio_read(&mut self, gpa: u64, data: &mut [u8]) -> bool {
        let there = gpa >> 12 == 0xfee00;
        if there {
            let at = |index| self.devices.get(&(gpa + index as u64)).copied().unwrap_or(0);
            data.iter_mut().enumerate().for_each(|(index, byte)| *byte = at(index));
        }
        there
    }

    fn mmio_write(&mut self, gpa: u64, data: &[u8]) -> bool {
        let there = gpa >> 12 == 0xfee00;
        if there {
            self.devices.extend((gpa..).zip(data.iter().copied()));
        }
        there
    }

    fn cpuid(&mut self, function: u32, index: u32) -> [u32; 4] {
        [function, index, 0xcccc_cccc, 0xdddd_dddd]
    }

    fn set_xcr0(&mut self, xcr0: u64) {
        self.note(format!("xcr0 {xcr0:#x}"));
    }

    fn read_msr(&mut self, index: u32) -> MsrAnswer<u64> {
        if index == 0x10 { MsrAnswer::Done(0x1111_1111_2222_2222) } else { self.msr }
    }

    fn write_msr(&mut self, index: u32, value: u64) -> MsrAnswer<()> {
        if index == 0x10 {
            self.note(format!("msr {index:#x} = {value:#x}"));
            return MsrAnswer::Done(());
        }
        match self.msr {
            MsrAnswer::Done(_) => MsrAnswer::Done(()),
            MsrAnswer::Fault => MsrAnswer::Fault,
            MsrAnswer::UserSpace(reason) => MsrAnswer::UserSpace(reason),
        }
    }

    fn read_counter(&mut self, index: u32) -> Option<u64> {
        (index == 0).then_some(0x3333_3333_4444_4444)
    }

    fn inject(&mut self, vector: u8, error_code: Option<u32>) {
        self.note(format!("inject {vector} {error_code:?}"));
    }

    fn nmi_complete(&mut self) {
        self.note("nmi complete".into());
    }

    fn reset_hold(&mut self) -> bool {
        if self.local_apic {
            self.note("hold".into());
        }
        self.local_apic
    }

    fn map_gpa_range_exits(&self) -> bool {
        self.exits
    }

    fn paravirtual(&mut self, nr: u64, _args: [u64; 4]) -> Option<u64> {
        (nr == 11).then_some(0)
    }

    fn jump_table(&mut self) -> u64 {
        self.table
    }

    fn set_jump_table(&mut self, gpa: u64) {
        self.table = gpa;
    }

    fn is_legal_gpa(&self, gpa: u64) -> bool {
        gpa < 1 << 48
    }

    fn guest_request(&mut self, request: &[u8; 4096], response: &mut [u8; 4096]) -> Result<u32, Errno> {
        self.note("guest request".into());
        response.iter_mut().zip(request).for_each(|(to, from)| *to = !from);
        self.firmware
    }

    fn has_vcpu(&self, apic_id: u32) -> bool {
        apic_id < 4
    }

    fn change_vmsa(&mut self, apic_id: u32, change: VmsaChange) {
        self.note(format!("vmsa of {apic_id}: {change:x?}"));
    }

    fn apic_ids(&self) -> Vec<u32> {
        (0..4).collect()
    }
}

/// A vCPU of such a VM, whose GHCB is registered.
pub(super) struct Guest {
    pub(super) ghcb: Ghcb,
    pub(super) msr: u64,
    pub(super) vm: Vm,
}

impl Guest {
    pub(super) fn new(config: Config) -> Self {
        let mut ghcb = Ghcb::new(config);
        ghcb.register(GHCB);
        Self { ghcb, msr: Ghcb::reset_msr(&config), vm: Vm::default() }
    }

    /// Puts a request into the page and exits.
    pub(super) fn ask(&mut self, request: &Request) -> Outcome {
        self.msr = GHCB;
        let at = GHCB as usize;
        let buffer = at + 0x800..at + 0xff0;
        let kept = self.vm.memory[buffer.clone()].to_vec();
        self.vm.memory[at..at + PAGE_SIZE].copy_from_slice(request.page().as_bytes());
        // The shared buffer is the test's own.
        self.vm.memory[buffer].copy_from_slice(&kept);
        self.ghcb.vmgexit(&mut self.msr, &mut self.vm)
    }

    pub(super) fn exit(&mut self, msr: u64) -> Outcome {
        self.msr = msr;
        self.ghcb.vmgexit(&mut self.msr, &mut self.vm)
    }

    pub(super) fn complete(&mut self, answer: Answer) -> Outcome {
        self.ghcb.complete(&mut self.msr, &mut self.vm, &answer)
    }

    /// The page as the guest finds it.
    pub(super) fn answer(&mut self) -> Layout {
        self.ghcb.before_entry(&mut self.vm);
        let at = GHCB as usize;
        Layout::read_from_bytes(&self.vm.memory[at..at + PAGE_SIZE]).unwrap()
    }

    /// SW_EXITINFO1 and SW_EXITINFO2 as the guest finds them.
    pub(super) fn infos(&mut self) -> (u64, u64) {
        let page = self.answer();
        (page.sw_exit_info_1, page.sw_exit_info_2)
    }

    pub(super) fn put(&mut self, gpa: u64, data: &[u8]) {
        self.vm.write(gpa, data).unwrap();
    }

    pub(super) fn bytes(&mut self, gpa: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        self.vm.read(gpa, &mut data).unwrap();
        data
    }
}

/// A request by the page; fields that are given are valid.
#[derive(Clone, Debug, Default)]
pub(super) struct Request {
    pub(super) code: Option<GhcbExit>,
    pub(super) info_1: Option<u64>,
    pub(super) info_2: Option<u64>,
    pub(super) rax: Option<u64>,
    pub(super) rbx: Option<u64>,
    pub(super) rcx: Option<u64>,
    pub(super) rdx: Option<u64>,
    pub(super) rsi: Option<u64>,
    pub(super) cpl: Option<u8>,
    pub(super) xcr0: Option<u64>,
    pub(super) scratch: Option<u64>,
    pub(super) usage: u32,
}

impl Request {
    pub(super) fn new(code: GhcbExit, info_1: u64, info_2: u64) -> Self {
        Self { code: Some(code), info_1: Some(info_1), info_2: Some(info_2), ..Self::default() }
    }

    fn page(&self) -> Layout {
        let mut page = Layout { protocol_version: 2, ghcb_usage: self.usage, ..Layout::default() };
        let mut valid = 0u128;
        let mut mark = |there: bool, offset: usize| valid |= u128::from(there) << (offset / 8);
        macro_rules! put {
            ($($from:ident => $to:ident),* $(,)?) => {
                $(if let Some(value) = self.$from {
                    page.$to = value;
                    mark(true, std::mem::offset_of!(Layout, $to));
                })*
            };
        }
        if let Some(GhcbExit(code)) = self.code {
            page.sw_exit_code = code;
            mark(true, std::mem::offset_of!(Layout, sw_exit_code));
        }
        put!(info_1 => sw_exit_info_1, info_2 => sw_exit_info_2, rax => rax, rbx => rbx, rcx => rcx, rdx => rdx, rsi => rsi,
            cpl => cpl, xcr0 => xcr0, scratch => sw_scratch);
        page.valid_bitmap = valid.to_le_bytes();
        page
    }
}
