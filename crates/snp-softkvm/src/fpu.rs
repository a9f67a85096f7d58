//! The XSAVE state of a vCPU: what KVM_SET_XSAVE takes, what KVM_GET_XSAVE shows, and what lands in a VMSA.

use snp_abi::Errno;
use snp_abi::kvm::{kvm_fpu, kvm_xsave};
use snp_vcpu::Extended;
use zerocopy::{FromBytes, IntoBytes};

/// XSTATE_BV bits.
const X87: u64 = 1;
const SSE: u64 = 2;
const YMM: u64 = 4;
const PKRU: u64 = 1 << 9;

/// Bytes of an area.
const AREA: usize = size_of::<kvm_xsave>();
/// Where the high halves of YMM0 to YMM15, and the components past them, lie.
const YMM_AT: usize = 576;
const REST_AT: usize = YMM_AT + 256;
const PKRU_AT: usize = 0xa80;

/// x87, SSE and AVX state, as an XSAVE area has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FpuState {
    /// The legacy area, 512 bytes: FCW at 0, MXCSR at 24, ST0 at 32, XMM0 at 160.
    pub(crate) legacy: [u8; 512],
    /// The high halves of YMM0 to YMM15; `None` while the component is in its initial state.
    pub(crate) ymm: Option<[u8; 256]>,
    pub(crate) pkru: u32,
    /// XSTATE_BV: the components that are not in their initial state.
    present: u64,
    /// The components past AVX, which a VMSA has no place for; empty until some are set.
    rest: Vec<u8>,
}

impl Default for FpuState {
    /// FNINIT and the reset value of MXCSR.
    fn default() -> Self {
        Self { legacy: initial_legacy(), ymm: None, pkru: 0, present: 0, rest: Vec::new() }
    }
}

/// The number of the x87 register that is ST(`place`).
fn physical(fsw: u16, place: usize) -> usize {
    (usize::from(fsw >> 11) + place) & 7
}

