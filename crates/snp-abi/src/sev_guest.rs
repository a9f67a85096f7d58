//! The uAPI of Linux's /dev/sev-guest.
//!
//! # Source
//! Linux 7.3, include/uapi/linux/sev-guest.h.
#![allow(non_camel_case_types, missing_docs, reason = "C names; the header documents them")]

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::layout::abi_layout;

pub const SNP_GET_REPORT: u32 = 0xc020_5300;
pub const SNP_GET_DERIVED_KEY: u32 = 0xc020_5301;
pub const SNP_GET_EXT_REPORT: u32 = 0xc020_5302;

/// In the upper half of `exitinfo2`: the buffer for certificates is too small.
pub const SNP_GUEST_VMM_ERR_INVALID_LEN: u32 = 1;
/// In the upper half of `exitinfo2`: try again.
pub const SNP_GUEST_VMM_ERR_BUSY: u32 = 2;

/// `data` of `struct snp_report_resp`: the payload of MSG_REPORT_RSP, padded with zeros.
pub const SNP_REPORT_RESP_LEN: usize = 4000;
/// The most that a buffer for certificates may have: SEV_FW_BLOB_MAX_SIZE of the kernel.
pub const SEV_FW_BLOB_MAX_SIZE: u32 = 0x4000;

/// The argument of every request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct snp_guest_request_ioctl {
    pub msg_version: u8,
    pub padding_0x1: [u8; 7],
    pub req_data: u64,
    pub resp_data: u64,
    /// Lower half: the firmware's status; upper half: the hypervisor's own.
    pub exitinfo2: u64,
}

abi_layout!(snp_guest_request_ioctl, 32, {
    msg_version: 0, padding_0x1: 1, req_data: 8, resp_data: 16, exitinfo2: 24,
});

/// `req_data` of SNP_GET_REPORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct snp_report_req {
    pub user_data: [u8; 64],
    pub vmpl: u32,
    pub rsvd: [u8; 28],
}

abi_layout!(snp_report_req, 96, { user_data: 0, vmpl: 64, rsvd: 68 });

/// `req_data` of SNP_GET_DERIVED_KEY.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct snp_derived_key_req {
    pub root_key_select: u32,
    pub rsvd: u32,
    pub guest_field_select: u64,
    pub vmpl: u32,
    pub guest_svn: u32,
    pub tcb_version: u64,
}

abi_layout!(snp_derived_key_req, 32, {
    root_key_select: 0, rsvd: 4, guest_field_select: 8, vmpl: 16, guest_svn: 20, tcb_version: 24,
});

/// `resp_data` of SNP_GET_DERIVED_KEY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct snp_derived_key_resp {
    pub data: [u8; 64],
}

abi_layout!(snp_derived_key_resp, 64, { data: 0 });

/// `req_data` of SNP_GET_EXT_REPORT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct snp_ext_report_req {
    pub data: snp_report_req,
    pub certs_address: u64,
    pub certs_len: u32,
    pub padding_0x6c: u32,
}

abi_layout!(snp_ext_report_req, 112, { data: 0, certs_address: 96, certs_len: 104, padding_0x6c: 108 });
