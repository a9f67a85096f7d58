//! x87, SSE and AVX state.

/// The state that XSAVE manages.
#[derive(Clone, Debug, PartialEq)]
pub struct Extended {
    /// YMM0 to YMM15; the low halves are XMM0 to XMM15.
    pub ymm: [[u8; 32]; 16],
    /// MXCSR.
    pub mxcsr: u32,
    /// The eight x87 registers by their *physical* number, 80 bits each, little-endian: ST(i) is `(top + i) & 7`.
    pub x87: [[u8; 10]; 8],
    /// The x87 control word.
    pub fcw: u16,
    /// The x87 status word; TOP is in bits 13:11.
    pub fsw: u16,
    /// The abridged tag word: bit `i` is set if physical register `i` is not empty.
    pub ftw: u8,
    /// The last opcode.
    pub fop: u16,
    /// The last instruction pointer.
    pub fip: u64,
    /// The selector of the last instruction pointer.
    pub fcs: u16,
    /// The last data pointer.
    pub fdp: u64,
    /// The selector of the last data pointer.
    pub fds: u16,
    /// XCR0.
    pub xcr0: u64,
    /// PKRU.
    pub pkru: u32,
    /// The components of XCR0 that CPUID offers.
    pub supported_xcr0: u64,
}

impl Default for Extended {
    /// As FNINIT and the reset of MXCSR leave it, with x87, SSE and AVX to be had.
    fn default() -> Self {
        Self {
            ymm: [[0; 32]; 16],
            mxcsr: 0x1f80,
            x87: [[0; 10]; 8],
            fcw: 0x37f,
            fsw: 0,
            ftw: 0,
            fop: 0,
            fip: 0,
            fcs: 0,
            fdp: 0,
            fds: 0,
            xcr0: 1,
            pkru: 0,
            supported_xcr0: 7,
        }
    }
}
