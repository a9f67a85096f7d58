//! What keeps an instruction from being completed.

use std::borrow::Cow;

use crate::Exit;

/// An exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// The vector.
    pub vector: u8,
    /// The error code that is pushed, for those that have one.
    pub error: Option<u32>,
    /// What CR2 becomes, for a page fault.
    pub address: Option<u64>,
}

impl Exception {
    /// #DE.
    pub const DIVIDE: Self = Self::new(0);
    /// #DB.
    pub const DEBUG: Self = Self::new(1);
    /// #BP.
    pub const BREAKPOINT: Self = Self::new(3);
    /// #OF.
    pub const OVERFLOW: Self = Self::new(4);
    /// #BR.
    pub const BOUND: Self = Self::new(5);
    /// #UD.
    pub const UNDEFINED: Self = Self::new(6);
    /// #NM.
    pub const NO_DEVICE: Self = Self::new(7);
    /// #MF.
    pub const X87: Self = Self::new(16);
    /// #XF.
    pub const SIMD: Self = Self::new(19);

    /// One without an error code.
    pub const fn new(vector: u8) -> Self {
        Self { vector, error: None, address: None }
    }

    /// One with an error code.
    pub const fn with_error(vector: u8, error: u32) -> Self {
        Self { vector, error: Some(error), address: None }
    }

    /// #TS.
    pub const fn invalid_tss(selector: u32) -> Self {
        Self::with_error(10, selector)
    }

    /// #NP.
    pub const fn not_present(selector: u32) -> Self {
        Self::with_error(11, selector)
    }

    /// #SS.
    pub const fn stack(selector: u32) -> Self {
        Self::with_error(12, selector)
    }

    /// #GP.
    pub const fn general_protection(selector: u32) -> Self {
        Self::with_error(13, selector)
    }

    /// #PF.
    pub const fn page_fault(error: u32, address: u64) -> Self {
        Self { vector: 14, error: Some(error), address: Some(address) }
    }

    /// #AC.
    pub const fn alignment() -> Self {
        Self::with_error(17, 0)
    }

    /// #VC: the error code is the exit code that an intercept would have.
    pub const fn vmm_communication(exit_code: u32) -> Self {
        Self::with_error(29, exit_code)
    }
}

/// Why an instruction did not run to its end.
#[derive(Clone, Debug, PartialEq)]
pub enum Trap {
    /// It faults.
    Exception(Exception),
    /// The hypervisor must know; the instruction begins again unless the hypervisor moves RIP on.
    Exit(Box<Exit>),
    /// The model does not have it: what, in words.
    Unmodelled(Cow<'static, str>),
}

impl From<Exception> for Trap {
    fn from(exception: Exception) -> Self {
        Self::Exception(exception)
    }
}

impl From<Exit> for Trap {
    fn from(exit: Exit) -> Self {
        Self::Exit(Box::new(exit))
    }
}