fn initial_legacy() -> [u8; 512] {
    let mut legacy = [0; 512];
    legacy[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    legacy[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    legacy
}

impl FpuState {
    /// KVM_SET_XSAVE: a component whose XSTATE_BV bit is clear keeps the bytes that KVM has for it. Stock QEMU gives its
    /// second vCPU an all-zero area with an all-zero XSTATE_BV, and the VMSA still holds FCW 0x37f and MXCSR 0x1f80.
    pub(crate) fn set(&mut self, xsave: &kvm_xsave, supported: u64) -> Result<(), Errno> {
        let area = xsave.as_bytes();
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| area[at + i]));
        let (present, compacted) = (word(512), word(520));
        if present & !supported != 0 || compacted != 0 {
            return Err(Errno::EINVAL);
        }
        if present & X87 != 0 {
            self.legacy[..24].copy_from_slice(&area[..24]);
            self.legacy[32..160].copy_from_slice(&area[32..160]);
        }
        if present & (SSE | YMM) != 0 {
            self.legacy[24..32].copy_from_slice(&area[24..32]);
        }
        if present & SSE != 0 {
            self.legacy[160..416].copy_from_slice(&area[160..416]);
        }
        self.ymm = (present & YMM != 0).then(|| std::array::from_fn(|i| area[YMM_AT + i]));
        if present & PKRU != 0 {
            self.pkru = word(PKRU_AT) as u32;
        }
        if present & !(X87 | SSE | YMM | PKRU) != 0 {
            self.rest = area[REST_AT..].to_vec();
        }
        self.present = present;
        Ok(())
    }

    /// KVM_GET_XSAVE: components that are in their initial state read as that.
    pub(crate) fn area(&self) -> kvm_xsave {
        let mut area = [0; AREA];
        let initial = initial_legacy();
        let x87 = if self.present & X87 != 0 { &self.legacy } else { &initial };
        area[..24].copy_from_slice(&x87[..24]);
        area[32..160].copy_from_slice(&x87[32..160]);
        let mxcsr = if self.present & (SSE | YMM) != 0 { &self.legacy } else { &initial };
        area[24..32].copy_from_slice(&mxcsr[24..32]);
        if self.present & SSE != 0 {
            area[160..416].copy_from_slice(&self.legacy[160..416]);
        }
        area[512..520].copy_from_slice(&self.present.to_le_bytes());
        if let Some(ymm) = &self.ymm {
            area[YMM_AT..REST_AT].copy_from_slice(ymm);
        }
        area[REST_AT..][..self.rest.len()].copy_from_slice(&self.rest);
        if self.present & PKRU != 0 {
            area[PKRU_AT..][..4].copy_from_slice(&self.pkru.to_le_bytes());
        }
        kvm_xsave::read_from_bytes(&area).expect("sizes are equal")
    }

    /// Loads the state into a processor's. Components in their initial state are that there, too.
    pub(crate) fn load(&self, extended: &mut Extended) {
        let area = self.area();
        let area = area.as_bytes();
        let half = |at: usize| u16::from_le_bytes([area[at], area[at + 1]]);
        let quad = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| area[at + i]));
        extended.fcw = half(0);
        extended.fsw = half(2);
        extended.ftw = area[4];
        extended.fop = half(6);
        (extended.fip, extended.fdp) = (quad(8), quad(16));
        (extended.fcs, extended.fds) = (0, 0);
        extended.mxcsr = quad(24) as u32;
        for place in 0..8 {
            extended.x87[physical(extended.fsw, place)].copy_from_slice(&area[32 + 16 * place..][..10]);
        }
        for (index, register) in extended.ymm.iter_mut().enumerate() {
            register[..16].copy_from_slice(&area[160 + 16 * index..][..16]);
            register[16..].copy_from_slice(&area[YMM_AT + 16 * index..][..16]);
        }
        extended.pkru = self.pkru;
    }

    /// Stores a processor's state. A component is in its initial state if it looks like it.
    pub(crate) fn store(&mut self, extended: &Extended) {
        let mut legacy = self.legacy;
        let mut put = |at: usize, bytes: &[u8]| legacy[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &extended.fcw.to_le_bytes());
        put(2, &extended.fsw.to_le_bytes());
        put(4, &[extended.ftw, 0]);
        put(6, &extended.fop.to_le_bytes());
        put(8, &extended.fip.to_le_bytes());
        put(16, &extended.fdp.to_le_bytes());
        put(24, &extended.mxcsr.to_le_bytes());
        let mut ymm = [0; 256];
        for place in 0..8 {
            put(32 + 16 * place, &extended.x87[physical(extended.fsw, place)]);
        }
        for (index, register) in extended.ymm.iter().enumerate() {
            put(160 + 16 * index, &register[..16]);
            ymm[16 * index..][..16].copy_from_slice(&register[16..]);
        }
        let initial = initial_legacy();
        let x87 = legacy[..24] != initial[..24] || legacy[32..160] != initial[32..160];
        let sse = legacy[24..28] != initial[24..28] || legacy[160..416] != initial[160..416];
        let avx = ymm != [0; 256];
        let bits = [(x87, X87), (sse, SSE), (avx, YMM), (extended.pkru != 0, PKRU)];
        self.present &= !(X87 | SSE | YMM | PKRU);
        self.present |= bits.iter().filter(|(there, _)| *there).fold(0, |mask, (_, bit)| mask | bit);
        self.legacy = legacy;
        self.ymm = avx.then_some(ymm);
        self.pkru = extended.pkru;
    }

    /// KVM_SET_FPU.
    pub(crate) fn set_fpu(&mut self, fpu: &kvm_fpu) {
        let mut put = |at: usize, bytes: &[u8]| self.legacy[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &fpu.fcw.to_le_bytes());
        put(2, &fpu.fsw.to_le_bytes());
        put(4, &[fpu.ftwx, 0]);
        put(6, &fpu.last_opcode.to_le_bytes());
        put(8, &fpu.last_ip.to_le_bytes());
        put(16, &fpu.last_dp.to_le_bytes());
        for (index, register) in fpu.fpr.iter().enumerate() {
            put(32 + 16 * index, register);
        }
        for (index, register) in fpu.xmm.iter().enumerate() {
            put(160 + 16 * index, register);
        }
        // MXCSR stays: Linux does not take it from here.
        self.present |= X87 | SSE;
    }

    /// KVM_GET_FPU.
    pub(crate) fn fpu(&self) -> kvm_fpu {
        let bytes = |at: usize| std::array::from_fn(|i| self.legacy[at + i]);
        kvm_fpu {
            fpr: std::array::from_fn(|index| std::array::from_fn(|i| self.legacy[32 + 16 * index + i])),
            fcw: u16::from_le_bytes([self.legacy[0], self.legacy[1]]),
            fsw: u16::from_le_bytes([self.legacy[2], self.legacy[3]]),
            ftwx: self.legacy[4],
            last_opcode: u16::from_le_bytes([self.legacy[6], self.legacy[7]]),
            last_ip: u64::from_le_bytes(bytes(8)),
            last_dp: u64::from_le_bytes(bytes(16)),
            xmm: std::array::from_fn(|index| std::array::from_fn(|i| self.legacy[160 + 16 * index + i])),
            ..kvm_fpu::default()
        }
    }
}
