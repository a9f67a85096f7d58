//! What this processor has, asked for as little as is needed: in a virtual machine every CPUID is a trip to the hypervisor, of which
//! the standard library's own detection makes a dozen, and a measurement of some firmware is over in two milliseconds.
//!
//! # Unsafety
//! The macro's, which reads XCR0 where CPUID says that it is there.
#![allow(unsafe_code)]

cpufeatures::new!(wide, "avx2", "bmi1", "bmi2");

/// AVX2, BMI1 and BMI2, and an operating system that saves the registers.
pub(crate) fn has_avx2_and_bmi() -> bool {
    wide::get()
}
